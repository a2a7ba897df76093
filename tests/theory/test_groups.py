"""Groups of units: the numbers of a layer against those of its groups, networks, and recurrences by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

import critinit
from critinit.simulation import simulate, simulate_layer
from critinit.spec import Jacobian, Numbers, TimeConstants
from critinit.spec.reading import validate_object
from critinit.theory.agreement import agreement
from critinit.theory.analysis import fast_numbers, tied_numbers, untied_numbers
from critinit.theory.comparing import comparisons
from critinit.theory.groups import mixed
from critinit.theory.protocol import fills
from critinit.theory.requirements import requirements
from critinit.theory.spectrum.density import spectrum_density
from critinit.theory.tied.estimate import is_estimate
from critinit.theory.tied.solution import tied_layer
from tests.theory import points

pytestmark = pytest.mark.slow


def grouped(cell, first, second, share=0.75, T=100, layers=1, **known):
    """Layers of two groups: the gates of two schemes."""
    data = [critinit.generate(cell, T, scheme=scheme, layers=layers, **known).to_dict() for scheme in (first, second)]
    for one, other in zip(data[0]["layers"], data[1]["layers"], strict=True):
        gates = one.pop("gates")
        one.pop("predicted")
        one["groups"] = [
            {"name": "a", "share": share, "gates": gates},
            {"name": "b", "share": 1.0 - share, "gates": other["gates"]},
        ]
    for key in ("generated", "target"):
        data[0].pop(key, None)
    return validate_object({**data[0], "scheme": "custom"})


@pytest.mark.parametrize("cell", ["gru", "lstm", "mgu", "coupled_lstm"])
def test_one_kind_of_unit_in_two_groups_is_a_layer_of_one_group(cell):
    """Groups of the same gates and no recurrent mixing to speak of: every number is that of the one-group layer."""
    alone = critinit.generate(cell, 100)
    both = critinit.predict(grouped(cell, "critical", "critical", share=0.3))
    one, two = alone.layers[0].predicted, both.layers[0].predicted
    for a, b in ((one.untied, two.untied), (one.tied, two.tied)):
        assert b.second_moment == pytest.approx(a.second_moment, rel=1e-5)
        assert b.retention == pytest.approx(a.retention, rel=1e-5)
        assert b.chi == pytest.approx(a.chi, abs=1e-7)
        assert b.jacobian.variance == pytest.approx(a.jacobian.variance, rel=1e-4)
        assert b.unit_time_constants.median == pytest.approx(a.unit_time_constants.median, rel=1e-3)


def numbers(moment, retention, chi, times, mean, variance, errors=None):
    return Numbers(
        second_moment=moment,
        chi=chi,
        time_scale=-1.0 / math.log(chi),
        chi_over_T=retention ** (1 / 10),
        time_scale_over_T=-10.0 / math.log(retention),
        retention=retention,
        unit_time_constants=TimeConstants(min=times[0], median=times[1], max=times[2]),
        jacobian=Jacobian(mean_squared_singular_value=mean, variance=variance),
        standard_error=errors,
    )


def test_the_mean_over_units_by_hand():
    layer = grouped("gru", "critical", "torch", share=0.25).layers[0]
    a = numbers(0.4, 0.5, 0.99, (10.0, 10.0, 10.0), 0.9, 0.01, {"second_moment": 0.01, "retention": 0.02})
    b = numbers(0.2, 0.1, 0.9, (1.0, 4.0, 16.0), 0.5, 0.02)
    found = mixed(layer, [a, b], 10)
    assert found.second_moment == pytest.approx(0.25)
    assert found.retention == pytest.approx(0.2)
    assert found.chi_over_T == pytest.approx(0.2**0.1)
    assert (found.chi, found.time_scale) == (0.99, a.time_scale)
    assert found.jacobian.mean_squared_singular_value == pytest.approx(0.6)
    # E x⁴ − (E x²)² over all singular values
    second = 0.25 * (0.01 + 0.81) + 0.75 * (0.02 + 0.25)
    assert found.jacobian.variance == pytest.approx(second - 0.36)
    assert (found.unit_time_constants.min, found.unit_time_constants.max) == (1.0, 16.0)
    # two thirds of group b lie below: its times are taken as log-uniform between 4 and 16
    assert found.unit_time_constants.median == pytest.approx(4.0 * 4.0 ** ((2 / 3 - 0.5) / 0.5), rel=1e-6)
    assert found.standard_error is not None
    assert found.standard_error["second_moment"] == pytest.approx(0.25 * 0.01)
    assert found.standard_error["retention"] == pytest.approx(0.25 * 0.02)


@pytest.mark.parametrize(
    ("cell", "first", "second", "share"),
    [("gru", "isometry", "critical", 0.5), ("lstm", "chrono", "orthogonal", 0.75), ("mgu", "torch", "critical", 0.4)],
)
def test_networks_of_groups_have_the_numbers_of_theory(cell, first, second, share):
    spec = grouped(cell, first, second, share)
    theory, measured = tied_numbers(spec)[0], simulate(spec, width=200, seeds=4)[0].numbers
    error = measured.standard_error["second_moment"]
    assert abs(measured.second_moment - theory.second_moment) < 4 * error + 0.03 * theory.second_moment
    rate, found = -math.log(theory.chi_over_T), -math.log(measured.chi_over_T)
    assert found == pytest.approx(rate, rel=0.06)
    mean = theory.jacobian.mean_squared_singular_value
    assert measured.jacobian.mean_squared_singular_value == pytest.approx(mean, rel=0.03)
    assert measured.jacobian.variance == pytest.approx(theory.jacobian.variance, rel=0.15, abs=1e-3)


def test_networks_with_weights_drawn_anew_have_the_untied_numbers():
    spec = grouped("gru", "orthogonal", "critical", 0.5)
    theory = untied_numbers(spec, spec.layers[0])
    measured = simulate(spec, width=200, seeds=4, weights="untied")[0].numbers
    assert measured.second_moment == pytest.approx(theory.second_moment, rel=0.03)
    assert measured.retention == pytest.approx(theory.retention, rel=0.1)


def test_a_layer_above_reads_all_groups():
    """Two groups of the same gates below are as one; others are as in networks, whose gap falls with 1/N."""
    one, two = critinit.generate("gru", 50, layers=2), grouped("gru", "critical", "critical", 0.5, T=50, layers=2)
    a, b = (tied_numbers(spec)[1] for spec in (one, two))
    error = math.hypot(a.standard_error["second_moment"], b.standard_error["second_moment"])
    assert abs(a.second_moment - b.second_moment) < 4 * error
    spec = grouped("gru", "chrono", "critical", 0.5, T=50, layers=2)
    theory, measured = tied_numbers(spec)[1], simulate(spec, width=400, seeds=2)[1].numbers
    assert measured.second_moment == pytest.approx(theory.second_moment, rel=0.1)


def test_the_spectrum_is_the_mean_of_those_of_the_groups():
    spec = grouped("gru", "isometry", "torch", 0.5)
    found = spectrum_density(spec)
    parts = [
        spectrum_density(spec.model_copy(update={"layers": (one,)}), particles=500) for one in spec.layers[0].alone()
    ]
    assert found.mean == pytest.approx(np.mean([part.mean for part in parts]), rel=0.02)
    points_at = np.linspace(0.05, 1.0, 8)
    each = [part.distribution.cumulative(points_at)[0] for part in parts]
    assert found.distribution.cumulative(points_at)[0] == pytest.approx(np.mean(each, axis=0), abs=0.03)
    assert found.spectral_edge == pytest.approx(max(part.spectral_edge for part in parts), rel=0.02)


def test_requirements_are_means_over_units():
    spec = grouped("gru", "critical", "chrono", 0.25)
    each = [requirements(critinit.generate("gru", 100, scheme=scheme)) for scheme in ("critical", "chrono")]
    found = requirements(spec)
    assert found.padding_retention == pytest.approx(
        0.25 * each[0].padding_retention + 0.75 * each[1].padding_retention, rel=1e-5
    )


def test_the_memory_group_keeps_through_its_kernel():
    """Its units by themselves keep nothing; the loop was made to leave 1/e over T steps."""
    spec = critinit.generate("gru", 100, scheme="memory", input_autocorrelation=0.0)
    gated = requirements(critinit.generate("gru", 100)).padding_retention
    short = (0.99**201 - 0.01**201) / 201 / 0.98  # of keep gates uniform from 1/100 to 99/100, the mean 200th power
    expected = 0.5 * math.exp(-1.0) + 0.125 * gated + 0.375 * short
    assert requirements(spec).padding_retention == pytest.approx(expected, rel=1e-3)


# ---- rotations -------------------------------------------------------------------------------------------


def by_hand(T, angles, gain, power, units, steps, seed):
    """δ of tanh networks of pairs, by complex steps: h' = tanh(g R h + x), mean of |δ_T|²/|δ_0|² and of h²."""
    rng = np.random.default_rng(seed)
    theta = np.repeat(angles, units // (2 * len(angles)))
    c, s = np.cos(theta), np.sin(theta)

    def step(h, x):
        a, b = h[0::2], h[1::2]
        u = np.empty_like(h)
        u[0::2], u[1::2] = c * a - s * b, s * a + c * b
        return np.tanh(gain * u + x)

    h = np.zeros(2 * len(theta), dtype=complex)
    moments = []
    for _ in range(steps):
        h = step(h, math.sqrt(power) * rng.standard_normal(len(h)))
        moments.append(np.mean(h.real**2))
    start = rng.choice([-1.0, 1.0], len(h))
    h = h + 1e-30j * start
    for _ in range(T):
        h = step(h, math.sqrt(power) * rng.standard_normal(len(h)))
    return float(np.mean((h.imag / 1e-30) ** 2)), float(np.mean(moments[steps // 2 :]))


@pytest.mark.parametrize("stated", [{"concentration": 0.4}, {"spectrum": [3.0, 0.5, 0.0, 2.0, 1.0]}])
def test_rotations_have_the_numbers_of_pairs_by_hand(stated):
    T, power = 60, 2e-3
    spec = points.spec("rnn", {"hidden": points.gate(1.0, power, 0.0)})
    data = spec.to_dict()
    data["T"] = T
    data["layers"][0]["gates"]["hidden"]["recurrent"] = {
        "distribution": "rotation", "variance": 1.0, **stated,
    }  # fmt: skip
    data["layers"][0].pop("predicted", None)
    spec = validate_object({**data, "scheme": "custom"})
    layer = spec.layers[0]
    found = tied_layer(spec.find_cell(), layer, T=T, particles=2000)
    angles = layer.gates["hidden"].recurrent.angles(50)
    each = np.array([by_hand(T, angles, 1.0, power, 2000, 400, seed) for seed in range(6)])
    retention, moment = each.mean(axis=0)
    errors = each.std(axis=0, ddof=1) / math.sqrt(len(each))
    assert abs(found.retention - retention) < 4 * math.hypot(errors[0], found.standard_error["retention"])
    assert abs(found.second_moment - moment) < 4 * math.hypot(errors[1], found.standard_error["second_moment"])
    networks = simulate_layer(spec.find_cell(), layer, T=T, width=200, seeds=4).numbers
    assert networks.retention == pytest.approx(found.retention, rel=0.08)
    # an orthogonal kernel of the same gain forgets more: its mean field averages over how far each pair saturates
    assert found.retention > 1.05 * untied_numbers(spec, layer).retention
    assert fast_numbers(spec).retention == pytest.approx(found.retention, rel=0.1)


def test_a_layer_that_fills_is_compared_with_what_fills_alike():
    """Pairs of the memory group fill for several T: networks and tied theory meet them at one age, untied later."""
    spec = critinit.generate("gru", T=1000, scheme="memory")
    (tied_now,) = tied_numbers(spec)
    untied = spec.layers[0].predicted.untied
    measured = simulate(spec, width=64, seeds=4, tangents=1)[0].numbers
    assert all(fills(numbers.notes) for numbers in (tied_now, measured, spec.layers[0].predicted.tied))
    assert comparisons(untied, tied_now, 1000, errors=3.0) == []
    (growth,) = comparisons(tied_now, measured, 1000, errors=3.0)
    assert growth.field == "chi_over_T"
    assert growth.agrees
    agrees, sentence = agreement(untied, tied_now, 1000)
    assert agrees is None
    assert "not compared" in sentence


def test_an_estimate_of_one_group_is_an_estimate():
    tied_now = critinit.generate("gru", T=100, scheme="memory").layers[0].predicted.tied
    assert any(note.endswith("(group memory)") for note in tied_now.notes)
    assert is_estimate(tied_now)
