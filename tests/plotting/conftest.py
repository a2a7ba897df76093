"""Fewer particles: the tied theory is tested elsewhere, and takes most of the time."""

from __future__ import annotations

from functools import partial

import pytest

from critinit.theory.tied.solution import tied_with_courses


@pytest.fixture(autouse=True)
def _few_particles(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = partial(tied_with_courses, particles=200, steps=60, tolerance=1.0)
    monkeypatch.setattr("critinit.plotting.study.tied_with_courses", quick)
