"""Progress for people, on stderr: bars on a terminal, and of what takes long a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Progress", "progress_bars", "slow_progress"]

_PATIENCE = 3.0
"""Seconds of silence before anything is said: what is done by then needs no progress."""
_PAUSE = 10.0
"""Seconds between two lines where stderr is no terminal: few enough lines for a log."""

Progress = Callable[[int, int | None], None]
"""Called with how much is done, and of how much where that is known."""


@contextmanager
def progress_bars() -> Iterator[Callable[[str], Progress | None]]:
    """Give a function that shows a bar: from its title to what moves it, None where stderr is no terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda title: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True), transient=True) as bars:

        def start(title: str) -> Progress:
            task = bars.add_task(title, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield start


@contextmanager
def slow_progress(title: str) -> Iterator[Callable[[int], None]]:
    """Give a function that is called with how much is done, and says so once that takes long.

    Args:
        title: What is counted.
    """
    said, is_terminal = time.monotonic() + _PATIENCE, sys.stderr is not None and sys.stderr.isatty()
    pause, end = (0.2, "\r") if is_terminal else (_PAUSE, "\n")
    shown = False

    def show(done: int) -> None:
        nonlocal said, shown
        if sys.stderr is not None and time.monotonic() >= said:
            with contextlib.suppress(OSError):
                print(f"{done:,} {title} ...", end=end, file=sys.stderr, flush=True)
            said, shown = time.monotonic() + pause, True

    yield show
    if shown and is_terminal:
        with contextlib.suppress(OSError):
            print("\033[2K", end="\r", file=sys.stderr, flush=True)
