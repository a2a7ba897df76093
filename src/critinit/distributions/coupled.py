"""A bias that follows another gate's, unit by unit."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NoReturn

import numpy as np
from pydantic import Field

from critinit.distributions._base import Array, Bias
from critinit.distributions.goodness import Observed, Outcome
from critinit.distributions.numbers import Finite, Integer, NonNegative
from critinit.errors import ArgumentError

__all__ = ["CoupledBias"]


class CoupledBias(Bias):
    """Unit by unit the bias of gate ``to`` times ``sign``, as chrono's input gate follows the forget gate.

    The gates of a layer know which bias that is (``Gates.followed``); what is drawn and tested is that one.  ``mean``
    and ``variance`` follow from it; a spec fills them in.
    """

    distribution: Literal["coupled"] = "coupled"
    to: str = Field(description="The gate whose bias this one follows; not itself a coupled one.")
    sign: Annotated[Literal[-1, 1], Integer]
    mean: Finite | None = Field(default=None, description="Mean over units: sign times the other gate's.")
    variance: NonNegative | None = Field(default=None, description="Variance over units: the other gate's.")
    derived: ClassVar[tuple[str, ...]] = ("mean", "variance")

    def draw(self, rng: np.random.Generator, units: int) -> Array:
        """Raise ``ArgumentError``: the bias that it follows is drawn."""
        self._refuse()

    def check(self, observed: Observed) -> tuple[Outcome, ...]:
        """Raise ``ArgumentError``: the two gates' biases are compared."""
        self._refuse()

    def quantile(self, q: Array) -> Array:
        """Raise ``ArgumentError``: the bias that it follows has quantiles."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        hint = f"it is the bias of {self.to} times {self.sign}; ask that one"
        raise ArgumentError("bias", found=self.describe(), hint=hint)

    def describe(self) -> str:
        """Return the gate that it follows, with the sign."""
        return f"{'−' if self.sign < 0 else ''}{self.to}, unit by unit"
