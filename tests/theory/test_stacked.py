"""Inputs that are correlated in time: of a first layer, and the states below a further one.

Held three ways: closed forms of leaky units, the tied theory, and stacked networks written out by hand, with weights,
recurrence and averages of their own.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from critinit import generate
from critinit.simulation import simulate
from critinit.spec import NotComputed
from critinit.theory.analysis import analyze, predict, tied_numbers, untied_numbers
from critinit.theory.comparing import comparisons
from critinit.theory.protocol import Inputs, layers_below
from critinit.theory.tied.solution import tied
from critinit.theory.widths import excess, excesses
from tests.theory import points

pytestmark = pytest.mark.slow

LEAK, GAIN = 0.8, 1e-2


def leaky(a: float | None = None, layers: int = 1):
    """Units h' = f h + (1 − f)·tanh(U x), so far from saturation that they are linear to 1e-4; x of correlation a."""
    bias = math.log(LEAK / (1.0 - LEAK))
    spec = points.gru(distribution="normal")
    gates = {"update": points.gate(0, 0, bias), "reset": points.gate(0, 0, 0), "candidate": points.gate(0, GAIN**2, 0)}
    layer = points.spec("gru", gates, T=50).layers[0]
    first = layer.model_copy(update={"input": layer.input.model_copy(update={"autocorrelation": a})})
    spec = points.spec("gru", gates, T=50)
    return spec.model_copy(update={"layers": (first, *(layer,) * (layers - 1))})


def power_of_a_leaky_unit(a: float) -> float:
    """Of s' = f s + (1 − f) w x, E x(t) x(s) = a^|t−s|: i²w²(1 + fa)/((1 − f²)(1 − fa)) with i = 1 − f."""
    f = LEAK
    return (1 - f) ** 2 * GAIN**2 * (1 + f * a) / ((1 - f * f) * (1 - f * a))


def power_of_two_leaky_units() -> float:
    """Of two in a row with independent inputs: i⁴w⁴ Σ_k (k + 1)² f²ᵏ = i⁴w⁴ (1 + f²)/(1 − f²)³."""
    f = LEAK
    return (1 - f) ** 4 * GAIN**4 * (1 + f * f) / (1 - f * f) ** 3


@pytest.mark.parametrize("a", [-0.7, 0.0, 0.5, 0.95, 1.0])
def test_a_leaky_units_power_is_the_closed_form(a: float) -> None:
    spec = leaky(a)
    wanted = power_of_a_leaky_unit(a)
    theory, network = tied(spec, particles=500, steps=400)[0], simulate(spec, width=300, steps=400, seeds=6)[0].numbers
    for found in (theory, network):
        assert found.second_moment == pytest.approx(wanted, rel=0.01, abs=4.0 * found.standard_error["second_moment"])
        assert found.standard_error["second_moment"] < 0.07 * wanted


def test_two_leaky_units_in_a_row_are_the_closed_form() -> None:
    spec = leaky(layers=2)
    wanted = power_of_two_leaky_units()
    theory, network = tied(spec, particles=500, steps=400)[1], simulate(spec, width=300, steps=400, seeds=6)[1].numbers
    for found in (theory, network):
        assert found.second_moment == pytest.approx(wanted, rel=0.01, abs=4.0 * found.standard_error["second_moment"])
        assert found.standard_error["second_moment"] < 0.05 * wanted


# ---- networks written out by hand ------------------------------------------------------------------------


def drawn_kernel(part: dict, rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """Entries of variance σ²/columns, or σ times an orthogonal matrix."""
    if part["distribution"] == "zero":
        return np.zeros((rows, columns))
    z = rng.standard_normal((rows, columns))
    if part["distribution"] == "orthogonal":
        q, r = np.linalg.qr(z)
        return math.sqrt(part["variance"]) * q * np.sign(np.diag(r))
    if part["distribution"] == "uniform":
        z = rng.uniform(-1, 1, (rows, columns)) * math.sqrt(3.0)
    return z * math.sqrt(part["variance"] / columns)


def drawn_biases(gates: dict, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Spread ones in equal strata of their distribution, which leaves less chance."""

    def uniform(low: float, high: float) -> np.ndarray:
        return low + (high - low) * (rng.permutation(count) + rng.random(count)) / count

    biases: dict[str, np.ndarray] = {}
    for name, gate in gates.items():
        part = gate["bias"]
        match part["distribution"]:
            case "constant":
                biases[name] = np.full(count, part["mean"])
            case "normal":
                biases[name] = part["mean"] + math.sqrt(part["variance"]) * rng.standard_normal(count)
            case "uniform_time":
                biases[name] = np.log(uniform(part["min_time"], part["max_time"]) - 1.0)
            case "log_uniform_time":
                log_times = uniform(math.log(part["min_time"]), math.log(part["max_time"]))
                biases[name] = np.log(np.exp(log_times) - 1.0)
    for name, gate in gates.items():
        if gate["bias"]["distribution"] == "coupled":
            biases[name] = gate["bias"]["sign"] * biases[gate["bias"]["to"]]
    return biases


class HandWritten:
    """One layer of ``width`` units and ``batch`` sequences, GRU (reset after) or LSTM."""

    def __init__(self, cell: str, gates: dict, width: int, batch: int, rng: np.random.Generator) -> None:
        self.cell = cell
        self.w = {n: drawn_kernel(g["recurrent"], width, width, rng).T for n, g in gates.items()}
        self.u = {n: drawn_kernel(g["input"], width, width, rng).T for n, g in gates.items()}
        self.b = drawn_biases(gates, width, rng)
        self.h = np.zeros((batch, width))
        self.c = np.zeros((batch, width))

    def step(self, x: np.ndarray) -> np.ndarray:
        fed = {n: x @ u + self.b[n] for n, u in self.u.items()}
        back = {n: self.h @ w for n, w in self.w.items()}

        def opened(name: str) -> np.ndarray:
            return 1.0 / (1.0 + np.exp(-(fed[name] + back[name])))

        if self.cell == "gru":
            f = opened("update")
            n = np.tanh(fed["candidate"] + opened("reset") * back["candidate"])
            self.h = f * self.h + (1.0 - f) * n
        else:
            self.c = opened("forget") * self.c + opened("input") * np.tanh(fed["cell"] + back["cell"])
            self.h = opened("output") * np.tanh(self.c)
        return self.h


def second_moments(
    spec, *, width: int, steps: int, burn_in: int, networks: int = 3, a: float = 0.0, batch: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over stacked networks of the second moments of every layer, and their standard errors."""
    found = []
    for seed in range(networks):
        rng = np.random.default_rng(1000 + seed)
        stack = [HandWritten(spec.cell, layer["gates"], width, batch, rng) for layer in spec.to_dict()["layers"]]
        x = rng.standard_normal((batch, width))
        total = np.zeros(len(stack))
        for t in range(burn_in + steps):
            x = a * x + math.sqrt(1.0 - a * a) * rng.standard_normal((batch, width))
            signal = x
            for index, layer in enumerate(stack):
                signal = layer.step(signal)
                total[index] += np.mean(signal**2) if t >= burn_in else 0.0
        found.append(total / steps)
    return np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / math.sqrt(networks)


@pytest.mark.parametrize(
    ("cell", "scheme", "T"),
    [
        ("gru", "critical", 100),
        ("gru", "orthogonal", 100),
        ("gru", "torch", 300),
        ("lstm", "critical", 100),
        ("lstm", "orthogonal", 50),
        ("lstm", "torch", 100),
    ],
)
def test_further_layers_are_those_of_stacked_networks(cell: str, scheme: str, T: int) -> None:
    spec = generate(cell, T, scheme=scheme, layers=2)
    networks, error = second_moments(spec, width=320, steps=200, burn_in=200)
    theory = tied(spec, particles=500, steps=100, tolerance=0.1)
    for layer in (0, 1):
        chance = 3.0 * math.hypot(error[layer], theory[layer].standard_error["second_moment"])
        assert theory[layer].second_moment == pytest.approx(networks[layer], rel=0.1)
        assert chance < 0.1 * networks[layer]
    independent = spec.layers[1].predicted.untied.second_moment
    assert networks[1] > 1.5 * independent  # what inputs independent in time would give


def test_the_gap_to_networks_of_spread_units_closes_with_their_width() -> None:
    """Of ``chrono`` the prediction needs wider networks, as in one layer: the gap falls with 1/N."""
    spec = generate("gru", 100, scheme="chrono", layers=2)
    theory = tied(spec, particles=1000, steps=100, tolerance=0.1)[1].second_moment
    narrow, wide = 96, 640
    small, large = (second_moments(spec, width=n, steps=200, burn_in=300)[0][1] for n in (narrow, wide))
    assert small / theory - 1.0 > 2.0 * (large / theory - 1.0)
    limit = (wide * large - narrow * small) / (wide - narrow)  # of a gap that falls with 1/N
    assert limit == pytest.approx(theory, rel=0.1)


@pytest.mark.parametrize(("cell", "scheme"), [("gru", "orthogonal"), ("lstm", "critical")])
@pytest.mark.parametrize("a", [0.5, 0.95])
def test_smooth_inputs_are_those_of_networks(cell: str, scheme: str, a: float) -> None:
    spec = generate(cell, 100, scheme=scheme, input_autocorrelation=a)
    (network,), (error,) = second_moments(spec, width=320, steps=250, burn_in=250, a=a)
    (theory,) = tied(spec, particles=500, steps=100, tolerance=0.1)
    simulated = simulate(spec, width=320, steps=100, seeds=3)[0].numbers
    for found in (theory, simulated):
        chance = 3.0 * math.hypot(error, found.standard_error["second_moment"])
        assert found.second_moment == pytest.approx(network, rel=0.07, abs=chance)
    assert error < 0.05 * network
    assert network > 1.1 * spec.layers[0].predicted.untied.second_moment


@pytest.mark.parametrize(
    ("cell", "scheme"), [("minimal_rnn", "orthogonal"), ("projection_lstm", "torch"), ("rnn", "torch")]
)
def test_simulated_stacks_of_every_kind_agree_with_the_theory(cell: str, scheme: str) -> None:
    """A cell that embeds its input, one that projects its state, and one without gates; tied and untied."""
    spec = generate(cell, 50, scheme=scheme, layers=2)
    theory = tied(spec, particles=500, steps=60, tolerance=0.1)
    kept, fresh = (simulate(spec, width=300, steps=60, seeds=4, weights=w) for w in ("tied", "untied"))
    for layer in (0, 1):
        for measured, wanted in ((kept, theory[layer]), (fresh, spec.layers[layer].predicted.untied)):
            found = measured[layer].numbers
            chance = 4.0 * found.standard_error["second_moment"]
            assert found.second_moment == pytest.approx(wanted.second_moment, rel=0.05, abs=chance)


@pytest.mark.parametrize(("cell", "scheme"), [("gru", "torch"), ("lstm", "orthogonal")])
def test_two_copies_of_a_further_layer_read_the_states_of_two_copies(cell: str, scheme: str) -> None:
    """Their correlation is what the untied theory makes of that of the inputs, and χ is measured at it."""
    spec = generate(cell, 50, scheme=scheme, layers=2, input_correlation=0.5)
    below, above = (layer.input.correlation for layer in spec.layers)
    assert below == 0.5
    assert 0.3 < above < 0.49
    measured = simulate(spec, width=400, seeds=3, steps=120, weights="untied", tangents=2)[1].numbers
    wanted = spec.layers[1].predicted.untied
    assert measured.chi == pytest.approx(wanted.chi, rel=0.01)
    assert measured.second_moment == pytest.approx(wanted.second_moment, rel=0.03)


# ---- what specs and commands say -------------------------------------------------------------------------


def test_untied_numbers_say_that_correlation_in_time_is_not_in_them() -> None:
    spec = generate("gru", 50, scheme="orthogonal", layers=2)
    first, second = (layer.predicted for layer in spec.layers)
    assert first.untied.notes == ()
    assert "correlated in time" in second.untied.notes[0]
    assert isinstance(second.tied, NotComputed)
    assert predict(spec) == spec
    assert "correlated in time" in analyze(spec, weights="untied").layers[1].untied.notes[0]


def test_a_stated_autocorrelation_is_in_the_spec_of_the_first_layer_alone() -> None:
    spec = generate("gru", 50, layers=2, input_autocorrelation=0.9)
    assert [layer.input.autocorrelation for layer in spec.layers] == [0.9, None]
    assert spec.generated.arguments["input_autocorrelation"] == 0.9
    assert generate(**spec.generated.arguments).to_bytes() == spec.to_bytes()
    assert "autocorrelation" not in generate("gru", 50, layers=2).to_json()
    assert isinstance(spec.layers[0].predicted.tied, NotComputed)
    white = generate("gru", 50, input_autocorrelation=0.0)
    assert white.layers[0].predicted == generate("gru", 50).layers[0].predicted


def test_a_further_layer_with_inputs_of_its_own_does_not_read_the_one_below() -> None:
    spec = generate("gru", 50, scheme="keras", layers=2)
    apart = spec.layers[1].input.model_copy(update={"autocorrelation": 0.0})
    alone = spec.model_copy(update={"layers": (spec.layers[0], spec.layers[1].model_copy(update={"input": apart}))})
    assert (layers_below(spec, 1), layers_below(alone, 1)) == ((spec.layers[0],), ())
    found = tied(alone, particles=500, steps=50, tolerance=0.1)[1]
    assert found.second_moment == pytest.approx(untied_numbers(alone, alone.layers[1]).second_moment, rel=0.1)
    assert found.second_moment < 0.7 * tied(spec, particles=500, steps=50, tolerance=0.1)[1].second_moment


def test_small_kernels_are_left_out_without_changing_the_numbers() -> None:
    spec = generate("gru", 20, layers=2)
    fast, full = tied_numbers(spec)[1], tied(spec, steps=100, tolerance=0.1)[1]
    for name in ("second_moment", "chi_over_T"):
        chance = 4.0 * math.hypot(fast.standard_error[name], full.standard_error[name])
        assert getattr(fast, name) == pytest.approx(getattr(full, name), abs=chance)
        assert chance < 0.05 * getattr(full, name)


def test_inputs_that_stay_are_inputs_of_autocorrelation_one() -> None:
    spec = points.gru("gru")
    still = spec.layers[0].input.model_copy(update={"autocorrelation": 1.0})
    stays = spec.model_copy(update={"layers": (spec.layers[0].model_copy(update={"input": still}),)})
    one = tied(spec, particles=500, steps=60, tolerance=0.1, inputs=Inputs(constant=True))[0]
    other = tied(stays, particles=500, steps=60, tolerance=0.1)[0]
    chance = 4.0 * math.hypot(one.standard_error["second_moment"], other.standard_error["second_moment"])
    assert one.second_moment == pytest.approx(other.second_moment, abs=chance)


def test_a_further_layer_inherits_what_the_width_of_those_below_adds():
    """At 128 units its second moment is some 15 % larger than in wide networks, by rows that overlap in both layers."""
    spec = generate("coupled_lstm", T=60, scheme="chrono", layers=2)
    cell, wide = spec.find_cell(), tied_numbers(spec, precision=0.05)
    shares = excesses(spec, wide, 128)
    own = [excess(cell, layer, numbers, 128) for layer, numbers in zip(spec.layers, wide, strict=True)]
    assert shares == pytest.approx((own[0], own[1] + own[0] + 8 / 128))
    found = [measured.numbers for measured in simulate(spec, width=128, seeds=4)]
    for factor, agrees in ((1.0, True), (2.0, False)):
        for one, numbers, share in zip(found, wide, shares, strict=True):
            moment = factor * numbers.second_moment
            planted = numbers.model_copy(update={"second_moment": moment})
            compared = comparisons(planted, one, 60, errors=3.0, width=128, excess=share)[0]
            assert (compared.field, compared.agrees, compared.decides) == ("second_moment", agrees, True)
