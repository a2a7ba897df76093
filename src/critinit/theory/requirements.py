"""The numbers that a good start is judged by, before any training.

``written``: E[Var(write·candidate)·(E keep²)ᵀ] over units, what one informative step adds to the memory times what is left of
    it T uninformative steps later: the signal of an early input.  The E keep² is that at null inputs, of power R₀.
``retention``: E[(E keep²)ᵀ] over units: what those T steps leave of a perturbation.  Not the retention of ``analyze``, whose inputs
    are informative at every step.
``gain``: root mean square over units of E write/(1 − E keep) at null inputs: how far a constant shift of the candidate moves the
    memory; 1 where write and keep are coupled.  Parameters' updates are such shifts.

Validity: recurrent kernels carry nothing here, which holds where their variances are small (χ, tied, tells where they are
not); quadrature of the untied theory, 1e-8.
"""

from __future__ import annotations

import numpy as np

from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.spec import InitSpec, Layer
from critinit.distributions.numbers import StrictModel
from critinit.theory.parameters import layer_parameters
from critinit.theory.untied.solution import unit_moments

__all__ = ["Requirements", "requirements"]

_LONGEST = 1e15


class Requirements(StrictModel):
    """Written signal, retention and gain of one layer; see the module."""

    written: float
    retention: float
    gain: float


def requirements(spec: InitSpec, layer: Layer | None = None) -> Requirements:
    """What ``layer`` of ``spec`` (the first) fulfils.

    Raises ``ArgumentError`` for identity recurrent kernels, and for a cell in which no gate keeps the state.
    """
    layer, cell = layer or spec.layers[0], spec.find_cell()
    if cell.keep_gate is None:
        raise ArgumentError(f"cell: found {cell.name}; allowed: a cell in which a gate keeps the state")
    params = layer_parameters(cell, layer)
    active = idle = unit_moments(params)
    null = layer.input.padding_power
    if null != layer.input.variance:
        idle = unit_moments(layer_parameters(cell, layer, input_variance=null))

    def over_units(x: Array) -> float:
        weights = (active.bias_weights, params.class_weights, params.environment_weights)
        by_unit = np.broadcast_to(x, [w.size for w in weights])
        return float(f"{np.einsum('bke,b,k,e', by_unit, *weights):.6g}")

    left = idle.keep_square ** float(spec.T)
    gain = idle.write / np.maximum(1.0 - idle.keep, 1.0 / _LONGEST)
    return Requirements(
        written=over_units(active.written_variance * left),
        retention=over_units(left),
        gain=over_units(gain**2) ** 0.5,
    )
