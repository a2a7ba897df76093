"""Reading specs from files and standard input, and running the files of cells that the user names."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from critinit.errors import FileError

if TYPE_CHECKING:
    from critinit.spec import InitSpec

__all__ = ["STDIN", "read_spec", "register_cells"]

STDIN = "standard input"
"""What messages call it."""


def register_cells(files: Sequence[str] | None) -> tuple[str, ...]:
    """Run the files that ``--cell-file`` names, make their cells known, and return the cells' names."""
    from critinit.cells import load_cell

    return tuple(load_cell(file).name for file in files or ())


def read_spec(name: str, cells: Sequence[str] | None = None) -> InitSpec:
    """Return the spec in a file.

    Args:
        name: The file; ``-`` is standard input.
        cells: Files of custom cells that the spec may name.

    Raises:
        FileError: It cannot be read.
        SpecError: It holds no valid spec.
    """
    from critinit.spec.reading import load, read_stream

    register_cells(cells)
    if name != "-":
        return load(name)
    allowed = "a stream with a spec"
    if sys.stdin is None:
        raise FileError(found="a closed stream", allowed=allowed, source=STDIN)
    try:
        return read_stream(sys.stdin.buffer, STDIN)
    except OSError as error:
        found = (error.strerror or type(error).__name__).lower()
        raise FileError(found=found, allowed=allowed, source=STDIN) from None
