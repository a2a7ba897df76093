"""Layers with weights of order 1, of every cell, and sequences for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from critinit.cells import find_cell
from critinit.tensors.recurrence import LayerWeights

CELLS = (
    "rnn", "relu_rnn", "minimal_rnn", "gru", "gru_reset_before", "lstm", "peephole_lstm", "mgu", "ugrnn",
    "coupled_lstm", "projection_lstm", "layernorm_gru", "layernorm_lstm", "layernorm_lstm_kept",
)  # fmt: skip


def layer(name: str, units: int = 6, inputs: int = 4, seed: int = 0, gain: float = 1.0, **changes: Any) -> LayerWeights:
    """A layer of a cell with normal weights; ``gain``: of the recurrent kernels."""
    cell, rng = find_cell(name), np.random.default_rng(seed)
    inputs = units if cell.embeds_input else inputs
    reads = units - 2 if cell.projects else units

    def kernel(columns: int, size: float = 1.0) -> dict[str, np.ndarray]:
        return {g: size * rng.standard_normal((units, columns)) / columns**0.5 for g in cell.gates}

    def vectors(mean: float = 0.0) -> dict[str, np.ndarray]:
        return {g: mean + 0.3 * rng.standard_normal(units) for g in cell.gates}

    parts: dict[str, Any] = {
        "recurrent": kernel(reads, gain),
        "input": kernel(inputs),
        "bias": vectors(),
        "projection": rng.standard_normal((reads, units)) / units**0.5 if cell.projects else None,
        "inner_bias": {"candidate": rng.standard_normal(units)} if name == "gru" else {},
        "recurrent_gain": vectors(1.0) if cell.normalized else {},
        "input_gain": vectors(1.0) if cell.normalized else {},
        "memory_gain": vectors(1.0)[cell.gates[0]] if cell.normalized and cell.has_readout else None,
    }
    return LayerWeights(cell, **{**parts, **changes})


def sequences(lengths: tuple[int, ...], inputs: int, seed: int = 1) -> list[np.ndarray]:
    """Normal inputs, a sequence of each length."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, inputs)) for n in lengths]
