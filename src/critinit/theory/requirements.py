"""The numbers that a good start is judged by, before any training.

A parameter can only be learned where the state still shows an early input, and where a step of the optimizer does not
move the memory too far.  Three numbers of one layer say so; ``Requirements`` states them with their good ranges.

Where the memory is normalized it is meant as it is read, with the scale that it has under steady inputs: what padding
does to that scale comes after a unit's own time constants.

Validity: recurrent kernels are left out, which holds where their variances are small (where they are not, the tied χ
shows it), except rotations, whose retention is that of the untied theory; the averages are those of the untied theory,
to 1e-8.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from pydantic import Field

from critinit.cells import Cell
from critinit.distributions.numbers import LONGEST_TIME, StrictModel
from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.spec import InitSpec, Layer
from critinit.spec.model import Predicted
from critinit.theory.parameters import layer_parameters
from critinit.theory.untied.solution import layer_unit_moments, padding_parameters, solve, solve_layer, unit_moments

__all__ = ["Requirements", "requirements"]


class Requirements(StrictModel):
    """What a layer does for learning long lags, before any training.

    Attributes:
        early_input_response: E[Var(write·candidate)·(E keep²)ᵀ] over units: the variance that one informative step adds
            to the memory, times what is left of it after T steps of padding.  It is small, from 0 to 1: compare it
            between schemes.  Good: at least a hundredth of the largest.  Bad: below 1e-20, where nothing of an early
            input is left.
        padding_retention: E[(E keep²)ᵀ] over units: the share of a perturbation's squared length that T steps of
            padding leave, from 0 to 1; recurrent kernels are left out.  Good: .001 and more.  Bad: below 1e-6, where
            units by themselves bring no early input to the end, and no gradient back.  ``Numbers.retention`` differs:
            it counts recurrent kernels, and inputs at every step.
        response_gain: Root mean square over units of E write/(1 − E keep) at padding: how far the memory moves in the
            end per unit of a lasting shift of the candidate.  The optimizer's first steps are such shifts.  Good: 1, as
            where write = 1 − keep; less is harmless.  Bad: more than 1/learning rate, where the first steps throw the
            memory about; take a smaller learning rate, or couple the write gate to the keep gate.

    Example:
        >>> found = Requirements(early_input_response=0.02, padding_retention=0.3, response_gain=1.0)
        >>> found.padding_retention
        0.3
    """

    early_input_response: float = Field(
        description="What an early input leaves in the memory after T steps of padding."
    )
    padding_retention: float = Field(description="Share of a perturbation that units keep over T steps of padding.")
    response_gain: float = Field(description="How far a lasting shift of the candidate moves the memory.")


def requirements(spec: InitSpec, layer: Layer | None = None) -> Requirements:
    """Return what one layer of a spec fulfils.

    Args:
        spec: The spec; its T is the lag.
        layer: The layer.  None: the first.

    Raises:
        ArgumentError: A recurrent kernel is the identity, or no gate of the cell keeps the state.

    Example:
        >>> from critinit import generate
        >>> round(requirements(generate("gru", T=100)).response_gain, 3)
        1.0
    """
    layer, cell = layer or spec.layers[0], spec.find_cell()
    if cell.keep_gate is None:
        raise ArgumentError("cell", found=cell.name, allowed="a cell in which a gate keeps the state")
    return _found(cell, layer.model_copy(update={"predicted": Predicted()}), spec.T)


@lru_cache(maxsize=32)
def _found(cell: Cell, layer: Layer, T: int) -> Requirements:
    """What a layer without its prediction fulfils, kept: a table asks for one number after the other."""
    found = np.array([_of_group(cell, one, T) for one in layer.alone()])
    written, left, squared_gain = np.array([group.share for group in layer.groups]) @ found
    return Requirements(
        early_input_response=_rounded(written),
        padding_retention=_rounded(left),
        response_gain=_rounded(squared_gain) ** 0.5,
    )


def _of_group(cell: Cell, layer: Layer, T: int) -> tuple[float, float, float]:
    """Averages over the units of a layer of one group: the response, the retention, and the squared gain."""
    params = layer_parameters(cell, layer)
    active = idle = layer_unit_moments(cell, layer)
    if layer.input.padding_power != layer.input.variance:
        idle = unit_moments(padding_parameters(cell, layer))

    def over_units(x: Array) -> float:
        weights = (active.bias_weights, params.class_weights, params.environment_weights)
        by_unit = np.broadcast_to(x, [w.size for w in weights])
        return float(np.einsum("bke,b,k,e", by_unit, *weights))

    left = idle.keep_square ** float(T)
    if any(gate.recurrent.pairs_units for gate in layer.gates.values()):  # then it is the kernel that keeps
        found = solve_layer(cell, layer) if idle is active else solve(padding_parameters(cell, layer))
        left = np.asarray(found.retention(T))
    gain = idle.write / np.maximum(1.0 - idle.keep, 1.0 / LONGEST_TIME)
    return over_units(active.written_variance * left), over_units(left), over_units(gain**2)


def _rounded(x: float) -> float:
    return float(f"{x:.6g}")
