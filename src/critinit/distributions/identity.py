"""Kernels that are a multiple of the identity."""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np
from pydantic import Field

from critinit.distributions import goodness
from critinit.distributions._base import Kernel, KernelFamily
from critinit.distributions.drawing import Drawing
from critinit.distributions.goodness import Observed, Outcome
from critinit.distributions.numbers import NonNegative

__all__ = ["IdentityKernel"]

A = TypeVar("A")


class IdentityKernel(Kernel):
    """A gain times the identity."""

    distribution: Literal["identity"] = "identity"
    variance: NonNegative = Field(description="The gain squared.")
    family = KernelFamily.DIAGONAL
    is_square = True

    def draw(self, drawing: Drawing[A]) -> A:
        """Return the scaled identity."""
        return drawing.identity(self.gain)

    def check(self, observed: Observed) -> tuple[Outcome, ...]:
        """Compare with the scaled identity, to rounding."""
        apart = np.abs(observed.values - self.gain * np.eye(*observed.values.shape)).max()
        return (goodness.exact("identity", apart <= 4.0 * observed.roundoff * self.gain),)

    def entry_mean(self, columns: int) -> float:
        """Return the mean entry: the diagonal's sum over the number of entries."""
        return self.gain / columns

    def describe(self) -> str:
        """Return the name and the gain."""
        return f"identity, gain {self.gain:.4g}"
