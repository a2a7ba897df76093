"""Hyperparameters of one layer as arrays: what the untied theory is a function of.

Every array broadcasts to (*batch, K, E).  ``batch`` is the caller's grid.  K counts the *classes* of units: units whose
biases differ for good, which the spread distributions make.  E counts the *environments*: values of a normal bias that
two gates share because one is coupled to the other; they are drawn anew with the weights, as the untied theory draws
all normal biases.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from critinit.cells import Cell, find_cell
from critinit.distributions import CoupledBias, KernelFamily
from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.spec.model import Gates, Layer
from critinit.theory.quadrature import normal_rule

__all__ = [
    "GateParameters",
    "LayerParameters",
    "grid_parameters",
    "in_environments",
    "layer_parameters",
    "split_parameters",
]

CLASS_NODES = (24, 9, 5, 4)
"""Gauss–Legendre nodes in the bias, when so many gates are spread independently: averages over units to 1e-6 for one
(time constants up to 10⁶), 1e-3 for two, a few percent beyond."""

_WEIGHTLESS = np.array([0.5, 0.0, 1.0])
"""Quantiles of units that are kept for their time constants, without weight: median, shortest, longest."""

_ENVIRONMENT_NODES = 24
"""Gauss–Hermite nodes of a normal bias that two gates share: averages over it to 1e-10 for variances up to 10."""


@dataclass(frozen=True)
class GateParameters:
    """The hyperparameters of one gate.

    Attributes:
        recurrent: σ², the variance of the recurrent kernel.
        input: ν², the variance of the input kernel.
        mean: μ, the mean of the bias.
        bias_variance: ρ², the variance of the part of the bias that is drawn anew.
        orthogonal: Whether the recurrent kernel is orthogonal.
    """

    recurrent: Array
    input: Array
    mean: Array
    bias_variance: Array
    orthogonal: NDArray[np.bool_]


@dataclass(frozen=True)
class LayerParameters:
    """The hyperparameters of one layer, or of a grid of layers.

    Attributes:
        cell: The cell.
        gates: The gates' hyperparameters by name.
        input_variance: R, the second moment of an input coordinate.
        correlation: Correlation of the two copies' inputs.
        class_weights: Shares of the classes of units, (K,); they sum to 1 and are 0 at classes kept for their time
            constants alone: the ends of the spread and its median.
        environment_weights: Probabilities of the environments, (E,).
        median_class: Index of the median units' class.
        batch: Shape of the grid.
        gain: E r²/E h² of a projection (``critinit.spec.model.Projection``); the gates' ``recurrent`` has it in it.
        excess: κ of a projection.
        memory_gain: γ_c, where the memory is normalized before it is read.
        memory_scale: The memory is that of the layer times this.
    """

    cell: Cell
    gates: Mapping[str, GateParameters]
    input_variance: Array
    correlation: Array
    class_weights: Array
    environment_weights: Array
    median_class: int
    batch: tuple[int, ...]
    gain: float = 1.0
    excess: float = 0.0
    memory_gain: float | None = None
    memory_scale: float = 1.0


def layer_parameters(cell: Cell, layer: Layer, *, input_variance: float | None = None) -> LayerParameters:
    """Return the hyperparameters of a layer of a cell, with batch shape ().

    Of a projection r = P h they have the kernels W P as they act on h, whose variance is σ²·E r²/E h².  Of a normalized
    cell they have the squares of the gains, of kernels that read what is normalized (``Layer.reduced``).

    Args:
        cell: The cell.
        layer: The layer, of one group of units.
        input_variance: Replaces the input variance that the layer declares.

    Raises:
        ArgumentError: A recurrent kernel is the identity, which has no untied reading.
    """
    reduced, projection = layer.reduced(), layer.projection
    gates, source = reduced.gates, reduced.input
    if has_identity(gates):
        raise ArgumentError("recurrent", found="an identity kernel", hint="it has no untied reading")
    nodes, weights, median = _classes(gates)
    shared, environment_weights = _environments(gates)
    params_by_gate = {}
    for name, gate in gates.items():
        mean, variance = _bias(gates, name, nodes, shared)
        params_by_gate[name] = GateParameters(
            recurrent=np.full((1, 1), gate.recurrent.variance),
            input=np.full((1, 1), gate.input.variance),
            mean=mean,
            bias_variance=np.full((1, 1), variance),
            orthogonal=np.full((1, 1), gate.recurrent.family is KernelFamily.HAAR),
        )
    variance = source.variance
    if input_variance is not None:
        variance = float(input_variance > 0.0) if cell.normalized else input_variance
    return LayerParameters(
        cell=cell,
        gates=params_by_gate,
        input_variance=np.full((1, 1), variance),
        correlation=np.full((1, 1), source.correlation),
        class_weights=weights,
        environment_weights=environment_weights,
        median_class=median,
        batch=(),
        gain=1.0 if projection is None else projection.gain,
        excess=0.0 if projection is None else projection.excess,
        memory_gain=layer.memory_gain,
    )


def grid_parameters(
    cell: str,
    gates: Mapping[str, Mapping[str, ArrayLike]],
    *,
    input_variance: ArrayLike = 1.0,
    input_correlation: ArrayLike = 1.0,
) -> LayerParameters:
    """Return the hyperparameters of a whole grid: every value may be an array, and all broadcast to the grid's shape.

    Args:
        cell: The cell's name.
        gates: Gate name -> {"recurrent": σ², "input": ν², "mean": μ, "variance": ρ², "orthogonal": bool}; only
            ``recurrent``, ``input`` and ``mean`` are required.  Of a normalized cell σ² and ν² are the squares of the
            gains.
        input_variance: R, the second moment of an input coordinate.
        input_correlation: Correlation of the two copies' inputs, 0 to 1.

    Raises:
        ArgumentError: A gate or key is missing or unknown, a variance is negative, a number is not finite, or the cell
            has a projection.

    Example:
        >>> hidden = {"recurrent": np.linspace(0.1, 0.9, 5), "input": 0.1, "mean": 0.0}
        >>> grid_parameters("rnn", {"hidden": hidden}).batch
        (5,)
    """
    the_cell = find_cell(cell)
    if the_cell.projects:
        raise ArgumentError("cell", found=cell, allowed="a cell without a projection")
    if set(gates) != set(the_cell.gates):
        raise ArgumentError("gates", found=", ".join(gates) or "none", allowed=", ".join(the_cell.gates))
    keys = ("recurrent", "input", "mean", "variance", "orthogonal")
    values: dict[tuple[str, str], Array] = {}
    for name, parts in gates.items():
        for key in (*keys[:3], *parts):
            if key not in keys or key not in parts:
                found = "nothing" if key in keys else "an unknown key"
                raise ArgumentError(f"gates.{name}.{key}", found=found, allowed=f"the keys {', '.join(keys)}")
        for key in keys:
            values[name, key] = _numbers(f"gates.{name}.{key}", parts.get(key, 0.0), key != "mean")
    r = _numbers("input_variance", input_variance, True)
    c = _numbers("input_correlation", input_correlation, True)
    if np.any(c > 1):
        raise ArgumentError("input_correlation", found=str(float(c.max())), allowed="0 to 1")
    batch = np.broadcast_shapes(r.shape, c.shape, *(v.shape for v in values.values()))

    def shaped(v: Array) -> Array:
        return np.broadcast_to(v, batch)[..., None, None]

    return LayerParameters(
        cell=the_cell,
        gates={
            name: GateParameters(
                recurrent=shaped(values[name, "recurrent"]),
                input=shaped(values[name, "input"]),
                mean=shaped(values[name, "mean"]),
                bias_variance=shaped(values[name, "variance"]),
                orthogonal=shaped(values[name, "orthogonal"]) > 0,
            )
            for name in the_cell.gates
        },
        input_variance=shaped(np.asarray(r > 0.0, dtype=float) if the_cell.normalized else r),
        correlation=shaped(c),
        class_weights=np.ones(1),
        environment_weights=np.ones(1),
        median_class=0,
        batch=batch,
    )


def split_parameters(params: LayerParameters, points: int) -> list[LayerParameters]:
    """Return the points of a grid in order, in parts of at most ``points`` points each."""

    def flat(x: Any) -> Any:
        return np.broadcast_to(x, (*params.batch, *x.shape[-2:])).reshape(-1, *x.shape[-2:])

    gates = {name: {f.name: flat(getattr(g, f.name)) for f in fields(g)} for name, g in params.gates.items()}
    r, c = flat(params.input_variance), flat(params.correlation)
    parts = []
    for start in range(0, len(r), points):
        here = slice(start, start + points)
        parts.append(
            replace(
                params,
                gates={
                    name: replace(params.gates[name], **{f: x[here] for f, x in arrays.items()})
                    for name, arrays in gates.items()
                },
                input_variance=r[here],
                correlation=c[here],
                batch=(len(r[here]),),
            )
        )
    return parts


def in_environments(params: LayerParameters) -> list[tuple[float, LayerParameters]]:
    """Return the probability of each environment and the layer where no other is; nothing where there is but one."""
    if params.environment_weights.size == 1:
        return []

    def alone(x: Any, number: int) -> Any:
        return x if x.shape[-1] == 1 else x[..., number : number + 1]

    found = []
    for number, weight in enumerate(params.environment_weights):
        gates = {
            name: replace(g, **{f.name: alone(getattr(g, f.name), number) for f in fields(g)})
            for name, g in params.gates.items()
        }
        found.append((float(weight), replace(params, gates=gates, environment_weights=np.ones(1))))
    return found


def has_identity(gates: Gates) -> bool:
    """Return whether a recurrent kernel is the identity."""
    return any(gate.recurrent.reads_itself for gate in gates.values())


def _numbers(path: str, value: Any, non_negative: bool) -> Array:
    try:
        numbers = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise ArgumentError(path, found=repr(value), allowed="numbers") from None
    if not np.all(np.isfinite(numbers)):
        raise ArgumentError(path, found="a number that is not finite", allowed="finite numbers")
    if non_negative and np.any(numbers < 0):
        raise ArgumentError(path, found=str(float(numbers.min())), allowed="0 or more")
    return numbers


def _classes(gates: Gates) -> tuple[dict[str, Array], Array, int]:
    """Bias of each spread gate at each class (K,), the class weights, and the class of medians."""
    own = {name: gate.bias for name, gate in gates.items() if not isinstance(gate.bias, CoupledBias)}
    spread = {name: bias for name, bias in own.items() if bias.classes(2) is not None}
    if not spread:
        return {}, np.ones(1), 0
    count = CLASS_NODES[min(len(spread), len(CLASS_NODES)) - 1]
    rules = {name: rule for name, bias in spread.items() if (rule := bias.classes(count)) is not None}
    index = np.array(list(itertools.product(range(count), repeat=len(spread)))).T
    weights = np.prod([w[i] for (_, w), i in zip(rules.values(), index, strict=True)], axis=0)
    nodes = {
        name: np.concatenate([bias.quantile(_WEIGHTLESS), rules[name][0][i]])
        for (name, bias), i in zip(spread.items(), index, strict=True)
    }
    return nodes, np.concatenate([np.zeros(len(_WEIGHTLESS)), weights]), 0


def _environments(gates: Gates) -> tuple[dict[str, Array], Array]:
    """Standard normal z (E,) of each bias that is drawn anew and that another gate is coupled to."""
    names = {gate.bias.to for gate in gates.values() if isinstance(gate.bias, CoupledBias)}
    names = {name for name in names if gates[name].bias.redrawn_variance > 0.0}
    if not names:
        return {}, np.ones(1)
    z, w = normal_rule("hermite", _ENVIRONMENT_NODES)
    axes = np.meshgrid(*[z] * len(names), indexing="ij")
    weights = np.prod(np.meshgrid(*[w] * len(names), indexing="ij"), axis=0)
    return {name: axis.ravel() for name, axis in zip(sorted(names), axes, strict=True)}, weights.ravel()


def _bias(gates: Gates, name: str, classes: dict[str, Array], shared: dict[str, Array]) -> tuple[Array, float]:
    """Mean of a gate's bias by class and environment, (K, E) or broadcastable, and the variance left over."""
    sign, bias = gates.followed(name)
    bias_gate = gates[name].bias
    followed = bias_gate.to if isinstance(bias_gate, CoupledBias) else name
    if followed in classes:
        return sign * classes[followed][:, None], 0.0
    mean, _ = bias.moments
    if followed in shared:
        return sign * (mean + np.sqrt(bias.redrawn_variance) * shared[followed])[None, :], 0.0
    return np.full((1, 1), sign * mean), bias.redrawn_variance
