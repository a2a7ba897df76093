"""Which networks of a model take a spec's layers together, and in which order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Stack", "natural_key", "stacks"]


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sorting key under which layer_2 comes before layer_10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)|/", name) if part]


class Stack(NamedTuple):
    """What a network is to those above and below: its layers, the width that it reads and the width that it gives."""

    layers: int
    reads: int
    gives: int


def stacks(networks: Sequence[Stack], layers: int, *, ordered: bool = False) -> list[list[int]] | None:
    """Return which networks take a spec's layers together, by their indices; None where that is not clear.

    Each alone where each has all the layers, all together where their layers add up: then in the order given, or,
    unless that is ``ordered``, in one in which each reads the width that the one before gives, where there is such.
    """
    if all(network.layers == layers for network in networks):
        return [[index] for index in range(len(networks))]
    if sum(network.layers for network in networks) != layers:
        return None
    given = list(range(len(networks)))
    return [given if ordered else _chain(networks) or given]


def _chain(networks: Sequence[Stack]) -> list[int] | None:
    """The first order, of those in which widths agree, in the order of the indices; found by depth-first search."""
    dead: set[tuple[int, frozenset[int]]] = set()

    def rest(last: int, left: frozenset[int]) -> list[int] | None:
        if not left or (last, left) in dead:
            return None if left else []
        for index in sorted(left):
            if networks[last].gives == networks[index].reads:
                found = rest(index, left - {index})
                if found is not None:
                    return [index, *found]
        dead.add((last, left))
        return None

    every = frozenset(range(len(networks)))
    for first in sorted(every):
        found = rest(first, every - {first})
        if found is not None:
            return [first, *found]
    return None
