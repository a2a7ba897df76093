"""The untied growth where time constants are spread over the units: held to populations of units written by hand.

A network of infinite width whose weights are drawn anew at every step is a population of units: each has its own biases
and, at every step, pre-activations of its own, normal with the variance that the population's messages give.  A small
difference of two copies reaches a pre-activation as one more normal number of variance σ²·D, D the mean square of the
difference of the messages, independent of all else, so its square is followed in the mean:

    |δc'|² = f²|δc|² + ((f'c)² + (i'g)² + (i g')²) σ²D,      |δh'|² = (o tanh'(c'))²|δc'|² + (o' tanh c')² σ²D.

Nothing is shared with the package.  δc² and c stay together unit by unit here.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import critinit
from critinit.spec import InitSpec
from critinit.theory.analysis import untied_numbers
from critinit.theory.parameters import layer_parameters
from critinit.theory.untied.memory import DistanceOperator
from critinit.theory.untied.powers import log_power_mean
from critinit.theory.untied.solution import solve

SEEDS = 5


def sigmoid(x):
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def keep_biases(spec: InitSpec, quantiles):
    """Of the forget gate: σ(b) uniform, or 1/(1 − σ(b)) uniform."""
    bias = spec.layers[0].gates["forget"].bias
    low, high = bias.min_time, bias.max_time
    if bias.distribution == "uniform_gate":
        kept = (1 - 1 / low) + (1 / low - 1 / high) * quantiles
        return np.log(kept / (1 - kept))
    assert bias.distribution == "uniform_time"
    return np.log(low + (high - low) * quantiles - 1)


def population(spec: InitSpec, units: int, seed: int, burn_in: int) -> tuple[float, float]:
    """ln E|δc_T|²/E|δc_0|² of units from rest, and E h²."""
    layer, rng = spec.layers[0], np.random.default_rng(seed)
    cell, power = spec.cell, layer.input.variance
    normalizes = cell.startswith("layernorm")
    b = keep_biases(spec, (rng.permutation(units) + rng.random(units)) / units)
    biases = {"forget": b, "input": -b, "cell": 0.0, "output": 0.0}
    assert all(layer.gates[name].bias.mean == 0.0 for name in ("cell", "output") if name in layer.gates)
    recurrent = {n: 1.0 if normalizes else g.recurrent.variance for n, g in layer.gates.items()}
    fed = {n: 1.0 if normalizes else g.input.variance * power for n, g in layer.gates.items()}

    def drawn(name, read):
        return biases[name] + math.sqrt(recurrent[name] * read + fed[name]) * rng.standard_normal(units)

    c, q, distance, square = np.zeros(units), 0.0, 0.0, None
    o, seen, scale = np.zeros(units), np.zeros(units), 1.0
    for t in range(burn_in + spec.T):
        if t == burn_in:
            square, distance = np.ones(units), np.mean((o * scale / np.cosh(seen) ** 2) ** 2)
        read, reached = (q, distance) if not normalizes else (float(q > 0.0), distance / q if q > 0.0 else 0.0)
        f, g, o = sigmoid(drawn("forget", read)), np.tanh(drawn("cell", read)), sigmoid(drawn("output", read))
        candidate = recurrent["cell"] * (1 - g * g) ** 2
        if cell == "coupled_lstm":
            i = 1 - f
            source = recurrent["forget"] * (f * i * (c - g)) ** 2 + i**2 * candidate
        else:
            i = sigmoid(drawn("input", read))
            source = recurrent["forget"] * (f * (1 - f) * c) ** 2 + i**2 * candidate
            source += recurrent["input"] * (i * (1 - i) * g) ** 2
        c = f * c + i * g
        kept = layer.memory_gain / c.std() if cell == "layernorm_lstm_kept" else 1.0
        c *= kept
        scale = layer.memory_gain / c.std() if cell == "layernorm_lstm" else 1.0
        seen = (c - c.mean()) * scale if normalizes else c
        if square is not None:
            square = kept**2 * (f * f * square + source * reached)
            through_output = recurrent["output"] * np.mean((o * (1 - o) * np.tanh(seen)) ** 2) * reached
            distance = np.mean((o * scale / np.cosh(seen) ** 2) ** 2 * square) + through_output
        q = np.mean((o * np.tanh(seen)) ** 2)
    return math.log(np.mean(square)), float(q)


def spread_spec(cell: str, scheme: str, T: int, *settings: str, **options) -> InitSpec:
    return critinit.generate(cell, T, scheme=scheme, settings=list(settings), **options)


LARGE = tuple(f"layers.0.gates.{gate}.recurrent.variance=9" for gate in ("forget", "cell", "output"))


@pytest.mark.parametrize(
    ("spec", "units"),
    [
        pytest.param(spread_spec("layernorm_lstm", "chrono", 30), 40_000, id="layernorm_lstm, chrono"),
        pytest.param(spread_spec("layernorm_lstm", "uniform_gate", 30), 40_000, id="layernorm_lstm, uniform_gate"),
        pytest.param(spread_spec("layernorm_lstm", "chrono", 300), 10_000, id="layernorm_lstm, chrono, T = 300"),
        pytest.param(spread_spec("layernorm_lstm_kept", "chrono", 30), 40_000, id="layernorm_lstm_kept, chrono"),
        pytest.param(spread_spec("layernorm_lstm_kept", "uniform_gate", 30), 40_000, id="layernorm_lstm_kept, gates"),
        pytest.param(spread_spec("lstm", "chrono", 30, *LARGE), 40_000, id="lstm, recurrent variance 9"),
        pytest.param(spread_spec("coupled_lstm", "uniform_gate", 30, *LARGE), 40_000, id="coupled_lstm, variance 9"),
        pytest.param(spread_spec("lstm", "chrono", 30), 40_000, id="lstm, chrono"),
    ],
)
def test_growth_is_that_of_a_population_of_units(spec, units):
    """Held to 4 standard errors of five populations, and 1e-3 a step for what the quadrature resolves."""
    numbers = untied_numbers(spec, spec.layers[0])
    found = np.array([population(spec, units, seed, 3 * spec.T) for seed in range(SEEDS)])
    mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / math.sqrt(SEEDS)
    growth = spec.T * math.log(numbers.chi_over_T)
    assert abs(growth - mean[0]) <= 4 * error[0] + 1e-3 * spec.T
    assert abs(numbers.second_moment - mean[1]) <= 4 * error[1] + 0.003 * mean[1]


def test_rare_units_that_carry_the_mean_have_a_note():
    """Gates that strong inputs open and shut: of 1,000 units hardly one keeps anything over T steps."""
    strong, weak = (spread_spec("lstm", "uniform_gate", 30, input_variance=power) for power in (25.0, 1.0))
    for spec, rare in ((strong, True), (weak, False)):
        numbers = untied_numbers(spec, spec.layers[0])
        shown = [population(spec, 1000, seed, 60)[0] for seed in range(20)]
        growth = spec.T * math.log(numbers.chi_over_T)
        assert any("rare units" in note for note in numbers.notes) == rare
        assert (np.median(shown) < 1.05 * growth) == rare
    many = np.mean([population(strong, 400_000, seed, 30)[0] for seed in range(2)])
    assert many > np.median([population(strong, 1000, seed, 60)[0] for seed in range(20)]) + 0.5


@pytest.mark.parametrize("steps", [1, 2, 40, 256, 257, 5000, 10**6])
def test_distances_resolved_by_class_are_powers_of_one_matrix(steps):
    """Random non-negative classes of 60 components: the whole recursion as one matrix, squared."""
    rng = np.random.default_rng(5)
    k, n = 6, 60
    through = rng.random((k, n, n))
    kept = np.array([0.2, 0.5, 0.9, 0.99, 0.999, 0.9999])
    through *= (kept[:, None] / through.sum(axis=-1))[..., None]
    start, source, read = (rng.random((k, n)) for _ in range(3))
    start /= start.sum(axis=-1, keepdims=True)
    source *= 1e-3
    spec = spread_spec("lstm", "chrono", 30)
    params = layer_parameters(spec.find_cell(), spec.layers[0])
    classes = np.array([0.1, 0.3, 0.1, 0.2, 0.2, 0.1])
    params = replace(params, class_weights=classes)
    operator = DistanceOperator(start, kept, through, source, read, np.full(1, 0.01), params)

    matrix = np.zeros((k * n + 1, k * n + 1))
    weighed = (classes[:, None] * read).ravel()
    for c in range(k):
        matrix[c * n : (c + 1) * n, c * n : (c + 1) * n] = through[c].T
    matrix[:-1, -1] = source.ravel()
    matrix[-1] = weighed @ matrix[:-1]
    matrix[-1, -1] += 0.01
    first = np.append(start.ravel(), weighed @ start.ravel())
    expected = log_power_mean(matrix, steps, first, np.append(np.repeat(classes, n), 0.0))
    assert float(operator.log_retention(steps)) == pytest.approx(float(expected), rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("cell", ["lstm", "coupled_lstm"])
def test_a_grid_of_spread_layers_equals_its_points(cell):
    spec = spread_spec(cell, "chrono", 30, *LARGE)
    params = layer_parameters(spec.find_cell(), spec.layers[0])

    def with_recurrent(variance, batch):
        gate = replace(params.gates["cell"], recurrent=variance)
        return solve(replace(params, gates={**params.gates, "cell": gate}, batch=batch))

    variances = np.array([1e-7, 0.5, 9.0])
    grid = with_recurrent(variances[:, None, None], (3,))
    for k, variance in enumerate(variances):
        point = with_recurrent(np.full((1, 1), variance), ())
        assert float(grid.chi[k]) == pytest.approx(float(point.chi), rel=1e-6)
        assert float(grid.log_retention(30)[k]) == pytest.approx(float(point.log_retention(30)), abs=1e-4)
        assert float(grid.log_unseen(30, 1000)[k]) == pytest.approx(float(point.log_unseen(30, 1000)), abs=1e-4)
