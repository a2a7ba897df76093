"""The numbers of a layer of several groups of units, from those of each group.

A group's recurrent kernels read its own units, so at infinite width the groups are independent, and the Jacobian of the
layer is block diagonal.  With p_g the share of group g:

    second moments, singular values, retention: means over units, Σ p_g·(…)_g
    χ: that of the group in which perturbations last longest, max χ_g
    unit time constants: the shortest and longest of all; the median by interpolating the groups' distributions
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.frozen import FrozenMapping
from critinit.spec.model import Jacobian, Layer, Numbers, TimeConstants
from critinit.theory.decay import over_T

__all__ = ["mixed"]

_ROUNDING = 1e-7
"""Of numbers of six digits."""
_LEAST = 1e-300
"""Time constants of units that keep nothing are 1; this only keeps logarithms finite."""


def mixed(layer: Layer, parts: Sequence[Numbers], T: int) -> Numbers:
    """Return the numbers of a layer from those of its groups.

    The median time constant is exact where the median unit's group has one time constant, or times that are spread
    log-uniformly; elsewhere it is interpolated between the group's shortest, median and longest.

    Args:
        layer: The layer.
        parts: The numbers of each group alone (``Layer.alone``), in order.
        T: Steps at which the retention is stated.
    """
    shares = np.array([group.share for group in layer.groups])
    errors: dict[str, float | None] = {}

    def error_of(part: Numbers, name: str) -> float | None:
        return 0.0 if part.standard_error is None else part.standard_error.get(name)

    def put(name: str, weights: Sequence[float]) -> None:
        """The error of a sum of independent terms with these weights."""
        found = [error_of(part, name) for part in parts]
        known = [error for error in found if error is not None]
        if len(known) == len(found):
            errors[name] = math.sqrt(sum((w * e) ** 2 for w, e in zip(weights, known, strict=True)))

    def mean(name: str, value: Callable[[Numbers], float]) -> float:
        put(name, list(shares))
        return float(shares @ [value(part) for part in parts])

    has_memory = all(part.cell_second_moment is not None for part in parts)
    memory = mean("cell_second_moment", lambda part: part.cell_second_moment or 0.0) if has_memory else None
    logs = np.array([_log_retention(part, T) for part in parts])
    log_retention = float(np.logaddexp.reduce(logs + np.log(shares)))
    kept = np.exp(logs - log_retention) if math.isfinite(log_retention) else np.ones(len(parts))
    retention_weights = list(shares * np.where(np.isfinite(kept), kept, 0.0))
    slowest = max(range(len(parts)), key=lambda g: -math.inf if parts[g].chi is None else float(parts[g].chi or 0.0))
    known = all(part.chi is not None for part in parts)
    if known:
        errors["chi"], errors["time_scale"] = (error_of(parts[slowest], name) for name in ("chi", "time_scale"))
    over = over_T(log_retention, T)
    put("retention", list(shares))
    if all(error_of(part, "chi_over_T") is not None for part in parts):
        relative = [
            w * (error_of(part, "chi_over_T") or 0.0) / max(part.chi_over_T, _LEAST)
            for w, part in zip(retention_weights, parts, strict=True)
        ]
        error = math.hypot(*relative)
        errors["chi_over_T"] = over["chi_over_T"] * error
        scale = over["time_scale_over_T"]
        if scale is not None:
            errors["time_scale_over_T"] = scale**2 * error
    means = np.array([part.jacobian.mean_squared_singular_value for part in parts])
    first = mean("jacobian.mean_squared_singular_value", lambda part: part.jacobian.mean_squared_singular_value)
    put("jacobian.variance", list(shares))
    sampled = any(part.standard_error is not None for part in parts)
    found = Numbers(
        second_moment=mean("second_moment", lambda part: part.second_moment),
        cell_second_moment=memory,
        chi=parts[slowest].chi if known else None,
        time_scale=parts[slowest].time_scale if known else None,
        **over,
        unit_time_constants=_times(shares, [part.unit_time_constants for part in parts]),
        jacobian=Jacobian(
            mean_squared_singular_value=first,
            variance=float(shares @ [p.jacobian.variance for p in parts] + shares @ (means - first) ** 2),
        ),
        standard_error=FrozenMapping(errors) if sampled else None,
        notes=_notes(layer, parts),
    )
    return found.model_copy(update={"standard_error": _visible(found)})


def _visible(numbers: Numbers) -> FrozenMapping[float | None] | None:
    """The standard errors that the digits of a number can show; others are of groups that hardly count in it."""
    if numbers.standard_error is None:
        return None
    return FrozenMapping({n: e for n, e in numbers.standard_error.items() if e and e > _ROUNDING * _at(numbers, n)})


def _at(numbers: Numbers, name: str) -> float:
    """The size of the number of this dotted name."""
    value: Any = numbers
    for step in name.split("."):
        value = getattr(value, step)
    return abs(float(value or 0.0))


def _log_retention(part: Numbers, T: int) -> float:
    """ln of the retention, also where that underflows."""
    if part.retention > 0.0:
        return math.log(part.retention)
    return T * math.log(part.chi_over_T) if part.chi_over_T > 0.0 else -math.inf


def _times(shares: NDArray[np.float64], parts: Sequence[TimeConstants]) -> TimeConstants:
    """The shortest, median and longest time constants of all units."""
    low, high = min(p.min for p in parts), max(p.max for p in parts)

    def below(log_time: float) -> float:
        """The share of the units whose time constants are at most this; of equal ones half."""
        return float(shares @ [_share_below(part, log_time) for part in parts])

    ends = math.log(max(low, _LEAST)), math.log(max(high, _LEAST))
    for _ in range(200):  # bisection: the distribution has jumps
        middle = 0.5 * (ends[0] + ends[1])
        ends = (middle, ends[1]) if below(middle) < 0.5 else (ends[0], middle)
    return TimeConstants(min=low, median=min(max(math.exp(0.5 * (ends[0] + ends[1])), low), high), max=high)


def _share_below(part: TimeConstants, log_time: float) -> float:
    """The share of a group's units with shorter time constants, linear in their logarithm between the known ones."""
    low, median, high = (math.log(max(t, _LEAST)) for t in (part.min, part.median, part.max))
    if log_time < low:
        return 0.0
    if log_time >= high:
        return 1.0
    if log_time < median:
        return 0.5 * (log_time - low) / (median - low)
    return 0.5 + 0.5 * (log_time - median) / (high - median)


def _notes(layer: Layer, parts: Sequence[Numbers]) -> tuple[str, ...]:
    """The notes of all groups; one that not all have says whose it is."""
    notes = {note: None for part in parts for note in part.notes}
    named = []
    for note in notes:
        own = [group.name for group, part in zip(layer.groups, parts, strict=True) if note in part.notes]
        whose = f"{'group' if len(own) == 1 else 'groups'} {', '.join(own)}"
        named.append(note if len(own) == len(parts) else f"{note} ({whose})")
    return tuple(named)
