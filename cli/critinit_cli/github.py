"""Annotations of GitHub Actions: what is wrong, shown at its line in a pull request.

Where ``GITHUB_ACTIONS`` is ``true`` each is one more line on stderr, which the runner reads as it reads stdout:

    ::error file=specs/a.initspec.json,line=6,title=T::found 0; allowed: at least 1

stdout stays what it is everywhere.  Escapes as the runner undoes them: %, CR and LF, and in properties : and , too.
"""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["annotate", "is_wanted"]

_IN_MESSAGE = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_IN_PROPERTY = _IN_MESSAGE | {":": "%3A", ",": "%2C"}


def is_wanted() -> bool:
    """Return whether this runs as a step of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def annotate(file: str, line: int | None, title: str, message: str) -> None:
    """Mark an error for GitHub.

    Args:
        file: The file, made relative to the workspace where it lies in it; ``-`` for none.
        line: The line, where it is known.
        title: What the error is about.
        message: What is wrong.
    """
    properties = {} if file == "-" else {"file": _in_workspace(file)}
    if properties and line is not None:
        properties["line"] = str(line)
    properties["title"] = title
    shown = ",".join(f"{name}={_escaped(value, _IN_PROPERTY)}" for name, value in properties.items())
    command = f"::error {shown}::{_escaped(message, _IN_MESSAGE)}"
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(command, file=sys.stderr, flush=True)


def _escaped(text: str, table: dict[str, str]) -> str:
    printable = (c if c.isprintable() or c in table else ascii(c)[1:-1] for c in text)
    return "".join(table.get(c, c) for c in printable)


def _in_workspace(file: str) -> str:
    """The path from the workspace on, with forward slashes: what the runner looks up."""
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if not workspace:
        return file
    with contextlib.suppress(ValueError, OSError):  # another disk; a folder that is gone; a null byte
        path = os.path.relpath(os.path.realpath(file), os.path.realpath(workspace))
        if not path.startswith(os.pardir):
            return path.replace(os.sep, "/")
    return file
