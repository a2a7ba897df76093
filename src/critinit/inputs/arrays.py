"""Arrays in memory, lists of arrays, and npy and npz files; nothing is unpickled, and no file is loaded whole.

A file is mapped into memory, so that only the chunk in use is read; an array of an npz file is unpacked first.
"""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from tokenize import TokenError
from typing import Any

import numpy as np

from critinit.errors import ArgumentError, DataError
from critinit.files import refusal
from critinit.inputs.chunks import AXES, Chunk, Source, axes_of

__all__ = ["in_memory", "npy", "npz"]

_LISTS = "sequences of unequal lengths may be a list of arrays of shape (T,) or (T, F)"
_STEP = 2**14
"""Numbers of one step in a chunk where steps lie outermost: a long enough stretch of the file, and little enough that
``moments`` can keep 256 steps of it (32 MB)."""


def in_memory(data: Any, layout: str | None, *, apart: bool) -> Source:
    """Return an array, or a list of arrays that are one sequence each; ``apart`` has one sequence follow the other."""
    if isinstance(data, np.ma.MaskedArray):
        data = np.ma.filled(data.astype(float), np.nan)
    if isinstance(data, np.ndarray) and data.dtype.hasobject and data.ndim == 1:
        data = list(data)
    if isinstance(data, (list, tuple)) and any(hasattr(part, "__array__") and np.ndim(part) for part in data):
        arrays = [_checked("the list of arrays", np.asarray(part), f"sequence {i}", 2) for i, part in enumerate(data)]
        layouts = [axes_of(layout or "NTF"[: array.ndim + 1], array.ndim + 1) for array in arrays]
        if any(axes[0] != "N" for axes in layouts):
            raise ArgumentError("layout", found=repr(layout), allowed="for a list of arrays: N first, such as NTF")
        parts = [_in_order(array[None], axes) for array, axes in zip(arrays, layouts, strict=True)]
        if len(widths := {part.shape[2] for part in parts}) > 1:
            found = f"sequences of {min(widths)} to {max(widths)} features"
            raise DataError(found=found, allowed="as many in each", source="the list of arrays")
        return _source("the list of arrays", parts, layouts[0], apart)
    try:
        return _array("the array", np.asarray(data), layout, apart)
    except (TypeError, ValueError) as error:  # lists of unequal length, or memory of another device
        raise _unreadable("the array", "array", error).replace(hint=_LISTS) from None


def npy(name: str, layout: str | None, *, apart: bool, called: str = "") -> Source:
    """Return the array in an npy file."""
    try:
        array = np.lib.format.open_memmap(name, mode="r")
    except (ValueError, EOFError, SyntaxError, TypeError, OverflowError, TokenError) as error:
        raise _unreadable(called or name, "npy file", error) from None
    return _array(called or name, array, layout, apart)


def npz(name: str, layout: str | None, array: str | None, *, apart: bool) -> Source:
    """Return one array of an npz file; the only one where none is named."""
    with tempfile.TemporaryDirectory(prefix="critinit-", ignore_cleanup_errors=True) as folder:
        try:
            with zipfile.ZipFile(name) as archive:
                names = [member.removesuffix(".npy") for member in archive.namelist() if member.endswith(".npy")]
                if not names:
                    raise DataError(found="no array", allowed="an npz file with at least one", source=name)
                if array not in names and not (array is None and len(names) == 1):
                    found = repr(array) if array else f"none named, and {name} holds {len(names)}"
                    raise ArgumentError("array", found=found, allowed=", ".join(names))
                unpacked = archive.extract(f"{array or names[0]}.npy", folder)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise _unreadable(name, "npz file", error) from None
        except OSError as error:
            raise refusal(name, error, "room to unpack it in the folder for temporary files") from None
        return npy(unpacked, layout, apart=apart, called=f"{name}[{array or names[0]}]")


def _unreadable(name: str, what: str, error: Exception) -> DataError:
    """What NumPy says of something that it cannot read, in one line."""
    why = str(error).partition("\n")[0]
    return DataError(found=f"no {what}, or a damaged one ({why})", allowed="real numbers", source=name)


def _array(name: str, array: np.ndarray, layout: str | None, apart: bool) -> Source:
    """One array as a source."""
    axes = axes_of(layout, _checked(name, array).ndim)
    return _source(name, [_in_order(array, axes)], axes, apart)


def _checked(name: str, array: np.ndarray, where: str = "", most: int = 3) -> np.ndarray:
    """The array, if it holds real numbers in at least one step."""
    if array.dtype.kind not in "biuf":
        hint = f"convert it, for example with array.astype(float); {_LISTS}"
        raise DataError(where, found=f"an array of {array.dtype}", allowed="real numbers", hint=hint, source=name)
    if not 1 <= array.ndim <= most or min(array.shape) < 1:
        allowed = f"1 to {most} dimensions, none of them empty"
        raise DataError(where, found=f"an array of shape {array.shape}", allowed=allowed, source=name)
    return array


def _in_order(array: np.ndarray, axes: str) -> np.ndarray:
    """A view of shape (sequences, steps, features)."""
    view = np.transpose(array, [axes.index(letter) for letter in AXES if letter in axes])
    return np.expand_dims(view, [n for n, letter in enumerate(AXES) if letter not in axes])


def _source(name: str, parts: Sequence[np.ndarray], axes: str, apart: bool) -> Source:
    """Arrays of shape (sequences, steps, features) as a source."""

    def chunks(limit: int) -> Iterator[Chunk]:
        sequence = 0
        for part in parts:
            together, length = _chunk_shape(part, limit, apart)
            for i in range(0, part.shape[0], together):
                for t in range(0, part.shape[1], length):
                    values = np.array(part[i : i + together, t : t + length], dtype=np.float64, order="C")
                    yield Chunk(values, sequence + i, t)
            sequence += part.shape[0]

    def place(*index: int) -> str:
        at = dict(zip(AXES, index, strict=True))
        words = ", ".join(f"{AXES[letter]} {at[letter]}" for letter in axes)
        return f"element {[at[letter] for letter in axes]} ({words})"

    steps = max(part.shape[1] for part in parts) if sum(part.shape[0] for part in parts) > 1 else None
    return Source(name, steps, parts[0].shape[2], None, chunks, place)


def _chunk_shape(part: np.ndarray, limit: int, apart: bool) -> tuple[int, int]:
    """How many sequences and steps a chunk has: what lies together in the file is read together."""
    sequences, steps, features = part.shape
    if apart:
        together = 1
    elif abs(part.strides[1]) > abs(part.strides[0]):  # steps lie outermost
        together = min(sequences, max(1, min(_STEP, limit) // features))
    else:
        together = max(1, limit // (steps * features))
    return together, max(1, limit // (min(together, sequences) * features))
