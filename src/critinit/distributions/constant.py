"""One bias for all units."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from critinit.distributions import goodness
from critinit.distributions._base import Array, Bias
from critinit.distributions.goodness import Observed, Outcome
from critinit.distributions.numbers import Finite

__all__ = ["ConstantBias"]


class ConstantBias(Bias):
    """The same bias in every unit."""

    distribution: Literal["constant"] = "constant"
    mean: Finite = Field(description="The bias.")
    variance: Annotated[float, Field(ge=0, le=0, description="Always 0.")] = 0.0

    def draw(self, rng: np.random.Generator, units: int) -> Array:
        """Return the bias for every unit; nothing is drawn."""
        return np.full(units, self.mean)

    def check(self, observed: Observed) -> tuple[Outcome, ...]:
        """Compare with the bias, to rounding."""
        return (goodness.constant(observed, self.mean),)

    def quantile(self, q: Array) -> Array:
        """Return the bias at every quantile."""
        return np.full(np.shape(q), self.mean)

    def describe(self) -> str:
        """Return the bias."""
        return f"{self.mean:.6g}"

    @property
    def is_random(self) -> bool:
        """No: all units are alike."""
        return False
