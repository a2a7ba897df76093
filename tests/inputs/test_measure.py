"""Measuring inputs: against the definitions, in whatever pieces, and from files that are broken."""

from __future__ import annotations

import io
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from critinit.errors import ArgumentError, DataError, FileError
from critinit.inputs import measure
from critinit.inputs.chunks import Chunk
from tests.inputs.samples import close, padded, sequences

RNG = np.random.default_rng(20)


@pytest.fixture(autouse=True)
def _the_same_data_for_every_test() -> None:
    global RNG
    RNG = np.random.default_rng(20)


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


def test_the_numbers_are_the_definitions() -> None:
    x = sequences()
    found = measure(x)
    r, c = by_definition(x, np.full(x.shape[:2], True))
    assert found.shape == x.shape
    assert found.second_moment == pytest.approx(r, rel=1e-12)
    assert found.correlation == pytest.approx(c, rel=1e-10)
    assert found.columns.mean == pytest.approx(x.mean(axis=(0, 1)), rel=1e-12)
    assert found.columns.variance == pytest.approx(x.var(axis=(0, 1)), rel=1e-12)
    assert found.endings is None
    assert list(found.autocorrelation) == [1, 4, 16]
    for lag, value in found.autocorrelation.items():
        later, earlier = x[:, lag:], x[:, :-lag]
        assert value == pytest.approx(2 * np.sum(later * earlier) / np.sum(later**2 + earlier**2), rel=1e-12)
    assert (found.input_variance, found.padding) == (float(f"{r:.6g}"), None)


@pytest.mark.parametrize("value", [0.0, np.array([-1.0, 2.0, 0.5])])
def test_certain_padding_is_left_out_and_measured(value: np.ndarray | float) -> None:
    x, lengths = padded(value)
    found = measure(x)
    r, c = by_definition(x, np.arange(x.shape[1]) < lengths[:, None])
    assert found.endings is not None
    assert found.endings.are_padding
    assert found.endings.sequences == len(x)
    assert found.endings.share == pytest.approx(1 - lengths.sum() / (x.shape[0] * x.shape[1]))
    power = float(np.mean(np.broadcast_to(value, 3) ** 2))
    assert found.padding == {"variance": pytest.approx(power, rel=1e-6), "constant": True}
    assert found.second_moment == pytest.approx(r, rel=1e-10)
    assert found.correlation == pytest.approx(c, rel=1e-8)
    informative = np.concatenate([x[i, :length] for i, length in enumerate(lengths)])
    assert found.columns.mean == pytest.approx(informative.mean(axis=0), rel=1e-9)
    assert found.columns.variance == pytest.approx(informative.var(axis=0), rel=1e-9)


def in_time(x: np.ndarray, first: np.ndarray, last: np.ndarray) -> dict[int, float]:
    """Correlation in time by definition, over all pairs of steps from the first to before the last of a sequence."""
    found = {}
    for lag in (1, 4, 16, 64, 256):
        products = powers = 0.0
        for row, begin, end in zip(x, first, last, strict=True):
            for t in range(begin, end - lag):
                products += float(row[t] @ row[t + lag])
                powers += 0.5 * float(row[t] @ row[t] + row[t + lag] @ row[t + lag])
        if powers:
            found[lag] = products / powers
    return found


@pytest.mark.parametrize("value", [0.0, np.array([-1.0, 2.0, 0.5])])
def test_correlation_in_time_is_measured_without_the_padding(value: np.ndarray | float) -> None:
    """Over all pairs of steps of which both are informative."""
    x, lengths = padded(value)
    found = measure(x)
    assert found.autocorrelation == pytest.approx(in_time(x, 0 * lengths, lengths), rel=1e-9)
    unpadded = measure([row[:length] for row, length in zip(x, lengths, strict=True)])
    assert found.autocorrelation == pytest.approx(unpadded.autocorrelation, rel=1e-9)


@pytest.mark.parametrize("chunk_size", [7, 10_000])
@pytest.mark.parametrize("padded_side", ["before", "behind"])
def test_steps_that_are_no_padding_count_in_time(padded_side: str, chunk_size: int) -> None:
    """Values of their own that sequences hold at the other end, a sequence that never changes, and two equal steps."""
    x, first, last = placed("both", 5.0, 5.0)
    x[0], first[0], last[0] = 0.5, 0, 40
    x[1, first[1] + 4] = x[1, first[1] + 3]
    for n in range(1, len(x)):
        if padded_side == "before":
            x[n, last[n] :] = x[n, last[n] - 1]
        else:
            x[n, : first[n]] = x[n, first[n]]
    first, last = (first, 0 * last + 40) if padded_side == "before" else (0 * first, last)
    found = measure(x, chunk_size=chunk_size)
    stretches = (found.beginnings, found.endings)
    assert [s is not None and s.are_padding for s in stretches] == [padded_side == "before", padded_side == "behind"]
    assert found.autocorrelation == pytest.approx(in_time(x, first, last), rel=1e-9)


@pytest.mark.parametrize(("a", "stated"), [(0.9, True), (-0.5, True), (0.0, False)])
def test_a_spec_states_the_correlation_in_time_where_it_matters(a: float, stated: bool) -> None:
    rng = np.random.default_rng(2)
    x = np.zeros((50, 200, 1))
    for t in range(1, 200):
        x[:, t] = a * x[:, t - 1] + rng.standard_normal((50, 1))
    found = measure(x[:, 20:]).input_autocorrelation
    assert found == (pytest.approx(a, abs=0.03) if stated else None)


def placed(where: str, before: float, behind: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sequences padded before, behind or at both ends, and where the first and the last step of each stand."""
    x = sequences()
    rng = np.random.default_rng(22)
    first, last = rng.integers(4, 14, len(x)), rng.integers(20, 36, len(x))
    first, last = first * (where != "behind"), np.where(where == "before", x.shape[1], last)
    for row, begin, end in zip(x, first, last, strict=True):
        row[:begin], row[end:] = before, behind
    return x, first, last


@pytest.mark.parametrize("chunk_size", [7, 10_000])
@pytest.mark.parametrize("values", [(0.0, 0.0), (0.5, 0.5), (0.0, -2.0)])
@pytest.mark.parametrize("where", ["before", "behind", "both"])
def test_padding_at_either_end_is_left_out(where: str, values: tuple[float, float], chunk_size: int) -> None:
    x, first, last = placed(where, *values)
    found = measure(x, chunk_size=chunk_size)
    step = np.arange(x.shape[1])
    informative = (step >= first[:, None]) & (step < last[:, None])
    r, c = by_definition(x, informative)
    assert found.second_moment == pytest.approx(r, rel=1e-10)
    assert found.correlation == pytest.approx(c, rel=1e-8)
    assert found.columns.mean == pytest.approx(x[informative].mean(axis=0), rel=1e-9)
    assert found.columns.variance == pytest.approx(x[informative].var(axis=0), rel=1e-9)
    assert found.autocorrelation == pytest.approx(in_time(x, first, last), rel=1e-9)
    assert found.steps_without_padding == (last - first).max()
    assert found.steps_after_padding == (40 - first).max()
    for stretches, value, steps in ((found.beginnings, values[0], first), (found.endings, values[1], 40 - last)):
        assert (stretches is None) == (not steps.any())
        if stretches is not None:
            assert stretches.kind == ("constant padding" if value else "silent padding")
            assert stretches.sequences == len(x)
            assert stretches.share == pytest.approx(steps.mean() / 40)
            assert stretches.power == value**2
    stated = None if where == "before" else {"variance": values[1] ** 2, "constant": True}
    assert found.padding == stated


def test_signals_of_two_levels_are_no_padding() -> None:
    """Nothing would be left of sequences that step once from one level to another."""
    x = np.zeros((9, 30, 1))
    for n, row in enumerate(x):
        row[5 + n :] = 1.0
    found = measure(x)
    assert found.second_moment == pytest.approx(np.mean(x**2))
    for stretches in (found.beginnings, found.endings):
        assert stretches is not None
        assert (stretches.kind, stretches.why) == ("unchanging steps", "nothing else would be left")
    assert found.steps_after_padding == 30


def test_padding_that_cannot_be_told_is_reported_and_not_used() -> None:
    x, lengths = padded()
    last = x[np.arange(len(x)), lengths - 1]
    for i, length in enumerate(lengths):  # the last value is held: every sequence has its own
        x[i, length:] = last[i]
    held = measure(x)
    assert held.endings is not None
    assert (held.endings.are_padding, held.endings.why, held.padding) == (False, "it is not one value", None)
    assert held.second_moment == pytest.approx(np.mean(x**2), rel=1e-12)
    one = measure(padded()[0][0])
    assert one.endings is not None
    assert (one.endings.are_padding, one.padding, one.correlation, one.input_correlation) == (False, None, None, 1.0)
    short = sequences()
    short[:, -2:] = 0.0
    stretch = measure(short).endings
    assert stretch is not None
    assert (stretch.are_padding, stretch.why) == (False, "it is too short to tell")
    still = sequences()
    still[:3] = 1.0
    found = measure(still)
    assert found.endings is None
    assert found.notes == ("3 of 12 sequences never change; they count as input, not as padding",)
    assert measure(np.ones((4, 1, 2))).notes == ()  # one step cannot change


LAYOUTS = {"NTF": (0, 1, 2), "TNF": (1, 0, 2), "NFT": (0, 2, 1), "FTN": (2, 1, 0), "FNT": (2, 0, 1), "TFN": (1, 2, 0)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chunk_size", [1, 7, 100, 1200])
def test_neither_chunks_nor_layout_change_a_number(layout: str, chunk_size: int) -> None:
    for x in (sequences(), padded()[0], padded(np.array([-1.0, 2.0, 0.5]))[0]):
        close(measure(np.transpose(x, LAYOUTS[layout]), layout=layout, chunk_size=chunk_size), measure(x))


@pytest.mark.parametrize("chunk_size", [5, 1000])
def test_every_array_file_gives_the_same_numbers(tmp_path: Path, chunk_size: int) -> None:
    x = padded()[0]
    for order in ("C", "F"):
        np.save(tmp_path / "x.npy", np.asarray(x, order=order))  # type: ignore[call-overload]
        close(measure(tmp_path / "x.npy", chunk_size=chunk_size), measure(x))
    np.savez(tmp_path / "x.npz", other=x[0], train=x.astype(">f8"))
    close(measure(tmp_path / "x.npz", array="train", chunk_size=chunk_size), measure(x))
    np.savez_compressed(tmp_path / "one.npz", x)
    close(measure(str(tmp_path / "one.npz"), chunk_size=chunk_size), measure(x))


def test_integers_and_booleans_are_numbers() -> None:
    x = RNG.integers(0, 256, (4, 5)).astype(np.uint8)
    assert measure(x).second_moment == pytest.approx(np.mean(x.astype(float) ** 2))
    assert measure(np.array([True, False])).second_moment == 0.5


def test_a_large_offset_does_not_drown_the_variance() -> None:
    x = 1e8 + RNG.standard_normal((50, 40, 1))
    assert measure(x, chunk_size=70).columns.variance[0] == pytest.approx(np.var(x), rel=1e-6)


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
    found = measure(path, chunk_size=2**15)
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
    assert constant == (
        "constant: column 1; this tells the network nothing: leave it out: columns=['-1'] (--columns -1)"
    )
    assert measure(x, columns=["-1", "-2", "-4"]).warnings() == ()
    assert measure(x, columns=["5", "0"]).shape == (4, 50, 2)
    assert unscaled.startswith("unscaled: column 2 (standard deviation ")
    assert unscaled.endswith("; standardize: subtract each column's mean and divide by its standard deviation")
    assert offset.startswith("off centre: column 4 (mean ")
    assert measure(np.zeros(5)).warnings() == ("every input is zero",)
    assert "standard deviation is 128" in measure(128 * np.array([1.0, -1.0] * 20)).warnings()[0]
    many = measure(np.ones((9, 10))).warnings()
    assert many == ("constant: 10 columns, 0, 1, 2, …; this tells the network nothing",)
    (one,) = measure(np.array([[[3.0, 4.0]]])).warnings()
    assert one == "one step: where a row is a sequence, layout='NT' (--layout NT) says so"


@pytest.mark.parametrize("size", [1e-152, 1e-200, 5e-324])
def test_numbers_too_small_to_square_are_not_called_zero(size: float) -> None:
    x = sequences() / np.abs(sequences()).max()
    said = r"at most .*, whose squares are too small to compute with; .*; multiply the data by a number such as 1e\+"
    for small in (size * x, -size * np.abs(x), np.concatenate([size * x[0], np.zeros((9, 3))])):
        with pytest.raises(DataError, match=said):
            measure(small, chunk_size=50)
    x[..., 1] *= size  # one column among others
    said = "1.75e-153)" if size == 1e-152 else "below 1e-154)"
    assert measure(x).warnings()[0].startswith(f"unscaled: column 1 (standard deviation {said}")


def test_small_numbers_that_can_be_squared_are_measured() -> None:
    x = sequences()
    found = measure(1e-140 * x)
    assert found.second_moment == pytest.approx(1e-280 * measure(x).second_moment, rel=1e-12)
    assert found.correlation == pytest.approx(measure(x).correlation, rel=1e-9)


def test_a_number_that_is_not_finite_is_named() -> None:
    x = sequences()
    x[3, 17, 2] = np.nan
    with pytest.raises(
        DataError,
        match=r"^the array: element \[3, 17, 2\] \(sequence 3, step 17, feature 2\): found no number \(nan\); ",
    ):
        measure(x, chunk_size=11)
    with pytest.raises(DataError, match=r"element \[17, 3, 2\] \(step 17, sequence 3, feature 2\)"):
        measure(x.transpose(1, 0, 2), layout="TNF", chunk_size=11)
    with pytest.raises(DataError, match=r"element \[1\] \(step 1\): found inf; allowed: finite numbers"):
        measure(np.array([0.0, np.inf]))
    with pytest.raises(DataError, match=r"found 1e\+200; allowed: numbers up to 1e\+50"):
        measure(np.array([0.0, 1e200]))


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
        "empty.npy": (b"", "found no npy file, or a damaged one ("),
        "text.npy": (b"1,2,3\n" * 10, "found no npy file, or a damaged one ("),
        "short.npy": (good[:-9], "(mmap length is greater than file size); allowed: real"),
        "huge.npy": (huge, "(mmap length is greater than file size); allowed: real"),
        "objects.npy": (
            stored(np.array([1, "a"], dtype=object), True),
            "found an array of Python objects; allowed: real numbers; sequences of unequal lengths may be a list",
        ),
        "complex.npy": (stored(np.ones(3, dtype=complex)), "found an array of complex128; allowed: real numbers"),
        "text2.npy": (stored(np.array(["a", "b"])), "found an array of <U1"),
        "scalar.npy": (stored(np.array(1.0)), "found an array of shape ()"),
        "unclosed.npy": (good.replace(b"(10, 10), }", b"(10, 10,(( "), "found no npy file, or a damaged one ("),
        "negative.npy": (good.replace(b"(10, 10)", b"(-1, 10)"), "(negative dimensions are not allowed)"),
        "none.npy": (stored(np.ones((3, 0))), "found an array of shape (3, 0)"),
        "four.npy": (stored(np.ones((1, 2, 3, 4))), "found an array of shape (1, 2, 3, 4)"),
        "text.npz": (b"PK no zip", "found no npz file"),
        "empty.npz": (b"PK\5\6" + bytes(18), "found no array; allowed: at least one"),
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


@pytest.mark.parametrize(("name", "kind"), [("x.npz", "a .npy file"), ("x.csv", "a .npy file"), ("y.npy", "a zip")])
def test_a_file_that_is_not_what_its_name_says_is_called_by_what_it_is(tmp_path: Path, name: str, kind: str) -> None:
    with open(tmp_path / name, "wb") as file:
        (np.savez if name == "y.npy" else np.save)(file, np.ones((4, 3)))
    with pytest.raises(DataError, match=f"{name}: found {kind}.*by its first bytes; .*; name the file by what it is"):
        measure(tmp_path / name)


@pytest.mark.parametrize("first", ["PAR1", "ARROW1"])
def test_names_that_begin_as_other_files_do_are_names(tmp_path: Path, first: str) -> None:
    (tmp_path / "light.csv").write_text(f"{first},PAR2\n0.5,-1.5\n1.5,0.5\n-0.5,1.0\n")
    assert measure(tmp_path / "light.csv").columns.names == (first, "PAR2")


def test_arguments_that_do_not_fit_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.ones(3), b=np.ones(3))
    np.save(tmp_path / "x.npy", np.ones(3))
    for path, options, says in (
        ("x.npz", {}, "array: found no name, and "),
        (".", {}, "data: found a folder; allowed: .npy"),
        ("x.npz", {"array": "c"}, "array: found 'c'; allowed: a, b"),
        ("x.npy", {"array": "c"}, "array: found 'c'; allowed: with an npz or safetensors file"),
        ("x.npy", {"columns": ["a"]}, "columns: found 'a'; allowed: in "),
        ("x.npy", {"columns": ["0", "-0"]}, "columns: found '0' to measure and '-0' to leave out; allowed: one or the"),
        ("x.npy", {"group": "a"}, "group: found ('a',); allowed: with a table (such as csv), whose columns have names"),
        ("x.npy", {"time": "a"}, "time: found 'a'; allowed: with a table (such as csv), whose columns have names"),
        ("x.npy", {"csv": {"delimiter": ";"}}, "csv: found {'delimiter': ';'}; allowed: with a table (such as csv)"),
        ("x.npy", {"tokens": "no"}, "tokens: found 'no'; allowed: 'refuse' or 'length'"),
        (".", {}, "; numpy.savez(FILE, *sequences) puts the sequences of several files into one"),
        ("x.wav", {}, "; save arrays with numpy.save, or a table as csv"),
        ("x.pt", {}, "; save the tensor with safetensors.torch.save_file or numpy.save"),
        ("x.npy.gz", {}, "; unpack it first"),
        ("x.csv.zip", {}, "; unpack it first"),
        ("x.npy", {"missing": "fill"}, "missing: found 'fill'; allowed: 'refuse' or 'drop'"),
        ("x.npy", {"layout": "NF"}, "layout: found 'NF'; allowed: the axes"),
        ("x.npy", {"layout": "NTF"}, "layout: found 'NTF' for data of 1 dimension; allowed: 1 letter"),
        ("x.json", {}, "data: found a file name that ends in '.json'; allowed: .npy, .npz, .safetensors, .csv"),
    ):
        with pytest.raises(ArgumentError) as error:
            measure(tmp_path / path, **options)  # type: ignore[arg-type]
        assert says in str(error.value)
    for name in ("nowhere.npy", "nowhere.npz", "nowhere.csv", "nowhere.parquet", "nowhere.arrow"):
        with pytest.raises(FileError, match="found no such file"):
            measure(tmp_path / name)
    with pytest.raises(ArgumentError, match=r"data: found standard input; .*; name a file"):
        measure("-")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(FileError, match="found a directory"):
        measure(tmp_path / "folder.csv")


def test_sequences_of_unequal_lengths_are_measured_together() -> None:
    x, lengths = padded()
    x += 0.1 * np.arange(x.shape[1])[:, None]
    rows = [x[i, :length] for i, length in enumerate(lengths)]
    found = measure(rows)
    r, c = by_definition(x, np.arange(x.shape[1]) < lengths[:, None])
    assert found.shape == (len(x), lengths.max(), 3)
    assert found.second_moment == pytest.approx(r, rel=1e-12)
    assert found.correlation == pytest.approx(c, rel=1e-10)
    assert found.columns.mean == pytest.approx(np.concatenate(rows).mean(axis=0), rel=1e-10)
    assert found.columns.variance == pytest.approx(np.concatenate(rows).var(axis=0), rel=1e-10)
    later, earlier = np.concatenate([row[4:] for row in rows]), np.concatenate([row[:-4] for row in rows])
    assert found.autocorrelation[4] == pytest.approx(2 * np.sum(later * earlier) / np.sum(later**2 + earlier**2))
    assert found.endings is None
    for same in (tuple(rows), np.array([*rows, None], dtype=object)[:-1]):
        close(measure(same), found)
    close(measure(rows, chunk_size=11), found)
    close(measure([row.T for row in rows], layout="NFT"), found)
    single = [row[:, 0] for row in rows]
    close(measure(single), measure([row[:, None] for row in single], layout="NTF"))
    close(measure(list(x)), measure(x))


def test_padding_of_sequences_of_unequal_lengths_is_left_out() -> None:
    """Sequences padded to lengths of their own, such as in batches."""
    x, lengths = padded(0.5)
    ends = np.minimum(lengths + 5 + np.arange(len(x)) % 7, x.shape[1])
    found = measure([row[:end] for row, end in zip(x, ends, strict=True)])
    r, c = by_definition(x, np.arange(x.shape[1]) < lengths[:, None])
    assert found.padding == {"variance": 0.25, "constant": True}
    assert found.endings is not None
    assert found.endings.share == pytest.approx(1 - lengths.sum() / ends.sum())
    assert found.second_moment == pytest.approx(r, rel=1e-10)
    assert found.correlation == pytest.approx(c, rel=1e-8)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            [np.ones((3, 2)), np.ones((4, 3))],
            "the list of arrays: found sequences of 2 to 3 features; allowed: as many",
        ),
        ([np.ones(3), np.array(["a"])], "the list of arrays: sequence 1: found an array of <U1; allowed: real numbers"),
        ([np.ones(3), np.ones(0)], "the list of arrays: sequence 1: found an array of shape (0,); allowed: 1 to 2 dim"),
        ([[1.0, 2.0], [3.0]], "sequences of unequal lengths may be a list of arrays of shape (T,) or (T, F)"),
        (np.array([[1, "a"]], dtype=object), "the array: found an array of Python objects; allowed: real numbers"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "found an array of datetime64[D]; allowed: real numbers"),
    ],
)
def test_what_is_no_array_of_numbers_is_told(data: object, says: str) -> None:
    with pytest.raises(DataError) as error:
        measure(data)
    assert says in str(error.value)
    with pytest.raises(ArgumentError, match="layout: found 'TNF'; allowed: for the list of arrays: N first"):
        measure([np.ones((3, 2)), np.ones((4, 2))], layout="TNF")


@pytest.mark.parametrize("chunk_size", [4, 100, 10_000])
def test_steps_that_lack_a_number_are_dropped(chunk_size: int) -> None:
    x = sequences()
    x[3, 17, 2] = x[3, 18, 0] = x[5, 0] = np.nan
    x[7] = np.nan
    x[8, 30:] = np.nan
    kept = [row[~np.isnan(row).any(axis=1)] for row in x]
    found = measure(x, missing="drop", chunk_size=chunk_size)
    close(found, measure([row for row in kept if len(row)]))
    assert found.shape == (11, 40, 3)
    assert found.notes == ("53 of 480 steps lack a number and were left out",)
    close(measure(x.transpose(1, 0, 2), layout="TNF", missing="drop", chunk_size=chunk_size), found)
    close(measure(x[3], missing="drop", chunk_size=chunk_size), measure(kept[3]))
    close(measure(np.ma.masked_invalid(x), missing="drop"), found)
    whole = measure(sequences(), missing="drop", chunk_size=chunk_size)
    close(whole, measure(sequences()))
    assert whole.notes == ()
    with pytest.raises(DataError, match="the array: found no numbers; allowed: at least one step"):
        measure(x[7], missing="drop")
    x[2, 2, 2] = np.inf
    with pytest.raises(
        DataError, match=r"sequence 2, step 2, feature 2\): found inf; allowed: finite numbers; correct the data, or "
    ):
        measure(x, missing="drop", chunk_size=chunk_size)


def test_missing_numbers_are_refused_with_the_way_out() -> None:
    x = sequences()
    x[8, 30:] = np.nan
    with pytest.raises(DataError) as error:
        measure(x)
    assert error.value.where == "element [8, 30, 0] (sequence 8, step 30, feature 0)"
    assert error.value.hint == (
        'missing="drop" (--missing drop) leaves such steps out; '
        "sequences of unequal lengths: pad with a constant such as 0, or pass a list of arrays"
    )
    with pytest.raises(DataError, match=r"leaves such steps out$"):
        measure(x[8])
    with pytest.raises(DataError, match=r"the list of arrays: sequence 1, step 2: found no number"):
        measure([np.ones(2), np.array([1.0, 2.0, np.nan])])


def test_sequences_that_lack_nothing_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of short sequences are measured in few pieces, also where steps may be missing."""
    module = sys.modules["critinit.inputs.measure"]
    pieces: list[int] = []

    class Counted(module.Moments):
        def add(self, chunk: Chunk) -> None:
            pieces.append(len(chunk.values))
            super().add(chunk)

    monkeypatch.setattr(module, "Moments", Counted)
    rows = [RNG.standard_normal((3 + n % 4, 2)) for n in range(4000)]
    close(measure(rows), measure(rows, missing="drop"))
    assert len(pieces) == 8
    assert sum(pieces) == 8000


def test_a_column_without_a_number_is_named() -> None:
    x = sequences()
    x[..., 1] = np.nan
    with pytest.raises(DataError, match=r"column 1 holds no number so far: leave it out: columns=\['-1'\]"):
        measure(x)
    with pytest.raises(DataError) as error:
        measure(x, missing="drop")
    assert error.value.where == "column 1"
    assert error.value.found == "no number in any row"
    assert error.value.hint == "leave it out: columns=['-1'] (--columns -1)"
    close(measure(x, columns=["-1"]), measure(sequences()[..., [0, 2]]))


def test_progress_counts_the_numbers_read() -> None:
    calls: list[int] = []
    x = sequences()
    measure(x, chunk_size=600, progress=calls.append)
    assert calls == [600, 1200, 1440]


def test_tensors_of_a_framework_are_read_wherever_and_in_whatever_type_they_are() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(8, 20, 3, generator=torch.Generator().manual_seed(0))
    expected = measure(x.numpy()).input_variance
    assert measure(x.clone().requires_grad_()).input_variance == expected
    assert measure([part.requires_grad_() for part in x.clone()]).input_variance == pytest.approx(expected)
    assert measure(x.bfloat16()).input_variance == pytest.approx(expected, rel=0.01)
    nested = torch.nested.nested_tensor(list(x), layout=torch.jagged)
    assert measure(nested).input_variance == pytest.approx(expected)


def test_bfloat16_arrays_of_jax_are_read() -> None:
    jnp = pytest.importorskip("jax.numpy")
    x = np.random.default_rng(0).standard_normal((8, 20, 3))
    assert measure(jnp.asarray(x, jnp.bfloat16)).input_variance == pytest.approx(float(np.mean(x**2)), rel=0.01)


@pytest.mark.parametrize("data", [None, {"x": np.ones((2, 3))}, (part for part in ()), object()])
def test_what_is_no_array_is_called_by_its_name(data: object) -> None:
    with pytest.raises(DataError, match=f"^the data: found a {type(data).__name__}; allowed: an array, a list of"):
        measure(data)  # type: ignore[arg-type]
