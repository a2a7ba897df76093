"""Which networks of a model take a spec's layers together, and in which order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Stack", "natural_key", "stacks"]


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sorting key that compares numbers within names as numbers.

    Example:
        >>> sorted(["layer_10", "layer_2"], key=natural_key)
        ['layer_2', 'layer_10']
    """
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)|/", name) if part]


class Stack(NamedTuple):
    """What the networks above and below need to know of a network.

    Attributes:
        layers: Its number of layers.
        reads: The width of its input.
        gives: The width of its output.
    """

    layers: int
    reads: int
    gives: int


def stacks(networks: Sequence[Stack], layers: int, *, ordered: bool = False) -> list[list[int]] | None:
    """Return which networks take a spec's layers together.

    Each network takes the whole spec where each has all the layers.  Where their layers add up to the spec's, they
    take it together: in an order in which each reads the width that the one before gives.  Where there is no such
    order, something that changes the width stands between them, and they take it in the order given.

    Args:
        networks: The networks.
        layers: The spec's number of layers.
        ordered: Whether the order given is the user's own, which always counts.

    Returns:
        Lists of indices of networks, one list for each time that the spec is taken; None where that is not clear.

    Example:
        >>> stacks([Stack(1, reads=32, gives=16), Stack(1, reads=5, gives=32)], layers=2)
        [[1, 0]]
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
