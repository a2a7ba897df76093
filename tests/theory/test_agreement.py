"""Whether the two theories agree, in a sentence that states what was compared and is true."""

from __future__ import annotations

import pytest

import critinit
from critinit.theory.agreement import agreement
from critinit.theory.analysis import fast_numbers, untied_numbers
from tests.theory import points


def judged(spec):
    layer = spec.layers[0]
    return agreement(untied_numbers(spec, layer), fast_numbers(spec, layer), spec.T)


def planted(spec, **changes):
    """The verdict where the tied numbers are the untied ones, but for these."""
    untied = untied_numbers(spec, spec.layers[0])
    return agreement(untied, untied.model_copy(update=changes), spec.T)


def test_a_network_that_lives_longer_than_fresh_weights_say():
    agrees, words = judged(points.gru())
    assert not agrees
    assert "the time scale is 3.68 and 8." in words
    assert "% (limit 10 %)" in words
    assert "disagree" in words


def test_chaos_is_named():
    agrees, words = planted(points.gru(), chi=1.2, time_scale=None)
    assert not agrees
    assert "χ is 0.7621 and 1.2 per step: the tied network is chaotic" in words


@pytest.mark.parametrize("scheme", ["critical", "isometry"])
def test_small_recurrence_misleads_nobody(scheme):
    agrees, words = judged(critinit.generate("gru", T=100, scheme=scheme))
    assert agrees
    assert words.startswith("Untied and tied theory agree: retention over 100 steps is ")


def test_the_sentence_states_numbers_difference_and_limit():
    spec = critinit.generate("gru", T=784)
    untied = untied_numbers(spec, spec.layers[0])
    agrees, words = planted(spec, retention=1.0048 * untied.retention)
    assert agrees
    assert "retention over 784 steps is 0.0626 and 0.0629, a difference of 0.5 % (limit 10 %)" in words
    assert f"the second moment is {untied.second_moment:.3g} and" in words


@pytest.mark.parametrize("field", ["retention", "second_moment"])
@pytest.mark.parametrize(("factor", "agree"), [(0.88, False), (1.13, False), (0.92, True), (1.08, True)])
def test_a_planted_difference_beyond_the_limit_is_caught(field, factor, agree):
    spec = critinit.generate("gru", T=784)
    number = factor * getattr(untied_numbers(spec, spec.layers[0]), field)
    agrees, words = planted(spec, **{field: number})
    assert agrees is agree
    assert f"{number:.3g}" in words
    assert ("disagree" in words) is not agree


def test_time_scales_of_another_question_do_not_count_where_the_retention_agrees():
    """The README's own layer: 1569 and 637 steps, and the same share left after T steps."""
    spec = critinit.generate("gru", T=784)
    apart = {"chi": 0.998431, "time_scale": 637.0, "standard_error": {"chi": 1e-6, "retention": 6e-5}}
    agrees, words = planted(spec, **apart)
    assert agrees
    assert "1.57e+03 and 637 steps, answer different questions" in words
    assert "slowest units" in words
    agrees, words = planted(spec, **apart, retention=untied_numbers(spec, spec.layers[0]).retention ** 1.5)
    assert not agrees
    assert "the time scale is 1.57e+03 and 637 steps, a difference of 59.4 % (limit 10 %)" in words


def test_time_scales_count_where_nothing_is_left_to_compare():
    agrees, words = planted(points.peephole(), chi=0.6, time_scale=1.96)
    assert not agrees
    assert "retention" not in words
    assert "the time scale is 1.6 and 1.96 steps" in words


def test_within_three_standard_errors_is_no_difference():
    spec = points.peephole()
    untied = untied_numbers(spec, spec.layers[0])
    slower = {"chi": untied.chi * 1.1, "time_scale": 1.9, "retention": untied.retention * 1.1**spec.T}
    agrees, words = planted(spec, **slower, standard_error={"chi": untied.chi})
    assert agrees
    assert "within 3 standard errors" in words
    assert not planted(spec, **slower, standard_error={"chi": 1e-4})[0]


def test_a_number_as_uncertain_as_itself_is_not_stated():
    """A time scale of 1478 ± 3300 steps: the growth rate, which is known, is stated instead."""
    spec = points.slow()
    agrees, words = planted(spec, chi=0.999324, time_scale=1478.0, standard_error={"chi": 0.0015, "time_scale": 3300.0})
    assert not agrees
    assert "1.48e+03" not in words
    assert "1478" not in words
    assert "the growth rate χ is 0.91" in words
    assert "and 0.999324 per step" in words


def test_nearly_critical_on_either_side_of_1_is_no_difference():
    spec = critinit.generate("gru", T=100, scheme="isometry")
    untied = untied_numbers(spec, spec.layers[0]).model_copy(
        update={"chi": 0.99999, "time_scale": 99999.5, "retention": 0.999}
    )
    tied = untied.model_copy(update={"chi": 1.00001, "time_scale": None, "retention": 1.001})
    assert agreement(untied, tied, 100)[0]
    assert not agreement(untied, tied, 10**6)[0]


def test_identity_kernels_have_no_untied_reading():
    spec = points.spec("rnn", {"hidden": points.gate(0.25, 1.0, 0, distribution="identity")})
    agrees, words = judged(spec)
    assert not agrees
    assert "identity" in words
