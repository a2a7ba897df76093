"""Recurrent kernels with an exact spectral radius and a density, as reservoirs (echo state networks) use them."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from critinit.distributions import goodness
from critinit.distributions._base import Array, Kernel, KernelFamily
from critinit.distributions.drawing import Drawing
from critinit.distributions.goodness import Observed, Outcome
from critinit.distributions.numbers import LARGEST, NonNegative, rounded
from critinit.errors import ArgumentError

__all__ = ["SpectralRadiusKernel"]

A = TypeVar("A")

_TOLERANCE = 1e-6
"""How far a stated variance may be from the square of the radius, relative to 1 or to itself."""
_EXCESS = (1.28, 3.6)
"""By how much the squared radius of a finite matrix exceeds that of the circular law, in 1/√H and −1/H (measured)."""
_LARGEST = math.sqrt(LARGEST)
"""The largest spectral radius, whose square is the largest number in a spec."""
_NILPOTENT = 1e-6
"""A drawn matrix whose spectral radius is a smaller part of what its entries suggest has no cycle: it is nilpotent."""


class SpectralRadiusKernel(Kernel):
    """A sparse matrix whose largest eigenvalue has exactly the absolute value ``spectral_radius``.

    Each entry is there with probability ``density``, and normal; the whole matrix is then scaled so that its spectral
    radius is the one asked for.  At large width a matrix of independent entries has spectral radius √variance (the
    circular law), so ``variance`` is the square of the radius, and the theory treats the kernel as a Gaussian one.
    That holds where each unit reads many others, density·H of 10 or more, and it is approached slowly: the eigenvalues
    of a finite matrix reach beyond the circle, so Var(entry)·H of a drawn one is less than the squared radius: .89 of
    it at H = 64, .93 at 256 and .95 at 512 (measured, ±.005).  Both samplers draw it with NumPy, and computing the
    eigenvalues costs O(H³).
    """

    distribution: Literal["spectral_radius"] = "spectral_radius"
    spectral_radius: Annotated[NonNegative, Field(le=_LARGEST)] = Field(
        description="Largest absolute value of the eigenvalues."
    )
    density: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        default=1.0, description="Share of the entries that are not 0."
    )
    variance: NonNegative | None = Field(  # type: ignore[assignment]  # filled in by validation
        default=None, validate_default=True, description="The square of the spectral radius."
    )
    family = KernelFamily.INDEPENDENT
    is_square = True
    derived: ClassVar[tuple[str, ...]] = ("variance",)

    @field_validator("variance")
    @classmethod
    def _follows(cls, value: float | None, info: ValidationInfo) -> float | None:
        if "spectral_radius" not in info.data:  # it is refused already
            return value
        wanted = rounded(info.data["spectral_radius"] ** 2)
        if value is not None and abs(value - wanted) > _TOLERANCE * max(1.0, abs(wanted)):
            raise PydanticCustomError("moment", "the square of spectral_radius, {wanted}", {"wanted": f"{wanted:.8g}"})
        return wanted if value is None else value

    def variance_at(self, rows: int, columns: int) -> float:
        """Return Var(entry)·H of a matrix of H units, in the mean over drawn ones.

        It is (1 − 1.28/√H + 3.6/H) of the squared radius: .909, .894, .893, .908, .929 and .949 of it were measured at
        H = 16, 32, 64, 128, 256 and 512 (±.005, density 1), and the fit is within .01 of all.

        Example:
            >>> round(SpectralRadiusKernel(spectral_radius=1.0).variance_at(256, 256), 3)
            0.934
        """
        return self.spectral_radius**2 * min(1.0, 1.0 - _EXCESS[0] / math.sqrt(columns) + _EXCESS[1] / columns)

    def draw(self, drawing: Drawing[A]) -> A:
        """Return the sparse matrix, scaled to its radius."""
        if self.is_zero:
            return drawing.zeros()
        rows, columns = drawing.rows, drawing.columns

        def sample(rng: np.random.Generator) -> Array:
            w = rng.standard_normal((rows, columns)) * (rng.random((rows, columns)) < self.density)
            radius = _radius(w)
            if radius <= _NILPOTENT * np.sqrt(self.density * columns):
                raise ArgumentError(
                    "density",
                    found=f"{self.density:g} for {columns} units",
                    hint="the matrix drawn has no cycle, so its spectral radius is 0; take a higher density or width",
                )
            return np.asarray(w * (self.spectral_radius / radius))

        return drawing.numpy(sample)

    def check(self, observed: Observed) -> tuple[Outcome, ...]:
        """Test the radius (exactly), the number of entries, and that their signs are fair.

        The scale is fixed by the radius, so the size of the entries leaves nothing to test by chance.
        """
        w = observed.values
        if self.is_zero:
            return (goodness.all_zero(observed),)
        there = int(np.count_nonzero(w))
        radius, slack = goodness.spectral_radius(w, observed.roundoff)
        return (
            goodness.exact("spectral radius", abs(radius - self.spectral_radius) <= slack),
            Outcome("density", goodness.binomial(there, w.size, self.density)),
            Outcome("signs", goodness.binomial(int(np.sum(w > 0)), there, 0.5)),
        )

    def describe(self) -> str:
        """Return the radius and the density."""
        sparse = f", density {self.density:.4g}" if self.density < 1.0 else ""
        return f"spectral radius {self.spectral_radius:.4g}{sparse}"


def _radius(w: Array) -> float:
    return float(np.abs(np.linalg.eigvals(w)).max())
