"""Roots: against SciPy's, at no greater cost, and what has none."""

from __future__ import annotations

import math

import pytest
from scipy.optimize import brentq

from critinit.roots import crossing, falling_root

FUNCTIONS = [
    (lambda x: x**3 - 2.0, 0.0, 2.0),
    (lambda x: math.cos(x) - x, 0.0, 1.0),
    (lambda x: 1e-3 - math.exp(-x), 0.0, 100.0),
    (lambda x: math.exp(20.0 * x) - 5.0, -10.0, 10.0),
    (lambda x: math.tanh(50.0 * (x - 0.3)), -10.0, 10.0),
    (lambda x: 0.25 - x, -1e6, 1e3),
    (lambda x: -1.0 if x < 0.123456 else 1.0, -1.0, 1.0),
    (lambda x: -1e300 if x < 0.2 else math.inf, 0.0, 1.0),
    (lambda x: 1e-300 * (x - 0.7), 0.0, 1.0),
]


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-13])
@pytest.mark.parametrize(("function", "low", "high"), FUNCTIONS)
def test_a_crossing_is_scipys_and_as_soon_found(function, low, high, tolerance):
    asked = []

    def counted(x):
        asked.append(x)
        return function(x)

    exact = brentq(function, low, high, xtol=1e-15, rtol=1e-15, maxiter=500)
    for ends in ((low, high), (high, low)):
        asked.clear()
        assert crossing(counted, *ends, tolerance) == pytest.approx(exact, rel=1e-14, abs=tolerance)
        assert all(low <= x <= high for x in asked)
        few = len(asked)
        asked.clear()
        brentq(counted, low, high, xtol=tolerance, rtol=1e-15)
        assert few <= len(asked) + 5


def test_an_end_can_be_the_root():
    assert crossing(lambda x: x, 0.0, 5.0, 1e-9) == 0.0
    assert crossing(lambda x: x - 5.0, 0.0, 5.0, 1e-9) == 5.0


@pytest.mark.parametrize("function", [lambda x: 1.0, lambda x: -1e-300, lambda x: math.nan, lambda x: x or math.nan])
def test_what_does_not_cross_is_refused(function):
    with pytest.raises(ValueError, match=r"no crossing|no number"):
        crossing(function, -1.0, 1.0, 1e-9)


def test_a_falling_root_is_sought_upwards():
    asked = []

    def function(x):
        asked.append(x)
        return 100.0 - x

    assert falling_root(function, 0.0, 1.0, 1e-9) == pytest.approx(100.0, abs=1e-9)
    assert asked[:7] == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0]
    assert len(set(asked)) == len(asked)  # none is asked for twice
    assert falling_root(lambda x: 1.0, 0.0, 1.0, 1e-9) == math.inf
    assert falling_root(lambda x: 0.0, 3.0, 1.0, 1e-9) == 3.0
