"""Patterns of module paths, as ``include=`` of ``apply`` and ``module=`` of ``check`` take them."""

from __future__ import annotations

from fnmatch import fnmatchcase

__all__ = ["matches"]


def matches(path: str, pattern: str) -> bool:
    """Return whether a module's path is a shell-style pattern, matches it, or lies below a module that does.

    Example:
        >>> matches("enc1.rnn", "enc?"), matches("encoder", "enc?")
        (True, False)
    """
    below = (pattern, f"{pattern}.*", f"{pattern}/*")
    return path == pattern or any(fnmatchcase(path, end) for end in below)
