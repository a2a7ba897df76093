"""Where results and words go: results whole to stdout or a file, words line by line to stderr.

A reader that closes the pipe early is no error: the rest is dropped and the command ends with its own code.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any

from critinit.errors import FileError, Problem

__all__ = ["as_json", "complain", "emit", "finish", "prepare", "refused"]


def prepare() -> None:
    """Let no character stop the output (what the encoding lacks is escaped); the same bytes everywhere."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace", newline="\n")


def finish(code: int) -> int:
    """Write out what is still held back; the exit code to end with."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
    except OSError as error:
        _drop_stdout()
        complain("error", str(refused(error)))
        return 2
    return code


def emit(text: str, path: str | None = None) -> None:
    """Write a result to ``path``, whole or not at all; to stdout where that is None or ``-``.

    Raises ``FileError``.
    """
    if path is not None and path != "-":
        from critinit import files

        files.write(path, text.encode())
        return
    if sys.stdout is None:
        raise FileError("standard output", Problem("", "a closed stream", "allowed: one that can be written"))
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
    except OSError as error:
        _drop_stdout()
        raise refused(error) from None


def complain(kind: str, text: str) -> None:
    """One line of words on stderr: ``kind: text``, whatever characters and line ends the text has."""
    line = " ".join(f"{kind}: {text}".split())
    printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    if sys.stderr is not None:  # print would take None for stdout
        with contextlib.suppress(OSError):
            print(printable, file=sys.stderr, flush=True)


def as_json(value: Any) -> str:
    """The canonical text of a JSON value."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def refused(error: OSError) -> FileError:
    found = (error.strerror or type(error).__name__).lower()
    return FileError("standard output", Problem("", found, "allowed: a stream that can be written"))


def _drop_stdout() -> None:
    """Send the rest nowhere, so that the interpreter's last flush fails no more."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
