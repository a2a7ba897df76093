"""What a perturbation's decay over T steps is called: the same three numbers for the untied theory and the estimate."""

from __future__ import annotations

import math
from typing import TypedDict

from critinit.distributions.numbers import LARGEST

__all__ = ["OverT", "over_T"]


class OverT(TypedDict):
    """Fields of ``critinit.spec.Numbers``."""

    chi_over_T: float
    time_scale_over_T: float | None
    retention: float


def over_T(log_retention: float, T: int) -> OverT:
    """Return the retention over T steps, the mean growth per step χ_T, and the time scale ξ_T = −1/ln χ_T in steps.

    Args:
        log_retention: ln E|δ_T|²/E|δ_0|²; −∞ where nothing is left.
        T: Steps.

    Returns:
        The numbers; retention and χ_T at most 1e100, the retention 0 where it is below what a number can hold.

    Example:
        >>> over_T(-1.0, 50)["time_scale_over_T"]
        50.0
    """
    largest = math.log(LARGEST)
    return {
        "chi_over_T": math.exp(min(log_retention / T, largest)),
        "time_scale_over_T": None if log_retention >= 0.0 else T / -log_retention,
        "retention": LARGEST if log_retention >= largest else math.exp(log_retention),
    }
