"""Lyapunov exponents against those that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from critinit.cells import Cell, find_cell
from critinit.diagnosis.course import run_course
from critinit.diagnosis.numbers import layer_numbers
from critinit.diagnosis.sweeps import forward
from critinit.dual import Array
from critinit.tensors.recurrence import LayerWeights

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(201)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


class Linear(Cell):
    """h' = W h + U x + b."""

    name, gates, candidate_gate = "linear", ("hidden",), "hidden"

    def keep(self, u):  # type: ignore[no-untyped-def]
        return 0.0

    def write(self, u):  # type: ignore[no-untyped-def]
        return 1.0

    def candidate(self, u):  # type: ignore[no-untyped-def]
        return u["hidden"]


class Leaky(Linear):
    """h' = .9·h + .1·(W h + U x + b)."""

    name = "leaky_linear"

    def keep(self, u):  # type: ignore[no-untyped-def]
        return 0.9

    def write(self, u):  # type: ignore[no-untyped-def]
        return 0.1


def undriven(cell: Cell, kernel: Array, kick: float = 1.0) -> tuple[LayerWeights, list[Array]]:
    """A layer with one gate, which is kicked out of its rest once."""
    units = len(kernel)
    weights = LayerWeights(
        cell,
        {"hidden": kernel},
        {"hidden": kick * np.random.default_rng(5).standard_normal((units, 1))},
        {"hidden": np.zeros(units)},
    )
    return weights, [np.eye(1, 600).T]


# ---- linear networks: exactly -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["symmetric", "orthogonal", "triangular"])
@pytest.mark.parametrize("cell", [Linear(), Leaky()], ids=str)
def test_linear_networks_have_the_logarithms_of_their_eigenvalues(cell: Cell, kind: str) -> None:
    """Of a constant Jacobian the exponents are ln |eigenvalue|."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    values = np.array([1.1, 0.8, -0.6, 0.4, 0.3, 0.2, 0.15, 0.1, 0.08, 0.05, 0.03, 0.02])
    kernel = {
        "symmetric": basis @ np.diag(values) @ basis.T,
        "orthogonal": 0.97 * basis,
        "triangular": basis @ (np.diag(values) + np.triu(rng.standard_normal((12, 12)), 1) * 0.1) @ basis.T,
    }[kind]
    kernel = (kernel - cell.keep({}) * np.eye(12)) / cell.write({})
    jacobian = cell.keep({}) * np.eye(12) + cell.write({}) * kernel
    wanted = -np.sort(-np.log(np.abs(np.linalg.eigvals(jacobian))))
    found = layer_numbers(*undriven(cell, kernel), T=None, exponents=4, seed=0)
    # the perturbations have turned into the leading directions after 300 steps: (.6/.8)^300 is 1e-38
    assert found.lyapunov == pytest.approx(wanted[:4], abs=1e-9)
    if kind == "symmetric":
        assert found.largest_singular_value_over_T == pytest.approx(np.abs(np.linalg.eigvalsh(jacobian)).max() ** 599)
        assert found.retention == pytest.approx(np.mean(np.linalg.eigvalsh(jacobian) ** (2 * 599)), rel=0.9)
    singular = np.linalg.svd(jacobian, compute_uv=False)
    assert found.largest_singular_value == pytest.approx(singular[0], rel=1e-9)
    assert found.jacobian.mean_squared_singular_value == pytest.approx(np.mean(singular**2), rel=1e-9)
    assert found.jacobian.variance == pytest.approx(np.var(singular**2), rel=1e-6, abs=1e-12)


# ---- tanh networks: complex steps that share no code ----------------------------------------------------------


def complex_step_exponents(kernel: Array, state: Array, steps: int, burn: int, count: int) -> Array:
    """Exponents of h' = tanh(W h): derivatives are imaginary parts, and volumes of Gram–Schmidt by hand."""
    h = state.copy()
    vectors = list(np.random.default_rng(8).standard_normal((count, len(h))))
    logs = np.zeros(count)
    for t in range(burn + steps):
        size = 1e-150
        vectors = [np.tanh(kernel @ (h + 1j * size * v)).imag / size for v in vectors]
        h = np.tanh(kernel @ h)
        for k, v in enumerate(vectors):
            for other in vectors[:k]:
                v = v - np.dot(v, other) * other
            length = math.sqrt(np.dot(v, v))
            logs[k] += math.log(length) if t >= burn else 0.0
            vectors[k] = v / length
    return logs / steps


@pytest.mark.parametrize("g", [1.2, 1.5, 2.0, 3.0, 4.0])
def test_tanh_networks_agree_with_complex_steps(g: float) -> None:
    units, steps = 100, 1600
    kernel = g * np.random.default_rng(3).standard_normal((units, units)) / math.sqrt(units)
    weights, _ = undriven(find_cell("rnn"), kernel, kick=0.5)
    x = np.eye(1, steps).T
    found = layer_numbers(weights, [x], T=None, exponents=3, seed=0)
    first = np.tanh(weights.input["hidden"][:, 0])
    wanted = complex_step_exponents(kernel, first, steps // 2, steps // 2 - 1, 3)
    assert found.lyapunov == pytest.approx(wanted, abs=0.01)


# ---- tanh networks: the mean field trend near g = 1 -----------------------------------------------------------


def mean_field_exponent(g: float) -> float:
    """½ ln(g² E φ'(√Δ z)²) with Δ = g² E φ(√Δ z)², of h' = tanh(g J h) at infinite width."""
    low, high = 1e-9, g * g
    for _ in range(200):
        delta = 0.5 * (low + high)
        # Δ ↦ g² E tanh² is concave: above the fixed point it falls below Δ
        if g * g * np.sum(WEIGHTS * np.tanh(math.sqrt(delta) * NODES) ** 2) > delta:
            low = delta
        else:
            high = delta
    slope = 1.0 - np.tanh(math.sqrt(delta) * NODES) ** 2
    return 0.5 * math.log(g * g * float(np.sum(WEIGHTS * slope**2)))


def test_the_mean_field_exponent_grows_with_the_square_of_g_minus_1() -> None:
    """Expanding tanh, Δ = (g−1) and λ = (2/3)(g−1)² to leading order."""
    for g in (1.001, 1.003, 1.01):
        assert mean_field_exponent(g) / (g - 1.0) ** 2 == pytest.approx(2.0 / 3.0, rel=8 * (g - 1.0))


@pytest.mark.slow
@pytest.mark.parametrize(("g", "tolerance"), [(1.5, 0.12), (2.0, 0.05), (4.0, 0.03)])
def test_tanh_networks_follow_the_mean_field(g: float, tolerance: float) -> None:
    """Networks of 600 units; the nearer g is to 1 the more single networks scatter."""
    assert np.mean(random_networks(g, 600)) == pytest.approx(mean_field_exponent(g), rel=tolerance)


@pytest.mark.slow
def test_near_the_onset_of_chaos_exponents_rise_to_the_mean_field_with_the_width() -> None:
    """At g = 1.3 finite networks have smaller exponents; those of 1200 units are within a third of the mean field."""
    narrow, wide, limit = np.mean(random_networks(1.3, 300)), np.mean(random_networks(1.3, 1200)), 0.0311911
    assert mean_field_exponent(1.3) == pytest.approx(limit, abs=1e-6)
    assert narrow < wide < limit
    assert wide == pytest.approx(limit, rel=1.0 / 3.0)


def random_networks(g: float, units: int) -> list[float]:
    """The largest exponents of three undriven networks."""
    found = []
    for seed in range(3):
        kernel = g * np.random.default_rng(seed).standard_normal((units, units)) / math.sqrt(units)
        course = run_course(undriven(find_cell("rnn"), kernel.astype(np.float32), kick=0.5)[0], [np.eye(1, 1200).T])
        ahead = forward(course, 1, np.random.default_rng(0))
        late = ahead.since[:, 0] >= 600
        found.append(float(np.sum(ahead.log_stretch[late, 0]) / (1200 - ahead.since[late].min())))
    return found


def test_sequences_of_different_lengths_count_alike() -> None:
    """One unit has one direction, so its exponent is that of each sequence by itself, whatever runs beside it."""
    weights, _ = undriven(find_cell("rnn"), np.array([[1.5]]))
    rng = np.random.default_rng(2)
    long, short = rng.standard_normal((160, 1)), rng.standard_normal((96, 1))
    both = layer_numbers(weights, [short, long], T=None, exponents=1, seed=0).lyapunov[0]
    each = [layer_numbers(weights, [x], T=None, exponents=1, seed=0).lyapunov[0] for x in (long, short)]
    assert both == pytest.approx(np.mean(each), abs=1e-12)
