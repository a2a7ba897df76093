"""Columns of Arrow as numbers, and in one line what is none."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from critinit.dual import Array
from critinit.errors import DataError, MissingExtraError
from critinit.inputs.chunks import leave_out

try:
    import pyarrow as pa
    from pyarrow import compute
except ImportError:
    raise MissingExtraError("pyarrow", "data") from None

__all__ = ["PLAIN", "Numerals", "are_numbers", "check_types", "is_list", "numbers", "place", "times"]

_MARKS = re.compile(r"\W{1,3}|none|missing|nil|nodata|n\.?d\.?|unknown", re.IGNORECASE)
"""Cells that may stand for a missing number."""
_GROUPED = re.compile(r"[-+]?[1-9]\d{0,2}(?P<group>[,.' _\u00a0\u202f])\d{3}((?P=group)\d{3})*((?P<point>[,.])\d*)?")
_DECORATED = re.compile(r"[^\w.,]*(0x[0-9a-f]+|\d+([.,]\d{3})*([.,]\d+)?)[^\w.,]*", re.IGNORECASE)
"""A number with signs around it, such as those of a currency or a share; or one that is not decimal."""
_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?|[-+]?\d+,")


class Numerals(NamedTuple):
    """How numbers are written in text: what stands before decimals, and between thousands."""

    decimal_point: str = "."
    thousands: str = ""


PLAIN = Numerals()
"""A decimal point, and no separated thousands."""


def place(row: int, label: str) -> str:
    """Return where a cell stands; rows count from 0, without the line of names."""
    return f"row {row}, column {label if label.isprintable() else ascii(label)}"


def is_list(kind: Any) -> bool:
    """Return whether a column of this type has a list in each cell."""
    t = pa.types
    return bool(t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind))


def check_types(name: str, labels: Sequence[str], types: Sequence[Any]) -> None:
    """Refuse columns of a type that never is a number, all of them at once.

    Raises:
        DataError: There is one.
    """
    unfit = {label: kind for label, kind in zip(labels, types, strict=True) if not _may_be_numbers(kind)}
    if unfit:
        label, kind = next(iter(unfit.items()))
        raise DataError(
            f"column {label}", found=f"{kind}", allowed="numbers", hint=_no_number(list(unfit)), source=name
        )


def _may_be_numbers(kind: Any) -> bool:
    """Whether the values of a type are numbers, or texts that may be."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    t = pa.types
    return bool(
        is_text(kind) or t.is_integer(kind) or t.is_floating(kind) or t.is_boolean(kind) or t.is_decimal(kind)
        or t.is_null(kind)
    )  # fmt: skip


def is_text(kind: Any) -> bool:
    """Return whether a column of this type holds texts."""
    t = pa.types
    return bool(t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind))


def _no_number(labels: Sequence[str]) -> str:
    """The way out for columns that hold no numbers."""
    what = "group= (--group) names the sequence, time= (--time) orders the rows"
    return f"leave it out: {leave_out(labels)}; or say what it is: {what}"


def numbers(
    name: str, columns: Sequence[Any], labels: Sequence[str], at: int, written: Numerals = PLAIN, steps: str = ""
) -> Array:
    """Return the numbers in columns, (rows, columns), NaN where a cell is empty.

    Args:
        name: The table, for messages.
        columns: Arrow's arrays.
        labels: Their names.
        at: The number of their first row.
        written: How numbers in texts are written.
        steps: What the rows are called in messages where they are no rows of the table.

    Raises:
        DataError: A cell is no number.
    """
    found, unfit = [], []
    for column, label in zip(columns, labels, strict=True):
        try:
            found.append(_floats(column, written))
        except pa.ArrowException:
            unfit.append((column, label))
    if not unfit:
        return np.stack(found, axis=1)
    rows = [next(n for n in range(len(column)) if not are_numbers(column[n : n + 1], written)) for column, _ in unfit]
    cells = [column[row].as_py() for row, (column, _) in zip(rows, unfit, strict=True)]
    hints = [_written(cell, written) for cell in cells]
    row, cell, label = rows[0], cells[0], unfit[0][1]
    where = f"{steps}, column {label}" if steps else place(at + row, label)
    hint = hints[0] or _no_number([label for (_, label), hint in zip(unfit, hints, strict=True) if not hint])
    if not hints[0] and at + row > 0:  # the rows before hold numbers there
        hint = f"correct the cell; or {hint}"
    elif not any(hints) and len(labels) > 1 and len(unfit) == len(labels) and not any(rows):
        hint = f"a second line of names or units: csv={{'skip_rows': 1}} (--csv skip_rows=1); else {hint}"
    raise DataError(where, found=reprlib.repr(cell), allowed="a number", hint=hint, source=name)


def _written(cell: Any, written: Numerals) -> str:
    """The option that reads a cell which looks like a number in another notation; empty where none does."""
    if not isinstance(cell, str):
        return ""
    text = cell.strip()
    comma = _option("decimal_point", ",")
    grouped = _GROUPED.fullmatch(text)
    hints = []
    if _COMMA.fullmatch(text) and written.decimal_point != ",":
        hints.append(f"a decimal comma: {comma}")
    if grouped and not written.thousands and grouped["group"] not in (written.decimal_point, grouped["point"]):
        more = f" and {comma}" if grouped["point"] == "," and written.decimal_point != "," else ""
        hints.append(f"separated thousands: {_option('thousands', grouped['group'])}{more}")
    elif grouped and not written.thousands and grouped["group"] == "." and grouped["point"] == ",":
        hints.append(f"separated thousands: {_option('thousands', '.')} and {comma}")
    elif not hints and _DECORATED.fullmatch(text):
        hints.append("write it as a plain number, such as -4.36, without other signs")
    elif not hints and _MARKS.fullmatch(text):
        hints.append(f"if it stands for a missing number: {_option('null_values', text)}, and missing= (--missing)")
    return "; ".join(hints)


def _option(name: str, value: str) -> str:
    """An option of text tables, in Python and on the command line."""
    setting = f"{name}={value}" if re.fullmatch(r"[\w.,-]+", value) else f'"{name}={value}"'
    return f"csv={{{name!r}: {value!r}}} (--csv {setting})"


def _floats(column: Any, written: Numerals) -> Array:
    """A column as floating-point numbers, NaN where a cell is empty."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if is_text(column.type):
        column = _plain(column, written)
        try:
            column = column.cast(pa.float64())
        except pa.ArrowException:
            column = column.cast(pa.bool_())
    found: Array = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return found


def _plain(column: Any, written: Numerals) -> Any:
    """Texts of numbers with a decimal point and no separated thousands; empty ones are missing."""
    column = compute.utf8_trim_whitespace(column)
    point, group = written
    if group:
        well = rf"^[-+]?[1-9]\d{{0,2}}({re.escape(group)}\d{{2,3}})*{re.escape(group)}\d{{3}}({re.escape(point)}\d*)?$"
        joined = compute.replace_substring(column, group, "")
        column = compute.if_else(compute.match_substring_regex(column, well), joined, column)
    if point != ".":
        column = compute.replace_substring(compute.replace_substring(column, ".", point * 2), point, ".")
    return compute.if_else(compute.equal(column, ""), None, column)


def are_numbers(cells: Any, written: Numerals = PLAIN) -> bool:
    """Return whether all cells are numbers, or empty."""
    try:
        _floats(cells, written)
    except pa.ArrowException:
        return False
    return True


def times(
    name: str, column: Any, label: str, at: int, written: Numerals, formats: Sequence[str]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return what rows are ordered by as numbers, and which rows lack it.

    Args:
        name: The table, for messages.
        column: Arrow's array: numbers, dates, times, or texts of these.
        label: Its name.
        at: The number of its first row.
        written: How numbers in texts are written.
        formats: Formats of dates, beside ISO 8601.

    Raises:
        DataError: A cell is neither a number nor a date.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if is_text(column.type):
        column = _read_times(name, _plain(column, PLAIN), label, at, written, formats)
    kind = column.type
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        column = column.cast(pa.int32() if pa.types.is_date32(kind) or pa.types.is_time32(kind) else pa.int64())
    elif not _may_be_numbers(kind):
        raise DataError(f"column {label}", found=f"{kind}", allowed="numbers, dates or times", source=name)
    elif not pa.types.is_integer(kind):
        column = column.cast(pa.float64(), safe=False)
    lack = np.asarray(column.is_null(nan_is_null=True))
    if pa.types.is_null(column.type):
        return np.zeros(len(column)), lack
    found = column.fill_null(0).to_numpy(zero_copy_only=False)
    return np.where(lack, 0, found), lack


def _read_times(name: str, column: Any, label: str, at: int, written: Numerals, formats: Sequence[str]) -> Any:
    """Texts as the first of numbers, dates and times that all of them are."""
    readings: list[Callable[[Any], Any]] = [
        partial(_cast, kind=pa.int64()),
        lambda cells: _plain(cells, written).cast(pa.float64()),
        *(partial(compute.strptime, format=f, unit="us") for f in formats),
        *(partial(_cast, kind=pa.timestamp(unit, zone)) for unit in ("us", "ns") for zone in (None, "UTC")),
        partial(_cast, kind=pa.time64("ns")),
    ]
    furthest = 0
    for reading in readings:
        try:
            return _seconds(reading(column))
        except pa.ArrowException:
            row = next(row for row in range(len(column)) if not _reads(reading, column[row : row + 1]))
            furthest = max(furthest, row)
    hint = f"dates in another format than ISO 8601: {_option('timestamp_parsers', '%d.%m.%Y')}"
    cell = reprlib.repr(column[furthest].as_py())
    raise DataError(place(at + furthest, label), found=cell, allowed="a number or a date", hint=hint, source=name)


def _cast(cells: Any, kind: Any) -> Any:
    return cells.cast(kind)


def _seconds(column: Any) -> Any:
    """Dates and times as seconds, whichever units they were read in; numbers as they are."""
    if not pa.types.is_temporal(column.type):
        return column
    units = {"us": 1e6, "ns": 1e9}[column.type.unit]
    return compute.divide(column.cast(pa.int64()).cast(pa.float64(), safe=False), units)


def _reads(reading: Callable[[Any], Any], cells: Any) -> bool:
    """Whether a reading takes all cells."""
    try:
        reading(cells)
    except pa.ArrowException:
        return False
    return True
