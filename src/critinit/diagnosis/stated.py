"""What the weights say of a spec that they should have started from, part by part and roughly.

Training moves every number.  Some parts a spec fixes: constant biases, and biases that are another gate's.  Where one
of these is exactly as the spec says and none is a little off, nothing was trained, so parts that are far off were
changed by a mistake.  ``critinit.check`` tests every part; here moments are compared, which costs next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.diagnosis.compared import GROWN, bulk, is_uniform
from critinit.diagnosis.findings import Finding
from critinit.distributions import EntryKernel
from critinit.spec import InitSpec
from critinit.tensors.recurrence import LayerWeights
from critinit.tensors.sampling import Draw, GroupDraws, Part, draws_of

__all__ = ["weights_that_differ"]

Numbers = NDArray[Any]

_CHANCE = 6.0
"""Standard errors within which a moment is as asked."""
_ROUNDING = 1e-4
"""How far a number that is fixed may be off, relative to 1 or to itself: rounding in half precision is four times as
much, but Adam's first step at the smallest usual rate is as much."""
_FAR_SIZE = 1.35
"""A kernel is far off where its root mean square is by this factor another: √2, where its variance is twice as large,
but for chance ..."""
_FAR_MEAN = 0.9
"""... and a bias where its mean or its units are, in pre-activations: a bias of 1 that was lost."""
_LASTING = 0.5
"""Size of a kernel, the root of its variance, from which on training leaves most of its singular values alone ..."""
_LEAST_UNITS = 16
"""... where it has that many units: training adds few directions, but to a small layer these are most of them."""
_FAR_TRAINED = 1.6
"""Mean distance of a gate's biases from the spec's from which on training went so far that a kernel may have grown by
itself: 400 to 700 steps at the rate .01 moved them by 1.2 at most and kernels by 1.4 times; where 700 steps at .03 made
a kernel 1.6 to 4 times as large, they had moved by 1.9 and more (measured)."""
_SWAP_LEAST = 1.0
"""Squared distance of all gates' biases from their own, in mean and deviation, from which on swapped gates are looked
for ..."""
_SWAP_RATIO = 4.0
"""... and how many times nearer they have to be in another order ..."""
_SWAP_UNITS = 4
"""... of so many units: the biases of fewer become like another gate's by training."""


def weights_that_differ(
    spec: InitSpec, layer: int, direction: int, weights: LayerWeights, *, is_alone: bool = True
) -> Iterator[Finding]:
    """Yield what is wrong with weights that started from a spec, or did not.

    Args:
        spec: The spec.
        layer: The spec's layer.
        direction: 0 forward, 1 backward.
        weights: The weights, fresh or trained.
        is_alone: Whether the spec is all that the weights can be compared with, so that it also has to say whether a
            kernel was multiplied.
    """
    groups = draws_of(
        spec,
        layer,
        seed=0,
        input_size=weights.inputs,
        hidden_size=weights.units,
        projection_size=None if weights.projection is None else weights.outputs,
        direction=direction,
    )
    for group in groups:
        for finding in _group_that_differs(group.draws, _of_group(weights, group), is_alone=is_alone):
            name = next(iter(group.draws.values())).group
            yield finding._replace(text=f"group {name}: {finding.text}") if name else finding


def _of_group(weights: LayerWeights, group: GroupDraws) -> LayerWeights:
    """The weights of a group of units, which reads its own."""

    def own(table: Mapping[str, Numbers], part: Part) -> dict[str, Numbers]:
        return {gate: x[group.place(part)] for gate, x in table.items()}

    return replace(
        weights,
        recurrent=own(weights.recurrent, "recurrent"),
        input=own(weights.input, "input"),
        bias=own(weights.bias, "bias"),
        recurrent_gain=own(weights.recurrent_gain, "recurrent_gain"),
        input_gain=own(weights.input_gain, "input_gain"),
        projection=None if weights.projection is None else weights.projection[group.place("projection")],
        memory_gain=None if weights.memory_gain is None else weights.memory_gain[group.place("memory_gain")],
    )


def _group_that_differs(
    draws: Mapping[tuple[str, Part], Draw], weights: LayerWeights, *, is_alone: bool
) -> Iterator[Finding]:
    """What is wrong with the weights of one group."""
    swapped = _swapped(draws, weights)
    if swapped:
        yield Finding("differs", f"gates look swapped: {swapped}")
        return
    biases = {gate: draw for (gate, part), draw in draws.items() if part == "bias"}
    lost = [gate for gate, draw in biases.items() if _is_lost(draw, weights.bias[gate])]
    if lost:
        yield Finding("differs", f"bias lost: {', '.join(_alike(biases[gate], weights.bias[gate]) for gate in lost)}")
    compared = [(draw, found) for draw in draws.values() if (found := _part(weights, draw.gate, draw.part)) is not None]
    rest = [(draw, found) for draw, found in compared if draw.part != "bias" or draw.gate not in lost]
    fixed = [_away(draw, found, weights) for draw, found in rest if draw.coupled_to not in lost]
    is_untrained = 0.0 in fixed and not any(away and away < _FAR_MEAN for away in fixed)
    far = [(draw, found) for draw, found in rest if is_untrained and _is_far(draw, found)]
    far = [(draw, found) for draw, found in far if not _is_as_asked(draw, found)]
    if far:
        words = ", ".join(_words(draw, found) for draw, found in far)
        yield Finding(
            "differs", f"differs from the spec, though it looks untrained: {words} (critinit check says more)"
        )
        return
    empty = [draw for draw, found in compared if found.ndim == 2 and draw.variance and not found.any()]
    if empty:
        names = ", ".join(f"{draw.gate} {draw.part}".strip() for draw in empty)
        yield Finding("differs", f"kernel lost: all of {names} is 0, which training never makes")
    is_near = is_alone and all(_moved(draw, weights) < _FAR_TRAINED for draw in biases.values())
    grown = [(draw.gate, _growth(draw, found)) for draw, found in compared if draw.part == "recurrent" and is_near]
    words = ", ".join(f"{gate} {factor:.2g} times" for gate, factor in grown if factor > GROWN)
    if words:
        yield Finding(
            "differs", f"recurrent kernel multiplied: {words} what the spec says, by its median singular value"
        )


def _growth(draw: Draw, x: Numbers) -> float:
    """The median singular value over that of the start; 1 where the start is too small to outlast training."""
    size = math.sqrt(draw.variance)
    if size < _LASTING or len(x) < _LEAST_UNITS or _mean_square(x) * x.shape[1] < (GROWN * size) ** 2:
        return 1.0
    if draw.gain is not None:
        start = draw.gain
    elif isinstance(draw.distribution, EntryKernel):
        rng = np.random.default_rng(0)
        start = float(bulk(rng.standard_normal(x.shape) * size / math.sqrt(x.shape[1])))
    else:
        return 1.0
    return float(bulk(x)) / start


def _swapped(draws: Mapping[tuple[str, Part], Draw], weights: LayerWeights) -> str:
    """In words which gates hold the biases that the spec gives others; nothing where each is nearest to its own.

    Training moves biases, but hardly ever so that each fits another gate's mean and deviation.
    """
    asked = {gate: (draw.mean, math.sqrt(draw.variance)) for (gate, part), draw in draws.items() if part == "bias"}
    if weights.units < _SWAP_UNITS:
        return ""
    found = {gate: (float(weights.bias[gate].mean()), float(weights.bias[gate].std())) for gate in asked}
    apart = {(g, k): math.dist(found[g], asked[k]) ** 2 for g in asked for k in asked}

    def cost(order: tuple[str, ...]) -> float:
        return sum(apart[g, k] for g, k in zip(asked, order, strict=True))

    own = tuple(asked)
    if cost(own) < _SWAP_LEAST:
        return ""
    best = min(permutations(asked), key=cost)
    if cost(best) * _SWAP_RATIO > cost(own):
        return ""
    return ", ".join(f"{g} has the biases of {k}" for g, k in zip(own, best, strict=True) if g != k)


def _is_lost(draw: Draw, x: Numbers) -> bool:
    """Whether a bias is the same in all units, which training never leaves so, and not what the spec asks for."""
    if not is_uniform(x):
        return False
    away = abs(float(x[0]) - draw.mean)
    return math.hypot(away, math.sqrt(draw.variance)) >= _FAR_MEAN or (draw.variance > 0.0 and away > 0.0)


def _alike(draw: Draw, x: Numbers) -> str:
    asked = "spread around" if draw.variance else "at"
    return f"{draw.gate} is {float(x[0]) + 0.0:.3g} in all units, where the spec has it {asked} {draw.mean:.3g}"


def _away(draw: Draw, x: Numbers, weights: LayerWeights) -> float | None:
    """How far a part is from what the spec fixes, 0 within rounding; None where it leaves the part to chance."""
    if draw.part != "bias" or (draw.variance and draw.coupled_to is None):
        return None
    wanted = draw.mean if draw.coupled_to is None else draw.sign * weights.bias[draw.coupled_to]
    away = float(np.abs(x - wanted).max())
    return 0.0 if away <= _ROUNDING * max(1.0, float(np.abs(wanted).max())) else away


def _moved(draw: Draw, weights: LayerWeights) -> float:
    """How far a gate's biases are from the spec's, on average and beyond what is left to chance."""
    other = draw.coupled_to
    wanted = draw.mean if other is None else draw.sign * weights.bias[other]
    chance = math.sqrt(draw.variance) if other is None else 0.0
    return float(np.abs(weights.bias[draw.gate] - wanted).mean()) - chance


def _part(weights: LayerWeights, gate: str, part: Part) -> Numbers | None:
    """The numbers of a part."""
    if part == "projection":
        return weights.projection
    if part == "memory_gain":
        return weights.memory_gain
    found: dict[str, Numbers] = dict(getattr(weights, part))
    return found.get(gate)


def _is_as_asked(draw: Draw, x: Numbers) -> bool:
    wanted, variance = _wanted(draw)
    size = max(math.sqrt(variance), abs(wanted))
    if variance == 0.0:
        return bool(np.abs(x - wanted).max() <= _ROUNDING * max(1.0, abs(wanted)))
    degrees = x.size if x.ndim == 2 else len(x)
    # fourth moments of the distributions that there are: at most 3, of spread biases at most so
    mean_error, square_error = math.sqrt(variance / degrees), variance * math.sqrt(2.0 / degrees)
    rounding = _ROUNDING * size
    return bool(
        abs(float(x.mean()) - wanted) <= _CHANCE * mean_error + rounding
        and abs(float(x.var()) - variance) <= _CHANCE * square_error + rounding * size
    )


def _is_far(draw: Draw, x: Numbers) -> bool:
    wanted, variance = _wanted(draw)
    if x.ndim == 1:
        return abs(float(x.mean()) - wanted) >= _FAR_MEAN
    asked, found = math.sqrt(variance + wanted**2), math.sqrt(_mean_square(x))
    return not asked / _FAR_SIZE < found < asked * _FAR_SIZE


def _mean_square(x: Numbers) -> float:
    flat = x.reshape(-1)
    return float(np.einsum("i,i->", flat, flat, dtype=np.float64)) / x.size


def _wanted(draw: Draw) -> tuple[float, float]:
    """Mean and variance of an entry."""
    return draw.mean, draw.variance / draw.fan_in


def _words(draw: Draw, x: Numbers) -> str:
    name = f"{draw.gate} {draw.part.replace('_', ' ')}".strip()
    if x.ndim == 1:
        return f"{name} of mean {float(x.mean()):.3g} instead of {draw.mean:.3g}"
    return f"{name} kernel of variance {_mean_square(x) * x.shape[1]:.3g} " + (f"instead of {draw.variance:.3g}")
