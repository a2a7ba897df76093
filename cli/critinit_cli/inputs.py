"""Measuring the inputs in a file for ``critinit spec --data``, and saying on stderr what was found."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from critinit_cli.output import complain
from critinit_cli.progress import progress_bars
from critinit_cli.tables import render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from critinit.inputs import InputStatistics
    from critinit.dual import Array

__all__ = ["Measured", "measured"]


class Measured(NamedTuple):
    """What a spec takes from data: T, the number of features, and the numbers of its ``input`` by their names."""

    T: int
    features: int
    inputs: dict[str, float | None]


def measured(file: str, *, layout: str | None, array: str | None, columns: str | None) -> Measured:
    """Measure ``file``, show what was found and warn of what is unscaled; ``columns`` has commas between names.

    Raises what ``critinit.inputs.measure`` does.
    """
    from critinit.inputs import measure

    names = None if columns is None else [name.strip() for name in columns.split(",")]
    with progress_bars() as start:
        bar = start("numbers read")
        progress = None if bar is None else (lambda done: bar(done, None))
        found = measure(file, layout=layout, array=array, columns=names, progress=progress)
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(_table(file, found), end="", file=sys.stderr, flush=True)
    for note in _notes(found):
        complain("note", note)
    for warning in found.warnings():
        complain("warning", f"{file}: {warning}")
    _, steps, features = found.shape
    inputs = {
        "variance": found.input_variance,
        "correlation": found.input_correlation,
        "null_variance": found.null_variance,
    }
    return Measured(steps, features, inputs)


def _table(file: str, found: InputStatistics) -> str:
    """What was measured, and the spec's fields that take it."""
    sequences, steps, features = found.shape
    padding = found.padding
    rows = [
        ("sequences", f"{sequences:,}", ""),
        ("steps", f"{steps:,}", "T"),
        ("features", f"{features:,}", ""),
        ("second moment", _number(found.second_moment), "input.variance"),
        ("means of the columns", _range(found.columns.mean), ""),
        ("variances of the columns", _range(found.columns.variance), ""),
        ("correlation of sequences", _number(found.correlation), "input.correlation" if sequences > 1 else ""),
    ]
    rows += [(f"correlation in time, lag {lag}", _number(r), "") for lag, r in found.autocorrelation.items()]
    if padding is not None:
        rows += [
            ("sequences that end in padding", f"{padding.sequences:,}", ""),
            ("padding, share of all steps", f"{100 * padding.share:.3g} %", ""),
            ("padding, second moment", _number(padding.power), "input.null_variance" if padding.certain else ""),
        ]
    return render(f"inputs in {Path(file).name}", ("measured", "", "in the spec"), rows, stream=sys.stderr)


def _notes(found: InputStatistics) -> Iterator[str]:
    """What the table leaves open: how its numbers enter the spec."""
    yield from found.notes
    if found.correlation is None:
        why = "one sequence has none to be compared with" if found.shape[0] == 1 else "zeros have no correlation"
        yield f"{why}: input.correlation is 1 unless --input-correlation says more"
    elif found.correlation < 0.0:
        yield "the correlation of sequences is negative; a spec states 0"
    padding = found.padding
    if padding is not None and padding.certain:
        yield "sequences end in long stretches of one value: padding, left out of the second moment and correlation"
    elif padding is not None:
        yield (
            f"some sequences end in unchanging steps, which may be padding ({padding.why}); "
            "input.null_variance is not taken from them: state it with --null-variance"
        )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _range(values: Array) -> str:
    low, high = float(values.min()), float(values.max())
    return _number(low) if low == high else f"{_number(low)} to {_number(high)}"
