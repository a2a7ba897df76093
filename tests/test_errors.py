"""Errors print themselves from their fields, and come out of worker processes as they were raised."""

from __future__ import annotations

import copy
import pickle

import pytest

from critinit import errors
from critinit.errors import (
    ApplyError,
    ArgumentError,
    CritinitError,
    FileError,
    MissingExtraError,
    PluginWarning,
    Problem,
    SchemeError,
    SpecError,
)

PROBLEM = Problem("layers.0.gates", "nothing", "the cell's gates", "look again")
ERRORS = [
    CritinitError(),
    ApplyError("target", hint="a message"),
    SpecError([PROBLEM, Problem("T", "0", "at least 1")], "spec.json"),
    FileError("line 3", found="no text", allowed="some text", hint="write it", source="spec.json"),
    MissingExtraError("PyTorch", "torch"),
]


@pytest.mark.parametrize("error", ERRORS)
def test_errors_can_be_pickled(error: CritinitError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (CritinitError(), ""),
        (ArgumentError("seed"), "seed"),
        (ArgumentError("seed", found="-1"), "seed: found -1"),
        (ArgumentError("seed", found="-1", allowed="0 or more"), "seed: found -1; allowed: 0 or more"),
        (ArgumentError(hint="do this"), "do this"),
        (FileError(found="nothing", allowed="a file", source="a.json"), "a.json: found nothing; allowed: a file"),
        (
            FileError("line 3", found="no text", allowed="some text", hint="write it", source="a.json"),
            "a.json: line 3: found no text; allowed: some text; write it",
        ),
        (
            SpecError([PROBLEM], "a.json"),
            "a.json: layers.0.gates: found nothing; allowed: the cell's gates; look again",
        ),
        (SpecError([Problem("", "a list", "an object")]), "found a list; allowed: an object"),
        (
            SpecError([PROBLEM._replace(where=where) for where in "abcde"]),
            "a: found nothing; allowed: the cell's gates; look again (and 4 more: b, c, d, …)",
        ),
        (
            MissingExtraError("PyTorch", "torch"),
            "PyTorch is not installed; install it with: pip install 'critinit[torch]'",
        ),
    ],
)
def test_a_message_is_made_of_the_fields(error: CritinitError, text: str) -> None:
    assert str(error) == text
    assert repr(error) == f"{type(error).__name__}({text!r})"


def test_the_fields_are_those_of_the_problem() -> None:
    error = ArgumentError("seed", found="-1", allowed="0 or more", hint="count from 0", source="a.json")
    assert (error.where, error.found, error.allowed, error.hint) == error.problem
    assert error.source == "a.json"


@pytest.mark.parametrize("error", ERRORS)
def test_a_replaced_field_makes_another_error_of_the_same_kind(error: CritinitError) -> None:
    before = str(error)
    changed = error.replace(where="here", hint="the way out", source="other.json")
    assert type(changed) is type(error)
    assert (changed.where, changed.found, changed.allowed) == ("here", error.found, error.allowed)
    assert (changed.hint, changed.source) == ("the way out", "other.json")
    assert str(error) == before
    if isinstance(error, SpecError):
        assert isinstance(changed, SpecError)
        assert changed.problems == (changed.problem, *error.problems[1:])
    assert str(error.replace()) == before


def test_every_error_is_a_critinit_error() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]
    assert len(kinds) == 11
    assert all(issubclass(kind, CritinitError) for kind in kinds)
    assert issubclass(SchemeError, ArgumentError)
    assert issubclass(PluginWarning, UserWarning)
    assert all(kind.__doc__ for kind in kinds)
