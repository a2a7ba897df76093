"""Kernels of normal entries without tails, as most frameworks' ``variance_scaling`` and ``lecun_normal`` draw them."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import Field

from critinit.distributions import goodness
from critinit.distributions._base import Array, EntryKernel
from critinit.distributions.drawing import Drawing
from critinit.distributions.goodness import Observed, Outcome
from critinit.distributions.numbers import NonNegative

__all__ = ["TruncatedNormalKernel"]

A = TypeVar("A")


class TruncatedNormalKernel(EntryKernel):
    """A matrix of independent normal entries, those beyond ``cut`` standard deviations drawn again.

    ``variance`` is that of the entries as they are, after the cut, as everywhere in a spec; the normal distribution
    that is cut is wider: for a cut at c its variance is larger by 1/(1 − 2cφ(c)/(2Φ(c) − 1)), which is 1/.7737 at 2.
    Both samplers draw it with NumPy.
    """

    distribution: Literal["truncated_normal"] = "truncated_normal"
    variance: NonNegative = Field(description="Var(entry)·fan-in, after the cut.")
    cut: Annotated[float, Field(ge=0.1, le=10, allow_inf_nan=False)] = Field(
        default=2.0, description="Where the tails end, in deviations of the normal distribution before the cut."
    )
    optional: ClassVar[tuple[str, ...]] = ("cut", *EntryKernel.optional)

    @property
    def shrinkage(self) -> float:
        """The standard deviation of a standard normal number after the cut."""
        density = math.exp(-0.5 * self.cut**2) / math.sqrt(2.0 * math.pi)
        inside = math.erf(self.cut / math.sqrt(2.0))
        return math.sqrt(1.0 - 2.0 * self.cut * density / inside)

    def draw(self, drawing: Drawing[A]) -> A:
        """Return the entries, by the inverse of their distribution function."""
        rows, columns = drawing.rows, drawing.columns

        def sample(rng: np.random.Generator) -> Array:
            from scipy.special import ndtr, ndtri

            low, high = float(ndtr(-self.cut)), float(ndtr(self.cut))
            x = ndtri(low + (high - low) * rng.random((rows, columns)))
            return np.asarray(np.clip(x, -self.cut, self.cut) * (self.deviation(rows, columns) / self.shrinkage))

        return drawing.numpy(sample)

    def check(self, observed: Observed) -> tuple[Outcome, ...]:
        """Test range (exactly), mean, variance and shape of the entries."""
        if self.is_zero:
            return (goodness.all_zero(observed),)
        unit = observed.values.ravel() * (self.shrinkage / self.deviation(*observed.values.shape))
        return goodness.truncated_standard_normal(unit, self.cut, observed.roundoff)

    def describe(self) -> str:
        """Return the name, the variance and the cut."""
        return f"{super().describe()}, cut at {self.cut:.4g} deviations"
