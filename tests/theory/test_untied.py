"""The untied theory three ways: the package, formulas by hand (``reference``), simulated networks and particles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import trapezoid

import critinit
from critinit.cells import find_cell
from critinit.simulation import simulate
from critinit.spec.reading import validate_object
from critinit.theory.analysis import analyze
from critinit.theory.parameters import grid_parameters, layer_parameters
from critinit.theory.untied import solution
from critinit.theory.untied.averages import Memory
from critinit.theory.untied.solution import solve, solve_driven
from tests.theory import points, reference
from tests.theory.reference import Gate, sigmoid

pytestmark = pytest.mark.slow

GRU = {"update": Gate(0.5, 0.5, 2), "reset": Gate(0.7, 0.3, 1), "candidate": Gate(1.5, 0.8, 0)}
LSTM = {
    "input": Gate(0.6, 0.4, -1),
    "forget": Gate(0.5, 0.3, 2),
    "cell": Gate(1.2, 1, 0),
    "output": Gate(0.8, 0.2, 0.5),
}
PEEPHOLE = {"input": Gate(0.2, 0.4, -2), "forget": Gate(0.1, 0.3, 1), "cell": Gate(0.6, 1, 0)}
RNN = {"hidden": Gate(1.2, 0.3, 0, 0.1)}
MINIMAL = {"update": Gate(6.88**2, 1.39**2, 0)}


def params(cell, gates, r=1.0, c=1.0, **options):
    parts = {
        name: {"recurrent": g.recurrent, "input": g.input, "mean": g.mean, "variance": g.variance, **options}
        for name, g in gates.items()
    }
    return grid_parameters(cell, parts, input_variance=r, input_correlation=c)


def spec(cell, gates, r=1.0, c=1.0, kernel="normal", T=100):
    def bias(g):
        return {
            "distribution": "normal" if g.variance else "constant",
            "mean": float(g.mean),
            "variance": g.variance,
        }

    layer = {
        "input": {"variance": r, "correlation": c},
        "gates": {
            name: {
                "recurrent": {"distribution": kernel, "variance": g.recurrent},
                "input": {"distribution": "normal", "variance": float(g.input)},
                "bias": bias(g),
            }
            for name, g in gates.items()
        },
    }
    data = {"schema_version": 1, "cell": cell, "scheme": "custom", "T": T, "layers": [layer]}
    return validate_object(data)


# cell, gates, R, published check numbers: Q, χ, variance (None: not published)
CHECKS = [
    pytest.param("gru_reset_before", GRU, 1.0, 0.038172, 0.762117, 0.0355, id="gru_reset_before"),
    pytest.param("gru", GRU, 1.0, 0.038171, 0.762105, 0.0356, id="gru"),
    pytest.param("peephole_lstm", PEEPHOLE, 1.0, 0.019832, 0.535453, None, id="peephole_lstm"),
    pytest.param("rnn", RNN, 1.0, 0.361469, 0.596707, 0.532122, id="rnn"),
    pytest.param("minimal_rnn", MINIMAL, 0.46, 0.317897, None, None, id="minimal_rnn"),
]


@pytest.mark.parametrize(("cell", "gates", "r", "q", "chi", "variance"), CHECKS)
def test_check_numbers(cell, gates, r, q, chi, variance):
    found = solve(params(cell, gates, r))
    assert bool(found.converged)
    assert float(found.second_moment) == pytest.approx(q, abs=6e-7)
    if chi is not None:
        assert float(found.chi) == pytest.approx(chi, abs=6e-7)
        assert float(found.jacobian_mean) == pytest.approx(float(found.chi), rel=1e-9)
    if variance is not None:
        assert float(found.jacobian_variance) == pytest.approx(variance, rel=0.01)


def test_lstm_check_numbers():
    found = solve(params("lstm", LSTM))
    assert float(found.memory_moment) == pytest.approx(0.1634, rel=0.01)
    assert float(found.second_moment) == pytest.approx(0.0492, rel=0.01)
    assert float(found.chi) == pytest.approx(0.777, rel=0.01)
    assert float(found.jacobian_mean) == pytest.approx(0.778, rel=0.01)
    assert float(found.jacobian_variance) == pytest.approx(0.0425, rel=0.01)


BY_HAND = {
    "gru_reset_before": lambda g, r: reference.gru(*g.values(), after=False, r=r),
    "gru": lambda g, r: reference.gru(*g.values(), after=True, r=r),
    "peephole_lstm": lambda g, r: reference.peephole_lstm(*g.values(), r=r),
    "rnn": lambda g, r: reference.rnn(*g.values(), r=r),
    "minimal_rnn": lambda g, r: reference.minimal_rnn(*g.values(), r=r),
}


def random_gates(cell, rng):
    names = {"gru": GRU, "gru_reset_before": GRU, "peephole_lstm": PEEPHOLE, "rnn": RNN, "minimal_rnn": MINIMAL}[cell]
    return {
        name: Gate(
            float(rng.uniform(0.1, 1.5)),
            float(rng.uniform(0.1, 1)),
            float(rng.normal(0, 1)),
            float(rng.uniform(0, 0.3)),
        )
        for name in names
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cell", BY_HAND)
def test_agrees_with_formulas_derived_by_hand(cell, seed):
    rng = np.random.default_rng(seed)
    gates, r = random_gates(cell, rng), float(rng.uniform(0.3, 1.5))
    found, by_hand = solve(params(cell, gates, r)), BY_HAND[cell](gates, r)
    assert float(found.second_moment) == pytest.approx(by_hand.second_moment, abs=1e-8)
    assert float(found.chi) == pytest.approx(by_hand.chi, abs=1e-8)
    if not np.isnan(by_hand.variance):
        assert float(found.jacobian_variance) == pytest.approx(by_hand.variance, abs=2e-8)


@pytest.mark.parametrize(("cell", "gates", "r", "q", "chi", "variance"), CHECKS)
def test_error_of_the_order_is_below_1e_8(cell, gates, r, q, chi, variance):
    once, twice = solve(params(cell, gates, r)), solve(params(cell, gates, r), order=2.0)
    for name in ("second_moment", "chi", "jacobian_mean", "jacobian_variance"):
        a, b = float(getattr(once, name)), float(getattr(twice, name))
        assert abs(a - b) < 1e-8 * max(1.0, abs(b)), name


def test_minimal_rnn_at_the_published_critical_point():
    """The published χ = .998774 holds to 6e-6: adaptive integration and the rule here give .9987795."""
    found = solve(params("minimal_rnn", MINIMAL, r=0.46))
    assert float(found.chi) == pytest.approx(reference.minimal_rnn(MINIMAL["update"], 0.46).chi, abs=1e-8)
    assert float(found.chi) == pytest.approx(0.998774, abs=1e-5)


def lstm_particles(gates, q, n=400_000, steps=150, seed=0, r=1.0):
    """E c², E h² and χ of the LSTM from scalar particles: the pair (δc², δh²) beside the state itself."""
    rng = np.random.default_rng(seed)
    s = reference.sigmoid

    def pre_activation(name):
        g = gates[name]
        return g.mean + np.sqrt(g.recurrent * q + g.input * r + g.variance) * rng.standard_normal(n)

    c, dc, dh, growth = np.zeros(n), np.ones(n), 0.0, []
    for step in range(steps):
        f, i, g, o = (
            s(pre_activation("forget")),
            s(pre_activation("input")),
            np.tanh(pre_activation("cell")),
            s(pre_activation("output")),
        )
        v = gates["forget"].recurrent * (f * (1 - f) * c) ** 2 + gates["input"].recurrent * (i * (1 - i) * g) ** 2
        v = v + gates["cell"].recurrent * (i * (1 - g**2)) ** 2
        c, dc = f * c + i * g, f**2 * dc + v * dh
        dh_new = np.mean(o**2 * (1 - np.tanh(c) ** 2) ** 2 * dc)
        dh_new += gates["output"].recurrent * np.mean((o * (1 - o)) ** 2 * np.tanh(c) ** 2) * dh
        if step >= steps // 2:
            growth.append(np.mean(dc))
        scale = np.mean(dc)
        if step >= steps // 2:
            growth[-1] = np.log(scale)
        dc, dh = dc / scale, dh_new / scale
    return np.mean(c**2), np.mean(o**2) * np.mean(np.tanh(c) ** 2), np.exp(np.mean(growth))


@pytest.mark.parametrize(
    "gates",
    [
        pytest.param(LSTM, id="check point"),
        pytest.param({**LSTM, "forget": Gate(0.5, 0.3, 3), "input": Gate(0.6, 0.4, 0)}, id="wide memory"),
        pytest.param({**LSTM, "forget": Gate(0.2, 0.0, 3), "input": Gate(0.2, 0.0, -3)}, id="narrow memory"),
    ],
)
def test_lstm_agrees_with_particles(gates):
    found = solve(params("lstm", gates))
    c2, h2, chi = lstm_particles(
        gates, float(found.second_moment), steps=400 if gates["forget"].mean > 2 else 150, n=100_000
    )
    assert float(found.memory_moment) == pytest.approx(c2, rel=0.02)
    assert float(found.second_moment) == pytest.approx(h2, rel=0.01)
    assert float(np.log(found.chi)) == pytest.approx(np.log(chi), rel=0.01)


NETWORKS = [
    pytest.param("gru_reset_before", GRU, 1.0, id="gru_reset_before"),
    pytest.param("gru", GRU, 1.0, id="gru"),
    pytest.param("lstm", LSTM, 1.0, id="lstm"),
    pytest.param("peephole_lstm", PEEPHOLE, 1.0, id="peephole_lstm"),
    pytest.param("rnn", RNN, 1.0, id="rnn"),
]


@pytest.mark.parametrize("kernel", ["normal", "orthogonal"])
@pytest.mark.parametrize(("cell", "gates", "r"), NETWORKS)
def test_agrees_with_simulated_untied_networks(cell, gates, r, kernel):
    """Width 400, 4 networks: 4 standard errors, and 2 % for the finite width."""
    the_spec = spec(cell, gates, r, kernel=kernel)
    theory = analyze(the_spec, weights="untied").layers[0].untied
    measured = simulate(the_spec, width=400, steps=120, seeds=4, weights="untied", seed=3)[0].numbers
    error = measured.standard_error
    for name, a, b in (
        ("second_moment", theory.second_moment, measured.second_moment),
        ("chi", theory.chi, measured.chi),
        (
            "jacobian.mean_squared_singular_value",
            theory.jacobian.mean_squared_singular_value,
            measured.jacobian.mean_squared_singular_value,
        ),
        ("jacobian.variance", theory.jacobian.variance, measured.jacobian.variance),
    ):
        finite_width = 0.05 if name == "jacobian.variance" else 0.02
        assert abs(a - b) <= 4 * error[name] + finite_width * a, (name, a, b, error[name])


def test_a_wrong_formula_is_caught(monkeypatch):
    """The harness can fail: swap the derivative of the keep gate for its value and the hand-made formulas object."""
    honest = Memory.moment
    monkeypatch.setattr(Memory, "moment", lambda self, a, b, c, d: honest(self, a + b, 0, c + d, 0))
    wrong = solve(params("gru_reset_before", GRU))
    by_hand = reference.gru(*GRU.values(), after=False)
    assert abs(float(wrong.second_moment) - by_hand.second_moment) < 1e-8
    assert abs(float(wrong.chi) - by_hand.chi) > 1e-2


def test_a_wrong_jacobian_is_caught(monkeypatch):
    """Leaving out the orthogonal correction is seen by the simulated network's spectrum."""
    the_spec = spec("rnn", RNN, kernel="orthogonal")
    wrong = solve(params("rnn", RNN))
    right = solve(layer_parameters(the_spec.find_cell(), the_spec.layers[0]))
    measured = simulate(the_spec, width=400, steps=60, seeds=4, weights="untied", seed=1)[0].numbers
    tolerance = 4 * measured.standard_error["jacobian.variance"] + 0.05 * float(right.jacobian_variance)
    assert abs(float(right.jacobian_variance) - measured.jacobian.variance) <= tolerance
    assert abs(float(wrong.jacobian_variance) - measured.jacobian.variance) > tolerance


@pytest.mark.parametrize(("cell", "gates", "r"), NETWORKS)
def test_grid_equals_its_points(cell, gates, r):
    name = next(iter(gates))
    sigma = np.linspace(0.1, 1.2, 5)[:, None]
    variance = np.array([0.5, 1.0])
    parts = {n: {"recurrent": g.recurrent, "input": g.input, "mean": g.mean} for n, g in gates.items()}
    parts[name] = parts[name] | {"recurrent": sigma}
    grid = solve(grid_parameters(cell, parts, input_variance=variance))
    assert grid.chi.shape == (5, 2)
    point = solve(grid_parameters(cell, parts | {name: parts[name] | {"recurrent": sigma[3, 0]}}, input_variance=1.0))
    assert float(grid.chi[3, 1]) == pytest.approx(float(point.chi), rel=1e-6)
    assert float(grid.retention(10)[3, 1]) == pytest.approx(float(point.retention(10)), rel=1e-5)


def test_large_grid_is_solved_in_parts(monkeypatch):
    gates = {n: {"recurrent": g.recurrent, "input": g.input, "mean": g.mean} for n, g in GRU.items()}
    gates["update"] = gates["update"] | {"mean": np.linspace(0, 3, 12).reshape(3, 4)}
    whole = solve(grid_parameters("gru", gates))
    monkeypatch.setattr(solution, "_CHUNK", 5)
    parts = solve(grid_parameters("gru", gates))
    np.testing.assert_allclose(parts.chi, whole.chi, rtol=1e-9)
    np.testing.assert_allclose(parts.unit_time_constants, whole.unit_time_constants, rtol=1e-9)
    np.testing.assert_allclose(parts.retention(7), whole.retention(7), rtol=1e-8)


class TestPairs:
    """Two copies whose inputs have correlation below 1."""

    @pytest.mark.parametrize(("cell", "gates", "r"), NETWORKS)
    def test_reach_the_single_copy_as_the_correlation_reaches_1(self, cell, gates, r):
        one, near = solve(params(cell, gates, r)), solve(params(cell, gates, r, c=1 - 1e-6))
        assert float(near.chi) == pytest.approx(float(one.chi), rel=2e-3)
        assert float(near.second_moment) == pytest.approx(float(one.second_moment), rel=1e-9)

    def test_vanilla_rnn_against_a_two_dimensional_integral(self):
        g, c, r = RNN["hidden"], 0.4, 1.0
        q = reference.rnn(g).second_moment
        a, b = np.meshgrid(reference.Z, reference.Z)
        weight = np.outer(reference.W, reference.W)

        def average(function, product):
            variance = g.recurrent * q + g.input * r + g.variance
            covariance = g.recurrent * product + g.input * r * c + g.variance
            second = covariance / variance * a + np.sqrt(1 - (covariance / variance) ** 2) * b
            return float(np.sum(weight * function(np.sqrt(variance) * a) * function(np.sqrt(variance) * second)))

        product = reference.fixed_point(lambda p: average(np.tanh, p), start=0.9 * q)
        found = solve(params("rnn", RNN, c=c))
        assert float(found.product_moment) == pytest.approx(product, abs=1e-8)
        chi = g.recurrent * average(lambda u: 1 - np.tanh(u) ** 2, product)
        assert float(found.chi) == pytest.approx(chi, abs=1e-8)

    @pytest.mark.parametrize(("cell", "gates"), [("gru", GRU), ("gru_reset_before", GRU), ("lstm", LSTM)])
    def test_against_particles_of_two_copies(self, cell, gates):
        c, n, steps = 0.5, 200_000, 60
        found = solve(params(cell, gates, c=c))
        q, p = float(found.second_moment), float(found.product_moment)
        product = two_copies(cell, gates, q, p, c, n, steps)
        assert p == pytest.approx(product, rel=0.02)


def two_copies(cell, gates, q, p, c, n, steps):
    """E h h' when the messages have the moments q and p: independent of the package's quadrature."""
    rng = np.random.default_rng(5)
    s = reference.sigmoid

    def pair(variance, covariance):
        shared, own = np.sqrt(covariance), np.sqrt(variance - covariance)
        z = rng.standard_normal(n)
        return shared * z + own * rng.standard_normal(n), shared * z + own * rng.standard_normal(n)

    def pre_activations(name, message=q, product=p):
        g = gates[name]
        a, b = pair(g.recurrent * message + g.input + g.variance, g.recurrent * product + g.input * c + g.variance)
        return g.mean + a, g.mean + b

    state = np.zeros((2, n))
    for _ in range(steps):
        if cell == "lstm":
            (f, i, g, o) = (pre_activations(name) for name in ("forget", "input", "cell", "output"))
            state = np.array([s(f[k]) * state[k] + s(i[k]) * np.tanh(g[k]) for k in (0, 1)])
            h = np.array([s(o[k]) * np.tanh(state[k]) for k in (0, 1)])
            continue
        f, r = pre_activations("update"), pre_activations("reset")
        g = gates["candidate"]
        if cell == "gru":
            e, y = pair(g.input, g.input * c), pair(g.recurrent * q, g.recurrent * p)
            candidate = [np.tanh(g.mean + e[k] + s(r[k]) * y[k]) for k in (0, 1)]
        else:
            r = (s(r[0]), s(r[1]))
            u = pre_activations("candidate", np.mean(r[0] ** 2) * q, np.mean(r[0] * r[1]) * p)
            candidate = [np.tanh(u[k]) for k in (0, 1)]
        state = np.array([s(f[k]) * state[k] + (1 - s(f[k])) * candidate[k] for k in (0, 1)])
        h = state
    return float(np.mean(h[0] * h[1]))


class TestSpreadBiases:
    """Units whose biases differ for good are classes of their own."""

    def _spec(self, sigma=1e-5, T=200, cell="gru"):
        import critinit

        base = critinit.generate(cell, T, padding={"variance": 1.0})
        assert base.layers[0].gates[base.find_cell().keep_gate].bias.distribution == "log_uniform_time"
        return base

    @pytest.mark.parametrize("cell", ["gru", "lstm"])
    def test_against_particles_with_biases_of_their_own(self, cell):
        the_spec = self._spec(cell=cell)
        numbers = analyze(the_spec, weights="untied").layers[0].untied
        measured = simulate(the_spec, width=800, steps=250, seeds=3, weights="untied", seed=2)[0].numbers
        error = measured.standard_error
        assert (
            abs(numbers.second_moment - measured.second_moment)
            <= 4 * error["second_moment"] + 0.03 * numbers.second_moment
        )
        assert abs(numbers.retention - measured.retention) <= 4 * error["retention"] + 0.1 * numbers.retention

    def test_retention_of_shut_gates_is_a_plain_average(self):
        """Without inputs every unit keeps f² a step: E f^(2T), integrated by hand over ln τ."""
        zero = {"distribution": "zero", "variance": 0.0}
        gates = {
            name: {"recurrent": zero, "input": zero, "bias": {"distribution": "constant", "mean": 0.0}}
            for name in ("update", "reset", "candidate")
        }
        gates["update"]["bias"] = {"distribution": "log_uniform_time", "min_time": 1.05, "max_time": 500.0}
        data = {"schema_version": 1, "cell": "gru", "scheme": "custom", "T": 300}
        the_spec = validate_object(data | {"layers": [{"input": {"variance": 1.0}, "gates": gates}]})
        numbers = analyze(the_spec, weights="untied").layers[0].untied
        log_time = np.linspace(np.log(1.05), np.log(500.0), 200_001)
        exact = trapezoid((1 - np.exp(-log_time)) ** 600, log_time) / (log_time[-1] - log_time[0])
        assert numbers.retention == pytest.approx(exact, rel=1e-4)
        assert numbers.chi == pytest.approx((1 - 1 / 500.0) ** 2, abs=1e-6)
        assert numbers.unit_time_constants.max == pytest.approx(500.0, rel=1e-5)
        assert numbers.unit_time_constants.median == pytest.approx(np.sqrt(1.05 * 500), rel=1e-5)


def test_identity_has_no_untied_reading():
    the_spec = spec("rnn", RNN, kernel="identity")
    assert analyze(the_spec, weights="untied").layers[0].untied is None


def test_unstable_rest_gives_the_state_that_a_kick_finds():
    """Without input and bias rest is a fixed point; above σ² = 1 it is not where the network ends."""
    quiet = solve(params("rnn", {"hidden": Gate(0.8, 0.0, 0.0)}))
    loud = solve(params("rnn", {"hidden": Gate(2.0, 0.0, 0.0)}))
    assert float(quiet.second_moment) == 0.0
    assert float(quiet.chi) == pytest.approx(0.8)
    assert float(loud.second_moment) == pytest.approx(reference.rnn(Gate(2.0, 0.0, 0.0)).second_moment, abs=1e-8)


@pytest.mark.parametrize("power", [1.0, 0.1, 0.03, 1e-2, 1e-3, 1e-6])
def test_a_narrow_memory_is_resolved(power):
    """Held to particles of the untied recursion: small inputs leave a distribution far narrower than tanh's scale."""
    spec = critinit.generate("lstm", 30, scheme="keras", input_variance=power)
    numbers, gates = spec.layers[0].predicted.untied, spec.layers[0].gates
    rng, count = np.random.default_rng(3), 400_000
    c, h2 = np.zeros(count), 0.0

    def drawn(name):
        gate = gates[name]
        variance = gate.recurrent.variance * h2 + gate.input.variance * power
        return gate.bias.mean + math.sqrt(variance) * rng.standard_normal(count)

    for _ in range(60):
        c = sigmoid(drawn("forget")) * c + sigmoid(drawn("input")) * np.tanh(drawn("cell"))
        h2 = np.mean((sigmoid(drawn("output")) * np.tanh(c)) ** 2)
    assert numbers.second_moment == pytest.approx(h2, rel=0.015)
    assert numbers.cell_second_moment == pytest.approx(np.mean(c**2), rel=0.015)
    assert numbers.retention == pytest.approx(numbers.chi**30, rel=0.2)


@pytest.mark.parametrize("scheme", ["keras", "orthogonal"])
@pytest.mark.parametrize("cell", ["lstm", "coupled_lstm"])
def test_no_input_leaves_a_linear_network(cell, scheme):
    """At rest a unit's c and h obey δc' = f δc + i g' u_g, δh = o δc: χ is known in closed form."""
    spec = critinit.generate(cell, 30, scheme=scheme, input_variance=0.0)
    numbers, gates = spec.layers[0].predicted.untied, spec.layers[0].gates
    keep = sigmoid(gates["forget"].bias.mean)
    write = 1 - keep if cell == "coupled_lstm" else sigmoid(gates["input"].bias.mean)
    candidate = gates["cell"].recurrent.variance
    chi = keep**2 + candidate * (write * sigmoid(gates["output"].bias.mean)) ** 2
    assert numbers.chi == pytest.approx(chi, rel=1e-5)
    assert (numbers.second_moment, numbers.cell_second_moment) == (0, 0)
    assert numbers.retention > 0


@pytest.mark.parametrize("cell", ["rnn", "gru", "gru_reset_before", "mgu", "lstm", "coupled_lstm", "peephole_lstm"])
def test_a_driven_candidate_is_that_of_a_layer_whose_inputs_give_what_its_loop_does_not(cell):
    the_cell = find_cell(cell)

    def parameters(variance):
        gates = {name: points.gate(0, 0, 0.7) for name in the_cell.gates}
        gates[the_cell.candidate_gate] = points.gate(0.8, variance, 0.1)
        return layer_parameters(the_cell, points.spec(cell, gates).layers[0])

    numbers, back = solve_driven(parameters(0.4))
    whole = solve(parameters(0.4 - back))
    assert 0.0 < back < 0.4
    for name in ("chi", "memory_moment", "jacobian_mean"):
        assert getattr(numbers, name) == pytest.approx(getattr(whole, name), rel=1e-8)
    assert numbers.retention(20) == pytest.approx(whole.retention(20), rel=1e-7)


@pytest.mark.parametrize("T", [100, 784, 2000, 10_000])
def test_the_growth_of_a_narrow_memory_is_that_of_its_saturation(T):
    """A shut LSTM's loop of gain 1 that is driven a little, by hand: χ is its gain times E sech⁴(u)·sech⁴(i tanh u)."""
    z, w = np.polynomial.hermite_e.hermegauss(60)
    shut, opened = -math.log(T / 0.01), 5.0
    i = 1.0 / (1.0 + math.exp(-opened))
    loop = (1.0 - 1.0 / (1.0 + math.exp(-shut))) / i**2
    for share in (0.25, 1.0):
        gates = {
            "input": points.gate(0, 0, opened),
            "forget": points.gate(0, 0, shut),
            "cell": points.gate(loop**2, share / T, 0),
            "output": points.gate(0, 0, opened),
        }
        found, back = solve_driven(layer_parameters(find_cell("lstm"), points.spec("lstm", gates).layers[0]))
        u = math.sqrt(share / T) * z
        by_hand = loop**2 * i**4 * float(w @ (np.cosh(u) * np.cosh(i * np.tanh(u))) ** -4.0) / w.sum()
        assert math.log(found.chi) == pytest.approx(math.log(by_hand), rel=0.005 + 10.0 / T**2)
        assert 0.0 < back < share / T


@pytest.mark.parametrize("variance", [1.0, 4.0])
@pytest.mark.parametrize(("gate", "of"), [("input", "forget"), ("output", "forget"), ("output", "input")])
@pytest.mark.parametrize("sign", [-1, 1])
def test_gates_that_share_a_normal_bias_open_together(gate, of, sign, variance):
    """E h² of an LSTM without recurrent kernels, by hand: all numbers of all units and steps are drawn anew."""
    gates = {name: points.gate(0.0, 1.0, 0.5) for name in ("input", "forget", "cell", "output")}
    gates[of]["bias"] = {"distribution": "normal", "mean": 1.0, "variance": variance}
    gates[gate]["bias"] = {"distribution": "coupled", "to": of, "sign": sign}
    found = solve(layer_parameters(find_cell("lstm"), points.spec("lstm", gates).layers[0]))
    rng, units = np.random.default_rng(0), 100_000
    c = np.zeros(units)
    moments = []
    for step in range(60):
        biases = dict.fromkeys(gates, np.full(units, 0.5))
        biases[of] = 1.0 + math.sqrt(variance) * rng.standard_normal(units)
        biases[gate] = sign * biases[of]
        u = {name: rng.standard_normal(units) + biases[name] for name in gates}
        c = sigmoid(u["forget"]) * c + sigmoid(u["input"]) * np.tanh(u["cell"])
        if step >= 30:
            moments.append(np.mean((sigmoid(u["output"]) * np.tanh(c)) ** 2))
    assert found.second_moment == pytest.approx(np.mean(moments), rel=0.005)
