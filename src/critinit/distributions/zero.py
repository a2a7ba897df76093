"""Kernels that are 0."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import Field

from critinit.distributions import goodness
from critinit.distributions._base import Kernel, KernelFamily
from critinit.distributions.drawing import Drawing
from critinit.distributions.goodness import Observed, Outcome

__all__ = ["ZeroKernel"]

A = TypeVar("A")


class ZeroKernel(Kernel):
    """A matrix of zeros, of any shape."""

    distribution: Literal["zero"] = "zero"
    variance: Annotated[float, Field(ge=0, le=0, description="Always 0.")] = 0.0
    family = KernelFamily.DIAGONAL

    def draw(self, drawing: Drawing[A]) -> A:
        """Return zeros."""
        return drawing.zeros()

    def check(self, observed: Observed) -> tuple[Outcome, ...]:
        """Test that all entries are 0."""
        return (goodness.all_zero(observed),)

    def describe(self) -> str:
        """Return the name."""
        return "zero"
