"""What a class says of a module: whether it overrides a known layer's step, and whether its name looks recurrent."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

__all__ = ["looks_recurrent", "overrides"]

_WORDS = re.compile(r"RNN|LSTM|GRU|MGU|SRU|Recurrent|Cell(?![a-z])")
"""Words by which people name recurrent classes, in the capitals that classes are written in."""

_STATES = {"h", "hx", "h0", "h_prev", "prev_h", "hidden", "hidden_state", "prev_hidden", "state", "states", "carry"}
"""What people call the argument of a step that is its state."""


def looks_recurrent(name: str, step: Any = None) -> bool:
    """Return whether a class's name, or what its step takes, is what people have for recurrent layers.

    Args:
        name: The class's name.
        step: The function that runs it, whose arguments may name a state.

    Example:
        >>> [looks_recurrent(name) for name in ("PeepholeLSTM", "MyCell", "Cellular", "Linear")]
        [True, True, False, False]
        >>> looks_recurrent("Memory", lambda self, x, hidden: None)
        True
    """
    if _WORDS.search(name) is not None:
        return True
    try:
        return step is not None and not _STATES.isdisjoint(inspect.signature(step).parameters)
    except (TypeError, ValueError):  # no function of Python's
        return False


def overrides(module: Any, known: Sequence[type], methods: Sequence[str]) -> str:
    """Return what a module computes in its own way although it derives from a known layer, or nothing.

    Args:
        module: The module.
        known: The classes whose step is known.
        methods: The methods that make the step.

    Returns:
        Words such as "a PeepholeLSTM, whose forward is not that of LSTM"; "" where each of the methods is one that a
        known class defines.
    """
    kind = type(module)
    base = next((k for k in kind.__mro__ if k in known), None)
    for method in methods:
        own = method in vars(module) if hasattr(module, "__dict__") else False
        if own or _definer(kind, method) is not (None if base is None else _definer(base, method)):
            whose = "any layer that is known" if base is None else base.__name__
            return f"a {kind.__name__}, whose {method} is not that of {whose}"
    return ""


def _definer(kind: type, method: str) -> type | None:
    """The class that defines a method, as Python finds it."""
    return next((k for k in kind.__mro__ if method in vars(k)), None)
