"""A temporary file of numbers: what has to be read in another order than it comes in, without holding it in memory."""

from __future__ import annotations

import tempfile
from types import TracebackType
from typing import Self

import numpy as np

from critinit.dual import Array
from critinit.errors import FileError
from critinit.files import refusal

__all__ = ["Spool"]


class Spool:
    """Rows of numbers, written one after the other in a ``with`` block, whose ``numbers`` outlive it.

    Args:
        name: The data, for messages.

    Raises:
        FileError: There is no folder for temporary files, or no room in it.
    """

    def __init__(self, name: str) -> None:
        self.name, self.features, self.rows = name, 0, 0
        try:
            self._file = tempfile.TemporaryFile(prefix="critinit-")  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise self._full(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, rows: Array) -> None:
        """Write rows of shape (rows, features) behind those that are there.

        Raises:
            FileError: There is no room.
        """
        try:
            self._file.write(np.ascontiguousarray(rows, dtype=np.float64).data)
        except OSError as error:
            raise self._full(error) from None
        self.rows, self.features = self.rows + len(rows), rows.shape[1]

    def numbers(self) -> Array:
        """Return all rows, (rows, features), as an array that stays in the file; there has to be one."""
        try:
            self._file.flush()
        except OSError as error:
            raise self._full(error) from None
        return np.memmap(self._file, dtype=np.float64, mode="r", shape=(self.rows, self.features))

    def _full(self, error: OSError) -> FileError:
        room = f"room for its numbers in the folder for temporary files, {tempfile.gettempdir()}"
        return refusal(self.name, error, room)
