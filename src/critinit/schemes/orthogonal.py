"""The common recipe: orthogonal recurrent kernels gate by gate, keep-gate bias 1 (Jozefowicz et al. 2015)."""

from __future__ import annotations

from critinit.errors import ArgumentError
from critinit.schemes._base import Circumstances, Parts, Scheme, bias, gate, kernel

__all__ = ["SCHEME"]


def _gates(at: Circumstances) -> dict[str, Parts]:
    if at.cell.projects:
        raise ArgumentError(
            f"scheme: orthogonal needs square recurrent kernels; those of {at.cell.name} read a projection"
        )
    return {
        name: gate(kernel("orthogonal", 1.0), kernel("normal", 1.0), bias(1.0 if name == at.cell.keep_gate else 0.0))
        for name in at.cell.gates
    }


SCHEME = Scheme("orthogonal", "orthogonal recurrent kernels, forget bias 1", _gates)
