"""npy and npz files, read from front to back; nothing is unpickled and no array is loaded whole.

An npz is a zip of npy files; its member is decompressed block by block.
"""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from critinit.inputs.blocks import AXES, Block, Source, axes_of, boxes, in_order
from critinit.errors import ArgumentError, DataError

__all__ = ["in_memory", "npy", "npz"]

_Open = Callable[[], AbstractContextManager[IO[bytes]]]

_KINDS = "biuf"


def in_memory(array: np.ndarray, layout: str | None) -> Source:
    """An array as a source."""
    name = "the array"
    axes = _checked(name, array.shape, array.dtype, layout)

    def blocks(limit: int) -> Iterator[Block]:
        cuts = boxes(array.shape, limit)
        return in_order(
            ((start, array[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))]) for start, size in cuts),
            array.shape,
            axes,
        )

    return _source(name, array.shape, axes, axes, blocks)


def npy(path: str | os.PathLike[str], layout: str | None) -> Source:
    """The array in an npy file."""
    name = os.fspath(path)
    return _stored(name, lambda: open(path, "rb"), os.path.getsize(path), layout)


def npz(path: str | os.PathLike[str], layout: str | None, array: str | None) -> Source:
    """One array of an npz file; the only one where none is named."""
    name = os.fspath(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {m.filename.removesuffix(".npy"): m for m in archive.infolist() if m.filename.endswith(".npy")}
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{name}: found no npz file ({error}); allowed: one that numpy.savez wrote") from None
    if not members:
        raise DataError(f"{name}: found no array; allowed: an npz file with at least one")
    listed = ", ".join(members)
    if array is None:
        if len(members) > 1:
            raise ArgumentError(f"array: found none named, and {name} holds several; allowed: {listed}")
        array = next(iter(members))
    if array not in members:
        raise ArgumentError(f"array: found {array!r}; allowed: {listed}")
    member = members[array]
    return _stored(f"{name}[{array}]", lambda: _Member(name, path, member), member.file_size, layout)


class _Member(AbstractContextManager[IO[bytes]]):
    """A member of a zip, opened and closed with it."""

    def __init__(self, name: str, path: str | os.PathLike[str], member: zipfile.ZipInfo) -> None:
        self.archive = zipfile.ZipFile(path)
        try:
            self.stream = self.archive.open(member)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            self.archive.close()
            raise DataError(f"{name}: found {error}; allowed: a plain npz file") from None

    def __enter__(self) -> IO[bytes]:
        return self.stream

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.archive.close()


def _stored(name: str, opened: _Open, size: int, layout: str | None) -> Source:
    """An array that is stored in npy format."""
    with opened() as stream:
        shape, fortran, dtype = _header(name, stream)
        start = stream.tell()
    axes = _checked(name, shape, dtype, layout)
    missing = start + math.prod(shape) * dtype.itemsize - size
    if missing > 0:
        raise DataError(f"{name}: found a file that ends {missing:,} bytes early; allowed: a whole one")
    stored_shape, stored_axes = (shape[::-1], axes[::-1]) if fortran else (shape, axes)

    def arrays(limit: int) -> Iterator[tuple[tuple[int, ...], Any]]:
        with opened() as stream:
            _header(name, stream)
            for at, box in boxes(stored_shape, limit):
                numbers = np.frombuffer(_exactly(name, stream, math.prod(box) * dtype.itemsize), dtype=dtype)
                yield at, numbers.reshape(box)

    return _source(name, shape, axes, stored_axes, lambda limit: in_order(arrays(limit), stored_shape, stored_axes))


def _header(name: str, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    readers = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
    try:
        version = npy_format.read_magic(stream)
        if version not in readers:
            raise ValueError(f"npy version {version[0]}.{version[1]}")
        return readers[version](stream)
    except (ValueError, EOFError, SyntaxError, TypeError, TokenError, zipfile.BadZipFile, zlib.error) as error:
        why = str(error).partition("\n")[0]
        raise DataError(f"{name}: found no npy format ({why}); allowed: what numpy.save writes") from None


def _exactly(name: str, stream: IO[bytes], size: int) -> bytes:
    parts, left = [], size
    while left:
        try:
            part = stream.read(left)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DataError(f"{name}: found a damaged file ({error}); allowed: a whole one") from None
        if not part:
            raise DataError(f"{name}: found a file that ends {left:,} bytes early; allowed: a whole one")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _checked(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], layout: str | None) -> str:
    if dtype.kind not in _KINDS or dtype.hasobject:
        raise DataError(f"{name}: found an array of {dtype}; allowed: real numbers")
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise DataError(f"{name}: found an array of shape {shape}; allowed: 1 to 3 dimensions, none of them empty")
    return axes_of(layout, len(shape))


def _source(
    name: str, shape: tuple[int, ...], axes: str, stored: str, blocks: Callable[[int], Iterator[Block]]
) -> Source:
    sizes = dict(zip(axes, shape, strict=True))

    def place(*index: int) -> str:
        found = [(AXES[letter], dict(zip(AXES, index, strict=True))[letter]) for letter in axes]
        return f"element [{', '.join(str(n) for _, n in found)}] ({', '.join(f'{what} {n}' for what, n in found)})"

    return Source(name, stored, sizes.get("N", 1), sizes["T"], sizes.get("F", 1), None, blocks, place)
