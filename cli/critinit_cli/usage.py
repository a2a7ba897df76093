"""What a usage error says: one line in the words of the other errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["explain", "named_as_options"]

_ARGUMENT = re.compile(r"([A-Za-z_]+)(: .*)", re.DOTALL)
_INVALID = re.compile(r"Invalid value for '?(?:[^']*/ )?([^':]+)'?: (.*)", re.DOTALL)


def explain(error: Any) -> str:
    """The message of one of click's errors, with the command whose help says more."""
    message = str(error.format_message()).strip()
    if match := _INVALID.fullmatch(message):
        message = f"{match[1]}: {match[2]}"
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "critinit"
    return f"{message.rstrip('.')}; see {path} --help"


@contextmanager
def named_as_options() -> Iterator[None]:
    """Name the option in the library's errors: ``input_variance`` is ``--input-variance``."""
    from critinit.errors import ArgumentError, SpecError

    try:
        yield
    except SpecError as error:  # what was asked for is no valid spec: a matter of the options all the same
        raise ArgumentError(str(error)) from None
    except ArgumentError as error:
        match = _ARGUMENT.fullmatch(str(error))
        if match is None:
            raise
        raise ArgumentError(f"--{match[1].replace('_', '-')}{match[2]}") from None
