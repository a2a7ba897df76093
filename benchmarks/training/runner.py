"""Running many runs: which are still to do, in what groups, on which executor; every finished group goes to the table.

The executor is anything with the interface of ``concurrent.futures``: processes of this machine, or a Dask cluster.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmarks._errors import not_installed
from benchmarks.training.run import Result, Run, append, read, row_of
from benchmarks.training.starts import Identity, found_of, identity
from critinit.errors import ArgumentError, CritinitError

__all__ = [
    "Measured",
    "Progress",
    "Stage",
    "WorkerError",
    "Workers",
    "cores",
    "groups",
    "measure",
    "open_executor",
    "reported",
    "whole",
]

Stage = Callable[[Sequence[Result]], Iterable[Run]]
"""From what is known to the runs wanted next; asked again until all of them are known."""


class WorkerError(CritinitError):
    """A worker process died."""


class Progress(Protocol):
    """Told what is going on."""

    def total(self, runs: int) -> None: ...

    def done(self, results: Sequence[Result]) -> None: ...


@dataclass(frozen=True)
class Workers:
    """How to run.

    Attributes:
        count: Processes.
        threads: torch's threads in each.
        group: Runs of a row that a process trains side by side.
        dask: A Dask scheduler's address, instead of processes.
        device: torch's device.  None: ``cuda`` where there is one.
    """

    count: int
    threads: int = 1
    group: int = 6
    dask: str | None = None
    device: str | None = None


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Measured(NamedTuple):
    """The results of the runs that the stages want, each once, and how many they want."""

    results: list[Result]
    wanted: int


class _Ledger:
    """What a table holds, by what it is of: a result on other data, or from a spec that has changed, is no result."""

    def __init__(self, known: Iterable[Result]) -> None:
        self._held: dict[Identity, Result] = {found_of(result): result for result in known}
        self._wanted: dict[Identity, Run] = {}

    def ask(self, runs: Iterable[Run]) -> list[Run]:
        """The runs of these that are still to do."""
        asked: Mapping[Identity, Run] = {identity(run): run for run in runs}
        self._wanted |= asked
        return [run for key, run in asked.items() if key not in self._held]

    def add(self, results: Iterable[Result]) -> None:
        self._held |= {found_of(result): result for result in results}

    def measured(self) -> Measured:
        """So far; every run with the files as they were asked for."""
        found = [replace(self._held[key], run=run) for key, run in self._wanted.items() if key in self._held]
        return Measured(found, len(self._wanted))


def reported(stages: Sequence[Stage], table: Path) -> Measured:
    """What a table holds of what the stages want; nothing is run."""
    ledger = _Ledger(read(table))
    for stage in stages:
        ledger.ask(stage(ledger.measured().results))
    return ledger.measured()


def whole(table: Path) -> Measured:
    """All that a table holds, of each run the last; nothing is run."""
    results = list({found_of(result): result for result in read(table)}.values())
    return Measured(results, len(results))


def groups(runs: Iterable[Run], size: int) -> list[list[Run]]:
    """Runs of one row that follow one another train side by side, at most ``size``; their order stays."""
    rows = (list(group) for _, group in groupby(runs, lambda run: (row_of(run), run.files)))
    return [row[start : start + size] for row in rows for start in range(0, len(row), size)]


def _interruptible() -> None:
    """In a new worker: end without a traceback on Ctrl-C, which every process gets, and with the parent process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _work(runs: Sequence[Run], threads: int, device: str | None) -> list[Result]:
    """In the worker."""
    from benchmarks.training.train import best_device, prepare, train

    prepare(threads)
    return train(runs, device or best_device())


@contextmanager
def open_executor(workers: Workers) -> Iterator[Executor]:
    """Processes, started afresh (torch's threads do not survive a fork), or the Dask cluster at ``workers.dask``."""
    if workers.dask is None:
        with ProcessPoolExecutor(workers.count, get_context("spawn"), _interruptible) as pool:
            try:
                yield pool
            except BrokenProcessPool:
                hint = "a worker process ended by itself (out of memory?); the table has what was done"
                raise WorkerError(hint=hint) from None
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return
    try:
        from distributed import Client
    except ImportError:
        raise not_installed("Dask") from None
    try:
        client = Client(workers.dask, timeout="10s")
    except (OSError, ValueError) as error:
        found = f"no scheduler at {workers.dask} ({error})"
        raise ArgumentError("dask", found=found, allowed="a scheduler's address") from None
    with client:
        yield client.get_executor()


def _found(future: Future[list[Result]]) -> list[Result]:
    """The results, or what went wrong in the worker as one line."""
    try:
        return future.result()
    except (CritinitError, BrokenProcessPool):
        raise
    except Exception as error:
        why = str(error).partition("\n")[0][:200]
        hint = f"{type(error).__name__}: {why}; the table has what was done"
        raise WorkerError("a worker failed", hint=hint) from error


def measure(stages: Sequence[Stage], table: Path | None, workers: Workers, progress: Progress) -> Measured:
    """Run what the stages want and the table lacks; what they want is then there.

    Data and specs of a stage are made first, so that what is wrong with them shows before anything runs.  Results are
    appended as their group ends, by this process alone.
    """
    ledger = _Ledger(read(table) if table else [])
    with open_executor(workers) as executor:
        for stage in stages:
            todo = ledger.ask(stage(ledger.measured().results))
            progress.total(len(todo))
            futures: list[Future[list[Result]]] = [
                executor.submit(_work, group, workers.threads, workers.device) for group in groups(todo, workers.group)
            ]
            for future in as_completed(futures):
                results = _found(future)
                if table:
                    append(results, table)
                ledger.add(results)
                progress.done(results)
    return ledger.measured()
