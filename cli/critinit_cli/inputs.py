"""What a spec takes from options and from a file of data, for ``critinit spec``."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from critinit_cli.output import complain
from critinit_cli.progress import progress_bars
from critinit_cli.tables import render

if TYPE_CHECKING:
    from critinit.dual import Array
    from critinit.inputs import InputStatistics

__all__ = ["Inputs", "Reading", "measured"]


_OTHERWISE = 0.2
"""How far the correlation at a lag may be from the lag-th power of that at lag 1 without a note."""


class Inputs(NamedTuple):
    """What is known of a network's inputs; None where nothing is.

    Attributes:
        T: Sequence length in steps.
        variance: Mean square of an input number.
        correlation: Correlation of the inputs of the two perturbed copies whose distance χ describes.
        autocorrelation: Correlation of the input with that of the step before.
        spectrum: Powers of the input about its mean in equal bins of frequency, as ``critinit.generate`` takes them.
        padding: Inputs that carry no information, likewise.
        size: Numbers in one input.
    """

    T: int | None
    variance: float | None
    correlation: float | None
    autocorrelation: float | None
    spectrum: tuple[float, ...] | None
    padding: Mapping[str, Any] | None
    size: int | None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``critinit.generate``, its defaults where nothing is known."""
        return {
            "T": self.T,
            "input_variance": 1.0 if self.variance is None else self.variance,
            "input_correlation": 1.0 if self.correlation is None else self.correlation,
            "input_autocorrelation": self.autocorrelation,
            "input_spectrum": self.spectrum,
            "padding": self.padding,
            "input_size": self.size,
        }

    def completed(self, other: Inputs) -> Inputs:
        """Return what is known, and what ``other`` knows where nothing is."""
        return other._replace(**{name: value for name, value in self._asdict().items() if value is not None})


class Reading(NamedTuple):
    """How a file is to be read, as the options say it; None where they do not.

    Attributes:
        layout: The axes as they are stored.
        array: Which array of a file with several.
        columns: The columns that are inputs, or are none, with commas between.
        group: The columns that name the sequence of a row, with commas between.
        time: The column by which rows are ordered.
        csv: How text is written, OPTION=VALUE each.
        missing: What to do about steps that lack a number: "refuse" or "drop".
    """

    layout: str | None = None
    array: str | None = None
    columns: str | None = None
    group: str | None = None
    time: str | None = None
    csv: tuple[str, ...] = ()
    missing: str | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``critinit.inputs.measure``."""
        return {
            "layout": self.layout,
            "array": self.array,
            "columns": None if self.columns is None else _names(self.columns),
            "group": () if self.group is None else _names(self.group),
            "time": self.time,
            "csv": dict(map(_setting, self.csv)) or None,
            "missing": self.missing or "refuse",
        }


def _names(text: str) -> list[str]:
    """Names with commas between; one with a comma in it is quoted."""
    (names,) = csv.reader([text], skipinitialspace=True)
    return [name.strip() for name in names]


def _setting(text: str) -> tuple[str, Any]:
    """An option of text tables and its value, which is JSON where it parses as JSON."""
    name, equals, value = text.partition("=")
    if not equals:
        from critinit.errors import ArgumentError

        raise ArgumentError("csv", found=repr(text), allowed="OPTION=VALUE, such as decimal_point=,")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value.replace("\\t", "\t")


def measured(file: str, given: Inputs, reading: Reading, *, spectrum: bool) -> Inputs:
    """Measure a file, show on stderr what was found, and return the inputs that the spec is for.

    Args:
        file: The file.
        given: What the options state; it goes before what is measured.
        reading: How the file is to be read.
        spectrum: Whether the spec takes the spectrum.

    Raises:
        FileError: The file cannot be read.
        DataError: It does not hold finite numbers in such a shape, ids of tokens, or sequences of one step.
        ArgumentError: An argument does not fit the file.
        MissingExtraError: What reads such files is not installed.
    """
    from critinit.errors import DataError
    from critinit.inputs import measure

    tokens: Any = "refuse" if given.variance is None else "length"
    # what is stated of the correlation in time says of it what a spectrum says too
    spectrum = spectrum and given.autocorrelation is None
    with progress_bars() as start:
        move = start("numbers read")
        found = measure(
            file, tokens=tokens, spectrum=spectrum, progress=lambda done: move(done, None), **reading.arguments()
        )
    if given.T is None and found.shape[1] == 1:
        (hint,) = found.warnings()
        hint = f"{hint.partition(': ')[2]}; or state the length with --T"
        raise DataError(found="one step", allowed="sequences of two steps or more", hint=hint, source=file)
    result = given.completed(_stated(found))
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(_table(file, found, given, result), end="", file=sys.stderr, flush=True)
    for note in _notes(found, given):
        complain("note", note)
    for warning in () if found.ids else found.warnings():
        complain("warning", f"{file}: {warning}")
    return result


def _stated(found: InputStatistics) -> Inputs:
    """What a spec takes of the statistics; of ids of tokens the length alone."""
    if found.ids:
        return Inputs(found.steps_after_padding, None, None, None, None, None, None)
    return Inputs(
        found.steps_after_padding,
        found.input_variance,
        found.input_correlation,
        found.input_autocorrelation,
        found.input_spectrum,
        found.padding,
        found.shape[2],
    )


def _table(file: str, found: InputStatistics, given: Inputs, result: Inputs) -> str:
    """What was measured, and what the spec has: that, or what the options state."""
    sequences, steps, features = found.shape

    def field(name: str, value: object, stated: object) -> str:
        shown = f"{value:.6g}" if isinstance(value, float) else f"{value}"
        return f"{name} {shown}{', as stated' if stated is not None else ''}"

    T, variance, correlation, padding = result.T, result.variance, result.correlation, result.padding
    a = result.autocorrelation
    power = "unknown" if padding is None else f"variance {padding['variance']:.6g}"
    fields = {
        "T": field("T", T, given.T),
        "variance": field("input.variance", variance, given.variance),
        "correlation": field("input.correlation", 1.0 if correlation is None else correlation, given.correlation),
        "autocorrelation": "" if a is None else field("input.autocorrelation", a, given.autocorrelation),
        "padding": field("input.padding", power, given.padding),
    }
    before, behind = found.beginnings, found.endings
    padded = [(where, part) for where, part in (("before", before), ("behind", behind)) if part is not None]
    rows = [("sequences", f"{sequences:,}", ""), ("steps", f"{steps:,}", fields["T"] if _plain(found) else "")]
    if not _plain(found):
        rows.append(("steps after the padding before", f"{found.steps_after_padding:,}", fields["T"]))
    if found.steps_without_padding < found.steps_after_padding:
        rows.append(("steps without padding", f"{found.steps_without_padding:,}", ""))
    rows += [
        ("features", f"{features:,}", ""),
        ("second moment", _number(found.second_moment), fields["variance"]),
        ("means of the columns", _range(found.columns.mean), ""),
        ("variances of the columns", _range(found.columns.variance), ""),
        ("correlation of sequences", _number(found.correlation), fields["correlation"]),
    ]
    rows += [
        (f"correlation in time, lag {lag}", _number(r), fields["autocorrelation"] if lag == 1 else "")
        for lag, r in ({1: None} | dict(found.autocorrelation)).items()
    ]
    for where, stretches in padded:
        name = f"{stretches.kind} {where} sequences"
        rows += [
            (f"{name}, in", f"{stretches.sequences:,} of them", ""),
            (f"{name}, share of all steps", f"{100 * stretches.share:.3g} %", ""),
            (f"{name}, second moment", _number(stretches.power), fields["padding"] if where == "behind" else ""),
        ]
    if behind is None:
        rows.append(("padding behind sequences", "none found", fields["padding"]))
    return render(f"inputs in {Path(file).name}", ("", "measured", "in the spec"), rows, left=(0, 2), stream=sys.stderr)


def _plain(found: InputStatistics) -> bool:
    """Whether nothing is left out of the length."""
    return found.steps_after_padding == found.shape[1]


def _notes(found: InputStatistics, given: Inputs) -> Iterator[str]:
    """What the table leaves open: how its numbers enter the spec."""
    yield from found.notes
    if found.ids:
        rows = "; where a row is a sequence, --layout NT says so" if found.shape[2] > 1 else ""
        yield f"the numbers are {found.ids}, which look like ids of tokens: the spec takes their length alone{rows}"
        return
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

    if found.beginnings is not None and found.beginnings.are_padding:
        yield "sequences begin with long stretches of one value: padding, left out of T, second moment and correlations"
    if found.padding is not None:
        yield "sequences end in long stretches of one value: padding, left out of the second moment and correlations"
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
