"""The original GRU (Cho et al. 2014, arXiv:1406.1078), which some frameworks have too.

f = σ(u_update), r = σ(u_reset):   h' = f∘h + (1−f)∘tanh(W(r∘h) + U x + b)

The reset gate scales the state ahead of the kernel.  ``update`` keeps the old state.
"""

from __future__ import annotations

from critinit.cells._base import Scale
from critinit.cells.gru import GatedUnit
from critinit.dual import sigmoid

__all__ = ["GRUResetBefore"]


class GRUResetBefore(GatedUnit):
    """The reset gate scales the state that the candidate's kernel reads."""

    name = "gru_reset_before"
    before = {"candidate": Scale("reset", sigmoid)}
