"""Inputs of few features: theory beside integrals of single units, and beside networks that are written out here."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.special import expit, ndtri
from scipy.stats import qmc

from critinit import InitSpec, analyze, generate, materialize, predict
from critinit.cells import find_cell
from critinit.errors import ArgumentError
from critinit.simulation import simulate
from critinit.spec import Layer, Numbers
from critinit.theory.agreement import agreement
from critinit.theory.analysis import deviations, features_counted, tied_numbers, untied_numbers
from critinit.theory.protocol import STEADY, features_of, features_read
from critinit.theory.settling import first_burn_in
from critinit.theory.tied.particles import population_of
from critinit.theory.tied.solution import tied, tied_layer
from critinit.theory.tied.sources import Features, SharedInputs
from critinit.theory.widths import at_width, excesses

pytestmark = pytest.mark.slow
SPEC = generate("gru", T=100)
UNITS, SEQUENCES = 200, 4


def by_hand(
    spec: InitSpec, features: int, seed: int, *, layers: int = 1, burn_in: int = 500, steps: int = 500
) -> float:
    """The mean square of the last layer's state of a GRU or an LSTM, after PyTorch's equations, past the burn-in."""
    drawn = materialize(spec, "torch", input_size=features, hidden_size=UNITS, seed=seed)
    rng, squares = np.random.default_rng(seed), []
    h, c = np.zeros((2, layers, SEQUENCES, UNITS))
    for t in range(burn_in + steps):
        x = rng.standard_normal((SEQUENCES, features))
        for k in range(layers):
            w, u, b, d = (drawn[f"{name}_l{k}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            reads, returns = x @ w.T + b, h[k] @ u.T + d
            if spec.cell == "gru":
                (r, z, n), (r_h, z_h, n_h) = np.split(reads, 3, axis=1), np.split(returns, 3, axis=1)
                z = expit(z + z_h)
                h[k] = z * h[k] + (1 - z) * np.tanh(n + expit(r + r_h) * n_h)
            else:
                i, f, g, o = np.split(reads + returns, 4, axis=1)
                c[k] = expit(f) * c[k] + expit(i) * np.tanh(g)
                h[k] = expit(o) * np.tanh(c[k])
            x = h[k]
        if t >= burn_in:
            squares.append(np.mean(x**2))
    return float(np.mean(squares))


def mean_and_error(values) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))


# ---- against integrals over single units -------------------------------------------------------------------


def rows(layer: Layer, gates: list[str], features: int, seed: int, points: int, quantile=ndtri):
    """Rows of the gates' input kernels, and quantiles of a bias: low-discrepancy points, and no random ones."""
    q = np.clip(qmc.Sobol(features * len(gates) + 1, seed=seed).random(points), 1e-12, 1 - 1e-12)
    each = np.split(quantile(q[:, :-1]), len(gates), axis=1)
    roots = [math.sqrt(layer.gates[name].input.variance * layer.input.variance / features) for name in gates]
    return [root * u for root, u in zip(roots, each, strict=True)], q[:, -1]


def inputs(features: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of standard normal inputs, and their weights."""
    if features == 1:
        x, weights = np.polynomial.hermite_e.hermegauss(100)
        return x[:, None], weights / weights.sum()
    points = ndtri(np.clip(qmc.Sobol(features, seed=1).random(2**11), 1e-12, 1 - 1e-12))
    return points, np.full(len(points), 1 / len(points))


def unit_moment(keep: np.ndarray, written: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """E s² of units s' = k·s + w whose k and w, (units, points of the input), are independent from step to step."""
    mean = written @ weights / (1 - keep @ weights)
    return (written**2 @ weights + 2 * (keep * written) @ weights * mean) / (1 - keep**2 @ weights)


def gru_moment(spec: InitSpec, features: int, quantile=ndtri) -> float:
    """E h² of a GRU without recurrent kernels."""
    (layer,), (x, weights), found = spec.layers, inputs(features), []
    for seed in range(2):
        (z, n), q = rows(layer, ["update", "candidate"], features, seed, 2**12, quantile)
        keep = expit(layer.gates["update"].bias.quantile(q)[:, None] + z @ x.T)
        found.append(np.mean(unit_moment(keep, (1 - keep) * np.tanh(n @ x.T), weights)))
    return float(np.mean(found))


def lstm_memory(spec: InitSpec, features: int) -> float:
    """E c² of an LSTM without recurrent kernels, of constant biases."""
    (layer,), (x, weights), found = spec.layers, inputs(features), []
    bias = {name: gate.bias.mean for name, gate in layer.gates.items()}
    for seed in range(2):
        (i, f, g), _ = rows(layer, ["input", "forget", "cell"], features, seed, 2**12)
        written = expit(bias["input"] + i @ x.T) * np.tanh(bias["cell"] + g @ x.T)
        found.append(np.mean(unit_moment(expit(bias["forget"] + f @ x.T), written, weights)))
    return float(np.mean(found))


def gru_retention(spec: InitSpec, features: int, sequences: int) -> tuple[float, float]:
    """ln of what T steps leave in a GRU without recurrent kernels: its mean over input sequences, with its error."""
    (layer,), rng = spec.layers, np.random.default_rng(0)
    (z,), q = rows(layer, ["update"], features, 0, 2**12)
    bias, logs = layer.gates["update"].bias.quantile(q)[:, None], []
    for _ in range(sequences):
        keep = expit(bias + z @ rng.standard_normal((features, spec.T)))
        logs.append(math.log(np.mean(np.exp(2 * np.log(keep).sum(axis=1)))))
    return mean_and_error(logs)


def plain_lstm(features: int, **more) -> InitSpec:
    """An LSTM whose units are alike but for their rows: constant biases, no recurrent kernels."""
    kernel, none = {"distribution": "normal", "variance": 2.0}, {"distribution": "zero"}
    settings = [
        f"layers.0.gates.*.{part}={json.dumps(value)}" for part, value in (("input", kernel), ("recurrent", none))
    ]
    settings += [
        f'layers.0.gates.{name}.bias={{"distribution": "constant", "mean": {mean}}}'
        for name, mean in (("forget", 2.0), ("input", -2.0), ("cell", 0.0), ("output", 1.0))
    ]
    return generate("lstm", T=30, settings=settings, input_size=features, **more)


def off(numbers: Numbers, field: str, wanted: float, error: float = 0.0) -> float:
    """How far a number is from another one, in standard errors of both."""
    found = getattr(numbers, field)
    return abs(found - wanted) / math.hypot(numbers.standard_error[field], error)


@pytest.mark.parametrize("features", [1, 3])
def test_units_without_recurrence_are_what_their_integrals_say(features: int) -> None:
    numbers = analyze(SPEC, weights="tied", features=features).layers[0].tied
    wanted = gru_moment(SPEC, features)
    assert wanted == pytest.approx({1: 0.2738, 3: 0.2146}[features], rel=3e-3)
    assert off(numbers, "second_moment", wanted) < 3.5
    assert numbers.standard_error["second_moment"] < 0.02 * wanted
    logarithm, error = gru_retention(SPEC, features, 40)
    apart = math.log(numbers.retention) - logarithm
    assert abs(apart) < 3.5 * math.hypot(error, numbers.standard_error["retention"] / numbers.retention)


@pytest.mark.parametrize("features", [1, 2])
def test_the_memory_of_an_lstm_is_what_its_integral_says(features: int) -> None:
    spec = plain_lstm(features)
    (numbers,) = tied_numbers(spec, features=features)
    wanted = lstm_memory(spec, features)
    assert wanted > 1.5 * untied_numbers(spec, spec.layers[0]).cell_second_moment
    assert off(numbers, "cell_second_moment", wanted) < 3.5
    assert numbers.standard_error["cell_second_moment"] < 0.05 * wanted


def test_entries_have_the_distribution_that_is_stated() -> None:
    """Of one feature a row is one entry, so a uniform kernel is another one than a normal one of the same variance."""
    kernel = json.dumps({"distribution": "uniform", "variance": 4.0})
    spec = generate("gru", T=20, settings=[f"layers.0.gates.*.input={kernel}"])
    uniform = gru_moment(spec, 1, lambda q: math.sqrt(3) * (2 * q - 1))
    (numbers,) = tied_numbers(spec, features=1, precision=0.008)
    assert off(numbers, "second_moment", uniform) < 3.5
    assert off(numbers, "second_moment", gru_moment(spec, 1)) > 5


# ---- against networks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "scheme", "features"),
    [
        ("gru", "orthogonal", 1),
        ("gru", "torch", 3),
        ("gru", "chrono", 1),
        ("gru", "critical", 32),
        ("lstm", "orthogonal", 3),
        ("lstm", "torch", 1),
        ("lstm", "critical", 3),
    ],
)
def test_networks_are_what_theory_says(cell: str, scheme: str, features: int) -> None:
    spec = generate(cell, T=100, scheme=scheme)
    burn_in = 2000 if scheme == "critical" else 400
    found, error = mean_and_error([by_hand(spec, features, seed, burn_in=burn_in) for seed in range(40, 45)])
    (numbers,) = tied_numbers(spec, features=features, precision=0.04)
    assert off(numbers, "second_moment", found, math.hypot(error, 8 / UNITS * found / 2)) < 4
    assert max(error, numbers.standard_error["second_moment"]) < 0.05 * found


def test_a_second_layer_reads_states_that_few_features_drive() -> None:
    spec = generate("gru", T=20, scheme="orthogonal", layers=2)
    found, error = mean_and_error([by_hand(spec, 1, seed, layers=2, burn_in=300, steps=300) for seed in range(5)])
    first, second = tied_numbers(spec, features=1, precision=0.04)
    many = tied_numbers(spec, precision=0.04)[1].second_moment
    assert off(second, "second_moment", found, math.hypot(error, 8 / UNITS * found / 2)) < 4
    assert abs(found - many) > 4 * error
    assert first.second_moment != second.second_moment


@pytest.mark.parametrize("features", [1, 3, 32])
def test_simulated_networks_may_read_as_few(features: int) -> None:
    by_hand_found = np.mean([by_hand(SPEC, features, seed, burn_in=2000) for seed in range(3)])
    (measured,) = simulate(SPEC, width=UNITS, features=features, seeds=3, steps=300)
    assert measured is not None
    found = measured.numbers.second_moment
    assert found == pytest.approx(by_hand_found, rel=0.1)
    assert found > 1.08 * SPEC.layers[0].predicted.tied.second_moment


# ---- many of them are as infinitely many -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "scheme"), [("lstm", "torch"), ("layernorm_gru", "orthogonal"), ("minimal_rnn", "torch")]
)
def test_many_features_are_as_infinitely_many(cell: str, scheme: str) -> None:
    spec = generate(cell, T=20, scheme=scheme)
    many, all_of_them = (tied(spec, features=features, tolerance=0.02)[0] for features in (1000, None))
    error = all_of_them.standard_error["second_moment"]
    assert (
        off(many, "second_moment", all_of_them.second_moment, math.hypot(error, 4e-3 * all_of_them.second_moment)) < 4
    )
    assert many.standard_error["second_moment"] < 0.02 * many.second_moment


# ---- what the particles read -------------------------------------------------------------------------------


def test_all_groups_read_the_same_sequence() -> None:
    spec = generate("gru", T=100, scheme="memory")
    cell, rng = spec.find_cell(), np.random.default_rng(3)
    population = population_of(cell, spec.layers[0], 300, rng, inputs=STEADY, features=Features(1, 7))
    sources = [group._source for group in population.populations]
    signs = []
    for _ in range(40):
        signs.append([np.sign(source.fed(-1)["candidate"][0]) for source in sources])
    signs = np.array(signs)
    assert len(sources) > 1
    assert np.all(np.abs(np.mean(signs, axis=0)) < 1)
    assert np.all(np.abs(signs[:, 1:] - signs[:, :1] * (signs[0, 1:] * signs[0, 0])) == 0)


def test_a_normalized_cell_reads_products_that_are_normalized() -> None:
    spec = generate("layernorm_gru", T=50)
    layer = spec.layers[0].reduced()
    source = SharedInputs(spec.find_cell(), layer, 500, np.random.default_rng(0), STEADY, Features(2, 1))
    for _ in range(3):
        for name, x in source.fed(-1).items():
            assert np.mean(x) == pytest.approx(0, abs=1e-9)
            assert np.mean(x**2) == pytest.approx(layer.gates[name].input.variance)


def test_inputs_keep_the_correlation_in_time_that_is_stated() -> None:
    spec = generate("gru", T=50, input_autocorrelation=0.9, input_variance=3.0)
    layer, variance = spec.layers[0], spec.layers[0].gates["candidate"].input.variance
    source = SharedInputs(spec.find_cell(), layer, 2000, np.random.default_rng(0), STEADY, Features(60, 1))
    x = np.array([source.fed(-1)["candidate"] for _ in range(200)])
    assert np.mean(x**2) == pytest.approx(3.0 * variance, rel=0.1)
    assert np.mean(x[1:] * x[:-1]) / np.mean(x**2) == pytest.approx(0.9, abs=0.02)


def test_standard_errors_hold() -> None:
    """What the sequences differ by is common to all units of a population, so it has to be in them."""
    layer, cell = plain_lstm(1).layers[0], find_cell("lstm")
    runs = [
        tied_layer(cell, layer, T=30, particles=300, steps=30, tolerance=1.0, seed=seed, features=1)
        for seed in range(16)
    ]
    for field in ("second_moment", "chi_over_T"):
        scatter = np.std([getattr(run, field) for run in runs], ddof=1)
        stated = np.sqrt(np.mean([run.standard_error[field] ** 2 for run in runs]))
        assert 0.6 < stated / scatter < 1.7, field


def test_slow_units_have_time_to_fill() -> None:
    cell, layer = SPEC.find_cell(), SPEC.layers[0]
    assert first_burn_in(cell, layer, few=True) == 3000 > first_burn_in(cell, layer)
    notes = analyze(generate("gru", T=1500), weights="tied", features=1, precision=0.9).layers[0].tied.notes
    assert any("still filling" in note for note in notes)
    notes = analyze(generate("lstm", T=100), weights="tied", features=1, precision=0.9).layers[0].tied.notes
    assert any("% of the units hold half of it" in note for note in notes)
    assert not any("still filling" in note for note in notes)


# ---- how many there are ------------------------------------------------------------------------------------


def test_the_spec_says_how_many_there_are() -> None:
    few, many = generate("gru", T=30, input_size=2), generate("gru", T=30, input_size=300)
    assert (features_of(few), features_of(many), features_of(SPEC)) == (2, None, None)
    found = analyze(few, precision=0.5)
    assert found == analyze(few, features=2, precision=0.5)
    assert found.layers[0].features == 2
    assert next(found._tables()).title == "layer 0, inputs of 2 features"
    assert found.model_dump(mode="json")["layers"][0]["features"] == 2
    assert analyze(few, weights="untied").layers[0].features is None
    assert analyze(many).layers[0].features is None
    (measured,) = simulate(few, width=60, seeds=2, steps=30, weights="tied")
    assert measured.numbers == simulate(few, width=60, seeds=2, steps=30, weights="tied", features=2)[0].numbers


def test_more_than_a_thousand_count_as_infinitely_many() -> None:
    assert analyze(SPEC, features=1001) == analyze(SPEC)


def test_units_that_nothing_bounds_are_not_sampled() -> None:
    spec = generate("relu_rnn", T=50)
    (few,), (many,) = analyze(spec, features=2).layers, analyze(spec).layers
    assert few.features is None
    assert few.tied.notes == (
        *many.tied.notes,
        "for inputs of infinitely many features: where nothing bounds a state, theory has no numbers for few",
    )
    assert few.tied.second_moment == many.tied.second_moment
    assert features_counted(generate("rnn", T=50), 2) == 2


def test_predictions_for_many_features_say_so() -> None:
    spec = generate("gru", T=30, layers=2, input_size=3)
    for layer in spec.layers:
        assert layer.predicted.untied.notes[-1].startswith("for inputs of many features, where this network reads 3; ")
    assert spec.layers[0].predicted.tied.notes[-1] == spec.layers[0].predicted.untied.notes[-1]
    assert predict(spec) == spec
    assert not deviations(spec)
    assert not any("features" in note for note in SPEC.layers[0].predicted.untied.notes)


def test_a_layer_whose_inputs_are_stated_does_not_read_them() -> None:
    settings = ["layers.1.input.autocorrelation=0.5"]
    spec = generate("minimal_rnn", T=30, layers=3, settings=settings, input_size=1)
    assert [features_read(spec, index, 1) for index in range(3)] == [1, None, None]
    assert not any("many features" in note for note in spec.layers[1].predicted.untied.notes)
    (_, alone, _), (_, stated, _) = tied_numbers(spec, precision=0.5), tied_numbers(spec, features=1, precision=0.5)
    assert alone == stated


def test_the_theories_are_not_compared_for_different_inputs() -> None:
    (layer,) = analyze(SPEC, features=1, precision=0.5).layers
    agree, words = agreement(layer.untied, layer.tied, SPEC.T)
    assert agree is None
    assert "not compared" in words
    assert "disagree" not in words


def test_what_a_width_adds_leaves_out_what_features_do() -> None:
    spec = generate("gru", T=300, scheme="chrono")
    numbers = [layer.predicted.untied for layer in spec.layers]
    assert excesses(spec, numbers, 64, features=1)[0] < 0.1 * excesses(spec, numbers, 64)[0]


def test_variances_that_another_width_divides_are_those_of_the_network() -> None:
    kernel = json.dumps({"distribution": "uniform", "variance": 1.0, "fan": "average"})
    spec = generate("gru", T=20, settings=[f"layers.0.gates.*.input={kernel}"])
    there = at_width(spec, 99, features=1)
    assert [gate.input.variance for gate in there.layers[0].gates.values()] == [0.02] * 3
    assert at_width(spec, 99) is spec
    drawn = spec.layers[0].gates["reset"].input.sample(np.random.default_rng(0), 99, 1)
    assert np.mean(drawn**2) == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize(("cell", "layers"), [("minimal_rnn", 1), ("lstm", 2), ("gru", 1)])
@pytest.mark.parametrize("weights", ["tied", "untied"])
def test_as_many_features_as_units_are_what_is_simulated_without_a_number(cell: str, layers: int, weights: str) -> None:
    """A cell that embeds its input reads it through a kernel then, of which the square is one on average."""
    spec = generate(cell, T=30, layers=layers)
    one, other = (
        simulate(spec, width=150, seeds=2, weights=weights, features=features)[-1] for features in (None, 150)
    )
    assert one is not None
    assert other is not None
    near = {"rel": 0.2} if cell == "minimal_rnn" else {"rel": 1e-12}
    assert other.numbers.second_moment == pytest.approx(one.numbers.second_moment, **near)


@pytest.mark.parametrize("features", [0, -1, 2.5, True])
def test_no_features_are_refused(features) -> None:
    with pytest.raises(ArgumentError, match="features"):
        analyze(SPEC, features=features)


def test_no_features_are_simulated() -> None:
    with pytest.raises(ArgumentError, match="features"):
        simulate(SPEC, width=30, features=0)
