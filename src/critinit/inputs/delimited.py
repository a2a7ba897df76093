"""Tables of text, which pyarrow reads batch by batch; what their first line says is found here."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from critinit.errors import ArgumentError, DataError, MissingExtraError
from critinit.inputs.opened import Opened
from critinit.inputs.table_cells import Numerals, are_numbers
from critinit.inputs.text_options import TextOptions

try:
    import pyarrow as pa
    from pyarrow import csv as text
except ImportError:
    raise MissingExtraError("pyarrow", "data") from None

__all__ = ["delimited"]

_LONGEST_LINE = 2**24
"""Characters that are read of the first line; a line of names for 2**20 columns has fewer."""
_BATCH = 2**20
"""Bytes of text in a batch; pyarrow's own default."""
_CELL = 64
"""Bytes for each cell that a batch must have room for; a number in full precision has 25."""
_DELIMITERS = "\t;, "
"""What may stand between cells; the first that the line holds is taken, for commas and blanks may be part of cells."""

_STATED = re.compile(r'"?sep=(.)"?[\s,;]*', re.IGNORECASE)
"""The line before the table that says to Excel what stands between cells."""


def delimited(name: str, options: TextOptions) -> Opened:
    """Open a table of text; its first line holds names where not all of it is numbers, or where it counts the columns.

    Args:
        name: The file.
        options: How it is written.

    Raises:
        DataError: It has no line, or one that cannot be taken apart.
        ArgumentError: The options name another number of columns.
    """
    try:
        line, number = _first_line(name, options)
        stated = _STATED.fullmatch(line)
        if stated:
            options = options._replace(delimiter=options.delimiter or stated[1], skip_rows=number)
            line, number = _first_line(name, options)
    except UnicodeError:
        raise _encoding(name, options) from None
    written = Numerals(options.decimal_point, options.thousands)
    delimiter = options.delimiter or _delimiter(name, line, options)
    reader = csv.reader([line], delimiter=delimiter, **_quoting(options))
    cells = [cell.strip() for cell in next(reader)]
    keys = [str(n) for n in range(len(cells))]
    null_values = [*text.ConvertOptions().null_values, *options.null_values]
    if options.column_names and len(options.column_names) != len(cells):
        found = f"{len(options.column_names)} names for {len(cells)} columns"
        raise ArgumentError("csv.column_names", found=found, allowed="one for each")
    header = not options.column_names and not options.autogenerate_column_names
    if header and options.autogenerate_column_names is None:
        filled = [cell for cell in cells if cell not in null_values]
        counted = len(filled) > 1 and filled == keys[: len(filled)]
        header = counted or not are_numbers(pa.array(filled, pa.string()), written)
    names = [cell or key for cell, key in zip(cells, keys, strict=True)] if header else options.column_names or None
    skipped = number if header else number - 1

    def batches(chosen: Sequence[str], _: int) -> Iterator[Any]:
        if header and not line.endswith("\n"):  # pyarrow takes a file without rows for a damaged one
            return
        yield from _batches(name, options, delimiter, keys, skipped, null_values, chosen, 2 * len(line))

    return Opened(keys, names, None, batches)


def _batches(
    name: str,
    options: TextOptions,
    delimiter: str,
    keys: Sequence[str],
    skipped: int,
    null_values: Sequence[str],
    chosen: Sequence[str],
    least: int,
) -> Iterator[Any]:
    """Batches of the chosen columns, all of them texts, so that what is no number can be shown as it stands."""
    ragged: list[Any] = []

    def refuse(row: Any) -> str:
        ragged.append(row)
        return "error"

    read = text.ReadOptions(
        use_threads=False,
        block_size=max(_BATCH, _CELL * len(keys), least),
        column_names=keys,
        skip_rows=skipped,
        encoding=options.encoding,
    )
    parse = text.ParseOptions(
        delimiter=delimiter,
        quote_char=options.quote_char or False,
        double_quote=options.double_quote,
        escape_char=options.escape_char or False,
        newlines_in_values=options.newlines_in_values,
        invalid_row_handler=refuse,
    )
    convert = text.ConvertOptions(
        column_types={key: pa.string() for key in chosen},
        include_columns=list(chosen),
        null_values=null_values,
        strings_can_be_null=True,
    )
    try:
        yield from text.open_csv(name, read, parse, convert)
    except UnicodeError:
        raise _encoding(name, options) from None
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise _encoding(name, options) from None
        if not ragged:
            raise
        found, allowed = f"{ragged[0].actual_columns} cells", f"{len(keys)}, as in the first line"
        place = f"row {ragged[0].number - skipped - 1}"
        other = ";" if delimiter != ";" else ","
        hint = f"found {delimiter!r} between cells; another delimiter: csv={{'delimiter': {other!r}}} (--csv "
        hint += "'delimiter=;')" if other == ";" else "delimiter=,)"
        if delimiter == ",":
            hint += "; numbers with commas in them have to be quoted"
        if ragged[0].number == skipped + 1:
            hint += "; lines before the table: csv={'skip_rows': 1} (--csv skip_rows=1)"
        else:
            hint = f"correct this row; or {hint}"
        raise DataError(place, found=found, allowed=allowed, hint=hint, source=name) from None


def _encoding(name: str, options: TextOptions) -> DataError:
    """The error for text in another encoding."""
    with pa.input_stream(name) as stream:
        marked = stream.read(2) in (b"\xff\xfe", b"\xfe\xff")
    other = "utf-16" if marked else "latin-1" if options.encoding != "latin-1" else "utf8"
    hint = f"state the encoding: csv={{'encoding': {other!r}}} (--csv encoding={other})"
    return DataError(found=f"text that is not {options.encoding}", allowed="text", hint=hint, source=name)


def _quoting(options: TextOptions) -> dict[str, Any]:
    """The same options for Python's reader, which takes the first line apart."""
    quoting = csv.QUOTE_MINIMAL if options.quote_char else csv.QUOTE_NONE
    return {"quotechar": options.quote_char, "quoting": quoting, "doublequote": options.double_quote,
            "escapechar": options.escape_char}  # fmt: skip


def _delimiter(name: str, line: str, options: TextOptions) -> str:
    """What stands between the cells of a line: what stands in numbers too, where there is nothing else."""
    bare = re.sub('"[^"]*"', "", line)
    written = options.decimal_point + options.thousands
    possible = sorted(_DELIMITERS, key=written.__contains__)
    if are_numbers(pa.array([line.strip()]), Numerals(options.decimal_point, options.thousands)):
        return next(d for d in possible if d not in f"{bare}{written} ")
    ending = Path(name.lower()).suffixes
    delimiter = "\t" if ".tsv" in ending else next((d for d in possible if d in bare), ",")
    if delimiter == " " and ("  " in line or line != line.lstrip(" ")):
        hint = "numpy.loadtxt reads such files: save what it returns with numpy.save, and measure that"
        raise DataError(found="several blanks between cells", allowed="one delimiter", hint=hint, source=name)
    return delimiter


def _first_line(name: str, options: TextOptions) -> tuple[str, int]:
    """The first line that is not blank after those to skip, and its number from 1."""
    encoding = "utf-8-sig" if options.encoding.lower().replace("-", "") == "utf8" else options.encoding
    with pa.input_stream(name) as file, io.TextIOWrapper(file, encoding=encoding) as stream:
        for number, line in enumerate(iter(lambda: stream.readline(_LONGEST_LINE), ""), 1):
            if len(line) == _LONGEST_LINE:
                found = f"a first line of more than {_LONGEST_LINE:,} characters"
                raise DataError(found=found, allowed="a shorter one", source=name)
            if number > options.skip_rows and line.strip():
                return line, number
    raise DataError(found="no line", allowed="at least one row of numbers", source=name)
