"""What torch.nn.RNN, GRU and LSTM do by default: everything U(±1/√H), two biases added.

σ² = 1/3; ν² = M/(3H), with M = H where the widths are not known; the effective bias has variance 2/(3H) (the GRU's
candidate 1/(3H): its other bias sits behind the reset gate), H = 128 where it is not known.  The sum of two uniform
biases is written as a normal one of the same variance.  Cells that PyTorch lacks follow the same rule.
"""

from __future__ import annotations

from critinit.schemes._base import Circumstances, Parts, Scheme, bias, gate, kernel

__all__ = ["SCHEME"]

_HIDDEN = 128


def _gates(at: Circumstances) -> dict[str, Parts]:
    hidden = at.hidden_size or _HIDDEN
    width = hidden if at.index else (at.input_size or hidden)
    gates = {}
    for name in at.cell.gates:
        biases = 1 if name in at.cell.after else 2
        gates[name] = gate(
            kernel("uniform", 1.0 / 3.0),
            kernel("uniform", width / (3.0 * hidden)),
            bias(0.0, biases / (3.0 * hidden)),
        )
    return gates


SCHEME = Scheme("torch", "what PyTorch does by default: U(±1/√H) everywhere", _gates)
