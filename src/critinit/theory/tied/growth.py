"""From the course of a perturbation, as logarithms of its squared length, to χ and the retention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from critinit.cells import Cell
from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.spec import Jacobian, Layer, Numbers, TimeConstants
from critinit.theory.tied.inputs import longest_time

__all__ = [
    "LEAST_STEPS",
    "Sample",
    "Settling",
    "combine",
    "first_burn_in",
    "follow_steps",
    "late_growth",
    "participation",
    "reach",
    "windows",
]

LEAST_STEPS = 10
"""Fewer steps than these say nothing of the late growth."""
_STEPS = (300, 2000)
_BURN_IN = (100, 1000)
_LONGEST_BURN_IN = 3000

_Z = 2.0
"""Standard errors that count as certain."""
_DRIFT = 0.01
_PARTS = 4
_CARRIED = 0.01
_AGAIN = 2
_NOTHING = 1e-100
"""A second moment that is zero but for underflow."""


def follow_steps(T: int) -> int:
    """How long a perturbation is followed unless it is said: T, between 300 and 2000 steps."""
    return min(max(T, _STEPS[0]), _STEPS[1])


def first_burn_in(cell: Cell, layer: Layer) -> int:
    """Steps before the first look whether the state is stationary: three longest time constants, in [100, 1000]."""
    return int(min(max(_BURN_IN[0], 3.0 * longest_time(cell, layer.gates)), _BURN_IN[1]))


def late_growth(log_square: Array) -> float:
    """Growth per step of ``log_square`` (steps + 1,): the slope of the line through its second half.

    −∞ once the perturbation is exactly zero.  Validity: the growth has become exponential by half time; where
    a band of modes meets at the edge it approaches it as 1/(2t) per step.
    """
    late = log_square[len(log_square) // 2 :]
    if not np.all(np.isfinite(late)):
        return -math.inf
    t = np.arange(len(late)) - 0.5 * (len(late) - 1)
    return float(t @ late / (t @ t))


def reach(samples: Sequence[Sample]) -> int:
    """How many steps tell of the growth: while at least 1 % of the units carry the perturbation.

    Later, what is left sits on a few units that chance or their biases made slow; its mean square is then that of
    rare histories, which neither a network nor a population samples.  At least ``LEAST_STEPS``.
    """
    carried = np.mean([s.participation for s in samples], axis=0)
    few = np.flatnonzero(carried < _CARRIED)
    told = max(int(few[0]) if len(few) else len(carried) - 1, LEAST_STEPS)
    return min([told, *(len(window) - 1 for s in samples for window in s.windows)])


def windows(told: int, steps: int) -> int:
    """How many further perturbations to follow for ``told`` steps each, where that is far fewer than ``steps``."""
    return _AGAIN * steps // told if told <= steps // 2 else 0


def participation(squares: Array) -> float:
    """(Σ δ²)²/(N Σ δ⁴): the share of N units that carry a perturbation of squares δ²; 1 where there is none left."""
    top = float(squares.max())
    if top == 0.0:
        return 1.0
    x = squares / top
    return float(x.sum() ** 2 / (x.size * np.sum(x * x)))


def log_retention(log_square: Array, steps: int, growth: float) -> float:
    """ln E|δ_T|²/E|δ_0|² at T = ``steps``; past the end of ``log_square`` the late growth continues it."""
    last = len(log_square) - 1
    if steps <= last:
        return float(log_square[steps] - log_square[0])
    return float(log_square[last] - log_square[0] + (steps - last) * growth)


class Settling:
    """Says when a state counts as stationary: its mean second moments over steps n/4 … n/2 and n/2 … n agree.

    That is, to 1 % or to twice their own noise, which four parts of the later ones tell.

    ``first``: steps before the first look, doubled at each further one until the ``steps`` to come bound them;
    ``exact``: run ``first`` steps and look no further.
    """

    def __init__(self, first: int, steps: int, *, exact: bool = False) -> None:
        self.first = self._look = first
        self.longest = first if exact else max(first, _LONGEST_BURN_IN, 4 * steps)
        self.settled, self._exact = exact, exact
        self._moments: list[float] = []

    def __len__(self) -> int:
        return len(self._moments)

    def goes_on(self, second_moment: float) -> bool:
        """Whether a further step is needed after one with this second moment."""
        self._moments.append(second_moment)
        n = len(self._moments)
        if n < self._look:
            return True
        if self._exact:
            return False
        late = np.array(self._moments[n // 2 :])
        drift = abs(float(np.mean(self._moments[n // 4 : n // 2]) - late.mean()))
        parts = np.array([part.mean() for part in np.array_split(late, _PARTS)])
        noise = math.sqrt(3.0 * parts.var(ddof=1) / _PARTS)  # of the late mean, and of the early half as long
        self.settled = bool(drift <= max(_DRIFT * late.mean(), 2.0 * noise, _NOTHING))
        self._look = min(2 * n, self.longest)
        return not self.settled and n < self.longest


@dataclass(frozen=True)
class Sample:
    """What one network, or one batch of particles, says.

    ``time_constants``: 1/(1 − E keep) of every unit; ``log_square``: ln E|δ_t|² from t = 0 on; ``participation``: the
    share of units that carry it; ``windows``: the same as ``log_square`` of further, shorter perturbations; ``jacobian_square``,
    ``jacobian_second``: first and second moment of the squared singular values; ``settled``: the state was stationary.
    """

    second_moment: float
    memory: float | None
    time_constants: Array
    log_square: Array
    participation: Array
    jacobian_square: float
    jacobian_second: float
    settled: bool = True
    windows: tuple[Array, ...] = ()

    def log_chi(self, steps: int) -> float:
        """ln χ: the late growth of the mean over all perturbations within so many steps."""
        courses = np.stack([course[: steps + 1] for course in (self.log_square, *self.windows)])
        return late_growth(np.logaddexp.reduce(courses, axis=0))


def _mean_error(values: Sequence[float] | Array) -> tuple[float, float | None]:
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return float(x.mean()), None
    return float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x)))


def _exp(values: Sequence[float]) -> tuple[float, float | None]:
    """Geometric mean with its standard error; 0 where a perturbation died exactly."""
    if not np.all(np.isfinite(values)):
        return 0.0, 0.0 if len(values) > 1 else None
    mean, error = _mean_error(values)
    if mean > 690.0:
        raise ArgumentError(
            f"retention: found a growth by e^{mean:.0f}; allowed: at most 1e300, reached with fewer steps T"
        )
    centre = math.exp(mean)
    return centre, None if error is None else centre * error


def combine(samples: Sequence[Sample], T: int, *, notes: Sequence[str] = (), tied: bool = True) -> Numbers:
    """The numbers of all samples together, with standard errors over them where there are at least two.

    χ and the retention are geometric means, the others arithmetic.  Notes say where the state is chaotic, and
    where the retention at T was continued from fewer steps.
    """
    said = list(notes)
    errors: dict[str, float | None] = {}

    def put(name: str, result: tuple[float, float | None]) -> float:
        number, errors[name] = result
        return number

    second = put("second_moment", _mean_error([s.second_moment for s in samples]))
    memory = None
    if all(s.memory is not None for s in samples):
        memory = put("cell_second_moment", _mean_error([s.memory for s in samples if s.memory is not None]))
    told = reach(samples)
    growths = [s.log_chi(told) for s in samples]
    chi = put("chi", _exp(growths))
    time_scale = -1.0 / math.log(chi) if 0.0 < chi < 1.0 else (0.0 if chi == 0.0 else None)
    chi_error = errors["chi"]
    errors["time_scale"] = None if not time_scale or chi_error is None else time_scale**2 * chi_error / chi
    retention = put("retention", _exp([log_retention(s.log_square, T, g) for s, g in zip(samples, growths, strict=True)]))
    quantiles = np.array([[s.time_constants.min(), np.median(s.time_constants), s.time_constants.max()] for s in samples])
    times = [
        put(f"unit_time_constants.{n}", _mean_error(quantiles[:, i])) for i, n in enumerate(("min", "median", "max"))
    ]
    m1 = put("jacobian.mean_squared_singular_value", _mean_error([s.jacobian_square for s in samples]))
    spread = put("jacobian.variance", _mean_error([s.jacobian_second - s.jacobian_square**2 for s in samples]))
    if not all(s.settled for s in samples):
        said.append("second_moment: the state was still drifting when the perturbation began")
    steps = len(samples[0].log_square) - 1
    if told < steps:
        said.append(f"chi: growth until step {told}, from where fewer than 1 % of the units carry the perturbation")
    if steps < T:
        said.append(f"retention: followed for {steps} steps, continued to T = {T} at the late growth")
    if tied and chi > 0.0 and math.log(chi) > max(_Z * (chi_error or 0.0) / chi, 1.0 / told):
        said.append("chaotic: at the network's own steady state perturbations grow (chi > 1)")
    return Numbers(
        second_moment=second,
        cell_second_moment=memory,
        chi=chi,
        time_scale=time_scale,
        retention=retention,
        unit_time_constants=TimeConstants(min=times[0], median=times[1], max=times[2]),
        jacobian=Jacobian(mean_squared_singular_value=m1, variance=spread),
        standard_error=errors if len(samples) > 1 else None,
        notes=tuple(said),
    )
