"""Cells in which no gate keeps the state: closed forms, quadrature, and networks written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

import critinit
from critinit.cells import find_cell
from critinit.cells.rnn import RNN
from critinit.distributions import kernel
from critinit.errors import SchemeError
from critinit.simulation import simulate
from critinit.theory.analysis import _without_small_kernels, deviations, fast_numbers, predict, untied_numbers
from critinit.theory.comparing import comparisons
from critinit.theory.parameters import grid_parameters
from critinit.theory.quadrature import broken_rule
from critinit.theory.tied.estimate import ROUGH
from critinit.theory.tied.response import Fluctuations, Response, growth, log_retention
from critinit.theory.tied.solution import tied, tied_layer
from critinit.theory.untied.solution import solve
from critinit.theory.widths import at_width
from tests.theory import points

LEAK = 0.3


class Leaky(critinit.Cell):
    """s' = .7 s + .3 tanh(u)."""

    name = "leaky_tanh"
    gates = ("hidden",)
    candidate_gate = "hidden"

    def keep(self, u):
        return 1.0 - LEAK

    def write(self, u):
        return LEAK

    def candidate(self, u):
        return np.tanh(u["hidden"])


class LeakyReLU(Leaky):
    name = "leaky_relu"

    def candidate(self, u):
        return np.maximum(u["hidden"], 0.0)


class Rate(Leaky):
    """The rate network: s' = .7 s + .3 u, h = tanh s."""

    name = "rate"

    def candidate(self, u):
        return u["hidden"]

    def read(self, s, u):
        return np.tanh(s)


class HardTanh(Leaky):
    name = "hard_tanh"

    def keep(self, u):
        return 0.0

    def write(self, u):
        return 1.0

    def candidate(self, u):
        return np.minimum(np.maximum(u["hidden"], -1.0), 1.0)


class Softplus(HardTanh):
    name = "softplus"

    def candidate(self, u):
        return np.maximum(u["hidden"], 0.0) + np.log1p(np.exp(-np.abs(u["hidden"])))


class NormalizedRNN(RNN):
    name = "normalized_rnn"
    normalized = True


OWN = (Leaky, LeakyReLU, Rate, HardTanh, Softplus, NormalizedRNN)


@pytest.fixture(autouse=True)
def registered():
    for cell in OWN:
        critinit.register_cell(cell)


# ---- averages over functions with kinks ------------------------------------------------------------------


@pytest.mark.parametrize("mean", [0.0, 0.7, -1.3, 30.0, -30.0])
@pytest.mark.parametrize("deviation", [0.0, 1e-3, 1.0, 14.0])
def test_a_kink_costs_the_average_nothing(mean, deviation):
    """E max(u, 0)² and P(u > 0) against Φ and φ."""
    z, weights = broken_rule(np.array(mean), np.array(deviation), (0.0,))
    u = mean + deviation * z
    share = norm.cdf(mean / deviation) if deviation else float(mean > 0)
    square = (mean**2 + deviation**2) * share + mean * deviation * (norm.pdf(mean / deviation) if deviation else 0.0)
    assert weights @ (u > 0) == pytest.approx(share, abs=1e-11)
    assert weights @ np.maximum(u, 0.0) ** 2 == pytest.approx(square, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("correlation", [1.0, 0.6, 0.0])
def test_the_relu_rnn_has_its_closed_forms(correlation):
    """χ = σ²/2, E h² = ν²R/(2 − σ²), E h h' by the arc-cosine kernel, J J* of second moment (σ²/2)²(2 + 1) − …"""
    variance = np.array([0.5, 1.0, 1.9, 1.99])
    parameters = {"hidden": {"recurrent": variance, "input": 0.3, "mean": 0.0}}
    found = solve(grid_parameters("relu_rnn", parameters, input_correlation=correlation))
    np.testing.assert_allclose(found.second_moment, 0.3 / (2.0 - variance), rtol=1e-9)
    u = variance * found.second_moment + 0.3
    c = np.clip((variance * found.product_moment + 0.3 * correlation) / u, -1.0, 1.0)
    angle = np.arccos(c)
    assert found.product_moment == pytest.approx(u * (np.sin(angle) + (np.pi - angle) * c) / (2 * np.pi), rel=1e-4)
    assert found.chi == pytest.approx(variance * (np.pi - angle) / (2 * np.pi), abs=1e-4)
    np.testing.assert_allclose(found.jacobian_mean, variance / 2, rtol=1e-9)
    np.testing.assert_allclose(found.jacobian_variance, variance**2 / 2, rtol=1e-9)  # of DW, W Gaussian: m₂ = 3σ⁴/4


def test_a_state_without_bounds_is_said_to_be_so():
    numbers = predict(points.spec("relu_rnn", {"hidden": points.gate(2.5, 1.0, 0.0)})).layers[0].predicted
    for reading in (numbers.untied, numbers.tied):
        assert any(note.startswith("second_moment: unbounded") for note in reading.notes)
    assert {found.field for found in comparisons(numbers.untied, numbers.tied, 50, errors=2.0)} == {"chi_over_T", "chi"}
    bounded = predict(points.spec("relu_rnn", {"hidden": points.gate(1.0, 1.0, 0.0)})).layers[0].predicted.tied
    assert bounded.notes == ()
    near = critinit.generate("relu_rnn", 100).layers[0].predicted.tied
    assert any("networks of H units scatters" in note for note in near.notes)


# ---- critical and isometry -------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["critical", "isometry"])
@pytest.mark.parametrize("T", [1, 10, 100, 784, 10_000])
@pytest.mark.parametrize("cell", ["rnn", "relu_rnn", "leaky_tanh", "rate", "hard_tanh"])
def test_a_cell_without_a_keep_gate_reaches_its_time_scale(cell, T, scheme):
    spec = critinit.generate(cell, T, scheme=scheme)
    assert (spec.target.quantity, spec.target.wanted, spec.target.limit) == ("time_scale", T, None)
    assert deviations(spec) == []
    found = fast_numbers(spec).time_scale
    kept = find_cell(cell).keep({})
    alone = -1.0 / (2.0 * math.log(kept)) if kept else 0.0
    assert found == pytest.approx(max(T, alone), rel=2e-3)
    assert spec.target.reached == pytest.approx(found)


def test_leaky_relu_units_stay_on_the_safe_side():
    """(f + (1 − f)√(σ²/2))² = exp(−1/T), the growth if signs lasted; the sampled theory confirms what the spec says."""
    spec = critinit.generate("leaky_relu", 30)
    expected = spec.layers[0].predicted.tied
    gain = (math.exp(-0.5 / 30) - (1.0 - LEAK)) / LEAK
    assert spec.layers[0].gates["hidden"].recurrent.variance == pytest.approx(2.0 * gain**2, rel=1e-4)
    assert spec.target.reached < 30
    assert "slopes of slow units last" in spec.target.limit
    found = tied(spec, steps=100, particles=4000)[0]
    assert found.time_scale_over_T == pytest.approx(expected.time_scale_over_T, rel=0.05)
    assert found.second_moment == pytest.approx(expected.second_moment, rel=0.06)


@pytest.mark.parametrize("scheme", ["critical", "isometry"])
def test_a_normalized_cell_without_a_keep_gate_has_no_gains_from_them(scheme):
    with pytest.raises(SchemeError, match=f"{scheme} finds no gains .* normalized_rnn; schemes that suit .*orthogonal"):
        critinit.generate("normalized_rnn", 20, scheme=scheme)
    assert critinit.generate("normalized_rnn", 20, scheme="orthogonal").layers[0].predicted.tied.chi < 1


@pytest.mark.parametrize("power", [0.0, 1e-3, 1.0, 50.0])
@pytest.mark.parametrize("T", [5, 100, 3000])
def test_the_gains_have_closed_forms(T, power):
    """ReLU: σ² = 2·exp(−1/T), without bias or mean field.  Linear near 0: the edge f + (1 − f)·g = 1."""
    relu = critinit.generate("relu_rnn", T, input_variance=power).layers[0].gates["hidden"].recurrent
    assert relu.distribution == "orthogonal"
    assert relu.variance == pytest.approx(2.0 * math.exp(-1.0 / T), rel=1e-6)
    for cell in ("rnn", "leaky_tanh", "rate", "hard_tanh"):
        spec = critinit.generate(cell, T, input_variance=power)
        assert spec.layers[0].gates["hidden"].recurrent.variance == pytest.approx(1.0)
        if power:
            assert spec.target.reached == pytest.approx(T, rel=2e-3)
        else:  # nothing saturates, so nothing is forgotten
            assert spec.target.reached is None or spec.target.reached > 50 * T


def test_the_input_of_the_vanilla_rnn_costs_one_in_T():
    """h' = tanh(g Q h + …) at small q: χ ≈ 1 − 2 Var u, Var u = q + ν²R, so ν²R = 1/(2T²) at T → ∞."""
    gates = critinit.generate("rnn", 5000, input_variance=4.0).layers[0].gates
    assert gates["hidden"].input.variance * 4.0 == pytest.approx(1.0 / (2 * 5000**2), rel=1e-3)


def by_hand(step, slope, gain, power, width, T, rng):
    """E|δ_T|²/E|δ_0|² and E s² of networks with one orthogonal matrix; no code of critinit's."""
    courses, squares = [], []
    for _ in range(5):
        q, r = np.linalg.qr(rng.standard_normal((width, width)))
        w = gain * q * np.sign(np.diag(r))
        u_in = rng.standard_normal((width, width)) * math.sqrt(power / width)
        s, d = np.zeros(width), rng.choice([-1.0, 1.0], (width, 8))
        for t in range(4 * T + 100):
            u = w @ s + u_in @ rng.standard_normal(width)
            if t >= 3 * T + 100:
                d = slope(u, w @ d, d)
                squares.append(np.mean(s * s))
            s = step(u, s)
        courses.append(np.mean(d * d))
    return np.log(np.mean(courses)), np.mean(squares)


@pytest.mark.parametrize("T", [30, 100])
@pytest.mark.parametrize(
    ("cell", "step", "slope"),
    [
        ("rnn", lambda u, s: np.tanh(u), lambda u, wd, d: (wd.T / np.cosh(u) ** 2).T),
        (
            "leaky_tanh",
            lambda u, s: 0.7 * s + 0.3 * np.tanh(u),
            lambda u, wd, d: 0.7 * d + 0.3 * (wd.T / np.cosh(u) ** 2).T,
        ),
    ],
)
def test_networks_that_keep_their_weights_have_the_predicted_growth(cell, step, slope, T):
    spec = critinit.generate(cell, T)
    gate, expected = spec.layers[0].gates["hidden"], spec.layers[0].predicted.tied
    rng = np.random.default_rng(3)
    log_left, square = by_hand(step, slope, gate.recurrent.gain, gate.input.variance, 240, T, rng)
    assert log_left / T == pytest.approx(math.log(expected.chi_over_T), rel=0.05)
    assert square == pytest.approx(expected.second_moment, rel=0.08)
    if cell == "leaky_tanh":  # drawn anew at every step these weights would forget far sooner
        assert math.log(spec.layers[0].predicted.untied.chi_over_T) < 4 * log_left / T


def test_relu_networks_have_the_predicted_growth():
    """At T = 3, where ln χ is far from 0: networks of H units scatter by 1/√H."""
    spec = critinit.generate("relu_rnn", 3)
    gate, expected = spec.layers[0].gates["hidden"], spec.layers[0].predicted.tied
    rng = np.random.default_rng(5)
    log_left, square = by_hand(
        lambda u, s: np.maximum(u, 0.0),
        lambda u, wd, d: (wd.T * (u > 0)).T,
        gate.recurrent.gain,
        gate.input.variance,
        600,
        3,
        rng,
    )
    assert log_left / 3 == pytest.approx(-1.0 / 3.0, rel=0.1)
    assert square == pytest.approx(expected.second_moment, rel=0.15)


# ---- weights that stay -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["rnn", "relu_rnn", "hard_tanh"])
def test_without_a_memory_of_its_own_tying_changes_nothing(cell):
    """The sampled theory, which follows particles in fields that stay, against the exact averages."""
    bias = {"distribution": "normal", "mean": 0.2, "variance": 0.4}
    gates = {"hidden": {**points.gate(1.1, 0.6, 0.0), "bias": bias}}
    spec = points.spec(cell, gates)
    exact = fast_numbers(spec)
    assert exact == untied_numbers(spec, spec.layers[0])
    sampled = tied(spec, particles=1500, steps=60)[0]
    assert sampled.second_moment == pytest.approx(exact.second_moment, rel=0.03)
    assert math.log(sampled.chi) == pytest.approx(math.log(exact.chi), abs=0.01 + 3 * sampled.standard_error["chi"])


@pytest.mark.parametrize("cell", ["rnn", "relu_rnn"])
def test_a_further_layer_is_exact_too_although_it_reads_states_that_last(cell):
    """The sampled theory, whose upper layer reads the particles below, against the exact averages."""
    spec = critinit.generate(cell, 4, layers=2)
    exact = fast_numbers(spec, 1)
    assert (
        exact
        == spec.layers[1].predicted.tied
        == spec.layers[1].predicted.untied.model_copy(update={"notes": exact.notes})
    )
    sampled = tied_layer(find_cell(cell), spec.layers[1], T=4, particles=2000, steps=60, below=spec.layers[:1])
    assert sampled.second_moment == pytest.approx(exact.second_moment, rel=0.06)
    assert math.log(sampled.chi) == pytest.approx(math.log(exact.chi), abs=0.01 + 3 * sampled.standard_error["chi"])


def test_a_spec_of_two_layers_keeps_its_kernels_in_the_sampled_theory():
    """A cell that keeps nothing has no kernel small enough to be left out, whatever tying them changes."""
    layer = predict(points.spec("rnn", {"hidden": points.gate(1.1, 0.6, 0.0)})).layers[0]
    assert _without_small_kernels(find_cell("rnn"), layer, 100).groups == layer.groups


def estimated(keep, frozen, moving, steps):
    """ln E|δ_T|²/E|δ_0|² of units that all keep f, with couplings of persistent part s and fluctuating part w."""
    response = Response(np.ones(1), np.array([keep]), np.array([[frozen]]), np.ones((1, 1)))
    fluctuations = Fluctuations(np.zeros(1), np.array([[moving]]), np.zeros((1, 1)), np.zeros((1, 1)))
    return log_retention(response, fluctuations, growth(response, fluctuations), steps)


@pytest.mark.parametrize(("keep", "frozen", "moving"), [(0.7, 0.09, 0.0), (0.7, 0.05, 0.04), (0.0, 0.3, 0.2)])
def test_the_course_is_that_of_a_power_of_a_random_matrix(keep, frozen, moving):
    """Σ_j C(t, j)² f^(2t−2j) sʲ by exact sums; with w, networks of a matrix and diagonals that change."""
    steps = 12
    left = [sum(math.comb(t, j) ** 2 * keep ** (2 * t - 2 * j) * frozen**j for j in range(t + 1)) for t in range(13)]
    for t in range(1, steps + 1):
        left[t] += moving * sum(
            left_before * _course(keep, frozen, t - 1 - j) for j, left_before in enumerate(left[:t])
        )
        assert estimated(keep, frozen, moving, t) == pytest.approx(math.log(left[t]), abs=2e-6)
    rng = np.random.default_rng(2)
    width, found = 300, []
    for _ in range(6):
        w = rng.standard_normal((width, width)) / math.sqrt(width)
        d = rng.standard_normal((width, 6))
        for _ in range(steps):
            a = math.sqrt(frozen) + math.sqrt(moving) * rng.standard_normal((width, 1))
            d = keep * d + a * (w @ d)
        found.append(np.mean(d * d))
    assert math.log(np.mean(found)) == pytest.approx(estimated(keep, frozen, moving, steps), abs=0.1)


def _course(keep, frozen, t):
    return sum(math.comb(t, j) ** 2 * keep ** (2 * t - 2 * j) * frozen**j for j in range(t + 1))


def test_a_long_course_goes_on_as_a_power_of_time():
    """Without w the band ends at (f + √s)², and there p_t ~ 1/√t: 4,000 against exact sums of logarithms."""
    from scipy.special import gammaln, logsumexp

    t = 4000
    j = np.arange(t + 1)
    terms = (
        2 * (gammaln(t + 1) - gammaln(j + 1) - gammaln(t - j + 1)) + 2 * (t - j) * math.log(0.7) + j * math.log(0.09)
    )
    assert estimated(0.7, 0.09, 0.0, t) == pytest.approx(logsumexp(terms), abs=1e-4)


# ---- reservoirs ------------------------------------------------------------------------------------------


def reservoir(cell, radius, density, power, T):
    recurrent = {"distribution": "spectral_radius", "spectral_radius": radius, "density": density}
    gates = {"hidden": {**points.gate(0.0, power, 0.0), "recurrent": recurrent}}
    return predict(points.spec(cell, gates).model_copy(update={"T": T}))


@pytest.mark.parametrize(
    ("cell", "radius", "density", "power", "T"),
    [
        ("leaky_tanh", 0.9, 0.1, 0.1, 50),
        ("leaky_tanh", 0.9, 0.1, 1.0, 20),
        ("leaky_tanh", 1.25, 0.1, 0.5, 50),
        ("rnn", 0.9, 0.1, 0.1, 50),
    ],
)
def test_reservoirs_are_what_theory_says(cell, radius, density, power, T):
    """Growth, and with it the retention, and the second moment, within the limits of every comparison."""
    width = 300
    expected = predict(at_width(reservoir(cell, radius, density, power, T), width)).layers[0].predicted.tied
    found = simulate(reservoir(cell, radius, density, power, T), width=width, seeds=8, steps=max(T, 100))[0].numbers
    compared = comparisons(expected, found, T, errors=2.0, width=width)
    assert {c.field for c in compared} >= {"second_moment", "chi_over_T"}
    assert all(c.agrees and c.decides for c in compared if c.field != "chi"), compared


@pytest.mark.parametrize(
    ("radius", "power", "rough"), [(0.9, 0.1, False), (0.95, 0.05, False), (1.25, 0.5, False), (1.6, 0.01, True)]
)
def test_leaky_units_are_called_rough_where_the_estimate_is_off(radius, power, rough):
    """Held to the sampled theory; all are amplified 1.5 to 100 times, but only fluctuating couplings mislead."""
    spec = reservoir("leaky_tanh", radius, 0.1, power, 50)
    stated = spec.layers[0].predicted.tied
    full = tied_layer(spec.find_cell(), spec.layers[0], T=50, particles=500, steps=100, tolerance=0.02)
    chance = 3.0 * full.standard_error["second_moment"] / full.second_moment
    off = abs(math.log(stated.second_moment / full.second_moment))
    assert (ROUGH in stated.notes) is rough
    assert (off > 0.05 + chance) if rough else (off < 0.02 + chance)
    assert chance < 0.05


def test_a_prediction_for_wide_networks_misses_a_narrow_reservoir():
    spec = reservoir("leaky_tanh", 0.9, 0.1, 0.1, 50)
    found = simulate(spec, width=300, seeds=8, steps=100)[0].numbers
    wide = {c.field: c for c in comparisons(spec.layers[0].predicted.tied, found, 50, errors=2.0, width=300)}
    assert not all(c.agrees for c in wide.values())


@pytest.mark.parametrize("width", [32, 128, 400])
def test_the_variance_of_a_drawn_reservoir_is_the_stated_one(width):
    drawn = kernel("spectral_radius", spectral_radius=1.5, density=0.5)
    rng = np.random.default_rng(width)
    found = np.array([np.sum(drawn.sample(rng, width, width) ** 2) / width for _ in range(12_000 // width)])
    error = found.std(ddof=1) / math.sqrt(len(found))
    assert found.mean() == pytest.approx(drawn.variance_at(width, width), abs=3 * error + 0.01 * 2.25)
    assert drawn.variance == 2.25
