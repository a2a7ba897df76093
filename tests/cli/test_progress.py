"""What a command says on stderr while it works, where that is no terminal."""

from __future__ import annotations

import time

import pytest
from critinit_cli import progress
from critinit_cli.progress import announced, begin, progress_bars

from tests.cli.conftest import Run


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first line after 50 ms, the next one after 50 ms more."""
    monkeypatch.delenv("CRITINIT_PROGRESS", raising=False)
    monkeypatch.setattr(progress, "_FIRST", 0.05)
    monkeypatch.setattr(progress, "_EVERY", 0.05)


def _wait_for(said: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What stderr has once it has these words; the test fails if they don't come within ten seconds."""
    heard = ""
    for _ in range(1000):
        heard += capsys.readouterr().err
        if said in heard:
            return heard
        time.sleep(0.01)
    raise AssertionError(f"{said!r} is not in {heard!r}")


def test_a_slow_command_says_what_it_does_and_how_far_it_is(patience: None, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as start:
        move = start("tied theory")
        assert _wait_for("tied theory …\n", capsys)
        move(1, 4)
        assert _wait_for("tied theory … 25 %\n", capsys)
        start("numbers read")(1_200_000, None)
        assert _wait_for("numbers read … 1,200,000\n", capsys)


def test_a_command_says_its_name_and_what_it_counts_while_it_does(
    patience: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with announced("spec"):
        assert _wait_for("spec …\n", capsys)
        with progress_bars() as start:
            start("numbers read")(1_200_000, None)
            assert _wait_for("numbers read … 1,200,000\n", capsys)
        _wait_for("spec …\n", capsys)
    time.sleep(0.2)
    capsys.readouterr()
    time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_every_command_says_its_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("spec", "--cell", "gru", "--T", "20").err == ""
    monkeypatch.setenv("CRITINIT_PROGRESS", "on")
    monkeypatch.setattr(progress, "_FIRST", 0.0)
    assert run("spec", "--cell", "lstm", "--T", "20").err == "spec …\n"


def test_the_first_line_comes_as_long_after_the_process_began(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CRITINIT_PROGRESS", raising=False)
    monkeypatch.setattr(progress, "_FIRST", 0.4)
    monkeypatch.setattr(progress, "_started", None)
    begin()
    time.sleep(0.4)  # imports
    with announced("spec"):
        time.sleep(0.2)
    assert capsys.readouterr().err == "spec …\n"
    with progress_bars() as start:  # of a program that runs for long
        start("tied theory")
        time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_a_quick_command_says_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRITINIT_PROGRESS", raising=False)
    monkeypatch.setattr(progress, "_FIRST", 60.0)
    with progress_bars() as start:
        start("tied theory")(1, 1)
    assert capsys.readouterr().err == ""


def test_progress_can_be_switched_off(
    patience: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRITINIT_PROGRESS", "off")
    with progress_bars() as start:
        start("tied theory")(1, 4)
        time.sleep(0.3)
    assert capsys.readouterr().err == ""
