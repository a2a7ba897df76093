"""The GRU as cuDNN and most frameworks have it: the reset gate scales the product.

f = σ(u_update), r = σ(u_reset):   h' = f∘h + (1−f)∘tanh(U x + b + r∘(W h))

``update`` keeps the old state.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from critinit.cells._base import Cell, PreActivations, Scale
from critinit.dual import sigmoid

__all__ = ["GRU", "GatedUnit"]


class GatedUnit(Cell):
    """What the GRUs share; they differ in where the reset gate acts."""

    gates: ClassVar[tuple[str, ...]] = ("update", "reset", "candidate")
    keep_gate = "update"
    write_gate = "update"
    candidate_gate = "candidate"

    def keep(self, u: PreActivations) -> Any:
        return sigmoid(u["update"])

    def write(self, u: PreActivations) -> Any:
        return sigmoid(-u["update"])

    def candidate(self, u: PreActivations) -> Any:
        return np.tanh(u["candidate"])


class GRU(GatedUnit):
    """The reset gate scales the recurrent product W h."""

    name = "gru"
    after = {"candidate": Scale("reset", sigmoid)}
