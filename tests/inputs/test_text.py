"""Tables of text in many notations: each is read by its options, and refused without them, with the way out."""

from __future__ import annotations

import ast
import bz2
import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from critinit.errors import ArgumentError, DataError
from critinit.inputs import measure
from tests.inputs.samples import close

pytest.importorskip("pyarrow")

NUMBERS = np.array([[1234.5, -2.0], [0.25, 1_234_567.125], [-3.0, 4.5]])

WRITTEN = {
    "decimal commas": ("a;b\n1234,5;-2\n0,25;1234567,125\n-3;4,5\n", {"decimal_point": ","}),
    "German": ("a;b\n1.234,5;-2\n0,25;1.234.567,125\n-3;4,5\n", {"decimal_point": ",", "thousands": "."}),
    "English": ('a,b\n"1,234.5",-2\n0.25,"1,234,567.125"\n-3,4.5\n', {"thousands": ","}),
    "Indian": ('a,b\n"1,234.5",-2\n0.25,"12,34,567.125"\n-3,4.5\n', {"thousands": ","}),
    "Swiss": ("a;b\n1'234.5;-2\n0.25;1'234'567.125\n-3;4.5\n", {"thousands": "'"}),
    "French": ("a;b\n1\u202f234,5;-2\n0,25;1\u202f234\u202f567,125\n-3;4,5\n",
               {"decimal_point": ",", "thousands": "\u202f"}),
    "exponents": ("a;b\n1,2345E+3;-2,\n,25;1,234567125e6\n-3;4,5\n", {"decimal_point": ","}),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITTEN)
def test_numbers_are_read_as_they_are_written(tmp_path: Path, kind: str) -> None:
    """Following the hints of the errors, one after the other, leads to the options."""
    text, options = WRITTEN[kind]
    path = tmp_path / "x.csv"
    path.write_text(text, encoding="utf-8")
    close(measure(path, csv=options), measure(NUMBERS))
    followed: dict[str, Any] = {}
    while followed != options:
        with pytest.raises(DataError) as error:
            measure(path, csv=followed)
        before = dict(followed)
        for hint in re.findall(r"csv=(\{.*?\})", error.value.hint):
            followed |= ast.literal_eval(hint)
        assert followed != before, error.value


@pytest.mark.parametrize(
    ("cell", "options"),
    [("1,5", {"thousands": ","}), ("1.5", {"decimal_point": ","}), ("12,34.5", {"thousands": ","}), ("1'2", {})],
)
def test_a_wrong_option_never_changes_a_number(tmp_path: Path, cell: str, options: dict[str, str]) -> None:
    (tmp_path / "x.csv").write_text(f"a;b\n1;2\n{cell};3\n")
    with pytest.raises(DataError, match=r"row 1, column a: found "):
        measure(tmp_path / "x.csv", csv=options)


def test_options_of_pyarrow_are_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    wanted = measure(np.array([[1.0, 2.0], [3.0, 4.0]]))
    for text, options, names in (
        ("a|b\n1|2\n3|4\n", {"delimiter": "|"}, ("a", "b")),
        ("Report of May\nby the machine\na,b\n1,2\n3,4\n", {"skip_rows": 2}, ("a", "b")),
        ("1,2\n3,4\n", {"column_names": ["x", "y"]}, ("x", "y")),
        ("2001,2002\n1,2\n3,4\n", {"autogenerate_column_names": False}, ("2001", "2002")),
        ("'a,1',b\n'1',2\n3,4\n", {"quote_char": "'"}, ("a,1", "b")),
        ('a,"b\n"\n1,2\n3,4\n'.replace("\n", "", 1), {"newlines_in_values": True}, ("a", "b")),
        ("a,b\n1,2\n3,4\n5,?\n?,?\n", {"null_values": "?"}, ("a", "b")),
        ("a,b\n1,2\n3,4\n5,-\n.,7\n", {"null_values": ["-", "."]}, ("a", "b")),
    ):
        path.write_text(text)
        found = measure(path, csv=options, missing="drop")
        close(found, wanted)
        assert found.columns.names == names
    for ending, opened in ((".gz", gzip.open), (".bz2", bz2.open)):
        packed = tmp_path / f"x.csv{ending}"
        with opened(packed, "wt") as stream:
            stream.write("a,b\n1,2\n3,4\n")
        close(measure(packed), wanted)


def test_lines_before_a_table_are_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("Report, of May, 2024\na,b\n1,2\n3,4\n")
    with pytest.raises(DataError, match=r"row 0: found 2 cells; .*--csv skip_rows=1") as error:
        measure(path)
    options = ast.literal_eval(re.findall(r"csv=(\{.*?\})", error.value.hint)[-1])
    close(measure(path, csv=options), measure(np.array([[1.0, 2.0], [3.0, 4.0]])))


def test_one_column_is_not_taken_apart(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    wanted = measure(np.array([1.5, -2.25]))
    for text, options in (
        ("1,5\n-2,25\n", {"decimal_point": ","}),
        ("speed\n1,5\n-2,25\n", {"decimal_point": ",", "delimiter": ";"}),
        ("1.5\n-2.25\n", {}),
        ("speed\n1.5\n-2.25\n", {}),
        ("speed, m/s\n1.5\n-2.25\n", {"delimiter": ";"}),
    ):
        path.write_text(text)
        close(measure(path, csv=options), wanted)


def test_texts_of_truth_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\nTrue,1\nfalse,0\n")
    close(measure(tmp_path / "x.csv"), measure(np.array([[1.0, 1.0], [0.0, 0.0]])))


@pytest.mark.parametrize("mark", ["?", "-", "missing", "..", "None"])
def test_a_mark_for_missing_numbers_is_asked_about(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"a,b\n1,2\n{mark},4\n3,4\n")
    with pytest.raises(DataError, match=r"if it stands for a missing number: csv=\{'null_values': ") as error:
        measure(path)
    options = ast.literal_eval(re.findall(r"csv=(\{.*?\})", error.value.hint)[0])
    with pytest.raises(DataError, match=r"found no number \(nan\).*--missing drop"):
        measure(path, csv=options)
    close(measure(path, csv=options, missing="drop"), measure(np.array([[1.0, 2.0], [3.0, 4.0]])))


def test_options_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1,2\n3,4\n")
    for options, says in (
        ({"sep": ";"}, "csv: found 'sep'; allowed: encoding, skip_rows, "),
        ({"delimiter": ";;"}, "csv.delimiter: found ';;'; allowed: one character"),
        ({"encoding": "klingon"}, "csv.encoding: found 'klingon'; allowed: an encoding such as utf8"),
        ({"skip_rows": -1}, "csv.skip_rows: found -1; allowed: a number of lines"),
        ({"skip_rows": True}, "csv.skip_rows: found True; allowed: a number of lines"),
        ({"double_quote": 1}, "csv.double_quote: found 1; allowed: true or false"),
        ({"null_values": 3}, "csv.null_values: found 3; allowed: a text, or a list of texts"),
        ({"column_names": ["a"]}, "csv.column_names: found 1 names for 2 columns; allowed: one for each"),
    ):
        with pytest.raises(ArgumentError) as error:
            measure(tmp_path / "x.csv", csv=options)
        assert says in str(error.value)
    with pytest.raises(DataError, match="found no line"):
        measure(tmp_path / "x.csv", csv={"skip_rows": 9})
