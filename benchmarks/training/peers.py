"""Layers that PyTorch lacks and that people try instead of another start: states (T, n, units) from inputs, as torch's.

``NormalizedLstm`` normalizes every kernel's product and the memory (Ba, Kiros & Hinton 2016).  ``Diagonal`` is a linear
recurrence of complex units, each with its own time constant and phase, and a gated layer that reads them (Orvieto et
al. 2023): another architecture, a measure of how far a recurrent cell is from one that is built for long memory.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

import critinit
from critinit.tensors.sampling import draw

__all__ = ["Diagonal", "NormalizedLstm"]

_GATES = ("input", "forget", "cell", "output")


def _normalized(x: Tensor) -> Tensor:
    """Layer normalization over the last axis; where all numbers are alike the result is 0 and so is its derivative.

    PyTorch's derivative is 1/√ε = 316 there.  A state of 0 stays 0 while the input is 0, as before a short series
    begins, and each such step multiplies the gradient by 316 twice, until it overflows.
    """
    alike = x.amax(-1, keepdim=True) == x.amin(-1, keepdim=True)
    return torch.where(alike, 0.0, layer_norm(x, x.shape[-1:]))


class NormalizedLstm(torch.nn.Module):
    """A layer-normalized LSTM from a spec of ``layernorm_lstm``."""

    def __init__(self, spec: critinit.InitSpec, inputs: int, hidden: int, seed: int) -> None:
        super().__init__()
        drawn = draw(spec, inputs, hidden, seed=seed).layers[0][0]

        def joined(part: str) -> torch.nn.Parameter:
            arrays = [torch.as_tensor(getattr(drawn.gates[gate], part)) for gate in _GATES]
            return torch.nn.Parameter(torch.stack(arrays).float())

        self.recurrent, self.input, self.bias = joined("recurrent"), joined("input"), joined("bias")
        self.recurrent_gain, self.input_gain = joined("recurrent_gain"), joined("input_gain")
        self.memory_gain = torch.nn.Parameter(torch.as_tensor(drawn.memory_gain).float())

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        c = h = x.new_zeros(x.shape[1], self.bias.shape[1])
        fed = _normalized(torch.einsum("tnd,ghd->tngh", x, self.input)) * self.input_gain + self.bias
        back = self.recurrent.flatten(0, 1).T
        states = []
        for driven in fed:
            product = (h @ back).unflatten(-1, (len(_GATES), -1))
            i, f, g, o = (driven + _normalized(product) * self.recurrent_gain).unbind(1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * (_normalized(c) * self.memory_gain).tanh()
            states.append(h)
        return torch.stack(states), None


class Diagonal(torch.nn.Module):
    """h' = λ h + γ B x with λ = exp(−e^ν + iθ), γ² = 1 − |λ|², then y = Re(C h) + D x and gelu(y)·σ(G gelu(y)).

    Radii are drawn so that |λ|² is uniform between e^(−2) and e^(−2/T), phases uniform on the circle.  All steps at
    once, as a convolution by Fourier transforms.
    """

    def __init__(self, inputs: int, hidden: int, T: int, seed: int) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(seed)

        def normal(rows: int, columns: int, variance: float) -> torch.nn.Parameter:
            return torch.nn.Parameter(math.sqrt(variance) * torch.randn(rows, columns, generator=source))

        low, high = math.exp(-2.0), math.exp(-2.0 / T)
        squared = low + (high - low) * torch.rand(hidden, generator=source)
        self.nu = torch.nn.Parameter(torch.log(-0.5 * torch.log(squared)))
        self.theta = torch.nn.Parameter(2 * math.pi * torch.rand(hidden, generator=source))
        self.into = torch.nn.ParameterList([normal(hidden, inputs, 0.5 / inputs) for _ in range(2)])
        self.out = torch.nn.ParameterList([normal(hidden, hidden, 1.0 / hidden) for _ in range(2)])
        self.skip = normal(hidden, inputs, 1.0 / inputs)
        self.gate = torch.nn.Linear(hidden, hidden)
        with torch.no_grad():
            self.gate.weight.copy_(normal(hidden, hidden, 1.0 / hidden))
            self.gate.bias.zero_()

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        steps = len(x)
        rate = torch.exp(self.nu)
        powers = torch.exp(torch.arange(steps, device=x.device)[:, None] * torch.complex(-rate, self.theta))
        scale = torch.sqrt(-torch.expm1(-2.0 * rate))
        driven = torch.complex(*(scale * (x @ part.T) for part in self.into))
        spectrum = torch.fft.fft(powers, 2 * steps, dim=0)[:, None] * torch.fft.fft(driven, 2 * steps, dim=0)
        h = torch.fft.ifft(spectrum, dim=0)[:steps]
        y = gelu(h.real @ self.out[0].T - h.imag @ self.out[1].T + x @ self.skip.T)
        return y * torch.sigmoid(self.gate(y)), None
