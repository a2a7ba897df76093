"""Normalized cells: formulas by hand, networks written out here, specs, weights and schemes.

The networks share no code with the package: matrices of NumPy, normalization by mean and deviation, derivatives by
complex steps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest

import critinit
from critinit.errors import ArgumentError, CellError, SpecError
from critinit.spec.model import NotComputed
from critinit.spec.overrides import override
from critinit.spec.reading import validate_object
from critinit.tensors.sampling import draw
from critinit.theory.analysis import fast_numbers, tied_numbers, untied_numbers
from critinit.theory.requirements import requirements
from critinit.theory.tied import particles
from critinit.theory.tied.solution import tied
from critinit.theory.untied.solution import solve_layer
from tests.theory import points, reference

pytestmark = pytest.mark.slow

TINY = 1e-30
"""The complex step."""
ORDER = {"lstm": ("input", "forget", "cell", "output"), "gru": ("update", "reset", "candidate")}
POINTS = {
    "layernorm_gru": points.layernorm_gru,
    "layernorm_lstm": points.layernorm_lstm,
    "layernorm_lstm_kept": points.layernorm_lstm_kept,
}


def untied(spec):
    return untied_numbers(spec, spec.layers[0])


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def norm(y):
    """Over units, the first axis; analytic, so complex steps go through."""
    y = y - y.mean(axis=0)
    return y / np.sqrt((y * y).mean(axis=0))


# ---- networks by hand --------------------------------------------------------------------------------------


def matrix(kernel, rows, columns, rng):
    z = rng.standard_normal((rows, columns))
    if kernel.distribution == "orthogonal":
        q, r = np.linalg.qr(z)
        return math.sqrt(kernel.variance) * q * np.sign(np.diag(r))
    return z * math.sqrt(kernel.variance / columns)


class Network:
    """One layer of N units; ``state`` is (c or h, h), columns are copies; ``fused``: one norm over all gates."""

    def __init__(self, spec, width, seed, *, fused=False):
        self.spec, self.layer, self.fused = spec, spec.layers[0], fused
        self.lstm, self.keeps = "lstm" in spec.cell, spec.cell.endswith("kept")
        self.width, self.rng = width, np.random.default_rng(seed)
        self.names = ORDER["lstm" if self.lstm else "gru"]
        gates = self.layer.gates
        self.w = {n: matrix(gates[n].recurrent, width, width, self.rng) for n in self.names}
        self.u = {n: matrix(gates[n].input, width, width, self.rng) for n in self.names}

    def redraw(self):
        gates = self.layer.gates
        self.w = {n: matrix(gates[n].recurrent, self.width, self.width, self.rng) for n in self.names}

    def input(self):
        return self.rng.standard_normal(self.width) * math.sqrt(self.layer.input.variance)

    def normed(self, kernels, x):
        products = {n: k @ x for n, k in kernels.items()}
        if not self.fused:
            return {n: norm(y) for n, y in products.items()}
        together = norm(np.concatenate(list(products.values())))
        return dict(zip(products, np.split(together, len(products)), strict=True))

    def step(self, state, x):
        c, h = state
        gates, gain = self.layer.gates, self.layer.memory_gain
        recurrent = self.normed(self.w, h) if np.any(h) else dict.fromkeys(self.names, 0.0 * h)
        fed = self.normed(self.u, x)
        fed = {n: (gates[n].input_gain * y + gates[n].bias.mean)[:, None] for n, y in fed.items()}
        back = {n: gates[n].recurrent_gain * y for n, y in recurrent.items()}
        if not self.lstm:
            f, r = sigmoid(fed["update"] + back["update"]), sigmoid(fed["reset"] + back["reset"])
            new = f * h + (1 - f) * np.tanh(fed["candidate"] + r * back["candidate"])
            return new, new
        i, f, g, o = (fed[n] + back[n] for n in self.names)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        if self.keeps:
            c = gain * norm(c)
        return c, self.read(c, sigmoid(o))

    def seen(self, c):
        gain = self.layer.memory_gain
        return c if gain is None or self.keeps else gain * norm(c)

    def read(self, c, o):
        return o * np.tanh(self.seen(c))


class Measured(NamedTuple):
    """Means over networks: E h², ln of the squared length that is left, m₁ of the one-step Jacobian; their errors."""

    second: float
    log_left: float
    square: float
    second_error: float
    log_error: float
    square_error: float


def perturbed(net, state, count):
    """The state with the memory moved by complex steps along random signs; h follows at fixed gates."""
    c, h = state
    moved = c + 1j * TINY * np.sign(net.rng.standard_normal((net.width, count)))
    if not net.lstm:
        return moved, moved
    return moved, net.read(moved, h / np.tanh(net.seen(c)))


def measured(spec, *, seeds, width=300, steps=50, burn_in=150, tied=True, fused=False, perturbations=8):
    found = []
    for seed in range(seeds):
        net = Network(spec, width, seed, fused=fused)
        state, moments, squares = (np.zeros((width, 1)), np.zeros((width, 1))), [], []
        for t in range(burn_in + steps):
            if t == burn_in:
                moved = perturbed(net, state, perturbations)
            if not tied:
                net.redraw()
            x = net.input()
            if t >= burn_in:
                moved = net.step(moved, x)
                if t % 5 == 0:
                    once, _ = net.step(perturbed(net, state, perturbations), x)
                    squares.append(np.mean((once.imag / TINY) ** 2))
            state = net.step(state, x)
            moments.append(np.mean(state[1] ** 2))
        left = math.log(np.mean((moved[0].imag / TINY) ** 2))
        found.append((np.mean(moments[burn_in:]), left, np.mean(squares)))
    return Measured(*np.mean(found, axis=0), *np.std(found, axis=0, ddof=1) / math.sqrt(seeds))


def agrees(found, numbers, steps):
    """Second moment to 3 %, growth per step to 5 % of its rate, m₁ to 3 %, or within three standard errors."""
    errors = numbers.standard_error or {"second_moment": 0.0, "chi_over_T": 0.0}
    rate = steps * math.log(numbers.chi_over_T)
    slack = 3.0 * math.hypot(found.log_error, steps * errors["chi_over_T"] / numbers.chi_over_T)
    m1 = numbers.jacobian.mean_squared_singular_value
    assert found.second == pytest.approx(numbers.second_moment, rel=0.03)
    assert found.log_left == pytest.approx(rate, rel=0.05, abs=slack)
    assert found.square == pytest.approx(m1, rel=0.03, abs=3.0 * found.square_error)
    assert slack < 0.25 * abs(rate)  # that says something


@pytest.mark.parametrize("distribution", ["normal", "orthogonal"])
@pytest.mark.parametrize("cell", POINTS)
def test_tied_networks_by_hand(cell, distribution):
    spec = POINTS[cell](distribution)
    (numbers,) = tied(spec, tolerance=0.005, steps=60, particles=2000)
    found = measured(spec, seeds=6)
    agrees(found, numbers, 50)
    estimate = fast_numbers(spec)
    if cell == "layernorm_lstm_kept":
        assert isinstance(estimate, NotComputed)
    else:
        assert estimate.second_moment == pytest.approx(found.second, rel=0.05)


@pytest.mark.parametrize("cell", ["layernorm_gru", "layernorm_lstm"])
def test_both_tied_theories_are_those_of_the_plain_cell_with_variances_over_the_second_moment(cell):
    settings = ["layers.0.gates.*.recurrent_gain=0.2", *["layers.0.memory_gain=null"] * ("lstm" in cell)]
    spec = override(POINTS[cell](), settings)
    full = tied(spec, tolerance=0.003, steps=60)[0]
    gates = {
        name: points.gate(gate.recurrent_gain**2 / full.second_moment, gate.input_gain**2, gate.bias.mean)
        for name, gate in spec.layers[0].gates.items()
    }
    plain = points.spec(cell.removeprefix("layernorm_"), gates, T=50)
    fast, plain_fast = (fast_numbers(one) for one in (spec, plain))
    plain_full = tied(plain, tolerance=0.003, steps=60)[0]
    for one, other, rel in ((full, plain_full, 0.01), (fast, plain_fast, 0.02)):
        assert one.second_moment == pytest.approx(other.second_moment, rel=rel)
        assert math.log(one.chi_over_T) == pytest.approx(math.log(other.chi_over_T), rel=rel)
    assert math.log(fast.chi) == pytest.approx(math.log(full.chi), rel=0.05)
    assert math.log(untied(spec).chi_over_T) < 1.2 * math.log(full.chi_over_T)  # which tells it from the untied one


@pytest.mark.parametrize("cell", POINTS)
def test_untied_networks_by_hand(cell):
    spec = POINTS[cell]()
    agrees(measured(spec, seeds=6, width=150, burn_in=60, tied=False), untied(spec), 50)


def test_one_norm_over_all_gates_is_that_of_each_where_kernels_are_alike():
    gates = {name: points.normalized(0.4, 0.8, 1.0 if name == "forget" else 0.0) for name in ORDER["lstm"]}
    spec = points.spec("layernorm_lstm", gates, memory_gain=1.0, T=50)
    agrees(measured(spec, seeds=6, fused=True), tied(spec, tolerance=0.005, steps=60, particles=2000)[0], 50)
    unlike = points.layernorm_lstm()  # kernels of unlike variances: there the two are different layers
    fused, apart = (measured(unlike, seeds=3, fused=one) for one in (True, False))
    assert abs(fused.log_left / apart.log_left - 1.0) > 0.5


@pytest.mark.parametrize("cell", POINTS)
def test_simulated_networks_agree_with_those_by_hand(cell):
    spec = POINTS[cell]("orthogonal")
    (found,) = critinit.simulate(spec, width=300, seeds=6, steps=50)
    agrees(measured(spec, seeds=6), found.numbers, 50)


def test_a_theory_without_the_norms_derivative_is_caught(monkeypatch):
    """Messages that are not divided by √Q: the variances γ² then act on them as they are."""
    spec = points.layernorm_gru()
    right = tied(spec, tolerance=0.01, steps=50)[0].chi_over_T
    monkeypatch.setattr(particles, "normalized_message", lambda message: message)
    wrong = tied(spec, tolerance=0.01, steps=50)[0].chi_over_T
    assert abs(math.log(wrong) / math.log(right) - 1.0) > 0.3


# ---- formulas by hand --------------------------------------------------------------------------------------


def test_gru_is_the_plain_one_with_variances_over_the_second_moment():
    """By the reference's own formulas: Q is the fixed point of a GRU with σ² = γ²/Q, and χ and the variance are its."""
    spec = points.layernorm_gru()
    gates, found = spec.layers[0].gates, untied(spec)
    q = found.second_moment
    plain = [
        reference.Gate(gates[n].recurrent_gain ** 2 / q, gates[n].input_gain ** 2, gates[n].bias.mean)
        for n in ORDER["gru"]
    ]
    expected = reference.gru(*plain, after=True)
    assert found.second_moment == pytest.approx(expected.second_moment, rel=1e-5)
    assert found.chi == pytest.approx(expected.chi, rel=1e-5)
    assert found.jacobian.variance == pytest.approx(expected.variance, rel=1e-4)


@pytest.mark.parametrize("cell", ["layernorm_lstm", "layernorm_lstm_kept"])
@pytest.mark.parametrize("memory_gain", [0.4, 1.0])
def test_lstm_by_particles(cell, memory_gain):
    """c' = a(f c + i g) and its squared distance, of independent units; the norms are averages over them.

    δc'² = a²(f² δc² + H·v),  v = Σ (γ_k²/Q)·a_k²,  H' = E o² tanh'²·b²·δc'² + (γ_o²/Q)·E o'² tanh²·H.
    """
    spec = POINTS[cell](memory_gain=memory_gain)
    gates, found = spec.layers[0].gates, untied(spec)
    part = {n: (math.hypot(gates[n].recurrent_gain, gates[n].input_gain), gates[n].bias.mean) for n in gates}
    var = {n: gates[n].recurrent_gain ** 2 for n in gates}
    rng, count = np.random.default_rng(0), 100_000
    c, y, h2, left, moments, growth = np.zeros(count), np.ones(count), 0.0, [], [], []
    q = found.second_moment
    for t in range(260):
        u = {n: part[n][1] + part[n][0] * rng.standard_normal(count) for n in gates}
        i, f, o, g = sigmoid(u["input"]), sigmoid(u["forget"]), sigmoid(u["output"]), np.tanh(u["cell"])
        v = var["forget"] * (f * (1 - f) * c) ** 2 + var["input"] * (i * (1 - i) * g) ** 2
        v = v + var["cell"] * (i * (1 - g**2)) ** 2
        c, y = f * c + i * g, f**2 * y + h2 * v / q
        if cell.endswith("kept"):
            a = memory_gain / c.std()
            c, y, b, seen = a * c, a * a * y, 1.0, a * c
        else:
            b = memory_gain / c.std()
            seen = b * (c - c.mean())
        h2 = np.mean((o * (1 - np.tanh(seen) ** 2) * b) ** 2 * y) + var["output"] / q * h2 * np.mean(
            (o * (1 - o) * np.tanh(seen)) ** 2
        )
        size = np.mean(y)
        if t >= 60:
            moments.append((np.mean((o * np.tanh(seen)) ** 2), np.mean(c**2)))
            growth.append(math.log(size))
        y, h2 = y / size, h2 / size
        left.append(size)
    second, memory = np.mean(moments, axis=0)
    assert found.second_moment == pytest.approx(second, rel=0.004)
    assert found.cell_second_moment == pytest.approx(memory, rel=0.004)
    assert math.log(found.chi) == pytest.approx(np.mean(growth), rel=0.02)


def test_neither_kernels_nor_the_inputs_power_matter():
    one = points.layernorm_gru()
    other = override(
        one,
        [
            "layers.0.gates.*.recurrent.variance=7",
            "layers.0.gates.*.input.variance=0.01",
            "layers.0.input.variance=100",
        ],
    )
    assert untied(one) == untied(other)
    assert fast_numbers(one) == fast_numbers(other)
    silent = untied(override(one, ["layers.0.input.variance=0"]))
    assert silent.second_moment < 0.7 * untied(one).second_moment


@pytest.mark.parametrize("gain", [0.5, 0.05, 0.005])
def test_a_small_state_makes_large_kernels(gain):
    """J's recurrent part is γ_h²/Q: where the candidate writes gain², J's square grows as 1/gain²."""
    gates = {
        "update": points.normalized(0.0, 0.0, 1.0),
        "reset": points.normalized(0.0, 0.0, 20.0),
        "candidate": points.normalized(gain, gain, 0.0),
    }
    spec = points.spec("layernorm_gru", gates)
    assert untied(spec).jacobian.mean_squared_singular_value < 2.0
    lonely = override(spec, ["layers.0.gates.candidate.recurrent_gain=0.5"])
    small = override(lonely, [f"layers.0.gates.update.bias.mean={math.log(1 / gain**2)}"])
    keep = sigmoid(math.log(1 / gain**2))
    found = untied(small)
    n = np.tanh(math.hypot(0.5, gain) * reference.Z)
    q = (1 - keep) ** 2 * (reference.W @ n**2) / (1 - keep**2)
    expected = keep**2 + 0.25 / q * (1 - keep) ** 2 * (reference.W @ (1 - n**2) ** 2)
    assert found.second_moment == pytest.approx(q, rel=1e-5)
    assert found.chi == pytest.approx(expected, rel=1e-5)


def test_correlated_inputs_lower_chi():
    spec = points.layernorm_gru()
    apart = untied(override(spec, ["layers.0.input.correlation=0.5"]))
    assert apart.second_moment == untied(spec).second_moment
    assert apart.chi < untied(spec).chi


# ---- specs and weights -------------------------------------------------------------------------------------


def changed(spec, *settings):
    return override(spec, settings)


@pytest.mark.parametrize(
    ("spec", "setting", "message"),
    [
        (points.layernorm_gru(), "layers.0.gates.update.recurrent_gain=null", "recurrent_gain: found nothing"),
        (points.layernorm_gru(), "layers.0.gates.update.input_gain=-1", "input_gain: found -1; allowed: at least 0"),
        (points.layernorm_gru(), "layers.0.memory_gain=1", "memory_gain: found an unknown key"),
        (points.gru("gru"), "layers.0.gates.update.recurrent_gain=1", "recurrent_gain: found an unknown key"),
        (points.gru("gru"), "layers.0.memory_gain=1", "memory_gain"),
        (points.layernorm_lstm_kept(), "layers.0.memory_gain=null", "memory_gain: found nothing"),
        (
            points.layernorm_gru(),
            "layers.0.gates.update.recurrent.distribution=identity",
            "where products are normalized",
        ),
    ],
)
def test_what_does_not_fit_is_refused(spec, setting, message):
    with pytest.raises((SpecError, ArgumentError), match=message):
        changed(spec, setting)


def test_a_memory_need_not_be_normalized():
    spec = changed(points.layernorm_lstm(), "layers.0.memory_gain=null")
    assert "memory_gain" not in spec.to_dict()["layers"][0]
    found = solve_layer(spec.find_cell(), spec.layers[0])
    plain = points.spec(
        "lstm",
        {
            name: points.gate(gate.recurrent_gain**2 / float(found.second_moment), gate.input_gain**2, gate.bias.mean)
            for name, gate in spec.layers[0].gates.items()
        },
        T=50,
    )
    by_hand = solve_layer(plain.find_cell(), plain.layers[0])
    assert found.chi == pytest.approx(by_hand.chi, rel=1e-9)
    assert found.second_moment == pytest.approx(by_hand.second_moment, rel=1e-9)
    assert changed(spec, "layers.0.memory_gain=0.5").layers[0].memory_gain == 0.5


@pytest.mark.parametrize("cell", POINTS)
def test_weights_have_the_gains(cell):
    spec = POINTS[cell]()
    direction = draw(spec, 3, 16, seed=1).layers[0][0]
    for name, gate in spec.layers[0].gates.items():
        np.testing.assert_array_equal(direction.gates[name].recurrent_gain, np.full(16, gate.recurrent_gain))
        np.testing.assert_array_equal(direction.gates[name].input_gain, np.full(16, gate.input_gain))
    if cell == "layernorm_gru":
        assert direction.memory_gain is None
    else:
        np.testing.assert_array_equal(direction.memory_gain, np.full(16, 0.7))
    tensors = critinit.materialize(spec, "canonical", input_size=3, hidden_size=40)
    assert critinit.check(spec, tensors).matches
    name = next(name for name in tensors if name.endswith("recurrent_gain"))
    tensors[name] = tensors[name] * 1.01
    wrong = [row for row in critinit.check(spec, tensors).rows if not row.matches]
    assert [(row.part, row.tensors) for row in wrong] == [("recurrent_gain", (name,))]


def test_a_file_without_the_memorys_gain_is_of_a_layer_without_it():
    spec = points.layernorm_lstm()
    tensors = critinit.materialize(spec, "canonical", input_size=3, hidden_size=40)
    del tensors["layers.0.0.memory_gain"]
    assert not critinit.check(spec, tensors).matches
    assert critinit.check(changed(spec, "layers.0.memory_gain=null"), tensors).matches


def test_drawn_weights_do_what_the_spec_says():
    """A recurrence written out on the portable sample has the untied numbers' E h² where nothing recurs."""
    spec = critinit.generate("layernorm_lstm", 50)
    weights = draw(spec, 30, 400, seed=0).layers[0][0]
    rng = np.random.default_rng(0)
    c = h = np.zeros(400)
    seen = []
    for t in range(400):
        x, u = rng.standard_normal(30), {}
        for name, g in weights.gates.items():
            back = g.recurrent_gain * norm(g.recurrent @ h) if t else 0.0
            u[name] = g.input_gain * norm(g.input @ x) + back + g.bias
        c = sigmoid(u["forget"]) * c + sigmoid(u["input"]) * np.tanh(u["cell"])
        h = sigmoid(u["output"]) * np.tanh(weights.memory_gain * norm(c))
        seen.append(np.mean(h**2))
    assert np.mean(seen[200:]) == pytest.approx(spec.layers[0].predicted.untied.second_moment, rel=0.1)


# ---- schemes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["critical", "isometry"])
@pytest.mark.parametrize(
    ("cell", "plain"), [("layernorm_gru", "gru"), ("layernorm_lstm", "lstm"), ("layernorm_lstm_kept", "lstm")]
)
def test_critical_is_that_of_the_plain_cell(cell, plain, scheme):
    """By the gains that make the variances of the pre-activations the same, and a memory gain that changes nothing."""
    spec, other = critinit.generate(cell, 200, scheme=scheme), critinit.generate(plain, 200, scheme=scheme)
    found, expected = spec.layers[0].predicted, other.layers[0].predicted
    for reading in ("untied", "tied"):
        one, two = (getattr(prediction, reading).model_dump() for prediction in (found, expected))
        assert one.keys() == two.keys()
        for name in two.keys() & {"second_moment", "cell_second_moment", "chi", "chi_over_T", "retention"}:
            assert one[name] == pytest.approx(two[name], rel=1e-4), (reading, name)
    assert requirements(spec).response_gain == pytest.approx(requirements(other).response_gain, rel=1e-4)
    assert spec.target.reached == pytest.approx(other.target.reached, rel=1e-4)


def test_a_memory_gain_of_1_moves_the_memory_farther():
    """By 1/deviation of c: .102 = E c² of the default at T = 200, so 3.1 times for each shift of its input."""
    spec = critinit.generate("layernorm_lstm", 200)
    deviation = math.sqrt(spec.layers[0].predicted.untied.cell_second_moment)
    assert spec.layers[0].memory_gain == pytest.approx(deviation, rel=1e-5)
    usual = changed(spec, "layers.0.memory_gain=1.0")
    assert requirements(usual).response_gain == pytest.approx(1 / deviation, rel=1e-3)


def test_the_usual_start_is_chaotic_in_the_lstm_and_forgets_in_the_gru():
    """γ = 1, b = 0 and forget bias 1: tied, over 50 steps, and as networks by hand have it."""
    lstm, gru = (critinit.generate(cell, 50, scheme="orthogonal") for cell in ("layernorm_lstm", "layernorm_gru"))
    lstm = changed(lstm, 'layers.0.gates.*.recurrent.distribution="normal"')
    (found,), (forgets,) = tied_numbers(lstm, seed=0), tied_numbers(gru, seed=0)
    assert found.chi > 1.05
    assert any("chaotic" in note for note in found.notes)
    assert measured(lstm, seeds=4).log_left > 0.0
    assert forgets.retention < 1e-2


def test_a_kept_memory_that_is_made_too_large_belongs_to_the_slowest_units():
    """Without a spread any γ_c has a state, and the units' own forgetting is made up for; with one it has none."""
    spec = critinit.generate("layernorm_lstm_kept", 200)
    assert untied(changed(spec, "layers.0.memory_gain=1.0")) is None
    assert untied(changed(points.layernorm_lstm_kept(), "layers.0.gates.cell.bias.mean=0.1")) is None  # it drifts
    alike = points.layernorm_lstm_kept(memory_gain=1.0)
    slower = points.layernorm_lstm_kept(memory_gain=0.5)
    assert untied(alike).unit_time_constants.median > untied(slower).unit_time_constants.median


def test_padding_that_is_noise_counts_as_strong_as_the_input():
    """A norm makes noise of any power as strong as the input; silence stays silence."""
    noise = critinit.generate("layernorm_gru", 100, padding={"variance": 1e-3})
    silent = critinit.generate("layernorm_gru", 100, padding={"variance": 0.0})
    assert noise.layers[0].gates["update"].input_gain == pytest.approx(math.sqrt(0.5))
    assert silent.layers[0].gates["update"].input_gain == pytest.approx(math.sqrt(2.0))
    assert requirements(silent).padding_retention > requirements(noise).padding_retention
    assert critinit.generate("layernorm_gru", 100, input_variance=9.0).layers[0].gates == (
        critinit.generate("layernorm_gru", 100).layers[0].gates
    )


def test_a_scheme_of_ones_own_may_leave_the_gains_to_be_1():
    from critinit.schemes import Scheme, bias, gate, kernel

    def gates(layer):
        return {name: gate(layer.orthogonal(), kernel("normal", 1.0), bias(0.0)) for name in layer.cell.gates}

    spec = critinit.generate("layernorm_lstm", 20, scheme=Scheme("own_lab", "ones", gates))
    assert {gate.recurrent_gain for gate in spec.layers[0].gates.values()} == {1.0}
    assert spec.layers[0].memory_gain == 1.0


# ---- a cell of one's own -----------------------------------------------------------------------------------


class Janet(critinit.Cell):
    name = "layernorm_janet"
    gates = ("forget", "cell")
    keep_gate = write_gate = "forget"
    candidate_gate = "cell"
    normalized = True

    def update(self, s, u):
        f = critinit.sigmoid(u["forget"])
        return f * s + (1 - f) * np.tanh(u["cell"])


def test_a_normalized_cell_of_ones_own():
    gates = {"forget": points.normalized(0.5, 0.7, 1.0), "cell": points.normalized(0.8, 0.9, 0.0)}
    critinit.register_cell(Janet)
    spec = validate_object(
        {
            "schema_version": 1, "cell": "layernorm_janet", "scheme": "custom", "T": 50,
            "layers": [{"input": {"variance": 1.0}, "gates": gates}],
        }
    )  # fmt: skip
    (found,) = critinit.simulate(spec, width=300, seeds=6, steps=50)
    (theory,) = tied(spec, steps=50, tolerance=0.005)
    error = math.hypot(*(numbers.standard_error["chi_over_T"] for numbers in (found.numbers, theory)))
    assert found.numbers.second_moment == pytest.approx(theory.second_moment, rel=0.03)
    assert found.numbers.chi_over_T == pytest.approx(theory.chi_over_T, abs=3 * error)
    assert error < 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keeps_normalized": True}, "keeps_normalized"),
        ({"projects": True}, "normalized: found True in a cell with a before, a projection"),
        ({"before": {"cell": critinit.Scale("forget", critinit.sigmoid)}}, "normalized: found True"),
    ],
)
def test_what_normalization_does_not_go_with(changes, message):
    with pytest.raises(CellError, match=message):
        critinit.register_cell(type("Wrong", (Janet,), changes))
