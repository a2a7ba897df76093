"""The limiting density of singular values: closed forms, random matrices, simulated networks, the spectral edge."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import trapezoid

from benchmarks.spectrum import main, network_jacobian, specs
from critinit.distributions import kernel
from critinit.errors import ArgumentError
from critinit.simulation import simulate
from critinit.theory.analysis import untied_numbers
from critinit.theory.spectrum.couplings import sampled_couplings, self_feeding, spectral_edge
from critinit.theory.spectrum.density import OfUnits, spectrum_density
from critinit.theory.spectrum.resolvent import Pencil
from critinit.theory.tied.jacobian import Couplings
from tests.theory import points

pytestmark = pytest.mark.slow


def singular_values(couplings, **kernels):
    return OfUnits.of(couplings, kernels)


def bare(units=1):
    """J = W."""
    zero, one = np.zeros(units), np.ones(units)
    return Couplings(["w"], np.stack([zero, one]), {"w": np.stack([one, zero])})


def distance(wanted, values, count=40):
    """Kolmogorov's distance of sampled values from a distribution, at some of their quantiles."""
    values = np.sort(np.ravel(values))
    at = np.quantile(values, np.linspace(0.01, 0.99, count))
    return float(np.max(np.abs(wanted.cumulative(at)[0] - np.searchsorted(values, at) / values.size)))


# closed forms


def quarter_circle(s, radius):
    x = np.clip(np.asarray(s) / radius, 0, 1)
    return 2 / math.pi * (x * np.sqrt(1 - x**2) + np.arcsin(x))


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_a_bare_matrix_of_independent_entries_is_a_quarter_circle(distribution):
    found = singular_values(bare(), w=kernel(distribution, 2.25))
    s = np.linspace(0, 3.4, 35)
    below, residual = found.cumulative(s)
    np.testing.assert_allclose(below, quarter_circle(s, 3.0), atol=3e-5)
    assert residual <= 1e-8
    assert found.edges[1] == pytest.approx(3.0, rel=0.015)  # 1e-3 of all are beyond, and F ends as a power 3/2
    z = s + 0.1j
    exact = 2 * (z - np.sqrt(z - 3) * np.sqrt(z + 3)) / 9
    np.testing.assert_allclose(found.smoothed(s, 0.1), -2 / math.pi * exact.imag, atol=1e-6)


def test_a_bare_orthogonal_matrix_has_one_singular_value():
    found = singular_values(bare(), w=kernel("orthogonal", 1.44))
    np.testing.assert_allclose(found.cumulative([0.3, 1.19, 1.21, 5.0])[0], [0, 0, 1, 1], atol=1e-5)
    assert found.edges == pytest.approx((1.2, 1.2), abs=1e-6)
    s, eta = np.array([0.0, 0.4, 1.1, 1.2, 1.9]), 0.02
    both = sum(eta / math.pi / ((s - pole) ** 2 + eta**2) for pole in (1.2, -1.2))
    np.testing.assert_allclose(found.smoothed(s, eta), both, rtol=1e-5)


def test_the_feedback_is_the_r_transform_with_the_root_followed_through_its_change_of_sign():
    """2 r g + 1 = ±√(1 + 4 σ² f g): the principal branch outside of the circle |z| = σ, the other one inside."""
    pencil = Pencil.of(bare(), {"w": kernel("orthogonal", 1.0)})
    z = np.array([2.0, 0.1, 0.5, 1.5]) + 0.3j
    x = np.full((4, 2), -0.1j)
    for _ in range(2000):
        x = 0.5 * x + 0.5 * pencil.step(z, x)[0]
    g, f, _ = pencil.respond(z, x[:, :1], x[:, 1:])
    ratio = (2 * x[:, 0] * g[:, 0] + 1) / np.sqrt(1 + 4 * f * g)[:, 0]
    np.testing.assert_allclose(ratio, [1, -1, -1, 1], atol=1e-9)
    np.testing.assert_allclose(g[:, 0], z / (z**2 - 1), atol=1e-9)


def test_without_kernels_the_singular_values_are_those_of_the_diagonal():
    a = np.array([0.1, -0.4, 0.4, 0.9])
    found = singular_values(Couplings([], a[None], {}))
    np.testing.assert_allclose(found.cumulative([0.05, 0.2, 0.5, 1.0])[0], [0, 0.25, 0.75, 1], atol=5e-5)
    zero = Couplings(["w"], np.zeros((2, 3)), {"w": np.zeros((2, 3))})
    nothing = singular_values(zero, w=kernel("normal", 1.0))
    assert nothing.edges == (0.0, 0.0)
    np.testing.assert_array_equal(nothing.cumulative([0.0, 1.0])[0], [0, 1])


# random matrices

UNITS = 600


def couplings(rng, *, inner):
    """Diagonals of two gates, or of three where the last one's message is scaled by a field of the second."""
    a, e = rng.uniform(0.2, 0.9, UNITS), rng.uniform(0.2, 1.0, UNITS)
    one, other, zero = rng.normal(0, 0.5, UNITS), rng.uniform(-1, 1, UNITS), np.zeros(UNITS)
    if not inner:
        messages = {n: np.stack([e, zero, zero]) for n in "ab"}
        return Couplings(["a", "b"], np.stack([a, one, other]), messages)
    r, b = rng.uniform(0.3, 0.9, UNITS), rng.normal(0, 0.6, UNITS)
    # the kernel b stands in both places: it acts on s' and inside the message of c
    update = np.stack([a, one, 0.5 * one if inner == "both" else zero, other])
    plain = np.stack([e, zero, zero, zero])
    return Couplings(["a", "b", "c"], update, {"a": plain, "b": plain, "c": np.stack([r, zero, b, zero])})


def jacobian(c, kernels, rng):
    w = {n: kernels[n].sample(rng, UNITS, UNITS) for n in c.names}

    def total(by):
        parts = (by[1 + i][:, None] * (w[n] @ total(c.messages[n])) for i, n in enumerate(c.names) if np.any(by[1 + i]))
        return sum(parts, np.diag(by[0]))

    return total(c.update)


KINDS = {
    "normal": ("normal", "normal"),
    "uniform": ("uniform", "normal"),
    "orthogonal": ("orthogonal", "orthogonal"),
    "mixed": ("orthogonal", "normal"),
    "scaled": ("normal", "normal", "normal"),
    "scaled orthogonal": ("orthogonal", "orthogonal", "orthogonal"),
    "both": ("normal", "orthogonal", "normal"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_random_matrices_with_random_diagonals(kind):
    """A finite matrix has rigid singular values: its distance is of order 1/N, not 1/√N."""
    rng = np.random.default_rng(7)
    c = couplings(rng, inner=kind if len(KINDS[kind]) == 3 else None)
    kernels = {n: kernel(d, v) for n, d, v in zip(c.names, KINDS[kind], (1.2, 1.5, 1.5), strict=False)}
    values = np.linalg.svd(jacobian(c, kernels, rng), compute_uv=False)
    found = OfUnits.of(c, kernels)
    assert distance(found, values) < 4 / UNITS
    s = np.linspace(0, 1.3 * found.edges[1], 81)
    above = 1 - found.cumulative(s)[0]
    assert trapezoid(2 * s * above, s) == pytest.approx(found.first_moment, rel=1e-3)
    assert trapezoid(4 * s**3 * above, s) == pytest.approx(found.second_moment, rel=1e-3)


@pytest.mark.parametrize("kind", ["orthogonal", "scaled orthogonal", "both"])
def test_a_wrong_distribution_is_found_out(kind):
    """Orthogonal kernels taken for normal ones, and a message taken for unscaled."""
    rng = np.random.default_rng(7)
    c = couplings(rng, inner=kind if len(KINDS[kind]) == 3 else None)
    kernels = {n: kernel(d, v) for n, d, v in zip(c.names, KINDS[kind], (1.2, 1.5, 1.5), strict=False)}
    values = np.linalg.svd(jacobian(c, kernels, rng), compute_uv=False)
    if kind == "both":
        shut = c.messages["c"] * (np.arange(4) < 1)[:, None]
        wrong = OfUnits.of(c._replace(messages={**c.messages, "c": shut}), kernels)
    else:
        wrong = OfUnits.of(c, {n: kernel("normal", k.variance) for n, k in kernels.items()})
    assert distance(wrong, values) > 4 / UNITS


def test_a_kernel_of_variance_0_is_as_good_as_none():
    rng = np.random.default_rng(7)
    c = couplings(rng, inner="scaled")
    kernels = {"a": kernel("normal", 1.2), "b": kernel("normal", 1.5), "c": kernel("zero", 0.0)}
    s = [0.3, 0.7, 1.1]
    without = Couplings(["a"], c.update[:2], {"a": c.messages["a"][:2]})
    np.testing.assert_allclose(
        singular_values(c, **kernels).cumulative(s)[0], singular_values(without, a=kernels["a"]).cumulative(s)[0]
    )


def test_messages_scaled_for_two_gates_are_refused():
    one = np.ones((3, 4))
    c = Couplings(["a", "b"], one, {"a": one, "b": one})
    with pytest.raises(ArgumentError, match=r"found messages of a, b scaled .* allowed: one gate's"):
        Pencil.of(c, {n: kernel("normal", 1.0) for n in "ab"})


# simulated networks


def rnn(distribution="orthogonal"):
    return points.spec("rnn", {"hidden": points.gate(1.0, 0.2, 0, distribution=distribution)})


def minimal():
    return points.spec("minimal_rnn", {"update": points.gate(3.0, 1.0, 1.0, distribution="orthogonal")})


NETWORKS = {
    "gru_reset_before": points.gru(),
    "gru_reset_before orthogonal": points.gru(distribution="orthogonal"),
    "gru": points.gru("gru"),
    "lstm": points.lstm(),
    "peephole": points.peephole(),
    "rnn orthogonal": rnn(),
    "minimal orthogonal": minimal(),
}


def measured(spec, weights="tied"):
    return simulate(spec, width=250, seeds=4, steps=20, weights=weights, singular_values=True)[0].singular_values


@pytest.mark.parametrize("name", NETWORKS)
def test_simulated_networks(name):
    """Four networks of 250 units: no farther than Kolmogorov's bound (one in a thousand) of as many free draws."""
    spec = NETWORKS[name]
    values = measured(spec)
    found = spectrum_density(spec, points=40, particles=800, snapshots=2, seed=3)
    assert distance(found.distribution, values) < 1.95 / math.sqrt(values.size)
    assert found.residual <= 1e-8
    assert found.cumulative[-1] - found.cumulative[0] == pytest.approx(1.0, abs=0.003)
    middles, mass = found.singular_values, np.diff(found.cumulative)
    assert mass @ middles**2 == pytest.approx(found.mean, rel=0.01)
    assert mass @ middles**4 - found.mean**2 == pytest.approx(found.variance, rel=0.05)
    np.testing.assert_allclose(found.density, mass / np.diff(found.bins))


def test_the_simulated_orthogonal_network_tells_orthogonal_from_normal():
    values = measured(rnn())
    wrong = spectrum_density(rnn("normal"), points=10, particles=800, snapshots=2).distribution
    assert distance(wrong, values) > 1.95 / math.sqrt(values.size)


def test_a_histogram_is_met_bin_by_bin():
    """Counts of rigid values scatter less than free draws: within four of their standard deviations."""
    spec = points.lstm()
    squares = measured(spec).ravel() ** 2
    counts, bins = np.histogram(squares, bins=12)
    found = spectrum_density(spec, points=5, particles=800, snapshots=4)
    expected = found.averages(bins, squares=True) * np.diff(bins) * squares.size
    assert np.all(np.abs(counts - expected) < 4 * np.sqrt(np.maximum(expected, 1)))
    roots = np.sqrt(bins)
    np.testing.assert_allclose(found.averages(roots) * np.diff(roots) * squares.size, expected, rtol=1e-9, atol=1e-9)


def test_untied_weights_have_the_moments_of_the_untied_theory():
    for spec in (points.gru(), points.lstm(), points.rnn()):
        layer = spec.layers[0]
        sampled = sampled_couplings(spec.find_cell(), layer, T=spec.T, tied=False, particles=3000)
        found = OfUnits.of(sampled, {n: gate.recurrent for n, gate in layer.gates.items()})
        exact = untied_numbers(spec, layer).jacobian
        assert found.first_moment == pytest.approx(exact.mean_squared_singular_value, rel=0.015)
        assert found.second_moment - found.first_moment**2 == pytest.approx(exact.variance, rel=0.06)


def test_a_narrow_density_is_resolved():
    """Near isometry the singular values differ in the fourth digit, and the density is as wide as theirs."""
    gates = {"update": points.gate(1e-6, 1e-5, 4), "reset": points.gate(1e-6, 1e-5, 0)}
    spec = points.spec("gru_reset_before", {**gates, "candidate": points.gate(1e-4, 1.0, 0)})
    values = measured(spec)
    found = spectrum_density(spec, points=4, particles=200)
    assert distance(found.distribution, values, 20) < 1.95 / math.sqrt(values.size)
    assert found.edges[1] - found.edges[0] < 1e-3


def test_identity_kernels_leave_one_singular_value_where_nothing_saturates():
    spec = points.spec("rnn", {"hidden": points.gate(0.81, 0.0, 0, distribution="identity")})
    found = spectrum_density(spec, points=4, particles=20)
    assert found.edges == pytest.approx((0.9, 0.9), abs=1e-6)
    assert found.spectral_edge == pytest.approx(0.9)
    with pytest.raises(ArgumentError, match="identity kernels have no untied reading"):
        spectrum_density(spec, weights="untied")


def test_the_same_arguments_give_the_same_numbers():
    one, other = (spectrum_density(points.rnn(), points=6, particles=50, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one.cumulative, other.cumulative)
    assert one.edges == other.edges


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": 1}, "layer: found 1; allowed: 0 to 0"),
        ({"weights": "some"}, "weights: found 'some'"),
        ({"points": 0}, "points: found 0"),
        ({"particles": 1}, "particles: found 1"),
        ({"snapshots": 0}, "snapshots: found 0"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        spectrum_density(points.rnn(), **arguments)


def test_bins_that_do_not_ascend_are_refused():
    found = spectrum_density(points.rnn(), points=2, particles=20, snapshots=1)
    with pytest.raises(ArgumentError, match="bins: found boundaries that do not ascend"):
        found.averages([0.0, 1.0, 0.5])


# the spectral edge


@pytest.mark.parametrize("distribution", ["normal", "orthogonal"])
def test_edge_closed_forms(distribution):
    """A disc of radius σ|a₁ e| around a constant a; a message of its own field: |λ|² = σ_c² (r² + σ_r² b²)."""
    one = np.ones(3)
    c = Couplings(["w"], np.stack([0.3 * one, 0.5 * one]), {"w": np.stack([0.8 * one, 0 * one])})
    assert spectral_edge(c, {"w": kernel(distribution, 4.0)}) == pytest.approx(0.3 + 2 * 0.5 * 0.8)
    assert self_feeding(c, {"w": kernel(distribution, 4.0)}, 0.3 + 0.8j) == pytest.approx(1.0)
    zero = 0 * one
    messages = {"r": np.stack([one, zero, zero]), "c": np.stack([0.6 * one, 0.5 * one, zero])}
    nested = Couplings(["r", "c"], np.stack([zero, zero, one]), messages)
    kernels = {"r": kernel(distribution, 2.0), "c": kernel(distribution, 1.5)}
    assert spectral_edge(nested, kernels) == pytest.approx(math.sqrt(1.5 * (0.36 + 2.0 * 0.25)))


@pytest.mark.parametrize("kind", ["mixed", "scaled", "both"])
def test_eigenvalues_of_random_matrices_end_at_the_edge(kind):
    rng = np.random.default_rng(7)
    c = couplings(rng, inner=kind if len(KINDS[kind]) == 3 else None)
    kernels = {n: kernel(d, v) for n, d, v in zip(c.names, KINDS[kind], (1.2, 1.5, 1.5), strict=False)}
    eigenvalues = np.linalg.eigvals(jacobian(c, kernels, rng))
    assert eigenvalues.real.max() == pytest.approx(spectral_edge(c, kernels), rel=0.05)
    outside = np.mean([self_feeding(c, kernels, z) < 1 for z in eigenvalues])
    assert outside < 0.02
    heavier = {n: kernel(k.distribution, 0.7 * k.variance) for n, k in kernels.items()}
    assert np.mean([self_feeding(c, heavier, z) < 1 for z in eigenvalues]) > 0.05


@pytest.mark.parametrize("name", ["lstm", "peephole", "rnn orthogonal", "minimal"])
def test_eigenvalues_of_tied_networks_end_at_the_edge(name):
    spec = {**NETWORKS, "minimal": points.minimal()}[name]
    kernels = {n: gate.recurrent for n, gate in spec.layers[0].gates.items()}
    c = sampled_couplings(spec.find_cell(), spec.layers[0], T=100, seed=2)
    found = [np.linalg.eigvals(network_jacobian(spec, 300, seed)) for seed in range(3)]
    largest = np.mean([np.abs(x).max() for x in found])
    assert largest == pytest.approx(spectral_edge(c, kernels), rel=0.05)


def test_the_benchmark_prints_a_row_a_network_and_draws(tmp_path, capsys):
    main(["--width", "40", "--networks", "2", "--particles", "60", "--folder", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    for title, line in zip(specs(), lines[2:], strict=False):
        assert line.startswith(title)
        distance, *pairs = (float(x) for x in line[26:].split())
        assert 0 < distance < 0.35
        assert pairs[0] == pytest.approx(pairs[1], rel=0.3)
    assert (tmp_path / "spectrum.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "spectrum.svg").read_bytes()
