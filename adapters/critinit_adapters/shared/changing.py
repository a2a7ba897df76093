"""What a model's own code reads beside its arrays, as a key: a compiled run holds only as long as none of it changes.

Tracing takes numbers, settings and functions for constants.  A model may hold them as attributes, in tables or in
objects of its own, and its methods may read them from their module.  ``state_of`` looks at what they are now.  The code
of installed packages counts as the same, and so do their objects that hold no settings.
"""

from __future__ import annotations

import argparse
import dis
import hashlib
import sys
import types
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np

__all__ = ["Same", "globals_in", "is_installed", "state_of"]

_PLAIN = (type(None), bool, str, bytes, int, float, complex)
_TABLES = (tuple, list, set, frozenset, deque)
_SETTINGS = (types.SimpleNamespace, argparse.Namespace)
"""Objects of Python's library that hold whatever a user gives them."""
_FRAMEWORKS = frozenset({"jax", "jaxlib", "flax", "haiku", "equinox", "keras", "optax", "tensorflow", "torch"})
"""Packages whose own objects, and those of classes derived from theirs, the adapters look into."""
_INSTALLED = frozenset({"critinit", "critinit_adapters", "numpy"})
_MOST = 5000
"""Objects that are looked at; a model that holds more has no key."""


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


class _Unknown:
    """In place of a key where there is none: a key with it cannot be hashed, so no run is kept by it."""

    def __hash__(self) -> int:
        raise TypeError("there is no key")


def state_of(value: Any, is_known: Callable[[Any], bool] = lambda value: False) -> Hashable:
    """Return a key of all that a value, or the code of its class, reads now.

    Args:
        value: An attribute, a class, a function, or a table of these.
        is_known: Whether something is left out, as the key has it elsewhere.

    Returns:
        The key; something that cannot be hashed where the value holds too much, or what cannot be looked at.
    """
    try:
        return _State(is_known).of(value)
    except Exception:  # whatever a user's objects raise when they are looked at
        return _Unknown()


class _TooMuch(Exception):
    """The value holds more objects than are looked at."""


class _State:
    """One look: each object is looked into once, so that those which hold each other come to an end."""

    def __init__(self, is_known: Callable[[Any], bool]) -> None:
        self.is_known, self.seen = is_known, dict[int, tuple[int, object]]()

    def of(self, value: Any) -> Hashable:
        if isinstance(value, _PLAIN):
            return type(value), value if value == value else "nan"
        if self.is_known(value):
            return None
        if id(value) in self.seen:
            return self.seen[id(value)][0]
        if len(self.seen) > _MOST:
            raise _TooMuch
        self.seen[id(value)] = len(self.seen), value  # alive, so that no other takes its place in memory
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return value.shape, value.dtype.str, hashlib.blake2b(value.tobytes()).digest()
        if isinstance(value, (*_TABLES, np.ndarray, Mapping)):
            return type(value), self._parts(value), self._attributes(value)
        if isinstance(value, types.MethodType):
            return self.of(value.__func__), self.of(value.__self__)
        if isinstance(value, (staticmethod, classmethod)):
            return type(value), self.of(value.__func__)
        if isinstance(value, property):
            return property, self.of(value.fget)
        if isinstance(value, cached_property):
            return cached_property, self.of(value.func)
        if isinstance(value, partial):
            return partial, self.of(value.func), self.of(value.args), self.of(value.keywords)
        if isinstance(value, types.FunctionType):
            return Same(value.__code__), tuple(self._read_by(value))
        if isinstance(value, type):
            return Same(value), tuple(self._code_of(value))
        if isinstance(value, types.ModuleType):
            return Same(value)
        own = Same(value), self.of(type(value))
        is_looked_at = isinstance(value, _SETTINGS) or not (
            _root(type(value)) in sys.stdlib_module_names
            or any(_root(kind) in _FRAMEWORKS for kind in type(value).__mro__)
        )
        return (*own, self._attributes(value)) if is_looked_at else own

    def _parts(self, value: Any) -> Hashable:
        """What a table holds; long ones of plain values at once."""
        if isinstance(value, Mapping):
            return self._parts(tuple(value)), self._parts(tuple(value.values()))
        parts = tuple(sorted(value, key=repr) if isinstance(value, (set, frozenset)) else np.ravel(value) if
                      isinstance(value, np.ndarray) else value)  # fmt: skip
        if all(type(part) in _PLAIN for part in parts):
            return tuple(map(type, parts)), tuple(part if part == part else "nan" for part in parts)
        return tuple(map(self.of, parts))

    def _attributes(self, value: Any) -> Hashable:
        """The attributes of an object, and those in its slots."""
        slots = [name for kind in type(value).__mro__ for name in _slots(kind) if hasattr(value, name)]
        found = {**{name: getattr(value, name) for name in slots}, **getattr(value, "__dict__", {})}
        return tuple((name, self.of(found[name])) for name in sorted(found))

    def _code_of(self, kind: type) -> Iterator[Hashable]:
        """States of what a class of the user's holds."""
        for one in kind.__mro__:
            if not is_installed(one):
                for name, part in tuple(vars(one).items()):
                    if not (name.startswith("__") and not isinstance(part, types.FunctionType)):
                        yield name, self.of(part)

    def _read_by(self, function: types.FunctionType) -> Iterator[Hashable]:
        """States of what a function of the user's reads beside its arguments."""
        yield self.of(getattr(function, "__wrapped__", None))
        for cell in function.__closure__ or ():
            try:
                yield self.of(cell.cell_contents)
            except ValueError:  # nothing is in it yet
                yield None
        if is_installed(function):
            return
        yield self.of(function.__defaults__)
        yield self.of(function.__kwdefaults__)
        for name in globals_in(function.__code__):
            if name in function.__globals__:
                found = function.__globals__[name]
                yield name, self.of(found)
                if isinstance(found, types.ModuleType) and not is_installed(found):
                    yield tuple(
                        (part, self.of(vars(found)[part])) for part in _names(function.__code__) if part in vars(found)
                    )


@lru_cache(maxsize=4096)
def globals_in(code: types.CodeType) -> tuple[str, ...]:
    """Return the names that code, and functions within it, look up in their module.

    Args:
        code: The code of a function.
    """
    own = (one.argval for one in dis.get_instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    within = (name for part in code.co_consts if isinstance(part, types.CodeType) for name in globals_in(part))
    return tuple(dict.fromkeys((*own, *within)))


@lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> tuple[str, ...]:
    """The names that code, and functions within it, use: those of attributes too."""
    within = (name for part in code.co_consts if isinstance(part, types.CodeType) for name in _names(part))
    return tuple(dict.fromkeys((*code.co_names, *within)))


def is_installed(thing: Any) -> bool:
    """Return whether a class, function or module is of Python's library or an installed package, whose code stays.

    Args:
        thing: The class, function or module.
    """
    return _is_of_package(_root(thing))


@lru_cache(maxsize=4096)
def _is_of_package(root: str) -> bool:
    if root in sys.stdlib_module_names or root in _FRAMEWORKS or root in _INSTALLED:
        return True
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file


def _root(thing: Any) -> str:
    """The name of the package that something is of."""
    module = thing.__name__ if isinstance(thing, types.ModuleType) else getattr(thing, "__module__", None)
    return module.partition(".")[0] if isinstance(module, str) else ""


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))
