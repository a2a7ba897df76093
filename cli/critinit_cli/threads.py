"""How many threads linear algebra may use."""

from __future__ import annotations

import os

__all__ = ["one_thread"]


def one_thread() -> None:
    """Let linear algebra use one thread, unless the user says otherwise with OMP_NUM_THREADS or the like.

    Theory and small networks multiply many small matrices.  Several threads then spend more time waiting for one
    another than computing: ``critinit plot --all`` takes 108 s of processor time with two threads, and 12 s with one.
    NumPy reads the setting when it is first imported, so this must be called before.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
