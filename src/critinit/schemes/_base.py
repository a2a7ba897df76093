"""What a scheme is: a function from what is known of a layer to its gates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from critinit.cells import EMBEDDED, Cell
from critinit.distributions.numbers import rounded
from critinit.dual import Dual, sigmoid, tangent
from critinit.errors import SchemeError
from critinit.roots import crossing
from critinit.spec.model import Layer, Padding
from critinit.theory.parameters import LayerParameters, layer_parameters
from critinit.theory.quadrature import LOGISTIC_STRIP, rule_for
from critinit.theory.untied.solution import Untied, solve

__all__ = [
    "PROJECTION_WIDTH",
    "LayerContext",
    "Parts",
    "Quantity",
    "Scheme",
    "bias",
    "coupled",
    "gate",
    "group",
    "input_variance",
    "keep_bias",
    "kernel",
    "limited",
    "memory_gain_for_times",
    "near_zero",
    "needs_keep_gate",
    "neutral_memory_gain",
    "normalized",
    "own_loop",
    "projection",
    "solved",
    "spread_biases",
    "spread_gates",
    "steady",
]

Quantity = Literal["time_scale", "unit_time_constant"]
"""What a scheme can set out to reach; ``critinit.spec.Target`` defines both.  Where no gate keeps the state it is the
time scale."""
Parts = dict[str, Any]
"""A gate, or a part of one, as the JSON of an InitSpec has it."""


@dataclass(frozen=True)
class LayerContext:
    """What is known where a layer is initialized.

    Attributes:
        cell: The cell.
        T: Sequence length in steps.
        input_variance: R, the second moment of a coordinate of the layer's input.
        correlation: Of the inputs of the two copies whose distance χ describes.
        padding: Inputs that carry no information, or None where nothing is known of them.
        index: The layer's number, from 0.
        hidden_size: H, the number of units, or None where it is not known.
        input_size: M, the number of coordinates of the input, or None where it is not known.
        autocorrelation: Correlation of the input with that of the step before, or None where it is not known.
        spectrum: Powers of the input about its mean in equal bins of the frequencies from 0 to π radians a step, in
            any unit, or None where they are not known, or the scheme does not read them.
    """

    cell: Cell
    T: int
    input_variance: float
    correlation: float
    padding: Padding | None
    index: int
    hidden_size: int | None
    input_size: int | None
    autocorrelation: float | None = None
    spectrum: tuple[float, ...] | None = None

    @property
    def noise(self) -> float:
        """The power of padding that is known to be noise; 0 where it is unknown, silent or all alike."""
        return 0.0 if self.padding is None or self.padding.constant else self.padding.variance

    @property
    def strongest_input(self) -> float:
        """The power of the input, or of the padding where that is known to be stronger."""
        return max(self.input_variance, 0.0 if self.padding is None else self.padding.variance)

    def orthogonal(self) -> Parts:
        """Return a recurrent kernel of gain 1: orthogonal where it is square, else normal of the same variance."""
        return kernel("normal" if self.cell.projects else "orthogonal", 1.0)

    def input_variance_for(self, pre_activation_variance: float) -> float:
        """Return the input kernel's ν² that gives the pre-activation this variance, ν²R (R = 0 counts as 1)."""
        return input_variance(pre_activation_variance, self.input_variance)


def input_variance(pre_activation_variance: float, power: float) -> float:
    """Return ν² = pre-activation variance / power of the input.

    No power counts as 1; less than a spec can answer (1e-100) gives a finite number all the same.
    """
    return pre_activation_variance / max(power, 1e-200) if power > 0.0 else pre_activation_variance


PROJECTION_WIDTH = 0.5
"""Coordinates per unit of a projection where nothing is said."""


def projection(layer: LayerContext) -> Parts:
    """Return a projection that keeps the second moment: orthonormal rows."""
    return {"kernel": kernel("orthogonal", 1.0), "width": PROJECTION_WIDTH}


@dataclass(frozen=True)
class Scheme:
    """A rule, with a name, that chooses how the weights of a layer's gates are distributed.

    Attributes:
        name: Its name; specs keep it.
        description: The scheme in a line; specs of a scheme of your own keep it.
        gates: From a ``LayerContext`` to every gate of the cell, or to a list of groups of units (``group``).
        target: What it sets out to reach in T steps, or None.
        projection: From a ``LayerContext`` to the projection of a cell that has one.
        memory_gain: From a ``LayerContext`` to γ_c of a normalized cell with a read-out, or None where such a memory is
            read as it is.
        reads_spectrum: Whether ``gates`` reads the ``spectrum`` of a ``LayerContext``, which is None otherwise; it is
            measured, at some cost, for such a scheme alone.

    Example:
        >>> def gates(layer):
        ...     return {
        ...         name: gate(layer.orthogonal(), kernel("normal", 1.0), bias(2.0 if name == "forget" else 0.0))
        ...         for name in layer.cell.gates
        ...     }
        >>> Scheme("lab", "orthogonal kernels, forget bias 2", gates).name
        'lab'
    """

    name: str
    description: str
    gates: Callable[[LayerContext], Mapping[str, Parts] | Sequence[Parts]]
    target: Quantity | None = None
    projection: Callable[[LayerContext], Parts] = projection
    memory_gain: Callable[[LayerContext], float | None] = lambda layer: 1.0
    reads_spectrum: bool = False


def kernel(distribution: str, variance: float | None = None, **parameters: Any) -> Parts:
    """Return a kernel's part.

    Args:
        distribution: The distribution's name.
        variance: Its variance; None for a distribution that computes it from its other parameters.
        **parameters: The other parameters, such as ``fan="average"``.

    Example:
        >>> kernel("uniform", 1.0, fan="average")
        {'distribution': 'uniform', 'variance': 1.0, 'fan': 'average'}
    """
    stated = {} if variance is None else {"variance": float(variance)}
    return {"distribution": distribution, **stated, **parameters}


def bias(mean: float, variance: float = 0.0) -> Parts:
    """Return a bias that is constant, or normal where it has a variance."""
    return {
        "distribution": "normal" if variance else "constant",
        "mean": float(mean),
        "variance": float(variance),
    }


def coupled(to: str, sign: int = -1) -> Parts:
    """Return a bias that is that of gate ``to`` times ``sign``, unit by unit."""
    return {"distribution": "coupled", "to": to, "sign": sign}


def gate(
    recurrent: Parts,
    input: Parts,
    bias: Parts,
    *,
    recurrent_gain: float | None = None,
    input_gain: float | None = None,
) -> Parts:
    """Return a whole gate.

    Args:
        recurrent: The recurrent kernel.
        input: The input kernel.
        bias: The bias.
        recurrent_gain: γ_h of a normalized cell.  None: 1 in such a cell.
        input_gain: γ_x of a normalized cell.  None: 1 in such a cell.
    """
    gains = {"recurrent_gain": recurrent_gain, "input_gain": input_gain}
    return {"recurrent": recurrent, "input": input, "bias": bias} | {n: g for n, g in gains.items() if g is not None}


def group(name: str, share: float, gates: Mapping[str, Parts]) -> Parts:
    """Return a group of units, which do not read those of other groups.

    Args:
        name: Its name.
        share: Its share of the units; those of a layer's groups add up to 1.
        gates: Every gate of the cell.
    """
    return {"name": name, "share": share, "gates": dict(gates)}


def limited(part: Parts, rate: float, *, fan: Literal["none", "in"] = "none") -> Parts:
    """Return a kernel or a bias with a limit on the learning rate.

    Args:
        part: The kernel or bias.
        rate: The largest learning rate of an optimizer of Adam's kind.
        fan: "in" where an entry's limit is the rate over the fan-in, of a kernel.

    Example:
        >>> limited(bias(0.0), 0.003)["max_learning_rate"]
        0.003
    """
    return {**part, "max_learning_rate": rate} | ({} if fan == "none" else {"learning_rate_fan": fan})


def normalized(layer: LayerContext, gates: Callable[[LayerContext], Mapping[str, Parts]]) -> dict[str, Parts]:
    """Return the gates of a normalized cell that do what ``gates`` do of the same cell without normalization.

    At large width the two are the same where γ_x² is the variance of the input's part of a pre-activation and γ_h² that
    of the recurrent part, σ²·E h² (``critinit.theory.normalization``); the kernels may have any variance, and have 1.
    The biases are those that ``gates`` gives for inputs of power 1, or 0 where they are silent.

    Args:
        layer: What is known of the layer.
        gates: The gates without normalization; their recurrent variances are near zero, so that E h² is that of the
            same gates with none.
    """
    padding = layer.padding and layer.padding.model_copy(update={"variance": float(layer.padding.variance > 0.0)})
    plain = gates(replace(layer, input_variance=float(layer.input_variance > 0.0), padding=padding))
    fed = {name: math.sqrt(parts["input"]["variance"]) for name, parts in plain.items()}

    def made(recurrent: Mapping[str, float]) -> dict[str, Parts]:
        return {
            name: gate(
                layer.orthogonal(),
                kernel("normal", 1.0),
                parts["bias"],
                recurrent_gain=recurrent[name],
                input_gain=rounded(fed[name]),
            )
            for name, parts in plain.items()
        }

    moment = float(solved(layer, made(dict.fromkeys(plain, 0.0))).second_moment)
    return made({name: rounded(math.sqrt(parts["recurrent"]["variance"] * moment)) for name, parts in plain.items()})


def neutral_memory_gain(layer: LayerContext, gates: Mapping[str, Parts]) -> float:
    """Return the γ_c at which normalizing the memory changes nothing: the deviation that it has by itself.

    A larger one multiplies how far the memory moves for a shift of its input, and where the memory is kept normalized
    also what units keep.
    """
    found = solved(layer, gates)
    return rounded(math.sqrt(max(float(found.memory_moment - found.mean**2), 0.0)))


def memory_gain_for_times(layer: LayerContext, gates: Mapping[str, Parts]) -> float:
    """Return the usual γ_c, 1; where a memory is kept normalized the neutral one, so that biases set time constants."""
    return neutral_memory_gain(layer, gates) if layer.cell.keeps_normalized else 1.0


def solved(layer: LayerContext, gates: Mapping[str, Parts]) -> Untied:
    """Return the untied theory of these gates under steady inputs, the memory not normalized."""
    return solve(steady(layer, gates))


def steady(layer: LayerContext, gates: Mapping[str, Parts]) -> LayerParameters:
    """Return the hyperparameters of these gates under steady inputs, the memory not normalized."""
    alone = Layer.model_validate({"input": {"variance": layer.input_variance or 1.0}, "gates": gates})
    return layer_parameters(layer.cell, alone)


def own_loop(cell: Cell, biases: Mapping[str, float]) -> tuple[float, float]:
    """Return ∂s'/∂s of one unit without its candidate's kernel, and what a kernel of gain 1 that reads itself adds.

    Args:
        cell: The cell.
        biases: The pre-activation of each gate, where the state is 0.
    """
    rest = {**({EMBEDDED: 0.0} if cell.embeds_input else {}), **biases}

    def slope(gain: float) -> float:
        s = Dual(0.0, 1.0)
        u = cell.pre_activations(cell.read(s, rest), lambda name, m: gain * m * (name == cell.candidate_gate), rest)
        return float(tangent(cell.update(s, u)))

    kept = slope(0.0)
    return kept, slope(1.0) - kept


def keep_bias(leak: float, variance: float, *, squared: bool = False) -> float:
    """Return the bias b at which a keep gate f = σ(b + √variance·z) leaks that much.

    Args:
        leak: E(1 − f), between 0 and 1; it falls as b grows.
        variance: Of the pre-activation, beside the bias.
        squared: Whether E(1 − f²) is meant.
    """
    z, w = rule_for(math.sqrt(variance), LOGISTIC_STRIP)

    def excess(b: float) -> float:
        g = sigmoid(-(b + math.sqrt(variance) * z))
        return float((g * (2.0 - g) if squared else g) @ w) - leak

    # within these ends every leak between 1e-20 and 1 − 1e-20 is found
    return crossing(excess, -50.0 - variance, 60.0 + variance, 1e-13)


def near_zero(T: int) -> float:
    """Return a recurrent variance "near zero": what the kernels add to χ in one step, over T steps, is below 1 %."""
    return min(1e-5, 0.01 / T)


def spread_biases(scheme: str, cell: Cell, spread: Parts) -> dict[str, Parts]:
    """Return the keep gate's bias and, where another gate writes, its bias, the opposite unit by unit.

    Args:
        scheme: The scheme's name, for messages.
        cell: The cell.
        spread: The keep gate's bias.

    Raises:
        SchemeError: The cell has no keep gate, or keeps otherwise than sigmoid(u).
    """
    keep = needs_keep_gate(scheme, cell)
    return {keep: spread} if cell.write_gate in (None, keep) else {keep: spread, str(cell.write_gate): coupled(keep)}


def spread_gates(scheme: str, layer: LayerContext, spread: Parts) -> dict[str, Parts]:
    """Return gates of the usual kernels (orthogonal recurrent, normal input of variance 1) with ``spread_biases``."""
    biases = spread_biases(scheme, layer.cell, spread)
    return {
        name: gate(layer.orthogonal(), kernel("normal", 1.0), biases.get(name, bias(0.0))) for name in layer.cell.gates
    }


def needs_keep_gate(scheme: str, cell: Cell) -> str:
    """Return the keep gate.

    Raises:
        SchemeError: The cell has none, or keeps otherwise than sigmoid(u).
    """
    if cell.keep_gate is None:
        hint = f"{scheme} sets the bias of the gate that keeps the state, and {cell.name} has none"
        raise SchemeError("scheme", found=scheme, hint=hint)
    if not cell.is_logistic:
        wanted = f"{scheme} makes time constants of a keep gate that is sigmoid(u), and {cell.name} keeps"
        way_out = f"write the cell with u of the other sign, and say sign={{{cell.keep_gate!r}: -1}} in where="
        hint = f"{wanted} sigmoid(−u): {way_out}" if cell.lets_go else f"{wanted} otherwise"
        raise SchemeError("scheme", found=scheme, hint=hint)
    return cell.keep_gate
