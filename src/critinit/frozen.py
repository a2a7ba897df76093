"""An immutable mapping: it hashes, compares, copies and pickles by what it holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self, TypeVar, get_args

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

__all__ = ["FrozenMapping", "thawed"]

V = TypeVar("V", covariant=True)


class FrozenMapping(Mapping[str, V]):
    """A mapping from strings that never changes; it keeps the order in which it was made.

    It can be the type of a pydantic field: any mapping is read, and a plain dict is written.

    Example:
        >>> FrozenMapping({"a": 1})["a"]
        1
    """

    __slots__ = ("_items",)
    _items: dict[str, V]
    item_type: ClassVar[Any] = Any
    """What a pydantic field of this type holds, where the field does not say."""

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

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._items!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._items,)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        (item,) = get_args(source) or (cls.item_type,)
        plain = core_schema.dict_schema(core_schema.str_schema(), handler.generate_schema(item))

        def validated(value: Any, inner: core_schema.ValidatorFunctionWrapHandler) -> FrozenMapping[Any]:
            return cls._of(inner(dict(value) if isinstance(value, Mapping) else value))

        return core_schema.no_info_wrap_validator_function(
            validated,
            plain,
            serialization=core_schema.plain_serializer_function_ser_schema(dict, return_schema=plain),
        )

    @classmethod
    def _of(cls, items: Mapping[str, V]) -> Self:
        """Return what validated items make."""
        return cls(items)


def thawed(value: Any) -> Any:
    """Return a value with every mapping as a dict and every tuple as a list."""
    if isinstance(value, Mapping):
        return {key: thawed(item) for key, item in value.items()}
    return [thawed(item) for item in value] if isinstance(value, tuple) else value
