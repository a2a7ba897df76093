"""Reading specs from files and standard input."""

from __future__ import annotations

import sys

from critinit.errors import FileError, Problem
from critinit.spec.model import InitSpec

__all__ = ["read_spec"]


def read_spec(name: str) -> InitSpec:
    """The spec in the file ``name``, or on standard input where that is ``-``.

    Raises ``FileError`` where it cannot be read and ``SpecError`` where it is no valid spec.
    """
    from critinit import files
    from critinit.spec.reading import MAX_BYTES, parse

    if name != "-":
        return files.load(name)
    source = "standard input"
    if sys.stdin is None:
        raise FileError(source, Problem("", "a closed stream", "allowed: a spec"))
    try:
        data = files.read_stream(sys.stdin.buffer, MAX_BYTES, source)
    except OSError as error:
        found = (error.strerror or type(error).__name__).lower()
        raise FileError(source, Problem("", found, "allowed: a spec")) from None
    return parse(data, source)
