"""Whether a measurement bears a prediction out.

χ and the second moments are compared by the logarithm of their ratio.  They may differ by three standard
errors (the measurement's and the prediction's together), or by ``TOLERANCE``: what the two are off by anyway.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from critinit.simulation import Measurement
    from critinit.spec import InitSpec, Numbers

__all__ = ["TOLERANCE", "misses"]

TOLERANCE = {"chi": 0.01, "second_moment": 0.03, "cell_second_moment": 0.03}
"""Relative; the accuracy that the theory claims for itself."""

_ERRORS = 3.0
_NOTHING = 1e-12
"""Below this a number counts as zero."""


def misses(predicted: InitSpec, measured: Mapping[str, tuple[Measurement | None, ...]]) -> list[str]:
    """A line for every number that was measured away from its prediction; none where the prediction holds."""
    from critinit.spec import Numbers

    found = []
    for reading, results in measured.items():
        for index, (layer, result) in enumerate(zip(predicted.layers, results, strict=True)):
            expected = getattr(layer.predicted, reading)
            if result is not None and isinstance(expected, Numbers):
                found += [
                    f"layers.{index}.{reading}.{miss}" for miss in _misses_of_layer(expected, result.numbers)
                ]
    return found


def _misses_of_layer(expected: Numbers, got: Numbers) -> list[str]:
    found = []
    for name, tolerance in TOLERANCE.items():
        want, have = getattr(expected, name), getattr(got, name)
        if want is None or have is None or max(want, have) < _NOTHING:
            continue
        error = math.hypot(_error(expected, name), _error(got, name))
        apart = math.inf if min(want, have) < _NOTHING else abs(math.log(have / want))
        allowed = max(tolerance, _ERRORS * error / max(have, _NOTHING))
        if apart > allowed:
            measured = f"measured {have:.6g} +- {error:.2g}"
            found.append(f"{name}: {measured}; predicted {want:.6g}; allowed: {100 * allowed:.2g} % apart")
    return found


def _error(numbers: Numbers, name: str) -> float:
    return (numbers.standard_error or {}).get(name) or 0.0
