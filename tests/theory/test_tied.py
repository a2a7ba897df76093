"""The tied theory against check numbers and against simulated networks."""

from __future__ import annotations

import math

import pytest

from critinit.errors import ArgumentError
from critinit.simulation import simulate
from critinit.theory.analysis import analyze
from critinit.theory.tied import tied
from tests.theory import points

CHECKS = [
    pytest.param(points.gru, 0.883, id="gru-before"),
    pytest.param(points.lstm, 0.933, id="lstm"),
    pytest.param(points.peephole, 0.611, id="peephole_lstm"),
]


@pytest.mark.parametrize(("point", "chi"), CHECKS)
def test_check_numbers(point, chi):
    """Measured to three digits on networks of finite width: within .01 in ln χ and three standard errors."""
    found = tied(point(), tolerance=0.01)[0]
    assert abs(math.log(found.chi / chi)) <= 0.01 + 3 * found.standard_error["chi"]


@pytest.mark.parametrize("distribution", ["normal", "orthogonal"])
def test_agrees_with_simulated_networks(distribution):
    spec = points.gru(distribution=distribution)
    theory = tied(spec, tolerance=0.01)[0]
    measured = simulate(spec, width=500, steps=150, seeds=4, weights="tied", seed=7)[0].numbers
    error = 3 * math.hypot(theory.standard_error["chi"], measured.standard_error["chi"])
    assert abs(math.log(theory.chi / measured.chi)) <= 0.02 + error
    assert theory.second_moment == pytest.approx(measured.second_moment, rel=0.05)


def test_untied_numbers_would_miss_it():
    """The comparisons above can fail: the untied χ is far outside their tolerance."""
    untied = analyze(points.gru(), weights="untied").layers[0].untied
    assert abs(math.log(untied.chi / 0.883)) > 0.1


def test_the_same_arguments_the_same_numbers():
    assert tied(points.peephole(), tolerance=0.02) == tied(points.peephole(), tolerance=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"), [({"particles": 1}, "particles: found 1"), ({"tolerance": 0.0}, "tolerance: found 0")]
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        tied(points.peephole(), **arguments)
