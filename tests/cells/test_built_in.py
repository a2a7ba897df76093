"""MGU, UGRNN, coupled-gate LSTM and projection LSTM: hand-derived formulas, random matrices, and simulated networks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from critinit.distributions import kernel
from critinit.errors import ArgumentError, SpecError
from critinit.schemes.generating import generate
from critinit.simulation import simulate
from critinit.spec.reading import validate_object
from critinit.tensors.sampling import draw
from critinit.theory.analysis import untied_numbers
from critinit.theory.spectrum.density import spectrum_density
from critinit.theory.tied.jacobian import Couplings
from critinit.theory.tied.solution import tied
from tests.theory import points
from tests.theory.reference import W, Z, fixed_point, sigmoid

pytestmark = pytest.mark.slow

POINTS = {
    "mgu": points.mgu(),
    "ugrnn": points.ugrnn(),
    "coupled_lstm": points.coupled(),
    "projection_lstm": points.projection(),
}


def untied(spec):
    return untied_numbers(spec, spec.layers[0])


def parts(spec, name):
    gate = spec.layers[0].gates[name]
    return gate.recurrent.variance, gate.input.variance, gate.bias.mean


def nodes(part, message):
    recurrent, feed, mean = part
    return mean + np.sqrt(recurrent * message + feed) * Z


def test_mgu_by_hand():
    """χ = E f² + σ_f²E[f'²(h−n)²] + σ_n²E(1−f)²·E n'²·(E(1−f)² + σ_f²E f'²·E h²)."""
    update, candidate = parts(POINTS["mgu"], "update"), parts(POINTS["mgu"], "candidate")

    def averages(q):
        f = sigmoid(nodes(update, q))
        n = np.tanh(nodes(candidate, W @ (1 - f) ** 2 * q))
        mean = W @ (1 - f) * (W @ n) / (1 - W @ f)
        return f, n, mean

    def step(q):
        f, n, mean = averages(q)
        return W @ f**2 * q + 2 * (W @ (f * (1 - f))) * mean * (W @ n) + W @ (1 - f) ** 2 * (W @ n**2)

    q = fixed_point(step)
    f, n, mean = averages(q)
    slope2 = W @ (f * (1 - f)) ** 2
    distance = q - 2 * mean * (W @ n) + W @ n**2
    opened = W @ (1 - f) ** 2
    through = candidate[0] * opened * (W @ (1 - n**2) ** 2) * (opened + update[0] * slope2 * q)
    chi = W @ f**2 + update[0] * slope2 * distance + through
    found = untied(POINTS["mgu"])
    assert found.second_moment == pytest.approx(q, rel=1e-5)
    assert found.chi == pytest.approx(chi, rel=1e-5)
    assert found.jacobian.mean_squared_singular_value == pytest.approx(chi, rel=1e-5)


def test_ugrnn_by_hand():
    """χ = E f² + σ_f²E[f'²(h−n)²] + σ_n²E(1−f)²·E n'²."""
    update, candidate = parts(POINTS["ugrnn"], "update"), parts(POINTS["ugrnn"], "candidate")

    def averages(q):
        f, n = sigmoid(nodes(update, q)), np.tanh(nodes(candidate, q))
        return f, n, W @ n

    def step(q):
        f, n, mean = averages(q)
        return W @ f**2 * q + 2 * (W @ (f * (1 - f))) * mean**2 + W @ (1 - f) ** 2 * (W @ n**2)

    q = fixed_point(step)
    f, n, mean = averages(q)
    distance = q - 2 * mean**2 + W @ n**2
    chi = W @ f**2 + update[0] * (W @ (f * (1 - f)) ** 2) * distance
    chi += candidate[0] * (W @ (1 - f) ** 2) * (W @ (1 - n**2) ** 2)
    found = untied(POINTS["ugrnn"])
    assert found.second_moment == pytest.approx(q, rel=1e-5)
    assert found.chi == pytest.approx(chi, rel=1e-5)
    assert found.jacobian.mean_squared_singular_value == pytest.approx(chi, rel=1e-5)


def test_coupled_lstm_by_hand():
    """Particles of c' = f c + (1−f) g, each with its squared distance:
    δc'² = f²δc² + H(σ_f² f'²(c−g)² + σ_g²(1−f)²g'²),  H' = E o² tanh'²(c') δc'² + σ_o² E o'² tanh²(c')·H."""
    spec = POINTS["coupled_lstm"]
    forget, cell, output = (parts(spec, name) for name in ("forget", "cell", "output"))
    rng = np.random.default_rng(0)
    found = untied(spec)
    count = 100_000
    c, y, h, moments, growth, squares = np.zeros(count), np.ones(count), 0.1, [], [], []
    for t in range(160):
        f, g, o = (
            part[2] + math.sqrt(part[0] * found.second_moment + part[1]) * rng.standard_normal(count)
            for part in (forget, cell, output)
        )
        f, g, o = sigmoid(f), np.tanh(g), sigmoid(o)
        v = forget[0] * (f * (1 - f) * (c - g)) ** 2 + cell[0] * ((1 - f) * (1 - g**2)) ** 2
        c = f * c + (1 - f) * g
        y = f**2 * y + h * v
        new = np.mean((o * (1 - np.tanh(c) ** 2)) ** 2 * y) + output[0] * np.mean((o * (1 - o) * np.tanh(c)) ** 2) * h
        if t >= 60:
            moments.append(np.mean((o * np.tanh(c)) ** 2))
            squares.append(np.mean(c**2))
            growth.append(new / h)
        y, h = y / new, 1.0
    assert found.second_moment == pytest.approx(np.mean(moments), rel=2e-3)
    assert found.cell_second_moment == pytest.approx(np.mean(squares), rel=2e-3)
    assert found.chi == pytest.approx(np.mean(growth), rel=2e-3)


def test_projection_lstm_is_the_lstm_with_the_projected_second_moment():
    """r = P h: the kernels' variance times E r²/E h²; and the Jacobian's variance grows by κ(E v·E e²)²."""
    gain = 1.5
    projected = points.projection(width=0.25, distribution="normal", variance=gain)
    dump = projected.to_dict()["layers"][0]["gates"]
    for gate in dump.values():
        gate["recurrent"]["variance"] *= gain
    plain, found = untied(points.spec("lstm", dump)), untied(projected)
    assert found.second_moment == pytest.approx(gain * plain.second_moment, rel=1e-5)
    assert (found.chi, found.cell_second_moment) == (plain.chi, plain.cell_second_moment)
    moment = found.jacobian.mean_squared_singular_value
    assert moment == pytest.approx(plain.jacobian.mean_squared_singular_value, rel=1e-5)
    forget = parts(projected, "forget")
    kept = W @ sigmoid(nodes(forget, found.second_moment)) ** 2
    extra = 4.0 * (moment - kept) ** 2
    assert found.jacobian.variance - plain.jacobian.variance == pytest.approx(extra, rel=1e-4)


def second_moment_of(j):
    gram = j @ j.T
    return float(np.sum(gram * gram) / len(j))


@pytest.mark.parametrize("distribution", ["normal", "orthogonal"])
def test_one_kernel_in_two_places_of_a_jacobian(distribution):
    """J = D_a + D_f W + D_n V(D_ρ + D_g W), its diagonals correlated, against matrices."""
    n, rng = 1200, np.random.default_rng(5)
    z = rng.standard_normal(n)
    a, f, rho, g = sigmoid(z), 0.8 * np.tanh(z + 0.5), sigmoid(1 - z), 0.7 * np.cos(z)
    b = 1.1 * sigmoid(-z) * (1 + 0.3 * rng.standard_normal(n))
    shared = kernel(distribution, 1.4)

    def draw():
        return shared.sample(rng, n, n)

    measured = []
    for _ in range(3):
        w, v = draw(), draw()
        measured.append(
            second_moment_of(np.diag(a) + f[:, None] * w + b[:, None] * (v @ (np.diag(rho) + g[:, None] * w)))
        )
    zero, one = np.zeros(n), np.ones(n)
    couplings = Couplings(
        ["update", "candidate"],
        np.stack([a, f, b]),
        {"update": np.stack([one, zero, zero]), "candidate": np.stack([rho, g, zero])},
    )
    kernels = {"update": shared, "candidate": shared}
    expected = couplings.factor(kernels).second_moment()
    assert np.mean(measured) == pytest.approx(expected, rel=0.015)
    # another kernel within the message, of the same distribution, would be seen to be wrong
    other = Couplings(
        ["update", "other", "candidate"],
        np.stack([a, f, zero, b]),
        {
            "update": np.stack([one, zero, zero, zero]),
            "other": np.stack([one, zero, zero, zero]),
            "candidate": np.stack([rho, zero, g, zero]),
        },
    )
    assert other.factor({**kernels, "other": shared}).second_moment() < 0.97 * expected


@pytest.mark.parametrize("distribution", ["normal", "orthogonal"])
def test_a_projection_within_a_jacobian(distribution):
    """J = D_a + Σ D_k W_k P D_e against matrices, and what leaving the projection out would say."""
    n, width, rng = 1200, 0.25, np.random.default_rng(6)
    z = rng.standard_normal(n)
    a, e = sigmoid(z), 0.5 + 0.4 * np.tanh(z)
    couplings = {"one": 0.8 * np.cos(z), "two": sigmoid(z) * rng.standard_normal(n)}
    rows = round(width * n)
    measured = []
    for _ in range(4):
        p = kernel(distribution, 1.0).sample(rng, rows, n)
        j = np.diag(a)
        for c in couplings.values():
            j = j + c[:, None] * (rng.standard_normal((n, rows)) * math.sqrt(1.3 / rows)) @ (p * e)
        measured.append(second_moment_of(j))
    zero = np.zeros(n)
    update = np.stack([a, *couplings.values()])
    factor = Couplings(list(couplings), update, dict.fromkeys(couplings, np.stack([e, zero, zero]))).factor(
        dict.fromkeys(couplings, kernel("normal", 1.3))
    )
    spread = 1 / width - (distribution == "orthogonal")
    assert np.mean(measured) == pytest.approx(factor.second_moment(spread), rel=0.02)
    assert factor.second_moment() < 0.9 * np.mean(measured)


@pytest.mark.parametrize("cell", POINTS)
def test_untied_theory_and_networks(cell):
    spec = POINTS[cell]
    expected = untied(spec)
    seeds = 12 if cell == "projection_lstm" else 4  # its 150 coordinates fluctuate more than 500 units
    found = simulate(spec, width=500, steps=150, seeds=seeds, weights="untied")[0].numbers
    error = found.standard_error
    assert found.second_moment == pytest.approx(expected.second_moment, rel=0.01)
    assert math.log(found.chi) == pytest.approx(math.log(expected.chi), abs=0.01)
    for name in ("mean_squared_singular_value", "variance"):
        tolerance = 4 * error[f"jacobian.{name}"] + 0.02 * getattr(expected.jacobian, name)
        assert getattr(found.jacobian, name) == pytest.approx(getattr(expected.jacobian, name), abs=tolerance)
    if cell not in ("mgu", "ugrnn"):
        assert found.cell_second_moment == pytest.approx(expected.cell_second_moment, rel=0.01)


@pytest.mark.parametrize("cell", POINTS)
def test_tied_theory_and_networks(cell):
    spec = POINTS[cell]
    expected = tied(spec, steps=150)[0]
    seeds = 12 if cell == "projection_lstm" else 4
    found = simulate(spec, width=600, steps=150, seeds=seeds)[0].numbers
    tolerance = 3 * math.hypot(found.standard_error["chi"], expected.standard_error["chi"]) / expected.chi + 0.005
    assert math.log(found.chi) == pytest.approx(math.log(expected.chi), abs=tolerance)
    assert found.second_moment == pytest.approx(expected.second_moment, rel=0.04)
    jacobian = found.jacobian, expected.jacobian
    assert jacobian[0].mean_squared_singular_value == pytest.approx(jacobian[1].mean_squared_singular_value, rel=0.02)
    assert jacobian[0].variance == pytest.approx(jacobian[1].variance, rel=0.1)
    # tied weights matter here: the untied theory is farther off than the tolerance
    assert abs(math.log(found.chi / untied(spec).chi)) > tolerance


@pytest.mark.parametrize("cell", POINTS)
def test_copies_with_different_inputs(cell):
    data = POINTS[cell].to_dict()
    data["layers"][0]["input"]["correlation"] = 0.5
    spec = validate_object(data)
    expected = untied(spec)
    assert expected.chi < 0.99 * untied(POINTS[cell]).chi
    found = simulate(spec, width=400, steps=240, seeds=4, weights="untied")[0].numbers
    assert math.log(found.chi) == pytest.approx(math.log(expected.chi), abs=0.006)


@pytest.mark.parametrize(
    "spec",
    [points.mgu(), points.mgu("orthogonal"), points.ugrnn("orthogonal"), points.coupled()],
    ids=["mgu", "mgu, orthogonal", "ugrnn, orthogonal", "coupled_lstm"],
)
def test_the_singular_values_density_and_networks(spec):
    density = spectrum_density(spec)
    measured = simulate(spec, width=400, seeds=4, steps=40, singular_values=True)[0].singular_values
    found = np.searchsorted(np.sort(measured.ravel()), density.bins) / measured.size
    assert np.max(np.abs(found - density.cumulative)) < 0.02


def test_no_density_of_a_projected_state():
    with pytest.raises(ArgumentError, match="allowed: a cell without a projection"):
        spectrum_density(POINTS["projection_lstm"])


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("width", 0, "projection.width"),
        ("width", 1.5, "projection.width"),
        ("kernel", {"distribution": "identity", "variance": 1.0}, "projection.kernel.distribution"),
        ("colour", "red", "projection.colour"),
    ],
)
def test_projections_that_are_none(field, value, where):
    data = POINTS["projection_lstm"].to_dict()
    data["layers"][0]["projection"][field] = value
    with pytest.raises(SpecError, match=rf"^layers\.0\.{where}: found"):
        validate_object(data)
    plain = points.lstm().to_dict()
    plain["layers"][0]["projection"] = {"kernel": {"distribution": "normal", "variance": 1.0}, "width": 0.5}
    with pytest.raises(SpecError, match=r"^layers\.0\.projection: found an unknown key"):
        validate_object(plain)


def test_a_projected_layer_draws_its_projection_and_feeds_the_next():
    spec = generate("projection_lstm", T=20, layers=2)
    first, second = (layer[0] for layer in draw(spec, 3, 40, seed=1).layers)
    assert first.projection.shape == (20, 40)
    np.testing.assert_allclose(first.projection @ first.projection.T, np.eye(20), atol=1e-12)
    assert {g.recurrent.shape for g in first.gates.values()} == {(40, 20)}
    assert {g.input.shape for g in second.gates.values()} == {(40, 20)}
