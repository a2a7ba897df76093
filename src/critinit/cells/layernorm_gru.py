"""The GRU with layer normalization (Ba, Kiros & Hinton 2016, arXiv:1607.06450).

u_k = γ_x·norm(U_k x) + γ_h·norm(W_k h) + b_k for the gates;  f = σ(u_update), r = σ(u_reset):
h' = f∘h + (1−f)∘tanh(γ_x·norm(U x) + b + r∘(γ_h·norm(W h)))

norm subtracts the mean over the layer's units and divides by the deviation.  The reset gate scales the normalized
product.  ``update`` keeps the old state.
"""

from __future__ import annotations

from critinit.cells.gru import GRU

__all__ = ["LayerNormGRU"]


class LayerNormGRU(GRU):
    """The GRU whose reset gate scales the product, its products normalized."""

    name = "layernorm_gru"
    normalized = True
