"""Tables whose rows belong to many sequences, in any order, and tables with lists in their cells."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest

from critinit.errors import ArgumentError, DataError
from critinit.inputs import measure
from tests.inputs.samples import close

pa = pytest.importorskip("pyarrow")
csv = pytest.importorskip("pyarrow.csv")
feather = pytest.importorskip("pyarrow.feather")
parquet = pytest.importorskip("pyarrow.parquet")

LENGTHS = (7, 3, 12, 7)
SEQUENCES = [np.random.default_rng(n).standard_normal((length, 2)) + n for n, length in enumerate(LENGTHS)]
DAY = datetime.datetime(2021, 2, 27, 23)


def rows(order: str = "sorted", time: str = "number", names: str = "text") -> pa.Table:
    """The sequences as a long table, its rows in some order, its times and names of some kind."""
    times = {
        "number": lambda t: 3 * t - 5,
        "fraction": lambda t: 0.25 * t,
        "timestamp": lambda t: DAY + datetime.timedelta(hours=5 * t),
        "date": lambda t: (DAY + datetime.timedelta(days=9 * t)).date(),
        "text": lambda t: (DAY + datetime.timedelta(hours=5 * t)).isoformat(),
        "zone": lambda t: (DAY + datetime.timedelta(hours=5 * t)).isoformat() + "+02:00",
    }[time]
    name = {"text": "unit {}".format, "number": lambda n: (n * 7919) % 13, "fraction": lambda n: n + 0.5}[names]
    table = [
        {"id": name(n), "when": times(t), "x": x[t, 0], "y": x[t, 1]}
        for n, x in enumerate(SEQUENCES)
        for t in range(len(x))
    ]
    if order == "interleaved":
        table.sort(key=lambda row: row["when"])
    if order == "shuffled":
        table = [table[i] for i in np.random.default_rng(5).permutation(len(table))]
    return pa.Table.from_pylist(table)


def write(path: Path, table: pa.Table) -> Path:
    if path.suffix == ".csv":
        csv.write_csv(table, path)
    elif path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=10)
    else:
        feather.write_feather(table, path, chunksize=10)
    return path


@pytest.mark.parametrize("names", ["text", "number", "fraction"])
@pytest.mark.parametrize("time", ["number", "fraction", "timestamp", "date", "text", "zone"])
@pytest.mark.parametrize("ending", [".csv", ".parquet", ".feather"])
def test_a_long_table_is_the_sequences_in_it(tmp_path: Path, ending: str, time: str, names: str) -> None:
    for order in ("sorted", "interleaved", "shuffled"):
        path = write(tmp_path / f"x{ending}", rows(order, time, names))
        for chunk_size in (5, 10_000):
            close(measure(path, group="id", time="when", chunk_size=chunk_size), measure(SEQUENCES))
        chosen = measure(path, group=["id"], time="when", columns=["-y"])
        close(chosen, measure([x[:, :1] for x in SEQUENCES]))
        assert chosen.columns.names == ("x",)
    assert measure(path, group="id", time="when").notes == ()


def test_rows_keep_their_order_without_a_time(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", rows("interleaved"))
    close(measure(path, group="id", columns=["x", "y"]), measure(SEQUENCES))


def test_one_sequence_is_sorted_by_time(tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((40, 1)).cumsum(axis=0)
    at = np.random.default_rng(2).permutation(40)
    path = write(tmp_path / "x.csv", pa.table({"when": at, "x": x[at, 0]}))
    close(measure(path, time="when"), measure(x))


def test_several_columns_name_a_sequence(tmp_path: Path) -> None:
    table = rows("shuffled")
    units = [int(name.as_py().split()[1]) for name in table["id"]]
    table = table.append_column("store", pa.array([unit // 2 for unit in units]))
    table = table.append_column("item", pa.array([None if unit > 9 else f"{unit % 2}" for unit in units]))
    path = write(tmp_path / "x.parquet", table.drop_columns("id"))
    close(measure(path, group=["store", "item"], time="when"), measure(SEQUENCES))


def test_rows_without_name_or_time_are_named_or_dropped(tmp_path: Path) -> None:
    table = rows().to_pylist()
    table += [{**table[0], "id": None}, {**table[0], "when": None}, {**table[0], "when": 99, "x": None}]
    for ending in (".csv", ".parquet"):
        path = write(tmp_path / f"x{ending}", pa.Table.from_pylist(table))
        with pytest.raises(DataError) as error:
            measure(path, group="id", time="when")
        assert (error.value.where, error.value.found) == ("row 29, column id", "nothing")
        assert error.value.hint == 'missing="drop" (--missing drop) leaves such steps out'
        found = measure(path, group="id", time="when", missing="drop")
        close(found, measure(SEQUENCES))
        assert found.notes == ("3 of 32 steps lack a number and were left out",)
    with pytest.raises(DataError, match="row 1, column x: found no number"):
        measure(write(tmp_path / "y.csv", pa.table({"id": [2, 1, 1], "x": [1.0, None, 2.0]})), group="id")


def test_what_is_odd_about_times_is_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", rows(time="fraction"))
    (note, *_) = measure(path, time="when", columns=["x", "y"]).notes
    assert note.startswith("17 rows have the same time as the row before them in their sequence: --group states what")
    doubled = write(tmp_path / "y.parquet", pa.concat_tables([rows(), rows()]))
    assert "another column may name the sequences too" in measure(doubled, group="id", time="when").notes[0]


def test_what_cannot_be_a_time_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("when,x\n31.01.2020,1\n01.02.2020,3\n15.02.2020,-4\n02.01.2020,2\n")
    with pytest.raises(DataError) as error:
        measure(path, time="when")
    assert error.value.where == "row 0, column when"
    assert error.value.hint == (
        "dates in another format than ISO 8601: csv={'timestamp_parsers': '%d.%m.%Y'} "
        '(--csv "timestamp_parsers=%d.%m.%Y")'
    )
    sorted_ = np.array([2.0, 1.0, 3.0, -4.0])
    close(measure(path, time="when", csv={"timestamp_parsers": "%d.%m.%Y"}), measure(sorted_))
    parquet.write_table(pa.table({"when": [{"a": 1}], "x": [1.0]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="column when: found struct<a: int64>; allowed: numbers, dates or times"):
        measure(tmp_path / "x.parquet", time="when")


def test_arguments_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", rows())
    for options, says in (
        ({"group": "unit"}, "group: found 'unit'; allowed: in "),
        ({"time": "date"}, "time: found 'date'; allowed: in "),
        ({"group": "id", "layout": "NT"}, "group: found rows that are sequences (layout NT); allowed: with rows that"),
    ):
        with pytest.raises(ArgumentError) as error:
            measure(path, **options)
        assert says in str(error.value)
    (tmp_path / "none.csv").write_text("id,x\n")
    with pytest.raises(DataError, match="found no row; allowed: at least one"):
        measure(tmp_path / "none.csv", group="id")


def test_names_and_times_that_are_measured_are_warned_of(tmp_path: Path) -> None:
    """Whatever order the rows have: the columns that are no inputs are named, with the ways out."""
    rng = np.random.default_rng(0)
    units, steps = np.repeat(np.arange(20), 50), np.tile(np.arange(50), 20)
    stamps = 1_600_000_000 + 60 * steps
    x, level = rng.standard_normal(1000), np.cumsum(rng.standard_normal(1000))
    orders = {"by unit": np.arange(1000), "by time": np.argsort(steps, kind="stable")}
    kinds = {
        "counted": units,
        "numbers of no order": 7919 * (units + 5) ** 2 % 997,
        "few": np.array([7, 3, 9])[units % 3],
    }
    for name, ids in kinds.items():
        for order, at in orders.items():
            table = pa.table({"id": ids[at], "when": stamps[at], "x": x[at], "level": level[at]})
            path = write(tmp_path / "x.parquet", table)
            said = " ".join(measure(path).warnings())
            assert "column id" in said or "columns, id, when" in said, (name, order, said)
            assert "when" in said, (name, order)
            assert "--group names the sequences" in said
            for column in ("x", "level"):
                assert f"column {column}" not in said.partition("unscaled")[0]
            kept = measure(path, group="id", time="when").warnings()
            assert not [line for line in kept if line.startswith(("growing", "ids"))]


# ---- lists in cells --------------------------------------------------------------------------------------


def lists(kind: str) -> pa.Table:
    wide = {"list": pa.list_, "large": pa.large_list}[kind]
    return pa.table(
        {
            "x": pa.array([x[:, 0].tolist() for x in SEQUENCES], wide(pa.float64())),
            "y": pa.array([x[:, 1].tolist() for x in SEQUENCES], wide(pa.float64())),
            "both": pa.array([x.tolist() for x in SEQUENCES], wide(wide(pa.float64()))),
            "pairs": pa.array([x.tolist() for x in SEQUENCES], wide(pa.list_(pa.float64(), 2))),
        }
    )


@pytest.mark.parametrize("kind", ["list", "large"])
@pytest.mark.parametrize("ending", [".parquet", ".feather"])
def test_a_list_in_a_cell_is_a_sequence(tmp_path: Path, ending: str, kind: str) -> None:
    path = write(tmp_path / f"x{ending}", lists(kind))
    for columns in (["x", "y"], ["both"], ["pairs"]):
        for chunk_size in (5, 10_000):
            close(measure(path, columns=columns, chunk_size=chunk_size), measure(SEQUENCES))
    close(measure(path, columns=["x"]), measure([x[:, :1] for x in SEQUENCES]))
    assert measure(path, columns=["both", "x"]).columns.names == ("both[0]", "both[1]", "x")


def test_lists_of_one_length_are_sequences_too(tmp_path: Path) -> None:
    x = np.random.default_rng(3).standard_normal((6, 9))
    path = write(tmp_path / "x.parquet", pa.table({"x": pa.array(x.tolist(), pa.list_(pa.float32(), 9))}))
    close(measure(path), measure(x.astype("f"), layout="NT"))


def test_what_is_wrong_with_lists_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for columns, says in (
        ({"x": [[1.0, 2.0], []]}, "row 1: found no list, or an empty one; allowed: one step; missing="),
        ({"x": [None, [1.0]]}, "row 0: found no list, or an empty one; allowed: one step; missing="),
        ({"x": [[1.0, None], [1.0]]}, "row 0, column x, step 1: found no number (nan)"),
        ({"x": [["a"], ["b"]]}, "in the rows from 0 on, column x: found 'a'; allowed: a number"),
        ({"x": [[1.0, 2.0]], "y": [[1.0]]}, "row 0: found 1 steps in y and 2 in x; allowed: as many in each; leave it"),
        ({"x": [[[1.0, 2.0], [3.0]]]}, "column x, in the rows from 0 on: found steps of unequal numbers of features"),
        ({"x": [[{"a": 1.0}]]}, "column x: found struct<a: double>; allowed: numbers"),
    ):
        parquet.write_table(pa.table(columns), path)
        with pytest.raises(DataError) as error:
            measure(path)
        assert says in str(error.value)
    parquet.write_table(pa.table({"x": [[1.0, 2.0], None, [], [4.0, None, 3.0]]}), path)
    found = measure(path, missing="drop")
    close(found, measure([np.array([1.0, 2.0]), np.array([4.0, 3.0])]))
    assert found.notes == (
        "1 of 5 steps lack a number and were left out",
        "2 of 4 rows hold no list and were left out",
        "all numbers are whole: if they are ids or classes that an embedding reads, state --input-variance",
    )
    with pytest.raises(ArgumentError, match="group: found columns of lists, whose rows are sequences"):
        measure(write(tmp_path / "y.parquet", lists("list").append_column("id", pa.array([1] * 4))), group="id",
                columns=["x"])  # fmt: skip
