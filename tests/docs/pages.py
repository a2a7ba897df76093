"""Run a page: its fenced blocks in order, in one folder and one namespace, and compare the output with what is shown.

    ```python   is executed; its names stay for the page's later blocks.  A ```text block that follows at once shows
                what it prints
    ```console  each line after "$ " is run by the shell.  Shown output must have the same words as the printed output,
                and numbers within 1 %.  A command that shows no output may print anything
    ```bash     is run by the shell as it stands
    others      are not run

A comment on the line above a block changes that:

    <!-- exit: 3 -->        the exit status that the block ends with
    <!-- file: NAME -->     the block is not run but written to that file
    <!-- not run: why -->   the block is not run
    <!-- setup ... -->      Python inside of a comment, which is run and which a reader does not see
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

__all__ = ["Block", "blocks", "commands", "execute", "run_page", "same", "shell"]

_BLOCK = re.compile(
    r"(?:^<!-- (?P<remark>[^\n]*?) -->\n)?^```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^```$"
    r"|^<!-- setup\n(?P<setup>.*?)^-->$",
    re.DOTALL | re.MULTILINE,
)
_COMMAND = re.compile(r"^\$ ((?:[^\n]*\\\n)*[^\n]*)\n((?:(?!\$ )[^\n]*(?:\n|\Z))*)", re.MULTILINE)
_NUMBER = re.compile(r"[-+−]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?|[-+−]?\.\d+(?:e[-+]?\d+)?")
_TOLERANCE = 0.01
"""Relative difference that two numbers may have: platforms round and sample slightly differently."""
_SECONDS = 300
"""A command that takes longer is stopped."""


@dataclass(frozen=True)
class Block:
    """One block of a page.

    Attributes:
        language: The word after the fence.
        text: Its lines.
        line: The number of its first line in the page.
        status: The exit status that it ends with.
        file: The name of the file that it is written to, or nothing.
        left_out: Why it is not run, or nothing.
        prints: The output that is shown for a block of Python; None where none is.
    """

    language: str
    text: str
    line: int
    status: int = 0
    file: str = ""
    left_out: str = ""
    prints: str | None = None


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page, in order."""
    found = list(_BLOCK.finditer(page))
    for match, after in zip(found, [*found[1:], None], strict=False):
        prints = (
            after["text"]
            if after and after["language"] == "text" and not page[match.end() : after.start()].strip()
            else None
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
    """Return whether two outputs have the same words, and numbers within 1 % (or equal to rounding)."""
    one, other = (re.sub(r"[─━│|]+", " ", text) for text in (shown, printed))
    if _NUMBER.sub(" # ", one).split() != _NUMBER.sub(" # ", other).split():
        return False
    values = ([float(x.replace(",", "").replace("−", "-")) for x in _NUMBER.findall(text)] for text in (one, other))
    return all(math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=1e-12) for a, b in zip(*values, strict=True))


def run_page(path: Path, folder: Path) -> int:
    """Run every block of a page in ``folder`` and return how many ran.

    Raises:
        AssertionError: A block fails, or prints something else than the page shows.
    """
    names: dict[str, object] = {"__name__": "__main__"}
    ran = 0
    for block in blocks(path.read_text(encoding="utf-8")):
        where = f"{path.name}:{block.line}"
        if block.left_out or block.language not in ("python", "console", "bash"):
            continue
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            printed = execute(block, str(path), names)
            shown = printed if block.prints is None else block.prints
            assert same(shown, printed), f"{where} printed\n{printed}\nnot\n{shown}"
        elif block.language == "bash":
            found = shell(block.text, folder)
            assert found.returncode == block.status, f"{where}: exit {found.returncode}\n{found.stdout}{found.stderr}"
        else:
            _console(block, folder, where)
        ran += 1
    return ran


def execute(block: Block, page: str, names: dict[str, object]) -> str:
    """Execute a block of Python with ``names`` as its globals, and return what it prints."""
    # not with this module's __future__ imports; blank lines make the line numbers of errors those of the page
    code = compile("\n" * block.line + block.text, page, "exec", dont_inherit=True)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, names)
    return out.getvalue()


def commands(block: Block) -> Iterator[tuple[str, str, int]]:
    """Yield the commands of a console block, each with the output that is shown and the exit status it must have."""
    found = _COMMAND.findall(block.text)
    for number, (command, shown) in enumerate(found):
        yield command, shown, block.status if number == len(found) - 1 else 0


def _console(block: Block, folder: Path, where: str) -> None:
    assert _COMMAND.search(block.text), f"{where}: no command begins with '$ '"
    for command, shown, status in commands(block):
        found = shell(command, folder)
        printed = found.stdout + found.stderr
        assert found.returncode == status, f"{where}: {command}: exit {found.returncode}\n{printed}"
        assert not shown.strip() or same(shown, printed), f"{where}: {command} printed\n{printed}\nnot\n{shown}"


def shell(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run text in bash, without colours and with the interpreter of the tests first on the path.

    Numerical libraries use one thread unless the environment says otherwise; more of them slow parallel tests down.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "PATH": path, "NO_COLOR": "1", "CRITINIT_PROGRESS": "off"}
    critinit = f'critinit() {{ {shlex.quote(sys.executable)} -m critinit_cli "$@"; }}\n'
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", critinit + text],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
