"""Whether two numbers of a layer are the same number: two theories', or a prediction and a measurement.

Near criticality ln χ is of order 1/T, so growth is compared relative to the rate: with a = ln χ expected and b found,

    |a − b| ≤ max(5 % of |a|, .02/T, z standard errors of b)

5 % of the rate is 5 % of the time scale ξ = −1/ln χ; .02/T is 2 % of what T steps leave, where almost all is left.
Second moments are compared likewise, relative to the larger one, with a limit of 3 %, or for a network of N units 8/N
and what its rows' overlap and the layers below add (``critinit.theory.widths.excesses``): rows of an input kernel that
stays differ in length by √(2/N), and have inner products of that order with each other.

Differences and limits are stated in one way for both: as a share of the larger of the two, |x − y|/max(|x|, |y|).  A
time scale is the inverse of its rate, so this is the same share of the larger time scale.

Where a few units carry what a network keeps, a wider one has units that keep more.  So a comparison does not decide
where the measured rate is then faster than the expected one, by at most 40 % of itself; a time scale that is stated
twice as long is still noticed.

Where z standard errors, or what a network's width may do, exceed half of the rate or of the moment, the comparison
cannot decide: it could not tell a number from its double.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from critinit.spec import Numbers
from critinit.theory.protocol import DRIFTING, ENDLESS, FEW_CARRY, SAME_INPUTS, fills

__all__ = ["FINITE_WIDTH", "MOMENT_LIMIT", "OVER_T_LIMIT", "RATE_LIMIT", "Comparison", "comparisons", "percent"]

RATE_LIMIT = 0.05
"""Relative difference of ln χ, and so of the time scale, up to which two rates agree: what networks of a few hundred
units and the theory differ by."""
OVER_T_LIMIT = 0.02
"""Difference of ln χ times T up to which rates agree whatever they are: 2 % of what T steps leave."""
MOMENT_LIMIT = 0.03
"""Difference of second moments, as a share of the larger one, up to which they agree."""
FINITE_WIDTH = 8.0
"""Times 1/N: what the second moment of a network of N units may be off, as a share of the larger one."""
_TELLING = 0.5
"""Largest chance difference, relative to the rate or to the moment, at which a comparison decides."""
_FEW_LOSE = 0.4
"""How much faster, as a share of itself, decay may be for want of units where a few of them carry what is left: 16 and
20 % were measured on networks of 256 units (ugrnn of uniform_gate, T = 500; a GRU with keep biases of deviation 2, T =
100).  Twice these, and less than the half that a doubled time scale makes."""
_ALL = 0.95
"""Share of a number from which on its standard error is as large as the number."""
_ZERO = 1e-12
"""Below this a second moment counts as zero."""


class Comparison(NamedTuple):
    """One number of two.

    Attributes:
        field: Its field in ``Numbers``.
        name: What it is, in words, with its unit.
        expected: The one, such as a prediction.
        found: The other, such as a measurement.
        standard_error: Of ``found`` and ``expected`` together, in the unit of ``found``.
        difference: Of the two rates or moments, as a share of the larger one: 0 to 1, up to 2 where one rate is growth.
        limit: The largest difference at which they agree, likewise.
        decides: Whether chance is so small that the limit would catch a number twice as large, and no want of units
            explains the difference.
        expected_error: Standard error of ``expected`` alone, in its unit.
    """

    field: str
    name: str
    expected: float
    found: float
    standard_error: float
    difference: float
    limit: float
    decides: bool = True
    expected_error: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the limit."""
        return self.difference <= self.limit

    @property
    def leaves_open(self) -> bool:
        """Whether this is the growth over T steps and does not decide: then there is no verdict on the whole."""
        return self.field == "chi_over_T" and not self.decides

    @property
    def is_known(self) -> bool:
        """Whether both numbers are larger than their standard errors, so that they can be stated."""
        return _stated(self.found, self.standard_error) and _stated(self.expected, self.expected_error)

    def __str__(self) -> str:
        """Return the sentence part: the numbers, the difference and the limit."""
        apart = f"{percent(self.difference)} apart, limit {percent(self.limit)}"
        return f"{self.name}: {self.expected:.4g} and {self.found:.4g}; {apart}"


def _stated(number: float, error: float) -> bool:
    """Whether a number has a digit that its standard error leaves; one network that outgrows all others leaves none."""
    return error == 0.0 or error < _ALL * abs(number)


def percent(share: float) -> str:
    """Return a share in percent, to two digits below 100 % and in whole percents above.

    Example:
        >>> percent(0.01234), percent(1.804)
        ('1.2 %', '180 %')
    """
    return f"{100.0 * share:.2g} %" if share < 0.995 else f"{100.0 * share:.0f} %"


def comparisons(
    expected: Numbers, found: Numbers, T: int, *, errors: float, width: float = math.inf, excess: float = 0.0
) -> list[Comparison]:
    """Return every number that both have, compared.

    Args:
        expected: The one reading.
        found: The other.
        T: Steps of the retention.
        errors: How many standard errors may be chance, z.
        width: Units of the network that ``found`` was measured on, if its weights stay.
        excess: The share of such a network's second moments that its width adds (``critinit.theory.widths.excesses``).

    Returns:
        Second moments of states that are stationary; the growth over T steps, and the asymptotic growth where both have
        it, if both are of copies with the same inputs or neither is, and of pairs of units that fill or neither.

    Example:
        >>> from critinit import generate
        >>> numbers = generate("gru", T=100).layers[0].predicted
        >>> [c.agrees for c in comparisons(numbers.untied, numbers.tied, 100, errors=2.0)]
        [True, True, True]
    """
    unsteady = {DRIFTING, ENDLESS}
    stationary = not any(unsteady & {*numbers.notes} or fills(numbers.notes) for numbers in (expected, found))
    moments = (("second_moment", "second moment"), ("cell_second_moment", "cell second moment"))
    same_inputs = (SAME_INPUTS in expected.notes) == (SAME_INPUTS in found.notes)
    alike = same_inputs and fills(expected.notes) == fills(found.notes)
    rates = (("chi_over_T", f"over {T} steps"), ("chi", "after many steps"))
    narrow = FINITE_WIDTH / width + excess
    made = [
        *(_of_moments(expected, found, field, name, errors, narrow) for field, name in moments if stationary),
        *(_of_rates(expected, found, field, when, T, errors) for field, when in rates if alike),
    ]
    return [comparison for comparison in made if comparison is not None]


def _error(numbers: Numbers, field: str) -> float:
    return (numbers.standard_error.get(field) if numbers.standard_error else None) or 0.0


def _of_moments(
    expected: Numbers, found: Numbers, field: str, name: str, errors: float, narrow: float
) -> Comparison | None:
    want, have = getattr(expected, field), getattr(found, field)
    if want is None or have is None or max(want, have) < _ZERO:
        return None
    error, larger = math.hypot(_error(expected, field), _error(found, field)), max(want, have)
    limit = max(MOMENT_LIMIT, narrow, errors * error / larger)
    decides = errors * error <= _TELLING * max(have, _ZERO) and narrow <= _TELLING
    return Comparison(
        field, name, want, have, error, abs(want - have) / larger, limit, decides, _error(expected, field)
    )


def _of_rates(expected: Numbers, found: Numbers, field: str, when: str, T: int, errors: float) -> Comparison | None:
    want, have = getattr(expected, field), getattr(found, field)
    if want is None or have is None or max(want, have) == 0.0:
        return None
    error = math.hypot(_error(expected, field), _error(found, field))
    both = want < 1.0 and have < 1.0 and min(want, have) > 0.0
    name = f"time scale {when}" if both else f"growth rate {when}"
    expected_shown, found_shown = (-1.0 / math.log(want), -1.0 / math.log(have)) if both else (want, have)
    shown_error = found_shown**2 * error / have if both else error
    if min(want, have) == 0.0:  # the one rate is finite, the other is not
        return Comparison(field, name, want, have, error, 1.0, RATE_LIMIT)
    a, b = math.log(want), math.log(have)
    larger = max(abs(a), abs(b), OVER_T_LIMIT / T)  # rates of exactly 0 have no relative difference
    chance = errors * error / have
    few = field == "chi_over_T" and b < min(a, 0.0) and any(FEW_CARRY in note for note in found.notes)
    limit = max(RATE_LIMIT * abs(a), OVER_T_LIMIT / T, chance)
    decides = chance <= max(_TELLING * abs(a), OVER_T_LIMIT / T)
    if few and abs(a - b) > limit:
        limit, decides = max(limit, _FEW_LOSE * abs(b)), False
    own_error = _error(expected, field) * (expected_shown**2 / want if both else 1.0)
    return Comparison(
        field, name, expected_shown, found_shown, shown_error, abs(a - b) / larger, limit / larger, decides, own_error
    )
