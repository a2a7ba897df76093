"""What the weights say beside those of an earlier time: the start, a checkpoint, the first diagnosis of a run.

Trained weights still resemble their start: a kernel points in much the same direction (its cosine with the start is
high), and most of its singular values stay, as training adds few directions.  So a kernel that another gate started
with is known by its direction, and one that was multiplied by its singular values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.diagnosis.findings import Finding
from critinit.tensors.recurrence import LayerWeights

__all__ = ["GROWN", "bulk", "is_alike", "is_equal", "is_uniform", "weights_that_moved"]

GROWN = 1.6
"""Factor from which on the bulk of a kernel's singular values, and its part along the earlier kernel, count as
multiplied: a doubled kernel has 2 (measured, docs/diagnose.md).  300 steps of training changed the bulk by 17 % at
most, 700 steps at a large rate made it up to 4 times as large, but the part along the earlier kernel 1.5 times at most
from 12 units on."""
_EMPTY = 1e-4
"""Share of a kernel's norm below which its median singular value is rounding: half of its directions are empty, as in a
pruned kernel, and their growth says nothing."""
_ROWS = 32
"""Rows of a kernel that are looked at."""
_SWAPPED = 0.25
"""By how much a gate's kernels have to resemble another gate's more than its own, as a cosine: trained ones had at most
.2 with another's and at least .55 with their own ..."""
_SWAPPED_BY_CHANCE = 2.0
"""... and by how many deviations that chance gives it in kernels of few entries."""
_SAME = 0.3
"""Cosine with the earlier kernel below which a kernel is one that was learned ..."""
_SAME_BY_CHANCE = 4.0
"""... and how many deviations of chance it has to be above 0: kernels of n entries that have nothing in common have a
cosine of deviation 1/√n."""
_LOST = 0.3
"""Root mean square by which a bias that is now the same in all units has to be another one: less does not matter."""

Numbers = NDArray[Any]


def is_alike(weights: LayerWeights, earlier: LayerWeights) -> bool:
    """Return whether two layers are of one cell and one size.

    Args:
        weights: A layer.
        earlier: Another one.
    """
    shapes = ((one.cell.name, one.units, one.inputs, one.outputs) for one in (weights, earlier))
    return next(shapes) == next(shapes)


def is_equal(weights: LayerWeights, earlier: LayerWeights) -> bool:
    """Return whether two layers of one size have the same kernels and biases.

    Args:
        weights: A layer.
        earlier: Another one.
    """
    return all(
        np.array_equal(getattr(weights, part)[gate], getattr(earlier, part)[gate])
        for part in ("recurrent", "input", "bias")
        for gate in weights.cell.gates
    )


def is_uniform(bias: Numbers) -> bool:
    """Return whether a bias is the same number in all of several units, which training never leaves so.

    Args:
        bias: Of shape (units,).
    """
    return len(bias) > 1 and bool(bias.min() == bias.max())


def bulk(kernels: Numbers) -> Numbers:
    """Return the median singular value of kernels, of at most 32 of their rows.

    Args:
        kernels: Of shape (…, rows, columns).
    """
    rows = np.linspace(0, kernels.shape[-2] - 1, min(_ROWS, kernels.shape[-2])).round().astype(int)
    some = kernels[..., rows, :].astype(np.float64)
    squares = np.linalg.eigvalsh(some @ some.swapaxes(-1, -2))
    return np.asarray(np.sqrt(np.maximum(np.median(squares, axis=-1), 0.0)))


def weights_that_moved(weights: LayerWeights, earlier: LayerWeights) -> Iterator[Finding]:
    """Yield what is wrong with weights beside earlier ones of the same layer.

    Args:
        weights: The weights.
        earlier: The same layer's at an earlier time.
    """
    gates = weights.cell.gates
    alike = {
        part: {(g, k): _cosine(now[g], then[k]) for g in gates for k in gates}
        for part, now, then in (
            ("input", weights.input, earlier.input),
            ("recurrent", weights.recurrent, earlier.recurrent),
        )
    }
    chance = math.sqrt(sum(1.0 / table[gates[0]].size for table in (weights.input, weights.recurrent)))
    swapped = _swapped(gates, alike, max(_SWAPPED, _SWAPPED_BY_CHANCE * chance))
    if swapped:
        yield Finding("differs", f"gates look swapped: {swapped}")
        return
    lost = ", ".join(
        f"{gate} is {float(now[0]) + 0.0:.3g} in all units, where it was {float(np.mean(then)):.3g} on average"
        for gate, now, then in ((gate, weights.bias[gate], earlier.bias[gate]) for gate in gates)
        if is_uniform(now) and float(np.sqrt(np.mean((now - then) ** 2))) >= _LOST
    )
    if lost:
        yield Finding("differs", f"bias lost: {lost}")
    empty = ", ".join(
        f"{gate} {part}"
        for part, now, then in (
            ("recurrent", weights.recurrent, earlier.recurrent),
            ("input", weights.input, earlier.input),
        )
        for gate in gates
        if not now[gate].any() and then[gate].any()
    )
    if empty:
        yield Finding("differs", f"kernel lost: all of {empty} is 0, which training never makes")
    factors = {
        gate: _growth(weights.recurrent[gate], earlier.recurrent[gate])
        for gate in gates
        if _is_same(alike["recurrent"][gate, gate], earlier.recurrent[gate].size)
        and _along(weights.recurrent[gate], earlier.recurrent[gate]) > GROWN
    }
    grown = ", ".join(f"{gate} {factor:.2g} times" for gate, factor in factors.items() if factor > GROWN)
    if grown:
        yield Finding("differs", f"recurrent kernel multiplied: {grown} what it was, by its median singular value")


def _is_same(cosine: float, entries: int) -> bool:
    """Whether a kernel is still the earlier one by its direction, and not by chance."""
    return cosine > max(_SAME, _SAME_BY_CHANCE / math.sqrt(entries))


def _along(now: Numbers, then: Numbers) -> float:
    """The part of a kernel along the earlier one, over that one: what training adds lies across it for the most."""
    size = float(np.vdot(then, then))
    return float(np.vdot(now, then)) / size if size > 0.0 else 1.0


def _growth(now: Numbers, then: Numbers) -> float:
    """The median singular value over the earlier one; 1 where that is rounding."""
    before = float(bulk(then))
    return float(bulk(now)) / before if before > _EMPTY * float(np.linalg.norm(then)) else 1.0


def _swapped(gates: tuple[str, ...], alike: Mapping[str, Mapping[tuple[str, str], float]], least: float) -> str:
    """In words which gates have kernels that resemble the earlier ones of another gate."""
    score = {(g, k): sum(cosines[g, k] for cosines in alike.values()) for g in gates for k in gates}
    best = max(permutations(gates), key=lambda order: sum(score[g, k] for g, k in zip(gates, order, strict=True)))
    moved = [(g, k) for g, k in zip(gates, best, strict=True) if g != k]
    if not all(score[g, k] - score[g, g] > least for g, k in moved):
        return ""
    return ", ".join(f"{g} has the kernels of {k}" for g, k in moved)


def _cosine(x: Numbers, y: Numbers) -> float:
    size = math.sqrt(float(np.vdot(x, x)) * float(np.vdot(y, y)))
    return float(np.vdot(x, y)) / size if size > 0.0 else 0.0
