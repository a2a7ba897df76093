"""Chrono initialization (Tallec & Ollivier 2018, arXiv:1804.11188): time constants uniform up to T.

b_keep = ln U[1, T−1], which is τ − 1 uniform; the LSTM's input gate takes the opposite bias, unit by unit.  Kernels as
usual: orthogonal recurrent, normal input of unit variance.
"""

from __future__ import annotations

from critinit.schemes._base import LayerContext, Parts, Scheme, memory_gain_for_times, spread_gates

__all__ = ["SCHEME"]


def _gates(layer: LayerContext) -> dict[str, Parts]:
    spread = {"distribution": "uniform_time", "min_time": 2.0, "max_time": float(max(layer.T, 2))}
    return spread_gates("chrono", layer, spread)


SCHEME = Scheme(
    "chrono",
    "time constants uniform up to T, coupled input gate (arXiv:1804.11188)",
    _gates,
    memory_gain=lambda layer: memory_gain_for_times(layer, _gates(layer)),
)
