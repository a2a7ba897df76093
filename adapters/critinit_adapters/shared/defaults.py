"""What frameworks draw where nobody asks for anything else, as hints for ``critinit check``."""

from __future__ import annotations

import math

from critinit.tensors.layouts import Hints

__all__ = ["UNIFORM_BY_UNITS"]

_WORDS = "U(-1/sqrt(H), 1/sqrt(H)), the default of torch and Equinox"


def _bound(hidden: int, fan_in: int, columns: int) -> float:
    return 1.0 / math.sqrt(hidden)


UNIFORM_BY_UNITS = Hints(default_input=_WORDS, default_recurrent=_WORDS, default_bound=_bound)
"""PyTorch's default of every kernel, which Equinox has too."""
