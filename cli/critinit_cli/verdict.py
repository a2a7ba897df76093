"""Whether a measurement bears a prediction out.

χ and the second moments are compared by the logarithm of their ratio, each with its standard error: that of the
measurement, whose K networks estimate it with K − 1 degrees of freedom (Student's t), and the prediction's own.
A true prediction is called missed in at most ``FALSE_ALARMS`` of all runs, for all numbers together; and it may be off
by ``TOLERANCE`` whatever the errors: what finite networks and the theory differ by.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from critinit.spec import Numbers

__all__ = ["FALSE_ALARMS", "TOLERANCE", "misses"]

TOLERANCE = {"chi": 0.01, "second_moment": 0.03, "cell_second_moment": 0.03}
"""In the logarithm; the accuracy that the theory claims for itself."""

FALSE_ALARMS = 0.01

_NOTHING = 1e-12
"""Below this a number counts as zero."""


class _Comparison(NamedTuple):
    path: str
    want: float
    have: float
    error: float
    tolerance: float


def misses(
    expected: Mapping[str, Sequence[Numbers | None]], found: Mapping[str, Sequence[Numbers | None]], networks: int
) -> list[str]:
    """A line for every number that ``networks`` networks gave away from its prediction; none where it holds.

    ``expected``, ``found``: reading of the weights -> the numbers of every layer.
    """
    from scipy.special import stdtrit

    comparisons = list(_comparisons(expected, found))
    if not comparisons:
        return []
    errors = float(stdtrit(networks - 1, 1.0 - 0.5 * FALSE_ALARMS / len(comparisons)))
    lines = []
    for path, want, have, error, tolerance in comparisons:
        apart = math.inf if min(want, have) < _NOTHING else abs(math.log(have / want))
        allowed = max(tolerance, errors * error / max(have, _NOTHING))
        if apart > allowed:
            measured = f"measured {have:.6g} +- {error:.2g}"
            lines.append(f"{path}: {measured}; predicted {want:.6g}; allowed: {100 * allowed:.2g} % apart")
    return lines


def _comparisons(
    expected: Mapping[str, Sequence[Numbers | None]], found: Mapping[str, Sequence[Numbers | None]]
) -> Iterator[_Comparison]:
    for reading, layers in found.items():
        for index, (got, wanted) in enumerate(zip(layers, expected[reading], strict=True)):
            if got is None or wanted is None:
                continue
            for name, tolerance in TOLERANCE.items():
                have, want = getattr(got, name), getattr(wanted, name)
                if have is not None and want is not None and max(have, want) >= _NOTHING:
                    error = math.hypot(_error(got, name), _error(wanted, name))
                    yield _Comparison(f"layers.{index}.{reading}.{name}", want, have, error, tolerance)


def _error(numbers: Numbers, name: str) -> float:
    return (numbers.standard_error or {}).get(name) or 0.0
