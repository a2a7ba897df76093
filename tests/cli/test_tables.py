"""Tables on terminals: what does not fit is folded, and no number is cut."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import pytest
from critinit_cli.tables import render

COLUMNS = ("scheme", "early-input\nresponse", "growth rate of it", "retention ± its error")
ROWS = [
    ("uniform_gate", "8.76e-05", "-0.3", "1.93e-06 ± 2.1e-07"),
    ("torch", "4.42e-13", "12345.6789", "0.0417"),
]


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def shown(
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    columns: Sequence[str] = COLUMNS,
    rows: Sequence[Sequence[str]] = ROWS,
    wrap: Sequence[int] = (),
) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    return re.sub(r"\x1b\[[0-9;]*m", "", render("numbers", columns, rows, stream=Terminal(), wrap=wrap))


@pytest.mark.parametrize("width", [200, 70, 60, 40, 20, 1])
def test_no_number_is_cut_where_a_terminal_is_narrow(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    text = shown(monkeypatch, width)
    lines = text.splitlines()
    for row in ROWS:
        assert any(all(cell in line for cell in row) for line in lines)
    words = {"scheme", "early-", "input", "response", "growth", "rate", "of", "it", "retention", "error"}
    assert all(word in text for word in words)
    if width >= 60:
        assert max(map(len, lines)) <= width


def test_prose_is_folded_before_headings_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("a name of several words", "4.42e-13")]
    text = shown(monkeypatch, 30, ("", "a wide heading"), rows, wrap=(0,))
    assert "a wide heading" in text
    assert "a name of" in text
    assert "a name of several words" not in text


def test_a_stream_that_is_no_terminal_has_room_for_long_names() -> None:
    name = "/".join(["encoder"] * 30)
    assert name in render("t", ("tensor", "variance"), [(name, "1.93e-06")], stream=io.StringIO())
