"""From mappings of any kind to plain JSON values: dicts, and containers like those of OmegaConf."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from critinit.errors import Problem, SpecError

__all__ = ["plain"]

_DEEPEST = 16  # a spec nests at most 8 levels; what is deeper may be a cycle


def plain(value: Any, source: str = "") -> Any:
    """Return ``value`` with every mapping as a dict and every other sequence as a list; scalars are as they are.

    A container may compute its values when they are read (OmegaConf's interpolations).

    Raises:
        SpecError: A value cannot be read, a key is no string, or it nests more than 16 levels deep.
    """
    return _plain(value, (), source)


def _plain(value: Any, path: tuple[str, ...], source: str) -> Any:
    if isinstance(value, (str, bytes)) or not isinstance(value, (Mapping, Sequence)):
        return value
    if len(path) > _DEEPEST:
        raise _problem(path[:2], "values nested too deeply", "at most 8 levels", source)
    keys: Iterable[Any] = value if isinstance(value, Mapping) else range(len(value))
    items = {}
    for key in keys:
        if isinstance(value, Mapping) and not isinstance(key, str):
            raise _problem(path, f"the key {ascii(key)[:60]}", "keys that are strings", source)
        below = (*path, str(key))
        try:
            item = value[key]
        except Exception as error:  # each kind of container has its own
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise _problem(below, f"a value that cannot be read ({reason})", "a value", source) from error
        items[key] = _plain(item, below, source)
    return items if isinstance(value, Mapping) else list(items.values())


def _problem(path: Sequence[str], found: str, allowed: str, source: str) -> SpecError:
    return SpecError([Problem(".".join(path), found, allowed)], source)
