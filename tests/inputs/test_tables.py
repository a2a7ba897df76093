"""Measuring tables: the same numbers in every format, as people write them, and what is wrong with a table."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import numpy as np
import pytest

from critinit.errors import ArgumentError, DataError, FileError, MissingExtraError
from critinit.inputs import measure
from tests.inputs.samples import close, padded, sequences

pa = pytest.importorskip("pyarrow")
feather = pytest.importorskip("pyarrow.feather")
parquet = pytest.importorskip("pyarrow.parquet")

TEXT = {".csv": ",", ".tsv": "\t", ".txt": " "}
ENDINGS = (*TEXT, ".parquet", ".pq", ".feather", ".arrow")


def write(path: Path, table: np.ndarray) -> Path:
    """Write a table in the format of the path; its columns are a, b and c, but in txt they have no names."""
    if path.suffix in TEXT:
        delimiter = TEXT[path.suffix]
        names = "" if path.suffix == ".txt" else delimiter.join("abc")
        np.savetxt(path, table, delimiter=delimiter, header=names, comments="", fmt="%.17g")
        if not names:
            path.write_text(path.read_text().removeprefix("\n"))
        return path
    columns = pa.table({name: table[:, i] for i, name in enumerate("abc")})
    (parquet.write_table if path.suffix in (".parquet", ".pq") else feather.write_feather)(columns, path)
    return path


@pytest.mark.parametrize("chunk_size", [5, 1000])
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_gives_the_same_numbers(tmp_path: Path, ending: str, chunk_size: int) -> None:
    table = padded()[0][0]
    path = write(tmp_path / f"x{ending}", table)
    close(measure(path, chunk_size=chunk_size), measure(table))
    wanted = ["2", "0"] if ending == ".txt" else ["c", "a"]
    chosen = measure(path, columns=[*wanted, wanted[0]], chunk_size=chunk_size)
    assert chosen.columns.names == tuple(wanted)
    close(chosen, measure(table[:, [2, 0]]))
    close(measure(path, layout="NT", chunk_size=chunk_size), measure(table, layout="NT"))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_table_is_never_loaded_whole(tmp_path: Path, ending: str) -> None:
    table = np.random.default_rng(1).standard_normal((1_000_000, 3))
    if ending in TEXT:
        table = np.tile(table[:10_000], (100, 1))
        path = write(tmp_path / f"x{ending}", table[:10_000])
        path.write_text(path.read_text()[0 if ending == ".txt" else len("a,b,c\n") :] * 100)
    else:
        path = write(tmp_path / f"x{ending}", table)
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        found = measure(path)
    finally:
        pa.set_memory_pool(before)
    assert found.shape == (1, 1_000_000, 3)
    assert found.second_moment == pytest.approx(np.mean(table**2), rel=1e-10)
    assert 0 < pool.max_memory() < path.stat().st_size


def test_tables_are_read_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    for text, names in (
        ("1;2\n3;4\n", ("0", "1")),
        ("\ufeffspeed, angle\n1,2\n\n3,4", ("speed", "angle")),
        ("0\t1\n1\t2\n3\t4\n", ("0", "1")),
        ('"a","b, c"\r\n"1","2"\r\n3,4\r\n', ("a", "b, c")),
        ("\n\na,a\n1, 2\n 3,4e0\n", ("a", "a")),
        (",b\n1,2\n3,4\n", ("0", "b")),
        ('"a; b","c\td"\n1,2\n3,4\n', ("a; b", "c\td")),
    ):
        path.write_text(text, encoding="utf-8")
        found = measure(path)
        assert (found.shape, found.columns.names) == ((1, 2, 2), names)
        assert found.second_moment == 7.5
        assert found.columns.mean == pytest.approx([2.0, 3.0])
    for name, text in (("x.csv", "5\n6\n7\n"), ("x.tsv", "speed, m/s\n5\n6\n7\n")):
        (tmp_path / name).write_text(text)
        assert measure(tmp_path / name).shape == (1, 3, 1)


def test_columns_of_any_type_of_number_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    columns = {"a": pa.array([1, 2**60 + 1]), "b": pa.array([True, False]), "c": pa.array([1.5, 2.5], pa.float32())}
    parquet.write_table(pa.table(columns), path)
    assert measure(path).columns.mean == pytest.approx([(2**60 + 2) / 2, 0.5, 2.0])


def test_a_missing_value_is_named_or_dropped(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for rows in ([1.0, None, 3.0], [1.0, float("nan"), 3.0]):
        parquet.write_table(pa.table({"a": [1.0, 2.0, 4.0], "b": rows}), path)
        with pytest.raises(
            DataError,
            match=r"x.parquet: row 1, column b: found no number \(nan\); allowed: finite numbers; "
            r'missing="drop" \(--missing drop\) leaves such steps out$',
        ):
            measure(path, chunk_size=2)
        found = measure(path, missing="drop", chunk_size=2)
        close(found, measure(np.array([[1.0, 1.0], [4.0, 3.0]])))
        assert found.notes == ("1 of 3 steps lack a number and were left out",)
        assert measure(path, columns=["a"]).shape == (1, 3, 1)
    csv = tmp_path / "x.csv"
    csv.write_text("NA,1\n2,3\n,5\n7,NaN\n8,9\n")
    close(measure(csv, missing="drop"), measure(np.array([[2.0, 3.0], [8.0, 9.0]])))
    csv.write_text("1,2,3\n4,5,\n,,\n7,8,9\n")
    found = measure(csv, layout="NT", missing="drop")
    close(found, measure([np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0]), np.array([7.0, 8.0, 9.0])]))


def test_columns_that_hold_no_numbers_are_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for value, where, shown in (
        ("Monday", "row 0, column day", "'Monday'"),
        (datetime.date(2020, 1, 2), "column day", "date32[day]"),
        (datetime.datetime(2020, 1, 2), "column day", "timestamp[us]"),
        (datetime.timedelta(1), "column day", "duration[us]"),
        (b"x", "column day", "binary"),
        ({"x": 1.0}, "column day", "struct<x: double>"),
    ):
        parquet.write_table(pa.table({"a": [1.0], "day": [value]}), path)
        with pytest.raises(DataError) as error:
            measure(path)
        assert error.value.where == where
        assert error.value.found == shown
        assert error.value.hint == (
            "leave it out: columns=['-day'] (--columns -day); "
            "or say what it is: group= (--group) names the sequence, time= (--time) orders the rows"
        )
        for columns in (["a"], ["-day"]):
            assert measure(path, columns=columns).shape == (1, 1, 1)


def test_all_columns_that_hold_no_numbers_are_named_at_once(tmp_path: Path) -> None:
    columns = {"a, b": ["x"], "c": [1.0], "-d": ["y"], "e": [[1.0]], "f": [datetime.date(2020, 1, 2)]}
    path = tmp_path / "x.csv"
    path.write_text('"a, b",c,-d\nx,1,y\n')
    with pytest.raises(DataError) as error:
        measure(path)
    assert "columns=['-a, b', '--d'] (--columns '\"-a, b\",--d'); or" in error.value.hint
    assert measure(path, columns=["-a, b", "--d"]).columns.names == ("c",)
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"columns of lists, such as e, and one without; .*'-a, b', '-c', '--d', '-f'"):
        measure(tmp_path / "x.parquet")


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    for ending in (".parquet", ".feather", ".arrow"):
        path = write(tmp_path / f"x{ending}", sequences()[0])
        for data in (path.read_bytes()[:-100], b"PAR1 not really", b""):
            path.write_bytes(data)
            with pytest.raises(DataError, match=rf"found no {ending} file, or a damaged one \(.*allowed: a wh"):
                measure(path)


COMMA = "a decimal comma: csv={'decimal_point': ','} (--csv decimal_point=,)"
OUT = "allowed: a number; leave it out: columns=['-day'] (--columns -day); or say what it is: group= (--group) names"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n3,nan\n", "row 1, column b: found no number (nan); allowed: finite numbers"),
        ("a,b\n1,2\n\n3,\n", "row 1, column b: found no number (nan); allowed: finite numbers"),
        ("1,2\n3,inf\n", "row 1, column 1: found inf; allowed: finite numbers"),
        ("1,2\n3,x\n", "row 1, column 1: found 'x'"),
        ("1,2\n3,1_0\n", "row 1, column 1: found '1_0'"),
        ("1,2\n3\n", "row 1: found 1 cells; allowed: 2, as in the first line"),
        (
            "a,b\n\n1,2\n3,4,5\n",
            "row 1: found 3 cells; allowed: 2, as in the first line; correct this row; or found ',' between cells",
        ),
        ("a,b\n1,2\n3,4\n5\n", "row 2: found 1 cells; allowed: 2, as in the first line; correct this row; or found"),
        ("a,b\n1,2\nTotal,3\n", "row 1, column a: found 'Total'; allowed: a number; correct the cell; or leave it out"),
        (
            "a,b\nm,s\n1,2\n",
            "row 0, column a: found 'm'; allowed: a number; a second line of names or units",
        ),
        (
            "a,b\n1,4.4%\n",
            "row 0, column b: found '4.4%'; allowed: a number; write it as a plain number",
        ),
        ("a,b\n1,\u22120.5\n", "row 0, column b: found '\u22120.5'; allowed: a number; write it as a plain number"),
        ("day,a\nMonday,1\n", "row 0, column day: found 'Monday'; " + OUT),
        (
            "day,a\n2020-01-02,1\n",
            "row 0, column day: found '2020-01-02'; " + OUT,
        ),
        ("a;b\n1;2\n3;1,5\n", "row 1, column b: found '1,5'; allowed: a number; " + COMMA),
        ("1,5;2,5\n3,5;4,5\n", "row 0, column 1,5: found '3,5'; allowed: a number; " + COMMA),
        (
            'a,b\n1,"1,234.5"\n',
            "row 0, column b: found '1,234.5'; allowed: a number; separated thousands: csv={'thousands': ','} (--csv ",
        ),
        ("a,b\n", "found no numbers"),
        ("a,b", "found no numbers"),
        ("", "found no line"),
        ("\n\n", "found no line"),
        ("1," + "2" * 200_000 + "\n", "(field larger than field limit"),
        ("\x00\x01\n1\n2\nx\n", "row 2, column '\\x00\\x01': found 'x'"),
        ("1  2\n3  4\n", "found several blanks between cells; allowed: one delimiter; numpy.loadtxt reads such files"),
    ],
)
def test_a_bad_table_is_told_in_a_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        measure(path)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_zero_before_a_comma_is_no_separated_thousand(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a;b\n1;0,126\n2;0,500\n")
    with pytest.raises(DataError) as error:
        measure(path)
    assert error.value.hint == COMMA
    with pytest.raises(DataError, match="found '0,126'"):
        measure(path, csv={"thousands": ","})


@pytest.mark.parametrize("ending", ["", ";;"])
def test_excels_line_on_the_delimiter_is_no_part_of_the_table(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(f"\ufeffsep=;{ending}\r\na;b\r\n1,5;2\r\n-3;4\r\n".encode())
    found = measure(path, csv={"decimal_point": ","})
    assert found.columns.names == ("a", "b")
    close(found, measure(np.array([[1.5, 2.0], [-3.0, 4.0]])))


def test_a_name_of_two_columns_names_neither(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b,a\n1,2,3\n4,5,7\n")
    for given in ({"columns": ["a"]}, {"group": "a"}, {"time": "a"}):
        with pytest.raises(ArgumentError, match=r"found 'a', the name of 2 columns; .*column_names"):
            measure(path, **given)
    assert measure(path, columns=["b"]).columns.names == ("b",)
    assert measure(path, columns=["-a"]).columns.names == ("b",)
    named = measure(path, columns=["c"], csv={"skip_rows": 1, "column_names": ["a", "b", "c"]})
    close(named, measure(np.array([[3.0], [7.0]])))


def test_a_bad_cell_of_a_late_batch_is_found_where_it_stands(tmp_path: Path) -> None:
    lines = ["1.000000000000000,2.000000000000000"] * 100_000
    lines[90_000] = "1.0,x"
    (tmp_path / "x.csv").write_text("\n".join(["a,b", *lines]))
    with pytest.raises(DataError, match=r"row 90000, column b: found 'x'"):
        measure(tmp_path / "x.csv")
    lines[90_000] = "1.0"
    (tmp_path / "x.csv").write_text("\n".join(["a,b", *lines]))
    with pytest.raises(DataError, match=r"row 90000: found 1 cells"):
        measure(tmp_path / "x.csv")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
@pytest.mark.parametrize("text", ["größe,b\n1,2\n3,4\n", "a,b\n1,2\n" * 60_000 + "ö,4\n"])
def test_a_table_in_another_encoding_is_refused_with_the_way_out(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(DataError) as error:
        measure(path)
    assert error.value.found == "text that is not utf8"
    assert error.value.hint == f"state the encoding: csv={{'encoding': '{encoding}'}} (--csv encoding={encoding})"
    if text.startswith("gr"):
        assert measure(path, csv={"encoding": encoding}).columns.names == ("größe", "b")


def test_arguments_that_do_not_fit_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ArgumentError, match=r"^columns: found 'z'; allowed: in .*x.csv: a, b$"):
        measure(path, columns=["z"])
    with pytest.raises(ArgumentError, match=r"^layout: found 'TN' for a table; allowed: TF"):
        measure(path, layout="TN")
    with pytest.raises(DataError, match=r"x.csv: found no column; allowed: at least one$"):
        measure(path, columns=[])
    for folder in ("folder.csv", "folder.parquet"):
        (tmp_path / folder).mkdir()
        with pytest.raises(FileError, match="found a directory"):
            measure(tmp_path / folder)


def test_only_tables_need_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.csv").write_text("1,2\n")
    np.save(tmp_path / "x.npy", np.ones(3))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "critinit.inputs.tables", raising=False)
    monkeypatch.delattr("critinit.inputs.tables", raising=False)
    with pytest.raises(MissingExtraError, match=r"pyarrow is not installed; .* 'critinit\[data\]'"):
        measure(tmp_path / "x.csv")
    assert measure(tmp_path / "x.npy").second_moment == 1.0
