"""Tensors in files: safetensors, npz, Keras' .weights.h5 and .keras, and torch's own by torch itself.

What a file is, its first bytes say.  Nothing in a file is ever run: pickles are refused, npz arrays of Python objects
too, links in HDF5 are not followed.  Names, shapes and types are read first, numbers only of the tensors asked for.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from critinit import files
from critinit.errors import ArgumentError, MissingExtraError, WeightsError
from critinit.tensors.layouts import layouts

__all__ = ["ROUNDOFF", "Entry", "entries_of", "open_weights"]

ROUNDOFF = {"float64": 2.0**-24, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Largest relative error of a rounded number, by type; the types that weights can have.

A float64 tensor often holds what was float32 before, so it is held to no more.
"""

KINDS = "safetensors, npz, .weights.h5, .keras, or a file of torch.save (a zip, as it writes by default)"
_DAMAGE = (
    ArithmeticError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


class Entry(NamedTuple):
    """One tensor: its shape, its type ("float32", …) and a function that reads its numbers."""

    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], NDArray[Any]]


Entries = Mapping[str, Entry]


def entries_of(arrays: Mapping[str, Any]) -> Entries:
    """Arrays in memory, as if they had been read; raises ``ArgumentError`` for what NumPy cannot take."""
    entries = {}
    for name, array in arrays.items():
        try:
            found, dtype = _numbers(array)
        except Exception as error:  # each framework has errors of its own
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise ArgumentError(f"weights: {name}: NumPy cannot take it ({reason})") from error
        entries[str(name)] = Entry(found.shape, dtype, partial(np.asarray, found))
    return {name: entry._replace(load=partial(_load, "the weights", name, entry)) for name, entry in entries.items()}


def _numbers(array: Any) -> tuple[NDArray[Any], str]:
    """An array of any framework and device as NumPy's, and the type that it has there."""
    if hasattr(array, "detach") and hasattr(array, "cpu"):  # PyTorch's
        array = array.detach().cpu()
        if str(array.dtype) == "torch.bfloat16":  # NumPy has none
            return array.float().numpy(), "bfloat16"
    found = np.asarray(array)
    return found, found.dtype.name


@contextmanager
def open_weights(path: str) -> Iterator[Entries]:
    """The tensors of a file, readable while it is open.

    Raises ``FileError`` where it cannot be opened, ``WeightsError`` where it is damaged or of another kind, and
    ``MissingExtraError`` where the library that reads it is not installed.
    """
    try:
        with open(path, "rb") as stream:
            start = stream.read(9)
            with _damage(path):
                opener = _kind(path, stream, start)
    except (OSError, ValueError) as error:
        raise files.refusal(path, error, "a file of weights that can be read") from None
    with ExitStack() as stack:
        with _damage(path):
            entries = stack.enter_context(opener(path))
        yield {name: entry._replace(load=partial(_load, path, name, entry)) for name, entry in entries.items()}


def _load(path: str, name: str, entry: Entry) -> NDArray[Any]:
    if entry.dtype not in ROUNDOFF:
        raise WeightsError(f"{path}: {name}: found type {entry.dtype}; allowed: {', '.join(ROUNDOFF)}")
    with _damage(path):
        return entry.load()


@contextmanager
def _damage(path: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise WeightsError(f"{path}: found a damaged file ({reason[:200]}); allowed: {KINDS}") from None


def _kind(path: str, stream: IO[bytes], start: bytes) -> Callable[[str], Any]:
    """The function that opens a file which begins with ``start``."""
    if not start:
        raise WeightsError(f"{path}: found an empty file; allowed: {KINDS}")
    if start.startswith(b"\x89HDF"):
        return _hdf5
    if start.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if "model.weights.h5" in names:
            return _keras
        if any(name.rpartition("/")[2] == "data.pkl" for name in names):
            return partial(_framework, "torch")
        if names and all(name.endswith(".npy") for name in names):
            return _npz
        raise WeightsError(f"{path}: found a zip archive of {len(names)} files that are no weights; allowed: {KINDS}")
    if start[:1] == b"\x80" and start[1:2] in b"\1\2\3\4\5" and start[7:9] != b"\0{":
        raise WeightsError(f"{path}: found a pickle, which could run any code when it is read; allowed: {KINDS}")
    if start[8:9] == b"{":
        return _safetensors
    raise WeightsError(f"{path}: found no kind of file that holds weights; allowed: {KINDS}")


# ---- one function a kind ---------------------------------------------------------------------------------

_SAFE = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@contextmanager
def _safetensors(path: str) -> Iterator[Entries]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise MissingExtraError("safetensors", "weights") from None
    try:
        with safe_open(path, "numpy") as file:
            found = {}
            for name in file.keys():  # noqa: SIM118 - no mapping
                piece = file.get_slice(name)
                kind = _SAFE.get(piece.get_dtype(), piece.get_dtype())
                # NumPy has no bfloat16, so its bytes are read here
                load = partial(_brain, path, name) if kind == "bfloat16" else partial(file.get_tensor, name)
                found[name] = Entry(tuple(piece.get_shape()), kind, load)
            yield found
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def _brain(path: str, name: str) -> NDArray[Any]:
    """A bfloat16 tensor of a safetensors file (whose header was checked by the library) as float32."""
    with open(path, "rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        entry = json.loads(stream.read(size))[name]
        begin, end = entry["data_offsets"]
        stream.seek(8 + size + begin)
        return _widen(np.frombuffer(stream.read(end - begin), "<u2")).reshape(entry["shape"])


def _widen(halves: NDArray[Any]) -> NDArray[Any]:
    return (halves.astype(np.uint32) << 16).view(np.float32)


@contextmanager
def _npz(path: str) -> Iterator[Entries]:
    with zipfile.ZipFile(path) as archive:

        def load(member: str) -> NDArray[Any]:
            with archive.open(member) as stream:
                return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))

        found = {}
        for info in archive.infolist():
            with archive.open(info) as stream:
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(stream)
                name = info.filename.removesuffix(".npy")
                if dtype.hasobject:
                    raise WeightsError(
                        f"{path}: {name}: found Python objects, which only a pickle holds; allowed: arrays of numbers"
                    )
                # more numbers than there are bytes would be allocated before they are missed
                if stream.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize != info.file_size:
                    raise ValueError(f"{name} has {info.file_size} bytes, which its shape {shape} does not take")
                found[name] = Entry(shape, dtype.name, partial(load, info.filename))
        yield found


@contextmanager
def _hdf5(path: str | IO[bytes]) -> Iterator[Entries]:
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("h5py", "weights") from None
    found: dict[str, Entry] = {}

    def collect(group: Any, prefix: str, above: frozenset[int]) -> None:
        here = h5py.h5o.get_info(group.id).addr
        if here in above:
            raise ValueError(f"{prefix or '/'} contains itself")
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                continue  # a link leads elsewhere, also into other files
            item, name = group[key], f"{prefix}{key}"
            if isinstance(item, h5py.Group):
                collect(item, f"{name}/", above | {here})
            elif isinstance(item, h5py.Dataset) and not item.is_virtual and not item.external:
                found[name] = _dataset(item)

    with h5py.File(path, "r") as file:
        collect(file, "", frozenset())
        yield found


def _dataset(item: Any) -> Entry:
    if item.attrs.get("dtype") == "bfloat16" and item.dtype.itemsize == 2:
        return Entry(item.shape or (), "bfloat16", lambda: _widen(np.asarray(item[()]).view("<u2")))
    return Entry(item.shape or (), item.dtype.name, lambda: np.asarray(item[()]))


@contextmanager
def _keras(path: str) -> Iterator[Entries]:
    # HDF5 is read back and forth, which a compressed stream bears badly
    with tempfile.SpooledTemporaryFile(max_size=2**26) as copy:
        with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as packed:
            shutil.copyfileobj(packed, copy)
        copy.seek(0)
        with _hdf5(copy) as found:
            yield found


@contextmanager
def _framework(kind: str, path: str) -> Iterator[Entries]:
    """A file that only a framework reads: through the layout that can."""
    reader = next((layout.readers[kind] for layout in layouts().values() if kind in layout.readers), None)
    if reader is None:
        raise WeightsError(f"{path}: found a file of {kind}, which no installed layout reads; allowed: {KINDS}")
    try:
        arrays = reader(str(Path(path)))
    except (MissingExtraError, WeightsError):
        raise
    except Exception as error:  # whatever the framework raises for a file that it does not take
        held = re.search(r"GLOBAL (\S+)", str(error))  # what torch says of a class that is no tensor's
        reason = f"it holds {held[1]}" if held else f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise WeightsError(
            f"{path}: {kind} refuses to read it ({reason}); allowed: tensors alone, as of a state_dict"
        ) from None
    yield {name: Entry(array.shape, kind_, partial(np.asarray, array)) for name, (kind_, array) in arrays.items()}
