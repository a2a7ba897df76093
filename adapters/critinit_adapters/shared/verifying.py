"""Hold a model to its cell's equations: one step, or a short sequence, of the model against NumPy.

The weights of a spec can hide a mistake, as its recurrent kernels may be nearly 0.  So probe weights, all of order 1
and independent, are written through the same plan; the model runs; and everything is put back before the spec's weights
are written.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from critinit.distributions import NormalBias, NormalKernel, OrthogonalKernel
from critinit.errors import ApplyError, ArgumentError, CritinitError
from critinit.spec import InitSpec
from critinit.tensors.recurrence import LayerWeights
from critinit.tensors.sampling import Draw, Stream
from critinit_adapters.shared.planning import Plan, named
from critinit_adapters.shared.survey import Tensor

if TYPE_CHECKING:
    from critinit_adapters.shared.adapter import BaseAdapter

__all__ = ["verified_note", "verify_plan"]

Array = NDArray[np.float64]
_BATCH, _TIME = 4, 4
"""Sequences and steps of the trial: enough that every entry of every kernel counts, and alike, so that a model that
takes the batch first runs too and can be recognized."""
_SEED = 20_190_125
"""The seed of the probe weights and of the inputs; any would do."""
_TOLERANCE, _ROUGH = 1e-2, 0.1
"""How far outputs of order 1 may be apart, and in half precision: rounding, of accelerators' fast modes too.  Mistakes
make differences of .1 and more."""
_HALF = ("bfloat16", "float16")


def verified_note(spec: InitSpec, verify: bool | Callable[..., Any]) -> tuple[str, ...]:
    """Return the report's word on the trial, if there was one."""
    return (f"verified: the model computes what {spec.cell} does, run with other weights of order 1",) if verify else ()


def verify_plan(
    adapter: BaseAdapter,
    spec: InitSpec,
    target: Any,
    plan: Plan,
    verify: Any,
    options: Mapping[str, Any],
) -> None:
    """Raise unless the model computes what its cell does with the weights that a plan places.

    Args:
        adapter: The adapter of the model.
        spec: The spec.
        target: The model; it is as before in the end.
        plan: The plan, of a spec whose layers have one group of units.
        verify: How to run the model, as ``critinit.apply`` takes it.
        options: The adapter's options.

    Raises:
        ApplyError: The outputs differ, or the model does not run.
        ArgumentError: There are several networks, or the function takes other arguments.
    """
    if any(len(write.tensor.shape) > 2 and not write.tensor.is_partial for write in plan.writes):
        allowed = "a layer that multiplies matrices"
        raise ArgumentError("verify", found="a convolutional layer", allowed=allowed, hint="leave verify out")
    trial = _probe(spec, plan)
    layers = _layers(spec, trial)
    sequence = verify is not True and _count(verify) == 2
    if not sequence and (len(layers) > 1 or len(layers[0]) > 1):
        shape = (
            f"{len(layers)} layer{'s' * (len(layers) > 1)} in {len(layers[0])} direction{'s' * (len(layers[0]) > 1)}"
        )
        allowed = "a function (model, x) -> outputs that runs sequences x (time, batch, inputs) from zero states"
        raise ArgumentError("verify", found=f"one step, for {shape}", allowed=allowed)

    def run(model: Any, tensor: Tensor) -> None:
        with adapter.running(model):
            if sequence:
                _check_sequence(adapter, spec, layers, model, tensor, verify)
            else:
                function = adapter.step if verify is True else verify
                _check_step(adapter, spec, layers[0][0], model, tensor, function)

    try:
        adapter.trial(target, trial, run, options)
    except ApplyError as error:
        beside = _beside(plan)
        if error.hint != _MISPLACED or not beside:
            raise
        hint = f"{_MISPLACED}; no place names {named(beside)}, which counts too: a bias goes into second_bias= or zero"
        raise error.replace(hint=hint) from None


def _beside(plan: Plan) -> list[str]:
    """The tensors that are left as they are and belong to the module whose other tensors a plan writes."""
    paths = [re.split("[./]", write.tensor.name)[:-1] for write in plan.writes]
    module = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))]
    return [name for name in plan.untouched if re.split("[./]", name)[: len(module)] == module]


def _count(function: Any) -> int:
    """How many arguments a function takes: (model, x, state) or (model, x)."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 3
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in positional if p.default is p.empty]
    count = (
        3 if any(p.kind is p.VAR_POSITIONAL for p in parameters) or len(needed) < 3 <= len(positional) else len(needed)
    )
    if count not in (2, 3):
        found = f"a function of {count} arguments"
        raise ArgumentError(
            "verify", found=found, allowed="(model, x, state) for one step, or (model, x) for sequences"
        )
    return count


# ---- what is expected ------------------------------------------------------------------------------------


def _probe(spec: InitSpec, plan: Plan) -> Plan:
    """The same plan with weights of order 1 in the place of the spec's."""
    gates = spec.find_cell().gates
    seen: set[tuple[int, int, str, str]] = set()

    def probe(draw: Draw | None, layer: int, direction: int) -> Draw | None:
        if draw is None:
            return None
        key = (layer, direction, draw.gate, draw.part)
        if key in seen:
            hint = "several networks would be written: choose one with include="
            raise ArgumentError("verify", found=f"two places for layer {layer}", allowed="one network", hint=hint)
        seen.add(key)
        number = gates.index(draw.gate) if draw.gate else len(gates)
        stream = Stream(_SEED, 0, layer, direction, number, draw.part)
        if draw.part == "bias":
            return replace(
                draw, distribution=NormalBias(mean=0.0, variance=1.0), stream=stream, sign=1, coupled_to=None
            )
        kernel = OrthogonalKernel(variance=1.0) if draw.part == "projection" else NormalKernel(variance=1.0)
        return replace(draw, distribution=kernel, stream=stream)

    writes = tuple(
        replace(write, draws=tuple((block, probe(draw, write.layer, write.direction)) for block, draw in write.draws))
        for write in plan.writes
    )
    return Plan(writes, (), ())


def _layers(spec: InitSpec, plan: Plan) -> list[list[LayerWeights]]:
    """The probe weights by layer and direction."""
    cell = spec.find_cell()
    parts: dict[tuple[int, int], dict[tuple[str, str], Array]] = {}
    for write in plan.writes:
        own = parts.setdefault((write.layer, write.direction), {})
        for _, draw in write.draws:
            if draw is not None:
                own[draw.gate, draw.part] = draw.sample()

    def one(found: Mapping[tuple[str, str], Array]) -> LayerWeights:
        recurrent = {gate: found[gate, "recurrent"] for gate in cell.gates}
        none = np.zeros(len(recurrent[cell.gates[0]]))
        bias = {gate: found.get((gate, "bias"), none) for gate in cell.gates}
        kernels = {gate: found[gate, "input"] for gate in cell.gates}
        return LayerWeights(cell, recurrent, kernels, bias, found.get(("", "projection")))

    depth = 1 + max(layer for layer, _ in parts)
    ways = 1 + max(direction for _, direction in parts)
    return [[one(parts[layer, way]) for way in range(ways)] for layer in range(depth)]


# ---- comparing -------------------------------------------------------------------------------------------


def _check_step(
    adapter: BaseAdapter, spec: InitSpec, layer: LayerWeights, model: Any, tensor: Tensor, function: Callable[..., Any]
) -> None:
    rng = np.random.default_rng(_SEED)
    x = rng.standard_normal((_BATCH, layer.inputs))
    h, s = (rng.uniform(-0.8, 0.8, rest.shape) for rest in layer.rest(_BATCH))
    s = h if layer.shares_state else s
    wanted = [np.asarray(part) for part in layer.step(h, s, layer.external(x))[:2]]
    if layer.shares_state and layer.projection is None:
        wanted = wanted[:1]
    arrays = [adapter.from_numpy(part, tensor) for part in (x, h, s)]
    state = arrays[1] if len(wanted) == 1 else (arrays[1], arrays[2])
    given = _called(function, model, arrays[0], state)
    found = [adapter.to_numpy(part) for part in _arrays(given)]
    found = [part for part in found if part.shape in {want.shape for want in wanted}]
    if not found:
        raise ApplyError("verify", found=f"no array of shape {wanted[0].shape} in what a step gives", hint=_STEP)
    apart = [min(_apart(part, want) for want in wanted) for part in found]
    missing = min(_apart(part, wanted[0]) for part in found)
    tolerance = _tolerance(tensor)
    if max(*apart, missing) > tolerance:
        hint = _MISPLACED
        if len(wanted) == 2 and h.shape == s.shape:
            turned = layer.step(s, h, layer.external(x))[0]
            if min(_apart(part, turned) for part in found) <= tolerance:
                hint = "the module takes the memory first: hand it (s, h), and return (h, s)"
        raise _differs(spec, max(*apart, missing), tolerance, "after one step", found, hint)


_SEQUENCE = "for sequences verify takes (model, x) -> outputs, x (time, batch, inputs)"
_STEP = "for one step verify takes (model, x, state) -> state, the state being h or, with a memory s beside it, (h, s)"


def _check_sequence(
    adapter: BaseAdapter, spec: InitSpec, layers: list[list[LayerWeights]], model: Any, tensor: Tensor, function: Any
) -> None:
    inputs = layers[0][0].inputs
    x = np.random.default_rng(_SEED).standard_normal((_TIME, _BATCH, inputs))
    wanted = _outputs(layers, x)
    given = _called(function, model, adapter.from_numpy(x, tensor))
    seen = [adapter.to_numpy(part) for part in _arrays(given)][:1]
    if not seen or seen[0].shape != wanted.shape:
        shape = seen[0].shape if seen else "nothing"
        allowed = f"outputs of shape {wanted.shape}, for inputs x (time, batch, inputs)"
        raise ApplyError("verify", found=f"outputs of shape {shape}", allowed=allowed)
    apart, tolerance = _apart(seen[0], wanted), _tolerance(tensor)
    if apart > tolerance:
        turned = np.swapaxes(_outputs(layers, np.swapaxes(x, 0, 1)), 0, 1)
        is_turned = _apart(seen[0], turned) <= tolerance
        hint = "the model takes the batch first: hand it x with its first two axes exchanged, and exchange them again"
        raise _differs(
            spec, apart, tolerance, f"within {_TIME} steps", seen, f"{hint} in its outputs" if is_turned else _MISPLACED
        )


def _outputs(layers: list[list[LayerWeights]], x: Array) -> Array:
    """What all layers give for inputs (time, batch, inputs)."""
    for number, ways in enumerate(layers):
        reads = ways[0].inputs
        if reads != x.shape[-1]:
            found = f"layer {number}, which reads {reads} numbers where the layer below gives {x.shape[-1]}"
            hint = "something stands between them: leave verify out, or apply and verify one layer at a time"
            raise ArgumentError("verify", found=found, allowed="layers that read what those below give", hint=hint)
        outputs = [ways[0].run(x), *(way.run(x[::-1])[::-1] for way in ways[1:])]
        x = np.concatenate(outputs, axis=-1)
    return x


def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except CritinitError:
        raise
    except Exception as error:  # a function of the user's can raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        hint = _STEP if len(arguments) == 3 else _SEQUENCE
        raise ApplyError("verify", found=f"a model that does not run ({reason})", hint=hint) from error


def _arrays(value: Any) -> Iterator[Any]:
    """The arrays in tuples, lists and mappings, in their order."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from _arrays(part)
    elif hasattr(value, "shape"):
        yield value


def _apart(found: Array, wanted: Array) -> float:
    """The largest difference; infinite for another shape and for what is no number."""
    if found.shape != wanted.shape:
        return float("inf")
    apart = float(np.abs(found - wanted).max())
    return apart if np.isfinite(apart) else float("inf")


def _tolerance(tensor: Tensor) -> float:
    dtype = str(getattr(tensor.handle, "dtype", "")).removeprefix("torch.")
    return _ROUGH if dtype in _HALF else _TOLERANCE


_MISPLACED = (
    "a place in where= has the wrong gate, axis or sign, or the module computes something else; nothing was changed"
)


def _differs(
    spec: InitSpec, apart: float, tolerance: float, when: str, found: Sequence[Array], hint: str
) -> ApplyError:
    size = "numbers that are none" if any(not np.isfinite(part).all() for part in found) else f"up to {apart:.2g}"
    return ApplyError(
        "verify",
        found=f"outputs that differ from those of {spec.cell} by {size} {when}",
        allowed=f"at most {tolerance:g}, rounding",
        hint=hint,
    )
