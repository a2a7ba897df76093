"""What was measured of a network's inputs, and what of it is worth a warning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from critinit.dual import Array

__all__ = ["Columns", "InputStatistics", "Padding"]

_SCALE = 10.0
"""A column's standard deviation is unscaled this many times away from the others', or all from 1."""
_OFFSET = 3.0
"""A mean is far from zero at this many standard deviations."""
_NAMED = 3
"""So many columns are named in a warning; the others are counted."""


@dataclass(frozen=True)
class Columns:
    """Each feature: its name, mean, variance about the mean, and whether it never changes; arrays of shape (F,)."""

    names: tuple[str, ...]
    mean: Array
    variance: Array
    constant: NDArray[np.bool_]


@dataclass(frozen=True)
class Padding:
    """The stretches of unchanging input with which sequences end.

    ``sequences``: how many end so (in two steps or more, and are not unchanging altogether); ``share``: of all steps;
    ``power``: second moment per coordinate; ``certain``: that these stretches are padding can be told, ``why`` (not).
    """

    sequences: int
    share: float
    power: float
    certain: bool
    why: str


@dataclass(frozen=True)
class InputStatistics:
    """The inputs of a network.

    ``shape``: (sequences, steps, features).  ``second_moment`` R per coordinate, ``correlation`` C of different
    sequences at the same step (None with one sequence, or of zeros), both without certain padding.  ``autocorrelation``: lag in
    steps -> r, with the padding.  ``notes``: what the numbers do not show.
    """

    shape: tuple[int, int, int]
    second_moment: float
    correlation: float | None
    autocorrelation: Mapping[int, float]
    padding: Padding | None
    columns: Columns
    notes: tuple[str, ...] = ()

    @property
    def input_variance(self) -> float:
        """R as a spec states it: six digits, which no machine's rounding changes."""
        return _six(self.second_moment)

    @property
    def input_correlation(self) -> float:
        """C as a spec states it: 0 to 1; 1, the theory's default, where one sequence tells nothing."""
        return 1.0 if self.correlation is None else _six(min(max(self.correlation, 0.0), 1.0))

    @property
    def null_variance(self) -> float | None:
        """R₀ as a spec states it; None, unknown, where padding cannot be told for certain."""
        return _six(self.padding.power) if self.padding is not None and self.padding.certain else None

    def warnings(self) -> tuple[str, ...]:
        """What should be changed before training, a line each."""
        columns, found = self.columns, []
        deviation = np.sqrt(columns.variance)
        lively = ~columns.constant
        if self.second_moment == 0.0:
            return ("every input is zero",)
        if np.any(columns.constant):
            found.append(f"constant: {_list(columns.names, columns.constant)}; it tells the network nothing")
        if not np.any(lively):
            return tuple(found)
        typical = float(np.quantile(deviation[lively], 0.5, method="lower"))
        apart = lively & ((deviation > _SCALE * typical) | (deviation * _SCALE < typical))
        if np.any(apart):
            found.append(
                f"unscaled: {_list(columns.names, apart, deviation, 'standard deviation')}; "
                f"the median of all columns is {typical:.3g}"
            )
        if not 1.0 / _SCALE <= typical <= _SCALE:
            found.append(f"unscaled: the columns' standard deviation is {typical:.3g}; about 1 trains best")
        far = lively & (np.abs(columns.mean) > _OFFSET * deviation)
        if np.any(far):
            found.append(
                f"off centre: {_list(columns.names, far, columns.mean, 'mean')}; "
                f"more than {_OFFSET:g} standard deviations from zero"
            )
        return tuple(found)


def _list(names: Sequence[str], which: NDArray[np.bool_], values: Array | None = None, what: str = "") -> str:
    index = np.flatnonzero(which)
    label = "column" if len(index) == 1 else f"{len(index):,} columns,"
    shown = [names[i] if values is None else f"{names[i]} ({what} {values[i]:.3g})" for i in index[:_NAMED]]
    return f"{label} {', '.join(shown)}{', …' if len(index) > _NAMED else ''}"


def _six(x: float) -> float:
    return float(f"{x:.6g}")
