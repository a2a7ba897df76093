"""Whether the untied and the tied theory agree on a layer, in a sentence that states what was compared."""

from __future__ import annotations

import math
from typing import NamedTuple

from critinit.spec import Numbers

__all__ = ["LIMIT", "agreement"]

LIMIT = 0.10
"""Relative difference, of the larger number, up to which two numbers agree."""
_ERRORS = 3.0
"""Standard errors of the tied number within which a difference may be chance."""
_NOTHING_LEFT = 1e-3
"""Retention below which both theories say that nothing is left; the growth rates then say how fast."""


class _Comparison(NamedTuple):
    """One quantity in both theories, and whether their difference may be chance."""

    name: str
    untied: float
    tied: float
    unit: str
    by_chance: bool

    @property
    def difference(self) -> float:
        larger = max(abs(self.untied), abs(self.tied))
        return abs(self.untied - self.tied) / larger if larger else 0.0

    @property
    def agrees(self) -> bool:
        return self.difference <= LIMIT or self.by_chance

    def __str__(self) -> str:
        chance = f", within {_ERRORS:g} standard errors" if self.by_chance and self.difference > LIMIT else ""
        return (
            f"{self.name} is {self.untied:.3g} and {self.tied:.3g}{self.unit}, "
            f"a difference of {100.0 * self.difference:.1f} % (limit {100.0 * LIMIT:g} %{chance})"
        )


def agreement(untied: Numbers | None, tied: Numbers, T: int) -> tuple[bool, str]:
    """Return whether the two theories agree on a layer, and a sentence with what was compared.

    Compared are the retention over T steps (where at least .1 % is left), the second moment and the time scale.  They
    agree where every difference is at most 10 % of the larger number, or within three standard errors of the tied one.

    With a spread of time constants the time scales answer different questions: untied it is that of the slowest units,
    after all the others; tied it is the decay while at least 1 % of the units carry the perturbation.  Where they
    differ and the retention agrees, the sentence says so and they do not count.

    Args:
        untied: The numbers of the untied theory; None where it has none.
        tied: The numbers of the tied theory, or its estimate.
        T: Steps of the retention.

    Returns:
        Whether they agree, and the sentence.  A number whose standard error is as large as itself is not stated.

    Example:
        >>> from critinit import generate
        >>> spec = generate("gru", T=100, scheme="isometry")
        >>> numbers = spec.layers[0].predicted
        >>> agreement(numbers.untied, numbers.tied, spec.T)[0]
        True
    """
    if untied is None:
        return False, "The untied theory has no numbers for identity kernels; the tied numbers are those of networks."
    retention = _compared(untied, tied, "retention", f"retention over {T} steps")
    if retention is not None and max(retention.untied, retention.tied) < _NOTHING_LEFT:
        retention = None
    moment = _compared(untied, tied, "second_moment", "the second moment")
    differing = _growth_differs(untied, tied, T)
    scale = _compared(untied, tied, "time_scale", "the time scale", " steps")
    aside = ""
    if differing and retention is not None and retention.agrees and _both_decay(untied, tied):
        differing, aside = "", _other_question(scale)
        scale = None
    compared = [c for c in (retention, moment, scale) if c is not None]
    apart = [str(c) for c in compared if not c.agrees and c is not scale] + ([differing] if differing else [])
    if apart:
        advice = "Trust the tied numbers: networks keep their weights."
        return False, f"Untied and tied theory disagree: {'; '.join(apart)}.  {advice}"
    stated = "; ".join(map(str, compared)) or "no number is known well enough to be compared"
    return True, f"Untied and tied theory agree: {stated}.{aside}"


def _compared(untied: Numbers, tied: Numbers, field: str, name: str, unit: str = "") -> _Comparison | None:
    """The comparison of one field; None where one of the numbers is missing or not known well enough to be stated."""
    one, other, error = getattr(untied, field), getattr(tied, field), _error(tied, field)
    if one is None or other is None or (error > 0.0 and error >= abs(other)):
        return None
    by_chance = abs(one - other) <= _ERRORS * error
    if field == "time_scale":  # its error is not symmetric, that of χ is
        by_chance = abs(untied.chi - tied.chi) <= _ERRORS * _error(tied, "chi")
    return _Comparison(name, one, other, unit, by_chance)


def _growth_differs(untied: Numbers, tied: Numbers, T: int) -> str:
    """How the growth rates differ, or nothing where they agree."""
    if abs(untied.chi - tied.chi) <= _ERRORS * _error(tied, "chi"):
        return ""
    if _both_decay(untied, tied):
        assert untied.time_scale is not None
        assert tied.time_scale is not None
        scales = _Comparison("the time scale", untied.time_scale, tied.time_scale, " steps", False)
        if scales.agrees:
            return ""
        if _error(tied, "time_scale") < tied.time_scale:
            return str(scales)
        return f"the growth rate χ is {untied.chi:.6g} and {tied.chi:.6g} per step"
    if abs(_log(untied.chi) - _log(tied.chi)) * T <= LIMIT:  # nearly critical: over T steps it makes no difference
        return ""
    verdict = "the tied network is chaotic" if tied.chi >= 1.0 else "only the untied theory calls it chaotic"
    return f"the growth rate χ is {untied.chi:.4g} and {tied.chi:.4g} per step: {verdict}"


def _both_decay(untied: Numbers, tied: Numbers) -> bool:
    return untied.time_scale is not None and tied.time_scale is not None


def _other_question(scale: _Comparison | None) -> str:
    """What is said of time scales that differ although the retention agrees."""
    numbers = "" if scale is None else f", {scale.untied:.3g} and {scale.tied:.3g} steps,"
    return (
        f"  Their time scales{numbers} answer different questions: the untied one is that of the slowest units, "
        "the tied one that of all units together."
    )


def _error(numbers: Numbers, field: str) -> float:
    """The standard error of a number; 0 where it is not sampled."""
    return (numbers.standard_error.get(field) if numbers.standard_error else None) or 0.0


def _log(x: float) -> float:
    return math.log(x) if x > 0.0 else -math.inf
