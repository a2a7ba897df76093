"""Kernels of independent uniform entries."""

from __future__ import annotations

import math
from typing import Literal, TypeVar

from pydantic import Field

from critinit.distributions import goodness
from critinit.distributions._base import EntryKernel
from critinit.distributions.drawing import Drawing, fan
from critinit.distributions.goodness import Observed, Outcome
from critinit.distributions.numbers import NonNegative

__all__ = ["UniformKernel"]

A = TypeVar("A")


class UniformKernel(EntryKernel):
    """A matrix of independent entries, uniform between ±√(3·variance/width)."""

    distribution: Literal["uniform"] = "uniform"
    variance: NonNegative = Field(description="Var(entry)·fan-in.")

    def bound(self, rows: int, columns: int) -> float:
        """Return the largest entry of a (rows, columns) matrix."""
        return math.sqrt(3.0 / fan(self.fan, rows, columns)) * self.gain

    def draw(self, drawing: Drawing[A]) -> A:
        """Return independent uniform entries."""
        return drawing.uniform(self.bound(drawing.rows, drawing.columns))

    def check(self, observed: Observed) -> tuple[Outcome, ...]:
        """Test range, mean, variance and shape of the entries."""
        if self.is_zero:
            return (goodness.all_zero(observed),)
        unit = observed.values / self.bound(*observed.values.shape)
        return goodness.unit_uniform(unit.ravel(), observed.roundoff)
