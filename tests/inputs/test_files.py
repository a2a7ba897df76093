"""Files of arrays that hold several: safetensors and npz, one array picked or one sequence in each."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from critinit.errors import ArgumentError, CritinitError, DataError
from critinit.inputs import measure
from tests.inputs.samples import close, padded, sequences


def safetensors(path: Path, arrays: dict[str, np.ndarray], kinds: dict[str, str] | None = None) -> Path:
    """Write a file as the format says: length of the header, header, numbers."""
    names = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "uint8": "U8", "bool": "BOOL"}
    header, at = {"__metadata__": {"made": "here"}}, 0
    for name, array in arrays.items():
        kind = (kinds or {}).get(name) or names[array.dtype.name]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in arrays.values()))
    return path


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_safetensors(tmp_path: Path, dtype: str) -> None:
    x = padded()[0].astype(dtype)
    path = safetensors(tmp_path / "x.safetensors", {"train": x, "labels": np.arange(12)})
    close(measure(path, array="train"), measure(x))
    close(measure(safetensors(path, {"x": x.transpose(1, 0, 2).copy()}), layout="TNF", chunk_size=50), measure(x))


def test_safetensors_as_the_library_writes_them(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.numpy").save_file
    x = sequences()
    save_file({"a": x, "b": np.ones((2, 2), dtype=bool)}, tmp_path / "x.safetensors")
    close(measure(tmp_path / "x.safetensors", array="a"), measure(x))


def test_safetensors_are_never_loaded_whole(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((200, 5000, 4))
    path = safetensors(tmp_path / "x.safetensors", {"x": x})
    size = x.nbytes
    del x
    tracemalloc.start()
    measure(path, chunk_size=2**15)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 5


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: b"", "found no safetensors file, or a damaged one ("),
        (lambda data: data[:40], "found no safetensors file, or a damaged one ("),
        (lambda data: data[:-9], "found no safetensors file, or a damaged one ("),
        (lambda data: b"\xff" * 8 + data[8:], "(its header is too long)"),
        (lambda data: data.replace(b"[12, 40, 3]", b"[12, 40, 9]"), "which its shape (12, 40, 9) does not take"),
        (lambda data: data.replace(b'"shape"', b'"shope"'), "found no safetensors file, or a damaged one ("),
    ],
)
def test_a_damaged_safetensors_file_is_one_line(tmp_path: Path, damage: object, says: str) -> None:
    path = safetensors(tmp_path / "x.safetensors", {"x": sequences()})
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DataError) as error:
        measure(path)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def halves(x: np.ndarray) -> np.ndarray:
    """The bits of bfloat16: the upper half of those of float32, cut off."""
    return (np.ascontiguousarray(x, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)


def test_bfloat16_is_read_as_the_numbers_it_stands_for(tmp_path: Path) -> None:
    jnp = pytest.importorskip("ml_dtypes")
    x = sequences()
    short = x.astype(np.float32).astype(jnp.bfloat16)
    path = safetensors(tmp_path / "x.safetensors", {"x": short, "n": np.arange(3)}, {"x": "BF16"})
    close(measure(path, array="x", chunk_size=50), measure(short.astype(np.float64)))
    lists = {f"walk{n}": halves(x[n, : 20 + n]) for n in range(5)}
    path = safetensors(path, lists, dict.fromkeys(lists, "BF16"))
    whole = [(bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64) for bits in lists.values()]
    close(measure(path, array="walk*"), measure(whole))


def test_bfloat16_in_files_of_numpy_is_refused_with_the_way_out(tmp_path: Path) -> None:
    x = halves(sequences()).view("V2")  # what NumPy reads of an array whose type it does not know
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    for path in tmp_path.iterdir():
        with pytest.raises(DataError, match=r"an array of \|V2; .*such as bfloat16 in a file; convert it before"):
            measure(path)


def test_bfloat16_is_never_loaded_whole(tmp_path: Path) -> None:
    x = halves(np.random.default_rng(0).standard_normal((400, 5000, 4), dtype=np.float32))
    path = safetensors(tmp_path / "x.safetensors", {"x": x}, {"x": "BF16"})
    size = x.nbytes
    del x
    tracemalloc.start()
    measure(path, chunk_size=2**15, spectrum=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * size  # four times as much as double precision


def test_types_of_other_numbers_are_refused(tmp_path: Path) -> None:
    path = safetensors(tmp_path / "x.safetensors", {"x": np.ones(4, dtype="uint8")}, {"x": "F8_E4M3"})
    with pytest.raises(DataError, match=r"x: found numbers of type F8_E4M3; allowed: F64, .*, BF16; save it as float"):
        measure(path)
    with pytest.raises(DataError, match="found no array; allowed: at least one"):
        measure(safetensors(path, {}))


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_an_array_is_picked_or_each_is_a_sequence(tmp_path: Path, kind: str) -> None:
    rows = [x[: 9 + 5 * n] for n, x in enumerate(sequences(4))]
    path = tmp_path / f"x.{kind}"

    def write(arrays: dict[str, np.ndarray]) -> None:
        if kind == "npz":
            np.savez(path, **arrays)
        else:
            safetensors(path, arrays)

    write({f"arr_{n}": x for n, x in enumerate(rows)})
    close(measure(path), measure(rows))
    close(measure(path, chunk_size=11), measure(rows))
    close(measure(path, array="arr_2"), measure(rows[2]))
    write({**{f"walk {n}": x for n, x in enumerate(rows)}, "labels": np.arange(4)})
    close(measure(path, array="walk*"), measure(rows))
    close(measure(path, array="walk*", columns=["2", "0"]), measure([x[:, [2, 0]] for x in rows]))
    with pytest.raises(ArgumentError) as error:
        measure(path)
    assert error.value.found.startswith("no name, and ")
    assert error.value.allowed == "walk 0, walk 1, walk 2, walk 3, labels"
    assert error.value.hint == "where each is one sequence, '*' takes all of them"
    with pytest.raises(DataError, match="found sequences of 1 to 3 features; allowed: as many in each"):
        measure(path, array="*")
    rows[1][3, 0] = np.nan
    write({f"walk {n}": x for n, x in enumerate(rows)})
    with pytest.raises(DataError, match="walk 1, step 3, feature 0: found no number"):
        measure(path, array="*")
    write({"walk": rows[0], "text": np.array(["a"])} if kind == "npz" else {"walk": rows[0], "text": np.ones((2, 0))})
    with pytest.raises(DataError, match="text: found an array of "):
        measure(path, array="*")


def whole_files(folder: Path) -> dict[str, dict[str, object]]:
    """A good file of every kind, and the arguments with which it is measured."""
    pa, csv = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.csv")
    feather, parquet = pytest.importorskip("pyarrow.feather"), pytest.importorskip("pyarrow.parquet")
    x = sequences()
    np.save(folder / "x.npy", x)
    np.savez(folder / "x.npz", *x)
    safetensors(folder / "x.safetensors", {"x": x})
    table = pa.table({"id": np.repeat(["a", "b"], 40), "t": np.tile(np.arange(40), 2), "x": x[:2, :, 0].ravel()})
    csv.write_csv(table, folder / "x.csv")
    parquet.write_table(table, folder / "x.parquet")
    feather.write_feather(table, folder / "x.feather")
    feather.write_feather(pa.table({"x": x[:, :, 0].tolist()}), folder / "lists.arrow", compression="uncompressed")
    long = {"group": "id", "time": "t"}
    return {"x.npy": {}, "x.npz": {}, "x.safetensors": {}, "lists.arrow": {}, "x.csv": long, "x.parquet": long,
            "x.feather": long}  # fmt: skip


def test_damage_anywhere_is_a_clear_line_or_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    lines = []
    for name, options in whole_files(tmp_path).items():
        data = (tmp_path / name).read_bytes()
        measure(tmp_path / name, **options)
        for n in range(45):
            damaged = bytearray(data)
            if n % 3 == 0:
                damaged = damaged[: rng.integers(0, len(data))]
            else:  # n % 3 == 2: among the first bytes, where the structure stands
                for _ in range(3):
                    damaged[rng.integers(0, len(data) if n % 3 == 1 else min(400, len(data)))] = rng.integers(0, 256)
            path = tmp_path / f"damaged{Path(name).suffix}"
            path.write_bytes(damaged)
            try:
                measure(path, **options)
            except CritinitError as error:
                lines.append(str(error))
    assert not [line for line in lines if "\n" in line or len(line) > 900]
    assert len(lines) > 120
