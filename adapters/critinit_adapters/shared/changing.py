"""What a model's own code reads beside its arrays, as a key: a compiled run holds only as long as none of it changes.

Tracing takes numbers, settings and functions for constants.  A model may hold them as attributes, in tables or in
objects of its own, and its methods may read them from their module.  ``state_of`` looks at what they are now; what it
can't look into counts as the same while it is the same object.
"""

from __future__ import annotations

import dis
import types
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["LIBRARIES", "Same", "globals_in", "state_of"]

LIBRARIES = frozenset(
    {"jax", "jaxlib", "flax", "haiku", "equinox", "keras", "numpy", "optax", "tensorflow", "torch", "critinit",
     "critinit_adapters", "builtins", "typing", "abc", "dataclasses", "functools", "collections"}
)  # fmt: skip
"""Packages whose functions and classes read what stays."""
_LONGEST = 1000
"""Entries of a table that is looked into ..."""
_LARGEST = 2**20
"""... and numbers of an array; of larger ones it counts that they are the same objects."""


class Same:
    """An object as a key: equal to itself alone.

    Args:
        held: The object, which is kept alive where it cannot be referred to weakly.
    """

    def __init__(self, held: object) -> None:
        self._id = id(held)
        try:
            self._held: Callable[[], object] = weakref.ref(held)
        except TypeError:
            self._held = lambda: held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self._id == other._id and self._held() is other._held() is not None

    def __hash__(self) -> int:
        return self._id


def state_of(value: Any, is_known: Callable[[Any], bool] = lambda value: False) -> Hashable:
    """Return a key of all that a value, or the code of its class, reads now.

    Args:
        value: An attribute, a class, a function, or a table of these.
        is_known: Whether something is left out, as the key has it elsewhere.
    """
    return _State(is_known).of(value)


class _State:
    """One look: each object is looked into once, so that those which hold each other come to an end."""

    def __init__(self, is_known: Callable[[Any], bool]) -> None:
        self.is_known, self.seen = is_known, dict[int, object]()

    def of(self, value: Any) -> Hashable:
        if value is None or isinstance(value, (str, bytes, int, float, complex)):
            return type(value), value if value == value else "nan"
        if self.is_known(value):
            return None
        if id(value) in self.seen:
            return None
        self.seen[id(value)] = value  # alive, so that no other takes its place in memory
        if isinstance(value, np.ndarray) and value.size <= _LARGEST and not value.dtype.hasobject:
            return value.shape, value.dtype.str, value.tobytes()
        if isinstance(value, (tuple, list, set, frozenset)) and len(value) <= _LONGEST:
            parts = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
            return type(value), tuple(map(self.of, parts))
        if isinstance(value, Mapping) and len(value) <= _LONGEST:
            parts = sorted(value.items(), key=lambda item: repr(item[0]))
            return type(value), tuple((self.of(key), self.of(part)) for key, part in parts)
        if isinstance(value, types.MethodType):
            return self.of(value.__func__), self.of(value.__self__)
        if isinstance(value, types.FunctionType):
            return Same(value.__code__), tuple(self._read_by(value))
        if isinstance(value, type):
            return Same(value), tuple(self._code_of(value))
        if isinstance(value, types.ModuleType):
            return Same(value)
        own = Same(value), self.of(type(value))
        is_whole = any(map(_is_of_library, type(value).__mro__[:-1]))  # a library's own state is none of ours
        return own if is_whole else (*own, self.of(getattr(value, "__dict__", None)))

    def _code_of(self, kind: type) -> Iterator[Hashable]:
        """States of what a class of the user's holds."""
        for one in kind.__mro__:
            if not _is_of_library(one):
                for name, part in tuple(vars(one).items()):
                    if not (name.startswith("__") and not isinstance(part, types.FunctionType)):
                        yield name, self.of(part)

    def _read_by(self, function: types.FunctionType) -> Iterator[Hashable]:
        """States of what a function of the user's reads beside its arguments."""
        if _root(function.__module__) in LIBRARIES:
            return
        yield self.of(function.__defaults__)
        yield self.of(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                yield self.of(cell.cell_contents)
            except ValueError:  # nothing is in it yet
                yield None
        for name in globals_in(function.__code__):
            if name in function.__globals__:
                yield name, self.of(function.__globals__[name])


@lru_cache(maxsize=4096)
def globals_in(code: types.CodeType) -> tuple[str, ...]:
    """Return the names that code, and functions within it, look up in their module.

    Args:
        code: The code of a function.
    """
    own = (one.argval for one in dis.get_instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    within = (name for part in code.co_consts if isinstance(part, types.CodeType) for name in globals_in(part))
    return tuple(dict.fromkeys((*own, *within)))


def _is_of_library(kind: type) -> bool:
    return _root(kind.__module__) in LIBRARIES


def _root(module: str | None) -> str:
    return (module or "").partition(".")[0]
