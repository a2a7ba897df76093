"""Whether the untied numbers mislead, in words."""

from __future__ import annotations

import pytest

import critinit
from critinit.theory.agreement import agreement
from critinit.theory.analysis import fast_numbers, untied_numbers
from tests.theory import points


def said(spec):
    layer = spec.layers[0]
    return agreement(untied_numbers(spec, layer), fast_numbers(spec, layer))


def test_a_network_that_lives_longer_than_fresh_weights_say():
    agrees, words = said(points.gru())
    assert not agrees
    assert "the time scale is 8" in words
    assert "not 3." in words


def test_chaos_is_named():
    untied = untied_numbers(points.gru(), points.gru().layers[0])
    tied = untied.model_copy(update={"chi": 1.2, "time_scale": None})
    assert "chaotic (chi 1.2)" in agreement(untied, tied)[1]


@pytest.mark.parametrize("scheme", ["critical", "isometry"])
def test_small_recurrence_misleads_nobody(scheme):
    agrees, words = said(critinit.generate("gru", T=100, scheme=scheme))
    assert agrees
    assert "hold" in words


def test_a_spread_of_time_constants_read_over_another_window_misleads_nobody():
    spec = critinit.generate("gru", T=100)
    untied = untied_numbers(spec, spec.layers[0])
    read_over_T = {"chi": 0.976, "time_scale": 41.4, "standard_error": {"chi": 1e-4, "retention": 6e-5}}
    assert agreement(untied, untied.model_copy(update=read_over_T))[0]
    slower = read_over_T | {"retention": untied.retention**1.5}
    agrees, words = agreement(untied, untied.model_copy(update=slower))
    assert not agrees
    assert "time scale is 41.4" in words


def test_within_three_standard_errors_is_no_difference():
    spec = points.peephole()
    untied = untied_numbers(spec, spec.layers[0])
    slower = {"chi": untied.chi * 1.1, "time_scale": 1.9, "retention": untied.retention * 1.1**spec.T}
    tied = untied.model_copy(update=slower | {"standard_error": {"chi": untied.chi}})
    assert agreement(untied, tied)[0]
    assert not agreement(untied, tied.model_copy(update={"standard_error": {"chi": 1e-4}}))[0]


def test_identity_kernels_have_no_untied_reading():
    spec = points.spec("rnn", {"hidden": points.gate(0.25, 1.0, 0, distribution="identity")})
    agrees, words = said(spec)
    assert not agrees
    assert "identity" in words
