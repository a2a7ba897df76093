"""Reading specs from files and standard input, and the cells that they name from the files that the user names."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from critinit.errors import FileError, Problem
from critinit.spec.model import InitSpec

__all__ = ["cell_name", "read_spec", "register_cells"]


def register_cells(files: Sequence[str] | None) -> tuple[str, ...]:
    """Run the files that ``--cell-file`` names, and make their cells known; their names."""
    from critinit.cells import load_cell

    return tuple(load_cell(file).name for file in files or ())


def cell_name(cell: str) -> str:
    """The name of the cell that ``--cell`` means: a name as it stands, or that of the cell in a file, which is run."""
    from critinit.cells.loading import is_file

    return register_cells([cell])[0] if is_file(cell) else cell


def read_spec(name: str, cells: Sequence[str] | None = None) -> InitSpec:
    """The spec in the file ``name``, or on standard input where that is ``-``; ``cells``: files of cells to know first.

    Raises ``FileError`` where it cannot be read and ``SpecError`` where it is no valid spec.
    """
    from critinit import files
    from critinit.spec.reading import MAX_BYTES, parse

    register_cells(cells)
    if name != "-":
        return files.load(name)
    source = "standard input"
    if sys.stdin is None:
        raise FileError(source, Problem("", "a closed stream", "allowed: a spec"))
    try:
        data = files.read_stream(sys.stdin.buffer, MAX_BYTES, source)
    except OSError as error:
        found = (error.strerror or type(error).__name__).lower()
        raise FileError(source, Problem("", found, "allowed: a spec")) from None
    return parse(data, source)
