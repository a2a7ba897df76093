"""What people see while a command works: bars on a terminal, else a line now and then; always on stderr.

With ``CRITINIT_PROGRESS=off`` in the environment there is nothing to see.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Progress", "progress_bars"]

Progress = Callable[[int, int | None], None]
"""Called with how much is done, and of how much where that is known."""

_FIRST, _EVERY = 0.7, 15.0
"""Seconds until the first line where stderr is no terminal, and between two lines: a log stays short."""


@contextmanager
def progress_bars() -> Iterator[Callable[[str], Progress]]:
    """Give a function that shows how far something is: from its title to what moves it on."""
    if os.environ.get("CRITINIT_PROGRESS") == "off":
        yield lambda title: lambda done, total: None
        return
    if sys.stderr is None or not sys.stderr.isatty():
        lines = _Lines()
        try:
            yield lines.start
        finally:
            lines.stop()
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True), transient=True) as bars:

        def start(title: str) -> Progress:
            task = bars.add_task(title, total=None)

            def move(done: int, total: int | None) -> None:
                count = "" if total else f" … {done:,}"
                bars.update(task, completed=done, total=total, description=f"{title}{count}")

            return move

        yield start


class _Lines:
    """Says what is worked on, for logs and pipes: nothing where it is quick."""

    def __init__(self) -> None:
        self.title, self.reached = "", ""
        self.done = threading.Event()
        self.thread: threading.Thread | None = None

    def start(self, title: str) -> Progress:
        """Name what begins; return what says how far it is."""
        self.title, self.reached = title, ""
        if self.thread is None:
            self.thread = threading.Thread(target=self._write, daemon=True)
            self.thread.start()

        def move(done: int, total: int | None) -> None:
            self.reached = f" {100 * done // total} %" if total else f" {done:,}"

        return move

    def stop(self) -> None:
        """Write no more."""
        self.done.set()
        if self.thread is not None:
            self.thread.join()

    def _write(self) -> None:
        wait = _FIRST
        while not self.done.wait(wait):
            if sys.stderr is not None:
                with contextlib.suppress(OSError):
                    print(f"{self.title} …{self.reached}", file=sys.stderr, flush=True)
            wait = _EVERY
