"""Biases: moments in three ways, quantiles as the inverse of the share below, samples, what ``check`` says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import integrate, stats

from critinit.distributions import (
    BIASES,
    Bias,
    ConstantBias,
    CoupledBias,
    NormalBias,
    Observed,
    SpreadBias,
)
from critinit.errors import ArgumentError

DOUBLE = 2.0**-53
Z = 4.9
"""Standard errors that a sampled moment may be off: passed by chance once in a million; the seeds are fixed."""
TIMES = st.floats(min_value=1.001, max_value=1e6)
MEANS = st.floats(min_value=-50, max_value=50)
VARIANCES = st.floats(min_value=1e-6, max_value=1e3)

DENSITY_OF_TIME: dict[
    str, Callable[[float], float]
] = {  # dP/dτ, up to its norm, from the definition, not from the code
    "log_uniform_time": lambda t: 1 / t,
    "uniform_time": lambda t: 1.0,
    "uniform_gate": lambda t: 1 / t**2,
}


def spread(distribution: str, min_time: float, max_time: float) -> SpreadBias:
    made = BIASES.get(distribution).model_validate({"min_time": min_time, "max_time": max_time})
    assert isinstance(made, SpreadBias)
    return made


# ---- spread biases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("distribution", DENSITY_OF_TIME)
@pytest.mark.parametrize("times", [(1.05, 784.0), (2.0, 2.5), (1.001, 1e6), (30.0, 5000.0)])
def test_moments_of_a_spread_are_integrals_over_the_time_constant(
    distribution: str, times: tuple[float, float]
) -> None:
    density = DENSITY_OF_TIME[distribution]

    def average(power: int) -> float:  # in s = ln τ, where all is smooth
        def integrand(s: float) -> float:
            return density(math.exp(s)) * math.exp(s) * math.log(math.expm1(s)) ** power

        ends = [math.log(t) for t in times]
        knots = sorted({*ends, *(k for k in (0.01, 0.1, 1.0, 4.0, 8.0, 12.0) if ends[0] < k < ends[1])})
        pieces = itertools.pairwise(knots)
        return sum(integrate.quad(integrand, a, b, epsabs=0, epsrel=1e-11)[0] for a, b in pieces)

    norm = average(0)
    mean = average(1) / norm
    variance = average(2) / norm - mean**2
    bias = spread(distribution, *times)
    assert bias.moments == pytest.approx((mean, variance), rel=1e-6, abs=1e-8)
    nodes, weights = bias.classes(64)
    assert float(weights.sum()) == pytest.approx(1.0, rel=1e-14)
    assert float(weights @ nodes) == pytest.approx(mean, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("distribution", DENSITY_OF_TIME)
def test_quantiles_of_a_spread_have_its_moments(distribution: str) -> None:
    q = (np.arange(200_000) + 0.5) / 200_000
    bias = spread(distribution, 1.5, 300.0)
    b = bias.quantile(q)
    assert np.all(np.diff(b) > 0)
    assert (b.mean(), b.var()) == pytest.approx(bias.moments, rel=1e-4)


@pytest.mark.parametrize("distribution", DENSITY_OF_TIME)
@given(low=TIMES, high=TIMES, q=st.floats(min_value=0, max_value=1))
@settings(deadline=None, max_examples=60)
def test_the_quantile_is_the_inverse_of_the_share_below(distribution: str, low: float, high: float, q: float) -> None:
    low, high = sorted((low, high))
    if high - low < 1e-3 * low:
        high = low * 1.001 + 1e-3
    bias = spread(distribution, low, high)
    b = bias.quantile(np.array(q))
    start, end = bias.ends
    assert start <= float(b) <= end
    assert bias.extremes == (start, end)
    assert float(bias.share_below(b)) == pytest.approx(q, abs=1e-7)
    assert float(bias.quantile(bias.share_below(b))) == pytest.approx(float(b), rel=1e-6, abs=1e-6)
    assert bias.share_below(np.array([start - 9.0, end + 9.0])).tolist() == pytest.approx([0.0, 1.0], abs=1e-12)


@pytest.mark.parametrize("distribution", DENSITY_OF_TIME)
def test_a_spread_over_no_time_is_a_constant(distribution: str) -> None:
    bias = spread(distribution, 5.0, 5.0)
    assert bias.moments == pytest.approx((math.log(4.0), 0.0), abs=1e-12)
    assert bias.sample(np.random.default_rng(0), 7) == pytest.approx(np.full(7, math.log(4.0)), rel=1e-14)


@pytest.mark.parametrize("distribution", DENSITY_OF_TIME)
def test_samples_of_a_spread_are_stratified_and_in_random_order(distribution: str) -> None:
    bias = spread(distribution, 1.5, 300.0)
    b = bias.sample(np.random.default_rng(4), 500)
    assert sorted(np.floor(bias.share_below(b) * 500).astype(int)) == list(range(500))
    assert abs(stats.spearmanr(np.arange(500), b).statistic) < Z / math.sqrt(500)
    many = bias.sample(np.random.default_rng(4), 10_000)
    assert (many.mean(), many.var()) == pytest.approx(bias.moments, rel=0.002)


@pytest.mark.parametrize("distribution", DENSITY_OF_TIME)
@given(low=TIMES, high=TIMES, other=TIMES)
@settings(deadline=None, max_examples=30)
def test_another_mean_is_another_longest_time(distribution: str, low: float, high: float, other: float) -> None:
    low, high = sorted((low, high))
    wanted = spread(distribution, low, max(low, other))
    moved = spread(distribution, low, high).with_mean(wanted.moments[0])
    assert moved.min_time == low
    assert moved.moments[0] == wanted.moments[0]
    assert spread(distribution, low, moved.max_time).moments[0] == pytest.approx(wanted.moments[0], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("distribution", DENSITY_OF_TIME)
def test_a_mean_out_of_reach_is_refused(distribution: str) -> None:
    for mean in (math.log(0.5) - 1.0, 99.0):
        with pytest.raises(ArgumentError, match=f"^mean: found .*; allowed: -0.693147 to .* for {distribution} from"):
            spread(distribution, 1.5, 300.0).with_mean(mean)


# ---- constant and normal biases --------------------------------------------------------------------------


@given(MEANS)
def test_a_constant_bias_is_the_same_everywhere(mean: float) -> None:
    bias = ConstantBias(mean=mean)
    q = np.linspace(0, 1, 5)
    assert bias.moments == (mean, 0.0)
    assert bias.extremes == (mean, mean)
    assert (bias.sample(np.random.default_rng(0), 4) == mean).all()
    assert (bias.quantile(q) == mean).all()
    assert (bias.is_random, bias.redrawn_variance, bias.classes(8)) == (False, 0.0, None)
    assert bias.with_mean(1.5) == ConstantBias(mean=1.5)


@given(MEANS, VARIANCES)
@settings(deadline=None)
def test_moments_of_a_normal_bias_are_stated_and_those_of_its_quantiles(mean: float, variance: float) -> None:
    bias = NormalBias(mean=mean, variance=variance)
    reference = stats.norm(mean, math.sqrt(variance))
    q = np.array([0.01, 0.3, 0.5, 0.99])
    assert bias.quantile(q) == pytest.approx(reference.ppf(q), rel=1e-9, abs=1e-9)
    assert reference.cdf(bias.quantile(q)) == pytest.approx(q, abs=1e-9)
    x, w = np.polynomial.legendre.leggauss(400)
    b, w = bias.quantile(0.5 * (x + 1.0)), 0.5 * w  # averages over units, as integrals over q
    assert float(w @ b) == pytest.approx(mean, abs=1e-9 * (1 + math.sqrt(variance)))
    assert float(w @ (b - mean) ** 2) == pytest.approx(variance, rel=1e-3)
    assert (bias.is_random, bias.redrawn_variance, bias.classes(8)) == (True, variance, None)
    assert bias.extremes == pytest.approx((mean - 2 * math.sqrt(variance), mean + 2 * math.sqrt(variance)))
    assert bias.with_mean(1.5) == NormalBias(mean=1.5, variance=variance)


def test_samples_of_a_normal_bias_have_its_moments() -> None:
    b = NormalBias(mean=-0.4, variance=0.2).sample(np.random.default_rng(2), 20_000)
    assert abs(b.mean() + 0.4) < Z * math.sqrt(0.2 / b.size)
    assert abs(b.var() / 0.2 - 1.0) < Z * math.sqrt(2.0 / b.size)
    assert stats.kstest(b, stats.norm(-0.4, math.sqrt(0.2)).cdf).pvalue > 1e-6


# ---- coupled biases --------------------------------------------------------------------------------------


def test_a_coupled_bias_refers_to_the_one_that_it_follows() -> None:
    bias = CoupledBias(to="forget", sign=-1)
    for ask in (
        lambda: bias.sample(np.random.default_rng(0), 3),
        lambda: bias.quantile(np.array(0.5)),
        lambda: bias.check(Observed(np.zeros(3), DOUBLE, 1.0)),
    ):
        with pytest.raises(ArgumentError, match="it is the bias of forget times -1; ask that one"):
            ask()
    assert bias.classes(3) is None
    with pytest.raises(ArgumentError, match="the moments follow from the gate that it is coupled to"):
        _ = bias.redrawn_variance


def test_an_unknown_distribution_has_no_answer() -> None:
    """A name that is not there is never answered as another one."""
    assert BIASES.find("no_such") is None
    with pytest.raises(
        ArgumentError, match=r"^bias distribution: found 'no_such'; allowed: constant, normal, log_unif"
    ):
        BIASES.get("no_such")
    with pytest.raises(ValidationError):
        BIASES.get("uniform_gate").model_validate({"distribution": "no_such", "min_time": 1.5, "max_time": 9.0})


# ---- words and checks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bias", "words"),
    [
        (ConstantBias(mean=1.0), "1"),
        (ConstantBias(mean=-0.123456789), "-0.123457"),
        (NormalBias(mean=0.0, variance=0.25), "normal, mean 0, variance 0.25"),
        (spread("log_uniform_time", 1.05, 784.0), "log_uniform_time, 1.05 to 784 steps"),
        (CoupledBias(to="forget", sign=-1), "−forget, unit by unit"),
        (CoupledBias(to="forget", sign=1), "forget, unit by unit"),
    ],
)
def test_it_describes_itself(bias: Bias, words: str) -> None:
    assert bias.describe() == words


CHECKED: list[Bias] = [
    NormalBias(mean=1.0, variance=0.7),
    *(spread(distribution, 1.5, 80.0) for distribution in DENSITY_OF_TIME),
]


@pytest.mark.parametrize("bias", [*CHECKED, ConstantBias(mean=0.3)], ids=lambda b: b.describe())
def test_it_accepts_its_own_samples_at_the_stated_rate(bias: Bias) -> None:
    """Of 400 samples, those with p below a are no more than a binomial number of that rate, test by test."""
    found = [bias.check(observed(bias.sample(np.random.default_rng(seed), 40))) for seed in range(400)]
    for number, first in enumerate(found[0]):
        ps = np.array([row[number].p for row in found])
        if first.exact:
            assert (ps == 1.0).all(), first.name
        else:
            for level in (0.1, 0.01):
                assert (ps < level).sum() <= stats.binom.ppf(1 - 1e-6, len(ps), level), first.name


@pytest.mark.parametrize("bias", CHECKED, ids=lambda b: b.describe())
def test_it_refuses_what_is_not_its_own(bias: Bias) -> None:
    b = bias.sample(np.random.default_rng(1), 2000)
    planted = {
        "shifted": b + 1.0,
        "twice as wide": 2.0 * b,
        "all alike": np.full(2000, bias.moments[0]),
        "another distribution": np.random.default_rng(2).laplace(bias.moments[0], math.sqrt(bias.moments[1] / 2), 2000),
    }
    for what, values in planted.items():
        assert min(o.p for o in bias.check(observed(values))) < 1e-6, what
    assert min(o.p for o in bias.check(observed(b))) > 1e-3


def test_a_constant_bias_refuses_another_number() -> None:
    (found,) = ConstantBias(mean=0.3).check(observed(np.array([0.3, 0.3, 0.3001])))
    assert (found.p, found.exact) == (0.0, True)


def observed(values: np.ndarray) -> Observed:
    return Observed(values, DOUBLE, float(np.abs(values).max()))
