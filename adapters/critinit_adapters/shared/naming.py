"""Tensors found again by their names, in a tree or model that is a part of the one that was named, or holds it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from critinit.errors import ArgumentError

__all__ = ["located", "path_name"]

_BOXES = ("/value", "/raw_value")
"""What a leaf's name ends with where it is the content of a variable or a box of metadata."""


def path_name(path: tuple[Any, ...]) -> str:
    """Return the path of a leaf of a JAX tree as text: ``params/cell/hf/kernel``."""
    parts = (getattr(p, "key", getattr(p, "name", getattr(p, "idx", p))) for p in path)
    return "/".join(map(str, parts))


@lru_cache(maxsize=64)
def located(names: tuple[str, ...], tensors: tuple[str, ...]) -> Mapping[str, str]:
    """Return which name each tensor has now, of those that are there.

    Where none has its own name, one and the same beginning is put before all of them, or cut from them.

    Args:
        names: The names that there are, parts separated by "/".
        tensors: The names to find.

    Raises:
        ArgumentError: Several beginnings fit equally many tensors.

    Example:
        >>> located(("cell/hn/kernel", "head/kernel"), ("params/cell/hn/kernel",))
        {'params/cell/hn/kernel': 'cell/hn/kernel'}
    """
    bare = {_unboxed(name): name for name in names}
    exact = {tensor: bare[_unboxed(tensor)] for tensor in tensors if _unboxed(tensor) in bare}
    if exact:
        return exact
    ways = Counter(way for name in bare for tensor in tensors for way in _ways(_unboxed(tensor), name))
    best = [way for way, count in ways.items() if count == max(ways.values())]
    if len(best) > 1:
        places = ", ".join(before or f"without {cut}" for before, cut in best)
        found = f"several places where the limited tensors could be: {places}"
        hint = "apply the spec to the tree or model that the optimizer trains"
        raise ArgumentError("optimizer", found=found, allowed="one", hint=hint)
    moved = {tensor: before + _unboxed(tensor).removeprefix(cut) for before, cut in best for tensor in tensors}
    return {tensor: bare[name] for tensor, name in moved.items() if name in bare}


def _unboxed(name: str) -> str:
    return next((name.removesuffix(end) for end in _BOXES if name.endswith(end)), name)


def _ways(tensor: str, name: str) -> Iterator[tuple[str, str]]:
    """What to put before a tensor's name, and what to cut from it, to get ``name``."""
    if name.endswith(f"/{tensor}"):
        yield name.removesuffix(tensor), ""
    if tensor.endswith(f"/{name}"):
        yield "", tensor.removesuffix(name)
