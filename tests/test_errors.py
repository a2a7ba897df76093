"""Errors come out of worker processes as they were raised."""

from __future__ import annotations

import pickle

import pytest

from critinit.errors import ApplyError, CritinitError, FileError, MissingExtraError, Problem, SpecError

PROBLEM = Problem("layers.0.gates", "nothing", "allowed: the cell's gates")


@pytest.mark.parametrize(
    "error",
    [
        ApplyError("a message"),
        SpecError([PROBLEM, Problem("T", "0", "allowed: from 1")], "spec.json"),
        FileError("spec.json", PROBLEM),
        MissingExtraError("PyTorch", "torch"),
    ],
)
def test_errors_can_be_pickled(error: CritinitError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
