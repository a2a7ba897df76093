"""Progress on stderr: a bar on a terminal, a line a group elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.training.run import Result
from benchmarks.training.tasks import TASKS

__all__ = ["Bar"]


class Bar:
    """Counts runs; names those that ended."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._progress.add_task("runs", total=0)
        self._asked = self._ended = 0

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def total(self, runs: int) -> None:
        """So many more are to be run."""
        self._asked += runs
        self._progress.update(self._task, total=self._asked)

    def done(self, results: Sequence[Result]) -> None:
        """These ended."""
        self._ended += len(results)
        self._progress.update(self._task, completed=self._ended)
        for result in results:
            run, steps = result.run, result.steps_to_target
            outcome = (
                f"{steps:.0f} steps to target"
                if math.isfinite(steps)
                else f"{'' if TASKS[run.task].target is None else 'target not reached in '}{result.steps[-1]} steps"
            )
            self._console.print(
                f"[{self._ended}/{self._asked}] {run.cell} {run.task} T={run.T} {run.scheme} lr={run.rates} "
                f"seed={run.seed}: {outcome}, last {result.metric[-1]:.3f}, {result.seconds:.0f} s",
                markup=False,
                soft_wrap=True,
            )
