"""Whether the two theories agree, in a sentence and the numbers that it rests on."""

from __future__ import annotations

import math

import numpy as np
import pytest

import critinit
from critinit.theory.agreement import agreement
from critinit.theory.analysis import fast_numbers, untied_numbers
from critinit.theory.comparing import _stated, comparisons
from critinit.theory.decay import over_T
from tests.theory import points


def judged(spec):
    layer = spec.layers[0]
    return agreement(untied_numbers(spec, layer), fast_numbers(spec), spec.T)


def planted(spec, **changes):
    """The verdict where the tied numbers are the untied ones, but for these."""
    untied = untied_numbers(spec, spec.layers[0])
    return agreement(untied, untied.model_copy(update=changes), spec.T)


def rate(numbers, factor, T):
    """The fields of a growth over T steps whose rate is ``factor`` times that of ``numbers``."""
    return over_T(factor * T * math.log(numbers.chi_over_T), T)


def test_a_network_that_lives_longer_than_fresh_weights_say():
    agrees, words = judged(points.gru())
    assert not agrees
    assert "time scale after many steps: 3.681 and 8." in words
    assert "% apart, limit 5 %" in words
    assert words.startswith("Untied and tied theory disagree. Trust the tied numbers: networks keep their weights.")


def test_chaos_is_named():
    agrees, words = planted(points.gru(), chi=1.2, time_scale=None)
    assert not agrees
    assert "growth rate after many steps: 0.7621 and 1.2" in words


@pytest.mark.parametrize("scheme", ["critical", "isometry"])
def test_small_recurrence_misleads_nobody(scheme):
    agrees, words = judged(critinit.generate("gru", T=100, scheme=scheme))
    assert agrees
    assert words.startswith("Untied and tied theory agree.\n  second moment: ")


def test_the_lines_state_numbers_difference_and_limit():
    spec = critinit.generate("gru", T=784)
    untied = untied_numbers(spec, spec.layers[0])
    agrees, words = planted(spec, **rate(untied, 0.98, 784))
    assert agrees
    assert "time scale over 784 steps: 283 and 288.8; 2 % apart, limit 5 %" in words
    assert f"second moment: {untied.second_moment:.4g} and {untied.second_moment:.4g}; 0 % apart, limit 3 %" in words


@pytest.mark.parametrize(("factor", "agree"), [(0.94, False), (1.06, False), (0.96, True), (1.04, True)])
def test_a_planted_rate_beyond_the_limit_is_caught(factor, agree):
    spec = critinit.generate("gru", T=784)
    assert planted(spec, **rate(untied_numbers(spec, spec.layers[0]), factor, 784))[0] is agree


@pytest.mark.parametrize(("factor", "agree"), [(0.96, False), (1.04, False), (0.98, True), (1.02, True)])
def test_a_planted_second_moment_beyond_the_limit_is_caught(factor, agree):
    spec = critinit.generate("gru", T=784)
    number = factor * untied_numbers(spec, spec.layers[0]).second_moment
    agrees, words = planted(spec, second_moment=number)
    assert agrees is agree
    assert f"{number:.4g}" in words


@pytest.mark.parametrize("factor", [0.2, 0.5, 2.0, 5.0])
def test_differences_are_shares_of_the_larger_of_the_numbers_that_are_shown(factor):
    """One definition for moments and time scales, also where the numbers are far apart."""
    spec = critinit.generate("gru", T=784)
    untied = untied_numbers(spec, spec.layers[0])
    number = factor * untied.second_moment
    other = untied.model_copy(update={"second_moment": number, **rate(untied, 1.0 / factor, 784)})
    moment, growth, _ = comparisons(untied, other, 784, errors=3.0)
    assert growth.name == "time scale over 784 steps"
    assert growth.found / growth.expected == pytest.approx(factor, rel=1e-3)
    assert moment.difference == pytest.approx(1.0 - min(factor, 1.0 / factor))
    assert growth.difference == pytest.approx(moment.difference, rel=1e-3)
    assert not moment.agrees
    assert not growth.agrees


@pytest.mark.parametrize("chi", [0.99, 0.999, 0.9999, 0.9995])
def test_rates_are_relative_near_criticality(chi):
    """Half and double the time scale, and chaos instead of decay, are caught however near χ is to 1."""
    spec = critinit.generate("gru", T=784, scheme="isometry")
    untied = untied_numbers(spec, spec.layers[0]).model_copy(
        update={"chi": chi, "time_scale": -1.0 / math.log(chi), **over_T(784 * math.log(chi), 784)}
    )
    assert agreement(untied, untied, 784)[0]
    for factor in (0.5, 2.0, -1.0):
        other = chi**factor
        changed = {"chi": other, "time_scale": None if other >= 1 else -1.0 / math.log(other)}
        assert not agreement(untied, untied.model_copy(update=changed), 784)[0], (chi, factor)
        over = over_T(factor * 784 * math.log(chi), 784)
        assert not agreement(untied, untied.model_copy(update=over), 784)[0], (chi, factor)


def test_what_is_not_sampled_is_not_compared():
    """Tied and sampled, a spread of time constants has no asymptotic χ: the growth over T steps is compared alone."""
    spec = critinit.generate("gru", T=784)
    untied = untied_numbers(spec, spec.layers[0])
    tied = untied.model_copy(update={"chi": None, "time_scale": None})
    assert [c.field for c in comparisons(untied, tied, 784, errors=3.0)] == ["second_moment", "chi_over_T"]
    assert agreement(untied, tied, 784)[0]


def test_a_rate_counts_where_nothing_is_left():
    """1e-202 and 1e-157 after T steps: what is left is nothing either way, the rates differ all the same."""
    spec = critinit.generate("gru", T=784, scheme="orthogonal")
    agrees, words = judged(spec)
    assert not agrees
    assert "time scale over 784 steps: 1.691 and 2.1" in words


def test_within_three_standard_errors_is_no_difference():
    spec = points.peephole()
    untied = untied_numbers(spec, spec.layers[0])
    slower = {"chi": untied.chi * 1.1, "time_scale": 1.9}
    assert planted(spec, **slower, standard_error={"chi": untied.chi})[0]
    assert not planted(spec, **slower, standard_error={"chi": 1e-4})[0]


def test_a_growth_that_is_sampled_too_coarsely_decides_nothing():
    """Half of the rate as one standard error: even double the rate would pass, so there is no verdict."""
    spec = critinit.generate("gru", T=784)
    untied = untied_numbers(spec, spec.layers[0])
    half = 0.5 * untied.chi_over_T / untied.time_scale_over_T
    agrees, words = planted(spec, **rate(untied, 0.9, 784), standard_error={"chi_over_T": half})
    assert agrees is None
    assert "cannot be decided" in words


def test_a_number_as_uncertain_as_itself_is_not_stated():
    """A time scale of 1478 ± 3300 steps is said to be uncertain, and its digits are not shown."""
    spec = points.slow()
    agrees, words = planted(spec, chi=0.999324, time_scale=1478.0, standard_error={"chi": 0.0015})
    assert not agrees
    assert "1478" not in words
    assert "time scale after many steps: too uncertain to be stated" in words


def test_one_network_that_outgrows_all_others_has_no_mean_to_state():
    """The standard error of such a mean is as large as it, to within the others' share."""
    outlier = np.array([3e4, 0.2, 0.2])
    assert not _stated(outlier.mean(), outlier.std(ddof=1) / math.sqrt(3))
    assert _stated(1.0, 0.9)


def test_growth_of_other_copies_is_said_to_be_left_out():
    """Untied numbers are of copies with inputs of correlation below 1, tied ones of copies with the same."""
    agrees, words = judged(critinit.generate("minimal_rnn", 500, input_correlation=0.9))
    assert agrees
    first, *lines = words.split("\n")
    assert first == "Untied and tied theory agree on the second moment."
    assert [line.split()[0] for line in lines] == ["second", "growth"]
    assert "not compared" not in judged(critinit.generate("minimal_rnn", 500))[1]


def test_nearly_critical_on_either_side_of_1_is_no_difference():
    spec = critinit.generate("gru", T=100, scheme="isometry")
    untied = untied_numbers(spec, spec.layers[0]).model_copy(
        update={"chi": 0.99999, "time_scale": 99999.5, **over_T(-0.001, 100)}
    )
    tied = untied.model_copy(update={"chi": 1.00001, "time_scale": None, **over_T(0.001, 100)})
    assert agreement(untied, tied, 100)[0]
    assert not agreement(untied, tied, 10**6)[0]


def test_identity_kernels_have_no_untied_reading():
    spec = points.spec("rnn", {"hidden": points.gate(0.25, 1.0, 0, distribution="identity")})
    agrees, words = judged(spec)
    assert not agrees
    assert "identity" in words
