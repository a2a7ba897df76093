"""How a table of text is written: pyarrow's options under pyarrow's names, and one for separated thousands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from critinit.errors import ArgumentError

__all__ = ["TextOptions", "text_options"]

_PATTERNS = "null_values", "timestamp_parsers", "column_names"
"""Options that are lists of texts; one text alone is a list of one."""
_CHARACTERS = "delimiter", "quote_char", "escape_char", "decimal_point", "thousands"


class TextOptions(NamedTuple):
    """The options; what is left out is pyarrow's default or found from the first line.

    Attributes:
        encoding: The encoding of the text.
        skip_rows: Lines before the table.
        column_names: The names of the columns; the file then has no line of names.
        autogenerate_column_names: Whether the first line is no line of names; None: it is one unless all of it is
            numbers.
        delimiter: What stands between cells; None: the first of tab, semicolon, comma, blank that the line holds.
        quote_char: What quotes a cell; None: nothing does.
        double_quote: Whether two of these within a quoted cell are one.
        escape_char: What escapes the next character; None: nothing does.
        newlines_in_values: Whether a quoted cell may have several lines.
        decimal_point: What stands before the decimals.
        null_values: What stands for a missing number, beside what pyarrow takes for one (an empty cell, NA, null, …).
        timestamp_parsers: Formats of the dates that rows are ordered by, such as "%d.%m.%Y", beside ISO 8601.
        thousands: What separates thousands; no option of pyarrow.
    """

    encoding: str = "utf8"
    skip_rows: int = 0
    column_names: tuple[str, ...] = ()
    autogenerate_column_names: bool | None = None
    delimiter: str | None = None
    quote_char: str | None = '"'
    double_quote: bool = True
    escape_char: str | None = None
    newlines_in_values: bool = False
    decimal_point: str = "."
    null_values: tuple[str, ...] = ()
    timestamp_parsers: tuple[str, ...] = ()
    thousands: str = ""


_KINDS: dict[str, type] = {
    "skip_rows": int,
    "autogenerate_column_names": bool,
    "double_quote": bool,
    "newlines_in_values": bool,
}


def text_options(given: Mapping[str, Any] | None) -> TextOptions:
    """Return the options that a caller gives.

    Raises:
        ArgumentError: There is no such option, or it has another kind of value.

    Example:
        >>> text_options({"decimal_point": ",", "null_values": "?"}).null_values
        ('?',)
    """
    return TextOptions(**{name: _checked(name, value) for name, value in (given or {}).items()})


def _checked(name: str, value: Any) -> Any:
    if name not in TextOptions._fields:
        raise ArgumentError("csv", found=repr(name), allowed=", ".join(TextOptions._fields))
    if name in _PATTERNS:
        values = [value] if isinstance(value, str) else value
        if isinstance(values, (list, tuple)) and values and all(isinstance(item, str) for item in values):
            return tuple(values)
        raise _refused(name, value, "a text, or a list of texts")
    if name in _KINDS:
        if isinstance(value, int) and type(value) is _KINDS[name] and value >= 0:
            return value
        raise _refused(name, value, "true or false" if _KINDS[name] is bool else "a number of lines")
    if name in ("quote_char", "escape_char") and (value is None or value is False):
        return None
    if not isinstance(value, str) or not value or (name in _CHARACTERS and len(value) != 1):
        raise _refused(name, value, "one character" if name in _CHARACTERS else "a text")
    if name == "encoding":
        try:
            "".encode(value)
        except LookupError:
            raise _refused(name, value, "an encoding such as utf8, utf-16, latin-1 or cp1252") from None
    return value


def _refused(name: str, value: Any, allowed: str) -> ArgumentError:
    return ArgumentError(f"csv.{name}", found=repr(value), allowed=allowed)
