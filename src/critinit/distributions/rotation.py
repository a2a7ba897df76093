"""Orthogonal kernels whose eigenvalues gather around 1, as the power of smooth signals gathers around frequency 0."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from critinit.distributions import goodness
from critinit.distributions._base import Kernel, KernelFamily
from critinit.distributions.drawing import Drawing, haar
from critinit.distributions.goodness import Observed, Outcome
from critinit.distributions.numbers import NonNegative

__all__ = ["RotationKernel"]

Array = NDArray[np.float64]
A = TypeVar("A")

_MOST = 0.999
"""At more nearly all phases are 0, and the inverse of I + aQ loses digits."""


class RotationKernel(Kernel):
    """A gain times an orthogonal matrix whose eigenvalues e^(iθ) have phases from a wrapped Cauchy distribution.

    With Q a Haar-distributed orthogonal matrix and a the concentration it is gain·(Q + a I)(I + a Q)⁻¹.  This Möbius
    map keeps the unit circle and takes uniform phases to a density proportional to 1/(1 − 2a cos θ + a²), the power
    spectrum of a signal whose correlation from step to step is a; so E cos kθ = a^k, and tr Wᵏ = n·aᵏ at gain 1.
    Concentration 0 is a Haar matrix, and 1 would be the identity.  Both samplers draw it with NumPy.

    Validity: the theories take it as a Haar matrix.  That is right for χ, for singular values and, where inputs at
    different steps are independent, for second moments.  Where inputs have the correlation a themselves, the second
    moment of a linear loop is larger by (1 + a²)/(1 − a²).
    """

    distribution: Literal["rotation"] = "rotation"
    variance: NonNegative = Field(description="The gain squared.")
    concentration: Annotated[float, Field(ge=0, le=_MOST, allow_inf_nan=False)] = Field(
        description="a = E cos θ of the eigenvalues' phases: 0 where they are uniform, near 1 where they are near 0."
    )
    family = KernelFamily.HAAR
    is_square = True

    def draw(self, drawing: Drawing[A]) -> A:
        """Return the matrix, or its first rows."""
        rows, columns = drawing.rows, drawing.columns

        def sample(rng: np.random.Generator) -> Array:
            q, identity = haar(rng, columns, columns), np.eye(columns)
            w = np.linalg.solve(identity + self.concentration * q, q + self.concentration * identity)
            return np.asarray(self.gain * w[:rows])

        return drawing.numpy(sample)

    def check(self, observed: Observed) -> tuple[Outcome, ...]:
        """Test W Wᵀ = gain²·I (exactly), and the Haar matrix that W comes from."""
        if self.is_zero:
            return (goodness.all_zero(observed),)
        w = observed.values / self.gain
        gram, *_ = goodness.haar_rows(w, observed.roundoff)
        if w.shape[0] != w.shape[1] or not gram.p:
            return (gram,)
        identity = np.eye(len(w))
        q = np.asarray(
            np.linalg.solve(identity - self.concentration * w, w - self.concentration * identity), np.float64
        )
        roundoff = observed.roundoff / (1.0 - self.concentration) ** 2
        _, *rest = goodness.haar_rows(q, roundoff)
        return gram, *rest, Outcome("phases", goodness.haar_trace(q))

    def describe(self) -> str:
        """Return the name, the gain and the concentration."""
        return f"rotation, gain {self.gain:.4g}, concentration {self.concentration:.4g}"
