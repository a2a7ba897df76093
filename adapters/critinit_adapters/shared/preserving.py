"""Leaving everything as it was: Python's and NumPy's generators; frameworks add their own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["generators_kept"]


@contextmanager
def generators_kept() -> Iterator[None]:
    """Put the states of Python's and NumPy's global generators back afterwards."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - a user's model may draw from it
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
