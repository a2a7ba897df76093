"""Errors that several benchmarks raise."""

from __future__ import annotations

from critinit.errors import CritinitError

__all__ = ["not_installed"]


def not_installed(what: str) -> CritinitError:
    """Return the error for a package that only the benchmarks need."""
    return CritinitError(hint=f"{what} is not installed; the benchmarks need: pip install -e . --group bench")
