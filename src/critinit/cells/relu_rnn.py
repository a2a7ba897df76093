"""The vanilla RNN with rectified units: h' = max(u_hidden, 0) (Le, Jaitly & Hinton 2015, arXiv:1504.00941)."""

from __future__ import annotations

from typing import Any

import numpy as np

from critinit.cells._base import PreActivations
from critinit.cells.rnn import RNN

__all__ = ["ReLURNN"]


class ReLURNN(RNN):
    """h' = max(W h + U x + b, 0).

    Nothing bounds the state: E h'² = (σ² E h² + ν² R)/2 without biases, so it is finite where σ² < 2, where χ = σ²/2.
    """

    name = "relu_rnn"

    def candidate(self, u: PreActivations) -> Any:
        return np.maximum(u["hidden"], 0.0)
