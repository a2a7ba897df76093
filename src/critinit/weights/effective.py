"""From a file's tensors to canonical numbers: layout, sign, offset and second bias vectors undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.distributions import Observed
from critinit.tensors.blocks import Block
from critinit.tensors.convolutions import centre_and_rest
from critinit.tensors.grouping import between
from critinit.tensors.sampling import GroupDraws
from critinit.weights.finding import FoundLayer
from critinit.weights.reading import ROUNDOFF, Entry

__all__ = ["Effective", "effective"]

Array = NDArray[np.float64]
Key = tuple[str, str]


@dataclass
class Effective:
    """One layer's numbers in one direction, by (gate, part).

    Attributes:
        parts: The numbers of each part.
        tensors: The names of the tensors that each part was read from; none for a bias that the file does not have.
        firsts: By gate, the first of the two vectors whose sum is the effective bias, or the only one.
        seconds: By gate, the second of these vectors, where there is one.
        inside: By the tensor's name, a bias within r∘(·); no spec asks for it.
        taps: Of a convolution's kernel whose centre tap alone is drawn, all its other taps, which should be 0.
        between: Of a kernel of one of several groups of units, what it reads of the others, which should be 0.
    """

    parts: dict[Key, Observed] = field(default_factory=dict)
    tensors: dict[Key, tuple[str, ...]] = field(default_factory=dict)
    firsts: dict[str, Observed] = field(default_factory=dict)
    seconds: dict[str, Observed] = field(default_factory=dict)
    inside: dict[str, Observed] = field(default_factory=dict)
    taps: dict[Key, Observed] = field(default_factory=dict)
    between: dict[Key, Observed] = field(default_factory=dict)

    def damaged(self) -> list[str]:
        """Return the names of the tensors with numbers that are not finite."""
        keys = [key for key, observed in self.parts.items() if not np.isfinite(observed.values).all()]
        names = [name for key in keys for name in self.tensors[key]]
        names += [name for name, observed in self.inside.items() if not np.isfinite(observed.values).all()]
        return list(dict.fromkeys(names))

    def put(self, block: Block, name: str, observed: Observed) -> None:
        """Put the numbers of one block of tensor ``name`` in their places."""
        if block.part == "zero" and not block.gate:
            self.inside[name] = observed
            return
        if block.part == "zero":
            self.seconds[block.gate] = observed
        elif block.part == "bias":
            self.firsts[block.gate] = observed
        key = (block.gate, "bias" if block.part == "zero" else block.part)
        self.parts[key] = _sum(self.parts[key], observed) if key in self.parts else observed
        self.tensors[key] = (*self.tensors.get(key, ()), name)


def effective(
    layer: FoundLayer, entries: Mapping[str, Entry], groups: Sequence[GroupDraws], group: GroupDraws
) -> Effective:
    """Read one group of units of one layer in one direction.

    Args:
        layer: The layer.
        entries: The file's tensors.
        groups: What the spec asks for in each group; a bias among it that the file does not have counts as 0.
        group: The group that is read; the biases that belong to no gate are read with the first.

    Returns:
        The numbers of every part.
    """
    found = Effective()
    for name, stored in layer.tensors.items():
        values, roundoff = entries[name].load(), ROUNDOFF[entries[name].dtype]

        def seen(block: Block, region: NDArray[Any], roundoff: float = roundoff) -> Observed:
            canonical = block.canonical(region.astype(np.float64))
            return Observed(canonical, roundoff, _largest(region) + abs(block.offset))

        for whole in stored.blocks:
            is_inside = whole.part == "zero" and not whole.gate
            if is_inside and group is not groups[0]:
                continue
            alone = len(groups) == 1 or is_inside
            block = whole if alone else whole.part_of(stored.shape, group.place(whole.part))
            observed = seen(block, values[block.index])
            draw = None if block.part == "zero" else group.draws.get((block.gate, block.part))
            if draw is not None and draw.window:
                centre, rest = centre_and_rest(observed.values, draw.window)
                observed, found.taps[block.gate, block.part] = (observed._replace(values=x) for x in (centre, rest))
            found.put(block, name, observed)
            others = [] if alone else [values[index] for index in between(whole, stored.shape, groups, group)]
            if others:
                found.between[block.gate, block.part] = seen(
                    Block("", "zero"), np.concatenate([other.ravel() for other in others])
                )
    for (gate, part), draw in group.draws.items():
        key = (gate, str(part))
        if key not in found.parts:
            found.parts[key] = Observed(np.zeros(draw.shape), 0.0, 0.0)
            found.tensors[key] = ()
    return found


def _sum(first: Observed, second: Observed) -> Observed:
    """Two vectors that a framework adds."""
    roundoff = max(first.roundoff, second.roundoff)
    return Observed(first.values + second.values, roundoff, first.scale + second.scale)


def _largest(values: NDArray[np.float64]) -> float:
    """The largest finite magnitude."""
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max(initial=0.0))
