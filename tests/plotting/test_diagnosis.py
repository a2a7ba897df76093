"""The picture of a diagnosis shows its courses."""

from __future__ import annotations

import numpy as np
import pytest

from critinit import generate, materialize, plotting
from critinit.diagnosis.files import diagnose_file
from critinit.diagnosis.result import Diagnosis
from critinit.errors import ArgumentError
from critinit.plotting.pictures import diagnosis


@pytest.fixture(scope="module")
def found() -> Diagnosis:
    spec = generate("gru", T=30, layers=2)
    arrays = materialize(spec, "canonical", input_size=3, hidden_size=16, seed=0)
    return diagnose_file(spec, arrays, list(np.random.default_rng(0).standard_normal((4, 31, 3))))


def test_the_curves_are_the_courses(found: Diagnosis) -> None:
    first, second = diagnosis.compute(found)
    assert tuple(first.forward) == found[0].numbers.perturbation
    assert tuple(second.backward) == found[1].numbers.gradient
    assert first.predicted == (30, found[0].predicted.retention)
    assert first.title == "the model itself, layer 0: fine"


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_the_same_file_every_time(found: Diagnosis, dark: bool) -> None:
    once, again = (plotting.render(plotting.diagnosis(found, dark=dark), "svg") for _ in range(2))
    assert once == again
    assert once.count(b"forgets") == 0


def test_too_many_layers_are_refused(found: Diagnosis) -> None:
    with pytest.raises(ArgumentError, match="at most 8"):
        diagnosis.compute(Diagnosis(found.layers * 5))
