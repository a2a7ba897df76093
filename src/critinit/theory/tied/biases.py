"""One bias per unit and gate, for the tied theory, where biases stay with their unit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from critinit.distributions import Bias, CoupledBias
from critinit.dual import Array
from critinit.spec import Gates

__all__ = ["draw_biases"]


def draw_biases(gates: Gates, count: int, uniform: Callable[[Bias], Array]) -> dict[str, Array]:
    """Return one bias per unit and gate, by gate, (count,) each; coupled ones follow theirs.

    Args:
        gates: The gates of a layer.
        count: Number of units.
        uniform: Gives numbers of U(0, 1), (count,), for a bias; it is asked in the gates' order, where units differ.
    """

    def drawn(bias: Bias) -> Array:
        return bias.quantile(uniform(bias) if bias.is_random else np.zeros(count))

    biases = {name: gate.bias for name, gate in gates.items()}
    own = {name: drawn(bias) for name, bias in biases.items() if not isinstance(bias, CoupledBias)}
    return {n: b.sign * own[b.to] if isinstance(b, CoupledBias) else own[n] for n, b in biases.items()}
