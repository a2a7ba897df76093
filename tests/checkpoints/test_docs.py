"""docs/weights.md does what it says: every command and every block of Python is run, in order, and compared.

A console block that shows output is held to it, numbers apart; one without output may print what it likes.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from critinit_cli.main import execute

PAGE = Path(__file__).parents[2] / "docs" / "weights.md"
NUMBER = re.compile(r"[<-]?\s*\d+(\.\d+)?(e[-+]?\d+)?")
# Keras' own way of reading a TensorFlow variable is deprecated by NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def blocks() -> list[tuple[str, str]]:
    """(language, text) of every fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def words(text: str) -> list[str]:
    """The words of an output, numbers and rules apart."""
    return NUMBER.sub(" # ", text).replace("─", " ").split()


def test_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    commands = 0
    for language, text in blocks():
        if language == "python":
            exec(compile(text, str(PAGE), "exec"), names)
            continue
        if language == "text":
            continue
        assert language == "console"
        for command, shown in re.findall(r"^\$ critinit (.*)\n((?:(?!\$ ).*\n?)*)", text, re.MULTILINE):
            capsys.readouterr()
            code = execute(shlex.split(command))
            captured = capsys.readouterr()
            assert code == (3 if "both" in command else 0), (command, captured.err)
            printed = captured.out + captured.err
            assert not shown.strip() or words(printed) == words(shown), f"{command}\n{printed}"
            commands += 1
    assert commands >= 10
    assert names["checked"].matches is False
    assert set(names["params"]) == {"gru"}
