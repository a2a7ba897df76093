"""The old values of tensors, kept until all is written.

A temporary file that stays in memory up to 8 MiB and goes to disk beyond, so that undoing is possible without a second
copy of a large model in memory.  Reading and writing are exact, bit for bit.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Journal", "Saved"]

_IN_MEMORY = 8 * 2**20
"""Bytes (8 MiB) that are kept in memory: small models never touch the disk."""


@dataclass(frozen=True, slots=True)
class Saved:
    """Where an array lies in the journal.

    Attributes:
        start: Its first byte.
        shape: Its shape.
        dtype: Its type.
    """

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Journal:
    """An undo journal, to be used as a context manager."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by __exit__
        self._end = 0

    def save(self, array: NDArray[Any]) -> Saved:
        """Keep a copy of an array.

        Raises:
            OSError: There is no room.
        """
        saved = Saved(self._end, array.shape, array.dtype)
        if self._end + array.nbytes > _IN_MEMORY:  # before the write, which would go through memory first
            self._file.rollover()
        self._file.seek(self._end)
        self._file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        self._end += array.nbytes
        return saved

    def load(self, saved: Saved) -> NDArray[Any]:
        """Return the array that was saved, writable."""
        self._file.seek(saved.start)
        data = bytearray(self._file.read(math.prod(saved.shape) * saved.dtype.itemsize))
        return np.frombuffer(data, saved.dtype).reshape(saved.shape)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
