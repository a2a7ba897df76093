"""The line on which a field of a JSON text stands."""

from __future__ import annotations

import json
import re

__all__ = ["line_of"]

_BETWEEN = re.compile(r"[\s,:]*")
_DECODER = json.JSONDecoder()


def line_of(text: str, path: str) -> int | None:
    """The line, from 1, of the value at ``path`` (keys and indices, joined with dots), or of the deepest part of it there is.

    Where the text is no JSON, the line on which it ceases to be; None where it nests too deeply to be read.
    """
    try:
        _DECODER.decode(text)
        at = _next(text, 0)
        for key in path.split(".") if path else ():
            inner = _member(text, at, key)
            if inner is None:
                break
            at = inner
    except json.JSONDecodeError as error:
        return error.lineno
    except (RecursionError, ValueError):  # a number of thousands of digits
        return None
    return text.count("\n", 0, at) + 1


def _next(text: str, at: int) -> int:
    match = _BETWEEN.match(text, at)
    return match.end() if match else at


def _member(text: str, at: int, key: str) -> int | None:
    """Where the value of a key or index begins, of the object or list that begins at ``at``; None where it has none."""
    kind, at, index = text[at], _next(text, at + 1), 0
    while kind in "{[" and text[at] not in "}]":
        name: object = str(index)
        if kind == "{":
            name, at = _DECODER.raw_decode(text, at)
            at = _next(text, at)
        if name == key:
            return at
        _, at = _DECODER.raw_decode(text, at)
        at, index = _next(text, at), index + 1
    return None
