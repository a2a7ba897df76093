"""The minimal gated unit (Zhou et al. 2016, arXiv:1603.09420): one gate does what the GRU has two for.

f = 1 − σ(u_update):   h' = (1−f)∘h + f∘tanh(W(f∘h) + U x + b)

The paper's f lets go of the old state, so its pre-activation, kernels and bias are those of ``update``, which keeps
the state as it does in the GRU, times −1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from critinit.cells._base import Cell, PreActivations, Scale
from critinit.dual import sigmoid

__all__ = ["MGU"]


def _forget(u: Any) -> Any:
    return sigmoid(-u)


class MGU(Cell):
    """One gate keeps, writes and scales the candidate's message ahead of its kernel."""

    name = "mgu"
    gates = ("update", "candidate")
    keep_gate = "update"
    write_gate = "update"
    candidate_gate = "candidate"
    before = {"candidate": Scale("update", _forget)}

    def keep(self, u: PreActivations) -> Any:
        return sigmoid(u["update"])

    def write(self, u: PreActivations) -> Any:
        return _forget(u["update"])

    def candidate(self, u: PreActivations) -> Any:
        return np.tanh(u["candidate"])
