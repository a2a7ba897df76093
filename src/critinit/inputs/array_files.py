"""Files of arrays: npy, npz and safetensors.  Nothing is unpickled, and no file is loaded whole.

Arrays are mapped into memory; an array of an npz file is unpacked into a temporary file first, and one of bfloat16 is
widened into one.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from critinit.dual import Array
from critinit.errors import ArgumentError, DataError
from critinit.files import refusal, widened
from critinit.inputs.arrays import one, several, unreadable
from critinit.inputs.chunks import Source
from critinit.inputs.spool import Spool

__all__ = ["FILES", "array_file"]

_NUMBERED = re.compile(r"arr_\d+")
"""What ``numpy.savez(file, *sequences)`` calls its arrays."""
_LONGEST_HEADER = 10**8
"""Bytes of a safetensors header; the format allows no more."""
_AT_ONCE = 2**20
"""Numbers of bfloat16 that are widened at once (8 MiB)."""
_SAFE = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "?", "I8": "i1", "U8": "u1",
    "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4", "I64": "<i8", "U64": "<u8", "BF16": "<u2",
}  # fmt: skip


def array_file(
    name: str, layout: str | None, array: str | None, columns: Sequence[str] | None, *, apart: bool
) -> Source:
    """Return what a file of arrays holds as a source.

    Args:
        name: The file.
        layout: The axes as they are stored.
        array: Which of several arrays, or a pattern with "*" of those that are one sequence each; None: the only one,
            or all where they have the names that ``numpy.savez`` gives to a list.
        columns: The features to measure, by their numbers; None: all.
        apart: Whether one sequence is to follow the other.
    """
    found = FILES[Path(name).suffix.lower()](name, array)
    if len(found) > 1 or (array is not None and array not in found):
        return several(name, found, layout, columns)
    ((label, values),) = found.items()
    return one(f"{name}[{label}]" if label else name, values, layout, columns, apart=apart)


def _npy(name: str, _: str | None) -> Mapping[str, Array]:
    """The array in an npy file."""
    return {"": _mapped(name, name)}


def _mapped(path: str, name: str) -> Array:
    """The array in an npy file at a path."""
    try:
        with open(path, "rb") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(stream)
        if dtype.hasobject:  # a pickle: its type is all that is read
            return np.empty(shape, dtype)
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError, SyntaxError, TypeError, OverflowError, TokenError, MemoryError) as error:
        raise unreadable(name, "npy file", error) from None


def _npz(name: str, array: str | None) -> Mapping[str, Array]:
    """Arrays of an npz file."""
    with tempfile.TemporaryDirectory(prefix="critinit-", ignore_cleanup_errors=True) as folder:
        try:
            with zipfile.ZipFile(name) as archive:
                names = [member.removesuffix(".npy") for member in archive.namelist() if member.endswith(".npy")]
                unpacked = {label: archive.extract(f"{label}.npy", folder) for label in _picked(name, names, array)}
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise unreadable(name, "npz file", error) from None
        except OSError as error:
            raise refusal(name, error, "room to unpack it in the folder for temporary files") from None
        return {label: _mapped(path, f"{name}[{label}]") for label, path in unpacked.items()}


def _safetensors(name: str, array: str | None) -> Mapping[str, Array]:
    """Tensors of a safetensors file: the length of a header in JSON, the header, the numbers one after the other."""
    try:
        with open(name, "rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if size > _LONGEST_HEADER:
                raise ValueError("its header is too long")
            header: dict[str, Any] = json.loads(stream.read(size))
        entries = {label: entry for label, entry in header.items() if label != "__metadata__"}
        picked = _picked(name, list(entries), array)
        return {label: _tensor(name, label, entries[label], 8 + size) for label in picked}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise unreadable(name, "safetensors file", error) from None


def _tensor(name: str, label: str, entry: Mapping[str, Any], start: int) -> Array:
    """One tensor of a safetensors file whose numbers begin at the byte ``start``."""
    kind, shape, (begin, end) = entry["dtype"], tuple(map(int, entry["shape"])), entry["data_offsets"]
    if kind not in _SAFE:
        hint = "save it as float32"
        raise DataError(label, found=f"numbers of type {kind}", allowed=", ".join(_SAFE), hint=hint, source=name)
    dtype = np.dtype(_SAFE[kind])
    if end - begin != math.prod(shape) * dtype.itemsize or begin < 0 or min(shape, default=1) < 0:
        raise ValueError(f"{label} has {end - begin} bytes, which its shape {shape} does not take")
    if not end - begin:
        return np.empty(shape, dtype)
    numbers: Array = np.memmap(name, dtype, "r", start + begin, shape)
    return _widened(name, numbers) if kind == "BF16" else numbers


def _widened(name: str, halves: Array) -> Array:
    """Numbers of bfloat16, in a temporary file."""
    column = halves.reshape(-1, 1)
    with Spool(name) as spool:
        for at in range(0, len(column), _AT_ONCE):
            spool.add(widened(column[at : at + _AT_ONCE]).astype(np.float64))
        return spool.numbers().reshape(halves.shape)


def _picked(name: str, names: Sequence[str], array: str | None) -> list[str]:
    """The names of the arrays that are meant."""
    if not names:
        raise DataError(found="no array", allowed="at least one", source=name)
    if array is None:
        picked = list(names) if len(names) == 1 or all(map(_NUMBERED.fullmatch, names)) else []
    else:
        picked = [array] if array in names else [label for label in names if fnmatchcase(label, array)]
    if picked:
        return picked
    found = f"no name, and {name} holds {len(names)} arrays" if array is None else repr(array)
    listed = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    hint = "where each is one sequence, '*' takes all of them"
    raise ArgumentError("array", found=found, allowed=listed, hint=hint)


FILES = {".npy": _npy, ".npz": _npz, ".safetensors": _safetensors}
"""From the ending of a file to what reads its arrays by name, those that are meant."""
