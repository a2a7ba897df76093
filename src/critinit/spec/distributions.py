"""How the entries of kernels and biases are distributed: the leaves of an InitSpec.

A kernel's ``variance`` is Var(entry)·fan_in (σ² of recurrent, ν² of input kernels); for an orthogonal or
identity kernel √variance is its gain.  A bias states its resulting ``mean`` and ``variance`` over units
whatever its distribution, so a reader never has to integrate.

The spread distributions give every unit its own time constant τ through b = ln(τ−1), that is σ(b) = 1 − 1/τ:

    log_uniform_time   ln τ uniform        density in b ∝ σ(b)
    uniform_time       τ uniform           density in b ∝ eᵇ             (chrono, arXiv:1804.11188)
    uniform_gate       1/τ uniform         density in b ∝ σ(b)(1−σ(b))   (arXiv:1910.09890)

each between ``min_time`` and ``max_time``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Tag, model_validator
from pydantic import Discriminator as _Discriminator
from pydantic_core import PydanticCustomError

__all__ = [
    "Bias",
    "ConstantBias",
    "CoupledBias",
    "Kernel",
    "NormalBias",
    "SpreadBias",
    "StrictModel",
    "bias_of_quantile",
    "bias_quadrature",
    "quantile_of_bias",
    "spread_moments",
]

MAX_NUMBER = 1e100
"""Numbers above this are refused: their squares would overflow in the theory."""


def _without_sign_of_zero(value: float) -> float:
    """0.0 for -0.0: the two are equal, so they have the same bytes."""
    return value + 0.0


Finite = Annotated[
    float, Field(allow_inf_nan=False, ge=-MAX_NUMBER, le=MAX_NUMBER), AfterValidator(_without_sign_of_zero)
]
NonNegative = Annotated[float, Field(allow_inf_nan=False, ge=0, le=MAX_NUMBER), AfterValidator(_without_sign_of_zero)]
Time = Annotated[float, Field(allow_inf_nan=False, gt=1, le=1e15)]

_MOMENT_TOLERANCE = 1e-6
_MOMENT_DIGITS = 12
"""Computed moments are rounded to these digits, so that the same spec has the same bytes on every machine."""


def _a_number(value: Any) -> Any:
    """Literal compares with ==, so True and 1.0 would pass for 1."""
    if type(value) is not int:
        raise PydanticCustomError("int_type", "an integer", {})
    return value


Integer = BeforeValidator(_a_number)


class StrictModel(BaseModel):
    """Immutable; refuses unknown keys, wrong types, NaN and infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Kernel(StrictModel):
    """A weight matrix: its distribution and Var(entry)·fan_in."""

    distribution: Literal["normal", "uniform", "orthogonal", "identity", "zero"]
    variance: NonNegative = Field(
        description="Var(entry)·fan_in; the square of the gain of an orthogonal or identity kernel."
    )

    @model_validator(mode="after")
    def _zero_is_zero(self) -> Self:
        if self.distribution == "zero" and self.variance != 0:
            raise PydanticCustomError("zero_kernel", "a zero kernel has variance 0", {"field": "variance"})
        return self


class ConstantBias(StrictModel):
    """The same bias in every unit."""

    distribution: Literal["constant"]
    mean: Finite
    variance: Annotated[float, Field(ge=0, le=0, description="Always 0.")] = 0.0


class NormalBias(StrictModel):
    """Independent normal biases."""

    distribution: Literal["normal"]
    mean: Finite
    variance: NonNegative


class SpreadBias(StrictModel):
    """b = ln(τ−1) with the time constants τ of the units spread between ``min_time`` and ``max_time``.

    ``mean`` and ``variance`` follow from the two times; they may be left out on input and are checked to 1e-6
    where they are given.
    """

    distribution: Literal["log_uniform_time", "uniform_time", "uniform_gate"]
    min_time: Time = Field(description="Shortest time constant, in steps; more than 1.")
    max_time: Time = Field(description="Longest time constant, in steps; at least min_time.")
    mean: Finite | None = Field(default=None, description="Mean of the bias over units.")
    variance: NonNegative | None = Field(default=None, description="Variance of the bias over units.")

    @model_validator(mode="after")
    def _moments_follow(self) -> Self:
        if self.max_time < self.min_time:
            raise PydanticCustomError(
                "time_range",
                "max_time is at least min_time ({least})",
                {"field": "max_time", "least": self.min_time},
            )
        mean, variance = spread_moments(self.distribution, self.min_time, self.max_time)
        _fill(self, mean, variance, "the moments of this distribution between its times")
        return self

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and variance of the bias."""
        return _moments(self)


class CoupledBias(StrictModel):
    """Unit by unit the bias of gate ``to`` times ``sign``."""

    distribution: Literal["coupled"]
    to: str = Field(description="The gate whose bias this one follows; not itself a coupled one.")
    sign: Annotated[Literal[-1, 1], Integer]
    mean: Finite | None = Field(default=None, description="Mean over units: sign times the other gate's.")
    variance: NonNegative | None = Field(default=None, description="Variance over units: the other gate's.")

    def resolve(self, other: Bias) -> None:
        """Fill in, or check, the moments that follow from the other gate's bias (called by the spec)."""
        mean, variance = _moments(other)
        _fill(self, self.sign * mean, variance, f"the moments of {self.to} times sign")


def _spread_or_named(value: Any) -> str:
    kind = value.get("distribution") if isinstance(value, dict) else getattr(value, "distribution", None)
    return "spread" if isinstance(kind, str) and kind in SPREAD_DENSITY else str(kind)


Bias = ConstantBias | NormalBias | SpreadBias | CoupledBias
AnyBias = Annotated[
    Annotated[ConstantBias, Tag("constant")]
    | Annotated[NormalBias, Tag("normal")]
    | Annotated[SpreadBias, Tag("spread")]
    | Annotated[CoupledBias, Tag("coupled")],
    _Discriminator(_spread_or_named),
]

BIAS_DISTRIBUTIONS = ("constant", "normal", "log_uniform_time", "uniform_time", "uniform_gate", "coupled")


def _moments(bias: Bias) -> tuple[float, float]:
    assert bias.mean is not None  # both are filled by validation
    assert bias.variance is not None
    return bias.mean, bias.variance


def _fill(bias: SpreadBias | CoupledBias, mean: float, variance: float, what: str) -> None:
    for field, wanted in (("mean", mean), ("variance", variance)):
        given = getattr(bias, field)
        if given is None:
            object.__setattr__(bias, field, float(f"{wanted:.{_MOMENT_DIGITS}g}") + 0.0)
        elif abs(given - wanted) > _MOMENT_TOLERANCE * max(1.0, abs(wanted)):
            raise PydanticCustomError(
                "moment", "{what}: {wanted}", {"field": field, "what": what, "wanted": f"{wanted:.8g}"}
            )


def _logistic(b: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1.0 + np.tanh(0.5 * b))


# density of b, up to its norm
SPREAD_DENSITY: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "log_uniform_time": _logistic,
    "uniform_time": lambda b: np.exp(b - b[..., -1:]),
    "uniform_gate": lambda b: _logistic(b) * _logistic(-b),
}


@lru_cache(maxsize=8)
def _legendre(nodes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, w = np.polynomial.legendre.leggauss(nodes)
    return x, w


def bias_quadrature(
    distribution: str, min_time: float, max_time: float, nodes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes b (ascending) and weights (sum 1) of a spread: Gauss–Legendre in b times the density.

    The densities are analytic in b with poles no nearer than iπ, so the rule converges geometrically
    (64 nodes: better than 1e-10 for times between 1.001 and 10⁶).  Both arrays have shape (nodes,).
    """
    low, high = math.log(min_time - 1.0), math.log(max_time - 1.0)
    x, w = _legendre(nodes)
    b = low + (high - low) * 0.5 * (x + 1.0)
    w = w * SPREAD_DENSITY[distribution](b)
    return b, w / w.sum()


def bias_of_quantile(
    distribution: str, min_time: float, max_time: float, q: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The bias at quantile q ∈ [0, 1] of a spread distribution: its inverse distribution function."""
    if distribution == "log_uniform_time":
        time = min_time * (max_time / min_time) ** q
    elif distribution == "uniform_time":
        time = min_time + (max_time - min_time) * q
    else:
        time = 1.0 / (1.0 / min_time + (1.0 / max_time - 1.0 / min_time) * q)
    return np.asarray(np.log(np.clip(time, min_time, max_time) - 1.0))


def quantile_of_bias(
    distribution: str, min_time: float, max_time: float, b: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The distribution function of a spread at b, between 0 and 1: the inverse of ``bias_of_quantile``.

    Needs ``min_time`` < ``max_time``.
    """
    low, high = math.log(min_time - 1.0), math.log(max_time - 1.0)
    time = 1.0 + np.exp(np.clip(b, low, high))
    if distribution == "log_uniform_time":
        q = np.log(time / min_time) / math.log(max_time / min_time)
    elif distribution == "uniform_time":
        q = (time - min_time) / (max_time - min_time)
    else:
        q = (1.0 / time - 1.0 / min_time) / (1.0 / max_time - 1.0 / min_time)
    return np.asarray(np.clip(q, 0.0, 1.0))


@lru_cache(maxsize=256)
def spread_moments(distribution: str, min_time: float, max_time: float) -> tuple[float, float]:
    """Mean and variance of b = ln(τ−1) over units."""
    b, w = bias_quadrature(distribution, min_time, max_time, 200)
    mean = float(w @ b)
    return mean, float(w @ (b - mean) ** 2)
