"""The recurrent cells.  One file a cell; ``CELLS`` names critinit's own, and yours join them.

A cell of your own: a Python file with a subclass of ``Cell``, named with ``--cell FILE.py`` or loaded with
``load_cell``; a class passed to ``register_cell``; or a package with an entry point in the group ``critinit.cells``.
"""

from __future__ import annotations

from typing import Any

from critinit.cells._base import EMBEDDED, Cell, PreActivations, Scale
from critinit.cells.coupled_lstm import CoupledLSTM
from critinit.cells.gru import GRU
from critinit.cells.gru_reset_before import GRUResetBefore
from critinit.cells.layernorm_gru import LayerNormGRU
from critinit.cells.layernorm_lstm import LayerNormLSTM
from critinit.cells.layernorm_lstm_kept import LayerNormLSTMKept
from critinit.cells.lstm import LSTM
from critinit.cells.mgu import MGU
from critinit.cells.minimal_rnn import MinimalRNN
from critinit.cells.peephole_lstm import PeepholeLSTM
from critinit.cells.projection_lstm import ProjectionLSTM
from critinit.cells.relu_rnn import ReLURNN
from critinit.cells.rnn import RNN
from critinit.cells.ugrnn import UGRNN
from critinit.errors import CellError
from critinit.plugins import Registry

__all__ = ["CELLS", "EMBEDDED", "Cell", "PreActivations", "Scale", "find_cell", "load_cell", "register_cell"]


_ALLOWED = "the name of a cell, such as 'gru', or a subclass of critinit.Cell"
_LONGEST_TEXT = 160
"""Characters of a foreign error's text in a message: it stays on one line."""


def _checked(item: object, source: str) -> tuple[str, Cell]:
    """The cell of a class, or the cell itself, valid in every engine."""
    from critinit.cells.checking import check_cell

    if isinstance(item, type):
        if not issubclass(item, Cell):
            raise CellError(found=f"the class {item.__name__}", allowed=_ALLOWED, source=source)
        kind: Any = item
        try:
            item = kind()
        except Exception as error:  # whatever a user's class raises
            raised = f"{type(error).__name__}: {str(error)[:_LONGEST_TEXT]}"
            allowed = "a class that is made without arguments"
            raise CellError(f"{kind.__name__}()", found=raised, allowed=allowed, source=source) from None
    if not isinstance(item, Cell):
        raise CellError(found=type(item).__name__, allowed=_ALLOWED, source=source)
    check_cell(item, source)
    return item.name, item


CELLS: Registry[Cell] = Registry(
    "cell",
    group="critinit.cells",
    built_in={
        cell.name: cell
        for cell in (
            RNN(),
            MinimalRNN(),
            GRU(),
            GRUResetBefore(),
            LSTM(),
            PeepholeLSTM(),
            MGU(),
            UGRNN(),
            CoupledLSTM(),
            ProjectionLSTM(),
            LayerNormLSTM(),
            LayerNormLSTMKept(),
            LayerNormGRU(),
            ReLURNN(),
        )
    },
    checked=_checked,
    offered=lambda item: isinstance(item, type) and issubclass(item, Cell) and item is not Cell,
    file_hint="a Python file with one subclass of critinit.Cell",
)
"""The known cells by name."""


def find_cell(name: str) -> Cell:
    """Return the cell of that name.

    Args:
        name: The name of one of critinit's own cells, a registered one, or one of an installed package.

    Raises:
        ArgumentError: There is none; the message suggests the closest name.

    Example:
        >>> find_cell("gru").gates
        ('update', 'reset', 'candidate')
    """
    return CELLS.get(name)


def register_cell(cell: Cell | type[Cell], *, source: str = "") -> Cell:
    """Make a cell known by its name, from now on in this process.

    Args:
        cell: A subclass of ``Cell``, or an instance; it can be used as a decorator.
        source: The file that it comes from, for messages.

    Returns:
        The instance that is used.  A cell of that name that was registered before is replaced.

    Raises:
        CellError: It is no valid cell; ``critinit.cells.checking`` says what one is.
        PluginError: It has the name of one of critinit's own.
    """
    return CELLS.register(cell, source)


def load_cell(file: str) -> Cell:
    """Register the cell in a Python file, ``cell.py`` or ``cell.py:Class``.  RUNS THE FILE.

    Args:
        file: The file's path, and the name of the class in it where it has several.

    Raises:
        FileError: The file cannot be read.
        PluginError: It does not run, or holds no cell, or several.
        CellError: The cell is not valid.
    """
    return CELLS.load_file(file)
