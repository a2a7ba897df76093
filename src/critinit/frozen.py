"""An immutable mapping: it hashes, compares, copies and pickles by what it holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

__all__ = ["FrozenMapping", "frozen", "thawed"]

V = TypeVar("V", covariant=True)


class FrozenMapping(Mapping[str, V]):
    """A mapping from strings that never changes; it keeps the order in which it was made.

    Example:
        >>> FrozenMapping({"a": 1})["a"]
        1
    """

    __slots__ = ("_items",)
    _items: dict[str, V]

    def __init__(self, items: Mapping[str, V]) -> None:
        object.__setattr__(self, "_items", dict(items))

    def __getitem__(self, key: str) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._items!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._items,)


def frozen(value: Any) -> Any:
    """Return a JSON value with every mapping and list made immutable."""
    if isinstance(value, Mapping):
        return FrozenMapping({str(key): frozen(item) for key, item in value.items()})
    return tuple(map(frozen, value)) if isinstance(value, (list, tuple)) else value


def thawed(value: Any) -> Any:
    """Return the plain dicts and lists of a value that ``frozen`` made."""
    if isinstance(value, Mapping):
        return {key: thawed(item) for key, item in value.items()}
    return [thawed(item) for item in value] if isinstance(value, tuple) else value
