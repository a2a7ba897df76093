"""Where sequences begin and end in padding, of inputs that are in memory as a whole.

Padding at the end is the longest ending that several sequences share, step by step: one value throughout (silent where
it is 0, else constant), or values that change alike in all (a position code, say, which is noise to the network).  At
the start likewise.  An ending of zeros counts for a single sequence too.  As in ``moments``, endings count from 5 % of
all steps and a mean length of 3 steps on.  Noise that differs between sequences looks like a signal: there the caller
says which steps are real.  ``odd_ending`` only asks whether the last steps are of another power.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from critinit.inputs.moments import RUN, SHARE

__all__ = ["Ending", "Kind", "Stretch", "described", "odd_ending", "shared_endings"]

Kind = Literal["silent", "constant", "noise"]
Steps = NDArray[np.int64]

_ROUNDING = 1e-5
"""Difference of two numbers, relative to the inputs' root mean square, that is taken for rounding in float32."""
_ALIKE = 0.9
"""Share of the steps that have to agree for one value: at its ends a convolution reads what is not padding."""
_ODD = 4.0
"""By what factor the power of steps has to differ from the usual one to be worth a question, in the mean of all
sequences; by its square root in nine of ten of them, which single strong inputs do not make."""
_FEWEST = 4
"""Sequences below which powers say little of one another."""


class Ending(NamedTuple):
    """The last steps of sequences, whose power is not that of the others.

    Attributes:
        steps: How many.
        power: Their mean square.
        usual: The mean square of most steps.
    """

    steps: int
    power: float
    usual: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """The padding at one side of sequences.

    Attributes:
        kind: "silent" (zeros), "constant" (one value throughout) or "noise" (anything else).
        sequences: How many sequences have it.
        share: Its share of all steps.
        power: Its mean square.
    """

    kind: Kind
    sequences: int
    share: float
    power: float


def odd_ending(x: NDArray[np.float32]) -> Ending | None:
    """Return the last steps if their power is far from that of most steps, in nearly all sequences; else None.

    They may be padding that is noise.  Noise as strong as the input looks like the input.

    Args:
        x: Of shape (N, T, F).

    Example:
        >>> signal = np.random.default_rng(0).standard_normal((8, 40, 3))
        >>> signal[:, 30:] *= 0.1
        >>> odd_ending(signal).steps
        10
    """
    sequences, steps, _ = x.shape
    power = np.mean(np.square(x, dtype=np.float64), axis=2)
    profile = np.mean(power, axis=0)
    usual = float(np.median(profile[: steps - steps // 2]))
    if sequences < _FEWEST or usual == 0.0:
        return None
    odd = (profile > _ODD * usual) | (profile * _ODD < usual)
    count = int(np.sum(np.logical_and.accumulate(odd[::-1])))
    if count < max(RUN, SHARE * steps) or count > steps // 2:
        return None
    own = np.mean(power[:, steps - count :], axis=1)
    apart = (own > np.sqrt(_ODD) * usual) | (own * np.sqrt(_ODD) < usual)
    return Ending(count, float(np.mean(own)), usual) if np.mean(apart) >= _ALIKE else None


def shared_endings(x: NDArray[np.float32]) -> Steps:
    """Return at which step the shared ending of each sequence starts, (N,); T where it has none.

    Args:
        x: Of shape (N, T, F).
    """
    sequences, steps, _ = x.shape
    none = np.full(sequences, steps)
    tolerance = _ROUNDING * float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))
    members = _most_common(x[:, -1], tolerance)
    value = x[np.argmax(members), -1]
    silent = bool(np.all(np.abs(value) <= tolerance))
    if steps < 2 or (np.sum(members) < 2 and not silent):
        return none
    starts = np.where(members, _alike_since(x, value[None], tolerance), steps)
    if not _counts(starts, steps):
        starts = _changing_alike(x, np.flatnonzero(members), tolerance)
    starts = np.where(starts == 0, steps, starts)  # a sequence that is all alike counts as input
    return starts if _counts(starts, steps) else none


def described(x: NDArray[np.float32], where: NDArray[np.bool_]) -> Stretch | None:
    """Return what stands at the steps ``where``, (N, T); None where there are none."""
    if not np.any(where):
        return None
    values = x[where].astype(np.float64)
    tolerance = _ROUNDING * max(float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))), 1e-30)
    power = float(np.mean(np.square(values)))
    silent = bool(np.all(np.abs(values) <= tolerance))
    alike = np.all(np.abs(values - values[len(values) // 2]) <= tolerance, axis=1).mean() >= _ALIKE
    kind: Kind = "silent" if silent else "constant" if alike else "noise"
    return Stretch(kind, int(np.sum(np.any(where, axis=1))), float(np.mean(where)), 0.0 if silent else power)


def _most_common(rows: NDArray[np.float32], tolerance: float) -> NDArray[np.bool_]:
    """Which rows are alike, of the largest group of them."""
    grid = np.round(rows / tolerance / 4.0) if tolerance else rows
    _, group, sizes = np.unique(grid + 0.0, axis=0, return_inverse=True, return_counts=True)
    first = int(np.argmax(group.reshape(-1) == np.argmax(sizes)))
    return np.asarray(np.all(np.abs(rows - rows[first]) <= tolerance, axis=1))


def _alike_since(x: NDArray[np.float32], reference: NDArray[np.float32], tolerance: float) -> Steps:
    """Since which step every sequence agrees with the reference, (T, F) or (1, F), to the end."""
    differs = np.any(np.abs(x - reference) > tolerance, axis=2)
    steps = x.shape[1]
    last = steps - 1 - np.argmax(differs[:, ::-1], axis=1)
    return np.where(np.any(differs, axis=1), last + 1, 0)


def _changing_alike(x: NDArray[np.float32], members: Steps, tolerance: float) -> Steps:
    """Since which step every sequence of several agrees to the end with another one, whatever the values; else T.

    One that is longer than the reference has its start where the two begin to agree.  Shorter ones agree with it over
    all of its padding, and are compared with one of their own, until one is left.
    """
    starts = np.full(len(x), x.shape[1])
    first = None
    while len(members) > 1:
        reference, others = members[0], members[1:]
        since = _alike_since(x[others], x[reference], tolerance)
        starts[others] = np.minimum(starts[others], since)
        starts[reference] = min(starts[reference], np.min(since))
        if np.min(since) == first == np.max(since):
            break
        first = np.min(since)
        members = others[since == first]
    return starts


def _counts(starts: Steps, steps: int) -> bool:
    """Whether endings are long enough to be padding."""
    lengths = np.where(starts > 0, steps - starts, 0)
    having = int(np.sum(lengths > 0))
    return bool(lengths.sum() >= SHARE * starts.size * steps and lengths.sum() >= RUN * having and having)
