"""Roots: functions that bend, jump and are tiny, in few calls; and what has no root."""

from __future__ import annotations

import math

import pytest

from critinit.roots import crossing, falling_root

FUNCTIONS = [
    (lambda x: x**3 - 2.0, 0.0, 2.0, 2.0 ** (1 / 3)),
    (lambda x: 1e-3 - math.exp(-x), 0.0, 100.0, math.log(1e3)),
    (lambda x: math.tanh(50.0 * (x - 0.3)), -10.0, 10.0, 0.3),
    (lambda x: 0.25 - x, -1e6, 1e3, 0.25),
    (lambda x: -1.0 if x < 0.123456 else 1.0, -1.0, 1.0, 0.123456),
    (lambda x: 1e-300 * (x - 0.7), 0.0, 1.0, 0.7),
    (lambda x: x, 0.0, 5.0, 0.0),
    (lambda x: x - 5.0, 0.0, 5.0, 5.0),
]


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-13])
@pytest.mark.parametrize(("function", "low", "high", "root"), FUNCTIONS)
def test_a_crossing_is_found(function, low, high, root, tolerance):
    assert crossing(function, low, high, tolerance) == pytest.approx(root, rel=1e-14, abs=tolerance)
    assert crossing(function, high, low, tolerance) == pytest.approx(root, rel=1e-14, abs=tolerance)


@pytest.mark.parametrize("function", [lambda x: 1.0, lambda x: -1e-300, lambda x: math.nan])
def test_what_does_not_cross_is_refused(function):
    with pytest.raises(ValueError, match=r"different signs|NaN"):
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
