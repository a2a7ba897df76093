"""The lines on which the fields of a JSON text stand."""

from __future__ import annotations

import json
import re
from bisect import bisect

__all__ = ["Lines"]

_BETWEEN = re.compile(r"[\s,:]*")
_DECODER = json.JSONDecoder()


class Lines:
    """The lines of a JSON text's fields.

    Args:
        text: The text.  Of one that is no JSON only the line is known on which it stops to be JSON; none where it nests
            too deeply to be read.
    """

    def __init__(self, text: str) -> None:
        self._lines: dict[str, int | None] = {}
        try:
            _DECODER.decode(text)
            starts: dict[str, int] = {}
            _walk(text, _next(text, 0), "", starts)
        except json.JSONDecodeError as error:
            self._lines[""] = error.lineno
        except (RecursionError, ValueError):  # a number of thousands of digits
            self._lines[""] = None
        else:
            ends = [match.start() for match in re.finditer("\n", text)]
            self._lines.update((path, bisect(ends, at) + 1) for path, at in starts.items())

    def of(self, path: str) -> int | None:
        """Return the line, from 1, of the value at ``path``, or of the deepest part of it that the text has.

        Args:
            path: Keys and indices, joined with dots.
        """
        while path not in self._lines:
            path = path.rpartition(".")[0]
        return self._lines[path]


def _next(text: str, at: int) -> int:
    match = _BETWEEN.match(text, at)
    return match.end() if match else at


def _walk(text: str, at: int, path: str, starts: dict[str, int]) -> int:
    """Note where the value at ``at`` and all in it begin; where it ends."""
    starts.setdefault(path, at)
    kind, index = text[at], 0
    if kind not in "{[":
        return _DECODER.raw_decode(text, at)[1]
    at = _next(text, at + 1)
    while text[at] not in "}]":
        key: object = index
        if kind == "{":
            key, at = _DECODER.raw_decode(text, at)
            at = _next(text, at)
        at = _next(text, _walk(text, at, f"{path}.{key}" if path else f"{key}", starts))
        index += 1
    return at + 1
