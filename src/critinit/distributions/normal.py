"""Normal distributions: kernels of independent N(0, σ²/width) entries, and independent normal biases."""

from __future__ import annotations

import math
from typing import Literal, TypeVar

import numpy as np
from pydantic import Field

from critinit.distributions import goodness
from critinit.distributions._base import Array, Bias, EntryKernel
from critinit.distributions.drawing import Drawing
from critinit.distributions.goodness import Observed, Outcome
from critinit.distributions.numbers import Finite, NonNegative

__all__ = ["NormalBias", "NormalKernel"]

A = TypeVar("A")


class NormalKernel(EntryKernel):
    """A matrix of independent normal entries of mean 0."""

    distribution: Literal["normal"] = "normal"
    variance: NonNegative = Field(description="Var(entry)·fan-in.")

    def draw(self, drawing: Drawing[A]) -> A:
        """Return independent normal entries."""
        return drawing.normal(self.deviation(drawing.rows, drawing.columns))

    def check(self, observed: Observed) -> tuple[Outcome, ...]:
        """Test mean, variance and shape of the entries and, where there are several rows, the rows' lengths."""
        if self.is_zero:
            return (goodness.all_zero(observed),)
        unit = observed.values / self.deviation(*observed.values.shape)
        rows = [goodness.rows(unit)] if min(unit.shape) > 1 else []
        return (*goodness.standard_normal(unit.ravel()), *rows)


class NormalBias(Bias):
    """Independent normal biases; the untied theory draws them anew at every step, as the literature does."""

    distribution: Literal["normal"] = "normal"
    mean: Finite = Field(description="Mean over units.")
    variance: NonNegative = Field(description="Variance over units.")

    def draw(self, rng: np.random.Generator, units: int) -> Array:
        """Draw one bias a unit."""
        return self.mean + math.sqrt(self.variance) * rng.standard_normal(units)

    def check(self, observed: Observed) -> tuple[Outcome, ...]:
        """Test mean, variance and shape."""
        if self.variance == 0:
            return (goodness.constant(observed, self.mean),)
        return goodness.standard_normal((observed.values - self.mean) / math.sqrt(self.variance))

    def quantile(self, q: Array) -> Array:
        """Return the inverse of the distribution function; infinite at 0 and 1."""
        from scipy.special import ndtri

        return np.asarray(self.mean + math.sqrt(self.variance) * ndtri(q))

    def describe(self) -> str:
        """Return the moments."""
        return f"normal, mean {self.mean:.4g}, variance {self.variance:.4g}"
