"""Networks that read few features hold more than theory says, as the glossary states; written out by hand here."""

from __future__ import annotations

import numpy as np
import pytest

from critinit import generate, materialize
from critinit.errors import ArgumentError
from critinit.simulation import simulate

SPEC = generate("gru", T=100)
UNITS, STEPS, SEQUENCES = 256, 2400, 8


def second_moment(features: int, seed: int) -> float:
    """The mean square of the state of a GRU, after PyTorch's equations, over the later half of the steps."""
    drawn = materialize(SPEC, "torch", input_size=features, hidden_size=UNITS, seed=seed)
    w, u, b, c = (drawn[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    rng = np.random.default_rng(seed)
    h, squares = np.zeros((SEQUENCES, UNITS)), []
    for _ in range(STEPS):
        r, z, n = np.split(rng.standard_normal((SEQUENCES, features)) @ w.T + b, 3, axis=1)
        r_h, z_h, n_h = np.split(h @ u.T + c, 3, axis=1)
        z = 1 / (1 + np.exp(-z - z_h))
        h = z * h + (1 - z) * np.tanh(n + n_h / (1 + np.exp(-r - r_h)))
        squares.append(np.mean(h**2))
    return float(np.mean(squares[-STEPS // 2 :]))


@pytest.mark.parametrize(("features", "stated"), [(1, 0.271), (3, 0.215), (32, 0.125)])
def test_the_state_is_larger_where_features_are_few(features: int, stated: float) -> None:
    found = np.mean([second_moment(features, seed) for seed in range(3)])
    assert found == pytest.approx(stated, rel=0.1)
    assert SPEC.layers[0].predicted.tied.second_moment == pytest.approx(0.112, rel=0.01)


@pytest.mark.parametrize("features", [1, 3, 32])
def test_simulated_networks_may_read_as_few(features: int) -> None:
    by_hand = np.mean([second_moment(features, seed) for seed in range(3)])
    (measured,) = simulate(SPEC, width=UNITS, features=features, seeds=3, steps=300)
    assert measured is not None
    found = measured.numbers.second_moment
    assert found == pytest.approx(by_hand, rel=0.1)
    assert found > 1.1 * SPEC.layers[0].predicted.tied.second_moment


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


def test_no_features_are_refused() -> None:
    with pytest.raises(ArgumentError, match="features"):
        simulate(SPEC, width=30, features=0)
