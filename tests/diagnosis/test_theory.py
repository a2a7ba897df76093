"""Untrained networks from ``critical`` do what the theory says, within the standard errors of ten networks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from critinit import generate
from critinit.diagnosis.numbers import LayerNumbers, layer_numbers
from critinit.spec import InitSpec, Numbers
from critinit.tensors.recurrence import LayerWeights
from critinit.tensors.sampling import draw

UNITS, INPUTS, STEPS, NETWORKS = 200, 800, 400, 10
"""800 inputs: with few, units differ by the length of their kernels' rows, which the theory leaves out."""
_ERRORS = 4.0
"""Standard errors of a mean over ten networks: nine degrees of freedom, and six numbers."""


def measured(spec: InitSpec) -> list[LayerNumbers]:
    found = []
    for seed in range(NETWORKS):
        gates = draw(spec, seed=seed, input_size=INPUTS, hidden_size=UNITS).layers[0][0].gates
        recurrent, kernels, biases = (
            {gate: getattr(one, part).astype("f") for gate, one in gates.items()}
            for part in ("recurrent", "input", "bias")
        )
        weights = LayerWeights(spec.find_cell(), recurrent, kernels, biases)
        x = np.random.default_rng(100 + seed).standard_normal((2, STEPS, INPUTS)).astype("f")
        found.append(layer_numbers(weights, list(x), T=spec.T, exponents=4, seed=seed))
    return found


def row(numbers: LayerNumbers | Numbers) -> tuple[float, ...]:
    jacobian = numbers.jacobian
    return (
        numbers.second_moment,
        math.log(numbers.retention),
        numbers.chi_over_T,
        numbers.unit_time_constants.median,
        jacobian.mean_squared_singular_value,
        jacobian.variance,
    )


@pytest.mark.slow
def test_an_untrained_gru_from_critical_does_what_the_theory_says() -> None:
    found = np.array([row(numbers) for numbers in measured(generate("gru", T=100))])
    mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / math.sqrt(NETWORKS)

    def apart(T: int) -> np.ndarray:
        predicted = generate("gru", T=T).layers[0].predicted.tied
        assert isinstance(predicted, Numbers)
        return np.abs(mean - row(predicted)) / error

    assert np.all(apart(100) < _ERRORS), apart(100)
    assert np.max(apart(80)) > 2.0 * _ERRORS  # the theory of another spec is far off
