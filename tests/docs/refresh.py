"""``python -m tests.docs.refresh PAGE…`` runs pages, and replaces the output that they show by what is printed now.

Output of console blocks and of Python blocks is replaced, where a page shows some.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import Block, blocks, commands, execute, shell

__all__ = ["refreshed"]


def refreshed(page: str, folder: Path) -> str:
    """Return the page with its shown output brought up to date; every block is run, in ``folder``."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.left_out:
            continue
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            printed = execute(block, "page", names)
            if block.prints is not None:
                page = page.replace(
                    f"{block.text}```\n\n```text\n{block.prints}", f"{block.text}```\n\n```text\n{printed}"
                )
        elif block.language == "bash":
            shell(block.text, folder)
        elif block.language == "console":
            page = page.replace(block.text, "".join(_console(block, folder)))
    return page


def _console(block: Block, folder: Path) -> Iterator[str]:
    """Yield each command of a block with what it prints now, or with nothing where the page shows nothing."""
    for command, shown, status in commands(block):
        found = shell(command, folder)
        printed = found.stdout + found.stderr
        if found.returncode != status:
            raise SystemExit(f"{command}: exit {found.returncode}, not {status}\n{printed}")
        yield f"$ {command}\n" + (printed if shown.strip() else shown)


if __name__ == "__main__":
    for path in [Path(name).resolve() for name in sys.argv[1:]]:  # before the folder changes
        with tempfile.TemporaryDirectory() as temporary:
            os.chdir(temporary)
            path.write_text(refreshed(path.read_text(encoding="utf-8"), Path(temporary)), encoding="utf-8")
