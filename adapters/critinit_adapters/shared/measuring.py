"""What really stands in a block after writing, in effective numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from critinit.tensors.blocks import Block
from critinit.tensors.sampling import Draw

__all__ = ["ROWS", "Measured", "measure", "rows_to_check"]

ROWS = 32
"""Orthogonality is measured on at most so many rows, so that it costs O(32·N²) and not a second QR."""


class Measured(NamedTuple):
    """What was measured of one block.

    Attributes:
        mean: Mean of the entries.
        variance: Var(entry)·fan-in of a kernel, Var(entry) of a bias.
        orthogonality_error: max |W Wᵀ/gain² − I| over the rows checked; None of other kernels and of biases.
    """

    mean: float
    variance: float
    orthogonality_error: float | None


def rows_to_check(rows: int) -> list[int]:
    """Return evenly spaced row numbers, all of them up to 32."""
    return sorted({round(k) for k in np.linspace(0, rows - 1, min(rows, ROWS))})


def measure(stored: Any, block: Block, draw: Draw) -> Measured:
    """Measure a stored block, its sign, offset and layout undone.

    Args:
        stored: The block's region of the tensor, as anything that NumPy reads.
        block: The block.
        draw: What it should hold.
    """
    values = block.canonical(np.asarray(stored).astype(np.float64))
    error = None
    if draw.gain:
        rows = rows_to_check(len(values))
        gram = values[rows] @ values.T / draw.gain**2
        gram[np.arange(len(rows)), rows] -= 1.0
        error = float(np.abs(gram).max())
    with np.errstate(invalid="ignore"):  # an infinity, which the caller reports
        return Measured(float(values.mean()), float(values.var()) * draw.fan_in, error)
