"""What a spec is at one width, where kernels of that width differ from those of an infinitely wide network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from critinit.cells import Cell
from critinit.distributions.numbers import LONGEST_TIME
from critinit.dual import Array, Dual, tangent, value
from critinit.spec.model import InitSpec, Layer, Numbers
from critinit.spec.reading import validate_object
from critinit.theory.comparing import FINITE_WIDTH
from critinit.theory.protocol import features_read, layers_below
from critinit.theory.tied.biases import draw_biases

__all__ = ["at_width", "excess", "excesses"]

_UNITS, _NODES = 256, 40
"""Units, one of each stratum of the biases, and points of a gate's pre-activation: averages to 1 % and better."""


def at_width(spec: InitSpec, width: int, features: int | None = None) -> InitSpec:
    """Return the spec whose theory is that of networks of so many units, without predictions; mostly the spec itself.

    A recurrent kernel whose variance depends on its width, as one of an exact spectral radius, becomes a normal one of
    the variance that it has there (``Kernel.variance_at``).  Where the inputs have few features, an input kernel of the
    first layer whose variance is divided by another width than theirs gets the variance that it has there.

    Args:
        spec: The spec.
        width: Units of a network.
        features: Numbers in one input of the first layer.  None: as many as units.

    Example:
        >>> from critinit import generate
        >>> spec = generate("gru", T=50)
        >>> at_width(spec, 100) is spec
        True
    """
    data = spec.to_dict()
    changed = False
    for index, (layer, stated) in enumerate(zip(spec.layers, data["layers"], strict=True)):
        for group, parts in zip(layer.groups, stated.get("groups", [stated]), strict=True):
            units = max(1, round(group.share * width))
            for name, gate in group.gates.items():
                kernel = gate.recurrent
                variance = kernel.variance_at(units, units) if kernel.is_square else kernel.variance
                if variance != kernel.variance:
                    changed = True
                    parts["gates"][name]["recurrent"] = {"distribution": "normal", "variance": variance}
                variance = gate.input.variance if features is None else gate.input.variance_at(units, features)
                if index == 0 and variance != gate.input.variance:
                    changed = True
                    parts["gates"][name]["input"] |= {"variance": variance, "fan": "in"}
        stated.pop("predicted", None)
    return validate_object({**data, "scheme": "custom", "target": None}) if changed else spec


def excesses(
    spec: InitSpec, numbers: Sequence[Numbers | None], width: int, features: int | None = None
) -> tuple[float, ...]:
    """Return for every layer of a network the share of its second moment that its width may add, lengths of rows apart.

    It is what the rows' overlap adds (``excess``).  A further layer reads the states of those below, so it inherits
    what the width adds to their second moments, by overlap and by the lengths of rows.  Where the layer below projects
    its state, rows of this layer's input kernels have as few columns.

    Args:
        spec: The spec.
        numbers: The numbers of wide networks, of every layer; None where there are none.
        width: Units of a layer.
        features: Those that the first layer reads, where the numbers are for them.  None: the numbers are for
            infinitely many, and the networks read as many as they have units.

    Example:
        >>> from critinit import generate
        >>> spec = generate("gru", T=100, scheme="chrono", layers=2)
        >>> numbers = [layer.predicted.untied for layer in spec.layers]
        >>> [round(share, 3) for share in excesses(spec, numbers, 128)]
        [0.092, 0.162]
    """
    cell, shares = spec.find_cell(), list[float]()
    inherited, columns = 0.0, float(width)
    for index, (layer, wide) in enumerate(zip(spec.layers, numbers, strict=True)):
        stacked = bool(layers_below(spec, index))
        counted = not stacked and features_read(spec, index, features) is not None
        own = 0.0 if wide is None else excess(cell, layer, wide, columns if stacked else width, inputs=not counted)
        shares.append(own + (inherited if stacked else 0.0))
        inherited = shares[-1] + FINITE_WIDTH / width
        columns = width * (1.0 if layer.projection is None else layer.projection.width)
    return tuple(shares)


def excess(cell: Cell, layer: Layer, numbers: Numbers, width: float, *, inputs: bool = True) -> float:
    """Return the share of a network's second moment that kernels of so many columns that stay add, about.

    The rows of a unit's write gate and candidate have an inner product ρ of variance 1/N, relative to their lengths.
    So the two are correlated, and the unit's memory has the mean c·E w'·E n'/(1 − E keep), with c = ρ·ν_w·ν_n·R of the
    input kernels and likewise of the recurrent ones: the square of it is added, in the mean over units.  It does not
    fall with the time constant, so slow units that write little show it most.  Networks of chrono
    at T = 1,500 have 104 ± 7 % of it at N = 48 and 97 ± 4 % at N = 192 (GRU), 117 ± 9 % and 109 ± 6 % (LSTM); at
    T = 10,000 and N = 128 it was 60 to 100 %, as slow units take long to reach that mean.

    Args:
        cell: The cell.
        layer: The layer.
        numbers: The numbers of wide networks.
        width: N.
        inputs: Whether input kernels have N columns too; else the numbers have what their rows' overlap makes in them.

    Example:
        >>> from critinit import generate
        >>> spec = generate("gru", T=10000, scheme="chrono")
        >>> round(excess(spec.find_cell(), spec.layers[0], spec.layers[0].predicted.untied, 128), 2)
        0.82
    """
    groups = zip(layer.groups, layer.alone(), strict=True)
    added = sum(group.share * _added(cell, one, numbers.second_moment, inputs) for group, one in groups) / width
    moment = numbers.second_moment if numbers.cell_second_moment is None else numbers.cell_second_moment
    return added / (moment + added) if added > 0.0 else 0.0


def _added(cell: Cell, layer: Layer, second_moment: float, inputs: bool) -> float:
    """N times what is added to the second moment of the memory of a layer of one group, whose kernels read E h²: by
    recurrent kernels, and ``inputs`` says whether by input kernels too."""
    write, candidate = cell.write_gate, cell.candidate_gate
    gates, source = layer.reduced().gates, layer.reduced().input
    if write is None or candidate is None or write == candidate:
        return 0.0
    power = {"input": source.variance, "recurrent": second_moment}
    biases = draw_biases(gates, _UNITS, lambda bias: (np.arange(_UNITS) + 0.5) / _UNITS)
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / weights.sum()

    def average(function: Callable[[Any], Any], name: str | None) -> tuple[Array, Array]:
        """The mean of a function of one gate and of its slope, by unit."""
        if name is None:
            return np.asarray(float(value(function({})))), np.zeros(_UNITS)
        gate = gates[name]
        variance = sum(getattr(gate, part).variance * of for part, of in power.items())
        y = function({name: Dual(biases[name][:, None] + math.sqrt(variance) * nodes, 1.0)})
        shape = (_UNITS, _NODES)
        return np.broadcast_to(value(y), shape) @ weights, np.broadcast_to(tangent(y), shape) @ weights

    keep = average(cell.keep, cell.keep_gate)[0]
    moved = average(cell.write, write)[1] * average(cell.candidate, candidate)[1]
    parts = power if inputs else {"recurrent": second_moment}
    both = [(getattr(gates[write], part), getattr(gates[candidate], part), of) for part, of in parts.items()]
    strength = sum(a.variance * b.variance * of**2 for a, b, of in both if not (a.reads_itself or b.reads_itself))
    return float(strength * np.mean((moved / np.maximum(1.0 - keep, 1.0 / LONGEST_TIME)) ** 2))
