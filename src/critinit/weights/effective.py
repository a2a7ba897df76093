"""From a file's tensors to canonical numbers: layout, sign, offset and second bias vectors undone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from critinit.weights.finding import Site
from critinit.distributions.goodness import Observed
from critinit.weights.reading import ROUNDOFF, Entry
from critinit.tensors.sampling import Draw

__all__ = ["Effective", "effective"]

Array = NDArray[np.float64]
Key = tuple[str, str]


@dataclass
class Effective:
    """One site's numbers by (gate, part).

    ``tensors``: the names of the tensors that each was read from, none for a bias that the file does not have.
    ``firsts``, ``seconds``: the two vectors whose sum is a gate's effective bias, where there are two.
    ``inside``: a bias within r∘(·), by its tensor's name; no spec asks for it.
    """

    parts: dict[Key, Observed] = field(default_factory=dict)
    tensors: dict[Key, tuple[str, ...]] = field(default_factory=dict)
    firsts: dict[str, Array] = field(default_factory=dict)
    seconds: dict[str, Array] = field(default_factory=dict)
    inside: dict[str, Observed] = field(default_factory=dict)


def effective(site: Site, entries: Mapping[str, Entry], draws: Mapping[tuple[str, object], Draw]) -> Effective:
    """Read one site, whatever ``draws`` asks for; a bias that the file does not have counts as 0."""
    found = Effective()
    for name, stored in site.tensors.items():
        values, roundoff = entries[name].load(), ROUNDOFF[entries[name].dtype]
        for block in stored.blocks:
            canonical = block.canonical(values[block.index].astype(np.float64))
            magnitude = _largest(values[block.index]) + abs(block.offset)
            observed = Observed(canonical, roundoff, magnitude)
            if block.part == "zero" and block.gate:
                found.seconds[block.gate] = canonical
                _add(found, (block.gate, "bias"), name, observed)
            elif block.part == "zero":
                found.inside[name] = observed
            else:
                if block.part == "bias":
                    found.firsts[block.gate] = canonical
                _add(found, (block.gate, block.part), name, observed)
    for (gate, part), draw in draws.items():
        key = (gate, str(part))
        if key not in found.parts:
            found.parts[key] = Observed(np.zeros(draw.shape), 0.0, 0.0)
            found.tensors[key] = ()
    return found


def _add(found: Effective, key: Key, name: str, observed: Observed) -> None:
    """Put a part in its place, added to what is there."""
    old = found.parts.get(key)
    if old is not None:
        roundoff = max(old.roundoff, observed.roundoff)
        observed = Observed(old.values + observed.values, roundoff, old.scale + observed.scale)
    found.parts[key] = observed
    found.tensors[key] = (*found.tensors.get(key, ()), name)


def _largest(values: NDArray[np.float64]) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max(initial=0.0))
