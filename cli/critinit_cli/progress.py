"""What people see while a command works: bars on a terminal, else a line now and then; always on stderr.

Every command says its name once it works for longer than most do; what it counts is shown from then on.

With ``CRITINIT_PROGRESS=off`` in the environment there is nothing to see.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Progress", "announced", "begin", "progress_bars"]

Progress = Callable[[int, int | None], None]
"""Called with how much is done, and of how much where that is known."""

_FIRST, _EVERY = 0.7, 15.0
"""Seconds until the first line where stderr is no terminal, and between two lines: a log stays short."""
_OFF = "CRITINIT_PROGRESS", "off"
"""The variable of the environment, and its value, that keep all this quiet."""

_started: float | None = None
"""When the process began, by the monotonic clock; None where commands run within another program."""
_lines: _Lines | None = None
"""Those of the command that runs."""


def begin() -> None:
    """Count the seconds until the first line from now on: for a process that is one command."""
    global _started
    _started = time.monotonic()


@contextmanager
def announced(name: str) -> Iterator[None]:
    """Say the name of a command on stderr if it takes long, unless ``progress_bars`` says more."""
    global _lines
    if os.environ.get(_OFF[0]) == _OFF[1]:
        yield
        return
    _lines = lines = _Lines(_started)
    lines.start(name)
    try:
        yield
    finally:
        _lines = None
        lines.stop()


@contextmanager
def progress_bars() -> Iterator[Callable[[str], Progress]]:
    """Give a function that shows how far something is: from its title to what moves it on."""
    if os.environ.get(_OFF[0]) == _OFF[1]:
        yield lambda title: lambda done, total: None
        return
    if sys.stderr is None or not sys.stderr.isatty():
        lines = _lines or _Lines(None)
        name = lines.title
        try:
            yield lines.start
        finally:
            if lines is _lines:
                lines.start(name)
            else:
                lines.stop()
        return
    if _lines is not None:
        _lines.stop()
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
    """Says what is worked on, for logs and pipes: nothing where it is quick.

    Args:
        started: When the work began, by the monotonic clock; None: with the first title.
    """

    def __init__(self, started: float | None) -> None:
        self.started = started
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
        wait = _FIRST if self.started is None else max(self.started + _FIRST - time.monotonic(), 0.0)
        while not self.done.wait(wait):
            if sys.stderr is not None:
                with contextlib.suppress(OSError):
                    print(f"{self.title} …{self.reached}", file=sys.stderr, flush=True)
            wait = _EVERY
