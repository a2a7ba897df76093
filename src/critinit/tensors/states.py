"""Initial states that are learned: where they can start, beside 0."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from critinit.errors import ArgumentError
from critinit.spec import InitSpec, Numbers, checked_spec
from critinit.tensors.sampling import check_seed

__all__ = ["initial_state"]


def initial_state(
    spec: InitSpec, hidden_size: int, *, layer: int = 0, seed: int = 0
) -> tuple[NDArray[np.float64], ...]:
    """Return a first value for an initial state that is learned: as large as states are after many steps.

    They are independent normal numbers whose second moments are those that the spec predicts (of the tied theory, where
    the spec has it).  The theory describes a network that has forgotten its start, so it holds whatever the start is.

    Args:
        spec: The spec, with predictions.
        hidden_size: The number of units.
        layer: The spec's layer.
        seed: The seed; each layer has numbers of its own.

    Returns:
        (h,), or (h, s) for a cell that has a memory s beside what its gates read, each of shape (units,); h of a
        projected state has as many numbers as the projection has coordinates.

    Raises:
        ArgumentError: The spec has no such layer or no prediction, or the number of units is none.

    Example:
        >>> import critinit
        >>> h, c = critinit.initial_state(critinit.generate("lstm", T=100), 64)
        >>> h.shape, c.shape
        ((64,), (64,))
    """
    checked_spec(spec)
    for name, found, low, high in (("layer", layer, 0, len(spec.layers) - 1), ("hidden_size", hidden_size, 1, None)):
        is_number = isinstance(found, (int, np.integer)) and not isinstance(found, bool)
        if not is_number or found < low or (high is not None and found > high):
            allowed = f"an integer of at least {low}" if high is None else f"{low} to {high}"
            raise ArgumentError(name, found=repr(found), allowed=allowed)
    asked, cell = spec.layers[layer], spec.find_cell()
    computed = (one for one in (asked.predicted.tied, asked.predicted.untied) if isinstance(one, Numbers))
    numbers = next(computed, None)
    if numbers is None:
        missing, hint = f"no prediction for layer {layer}", "critinit.predict(spec) returns it with predictions"
        raise ArgumentError("spec", found=missing, allowed="a spec with predictions", hint=hint)
    reads = hidden_size if asked.projection is None else asked.projection.coordinates(hidden_size)
    moments = [(reads, numbers.second_moment)]
    if cell.has_readout and not cell.message_is_memory and numbers.cell_second_moment is not None:
        moments.append((hidden_size, numbers.cell_second_moment))
    rng = np.random.default_rng(np.random.SeedSequence(check_seed(seed), spawn_key=(layer,)))
    return tuple(math.sqrt(moment) * rng.standard_normal(size) for size, moment in moments)
