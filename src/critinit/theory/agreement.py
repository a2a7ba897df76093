"""Whether the untied numbers of a layer would mislead about a network that keeps its weights, in words."""

from __future__ import annotations

import math

from critinit.spec import Numbers

__all__ = ["agreement"]

_APART = 1.1
"""The numbers agree where their ratio is below this."""
_ERRORS = 3.0


def agreement(untied: Numbers | None, tied: Numbers) -> tuple[bool, str]:
    """Whether the two agree, and a sentence; time scales, what T steps leave, and second moments are compared.

    They agree where both are chaotic or neither is, and every ratio is below 1.1 (of the retention: e, where more than
    1e-6 is left), or what separates them is within three standard errors.  With a spread of time constants χ depends
    on when it is read: untied it is that of the slowest units, after all the others; tied it is sampled over T.  Time
    scales that differ mislead, so, only where the decay over the same T steps differs too.
    """
    if untied is None:
        return (
            False,
            "the untied theory has no reading here (identity kernels): the tied numbers are those of the network",
        )
    differences = []
    if _apart(untied.chi - 1.0, tied.chi - 1.0, _error(tied, "chi")) and not _same_decay(untied, tied):
        differences.append(_memory(untied, tied))
    if max(untied.retention, tied.retention) > 1e-6 and abs(_log(tied.retention) - _log(untied.retention)) > 1.0:
        differences.append(f"{tied.retention:.3g} of a perturbation is left after T steps, not {untied.retention:.3g}")
    if _apart(untied.second_moment, tied.second_moment, _error(tied, "second_moment")):
        differences.append(f"the second moment is {tied.second_moment:.3g}, not {untied.second_moment:.3g}")
    if differences:
        return False, "the untied numbers mislead: with weights that stay, as in every network, " + "; ".join(
            differences
        )
    return True, "the untied numbers hold for weights that stay: the two theories agree within 10 %"


def _same_decay(untied: Numbers, tied: Numbers) -> bool:
    """Whether both decay, and ln retention is within a tenth: the mean rate over T steps."""
    one, other = untied.retention, tied.retention
    if untied.chi >= 1.0 or tied.chi >= 1.0 or not 0.0 < min(one, other) <= max(one, other) < 1.0:
        return False
    return not _apart(-_log(one), -_log(other), _error(tied, "retention") / other)


def _memory(untied: Numbers, tied: Numbers) -> str:
    if tied.time_scale is None:
        return f"the network is chaotic (chi {tied.chi:.4g}), not of time scale {_steps(untied)}"
    return f"the time scale is {_steps(tied)} steps, not {_steps(untied)}"


def _steps(numbers: Numbers) -> str:
    return "unbounded" if numbers.time_scale is None else f"{numbers.time_scale:.3g}"


def _apart(one: float, other: float, error: float) -> bool:
    """Whether two numbers differ by more than a tenth and more than the error of the second."""
    if abs(other - one) <= _ERRORS * error:
        return False
    if one * other <= 0.0:
        return one != other
    return abs(_log(abs(other)) - _log(abs(one))) > math.log(_APART)


def _error(numbers: Numbers, name: str) -> float:
    return (numbers.standard_error or {}).get(name) or 0.0


def _log(x: float) -> float:
    return math.log(max(x, 1e-300))
