"""Where results and words go: results whole to stdout or a file, words line by line to stderr.

A reader that closes the pipe early is no error: the rest is dropped and the command ends with its own code.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any, TextIO

from critinit.errors import FileError
from critinit_cli import codes

__all__ = ["as_json", "complain", "emit", "finish", "fitted", "prepare", "printable", "refused"]

_STDOUT = "standard output"
"""What messages call it."""


def prepare() -> None:
    """Let no character stop the output (what the encoding lacks is escaped); the same bytes everywhere."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace", newline="\n")


def finish(code: int) -> int:
    """Write out what is still held back.

    Args:
        code: The exit code of the command.

    Returns:
        The exit code to end with: that of a usage error where the output cannot be written.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
    except OSError as error:
        _drop_stdout()
        complain("error", str(refused(error)))
        return codes.USAGE
    return code


def emit(text: str, path: str | None = None) -> None:
    """Write a result, whole or not at all.

    Args:
        text: The result.
        path: The file to write; stdout where it is None or ``-``.

    Raises:
        FileError: It cannot be written.
    """
    if path is not None and path != "-":
        from critinit import files

        files.write(path, text.encode())
        return
    if sys.stdout is None:
        raise FileError(found="a closed stream", allowed="one that can be written", source=_STDOUT)
    try:
        sys.stdout.write(fitted(text, sys.stdout))
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
    except OSError as error:
        _drop_stdout()
        raise refused(error) from None


def complain(kind: str, text: str) -> None:
    """Write one line of words on stderr, whatever characters and line ends the text has.

    Args:
        kind: ``error``, ``missed``, ``warning``, ``note`` or ``hint``.
        text: What there is to say.
    """
    line = printable(" ".join(f"{kind}: {text}".split()))
    if sys.stderr is not None:  # print would take None for stdout
        with contextlib.suppress(OSError):
            print(fitted(line, sys.stderr), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return the text with what a terminal would not show, line ends too, as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def fitted(text: str, stream: TextIO | None) -> str:
    """Return the text with ``+-`` for ``±`` where the stream's encoding has none."""
    try:
        "±".encode(getattr(stream, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return text.replace("±", "+-")
    return text


def as_json(value: Any) -> str:
    """Return the canonical text of a JSON value."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def refused(error: OSError) -> FileError:
    """Return the error for a stdout that takes no more."""
    found = (error.strerror or type(error).__name__).lower()
    return FileError(found=found, allowed="a stream that can be written", source=_STDOUT)


def _drop_stdout() -> None:
    """Send the rest nowhere, so that the interpreter's last flush fails no more."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
