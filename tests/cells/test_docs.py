"""docs/cells.md does what it says: its cell is written to the file it names, every command and block of Python is run.

Every command starts in a process that knows no cell but critinit's own; its output is held to the page, numbers apart.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
from critinit_cli.main import execute

from critinit import cells

PAGE = Path(__file__).parents[2] / "docs" / "cells.md"
NUMBER = re.compile(r"[<-]?\s*\d+(\.\d+)?(e[-+]?\d+)?")


def blocks() -> list[tuple[str, str]]:
    """(language, text) of every fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def words(text: str) -> list[str]:
    """The words of an output, numbers and rules apart."""
    return NUMBER.sub(" # ", text).replace("─", " ").split()


def test_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    python = [text for language, text in blocks() if language == "python"]
    Path("janet.py").write_text(python[0], encoding="utf-8")
    mixed = python[0].replace('np.tanh(u["cell"])', 'np.tanh(u["cell"] - np.mean(u["cell"]))')
    Path("normed.py").write_text(mixed.replace("JANET", "Normed").replace("janet", "normed"), encoding="utf-8")
    codes = []
    for text in (text for language, text in blocks() if language == "console"):
        for command, shown in re.findall(r"^\$ critinit (.*)\n((?:(?!\$ ).*\n?)*)", text, re.MULTILINE):
            monkeypatch.setattr(cells, "_registered", {})
            capsys.readouterr()
            codes.append(execute(shlex.split(command)))
            captured = capsys.readouterr()
            printed = captured.out + captured.err
            assert words(printed) == words(shown), f"{command}\n{printed}"
    assert codes == [0] * 7 + [2, 1]
    names: dict[str, object] = {}
    exec(compile(python[1], str(PAGE), "exec"), names)
    h = np.asarray(names["h"])
    assert h.shape == (64,)
    assert 0.02 < np.mean(h**2) < 0.5
