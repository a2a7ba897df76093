"""Types of options that several benchmarks have."""

from __future__ import annotations

from argparse import ArgumentTypeError

__all__ = ["count"]


def count(text: str) -> int:
    """An integer from 1."""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise ArgumentTypeError(f"found {text}; allowed: an integer from 1")
    return int(text)
