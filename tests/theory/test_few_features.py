"""Networks that read few features hold more than theory says, as the glossary states; written out by hand here."""

from __future__ import annotations

import numpy as np
import pytest

from critinit import generate, materialize

SPEC = generate("gru", T=100)
UNITS, STEPS, SEQUENCES = 256, 1200, 16


def second_moment(features: int, seed: int) -> float:
    """The mean square of the state of a GRU, after PyTorch's equations."""
    drawn = materialize(SPEC, "torch", input_size=features, hidden_size=UNITS, seed=seed)
    w, u, b, c = (drawn[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    rng = np.random.default_rng(seed)
    h = np.zeros((SEQUENCES, UNITS))
    for _ in range(STEPS):
        r, z, n = np.split(rng.standard_normal((SEQUENCES, features)) @ w.T + b, 3, axis=1)
        r_h, z_h, n_h = np.split(h @ u.T + c, 3, axis=1)
        z = 1 / (1 + np.exp(-z - z_h))
        h = z * h + (1 - z) * np.tanh(n + n_h / (1 + np.exp(-r - r_h)))
    return float(np.mean(h**2))


@pytest.mark.parametrize(("features", "stated"), [(1, 0.265), (3, 0.198), (32, 0.127)])
def test_the_state_is_larger_where_features_are_few(features: int, stated: float) -> None:
    found = np.mean([second_moment(features, seed) for seed in range(3)])
    assert found == pytest.approx(stated, rel=0.1)
    assert SPEC.layers[0].predicted.tied.second_moment == pytest.approx(0.112, rel=0.01)
