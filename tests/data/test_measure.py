"""Measuring inputs: against the definitions, in whatever pieces, and from files that are broken."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from critinit.inputs import InputStatistics, measure
from critinit.errors import ArgumentError, DataError, FileError

RNG = np.random.default_rng(20)


@pytest.fixture(autouse=True)
def _the_same_data_for_every_test() -> None:
    global RNG
    RNG = np.random.default_rng(20)


def sequences(n: int = 12, steps: int = 40, features: int = 3) -> np.ndarray:
    """Sequences that share a part, are correlated in time, and have columns of their own mean and scale."""
    own, shared = RNG.standard_normal((n, steps + 1, features)), RNG.standard_normal((1, steps + 1, features))
    x = own + 0.7 * shared
    return (x[:, 1:] + 0.5 * x[:, :-1]) * np.arange(1.0, features + 1.0) + np.arange(features)


def padded(value: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Sequences that end in ``value``, and the length of each."""
    x = sequences()
    lengths = RNG.integers(10, 30, len(x))
    for i, length in enumerate(lengths):
        x[i, length:] = value
    return x, lengths


def by_definition(x: np.ndarray, informative: np.ndarray) -> tuple[float, float]:
    """Second moment and correlation of sequences, pair by pair, over the steps (i, t) that are informative."""
    r = float(np.mean(x[informative] ** 2))
    products, powers = 0.0, 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            if i != j:
                both = informative[i] & informative[j]
                products += float(np.sum(x[i, both] * x[j, both]))
                powers += 0.5 * float(np.sum(x[i, both] ** 2 + x[j, both] ** 2))
    return r, products / powers


def close(a: InputStatistics, b: InputStatistics) -> None:
    assert a.shape == b.shape
    assert a.second_moment == pytest.approx(b.second_moment, rel=1e-12)
    if b.correlation is None:
        assert a.correlation is None
    else:
        assert a.correlation == pytest.approx(b.correlation, rel=1e-10)
    assert a.autocorrelation == pytest.approx(b.autocorrelation, rel=1e-10)
    assert a.columns.mean == pytest.approx(b.columns.mean, rel=1e-10, abs=1e-12)
    assert a.columns.variance == pytest.approx(b.columns.variance, rel=1e-10)
    assert np.array_equal(a.columns.constant, b.columns.constant)
    assert (a.padding is None) == (b.padding is None)
    if a.padding is not None and b.padding is not None:
        assert (a.padding.sequences, a.padding.share, a.padding.certain) == (
            b.padding.sequences,
            b.padding.share,
            b.padding.certain,
        )
        assert a.padding.power == pytest.approx(b.padding.power, rel=1e-12)


def test_the_numbers_are_the_definitions() -> None:
    x = sequences()
    found = measure(x)
    r, c = by_definition(x, np.full(x.shape[:2], True))
    assert found.shape == x.shape
    assert found.second_moment == pytest.approx(r, rel=1e-12)
    assert found.correlation == pytest.approx(c, rel=1e-10)
    assert found.columns.mean == pytest.approx(x.mean(axis=(0, 1)), rel=1e-12)
    assert found.columns.variance == pytest.approx(x.var(axis=(0, 1)), rel=1e-12)
    assert found.padding is None
    assert list(found.autocorrelation) == [1, 4, 16]
    for lag, value in found.autocorrelation.items():
        later, earlier = x[:, lag:], x[:, :-lag]
        assert value == pytest.approx(2 * np.sum(later * earlier) / np.sum(later**2 + earlier**2), rel=1e-12)
    assert (found.input_variance, found.null_variance) == (float(f"{r:.6g}"), None)


@pytest.mark.parametrize("value", [0.0, np.array([-1.0, 2.0, 0.5])])
def test_certain_padding_is_left_out_and_measured(value: np.ndarray | float) -> None:
    x, lengths = padded(value)
    found = measure(x)
    r, c = by_definition(x, np.arange(x.shape[1]) < lengths[:, None])
    assert found.padding is not None
    assert found.padding.certain
    assert found.padding.sequences == len(x)
    assert found.padding.share == pytest.approx(1 - lengths.sum() / (x.shape[0] * x.shape[1]))
    power = float(np.mean(np.broadcast_to(value, 3) ** 2))
    assert found.null_variance == pytest.approx(power, rel=1e-6)
    assert found.second_moment == pytest.approx(r, rel=1e-10)
    assert found.correlation == pytest.approx(c, rel=1e-8)
    informative = np.concatenate([x[i, :length] for i, length in enumerate(lengths)])
    assert found.columns.mean == pytest.approx(informative.mean(axis=0), rel=1e-9)
    assert found.columns.variance == pytest.approx(informative.var(axis=0), rel=1e-9)


def test_padding_that_cannot_be_told_is_reported_and_not_used() -> None:
    x, lengths = padded()
    last = x[np.arange(len(x)), lengths - 1]
    for i, length in enumerate(lengths):  # the last value is held: every sequence has its own
        x[i, length:] = last[i]
    held = measure(x)
    assert held.padding is not None
    assert (held.padding.certain, held.padding.why, held.null_variance) == (False, "it is not one value", None)
    assert held.second_moment == pytest.approx(np.mean(x**2), rel=1e-12)
    one = measure(padded()[0][0])
    assert one.padding is not None
    assert (one.padding.certain, one.null_variance, one.correlation, one.input_correlation) == (False, None, None, 1.0)
    short = sequences()
    short[:, -2:] = 0.0
    stretch = measure(short).padding
    assert stretch is not None
    assert (stretch.certain, stretch.why) == (False, "it is too short to tell")
    still = sequences()
    still[:3] = 1.0
    found = measure(still)
    assert found.padding is None
    assert found.notes == ("3 of 12 sequences never change; they count as input, not as padding",)
    assert measure(np.ones((4, 1, 2))).notes == ()  # one step cannot change


LAYOUTS = {"NTF": (0, 1, 2), "TNF": (1, 0, 2), "NFT": (0, 2, 1), "FTN": (2, 1, 0), "FNT": (2, 0, 1), "TFN": (1, 2, 0)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("block", [1, 7, 100, 1200])
def test_neither_blocks_nor_layout_change_a_number(layout: str, block: int) -> None:
    for x in (sequences(), padded()[0], padded(np.array([-1.0, 2.0, 0.5]))[0]):
        close(measure(np.transpose(x, LAYOUTS[layout]), layout=layout, block=block), measure(x))


@pytest.mark.parametrize("block", [5, 1000])
def test_every_format_gives_the_same_numbers(tmp_path: Path, block: int) -> None:
    x = padded()[0]
    for order in ("C", "F"):
        np.save(tmp_path / "x.npy", np.asarray(x, order=order))  # type: ignore[call-overload]
        close(measure(tmp_path / "x.npy", block=block), measure(x))
    np.savez(tmp_path / "x.npz", other=x[0], train=x.astype(">f8"))
    close(measure(tmp_path / "x.npz", array="train", block=block), measure(x))
    np.savez_compressed(tmp_path / "one.npz", x)
    close(measure(str(tmp_path / "one.npz"), block=block), measure(x))

    table = x[0]
    np.savetxt(tmp_path / "x.csv", table, delimiter=",", header="a,b,c", comments="", fmt="%.17g")
    np.savetxt(tmp_path / "x.txt", table, fmt="%.17g")
    parquet.write_table(pa.table({n: table[:, i] for i, n in enumerate("abc")}), tmp_path / "x.parquet")
    for name in ("x.csv", "x.txt", "x.parquet"):
        close(measure(tmp_path / name, block=block), measure(table))
    for name in ("x.csv", "x.parquet"):
        chosen = measure(tmp_path / name, columns=["c", "a"], block=block)
        assert chosen.columns.names == ("c", "a")
        close(chosen, measure(table[:, [2, 0]]))
    for name in ("x.csv", "x.txt", "x.parquet"):
        close(measure(tmp_path / name, layout="NT", block=block), measure(table, layout="NT"))


def test_tables_are_read_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    for text, names in (
        ("1;2\n3;4\n", ("0", "1")),
        ("\ufeffspeed, angle\n1,2\n\n3,4", ("speed", "angle")),
        ("0\t1\n1\t2\n3\t4\n", ("0", "1")),
        ('"a","b, c"\r\n"1","2"\r\n3,4\r\n', ("a", "b, c")),
    ):
        path.write_text(text, encoding="utf-8")
        found = measure(path)
        assert (found.shape, found.columns.names) == ((1, 2, 2), names)
        assert found.second_moment == 7.5
    path.write_text("5\n6\n7\n")
    assert measure(path).shape == (1, 3, 1)


def test_integers_and_booleans_are_numbers() -> None:
    x = RNG.integers(0, 256, (4, 5)).astype(np.uint8)
    assert measure(x).second_moment == pytest.approx(np.mean(x.astype(float) ** 2))
    assert measure(np.array([True, False])).second_moment == 0.5


def test_a_large_offset_does_not_drown_the_variance() -> None:
    x = 1e8 + RNG.standard_normal((50, 40, 1))
    assert measure(x, block=70).columns.variance[0] == pytest.approx(np.var(x), rel=1e-6)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_is_never_loaded_whole(tmp_path: Path, compressed: bool) -> None:
    x = np.zeros((200, 5000, 4), dtype=np.float64)
    x[:, :, 0] = RNG.standard_normal((200, 5000))
    path = tmp_path / ("x.npz" if compressed else "x.npy")
    if compressed:
        np.savez_compressed(path, x)
    else:
        np.save(path, x)
    size = x.nbytes
    del x
    tracemalloc.start()
    found = measure(path, block=2**15)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.shape == (200, 5000, 4)
    assert peak < size / 5


def test_what_should_be_changed_is_warned_of() -> None:
    x = RNG.standard_normal((4, 50, 6))
    assert measure(x).warnings() == ()
    x[..., 1] = 3.0
    x[..., 2] *= 1000.0
    x[..., 4] += 20.0
    constant, unscaled, offset = measure(x).warnings()
    assert constant.startswith("constant: column 1; ")
    assert unscaled.startswith("unscaled: column 2 (standard deviation ")
    assert offset.startswith("off centre: column 4 (mean ")
    assert measure(np.zeros(5)).warnings() == ("every input is zero",)
    assert "standard deviation is 128" in measure(128 * np.array([1.0, -1.0] * 20)).warnings()[0]
    many = measure(np.ones((9, 10))).warnings()
    assert many == ("constant: 10 columns, 0, 1, 2, …; it tells the network nothing",)


def test_a_number_that_is_not_finite_is_named() -> None:
    x = sequences()
    x[3, 17, 2] = np.nan
    with pytest.raises(
        DataError, match=r"^the array: element \[3, 17, 2\] \(sequence 3, step 17, feature 2\): found nan; "
    ):
        measure(x, block=11)
    with pytest.raises(DataError, match=r"element \[17, 3, 2\] \(step 17, sequence 3, feature 2\)"):
        measure(x.transpose(1, 0, 2), layout="TNF", block=11)
    with pytest.raises(DataError, match=r"element \[1\] \(step 1\): found inf; allowed: finite numbers"):
        measure(np.array([0.0, np.inf]))
    with pytest.raises(DataError, match=r"found 1e\+200; allowed: numbers up to 1e\+50"):
        measure(np.array([0.0, 1e200]))


def test_a_missing_value_of_a_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"a": [1.0, 2.0, 3.0], "b": [1.0, None, 3.0]}), path)
    with pytest.raises(DataError, match=r"x.parquet: row 1, column b: found no value; allowed: finite numbers$"):
        measure(path, block=2)
    parquet.write_table(pa.table({"a": [1.0, 2.0], "b": [0.0, float("nan")]}), path)
    with pytest.raises(DataError, match=r"row 1, column b: found nan"):
        measure(path)
    parquet.write_table(pa.table({"a": [1.0], "day": ["Monday"]}), path)
    with pytest.raises(DataError, match=r"column day: found string; allowed: numbers"):
        measure(path)
    assert measure(path, columns=["a"]).shape == (1, 1, 1)
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"found no parquet file"):
        measure(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n3,nan\n", 'line 3, column "b": found "nan"; allowed: a finite number'),
        ("a,b\n1,2\n\n3,\n", 'line 4, column "b": found an empty cell; allowed: a finite number'),
        ("1,2\n3,inf\n", 'line 2, column 1: found "inf"'),
        ("1,2\n3,x\n", 'line 2, column 1: found "x"'),
        ("1,2\n3,1_0\n", 'line 2, column 1: found "1_0"'),
        ("1,2\n3\n", "line 2: found 1 cells; allowed: 2, as in the first line"),
        ("day,a\nMonday,1\n", 'line 2, column "day": found "Monday"'),
        ("a,b\n", "found no numbers"),
        ("", "found no line"),
        ("\n\n", "found no line"),
        ("1," + "2" * 200_000 + "\n", "line 1: field larger than field limit"),
        ("\x00\x01\n1\n2\nx\n", 'line 4, column "'),
    ],
)
def test_a_bad_table_is_told_in_a_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        measure(path)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_in_another_encoding_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("größe\n1\n".encode("latin-1"))
    with pytest.raises(DataError, match="line 1: found bytes that are not UTF-8"):
        measure(tmp_path / "x.csv")


def bad_arrays() -> dict[str, tuple[bytes, str]]:
    def stored(array: np.ndarray, pickled: bool = False) -> bytes:
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=pickled)
        return stream.getvalue()

    good = stored(np.ones((10, 10)))
    huge = good.replace(b"(10, 10), }      ", b"(10, 10000000), }")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", stored(np.arange(10000.0)))
    damaged = bytearray(archive.getvalue())
    damaged[600:700] = bytes(100)
    return {
        "empty.npy": (b"", "found no npy format"),
        "text.npy": (b"1,2,3\n" * 10, "found no npy format"),
        "short.npy": (good[:-9], "found a file that ends 9 bytes early"),
        "huge.npy": (huge, "found a file that ends 799,999,200 bytes early"),
        "objects.npy": (stored(np.array([1, "a"], dtype=object), True), "found an array of object; allowed: real"),
        "complex.npy": (stored(np.ones(3, dtype=complex)), "found an array of complex128; allowed: real numbers"),
        "text2.npy": (stored(np.array(["a", "b"])), "found an array of <U1"),
        "scalar.npy": (stored(np.array(1.0)), "found an array of shape ()"),
        "unclosed.npy": (good.replace(b"(10, 10), }", b"(10, 10,(( "), "found no npy format"),
        "negative.npy": (good.replace(b"(10, 10)", b"(-1, 10)"), "found an array of shape (-1, 10)"),
        "none.npy": (stored(np.ones((3, 0))), "found an array of shape (3, 0)"),
        "four.npy": (stored(np.ones((1, 2, 3, 4))), "found an array of shape (1, 2, 3, 4)"),
        "text.npz": (b"PK no zip", "found no npz file"),
        "damaged.npz": (bytes(damaged), "damaged"),
    }


@pytest.mark.parametrize("name", bad_arrays())
def test_a_bad_array_is_told_in_a_line(tmp_path: Path, name: str) -> None:
    data, says = bad_arrays()[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as error:
        measure(tmp_path / name)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_arguments_that_do_not_fit_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.ones(3), b=np.ones(3))
    np.save(tmp_path / "x.npy", np.ones(3))
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    for path, options, says in (
        ("x.npz", {}, "array: found none named, and "),
        ("x.npz", {"array": "c"}, "array: found 'c'; allowed: a, b"),
        ("x.npy", {"array": "c"}, "array: found 'c'; allowed: with an npz file"),
        ("x.npy", {"columns": ["a"]}, "columns: allowed: with a table"),
        ("x.npy", {"layout": "NF"}, "layout: found 'NF'; allowed: the axes"),
        ("x.npy", {"layout": "NTF"}, "layout: found 'NTF' for data of 1 dimension; allowed: 1 letter"),
        ("x.csv", {"columns": ["z"]}, "columns: found 'z'; allowed in "),
        ("x.csv", {"layout": "TN"}, "layout: found 'TN' for a table; allowed: TF"),
        ("x.json", {}, "data: found a file name that ends in '.json'; allowed: .npy, .npz, .csv"),
    ):
        with pytest.raises(ArgumentError) as error:
            measure(tmp_path / path, **options)  # type: ignore[arg-type]
        assert says in str(error.value)
    for name in ("nowhere.npy", "nowhere.npz", "nowhere.csv", "nowhere.parquet"):
        with pytest.raises(FileError, match="found no such file"):
            measure(tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(FileError, match="found a directory"):
        measure(tmp_path / "folder.csv")
