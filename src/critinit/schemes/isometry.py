"""The paper's idea (arXiv:1901.08987): recurrent variances near 0 and the keep gate nearly shut.

With v → 0 the one-step Jacobian is D_f: its squared singular values have mean χ = E f² and vanishing variance, and the
keep gate's bias alone sets the time scale: χ = exp(−1/T) is solved for it with the untied theory, all units alike.
The vanilla RNN has no gate: there an orthogonal kernel of gain 1 is used and the input's variance, which takes tanh
into its nonlinearity, is solved for: ν²R ≈ 1/(2T²).
"""

from __future__ import annotations

import math

from critinit.cells import Cell
from critinit.distributions.numbers import rounded
from critinit.errors import SchemeError
from critinit.schemes._base import (
    LayerContext,
    Parts,
    Scheme,
    bias,
    gate,
    keep_bias,
    kernel,
    near_zero,
    needs_keep_gate,
    neutral_memory_gain,
    normalized,
)
from critinit.theory.parameters import grid_parameters
from critinit.theory.untied.solution import solve

__all__ = ["SCHEME", "rnn_gates"]


def rnn_input(cell: Cell, T: int) -> float:
    """Return the pre-activation variance ν²R at which a cell h' = n(u) has χ = exp(−1/T).

    The recurrent kernel is orthogonal, of gain 1.  Solved around the limit of small variances, 1/(2T²); to 1e-9 of its
    logarithm.
    """
    from scipy.optimize import brentq

    def excess(log_variance: float) -> float:
        gates = {name: {"recurrent": 1.0, "input": math.exp(log_variance), "mean": 0.0} for name in cell.gates}
        return float(solve(grid_parameters(cell.name, gates)).chi) - math.exp(-1.0 / T)

    low, high = math.log(0.05 / T**2), math.log(200.0 / T**2)
    if not excess(low) > 0.0 > excess(high):
        hint = f"no variance of the input gives {cell.name} a time scale of {T} steps with orthogonal kernels of gain 1"
        raise SchemeError("scheme", found="isometry", hint=hint)
    return rounded(math.exp(brentq(excess, low, high, xtol=1e-12, rtol=1e-12)))


def rnn_gates(layer: LayerContext) -> dict[str, Parts]:
    """Return the gates of a cell h' = n(u): orthogonal kernels of gain 1, inputs that keep tanh nearly linear."""
    variance = layer.input_variance_for(rnn_input(layer.cell, layer.T))
    return {name: gate(kernel("orthogonal", 1.0), kernel("normal", variance), bias(0.0)) for name in layer.cell.gates}


def _gates(layer: LayerContext) -> dict[str, Parts]:
    if layer.cell.is_plain:
        return rnn_gates(layer)
    return normalized(layer, _shut_gates) if layer.cell.normalized else _shut_gates(layer)


def _shut_gates(layer: LayerContext) -> dict[str, Parts]:
    """The gates of a cell that keeps, without normalization."""
    keep = needs_keep_gate("isometry", layer.cell)
    small = near_zero(layer.T)
    mean = rounded(keep_bias(-math.expm1(-1.0 / layer.T), small * layer.input_variance, squared=True))
    return {
        name: gate(
            kernel("normal", small),
            kernel("normal", layer.input_variance_for(1.0) if name == layer.cell.candidate_gate else small),
            bias(mean if name == keep else 0.0),
        )
        for name in layer.cell.gates
    }


SCHEME = Scheme(
    "isometry",
    "nearly shut keep gate, recurrent variances near 0 (arXiv:1901.08987)",
    _gates,
    "time_scale",
    memory_gain=lambda layer: neutral_memory_gain(layer, _gates(layer)),
)
