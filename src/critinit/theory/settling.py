"""How many steps a layer runs from rest before the first look at whether its state is stationary.

What a unit keeps by itself fades with its time constant.  What goes round a recurrent kernel near gain 1 fades more
slowly, with the layer's growth χ: second moments approach their steady values as χᵗ, so 3/|ln χ| steps leave 5 % of
the slowest part.  χ is read off the untied theory where weights that stay give its numbers, else off the fast estimate.
A wrong χ makes a run shorter or longer, no more: it goes on until its own state no longer drifts
(``critinit.theory.protocol``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from critinit.cells import Cell
from critinit.spec import Layer, Predicted
from critinit.theory.parameters import has_identity
from critinit.theory.protocol import LONGEST_BURN_IN, longest_time, pairs_units

if TYPE_CHECKING:
    from critinit.theory.untied.solution import Untied

__all__ = ["first_burn_in", "steady_moment"]

_FIRST_BURN_IN = (100, 1000)
"""Steps before the first look, where units alone decide: enough for most layers; others burn in for longer."""
_OWN_TIMES, _LOOP_TIMES = 3.0, 3.0
"""Steps before it, in time constants of a unit, of which second moments take half, and in 1/|ln χ|."""
_LONGEST_OF_ONE_STEP = 30_000
"""Steps before it, at most, of a cell whose state is a function of the last step's fields: its steps are cheap."""


def first_burn_in(
    cell: Cell, layer: Layer, below: Sequence[Layer] = (), *, filled: bool = False, few: bool = False
) -> int:
    """Return the steps before the first look at whether the state is stationary.

    They are three times the longest time constant of the units, those of the layers below too, but at least 100 and at
    most 1000, or 3000 where inputs have few features, as the memory of slow units then has a mean that fills; they are
    1000 where a rotation couples units in pairs.  Where recurrent kernels make a layer slower than units that are alike
    make it, they are 3/|ln χ|, at most 3000, or 30,000 of a cell without memory of its own.

    Args:
        cell: The cell.
        layer: The layer.
        below: The layers whose states reach this one, lowest first.
        filled: Whether it starts with its steady second moment (``steady_moment``), where that is known.
        few: Whether the inputs have few features.

    Example:
        >>> from critinit import generate
        >>> from critinit.cells import find_cell
        >>> first_burn_in(find_cell("rnn"), generate("rnn", T=500, scheme="isometry").layers[0])
        1499
    """
    alone = [one for each in (layer, *below) for one in each.alone()]
    if any(pairs_units(one.gates) for one in alone):
        return _FIRST_BURN_IN[1]
    own = _OWN_TIMES * max(longest_time(cell, one.gates) for one in alone)
    steps = min(max(_FIRST_BURN_IN[0], own), LONGEST_BURN_IN if few else _FIRST_BURN_IN[1])
    most = _LONGEST_OF_ONE_STEP if cell.is_of_one_step else LONGEST_BURN_IN
    slow = (_loop_time(cell, one) for one in alone if not (filled and steady_moment(cell, one) is not None))
    loops = _LOOP_TIMES * max(slow, default=0.0)
    return int(max(steps, min(loops, most) if loops > own else 0.0))


def _loop_time(cell: Cell, layer: Layer) -> float:
    """1/|ln χ| of a layer of one group; 0 where χ is not known, or is that of the slowest of units that differ."""
    keep = cell.keep_gate
    if keep is not None and layer.gates.followed(keep)[1].classes(2) is not None:
        return 0.0
    if all(gate.recurrent.is_zero for gate in layer.gates.values()):
        return 0.0
    chi = _chi(cell, layer)
    return 0.0 if chi is None or not 0.0 < chi < math.inf else 1.0 / max(abs(math.log(chi)), 1.0 / _LONGEST_OF_ONE_STEP)


def steady_moment(cell: Cell, layer: Layer) -> float | None:
    """Return E h² of a layer of one group whose state is a function of the last step's fields alone, in steady state.

    Weights that stay give that of fresh ones there, and it depends on E h² of the step before alone: a state of random
    numbers of this variance is steady at once.

    Args:
        cell: The cell.
        layer: The layer.

    Returns:
        The second moment; None of other cells, of identity kernels and where nothing bounds the state.

    Example:
        >>> from critinit import generate
        >>> from critinit.cells import find_cell
        >>> round(1e4 * steady_moment(find_cell("rnn"), generate("rnn", T=5000, scheme="isometry").layers[0]), 3)
        1.0
    """
    from critinit.theory.untied.solution import UNBOUNDED

    if not cell.is_of_one_step or has_identity(layer.gates) or pairs_units(layer.gates):
        return None
    moment = float(_untied(cell, layer).second_moment)
    return moment if moment < UNBOUNDED else None


def _chi(cell: Cell, layer: Layer) -> float | None:
    from critinit.theory.tied.estimate import fast_tied

    if cell.is_of_one_step and not has_identity(layer.gates):
        return float(_untied(cell, layer).chi)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = fast_tied(cell, _same_inputs(layer), 1, None)
    return None if found is None else found.chi


def _untied(cell: Cell, layer: Layer) -> Untied:
    from critinit.theory.untied.solution import solve_layer

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return solve_layer(cell, _same_inputs(layer))


def _same_inputs(layer: Layer) -> Layer:
    """The layer with inputs of correlation 1, without its prediction."""
    source = layer.input.model_copy(update={"correlation": 1.0})
    return layer.model_copy(update={"input": source, "predicted": Predicted()})
