"""How long the commands take, and how that compares with simulating the same network.

``python -m benchmarks commands`` runs each command as a process of its own, as a user does, and prints its seconds,
the limit, and the ratio to ``critinit simulate --width 128`` of the same spec in the same run.  Theory has to be
cheaper than the network that it predicts: a ratio above 1 is a command that a simulation would beat.  A command is run
once, so a busy machine shows in its seconds; its processor time hardly shows it, and the ratio compares like with
like.  ``--only`` picks rows by their name.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.startup import COMMAND, environment

__all__ = ["Row", "main", "rows", "seconds"]

WIDTH = 128
"""Units of the simulated networks that the other commands are compared with."""
CELLS = ("gru", "lstm")
LENGTHS = (100, 784, 10_000)
"""Steps T of the default specs."""
HABITS = ("orthogonal", "torch", "keras", "chrono")
"""Schemes with recurrent kernels that are not small: tied weights are sampled there."""
SPREAD = ("chrono", "uniform_gate")
"""Schemes of those that spread the biases: their perturbations are followed for T steps, up to 10,000."""
FIRST_LINE = 1.0
"""Seconds until a command that takes longer says on stderr what it does."""


@dataclass(frozen=True)
class Row:
    """A command that is timed.

    Attributes:
        name: What the row is called.
        spec: Arguments of ``critinit spec`` whose file the command reads; rows of one spec share one simulation.
        arguments: The command's arguments; {spec} and {folder} stand for the spec's file and an empty folder.
        limit: Seconds on two idle cores that it may take.
    """

    name: str
    spec: tuple[str, ...]
    arguments: tuple[str, ...]
    limit: float


def rows() -> Iterator[Row]:
    """Yield what is timed: the default specs, the habits of other schemes, then the commands that show many."""
    for cell in CELLS:
        for length in LENGTHS:
            spec = ("--cell", cell, "--T", str(length))
            yield Row(f"analyze {cell} critical T={length}", spec, ("analyze", "{spec}"), 3.0)
    for cell in CELLS:
        for scheme in HABITS:
            spec = ("--cell", cell, "--T", "784", "--scheme", scheme)
            yield Row(f"analyze {cell} {scheme} T=784", spec, ("analyze", "{spec}"), 15.0)
    for cell in CELLS:
        spec = ("--cell", cell, "--T", "784")
        simulation = ("simulate", "{spec}", "--width", str(WIDTH))
        yield Row(f"simulate {cell} critical T=784", spec, simulation, 10.0)
    for cell in CELLS:
        spec = ("--cell", cell, "--T", "784")
        yield Row(f"compare {cell} T=784", spec, ("compare", *spec), 2.0)
        pictures = ("plot", "{spec}", "--all", "-o", "{folder}")
        yield Row(f"plot --all {cell} T=784", spec, pictures, 25.0)
    for cell in CELLS:
        for scheme in SPREAD:
            spec = ("--cell", cell, "--T", "10000", "--scheme", scheme)
            yield Row(f"analyze {cell} {scheme} T=10000", spec, ("analyze", "{spec}"), 25.0)
            simulation = ("simulate", "{spec}", "--width", str(WIDTH))
            yield Row(f"simulate {cell} {scheme} T=10000", spec, simulation, 25.0)


def seconds(arguments: Sequence[str]) -> tuple[float, float | None, float]:
    """Run a command and return its seconds, those until its first line on stderr, and its processor time.

    A command may answer with 3, which says that a prediction is missed; any other status but 0 is an error.

    Args:
        arguments: What follows ``critinit``.

    Raises:
        subprocess.CalledProcessError: The command failed.

    Example:
        >>> seconds(["schema"])[0] < 60
        True
    """
    start, before = time.perf_counter(), _processor_time()
    command = [*COMMAND, *arguments]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        first = time.perf_counter() - start if said else None
        rest = process.stderr.read()
    if process.returncode not in (0, 3):
        raise subprocess.CalledProcessError(process.returncode, command, stderr=said + rest)
    return time.perf_counter() - start, first, _processor_time() - before


def _processor_time() -> float:
    """Seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(arguments: Sequence[str] = ()) -> None:
    """Print a line for each command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks commands", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name has this text")
    chosen = parser.parse_args(arguments).only
    simulated: dict[tuple[str, ...], float] = {}
    print(f"{'':34} {'seconds':>8} {'processor':>10} {'limit':>6} {'first line':>11} {f'/ simulate {WIDTH}':>15}")
    with tempfile.TemporaryDirectory() as folder:
        for number, row in enumerate(row for row in rows() if chosen in row.name):
            spec = Path(folder) / f"{number}.json"
            pictures = Path(folder) / f"pictures-{number}"
            seconds(["spec", *row.spec, "-o", str(spec)])
            if row.spec not in simulated:
                simulated[row.spec] = seconds(["simulate", str(spec), "--width", str(WIDTH)])[0]
            taken, first, used = seconds([part.format(spec=spec, folder=pictures) for part in row.arguments])
            late = "" if first is None else f"{first:.2f} s" + (" (late)" if first > FIRST_LINE else "")
            over = "" if taken <= row.limit else "  over the limit"
            ratio = taken / simulated[row.spec]
            print(
                f"{row.name:34} {taken:8.2f} {used:10.2f} {row.limit:6.0f} {late:>11} {ratio:15.3f}{over}", flush=True
            )
