"""The tests of one gate's part: its numbers against what a spec asks for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from critinit.distributions import Observed, Outcome
from critinit.distributions.goodness import exact
from critinit.tensors.sampling import Draw

__all__ = ["compare", "passes"]


def compare(draw: Draw, observed: Observed, partner: Observed | None = None) -> tuple[Outcome, ...]:
    """Return the tests of one part, those of its distribution.

    Numbers that are not finite, and a shape that the distribution cannot have, fail without further tests.

    Args:
        draw: What the spec asks for.
        observed: The part's numbers.
        partner: Of a coupled bias, the bias of the gate that it follows.  The two are compared unit by unit.  Without
            it the bias is tested as one of the distribution that it follows.

    Returns:
        At least one test.
    """
    x = observed.values
    if not np.isfinite(x).all():
        return (exact("finite", False),)
    if draw.problem() is not None:
        return (exact("shape", False),)
    if draw.coupled_to is not None and partner is not None:
        slack = observed.rounding + partner.rounding
        return (exact("unit by unit", np.abs(x - draw.sign * partner.values).max() <= slack),)
    return draw.distribution.tests(observed._replace(values=draw.sign * x))


def passes(tests: Sequence[Outcome], threshold: float) -> bool:
    """Return whether every exact test holds and every other one has a p of at least ``threshold``."""
    return all(test.p > 0.0 if test.exact else test.p >= threshold for test in tests)
