"""What torch.nn.RNN, GRU and LSTM do by default: everything U(±1/√H), two biases added.

σ² = 1/3; ν² = M/(3H), with M = H where the widths are not known; the effective bias has variance 2/(3H) (the GRU's
candidate 1/(3H): its other bias sits behind the reset gate), H = 128 where it is not known.  The sum of two uniform
biases is written as a normal one of the same variance.  With a projection to P = αH coordinates, which is
U(±1/√H) too, σ² = α/3.  Cells that PyTorch lacks follow the same rule.
"""

from __future__ import annotations

from critinit.schemes._base import PROJECTION_WIDTH, LayerContext, Parts, Scheme, bias, gate, kernel

__all__ = ["SCHEME"]

_HIDDEN = 128
"""Units where their number is not known."""


def _gates(layer: LayerContext) -> dict[str, Parts]:
    hidden = layer.hidden_size or _HIDDEN
    share = PROJECTION_WIDTH if layer.cell.projects else 1.0
    width = share * hidden if layer.index else (layer.input_size or hidden)
    gates = {}
    for name in layer.cell.gates:
        biases = 1 if name in layer.cell.after else 2
        gates[name] = gate(
            kernel("uniform", share / 3.0),
            kernel("uniform", width / (3.0 * hidden)),
            bias(0.0, biases / (3.0 * hidden)),
        )
    return gates


def _projection(layer: LayerContext) -> Parts:
    return {"kernel": kernel("uniform", 1.0 / 3.0), "width": PROJECTION_WIDTH}


SCHEME = Scheme("torch", "what PyTorch does by default: U(±1/√H) everywhere", _gates, projection=_projection)
