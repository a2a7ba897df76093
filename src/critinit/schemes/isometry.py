"""The paper's idea (arXiv:1901.08987): recurrent variances near 0 and the keep gate nearly shut.

With v → 0 the one-step Jacobian is D_f: its squared singular values have mean χ = E f² and vanishing variance, and the
keep gate's bias alone sets the time scale: χ = exp(−1/T) is solved for it with the untied theory, all units alike.
The vanilla RNN has no gate: there an orthogonal kernel of gain 1 is used and the input's variance, which drives tanh
into its nonlinearity, is solved for: ν²R ≈ 1/(2T²).
"""

from __future__ import annotations

import math

import numpy as np

from critinit.cells import Cell
from critinit.schemes._base import (
    Circumstances,
    Parts,
    Scheme,
    bias,
    gate,
    keep_bias,
    kernel,
    near_zero,
    needs_keep_gate,
)
from critinit.theory.laws import grid_law
from critinit.theory.untied import solve

__all__ = ["SCHEME", "rnn_gates"]


def rnn_drive(cell: Cell, T: int) -> float:
    """The variance ν²R of the vanilla RNN's input drive at which an orthogonal kernel of gain 1 has χ = exp(−1/T).

    Solved on a grid that narrows around the small-drive limit 1/(2T²); to 1e-6 of its logarithm.
    """
    low, high = math.log(0.05 / T**2), math.log(200.0 / T**2)
    for _ in range(4):
        logs = np.linspace(low, high, 24)
        gates = {name: {"recurrent": np.ones(1), "input": np.exp(logs), "mean": np.zeros(1)} for name in cell.gates}
        chi = solve(grid_law(cell.name, gates)).chi
        above = int(np.sum(chi > math.exp(-1.0 / T)))
        low, high = logs[max(above - 1, 0)], logs[min(above, len(logs) - 1)]
    return math.exp(low)


def rnn_gates(at: Circumstances) -> dict[str, Parts]:
    """The gates of a cell without a keep gate: orthogonal kernels of gain 1, inputs that keep tanh nearly linear."""
    drive = rnn_drive(at.cell, at.T)
    return {
        name: gate(kernel("orthogonal", 1.0), kernel("normal", at.drive(drive)), bias(0.0)) for name in at.cell.gates
    }


def _gates(at: Circumstances) -> dict[str, Parts]:
    if at.cell.is_plain:
        return rnn_gates(at)
    keep = needs_keep_gate("isometry", at.cell)
    small = near_zero(at.T)
    mean = keep_bias(-math.expm1(-1.0 / at.T), small * at.input_variance, squared=True)
    return {
        name: gate(
            kernel("normal", small),
            kernel("normal", at.drive(1.0) if name == at.cell.candidate_gate else small),
            bias(mean if name == keep else 0.0),
        )
        for name in at.cell.gates
    }


SCHEME = Scheme(
    "isometry", "nearly shut keep gate, recurrent variances near 0 (arXiv:1901.08987)", _gates, "time_scale"
)
