"""Schemes: ways to choose a spec for a cell and a sequence length.  One file a scheme.

A scheme of your own: a Python file with one ``Scheme``, named with ``--scheme FILE.py`` or loaded with ``load_scheme``;
a ``Scheme`` passed to ``register_scheme``; or a package with an entry point in the group ``critinit.schemes``.
"""

from __future__ import annotations

from typing import get_args

from critinit.errors import PluginError
from critinit.plugins import Registry
from critinit.schemes import chrono, critical, isometry, keras, memory, orthogonal, torch, uniform_gate
from critinit.schemes._base import LayerContext, Quantity, Scheme, bias, coupled, gate, group, kernel, limited
from critinit.spec.model import MAX_DESCRIPTION, MAX_NAME

__all__ = [
    "DEFAULT",
    "SCHEMES",
    "LayerContext",
    "Scheme",
    "bias",
    "coupled",
    "gate",
    "group",
    "kernel",
    "limited",
    "load_scheme",
    "register_scheme",
]

DEFAULT = "critical"
"""The scheme that is meant where none is named."""


def _checked(item: object, source: str) -> tuple[str, Scheme]:
    if not isinstance(item, Scheme):
        allowed = "an instance of critinit.schemes.Scheme"
        raise PluginError(found=type(item).__name__, allowed=allowed, source=source)
    for field, text, most in (("name", item.name, MAX_NAME), ("description", item.description, MAX_DESCRIPTION)):
        if not isinstance(text, str) or not text.strip() or len(text) > most:
            allowed = f"a text of 1 to {most} characters"
            raise PluginError(f"Scheme.{field}", found=repr(text)[:60], allowed=allowed, source=source)
    if not item.name.isidentifier():
        raise PluginError("Scheme.name", found=repr(item.name), allowed="letters, digits and _", source=source)
    for field in ("gates", "projection", "memory_gain"):
        if not callable(getattr(item, field)):
            found = repr(getattr(item, field))
            raise PluginError(f"Scheme.{field}", found=found, allowed="a function of a LayerContext", source=source)
    if item.target not in (None, *get_args(Quantity)):
        allowed = ", ".join(("None", *map(repr, get_args(Quantity))))
        raise PluginError("Scheme.target", found=repr(item.target), allowed=allowed, source=source)
    return item.name, item


SCHEMES: Registry[Scheme] = Registry(
    "scheme",
    group="critinit.schemes",
    built_in={
        module.SCHEME.name: module.SCHEME
        for module in (critical, memory, isometry, chrono, uniform_gate, orthogonal, torch, keras)
    },
    checked=_checked,
    offered=lambda item: isinstance(item, Scheme),
    file_hint="a Python file with one critinit.schemes.Scheme",
)
"""The known schemes by name."""


def register_scheme(scheme: Scheme) -> Scheme:
    """Make a scheme of your own known by its name, from now on in this process.

    Args:
        scheme: The scheme.

    Returns:
        The scheme; one of that name that was registered before is replaced.

    Raises:
        PluginError: It is not valid, or has the name of one of critinit's own.

    Example:
        >>> def gates(layer):
        ...     parts = gate(kernel("normal", 0.5), kernel("normal", 1.0), bias(0.0))
        ...     return dict.fromkeys(layer.cell.gates, parts)
        >>> register_scheme(Scheme("half", "recurrent variance 1/2", gates)).description
        'recurrent variance 1/2'
    """
    return SCHEMES.register(scheme)


def load_scheme(file: str) -> Scheme:
    """Register the scheme in a Python file, ``scheme.py`` or ``scheme.py:NAME``.  RUNS THE FILE.

    Raises:
        FileError: The file cannot be read.
        PluginError: It does not run, or holds no valid scheme, or several.
    """
    return SCHEMES.load_file(file)
