"""From the course of a perturbation, as logarithms of its squared length, to χ and the retention."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from critinit.distributions.numbers import LARGEST
from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.frozen import FrozenMapping
from critinit.spec import Jacobian, Layer, Numbers, TimeConstants
from critinit.theory.protocol import CARRIED, DRIFT, DRIFT_NOISES, LEAST_STEPS, REPEATS, result_notes

__all__ = [
    "Continued",
    "Run",
    "combine",
    "holders",
    "informative_steps",
    "late_growth",
    "moment_error",
    "participation",
    "repeats",
    "scatter_of_neighbours",
    "settle",
]

N = TypeVar("N", float, float | None)

_CERTAIN = 2.0
"""Standard errors beyond which a difference counts as certain."""
_PARTS = 4
"""Parts of the late half of a burn-in, whose scatter gives its noise."""
_UNDERFLOW = 1e-100
"""A second moment below this is zero but for underflow."""
_LARGEST_LOG = math.log(LARGEST)
"""ln of the largest retention, and of the largest error of one, that can be stated."""


def late_growth(log_square: Array) -> float:
    """Return the growth per step of a perturbation: the slope of the line through the second half of ``log_square``.

    Args:
        log_square: ln of its squared length, (steps + 1,).

    Returns:
        The slope; −∞ once the perturbation is exactly zero.  Validity: the growth has become exponential by half time;
        where a band of modes meets at the edge it approaches it as 1/(2t) per step.
    """
    late = log_square[len(log_square) // 2 :]
    if not np.all(np.isfinite(late)):
        return -math.inf
    t = np.arange(len(late)) - 0.5 * (len(late) - 1)
    return float(t @ late / (t @ t))


def participation(squares: Array) -> float:
    """Return (Σ δ²)²/(N Σ δ⁴), the share of N units that carry a perturbation of squares δ²; 1 where none is left."""
    top = float(squares.max())
    if top == 0.0:
        return 1.0
    x = squares / top
    return float(x.sum() ** 2 / (x.size * np.sum(x * x)))


def holders(squares: Array) -> float:
    """Return the smallest share of the units that has half of all squares; 1 where all are 0.

    Example:
        >>> holders(np.array([1.0, 1.0, 8.0, 0.0]))
        0.25
    """
    from_largest = np.cumsum(np.sort(squares)[::-1])
    if not from_largest[-1]:
        return 1.0
    return float(1 + np.searchsorted(from_largest, 0.5 * from_largest[-1])) / squares.size


def log_retention(log_square: Array, T: int, growth: float) -> float:
    """Return ln E|δ_T|²/E|δ_0|²; past the end of ``log_square`` the late ``growth`` continues it."""
    last = len(log_square) - 1
    if last >= T:
        return float(log_square[T] - log_square[0])
    return float(log_square[last] - log_square[0] + (T - last) * growth)


def settle(step: Callable[[], float], first: int, longest: int, least: float = 0.0) -> bool:
    """Run until the state is stationary, and return whether it became so.

    It is stationary where its mean second moments over steps n/4 … n/2 and n/2 … n agree to 1 %, or to twice
    their own noise, which the scatter of four parts of the later ones shows.

    Args:
        step: Does one step and returns the second moment of the state.
        first: Steps before the first look; twice as many before each further one.
        longest: Steps after which it ends in any case.
        least: Steps before which no state is stationary.
    """
    moments: list[float] = []
    look = first
    while True:
        while len(moments) < max(look, 1):
            moments.append(step())
        if len(moments) >= least and _is_stationary(moments):
            return True
        if len(moments) >= longest:
            return False
        look = min(2 * len(moments), longest)


def _is_stationary(moments: Sequence[float]) -> bool:
    n = len(moments)
    late = np.array(moments[n // 2 :])
    drift = abs(float(np.mean(moments[n // 4 : n // 2]) - late.mean()))
    parts = np.array([part.mean() for part in np.array_split(late, _PARTS)])
    noise = math.sqrt(3.0 * parts.var(ddof=1) / _PARTS)  # of the late mean, and of the early half as long
    return bool(drift <= max(DRIFT * late.mean(), DRIFT_NOISES * noise, _UNDERFLOW))


@dataclass(frozen=True)
class Run:
    """What one population of particles gives.

    Attributes:
        second_moment: E h².
        memory: E c², of a cell with a read-out.
        moment_errors: The standard errors of the two that the scatter of the units alone makes.
        time_constants: 1/(1 − E keep) of every unit, in steps.
        log_square: ln E|δ_t|² from t = 0 on, (steps + 1,).
        participation: The share of units that carry the perturbation, (steps + 1,); 1 where it was not asked for, but
            at the last step.
        jacobian_square: First moment of the squared singular values of the one-step Jacobian.
        jacobian_second: Their second moment.
        settled: Whether the state was stationary.
        holders: The share of the units that hold half of the mean square of the memory.
        repeated: ``log_square`` of further, shorter perturbations.
    """

    second_moment: float
    memory: float | None
    moment_errors: tuple[float, float]
    time_constants: Array
    log_square: Array
    participation: Array
    jacobian_square: float
    jacobian_second: float
    settled: bool
    holders: float = 1.0
    repeated: tuple[Array, ...] = ()

    def log_chi(self, steps: int) -> float:
        """Return ln χ: the late growth of the mean over all perturbations within so many steps."""
        courses = np.stack([course[: steps + 1] for course in (self.log_square, *self.repeated)])
        return late_growth(np.logaddexp.reduce(courses, axis=0))


class Continued(NamedTuple):
    """What T steps leave where no more than some of them are sampled.

    Attributes:
        logs: ln of the retention over T steps, one number for each population.
        sampled: Steps that were sampled.
        off: How much what continues it differs from the sample over these steps, beyond chance, as a share of ln.
        error: What ln of the retention may be off by for that.
    """

    logs: Array
    sampled: int
    off: float
    error: float

    @property
    def scatter(self) -> float:
        """Standard deviation of ln of the retention over populations, relative to it where it is beyond 1."""
        return float(np.std(self.logs, ddof=1) / max(1.0, abs(self.logs.mean())))

    def note(self, T: int) -> str:
        """Return in words where the numbers come from."""
        more = f"; it is {100.0 * self.off:.2g} % off in the logarithm until then" if self.off else ""
        until = f"sampled for {self.sampled} steps, continued to T = {T}"
        return f"retention, chi_over_T: {until} by the fast estimate{more}"


def informative_steps(runs: Sequence[Run]) -> int:
    """Return how many steps show the growth: while at least 1 % of the units carry the perturbation, at least 10.

    Later, what is left sits on a few units that chance or their biases made slow.  Its mean square is then that of rare
    histories, which neither a network nor a population samples.
    """
    carried = np.mean([run.participation for run in runs], axis=0)
    few = np.flatnonzero(carried < CARRIED)
    steps = max(int(few[0]) if len(few) else len(carried) - 1, LEAST_STEPS)
    return min([steps, *(len(course) - 1 for run in runs for course in run.repeated)])


def repeats(informative: int, steps: int) -> int:
    """Return how many further perturbations to follow for ``informative`` steps each: 0 unless these are far fewer."""
    return REPEATS * steps // informative if informative <= steps // 2 else 0


def _mean_error(values: Sequence[float] | Array) -> tuple[float, float]:
    x = np.asarray(values, dtype=float)
    return float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x)))


def scatter_of_neighbours(values: Array, order: NDArray[np.int64]) -> float:
    """Return the standard error of the mean over units, from the differences of units next to each other in an order.

    Biases are drawn one from each stratum, so what units differ by because their biases do is no chance.  Next to each
    other by their biases they differ by chance alone.

    Args:
        values: One number a unit, (units,).
        order: Units by their biases, (units,).
    """
    return float(np.sqrt(np.mean(np.diff(values[order]) ** 2) / (2.0 * len(values))))


def moment_error(runs: Sequence[Run], *, memory: bool = False) -> float:
    """Return the standard error of the mean second moment of several populations.

    It is that of the scatter between populations, but no less than their units' own scatter makes: four populations
    can be alike by chance, and no more are run where they are.

    Args:
        runs: Two or more independent populations.
        memory: Whether that of the memory is meant.
    """
    moments = [(run.memory or 0.0) if memory else run.second_moment for run in runs]
    own = [run.moment_errors[int(memory)] for run in runs]
    return max(_mean_error(moments)[1], float(np.linalg.norm(own)) / len(runs))


def _exp(values: Sequence[float] | Array, more: float = 0.0) -> tuple[float, float]:
    """Geometric mean with its standard error, ``more`` of it in the logarithm; 0 where a perturbation died exactly."""
    if not np.all(np.isfinite(values)):
        return 0.0, 0.0
    mean, error = _mean_error(values)
    error = math.hypot(error, more)
    if mean + math.log(max(error, 1.0)) > _LARGEST_LOG:
        raise ArgumentError(
            "retention", found=f"a growth by e^{mean:.0f}", allowed=f"at most {LARGEST:g}", hint="use fewer steps T"
        )
    centre = math.exp(mean)
    return centre, centre * error


def _time_scale(chi: float, error: float) -> tuple[float | None, float | None]:
    """−1/ln χ and its standard error; None where χ is 1 or more."""
    if chi >= 1.0:
        return None, None
    scale = -1.0 / math.log(chi) if chi > 0.0 else 0.0
    return scale, scale**2 * error / chi if chi > 0.0 else 0.0


def combine(
    runs: Sequence[Run],
    layer: Layer,
    T: int,
    *,
    spread: bool,
    outlasted: Callable[[float, float], bool] = lambda chi, longest: False,
    notes: Sequence[str] = (),
    continued: Continued | None = None,
) -> Numbers:
    """Return the numbers of all populations together, with standard errors over them.

    χ and the retention are geometric means, the others arithmetic.

    Args:
        runs: Two or more independent populations.
        layer: The layer.
        T: Steps at which the retention is stated.
        spread: Whether units keep with time constants of their own, so that χ is not sampled.
        outlasted: Whether they do so, from the late growth and the longest time constant.
        notes: Notes that come first.
        continued: What T steps leave, where that is not sampled alone.

    Raises:
        ArgumentError: The retention is beyond 1e100.
    """
    errors: dict[str, float | None] = {}

    def put(name: str, result: tuple[N, float | None]) -> N:
        number, errors[name] = result
        return number

    second = put("second_moment", (float(np.mean([run.second_moment for run in runs])), moment_error(runs)))
    memories = [run.memory for run in runs if run.memory is not None]
    memory = (
        put("cell_second_moment", (float(np.mean(memories)), moment_error(runs, memory=True))) if memories else None
    )
    informative = informative_steps(runs)
    growths = [run.log_chi(informative) for run in runs]
    late, late_error = _exp(growths)
    times = np.array(
        [[run.time_constants.min(), np.median(run.time_constants), run.time_constants.max()] for run in runs]
    )
    spread = spread or outlasted(late, float(times[:, 2].mean()))
    chi = None if spread else put("chi", (late, late_error))
    time_scale = None if spread else put("time_scale", _time_scale(late, late_error))
    left = np.array([log_retention(run.log_square, T, growth) for run, growth in zip(runs, growths, strict=True)])
    off = 0.0
    if continued is not None:
        left, off, notes = continued.logs, continued.error, (*notes, continued.note(T))
    retention = put("retention", _exp(left, off))
    chi_over_T = put("chi_over_T", _exp(left / T, off / T))
    time_scale_over_T = put("time_scale_over_T", _time_scale(chi_over_T, errors["chi_over_T"] or 0.0))
    shortest, median, longest = (
        put(f"unit_time_constants.{name}", _mean_error(times[:, i])) for i, name in enumerate(("min", "median", "max"))
    )
    m1 = put("jacobian.mean_squared_singular_value", _mean_error([run.jacobian_square for run in runs]))
    variance = put("jacobian.variance", _mean_error([run.jacobian_second - run.jacobian_square**2 for run in runs]))
    return Numbers(
        second_moment=second,
        cell_second_moment=memory,
        chi=chi,
        time_scale=time_scale,
        chi_over_T=chi_over_T,
        time_scale_over_T=time_scale_over_T,
        retention=retention,
        unit_time_constants=TimeConstants(min=shortest, median=median, max=longest),
        jacobian=Jacobian(mean_squared_singular_value=m1, variance=variance),
        standard_error=FrozenMapping(errors),
        notes=(
            *notes,
            *result_notes(
                layer,
                T=T,
                steps=len(runs[0].log_square) - 1 if continued is None else T,
                informative=informative,
                settled=2 * sum(run.settled for run in runs) > len(runs),  # one by itself may fail by chance
                chaotic=late > 0.0 and math.log(late) > max(_CERTAIN * late_error / late, 1.0 / informative),
                spread=spread,
                carried=math.inf if continued else float(np.mean([_carriers(run) for run in runs])),
            ),
        ),
    )


def _carriers(run: Run) -> float:
    """How many particles carried the perturbation at the last step."""
    return float(run.participation[-1] * len(run.time_constants))
