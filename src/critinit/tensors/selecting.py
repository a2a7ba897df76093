"""Patterns of module paths, as ``include=`` of ``apply`` and ``module=`` of ``check`` take them."""

from __future__ import annotations

from fnmatch import fnmatchcase

__all__ = ["matches"]


def matches(path: str, pattern: str) -> bool:
    """Return whether a module's path matches a shell-style pattern, or lies below one that does.

    Example:
        >>> matches("enc1.rnn", "enc?"), matches("encoder", "enc?")
        (True, False)
    """
    return any(fnmatchcase(path, end) for end in (pattern, f"{pattern}.*", f"{pattern}/*"))
