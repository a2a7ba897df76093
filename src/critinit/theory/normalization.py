"""Layer normalization at infinite width: averages over units are numbers.

A normalized product has no mean and the second moment of its gain squared, whatever its kernel's variance and the
message's second moment Q are: norm(W m) is W m/√(σ² Q), and its derivative by m is the kernel over √(σ² Q).  What else
the derivative of a normalization has, the projections on the mean and on the product itself, is of order 1/N on a
perturbation that knows nothing of the state.  So a normalized cell is the cell itself with kernels of variance γ² that
read m/√Q, or of variance γ²/Q that read m.  Where Q falls towards 0 these kernels grow without bound.

The memory is normalized in the same way, before it is read or as it is kept: γ_c·(c − mean c)/deviation of c, averages
over units.  Kept so, it is a memory whose keep and write have the factor γ_c/D, D the deviation before normalization.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from critinit.cells import Cell, PreActivations
from critinit.dual import value

__all__ = ["ScaledMemory", "normalized_memory", "normalized_message"]


def normalized_message(message: Any) -> Any:
    """Return m/√E m², the average over all units; a message that is 0 everywhere stays so.

    Args:
        message: An array or a ``Dual``, whose units are all its value's entries.

    Example:
        >>> normalized_message(np.array([3.0, -3.0])).tolist()
        [1.0, -1.0]
    """
    root = float(np.sqrt(np.mean(value(message) ** 2)))
    return message / root if root > 0.0 else message


def normalized_memory(s: Any, gain: float | None) -> Any:
    """Return γ_c·(s − mean)/deviation over all units; the memory itself where ``gain`` is None.

    Args:
        s: An array or a ``Dual``, whose units are all its value's entries.
        gain: γ_c.

    Example:
        >>> normalized_memory(np.array([2.0, 4.0]), 0.5).tolist()
        [-0.5, 0.5]
    """
    if gain is None:
        return s
    deviation = float(np.std(value(s)))
    return (s - float(np.mean(value(s)))) * (gain / deviation if deviation > 0.0 else 0.0)


class ScaledMemory(Cell):
    """The same cell with what is written, and perhaps kept, times a number, and read about another origin.

    A cell whose stationary memory is normalized before it is read is this cell with scale γ_c/deviation of c, that is
    the memory in another unit; one that keeps it so has the scale γ_c/D for what is kept too.

    Args:
        cell: The cell; it has a read-out.
        scale: The factor of what is written.
        shift: What is subtracted from the memory before it is read.
        kept: The factor of what is kept.
    """

    def __init__(self, cell: Cell, scale: float, shift: float = 0.0, kept: float = 1.0) -> None:
        self.cell, self.scale, self.shift, self.kept = cell, scale, shift, kept
        roles = ("keep_gate", "write_gate", "candidate_gate", "read_gate")
        for name in ("name", "gates", *roles, "normalized", "kinks", "breaks", "strips"):
            setattr(self, name, getattr(cell, name))

    def keep(self, u: PreActivations) -> Any:
        return self.kept * self.cell.keep(u)

    def write(self, u: PreActivations) -> Any:
        return self.scale * self.cell.write(u)

    def candidate(self, u: PreActivations) -> Any:
        return self.cell.candidate(u)

    def read(self, s: Any, u: PreActivations) -> Any:
        return self.cell.read(s - self.shift, u)
