"""``python -m tests.docs.refresh PAGE…`` runs pages and writes what their commands now print where output is shown."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.docs.pages import COMMAND, blocks, shell

__all__ = ["refreshed"]


def refreshed(page: str, folder: Path) -> str:
    """The page with the output of its console blocks brought up to date; every block is run, in ``folder``."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.left_out:
            continue
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(block.text, names)
        elif block.language == "bash":
            shell(block.text, folder)
        elif block.language == "console":
            text = ""
            for command, shown in COMMAND.findall(block.text):
                found = shell(command, folder)
                text += f"$ {command}\n" + (found.stdout + found.stderr if shown.strip() else shown)
            page = page.replace(block.text, text)
    return page


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name).resolve()
        with tempfile.TemporaryDirectory() as temporary:
            os.chdir(temporary)
            path.write_text(refreshed(path.read_text(encoding="utf-8"), Path(temporary)), encoding="utf-8")
