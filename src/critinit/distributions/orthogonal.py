"""Orthogonal kernels."""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import Field

from critinit.distributions import goodness
from critinit.distributions._base import Kernel, KernelFamily
from critinit.distributions.drawing import Drawing
from critinit.distributions.goodness import Observed, Outcome
from critinit.distributions.numbers import NonNegative

__all__ = ["OrthogonalKernel"]

A = TypeVar("A")


class OrthogonalKernel(Kernel):
    """A gain times a Haar-distributed orthogonal matrix; as a projection, its first rows."""

    distribution: Literal["orthogonal"] = "orthogonal"
    variance: NonNegative = Field(description="The gain squared.")
    family = KernelFamily.HAAR
    is_square = True

    def draw(self, drawing: Drawing[A]) -> A:
        """Return rows of a Haar matrix."""
        return drawing.orthogonal(self.gain)

    def check(self, observed: Observed) -> tuple[Outcome, ...]:
        """Test W Wᵀ = gain²·I (exactly), the mean, the largest entry, and the trace of a square matrix."""
        if self.is_zero:
            return (goodness.all_zero(observed),)
        w = observed.values / self.gain
        found = goodness.haar_rows(w, observed.roundoff)
        return (*found, Outcome("trace", goodness.haar_trace(w))) if w.shape[0] == w.shape[1] else found

    def describe(self) -> str:
        """Return the name and the gain."""
        return f"orthogonal, gain {self.gain:.4g}"
