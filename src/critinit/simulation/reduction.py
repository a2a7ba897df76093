"""From what was recorded on simulated networks to numbers with standard errors.

Only the protocol (how long, which inputs) is shared with the tied theory.  The formulas are written here once more, in
another way, so that an error in either shows where the two are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.frozen import FrozenMapping
from critinit.spec import Jacobian, Layer, Numbers, TimeConstants
from critinit.theory.protocol import CARRIED, DRIFT, DRIFT_NOISES, LEAST_STEPS, REPEATS, result_notes

__all__ = [
    "NetworkRun",
    "further_perturbations",
    "growth_rate",
    "informative_steps",
    "is_stationary",
    "reduce",
    "share_of_units",
]

_LOGARITHMS = ("chi", "chi_over_T", "retention")
"""What is averaged as a logarithm."""
_CERTAIN = 2.0
"""Standard errors beyond which a difference counts as certain."""
_QUARTERS = 4
"""Parts of the second half of the burn-in, whose scatter shows its noise."""
_ZERO = 1e-100
"""A second moment below this is zero but for underflow."""
_LARGEST_LOG = 690.0
"""ln of the largest retention, 1e300: beyond it double precision overflows."""


@dataclass(frozen=True)
class NetworkRun:
    """What was recorded on one network.

    Attributes:
        second_moment: Mean of h² over units and steps.
        memory: Mean of c² likewise, of a cell with a read-out.
        time_constants: 1/(1 − mean of keep) of every unit, in steps.
        log_square: ln |δ_t|² of a perturbation, (steps + 1,).
        carrying: The share of units that carry it, (steps + 1,); where units keep with time constants of their own,
            1 before the last step.
        squared_singular_values: Mean of the squared singular values of the one-step Jacobian, and of their squares.
        settled: Whether the state was stationary when it was perturbed.
        repeated: ``log_square`` of further, shorter perturbations.
    """

    second_moment: float
    memory: float | None
    time_constants: Array
    log_square: Array
    carrying: Array
    squared_singular_values: tuple[float, float]
    settled: bool
    repeated: tuple[Array, ...] = ()


def is_stationary(second_moments: Sequence[float]) -> bool:
    """Return whether the second moment no longer drifts.

    Its means over the second quarter and over the second half agree to 1 %, or to twice the standard error of
    their difference: the standard error of the half comes from its four parts, and the quarter has twice the variance.

    Args:
        second_moments: One number a step, from rest on.
    """
    n = len(second_moments)
    quarter, half = np.array(second_moments[n // 4 : n // 2]), np.array(second_moments[n // 2 :])
    parts = [float(part.mean()) for part in np.array_split(half, _QUARTERS)]
    variance = float(np.var(parts, ddof=1)) / _QUARTERS
    tolerance = max(DRIFT * float(half.mean()), DRIFT_NOISES * math.sqrt(3.0 * variance), _ZERO)
    return abs(float(quarter.mean() - half.mean())) <= tolerance


def growth_rate(log_square: Array) -> float:
    """Return the growth per step of ln |δ_t|²: a least-squares line through the second half of its steps.

    Args:
        log_square: ln |δ_t|², (steps + 1,).

    Returns:
        The slope; −∞ where the perturbation died.

    Example:
        >>> round(growth_rate(np.array([0.0, 5.0, 2.0, 1.0, 0.0])), 12)
        -1.0
    """
    half = log_square[len(log_square) // 2 :]
    if np.isneginf(half).any():
        return -math.inf
    return float(np.polynomial.polynomial.polyfit(np.arange(half.size), half, 1)[1])


def share_of_units(perturbation: Array) -> Array:
    """Return the share of units that carry a perturbation: 1 where all have the same size, 1/N where one has it all.

    It is (mean of δ²)²/(mean of δ⁴), the participation ratio, and 1 where nothing is left.

    Args:
        perturbation: δ of every unit, (…, units).

    Example:
        >>> share_of_units(np.array([[3.0, 0.0, 0.0, 0.0], [1.0, -1.0, 1.0, 1.0]])).tolist()
        [0.25, 1.0]
    """
    largest = np.abs(perturbation).max(axis=-1, keepdims=True)
    square = (perturbation / np.where(largest > 0.0, largest, 1.0)) ** 2
    fourth = np.mean(square**2, axis=-1)
    left = fourth > 0.0
    return np.where(left, np.mean(square, axis=-1) ** 2 / np.where(left, fourth, 1.0), 1.0)


def informative_steps(carrying: Sequence[Array]) -> int:
    """Return for how many steps growth can be fitted: until fewer than 1 % of the units carry the perturbation.

    Args:
        carrying: For each network, the share of units that carry it, (steps + 1,).
    """
    mean = np.mean(carrying, axis=0)
    below = np.append(np.flatnonzero(mean < CARRIED), len(mean) - 1)
    return max(int(below[0]), LEAST_STEPS)


def further_perturbations(informative: int, steps: int) -> int:
    """Return how many more perturbations to follow, where fewer than half of ``steps`` are informative; else 0."""
    return 0 if 2 * informative > steps else (REPEATS * steps) // informative


def reduce(
    runs: Sequence[NetworkRun],
    layer: Layer,
    T: int,
    *,
    spread: bool,
    outlasted: Callable[[float, float], bool] = lambda chi, longest: False,
    notes: Sequence[str] = (),
    tied: bool = True,
) -> Numbers:
    """Return the numbers of all networks together, with standard errors over them where there are two or more.

    χ and the retention are geometric means over networks, the other numbers arithmetic ones.

    Args:
        runs: One or more networks.
        layer: The layer.
        T: Steps at which the retention is stated.
        spread: Whether units keep with time constants of their own, so that χ is not measured.
        outlasted: Whether they do so, from the late growth and the longest time constant.
        notes: Notes that come first.
        tied: Whether the networks keep their weights; only then a note says where they are chaotic.

    Raises:
        ArgumentError: The retention is beyond 1e300.
    """
    steps = len(runs[0].log_square) - 1
    informative = informative_steps([run.carrying for run in runs])
    informative = min([informative, *(len(course) - 1 for run in runs for course in run.repeated)])
    rates = [_rate(run, informative) for run in runs]
    log_left = [_log_left(run.log_square, T, rate) for run, rate in zip(runs, rates, strict=True)]
    table: dict[str, list[float]] = {
        "second_moment": [run.second_moment for run in runs],
        "cell_second_moment": [run.memory for run in runs if run.memory is not None],
        "chi": rates,
        "chi_over_T": [logarithm / T for logarithm in log_left],
        "retention": log_left,
        "unit_time_constants.min": [float(np.min(run.time_constants)) for run in runs],
        "unit_time_constants.median": [float(np.median(run.time_constants)) for run in runs],
        "unit_time_constants.max": [float(np.max(run.time_constants)) for run in runs],
        "jacobian.mean_squared_singular_value": [run.squared_singular_values[0] for run in runs],
        "jacobian.variance": [second - first**2 for first, second in (run.squared_singular_values for run in runs)],
    }
    found = {
        name: (_geometric if name in ("chi", "chi_over_T", "retention") else _arithmetic)(x)
        for name, x in table.items()
        if x
    }
    number = {name: mean for name, (mean, _) in found.items()}
    error = {name: scatter if len(runs) > 1 else None for name, (_, scatter) in found.items()}
    chi, chi_error = number["chi"], error["chi"]
    spread = spread or (tied and outlasted(chi, number["unit_time_constants.max"]))
    scale, error["time_scale"] = _decay_time(chi, chi_error)
    scale_over_T, error["time_scale_over_T"] = _decay_time(number["chi_over_T"], error["chi_over_T"])
    if spread:
        del error["chi"], error["time_scale"]
    certain = max(_CERTAIN * (chi_error or 0.0) / chi, 1.0 / informative) if chi > 0.0 else math.inf
    return Numbers(
        second_moment=number["second_moment"],
        cell_second_moment=number.get("cell_second_moment"),
        chi=None if spread else chi,
        time_scale=None if spread else scale,
        chi_over_T=number["chi_over_T"],
        time_scale_over_T=scale_over_T,
        retention=number["retention"],
        unit_time_constants=TimeConstants(
            **{n: number[f"unit_time_constants.{n}"] for n in TimeConstants.model_fields}
        ),
        jacobian=Jacobian(**{n: number[f"jacobian.{n}"] for n in Jacobian.model_fields}),
        standard_error=FrozenMapping(error) if len(runs) > 1 else None,
        notes=(
            *notes,
            *result_notes(
                layer,
                T=T,
                steps=steps,
                informative=informative,
                settled=2 * sum(run.settled for run in runs) > len(runs),  # one by itself may fail by chance
                chaotic=tied and chi > 0.0 and math.log(chi) > certain,
                spread=spread,
                carried=float(np.mean([run.carrying[-1] * len(run.time_constants) for run in runs])),
            ),
        ),
    )


def _decay_time(growth: float, error: float | None) -> tuple[float | None, float | None]:
    """Steps in which a growth per step below 1 shrinks a square by e, with its standard error."""
    if growth >= 1.0:
        return None, None
    if growth == 0.0:
        return 0.0, error
    steps = 1.0 / -math.log(growth)
    return steps, None if error is None else error * steps * steps / growth


def _rate(run: NetworkRun, steps: int) -> float:
    """ln χ of one network: the growth of the mean of |δ|² over its perturbations."""
    courses = np.array([course[: steps + 1] for course in (run.log_square, *run.repeated)])
    highest = np.max(courses, axis=0)
    if np.isneginf(highest[-1]):
        return -math.inf
    return growth_rate(highest + np.log(np.sum(np.exp(courses - highest), axis=0)))


def _log_left(log_square: Array, T: int, rate: float) -> float:
    """ln |δ_T|²/|δ_0|², continued at the late rate past what was recorded."""
    recorded = min(T, len(log_square) - 1)
    beyond = T - recorded
    return float(log_square[recorded] - log_square[0]) + (beyond * rate if beyond else 0.0)


def _arithmetic(x: Sequence[float]) -> tuple[float, float]:
    """The mean, and its standard error (0 for one number)."""
    error = np.std(x, ddof=1) / math.sqrt(len(x)) if len(x) > 1 else 0.0
    return float(np.mean(x)), float(error)


def _geometric(logarithms: Sequence[float]) -> tuple[float, float]:
    """The exponential of the mean logarithm, and its standard error; 0 where one is −∞."""
    if np.isneginf(logarithms).any():
        return 0.0, 0.0
    mean, error = _arithmetic(logarithms)
    if mean > _LARGEST_LOG:
        raise ArgumentError(
            "retention", found=f"a growth by e^{mean:.0f}", allowed="at most 1e300", hint="use fewer steps T"
        )
    return math.exp(mean), math.exp(mean) * error
