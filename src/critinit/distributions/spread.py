"""Biases that give every unit its own time constant τ, through b = ln(τ−1), that is σ(b) = 1 − 1/τ.

    log_uniform_time   ln τ uniform        density in b ∝ σ(b)
    uniform_time       τ uniform           density in b ∝ eᵇ             (chrono, arXiv:1804.11188)
    uniform_gate       1/τ uniform         density in b ∝ σ(b)(1−σ(b))   (arXiv:1910.09890)

each between ``min_time`` and ``max_time`` steps.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from critinit.distributions import goodness
from critinit.distributions._base import Array, Bias
from critinit.distributions.goodness import Observed, Outcome
from critinit.distributions.numbers import LONGEST_TIME, Finite, NonNegative, Time, rounded
from critinit.errors import ArgumentError
from critinit.roots import crossing

__all__ = ["LogUniformTimeBias", "SpreadBias", "UniformGateBias", "UniformTimeBias"]

_MOMENT_TOLERANCE = 1e-6
"""How far a stated moment may be from the computed one, relative to 1 or to itself."""
_ROUNDING = 1e-11
"""How far beyond its range a mean may be, relative to 1 or to itself: stated moments have 12 digits."""
_NO_MEAN = 1e-12
"""A smaller mean is 0 but for rounding, as a symmetric spread's is."""
_MOMENT_NODES = 200
"""Nodes for the moments: exact to double precision for times up to 10¹⁵."""


class SpreadBias(Bias):
    """b = ln(τ−1), with the time constants τ of the units spread between ``min_time`` and ``max_time``.

    Samples are stratified: one quantile from each of H equal strata, in random order over units, so that every
    network, also a narrow one, holds the whole range of time constants.  ``mean`` and ``variance`` follow from the two
    times; they may be left out on input and are held to 1e-6 where they are given.
    """

    min_time: Time = Field(description="Shortest time constant, in steps; more than 1.")
    max_time: Time = Field(description="Longest time constant, in steps; at least min_time.")
    mean: Finite | None = Field(default=None, validate_default=True, description="Mean of the bias over units.")
    variance: NonNegative | None = Field(
        default=None, validate_default=True, description="Variance of the bias over units."
    )
    derived: ClassVar[tuple[str, ...]] = ("mean", "variance")

    @abstractmethod
    def time(self, q: Array) -> Array:
        """Return the time constant at quantile q of the units, in steps."""

    @abstractmethod
    def share(self, time: Array) -> Array:
        """Return the share of units with a shorter time constant, the inverse of ``time``."""

    @staticmethod
    @abstractmethod
    def density(b: Array) -> Array:
        """Return the density of the bias at ``b`` (ascending), up to a factor."""

    @field_validator("max_time")
    @classmethod
    def _is_longest(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("min_time", 0.0):
            raise PydanticCustomError("time_range", "at least min_time ({least})", {"least": info.data["min_time"]})
        return value

    @field_validator("mean", "variance")
    @classmethod
    def _moments_follow(cls, value: float | None, info: ValidationInfo) -> float | None:
        if not {"min_time", "max_time"} <= info.data.keys():  # one of them is refused already
            return value
        moments = _moments(cls, info.data["min_time"], info.data["max_time"])
        wanted = rounded(moments[info.field_name == "variance"])
        if value is not None and abs(value - wanted) > _MOMENT_TOLERANCE * max(1.0, abs(wanted)):
            message = "what follows from min_time and max_time: {wanted}; or leave mean and variance out"
            raise PydanticCustomError("moment", message, {"wanted": f"{wanted:.8g}"})
        return wanted if value is None else value

    @property
    def ends(self) -> tuple[float, float]:
        """The bias of the quickest and of the slowest unit."""
        return math.log(self.min_time - 1.0), math.log(self.max_time - 1.0)

    @property
    def extremes(self) -> tuple[float, float]:
        """The ends."""
        return self.ends

    def draw(self, rng: np.random.Generator, units: int) -> Array:
        """Draw one bias a unit, one from each stratum."""
        return self.quantile((rng.permutation(units) + rng.random(units)) / units)

    def check(self, observed: Observed) -> tuple[Outcome, ...]:
        """Test range (exactly) and shape."""
        b, (low, high) = observed.values, self.ends
        slack = observed.rounding + 4.0 * observed.roundoff * max(abs(low), abs(high))
        inside = goodness.exact("range", low - slack <= b.min() and b.max() <= high + slack)
        if self.min_time == self.max_time:
            return (inside,)
        return inside, Outcome("shape", goodness.kolmogorov_smirnov(self.share_below(b)))

    def quantile(self, q: Array) -> Array:
        """Return the bias at quantile q."""
        return np.asarray(np.log(np.clip(self.time(np.asarray(q)), self.min_time, self.max_time) - 1.0))

    def share_below(self, b: Array) -> Array:
        """Return the share of units with a smaller bias than ``b``, the inverse of ``quantile``; the times differ."""
        return np.asarray(np.clip(self.share(1.0 + np.exp(np.clip(b, *self.ends))), 0.0, 1.0))

    def classes(self, nodes: int) -> tuple[Array, Array]:
        """Return Gauss–Legendre nodes in b and their weights, the density in them.

        The densities are analytic in b with poles no nearer than iπ, so averages over units converge geometrically
        (64 nodes: better than 1e-10 for times between 1.001 and 10⁶).
        """
        return _rule(type(self), self.min_time, self.max_time, nodes)

    def with_mean(self, mean: float) -> Self:
        """Return the spread from the same ``min_time`` on with another mean, by its ``max_time``.

        Raises:
            ArgumentError: No ``max_time`` gives that mean.
        """
        low, high = self.ends[0], math.log(LONGEST_TIME - 1.0)

        def excess(end: float) -> float:
            return _moments(type(self), self.min_time, max(1.0 + math.exp(end), self.min_time))[0] - mean

        slack = _ROUNDING * max(1.0, abs(mean))
        if excess(low) > slack or excess(high) < -slack:
            least, most = excess(low) + mean, excess(high) + mean
            allowed = f"{least:.6g} to {most:.6g} for {self.distribution} from min_time {self.min_time:.6g}"
            raise ArgumentError("mean", found=f"{mean:.6g}", allowed=allowed)
        if excess(low) >= 0.0 or excess(high) <= 0.0:
            end = low if excess(low) >= 0.0 else high
        else:
            end = crossing(excess, low, high, 1e-14)
        longest = max(min(1.0 + math.exp(end), LONGEST_TIME), self.min_time)
        return self.model_copy(update={"max_time": longest, "mean": mean})

    def describe(self) -> str:
        """Return the name and the two times."""
        return f"{self.distribution}, {self.min_time:.4g} to {self.max_time:.4g} steps"


class LogUniformTimeBias(SpreadBias):
    """ln τ uniform: as many units between 1 and 10 steps as between 10 and 100."""

    distribution: Literal["log_uniform_time"] = "log_uniform_time"

    def time(self, q: Array) -> Array:
        """Return the time constant at quantile q."""
        return self.min_time * (self.max_time / self.min_time) ** q

    def share(self, time: Array) -> Array:
        """Return the share of units with a shorter one."""
        return np.asarray(np.log(time / self.min_time) / math.log(self.max_time / self.min_time))

    @staticmethod
    def density(b: Array) -> Array:
        """Return σ(b)."""
        return _logistic(b)


class UniformTimeBias(SpreadBias):
    """τ uniform: chrono initialization (arXiv:1804.11188)."""

    distribution: Literal["uniform_time"] = "uniform_time"

    def time(self, q: Array) -> Array:
        """Return the time constant at quantile q."""
        return self.min_time + (self.max_time - self.min_time) * q

    def share(self, time: Array) -> Array:
        """Return the share of units with a shorter one."""
        return (time - self.min_time) / (self.max_time - self.min_time)

    @staticmethod
    def density(b: Array) -> Array:
        """Return eᵇ, scaled to 1 at the largest."""
        return np.exp(b - b[..., -1:])


class UniformGateBias(SpreadBias):
    """1/τ uniform, so that the gate σ(b) is (arXiv:1910.09890)."""

    distribution: Literal["uniform_gate"] = "uniform_gate"

    def time(self, q: Array) -> Array:
        """Return the time constant at quantile q."""
        return 1.0 / (1.0 / self.min_time + (1.0 / self.max_time - 1.0 / self.min_time) * q)

    def share(self, time: Array) -> Array:
        """Return the share of units with a shorter one."""
        return (1.0 / time - 1.0 / self.min_time) / (1.0 / self.max_time - 1.0 / self.min_time)

    @staticmethod
    def density(b: Array) -> Array:
        """Return σ(b)(1 − σ(b))."""
        return _logistic(b) * _logistic(-b)


def _logistic(b: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * b))


@lru_cache(maxsize=8)
def _legendre(nodes: int) -> tuple[Array, Array]:
    x, w = np.polynomial.legendre.leggauss(nodes)
    return x, w


def _rule(kind: Any, min_time: float, max_time: float, nodes: int) -> tuple[Array, Array]:
    low, high = math.log(min_time - 1.0), math.log(max_time - 1.0)
    x, w = _legendre(nodes)
    b = low + (high - low) * 0.5 * (x + 1.0)
    w = w * kind.density(b)
    return b, w / w.sum()


@lru_cache(maxsize=256)
def _moments(kind: Any, min_time: float, max_time: float) -> tuple[float, float]:
    """Mean and variance of b over units."""
    b, w = _rule(kind, min_time, max_time, _MOMENT_NODES)
    mean = float(w @ b)
    mean = mean if abs(mean) > _NO_MEAN else 0.0
    return mean, float(w @ (b - mean) ** 2)
