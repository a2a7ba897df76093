"""The recurrent cells.  One file a cell; a table names critinit's own, and a user's join them (``loading``).

``CELLS`` maps (name, reset) to critinit's own cells; ``find(name, reset)`` answers with any known one, or a clear error.
"""

from __future__ import annotations

from critinit.cells._base import Cell, Drives, Scale
from critinit.cells.coupled_lstm import CoupledLSTM
from critinit.cells.gru import GRUAfter, GRUBefore
from critinit.cells.lstm import LSTM
from critinit.cells.mgu import MGU
from critinit.cells.minimal_rnn import MinimalRNN
from critinit.cells.peephole_lstm import PeepholeLSTM
from critinit.cells.projection_lstm import ProjectionLSTM
from critinit.cells.rnn import RNN
from critinit.errors import ArgumentError, CellError

__all__ = [
    "CELLS",
    "DEFAULT_RESET",
    "NAMES",
    "Cell",
    "Drives",
    "Scale",
    "every",
    "find",
    "is_known",
    "known",
    "load_cell",
    "register",
    "variants",
]

CELLS: dict[tuple[str, str | None], Cell] = {
    (cell.name, cell.reset): cell
    for cell in (
        RNN(), MinimalRNN(), GRUAfter(), GRUBefore(), LSTM(), PeepholeLSTM(), MGU(), CoupledLSTM(), ProjectionLSTM()
    )
}  # fmt: skip

NAMES: tuple[str, ...] = tuple(dict.fromkeys(name for name, _ in CELLS))

DEFAULT_RESET: dict[str, str | None] = {name: next(r for n, r in CELLS if n == name) for name in NAMES}
"""The reset variant meant when none is named: "after" for the GRU, None for cells without a reset gate."""

_registered: dict[str, Cell] = {}
"""The users' cells of this process, by name."""


def register(cell: Cell | type[Cell], *, source: str = "") -> Cell:
    """Make a cell known by its name, from now on in this process; checked, returned as the instance that is used.

    A cell of that name that was registered before is replaced; ``source`` names the file in errors.
    Raises ``CellError`` for what is no cell (``critinit.cells.checking`` says what one is), or has the name of one of
    critinit's own.
    """
    from critinit.cells.loading import instance

    found = instance(cell, source)
    where = f"{source}: " if source else ""
    if found.name in NAMES:
        allowed = "a name that none of critinit's own cells has"
        raise CellError(f"{where}{type(found).__name__}.name: found {found.name!r}; allowed: {allowed}")
    if found.reset is not None:
        allowed = "None; a variant of a cell has a name of its own"
        raise CellError(f"{where}{type(found).__name__}.reset: found {found.reset!r}; allowed: {allowed}")
    _registered[found.name] = found
    return found


def load_cell(file: str) -> Cell:
    """Register the cell in a Python file, ``cell.py`` or ``cell.py:Class``.  RUNS THE FILE.

    Raises ``FileError`` where it cannot be read and ``CellError`` where it holds no valid cell.
    """
    from critinit.cells.loading import file_and_class, from_file

    return register(from_file(file), source=file_and_class(file)[0])


def known() -> tuple[str, ...]:
    """Names of critinit's own cells and of those registered."""
    return (*NAMES, *_registered)


def is_known(name: str) -> bool:
    """Whether a cell has that name: critinit's own, a registered one, or one of an installed package (loaded then)."""
    if name in NAMES or name in _registered:
        return True
    from critinit.cells.loading import installed

    found = installed(name) if name.isidentifier() else None
    if found is not None:
        _registered[name] = found
    return found is not None


def variants(name: str) -> tuple[Cell, ...]:
    """The cells of a known name, one for each reset variant, the default first."""
    if name in _registered:
        return (_registered[name],)
    return tuple(cell for (n, _), cell in CELLS.items() if n == name)


def every() -> tuple[Cell, ...]:
    """All known cells."""
    return (*CELLS.values(), *_registered.values())


def find(name: str, reset: str | None = None) -> Cell:
    """The cell of that name; ``reset`` None means the default variant.

    Raises ``ArgumentError`` for an unknown name or a reset variant that the cell does not have.
    """
    if not is_known(name):
        raise ArgumentError(f"cell: found {name!r}; allowed: {', '.join(known())}, or a file with a cell of yours")
    found = variants(name)
    chosen = [cell for cell in found if reset is None or cell.reset == reset]
    if not chosen:
        allowed = [cell.reset for cell in found if cell.reset is not None]
        said = f"allowed: {', '.join(allowed)}" if allowed else f"{name} has no reset gate; leave it out"
        raise ArgumentError(f"reset: found {reset!r}; {said}")
    return chosen[0]
