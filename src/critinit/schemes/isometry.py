"""The paper's idea (arXiv:1901.08987): recurrent variances near 0 and the keep gate nearly shut.

With v → 0 the one-step Jacobian is D_f: its squared singular values have mean χ = E f² and vanishing variance, and the
keep gate's bias alone sets the time scale: χ = exp(−1/T) is solved for it with the untied theory, all units alike.
Where no gate keeps the state see ``critinit.schemes._ungated``.
"""

from __future__ import annotations

import math

from critinit.distributions.numbers import rounded
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
from critinit.schemes._ungated import ungated_gates

__all__ = ["SCHEME"]


def _gates(layer: LayerContext) -> dict[str, Parts]:
    if layer.cell.keep_gate is None:
        return ungated_gates("isometry", layer)
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
