"""The recurrent cells.  One file a cell; this table names them.

``CELLS`` maps (name, reset) to the cell; ``find(name, reset)`` answers with a clear error.
"""

from __future__ import annotations

from critinit.cells._base import Cell, Drives, Scale
from critinit.cells.coupled_lstm import CoupledLSTM
from critinit.cells.gru import GRUAfter, GRUBefore
from critinit.cells.lstm import LSTM
from critinit.cells.mgu import MGU
from critinit.cells.minimal_rnn import MinimalRNN
from critinit.cells.peephole_lstm import PeepholeLSTM
from critinit.cells.rnn import RNN
from critinit.errors import ArgumentError

__all__ = ["CELLS", "DEFAULT_RESET", "NAMES", "Cell", "Drives", "Scale", "find"]

CELLS: dict[tuple[str, str | None], Cell] = {
    (cell.name, cell.reset): cell for cell in (RNN(), MinimalRNN(), GRUAfter(), GRUBefore(), LSTM(), PeepholeLSTM(), MGU(), CoupledLSTM())
}

NAMES: tuple[str, ...] = tuple(dict.fromkeys(name for name, _ in CELLS))

DEFAULT_RESET: dict[str, str | None] = {name: next(r for n, r in CELLS if n == name) for name in NAMES}
"""The reset variant meant when none is named: "after" for the GRU, None for cells without a reset gate."""


def find(name: str, reset: str | None = None) -> Cell:
    """The cell of that name; ``reset`` None means the default variant.

    Raises ``ArgumentError`` for an unknown name or a reset variant that the cell does not have.
    """
    if name not in NAMES:
        raise ArgumentError(f"cell: found {name!r}; allowed: {', '.join(NAMES)}")
    variant = DEFAULT_RESET[name] if reset is None else reset
    if (name, variant) not in CELLS:
        allowed = [r for n, r in CELLS if n == name and r is not None]
        said = f"allowed: {', '.join(allowed)}" if allowed else f"{name} has no reset gate; leave it out"
        raise ArgumentError(f"reset: found {reset!r}; {said}")
    return CELLS[name, variant]
