"""Cells in which no gate keeps the state: ``rnn``, ReLU networks, leaky units with a constant leak.

Nothing but the recurrent kernel can make such a cell remember, so the kernel's gain is brought to the edge at which
perturbations neither grow nor die, for weights that stay (``critinit.theory.analysis.fast_numbers``): χ = exp(−1/T), a
time scale of T steps.  The kernel is orthogonal, as a Gaussian one of H units stays true to the edge for about √H steps
only.

A candidate that is linear near 0 and saturates, such as tanh: the gain g is that of the linear edge, at which the slope
of one unit's own loop would be 1,

    f + g·∂s'/∂(W h) = 1          (1 for ``rnn``, and for leaky units s' = f·s + (1 − f)·tanh(u)),

and the inputs are made so large that what saturates costs the 1/T: ν²R ≈ 1/(2T²) for ``rnn``.

Any other, such as ReLU: the inputs add up to pre-activations of variance about 1 in T steps, ν²R = 1/T, and the gain is
solved for.  For h' = max(u, 0) it is σ² = 2·exp(−1/T), He's value at T → ∞.  Of leaky ReLU units an upper bound of χ is
brought there, as their slopes last (``_with_lasting_slopes``), so they remember for less than T, and the spec says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from critinit.cells import Cell
from critinit.distributions.numbers import rounded
from critinit.errors import ArgumentError, SchemeError
from critinit.roots import falling_root
from critinit.schemes._base import LayerContext, Parts, bias, gate, kernel, near_zero, own_loop, projection
from critinit.spec.model import SCHEMA_VERSION, Numbers
from critinit.spec.reading import validate_object
from critinit.theory.analysis import fast_numbers, untied_numbers

__all__ = ["ungated_gates"]

_LEAST_INPUT, _MOST_INPUT = 1e-3, 1e2
"""ν²R is sought from the first over T² to the second."""
_LEAST_GAIN, _MOST_GAIN = 1e-6, 1e6
"""σ² is sought between these."""
_ACCURACY = 1e-9
"""Of the logarithm of what is solved for."""
_JUMP = 0.05
"""Largest relative error of 1/T at a root: more is where theory jumps from one state to another."""
_SMALLEST = 1e-300
"""χ below this is that of a cell which passes nothing on."""


def ungated_gates(scheme: str, layer: LayerContext) -> dict[str, Parts]:
    """Return gates with which a cell without a keep gate has the time scale T, with weights that stay.

    Args:
        scheme: The scheme's name, for messages.
        layer: What is known of the layer.

    Raises:
        SchemeError: No gain of the recurrent kernel gives that, or the cell is normalized.
    """
    if layer.cell.normalized:
        hint = f"{scheme} finds no gains for a normalized cell in which no gate keeps the state, as {layer.cell.name}"
        raise SchemeError("scheme", found=scheme, hint=hint)
    edge = _linear_edge(layer)
    if edge is not None:
        low, high = math.log(_LEAST_INPUT / layer.T**2), math.log(_MOST_INPUT)
        found = _root(layer.T, lambda x: _excess(layer, edge, math.exp(x)), low, high)
        if found is not None:
            return _gates(layer, edge, rounded(found))
    power, least = 1.0 / layer.T, math.log(_LEAST_GAIN)
    if _excess(layer, _LEAST_GAIN, power) >= 0.0:  # it keeps longer than T by itself
        return _gates(layer, near_zero(layer.T), power)
    found = _root(layer.T, lambda x: -_excess(layer, math.exp(x), power), least, math.log(_MOST_GAIN))
    if found is None:
        hint = f"no gain of the recurrent kernel gives {layer.cell.name} a time scale of {layer.T} steps"
        raise SchemeError("scheme", found=scheme, hint=hint)
    return _gates(layer, rounded(found), power)


def _root(T: int, function: Callable[[float], float], low: float, high: float) -> float | None:
    """The exponential of where a falling function crosses 0 between two logarithms; None where it jumps or does not."""
    if not function(low) > 0.0 > function(high):
        return None
    found = falling_root(function, low, high - low, _ACCURACY)
    return math.exp(found) if abs(function(found)) * T <= _JUMP else None


def _gates(layer: LayerContext, variance: float, pre_activation_variance: float) -> dict[str, Parts]:
    """All gates: the candidate's kernel has this variance and its inputs this power, the others are left at rest."""
    cell, small = layer.cell, near_zero(layer.T)
    gates = {name: gate(kernel("normal", small), kernel("normal", small), bias(0.0)) for name in cell.gates}
    recurrent = {**layer.orthogonal(), "variance": variance}
    inputs = kernel("normal", layer.input_variance_for(pre_activation_variance))
    return {**gates, str(cell.candidate_gate): gate(recurrent, inputs, bias(0.0))}


def _excess(layer: LayerContext, variance: float, pre_activation_variance: float) -> float:
    """ln χ + 1/T of these gates, with weights that stay; large where χ is beyond all bounds."""
    data: dict[str, Any] = {
        "input": {"variance": layer.input_variance or 1.0},  # silent inputs count as 1, as in input_variance_for
        "gates": _gates(layer, variance, pre_activation_variance),
    }
    if layer.cell.projects:
        data["projection"] = projection(layer)
    head = {"schema_version": SCHEMA_VERSION, "cell": layer.cell.name, "scheme": "custom", "T": layer.T}
    spec = validate_object({**head, "layers": [data]})
    try:
        numbers = fast_numbers(spec)
    except ArgumentError:  # they overflow
        return math.inf
    if not isinstance(numbers, Numbers) or numbers.chi is None:
        return math.inf
    chi = max(numbers.chi, _with_lasting_slopes(layer.cell, untied_numbers(spec, spec.layers[0])))
    return math.log(max(chi, _SMALLEST)) + 1.0 / layer.T


def _with_lasting_slopes(cell: Cell, untied: Numbers | None) -> float:
    """χ if every unit's slope lasted, (f + √(χ_untied − f²))², for slow units whose state has a mean; 0 for others.

    Units of ReLU keep their sign for as long as they remember, which the fast estimate leaves out: near χ = 1 it comes
    out low (T = 30 and leak .3: a second moment of .29 where the sampled theory has 17).  This is an upper bound.
    """
    if cell.keeps_nothing or cell.is_odd or cell.has_readout or untied is None or untied.chi is None:
        return 0.0
    kept = float(cell.keep({}))
    return float((kept + math.sqrt(max(untied.chi - kept * kept, 0.0))) ** 2)


def _linear_edge(layer: LayerContext) -> float | None:
    """σ² at which the slope of one unit's own loop at rest is 1; None where the cell is not linear near rest."""
    cell = layer.cell
    if not cell.is_odd or 0.0 in cell.kinks:
        return None
    kept, passed = own_loop(cell, dict.fromkeys(cell.gates, 0.0))
    return ((1.0 - kept) / passed) ** 2 if 0.0 <= kept < 1.0 and passed != 0.0 else None
