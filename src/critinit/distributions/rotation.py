"""Kernels that rotate pairs of units, each by an angle of its own."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from critinit.distributions import goodness
from critinit.distributions._base import Kernel, KernelFamily
from critinit.distributions.drawing import Drawing
from critinit.distributions.goodness import Observed, Outcome
from critinit.distributions.numbers import NonNegative

__all__ = ["RotationKernel", "Spectrum"]

Array = NDArray[np.float64]
A = TypeVar("A")


def _has_power(spectrum: tuple[float, ...]) -> tuple[float, ...]:
    if not any(spectrum):
        raise PydanticCustomError("spectrum", "powers of which one is above 0", {})
    return spectrum


Spectrum = Annotated[
    tuple[NonNegative, ...], Field(min_length=2, max_length=1024, strict=False), AfterValidator(_has_power)
]
"""Powers in so many equal bins of the frequencies from 0 to π radians a step, in any unit."""


class RotationKernel(Kernel):
    """A gain times rotations in the planes of units (0, 1), (2, 3), …; nothing is left to chance.

    The angles are at quantiles p = (j + ½)/planes of a wrapped Cauchy distribution of concentration a,

        θ_j = 2 arctan((1 − a)/(1 + a)·tan(πp/2)),        0 < θ_j < π,

    whose density over ±θ, proportional to 1/(1 − 2a cos θ + a²), is the power spectrum of a signal with correlation a
    from step to step.  Concentration 0 spreads them evenly.  With a ``spectrum``, powers in equal bins of [0, π], the
    angles are at the same quantiles of the density that it is.  An odd unit at the end is multiplied by the gain.

    The eigenvectors are the planes of units, so a step of an optimizer that treats all entries alike, such as Adam,
    adds up over time in the plane's own four entries alone; elsewhere it couples planes that turn at different speeds.

    Validity: the untied theory, which draws weights anew, takes it as an orthogonal kernel of the same gain.  The tied
    theory follows pairs of units.
    """

    distribution: Literal["rotation"] = "rotation"
    variance: NonNegative = Field(description="The gain squared.")
    concentration: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = Field(
        default=0.0, description="a: 0 spreads the angles evenly over half a turn; near 1 most are near 0."
    )
    spectrum: Spectrum | None = Field(
        default=None, description="Density of the angles in equal bins from 0 to π, instead of a concentration."
    )
    optional: ClassVar[tuple[str, ...]] = (*Kernel.optional, "spectrum")
    family = KernelFamily.HAAR
    is_square = True
    pairs_units: ClassVar[bool] = True

    @model_validator(mode="after")
    def _one_density(self) -> Self:
        if self.spectrum is not None and self.concentration:
            raise PydanticCustomError("spectrum", "0 beside a spectrum", {"field": "concentration"})
        return self

    def angles(self, planes: int) -> Array:
        """Return the angle of each plane, in radians, ascending."""
        return _angles(self.concentration, self.spectrum, planes)

    def turned(self, x: Any) -> Any:
        """Return W x for x with the units along its last axis, an array of NumPy."""
        units = x.shape[-1]
        turn = _turn(self.gain, self.concentration, self.spectrum, units // 2)
        paired = np.ascontiguousarray(x[..., : units // 2 * 2], dtype=float).view(complex)  # a pair is a number
        turned = (turn * paired).view(float)
        return turned if units % 2 == 0 else np.concatenate([turned, self.gain * x[..., -1:]], axis=-1)

    def draw(self, drawing: Drawing[A]) -> A:
        """Return the matrix."""
        return drawing.numpy(lambda rng: self.turned(np.eye(drawing.columns)).T)

    def check(self, observed: Observed) -> tuple[Outcome, ...]:
        """Compare every entry with its number."""
        x = observed.values
        expected = self.turned(np.eye(len(x))).T
        slack = observed.rounding + 4.0 * observed.roundoff * self.gain
        return (goodness.exact("rotation", np.abs(x - expected).max() <= slack),)

    def describe(self) -> str:
        """Return the name, the gain and the concentration, or that there is a spectrum."""
        angles = f"concentration {self.concentration:.4g}" if self.spectrum is None else "angles by a spectrum"
        return f"rotation, gain {self.gain:.4g}, {angles}"


def _angles(concentration: float, spectrum: tuple[float, ...] | None, planes: int) -> Array:
    p = (np.arange(planes) + 0.5) / planes
    if spectrum is not None:
        below = np.concatenate([[0.0], np.cumsum(spectrum) / math.fsum(spectrum)])
        return np.asarray(np.interp(p, below, np.linspace(0.0, math.pi, len(below))))
    ratio = (1.0 - concentration) / (1.0 + concentration)
    return np.asarray(2.0 * np.arctan(ratio * np.tan(0.5 * math.pi * p)))


@lru_cache(maxsize=8)
def _turn(gain: float, concentration: float, spectrum: tuple[float, ...] | None, planes: int) -> Any:
    """gain·e^(iθ), kept, as a population turns by it at every step."""
    theta = _angles(concentration, spectrum, planes)
    return gain * np.cos(theta) + 1j * (gain * np.sin(theta))
