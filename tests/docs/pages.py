"""Runs a page: its fenced blocks in order, in one folder and one namespace, and holds shown output to what is printed.

    ```python   is executed; names stay for the page's later blocks; a ```text block that follows at once is what it prints
    ```console  each line after "$ " is run by the shell; output that is shown is held to the output: the same words,
                numbers within 1 %; a command that shows none may print what it likes
    ```bash     is run by the shell as it stands
    others      are to read

A comment on the line above a block changes that: ``<!-- setup -->`` blocks stand inside a comment of their own and are
Python that a reader need not see; ``<!-- exit: 3 -->`` is the exit status that the block ends with, ``<!-- file: NAME
-->`` makes it that file, ``<!-- not run: why -->`` says why it is left out.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["COMMAND", "Block", "blocks", "run_page", "same", "shell"]

_BLOCK = re.compile(
    r"(?:^<!-- (?P<remark>[^\n]*?) -->\n)?^```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^```$"
    r"|^<!-- setup\n(?P<setup>.*?)^-->$",
    re.DOTALL | re.MULTILINE,
)
COMMAND = re.compile(r"^\$ ((?:[^\n]*\\\n)*[^\n]*)\n((?:(?!\$ )[^\n]*(?:\n|\Z))*)", re.MULTILINE)
_NUMBER = re.compile(r"[-+−]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?|[-+−]?\.\d+(?:e[-+]?\d+)?")
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Block:
    """One block; ``status``: the exit status it ends with; ``file``: what it is the text of, if of a file; ``left_out``: why
    it is not run, if it is not; ``prints``: what a block of Python is said to print.
    """

    language: str
    text: str
    line: int
    status: int = 0
    file: str = ""
    left_out: str = ""
    prints: str = ""


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page, in order."""
    found = list(_BLOCK.finditer(page))
    for match, after in zip(found, [*found[1:], None], strict=False):
        prints = (
            after["text"]
            if after and after["language"] == "text" and not page[match.end() : after.start()].strip()
            else ""
        )
        line = page.count("\n", 0, match.start()) + 1
        if match["setup"] is not None:
            yield Block("python", match["setup"], line)
            continue
        remark = match["remark"] or ""
        status, file, left_out = (
            re.fullmatch(pattern, remark) for pattern in (r"exit: (\d+)", r"file: (\S+)", r"(?:not run|ci): (.+)")
        )
        yield Block(
            match["language"],
            match["text"],
            line,
            status=int(status[1]) if status else 0,
            file=file[1] if file else "",
            left_out=left_out[1] if left_out else "",
            prints=prints,
        )


def same(shown: str, printed: str) -> bool:
    """Whether two outputs have the same words, and numbers within 1 % (or of the order of rounding)."""
    one, other = (re.sub(r"[─━│|]+", " ", text) for text in (shown, printed))
    if _NUMBER.sub(" # ", one).split() != _NUMBER.sub(" # ", other).split():
        return False
    values = ([float(x.replace(",", "").replace("−", "-")) for x in _NUMBER.findall(text)] for text in (one, other))
    return all(math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=1e-12) for a, b in zip(*values, strict=True))


def run_page(path: Path, folder: Path) -> int:
    """Run every block in ``folder``; how many ran.  Raises ``AssertionError`` where the page does not hold."""
    names: dict[str, object] = {"__name__": "__main__"}
    ran = 0
    for block in blocks(path.read_text(encoding="utf-8")):
        where = f"{path.name}:{block.line}"
        if block.left_out or block.language not in ("python", "console", "bash"):
            continue
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile("\n" * block.line + block.text, str(path), "exec"), names)
            printed = out.getvalue()
            assert not block.prints or same(block.prints, printed), f"{where} printed\n{printed}\nnot\n{block.prints}"
        elif block.language == "bash":
            found = shell(block.text, folder)
            assert found.returncode == block.status, f"{where}: exit {found.returncode}\n{found.stdout}{found.stderr}"
        else:
            _console(block, folder, where)
        ran += 1
    return ran


def _console(block: Block, folder: Path, where: str) -> None:
    commands = COMMAND.findall(block.text)
    assert commands, f"{where}: no command begins with '$ '"
    for number, (command, shown) in enumerate(commands):
        found = shell(command, folder)
        status = block.status if number == len(commands) - 1 else 0
        printed = found.stdout + found.stderr
        assert found.returncode == status, f"{where}: {command}: exit {found.returncode}\n{printed}"
        assert not shown.strip() or same(shown, printed), f"{where}: {command} printed\n{printed}\nnot\n{shown}"


def shell(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """As in a terminal without colours, the interpreter that runs the tests first on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    critinit = f'critinit() {{ {shlex.quote(sys.executable)} -m critinit_cli "$@"; }}\n'
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", critinit + text],
        cwd=folder, env={**os.environ, "PATH": path, "NO_COLOR": "1"}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
