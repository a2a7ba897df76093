"""What was measured of a network's inputs, and what of it is worth a warning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from critinit.dual import Array
from critinit.inputs.chunks import leave_out

__all__ = ["Columns", "ConstantStretches", "InputStatistics", "PaddingFields"]

_SCALE = 10.0
"""How many times a column's standard deviation may be larger or smaller than the others', or all of them than 1."""
_OFFSET = 3.0
"""How many standard deviations a mean may be from zero."""
_LEAST = 1e-154
"""The standard deviation of a column that changes is below this where its variance is 0 in double precision."""
_WHITE = 0.05
"""A correlation in time at lag 1 below this, a, is none: it multiplies a leaky unit's power by (1 + fa)/(1 − fa)."""
_NAMED = 3
"""How many columns a warning names; the others are counted."""

_ONE_STEP = "where a row is a sequence, layout='NT' (--layout NT) says so"
_STANDARDIZE = "standardize: subtract each column's mean and divide by its standard deviation"


class PaddingFields(TypedDict):
    """The fields of a spec's ``input.padding``."""

    variance: float
    constant: bool


@dataclass(frozen=True)
class Columns:
    """The features, one by one.

    Attributes:
        names: Their names; numbers from 0 where they have none.
        mean: Their means, of shape (F,).
        variance: Their variances about the mean, of shape (F,).
        constant: Whether each never changes, of shape (F,).
        growing: Whether each grows like a time, a row number or a name that counts, of shape (F,).
        ids: Whether each holds whole numbers without order in time, like ids, of shape (F,).
    """

    names: tuple[str, ...]
    mean: Array
    variance: Array
    constant: NDArray[np.bool_]
    growing: NDArray[np.bool_]
    ids: NDArray[np.bool_]


@dataclass(frozen=True)
class ConstantStretches:
    """The stretches of unchanging input with which sequences begin, or with which they end.

    Attributes:
        sequences: How many sequences have one: of two steps or more, and not the whole sequence.
        share: Share of all steps that are in these stretches.
        power: Their second moment, for each number.
        are_padding: Whether they count as padding.
        why: Why they do not; empty where they do.
    """

    sequences: int
    share: float
    power: float
    are_padding: bool
    why: str

    @property
    def kind(self) -> str:
        """What they are in words: "silent padding", "constant padding", or "unchanging steps" where they are unsure."""
        if not self.are_padding:
            return "unchanging steps"
        return "constant padding" if self.power else "silent padding"


@dataclass(frozen=True)
class InputStatistics:
    """The inputs of a network, measured.

    Attributes:
        shape: Sequences, steps (of the longest sequence) and features.
        second_moment: R, the mean square of an input number, without the padding.
        correlation: C, the correlation of different sequences at the same step, without the padding; None with one
            sequence, or of zeros.
        autocorrelation: The correlation in time at some lags in steps, without the padding.
        spectrum: The power about the mean in 128 equal bins of the frequencies from 0 to π radians a step, of mean 1,
            without the padding; None of sequences of very few steps, where nothing changes, and where it was not asked
            for.
        beginnings: The unchanging stretches at the beginning of sequences; None where there are none.
        endings: Those at the end of sequences; None where there are none.
        steps_after_padding: Steps of the longest sequence without padding before it: what a spec takes for T.
        steps_without_padding: Steps of the longest sequence without any padding.
        columns: The features, one by one.
        ids: What the numbers are where they look like ids of tokens; empty where they do not.  Of ids, only the shape
            and the steps mean anything.
        notes: What the numbers do not show.
    """

    shape: tuple[int, int, int]
    second_moment: float
    correlation: float | None
    autocorrelation: Mapping[int, float]
    spectrum: tuple[float, ...] | None
    beginnings: ConstantStretches | None
    endings: ConstantStretches | None
    steps_after_padding: int
    steps_without_padding: int
    columns: Columns
    ids: str = ""
    notes: tuple[str, ...] = ()

    @property
    def input_variance(self) -> float:
        """R as a spec states it: six digits, which no machine's rounding changes."""
        return _six(self.second_moment)

    @property
    def input_correlation(self) -> float:
        """C as a spec states it, from 0 to 1; it is 1, the theory's default, where one sequence tells nothing."""
        return 1.0 if self.correlation is None else _six(min(max(self.correlation, 0.0), 1.0))

    @property
    def input_autocorrelation(self) -> float | None:
        """The correlation in time at lag 1 as a spec states it; None where it is unknown, or too small to matter.

        Too small is .05: it changes the second moment of a leaky unit by at most 10 %.
        """
        found = self.autocorrelation.get(1)
        return None if found is None or abs(found) < _WHITE else _six(min(max(found, -1.0), 1.0))

    @property
    def input_spectrum(self) -> tuple[float, ...] | None:
        """The spectrum as ``generate`` takes it, to three digits; None where it is unknown."""
        return None if self.spectrum is None else tuple(float(f"{power:.3g}") for power in self.spectrum)

    @property
    def padding(self) -> PaddingFields | None:
        """What a spec's ``input.padding`` takes; None, unknown, where no endings count as padding.

        Padding before a sequence is not stated: nothing that the network has read has to outlast it.
        """
        if self.endings is None or not self.endings.are_padding:
            return None
        return {"variance": _six(self.endings.power), "constant": True}

    def warnings(self) -> tuple[str, ...]:
        """Return what should be changed before training, a line each."""
        columns, found = self.columns, []
        deviation = np.sqrt(columns.variance)
        changing = ~columns.constant
        if self.shape[1] == 1:
            return (f"one step: {_ONE_STEP}",)
        if self.second_moment == 0.0:
            return ("every input is zero",)
        if np.any(columns.growing):
            named = _list(columns.names, columns.growing)
            found.append(
                f"growing: {named}; a time, a row number or the name of a sequence is no input: "
                f"{_way(columns.names, columns.growing)}; of a table --time orders the rows by it, --group names the "
                "sequences by it"
            )
        if np.any(columns.ids):
            named = _list(columns.names, columns.ids)
            found.append(
                f"ids: {named}; whole numbers without order look like ids or classes, which are no amounts: "
                f"{_way(columns.names, columns.ids)}; of a table --group names the sequences by it"
            )
        if np.any(columns.constant):
            named = _list(columns.names, columns.constant)
            way = _way(columns.names, columns.constant)
            found.append(f"constant: {named}; this tells the network nothing{f': {way}' if np.any(changing) else ''}")
        if not np.any(changing):
            return tuple(found)
        typical = float(np.quantile(deviation[changing], 0.5, method="lower"))
        apart = changing & ((deviation > _SCALE * typical) | (deviation * _SCALE < typical))
        if np.any(apart):
            named = _list(columns.names, apart, deviation, "standard deviation")
            found.append(
                f"unscaled: {named}; the median of all columns is {typical:.3g}, and a spec has one input "
                f"variance for all, which the largest decide; {_STANDARDIZE}"
            )
        if not 1.0 / _SCALE <= typical <= _SCALE:
            found.append(
                f"unscaled: the columns' standard deviation is {typical:.3g}, and about 1 trains best; {_STANDARDIZE}"
            )
        far = changing & (np.abs(columns.mean) > _OFFSET * deviation)
        if np.any(far):
            named = _list(columns.names, far, columns.mean, "mean")
            found.append(f"off centre: {named}; more than {_OFFSET:g} standard deviations from zero; {_STANDARDIZE}")
        return tuple(found)


def _way(names: Sequence[str], which: NDArray[np.bool_]) -> str:
    """How columns are left out; by name where they are few."""
    few = [name for name, is_meant in zip(names, which, strict=True) if is_meant]
    return f"leave it out: {leave_out(few)}" if len(few) <= _NAMED else "leave them out with columns= (--columns)"


def _list(names: Sequence[str], which: NDArray[np.bool_], values: Array | None = None, what: str = "") -> str:
    """The columns that are meant, the first of them by name."""
    index = np.flatnonzero(which)
    label = "column" if len(index) == 1 else f"{len(index):,} columns,"
    shown = (
        list(map(str, names))
        if values is None
        else [f"{n} ({what} {_size(v)})" for n, v in zip(names, values, strict=True)]
    )
    return f"{label} {', '.join(shown[i] for i in index[:_NAMED])}{', …' if len(index) > _NAMED else ''}"


def _size(value: float) -> str:
    return f"{value:.3g}" if value else f"below {_LEAST:g}"


def _six(x: float) -> float:
    return float(f"{x:.6g}")
