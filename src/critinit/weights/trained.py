"""Whether weights look trained: a little off from a spec in every part, each unit by its own amount.

Training moves every number.  What a spec leaves to chance hides small moves, what it fixes shows them: constant biases,
second bias vectors (0), zero kernels, and orthogonal kernels, whose rows are no longer orthonormal.  A mistake of an
initialization leaves some of these exactly as they should be, or moves all units alike, or moves far.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from critinit.distributions import ConstantBias, Kernel, KernelFamily, Observed, SpreadBias
from critinit.tensors.sampling import Draw, Part
from critinit.weights.comparing import compare, passes
from critinit.weights.effective import Effective

__all__ = ["typical_move"]

Array = NDArray[np.float64]
Draws = Mapping[tuple[str, Part], Draw]

_LITTLE = 0.1
"""The largest root mean square move that is little, in the units of the weights: that of ten steps of Adam at a
learning rate of 0.01.  Weights that moved farther say more about the task than about their start."""
_ALIKE = 1e3
"""How many times farther one part may have moved than another.  Adam moves all alike; plain gradients of different
gates differ by factors of up to thousands."""
_OWN_AMOUNT = 0.05
"""The least standard deviation of moves over units, as a share of their root mean square.  Below it all units moved
alike, which is a slip and no training."""
_REACH = 3.0
"""A random part may differ by three times the typical move from what its size should be ..."""
_LEAST_P = 1e-6
"""The least p of a bias that is spread over units, once numbers just outside of its range are put at the ends."""
_CHANCE = 5.0
"""... and by five standard errors of that size."""


class _Move(NamedTuple):
    """How far one part has moved: the root mean square over its entries, and whether units moved differently."""

    size: float
    differs: bool


def typical_move(draws: Draws, read: Effective) -> float | None:
    """Return by how much the parts have moved, or None where the weights do not look trained.

    Args:
        draws: What the spec asks for.
        read: The numbers, all finite.

    Returns:
        The median over the parts that the spec fixes of the root mean square move of an entry.
    """
    moves = list(_moves(draws, read))
    sizes = [move.size for move in moves]
    if not moves or min(sizes) == 0.0 or max(sizes) > min(_LITTLE, _ALIKE * min(sizes)):
        return None
    move = float(np.median(sizes))
    random = (draw for draw in draws.values() if draw.part != "projection")
    if not any(move.differs for move in moves) or not all(_is_near(draw, read, move) for draw in random):
        return None
    return move


def _moves(draws: Draws, read: Effective) -> Iterator[_Move]:
    """The moves of all parts that the spec fixes."""
    for (gate, part), draw in draws.items():
        if part == "bias" and isinstance(draw.distribution, ConstantBias) and gate in read.firsts:
            yield _move(read.firsts[gate], draw.mean)
        elif part != "bias" and (draw.is_zero or isinstance(draw.distribution, ConstantBias)):
            yield _move(read.parts[gate, part], draw.mean)
        elif part != "bias" and isinstance(draw.distribution, Kernel):
            yield from _from_orthogonal(draw, draw.distribution, read.parts[gate, part])
    for observed in (*read.seconds.values(), *read.inside.values()):
        yield _move(observed, 0.0)


def _move(observed: Observed, wanted: float) -> _Move:
    """The move of numbers that should all be ``wanted``; what rounding can do counts as none."""
    away = observed.values - wanted
    if np.abs(away).max() <= observed.rounding + 4.0 * observed.roundoff * abs(wanted):
        return _Move(0.0, False)
    size = _root_mean_square(away)
    return _Move(size, float(away.std()) > _OWN_AMOUNT * size)


def _from_orthogonal(draw: Draw, kernel: Kernel, observed: Observed) -> Iterator[_Move]:
    """The move of an orthogonal kernel, from how far its rows are from orthonormal.

    With W = g Q + E, and independent entries of E of size e, the off-diagonal entries of W Wᵀ/g² have size √2·e/g.
    """
    w = observed.values
    if kernel.family is not KernelFamily.HAAR or len(w) < 2:
        return
    if all(test.p > 0.0 for test in compare(draw, observed) if test.exact):
        yield _Move(0.0, False)
    else:
        apart = (w @ w.T / kernel.variance)[~np.eye(len(w), dtype=bool)]
        yield _Move(kernel.gain * _root_mean_square(apart) / math.sqrt(2.0), True)


def _is_near(draw: Draw, read: Effective, move: float) -> bool:
    """Whether a part that is left to chance is as it should be, but for such a move."""
    x, distribution = read.parts[draw.gate, draw.part].values, draw.distribution
    if isinstance(distribution, SpreadBias):
        low, high = sorted(draw.sign * end for end in distribution.ends)
        inside = np.clip(x, low, high)
        within = bool(np.abs(x - inside).max() <= _REACH * move)
        return within and passes(compare(draw, read.parts[draw.gate, draw.part]._replace(values=inside)), _LEAST_P)
    wanted = math.sqrt(draw.variance / draw.fan_in + draw.mean**2)
    chance = wanted / math.sqrt(2.0 * x.size)
    return abs(_root_mean_square(x) - wanted) <= _REACH * move + _CHANCE * chance


def _root_mean_square(x: Array) -> float:
    return math.sqrt(float(np.mean(x * x)))
