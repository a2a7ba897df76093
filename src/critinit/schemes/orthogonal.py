"""The common recipe: orthogonal recurrent kernels gate by gate, keep-gate bias 1 (Jozefowicz et al. 2015)."""

from __future__ import annotations

from critinit.errors import SchemeError
from critinit.schemes._base import LayerContext, Parts, Scheme, bias, gate, kernel

__all__ = ["SCHEME"]


def _gates(layer: LayerContext) -> dict[str, Parts]:
    if layer.cell.projects:
        hint = f"orthogonal needs square recurrent kernels; those of {layer.cell.name} read a projection"
        raise SchemeError("scheme", found="orthogonal", hint=hint)
    return {
        name: gate(kernel("orthogonal", 1.0), kernel("normal", 1.0), bias(1.0 if name == layer.cell.keep_gate else 0.0))
        for name in layer.cell.gates
    }


SCHEME = Scheme("orthogonal", "orthogonal recurrent kernels, forget bias 1", _gates)
