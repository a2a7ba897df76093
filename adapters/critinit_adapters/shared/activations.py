"""Which cell a layer's activation makes of it, and whether it is the function that the theory is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.errors import Problem

__all__ = ["activation_problem", "same_function"]

_POINTS = np.array([-100, -8, -3, -2, -1, 0, 1, 2, 3, 8, 100], dtype=np.float32)
"""Where two functions are compared: both sides of 0, into saturation, and beyond where a clipped ReLU ends."""
_TOLERANCE = 1e-6
"""How far two functions may differ there, absolutely: rounding in single precision."""


def same_function(function: Any, other: Any, evaluate: Callable[[Any, NDArray[np.float32]], Any]) -> bool:
    """Return whether two activations compute the same; a function that cannot be evaluated is no other's equal.

    Args:
        function: The activation found.
        other: The one that it is compared with.
        evaluate: Calls a function of the framework with points and returns the values, as NumPy reads them.
    """
    if function is other:
        return True
    try:
        return bool(np.allclose(evaluate(function, _POINTS), evaluate(other, _POINTS), atol=_TOLERANCE))
    except Exception:  # a function of the user's can raise anything
        return False


def activation_problem(
    field: str, function: Any, allowed: Any, evaluate: Callable[[Any, NDArray[np.float32]], Any]
) -> Problem | None:
    """Return why a layer's activation cannot be used, or None where it computes the same as the one allowed.

    Functions are compared by their values, as every library has a tanh of its own.

    Args:
        field: The layer's argument that names the activation.
        function: The activation found.
        allowed: The activation that the theory is for.
        evaluate: Calls a function of the framework with points and returns the values, as NumPy reads them.
    """
    if same_function(function, allowed, evaluate):
        return None
    found = getattr(function, "__name__", type(function).__name__)
    try:
        evaluate(function, _POINTS)
    except Exception as error:  # a function of the user's can raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        found = f"{found}, which cannot be evaluated ({reason})"
    return Problem(field, found, allowed.__name__, f"the theory is for {allowed.__name__}")
