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

    Readings = Mapping[str, Sequence[Numbers | None]]

__all__ = ["FALSE_ALARMS", "TOLERANCE", "Comparison", "misses"]

TOLERANCE = {"chi": 0.01, "second_moment": 0.03, "cell_second_moment": 0.03}
"""In the logarithm; the accuracy that the theory claims for itself."""

FALSE_ALARMS = 0.01
"""The share of runs in which a true prediction may be called missed."""

_NOTHING = 1e-12
"""Below this a number counts as zero."""


class Comparison(NamedTuple):
    """A number that was measured, and its prediction.

    Attributes:
        reading: ``untied`` or ``tied``.
        where: Its path: ``layers.0.tied.chi``.
        measured: The number.
        standard_error: Of the measurement and the prediction together.
        predicted: The number that was predicted.
        allowed: The largest logarithm of their ratio, either way, at which the prediction holds.
    """

    reading: str
    where: str
    measured: float
    standard_error: float
    predicted: float
    allowed: float

    @property
    def relative_error(self) -> float:
        """The standard error as a share of the measured number."""
        return self.standard_error / max(self.measured, _NOTHING)

    @property
    def holds(self) -> bool:
        """Whether the two are as near as they may be."""
        if min(self.predicted, self.measured) < _NOTHING:
            return False
        return abs(math.log(self.measured / self.predicted)) <= self.allowed

    def __str__(self) -> str:
        measured = f"measured {self.measured:.6g} ± {self.standard_error:.2g}"
        allowed = f"{100 * self.allowed:.2g} % apart"
        return f"{self.where}: {measured}; predicted {self.predicted:.6g}; allowed: {allowed}"


def misses(expected: Readings, found: Readings, networks: int) -> list[Comparison]:
    """Return the numbers that were measured away from their predictions; none where the prediction holds.

    Args:
        expected: What is predicted: reading of the weights -> the numbers of every layer.
        found: What was measured, likewise.
        networks: How many networks were measured.
    """
    from scipy.special import stdtrit

    pairs = list(_pairs(expected, found))
    if not pairs:
        return []
    quantile = float(stdtrit(networks - 1, 1.0 - 0.5 * FALSE_ALARMS / len(pairs)))
    comparisons = (pair._replace(allowed=max(pair.allowed, quantile * pair.relative_error)) for pair in pairs)
    return [comparison for comparison in comparisons if not comparison.holds]


def _pairs(expected: Readings, found: Readings) -> Iterator[Comparison]:
    """The numbers that are compared, each with its tolerance."""
    for reading, layers in found.items():
        for index, (got, wanted) in enumerate(zip(layers, expected[reading], strict=True)):
            if got is None or wanted is None:
                continue
            for name, tolerance in TOLERANCE.items():
                have, want = getattr(got, name), getattr(wanted, name)
                if have is not None and want is not None and max(have, want) >= _NOTHING:
                    error = math.hypot(_error(got, name), _error(wanted, name))
                    yield Comparison(reading, f"layers.{index}.{reading}.{name}", have, error, want, tolerance)


def _error(numbers: Numbers, name: str) -> float:
    errors = numbers.standard_error
    return 0.0 if errors is None else errors.get(name) or 0.0
