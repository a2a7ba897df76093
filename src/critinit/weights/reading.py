"""Tensors in files: safetensors, npz, .weights.h5 and .keras, and files that only a framework reads, by its layout.

What a file is, its first bytes say.  Nothing in a file is ever run: pickles are refused, npz arrays of Python objects
too, and links in HDF5 are not followed.  Names, shapes and types are read first, numbers only of the tensors asked for.
Weights in several files (shards) are read through the index that names them, or from their folder.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from critinit import files
from critinit.errors import ArgumentError, MissingExtraError, WeightsError
from critinit.foreign import check_numbers
from critinit.tensors.layouts import Layout, Reader, layouts
from critinit.weights.shards import indexed, parts_of

__all__ = ["ROUNDOFF", "Entry", "entries_of", "open_weights"]

ROUNDOFF = {"float64": 2.0**-24, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Largest relative error of a rounded number, by type; the types that weights can have.

A float64 tensor often holds what was float32 before, so it is held to no more.
"""

_REASON = 200
"""Characters of a library's own message that are shown: a line or two."""
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
    """Return arrays in memory as if they had been read.

    Args:
        arrays: Arrays of any framework, by name.

    Raises:
        ArgumentError: NumPy cannot take one.
    """
    entries = {}
    for name, array in arrays.items():
        check_numbers(f"weights: {name}", array)
        if isinstance(array, Mapping):
            hint = "of a tree give the arrays by their paths, as {'params/cell/kernel': array}"
            raise ArgumentError(f"weights: {name}", found="a mapping", allowed="one mapping of arrays", hint=hint)
        try:
            found, dtype = _numbers(array)
        except Exception as error:  # each framework has errors of its own
            refused = f"{name}, which NumPy cannot take ({_reason(error)})"
            raise ArgumentError("weights", found=refused, allowed="arrays of numbers") from error
        entries[str(name)] = Entry(found.shape, dtype, partial(np.asarray, found))
    return {name: entry._replace(load=partial(_load, "the weights", name, entry)) for name, entry in entries.items()}


def _numbers(array: Any) -> tuple[NDArray[Any], str]:
    """An array of any framework and device as NumPy's, and the type that it has there."""
    if not (hasattr(array, "detach") and hasattr(array, "cpu")):
        found = np.asarray(array)
        return found, found.dtype.name
    here = array.detach().cpu()  # without its history, in this machine's own memory
    dtype = str(here.dtype).rpartition(".")[2]
    try:
        return np.asarray(here), dtype
    except TypeError:  # NumPy lacks the type
        return np.asarray(here.float()), dtype


def _reason(error: Exception) -> str:
    """A library's error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:_REASON]


@contextmanager
def open_weights(path: str) -> Iterator[Entries]:
    """Open a file, an index of several or a folder; the tensors can be read while it is open.

    Raises:
        FileError: It cannot be opened.
        WeightsError: It is damaged, or of another kind.
        MissingExtraError: The library that reads it is not installed.
    """
    with ExitStack() as stack:
        yield _opened(path, stack)


def _opened(path: str, stack: ExitStack) -> Entries:
    """The tensors of a file, an index or a folder, which ``stack`` closes."""
    try:
        if os.path.isdir(path):
            names = os.listdir(path)
            for layout in layouts().values():
                for found, hint in (layout.unread[name] for name in names if name in layout.unread):
                    raise WeightsError(found=found, allowed="a file of weights", hint=hint, source=path)
            opener = _reader(frozenset(names))
            if opener is None:
                return _joined(path, parts_of(path, names), stack)
        else:
            with open(path, "rb") as stream:
                start = stream.read(16)
                if start.lstrip().startswith(b"{"):
                    return _joined(path, indexed(path), stack)
                with _damage(path):
                    opener = _kind(path, stream, start)
    except (OSError, ValueError) as error:
        raise files.refusal(path, error, "a file of weights that can be read") from None
    with _damage(path):
        entries = stack.enter_context(opener(path))
    return {name: entry._replace(load=partial(_load, path, name, entry)) for name, entry in entries.items()}


def _joined(path: str, parts: Mapping[str, Sequence[str]], stack: ExitStack) -> Entries:
    """The tensors of several files, from each of them those that an index says are there."""
    found: dict[str, Entry] = {}
    for part, names in parts.items():
        entries = _opened(part, stack)
        for name in names:
            if name not in entries:
                missing = f"no such tensor in {os.path.basename(part)}, where the index has it"
                hint = "the files may be of several models: save it again"
                raise WeightsError(name, found=missing, allowed="every tensor of the index", hint=hint, source=path)
        found |= entries
    return found


def _load(path: str, name: str, entry: Entry) -> NDArray[Any]:
    """The numbers of one tensor; refuses a type that weights do not have."""
    if entry.dtype not in ROUNDOFF:
        raise WeightsError(name, found=f"type {entry.dtype}", allowed=", ".join(ROUNDOFF), source=path)
    with _damage(path):
        return entry.load()


@contextmanager
def _damage(path: str) -> Iterator[None]:
    """Take what libraries raise for a file that is not whole for damage."""
    try:
        yield
    except _DAMAGE as error:
        hint = "it may be cut short: copy or save it again"
        raise _refused(path, f"a damaged file ({_reason(error)})", hint) from None


def _refused(path: str, found: str, hint: str = "") -> WeightsError:
    """The error for a file of no kind that can be read."""
    return WeightsError(found=found, allowed=_kinds(), hint=hint, source=path)


def _kinds() -> str:
    """The kinds of files, in words."""
    readers = [layout.framework for layout in layouts().values() if layout.readers]
    return ", ".join(("safetensors, npz, .weights.h5, .keras", *(f"a checkpoint of {name}" for name in readers)))


def _kind(path: str, stream: IO[bytes], start: bytes) -> Callable[[str], Any]:
    """The function that opens a file which begins with ``start``."""
    if not start:
        raise _refused(path, "an empty file")
    if start.startswith(b"\x89HDF"):
        return _hdf5
    if start.startswith(b"PK"):
        return _kind_of_zip(path)
    if start[8:9] == b"{":
        return _safetensors
    for layout in layouts().values():
        for begins, reader in layout.readers.items():
            if isinstance(begins, bytes) and start.startswith(begins):
                return partial(_by_framework, layout, reader)
    if start[:1] == b"\x80" and start[1:2] in b"\1\2\3\4\5":
        hint = "save the arrays with numpy.savez, or hand them over in Python: critinit.check(spec, arrays)"
        raise _refused(path, "a pickle, which could run any code when it is read", hint)
    raise _refused(path, "a file of another kind, or a damaged one")


def _kind_of_zip(path: str) -> Callable[[str], Any]:
    """The function that opens a zip archive, by what it holds."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if _PACKED in names:
        return _packed_hdf5
    opener = _reader(frozenset(name.rpartition("/")[2] for name in names))
    if opener is not None:
        return opener
    if names and all(name.endswith(".npy") for name in names):
        return _npz
    raise _refused(path, f"a zip archive of {len(names)} files that are no weights")


def _reader(names: frozenset[str]) -> Callable[[str], Any] | None:
    """The function of a framework that opens an archive or folder with such files; None where there is none."""
    for layout in layouts().values():
        for member, reader in layout.readers.items():
            if member in names:
                return partial(_by_framework, layout, reader)
    return None


# ---- one function a kind ---------------------------------------------------------------------------------

_PACKED = "model.weights.h5"
"""The member of a .keras archive that holds the weights."""
_IN_MEMORY = 2**26
"""Bytes (64 MiB) of an archive's weights that are unpacked in memory; more are unpacked into a temporary file."""
_SAFE = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@contextmanager
def _safetensors(path: str) -> Iterator[Entries]:
    """A safetensors file."""
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
        return files.widened(np.frombuffer(stream.read(end - begin), "<u2")).reshape(entry["shape"])


@contextmanager
def _npz(path: str) -> Iterator[Entries]:
    """An npz archive."""
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
                    objects = "Python objects, which only a pickle holds"
                    raise WeightsError(name, found=objects, allowed="arrays of numbers", source=path)
                # more numbers than there are bytes would be allocated before they are missed
                if stream.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize != info.file_size:
                    raise ValueError(f"{name} has {info.file_size} bytes, which its shape {shape} does not take")
                found[name] = Entry(shape, dtype.name, partial(load, info.filename))
        yield found


@contextmanager
def _hdf5(path: str | IO[bytes]) -> Iterator[Entries]:
    """An HDF5 file."""
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
    """One tensor of an HDF5 file; an attribute marks numbers of bfloat16, for which HDF5 has no type."""
    if item.attrs.get("dtype") == "bfloat16" and item.dtype.itemsize == 2:
        return Entry(item.shape or (), "bfloat16", lambda: files.widened(np.asarray(item[()]).view("<u2")))
    return Entry(item.shape or (), item.dtype.name, lambda: np.asarray(item[()]))


@contextmanager
def _packed_hdf5(path: str) -> Iterator[Entries]:
    """An archive with an HDF5 file in it."""
    # HDF5 is read back and forth, which a compressed stream bears badly
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as copy:
        with zipfile.ZipFile(path) as archive, archive.open(_PACKED) as packed:
            shutil.copyfileobj(packed, copy)
        copy.seek(0)
        with _hdf5(copy) as found:
            yield found


@contextmanager
def _by_framework(layout: Layout, reader: Reader, path: str) -> Iterator[Entries]:
    """A file that only a framework reads, through its layout."""
    try:
        arrays = reader(str(Path(path)))
    except MissingExtraError:
        raise
    except WeightsError as error:
        raise error.replace(source=path) from None
    except Exception as error:  # whatever the framework raises for a file that it does not take
        found = f"a file that {layout.framework} refuses to read ({_reason(error)})"
        hint = "it may be cut short or damaged: save it again"
        raise WeightsError(found=found, allowed="a whole file", hint=hint, source=path) from None
    yield {name: Entry(array.shape, dtype, partial(np.asarray, array)) for name, (dtype, array) in arrays.items()}
