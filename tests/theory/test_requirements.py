"""Written signal, retention and gain: closed forms, units simulated one by one, and what they say of the schemes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import integrate

import critinit
from critinit.dual import sigmoid
from critinit.errors import ArgumentError
from critinit.theory.requirements import requirements
from tests.theory import points


def lone_gru(feed, T, padding=None):
    """A GRU whose kernels carry nothing but inputs: units by themselves, all alike."""
    gates = {
        "update": points.gate(1e-12, feed, 3),
        "reset": points.gate(1e-12, 1e-12, 5),
        "candidate": points.gate(1e-12, 4, 0),
    }
    return points.spec("gru", gates, T=T, padding=padding)


def test_a_constant_gate_has_closed_forms():
    found = requirements(lone_gru(1e-12, 50))
    keep = 1 / (1 + math.exp(-3))
    x, w = np.polynomial.hermite_e.hermegauss(80)
    square = float(np.tanh(2 * x) ** 2 @ w / w.sum())
    assert found.padding_retention == pytest.approx(keep**100, rel=1e-3)
    assert found.response_gain == pytest.approx(1.0, rel=1e-5)
    assert found.early_input_response == pytest.approx((1 - keep) ** 2 * square * keep**100, rel=2e-3)


@pytest.mark.parametrize("padding", [0.0, 0.3])
def test_one_signal_then_silence_as_units_do_it(padding):
    """Simulated: a million units see one informative input, then T that are not."""
    rng, T = np.random.default_rng(0), 12
    count, variance = 1_000_000, 2.0
    keep = sigmoid(3 + math.sqrt(variance) * rng.standard_normal(count))
    written = (1 - keep) * np.tanh(2 * rng.standard_normal(count))
    left = np.ones(count)
    for _ in range(T):
        left *= sigmoid(3 + math.sqrt(variance * padding) * rng.standard_normal(count)) ** 2
    found = requirements(lone_gru(variance, T, padding))
    assert found.padding_retention == pytest.approx(left.mean(), rel=0.02)
    assert found.early_input_response == pytest.approx(np.mean(written**2) * left.mean(), rel=0.03)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize(("mean", "variance", "T"), [(3.0, 4.0, 100), (5.0, 4.0, 500), (3.0, 0.1, 20)])
def test_a_normal_bias_of_the_keep_gate_stays_with_its_unit(cell, mean, variance, T):
    """Over the biases, by adaptive integration: a mean of powers, not the power of a mean."""
    spec = critinit.generate(cell, T=T, scheme="isometry", padding={"variance": 0.0}).to_dict()
    spec["scheme"] = "custom"
    keep = "update" if cell == "gru" else "forget"
    gate = spec["layers"][0]["gates"][keep]
    gate["bias"] = {"distribution": "normal", "mean": mean, "variance": variance}
    gate["recurrent"]["variance"] = gate["input"]["variance"] = 1e-12
    for part, gone in ((spec["layers"][0], "predicted"), (spec, "target")):
        part.pop(gone)

    def weighed(z):
        kept = sigmoid(mean + math.sqrt(variance) * z)
        return float(kept ** (2 * T)) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    exact = integrate.quad(weighed, -12, 12, points=[0.0, 2.0], limit=200)[0]
    assert requirements(critinit.parse(spec)).padding_retention == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("cell", ["layernorm_gru", "layernorm_lstm"])
def test_a_normal_bias_of_no_width_is_a_constant_in_normalized_cells(cell):
    """Their kernels are scaled by what they read, which a bias that stays with its unit must leave in place."""
    gate = "update" if cell == "layernorm_gru" else "forget"
    constant, normal = (
        critinit.generate(
            cell,
            T=50,
            scheme="orthogonal",
            settings=[f"layers.0.gates.{gate}.bias={json.dumps({**form, 'mean': 2.0})}"],
        )
        for form in ({"distribution": "constant"}, {"distribution": "normal", "variance": 1e-12})
    )
    exact, found = requirements(constant), requirements(normal)
    assert found.padding_retention == pytest.approx(exact.padding_retention, rel=1e-4)
    assert found.early_input_response == pytest.approx(exact.early_input_response, rel=1e-4)


def test_an_uncoupled_write_gate_follows_its_bias():
    """An LSTM with input bias 0 and forget gate at 1 − 1/800: a constant input moves the cell by about 400."""
    gates = {name: points.gate(1e-12, 1e-12, mean) for name, mean in (("input", 0), ("cell", 0), ("output", 1))}
    gates["forget"] = points.gate(1e-12, 1e-12, math.log(799))
    assert requirements(points.spec("lstm", gates)).response_gain == pytest.approx(400, rel=1e-3)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_critical_writes_and_keeps_more_than_chrono(cell):
    for padding in (0.0, None, 1.0):
        critical, chrono = (
            requirements(points.generate(cell, 500, padding, scheme=scheme)) for scheme in ("critical", "chrono")
        )
        if padding == 1.0:  # gates react less to declared noise: the early input gives way
            assert critical.early_input_response == pytest.approx(chrono.early_input_response, rel=0.1)
        else:
            assert critical.early_input_response > 3 * chrono.early_input_response
        assert critical.padding_retention > 3 * chrono.padding_retention
        assert critical.response_gain == pytest.approx(1, abs=0.05)


def test_a_cell_without_a_keep_gate_has_none():
    with pytest.raises(ArgumentError, match="cell: found rnn"):
        requirements(critinit.generate("rnn", T=20))
