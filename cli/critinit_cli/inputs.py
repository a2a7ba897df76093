"""What a spec takes from options and from a file of data, for ``critinit spec``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from critinit_cli.output import complain
from critinit_cli.progress import progress_bars
from critinit_cli.tables import render

if TYPE_CHECKING:
    from critinit.dual import Array
    from critinit.inputs import InputStatistics

__all__ = ["Inputs", "measured"]


_OTHERWISE = 0.2
"""How far the correlation at a lag may be from the lag-th power of that at lag 1 without a note."""


class Inputs(NamedTuple):
    """What is known of a network's inputs; None where nothing is.

    Attributes:
        T: Sequence length in steps.
        variance: Mean square of an input number.
        correlation: Correlation of the inputs of the two perturbed copies whose distance χ describes.
        autocorrelation: Correlation of the input with that of the step before.
        padding: Inputs that carry no information, as ``critinit.generate`` takes them.
        size: Numbers in one input.
    """

    T: int | None
    variance: float | None
    correlation: float | None
    autocorrelation: float | None
    padding: Mapping[str, Any] | None
    size: int | None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``critinit.generate``, its defaults where nothing is known."""
        return {
            "T": self.T,
            "input_variance": 1.0 if self.variance is None else self.variance,
            "input_correlation": 1.0 if self.correlation is None else self.correlation,
            "input_autocorrelation": self.autocorrelation,
            "padding": self.padding,
            "input_size": self.size,
        }

    def completed(self, other: Inputs) -> Inputs:
        """Return what is known, and what ``other`` knows where nothing is."""
        return other._replace(**{name: value for name, value in self._asdict().items() if value is not None})


def measured(
    file: str, given: Inputs, *, layout: str | None, array: str | None, columns: str | None, missing: str
) -> Inputs:
    """Measure a file, show on stderr what was found, and return the inputs that the spec is for.

    Args:
        file: The file.
        given: What the options state; it goes before what is measured.
        layout: The axes as they are stored.
        array: Which array of a file with several.
        columns: A table's columns that are inputs, with commas between.
        missing: What to do about steps that lack a number: "refuse" or "drop".

    Raises:
        FileError: The file cannot be read.
        DataError: It does not hold finite numbers in such a shape.
        ArgumentError: An argument does not fit the file.
        MissingExtraError: What reads such files is not installed.
    """
    from critinit.inputs import measure

    names = None if columns is None else [name.strip() for name in columns.split(",")]
    with progress_bars() as start:
        bar = start("numbers read")
        progress = None if bar is None else (lambda done: bar(done, None))
        found = measure(
            file, layout=layout, array=array, columns=names, missing=cast("Any", missing), progress=progress
        )
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(_table(file, found, given), end="", file=sys.stderr, flush=True)
    for note in _notes(found, given):
        complain("note", note)
    for warning in found.warnings():
        complain("warning", f"{file}: {warning}")
    return given.completed(_stated(found))


def _stated(found: InputStatistics) -> Inputs:
    """What a spec takes of the statistics."""
    _, steps, features = found.shape
    return Inputs(
        steps,
        found.input_variance,
        found.input_correlation,
        found.input_autocorrelation,
        found.padding,
        features,
    )


def _table(file: str, found: InputStatistics, given: Inputs) -> str:
    """What was measured, and the fields of the spec that take it: those about which nothing is given."""
    sequences, steps, features = found.shape
    endings = found.endings
    fields = {
        "T": "T" if given.T is None else "",
        "variance": "input.variance" if given.variance is None else "",
        "correlation": "input.correlation" if given.correlation is None and found.correlation is not None else "",
        "autocorrelation": (
            "input.autocorrelation" if given.autocorrelation is None and found.input_autocorrelation is not None else ""
        ),
        "padding": "input.padding" if given.padding is None and found.padding is not None else "",
    }
    rows = [
        ("sequences", f"{sequences:,}", ""),
        ("steps", f"{steps:,}", fields["T"]),
        ("features", f"{features:,}", ""),
        ("second moment", _number(found.second_moment), fields["variance"]),
        ("means of the columns", _range(found.columns.mean), ""),
        ("variances of the columns", _range(found.columns.variance), ""),
        ("correlation of sequences", _number(found.correlation), fields["correlation"]),
    ]
    rows += [
        (f"correlation in time, lag {lag}", _number(r), fields["autocorrelation"] if lag == 1 else "")
        for lag, r in found.autocorrelation.items()
    ]
    if endings is not None:
        name = "padding" if endings.are_padding else "unchanging endings"
        rows += [
            (f"sequences with {name}", f"{endings.sequences:,}", ""),
            (f"{name}, share of all steps", f"{100 * endings.share:.3g} %", ""),
            (f"{name}, second moment", _number(endings.power), fields["padding"]),
        ]
    return render(f"inputs in {Path(file).name}", ("measured", "", "in the spec"), rows, stream=sys.stderr)


def _notes(found: InputStatistics, given: Inputs) -> Iterator[str]:
    """What the table leaves open: how its numbers enter the spec."""
    yield from found.notes
    if given.correlation is None and found.correlation is None:
        why = "one sequence has none to be compared with" if found.shape[0] == 1 else "zeros have no correlation"
        yield f"{why}: input.correlation is 1; --input-correlation states another"
    elif given.correlation is None and found.correlation is not None and found.correlation < 0.0:
        yield "the correlation of sequences is negative; a spec states 0"
    a = found.input_autocorrelation
    if given.autocorrelation is None and a is not None:
        far = [(lag, r) for lag, r in found.autocorrelation.items() if abs(r - a**lag) > _OTHERWISE]
        for lag, r in far[:1]:
            yield f"the correlation in time at lag {lag} is {r:.2g}; theory takes that at lag 1, {a:.2g}, to its power"
    if found.padding is not None:
        yield "sequences end in long stretches of one value: padding, left out of the second moment and correlation"
    elif found.endings is not None and given.padding is None:
        yield (
            f"some sequences end in unchanging steps, which may be padding ({found.endings.why}); "
            "the spec leaves input.padding unknown: state it with --padding-variance"
        )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _range(values: Array) -> str:
    low, high = float(values.min()), float(values.max())
    return _number(low) if low == high else f"{_number(low)} to {_number(high)}"
