"""Specs at the far end of what is allowed: numbers, or one line; never a warning, never all of the memory."""

from __future__ import annotations

from functools import partial

import pytest

import critinit
from critinit.errors import ArgumentError
from critinit.simulation import simulate
from critinit.spec import NotComputed
from critinit.theory.analysis import deviations, predict
from tests.theory import points


def _gru(update: float, candidate: float, mean: float = 0.0):
    gates = {
        "update": points.gate(update, 1.0, mean),
        "reset": points.gate(1.0, 1.0, 0),
        "candidate": points.gate(candidate, 1.0, 0),
    }
    return points.spec("gru_reset_before", gates)


@pytest.mark.parametrize("variance", [1e3, 1e6])
def test_large_variances_have_finite_numbers(variance):
    spec = predict(_gru(variance, variance))
    predicted = spec.layers[0].predicted
    assert predicted.untied.chi > 9.0
    assert isinstance(predicted.tied, NotComputed) or predicted.tied.chi > 9.0
    assert deviations(spec) == []


def test_retention_beyond_the_largest_number_is_said():
    predicted = predict(_gru(1e4, 1e4)).layers[0].predicted
    assert predicted.untied.retention == 1e100
    assert "retention is beyond 1e+100" in predicted.untied.notes


def test_averages_of_too_many_points_are_refused():
    gates = {
        "update": points.gate(0.0, 0.0, 0.0),
        "reset": points.gate(2e5, 1.0, 0),
        "candidate": points.gate(1e6, 1.0, 0),
    }
    apart = points.spec("gru", gates, correlation=0.25)
    with pytest.raises(ArgumentError, match=r"gates.candidate: .* points of quadrature; allowed: at most 3e\+07"):
        predict(apart)


@pytest.mark.parametrize("T", [10**7, 10**8, 10**9])
def test_a_second_moment_is_not_clipped(T):
    """An unbounded memory that is nearly never renewed: its second moment is proportional to T."""
    at = [points.generate("peephole_lstm", some, scheme="isometry").layers[0].predicted.untied for some in (10**5, T)]
    assert at[1].second_moment / at[0].second_moment == pytest.approx(T / 10**5, rel=1e-4)
    assert at[1].notes == ()


@pytest.mark.parametrize("function", [critinit.analyze, predict, partial(simulate, width=8)])
def test_what_is_no_spec_is_refused(function):
    spec = points.generate("gru", 20)
    with pytest.raises(ArgumentError, match=r"^spec: found dict; allowed: an InitSpec; critinit\.load reads one"):
        function(spec.to_dict())
