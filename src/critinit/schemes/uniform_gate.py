"""Uniform gate initialization (Gu et al. 2020, arXiv:1910.09890): gate values uniform over units.

σ(b_keep) ~ U[1/d, 1 − 1/d] with d the hidden size (T where that is not known); the LSTM's input gate takes the
opposite bias, unit by unit.
"""

from __future__ import annotations

from critinit.schemes._base import LayerContext, Parts, Scheme, memory_gain_for_times, spread_gates

__all__ = ["SCHEME"]


def _gates(layer: LayerContext) -> dict[str, Parts]:
    d = float(max(layer.hidden_size or layer.T, 3))
    spread = {"distribution": "uniform_gate", "min_time": d / (d - 1.0), "max_time": d}
    return spread_gates("uniform_gate", layer, spread)


SCHEME = Scheme(
    "uniform_gate",
    "gate values uniform over units, coupled input gate (arXiv:1910.09890)",
    _gates,
    memory_gain=lambda layer: memory_gain_for_times(layer, _gates(layer)),
)
