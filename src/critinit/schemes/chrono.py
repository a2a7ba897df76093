"""Chrono initialization (Tallec & Ollivier 2018, arXiv:1804.11188): time constants uniform up to T.

b_keep = ln U[1, T−1], which is τ − 1 uniform; the LSTM's input gate takes the opposite bias, unit by unit.  Kernels as
usual: orthogonal recurrent, normal input of unit variance.
"""

from __future__ import annotations

from critinit.schemes._base import (
    LayerContext,
    Parts,
    Scheme,
    bias,
    coupled,
    gate,
    kernel,
    memory_gain_for_times,
    needs_keep_gate,
)

__all__ = ["SCHEME"]


def _gates(layer: LayerContext) -> dict[str, Parts]:
    keep = needs_keep_gate("chrono", layer.cell)
    spread = {"distribution": "uniform_time", "min_time": 2.0, "max_time": float(max(layer.T, 2))}
    biases = {keep: spread}
    if layer.cell.write_gate not in (None, keep):
        biases[str(layer.cell.write_gate)] = coupled(keep)
    return {
        name: gate(layer.orthogonal(), kernel("normal", 1.0), biases.get(name, bias(0.0))) for name in layer.cell.gates
    }


SCHEME = Scheme(
    "chrono",
    "time constants uniform up to T, coupled input gate (arXiv:1804.11188)",
    _gates,
    memory_gain=lambda layer: memory_gain_for_times(layer, _gates(layer)),
)
