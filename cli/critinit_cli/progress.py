"""Progress bars for people: on a terminal's stderr, and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Report", "progress_bars"]

Report = Callable[[int, int | None], None]
"""Called with what is done, and of how much where that is known."""


@contextmanager
def progress_bars() -> Iterator[Callable[[str], Report | None]]:
    """``start(title)`` shows a bar and returns what reports to it; None where stderr is no terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda title: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:

        def start(title: str) -> Report:
            task = bars.add_task(title, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield start
