"""What Keras' SimpleRNN, GRU and LSTM do by default: Glorot input kernel, one orthogonal block for all gates.

The kernels of n gates are one matrix.  Glorot uniform gives Var(entry) = 2/(M + nH), ν² = 2M/(M + nH) (M = H where the
widths are not known).  An H × nH block with orthonormal rows has Var(entry) = 1/(nH): σ² = 1/n, and no gate's own
kernel is orthogonal for n > 1.  Biases are 0, the LSTM's forget bias 1.  Cells that Keras lacks follow the same rule.
"""

from __future__ import annotations

from critinit.schemes._base import LayerContext, Parts, Scheme, bias, gate, kernel

__all__ = ["SCHEME"]


def _gates(layer: LayerContext) -> dict[str, Parts]:
    n = len(layer.cell.gates)
    ratio = 1.0 if layer.index or not (layer.input_size and layer.hidden_size) else layer.input_size / layer.hidden_size
    recurrent = kernel("orthogonal", 1.0) if n == 1 else kernel("normal", 1.0 / n)
    return {
        name: gate(recurrent, kernel("uniform", 2.0 * ratio / (ratio + n)), bias(1.0 if name == "forget" else 0.0))
        for name in layer.cell.gates
    }


SCHEME = Scheme("keras", "what Keras does by default: Glorot input, one orthogonal block, forget bias 1", _gates)
