"""What Keras' SimpleRNN, GRU and LSTM do by default: Glorot input kernel, one orthogonal block for all gates.

The kernels of n gates are one matrix.  Glorot uniform gives Var(entry) = 2/(M + nH), ν² = 2M/(M + nH) (M = H where the
widths are not known).  An H × nH block with orthonormal rows has Var(entry) = 1/(nH): σ² = 1/n, and no gate's own
kernel is orthogonal for n > 1.  Biases are 0, the LSTM's forget bias 1.  Cells that Keras lacks follow the same rule.
"""

from __future__ import annotations

from critinit.schemes._base import Circumstances, Parts, Scheme, bias, gate, kernel

__all__ = ["SCHEME"]


def _gates(at: Circumstances) -> dict[str, Parts]:
    n = len(at.cell.gates)
    ratio = 1.0 if at.index or not (at.input_size and at.hidden_size) else at.input_size / at.hidden_size
    recurrent = kernel("orthogonal", 1.0) if n == 1 else kernel("normal", 1.0 / n)
    return {
        name: gate(recurrent, kernel("uniform", 2.0 * ratio / (ratio + n)), bias(1.0 if name == "forget" else 0.0))
        for name in at.cell.gates
    }


SCHEME = Scheme("keras", "what Keras does by default: Glorot input, one orthogonal block, forget bias 1", _gates)
