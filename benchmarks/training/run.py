"""A run, what it found, and the table of JSON lines that keeps both."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.training.groups import grouped
from benchmarks.training.tasks import TASKS
from critinit.errors import ArgumentError, FileError
from critinit.files import refusal

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "CELLS",
    "CHRONO_BIASES",
    "DEFAULT",
    "DIAGONAL",
    "NORMALIZED",
    "OPTIMIZERS",
    "SCHEDULES",
    "Rates",
    "Result",
    "Row",
    "Run",
    "append",
    "read",
    "row_of",
]

DEFAULT = "torch default"
"""The scheme that leaves the layer as PyTorch makes it; every other is one of ``critinit``, or one of these."""
CHRONO_BIASES = "chrono biases"
"""The biases of ``chrono`` on PyTorch's own kernels; the scheme itself has orthogonal ones."""
NORMALIZED = "layer norm"
"""A layer-normalized LSTM of orthogonal kernels, gains 1 and forget bias 1."""
DIAGONAL = "diagonal recurrence"
"""Another architecture: a linear recurrence of as many complex units, each with its own time constant and phase."""

CELLS = ("rnn", "gru", "lstm")
"""Those of which PyTorch has a layer."""

_START = '{"cell": "'
"""Of a record."""

OPTIMIZERS = ("adam", "adamw", "sgd")

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
}
"""What the learning rate is multiplied by after a share of the steps."""

_HIDDEN = 64
"""Units where nothing else is said."""

_LAST = 5
"""Evaluations whose median is a run's final metric: a single one is a matter of luck."""


_KNOWN_FOR: dict[str, tuple[tuple[str, ...], int]] = {
    NORMALIZED: (("lstm",), 1),
    DIAGONAL: (CELLS, 1),
    "groups": (("gru", "lstm"), 1),
}
"""Starts that some cells lack, and how many layers they have."""


class Rates(NamedTuple):
    """The recurrent layer's learning rate, and the readout's over it."""

    recurrent: float
    ratio: float

    def __str__(self) -> str:
        return f"{self.recurrent:g}" if self.ratio == 1.0 else f"{self.recurrent:g}, readout {self.ratio:g} times"


@dataclass(frozen=True)
class Run:
    """Everything that decides a run.

    Attributes:
        cell: One of ``CELLS``.
        task: The task's name.
        T: Sequence length in steps.
        scheme: critinit's name of a scheme, ``DEFAULT``, or the path of a spec's file.
        learning_rate: Of the optimizer.
        seed: Of weights and batches.
        readout_ratio: The readout's learning rate over the recurrent layer's, which is ``learning_rate``.
        hidden: Units of a layer.
        layers: Recurrent layers.
        batch: Sequences of an optimizer step.
        steps: Optimizer steps at most.
        every: Optimizer steps between evaluations.
        optimizer: One of ``OPTIMIZERS``.
        schedule: One of ``SCHEDULES``: how the learning rates fall over all ``steps``.
        clip: Largest norm of the gradient.
        stop_at_target: Whether the run ends at the first evaluation that reaches the task's target.
        files: The images of the task ``pixels``.

    Raises:
        ArgumentError: A setting is out of its range.
    """

    cell: str
    task: str
    T: int
    scheme: str
    learning_rate: float
    seed: int = 0
    readout_ratio: float = 1.0
    hidden: int = _HIDDEN
    layers: int = 1
    batch: int = 32
    steps: int = 400
    every: int = 20
    optimizer: str = "adam"
    clip: float = 1.0
    stop_at_target: bool = False
    files: tuple[str, ...] = ()
    schedule: str = "constant"

    def __post_init__(self) -> None:
        for name in ("T", "hidden", "layers", "batch", "steps", "every", "learning_rate", "readout_ratio", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ArgumentError(name, found=str(getattr(self, name)), allowed="a finite number above 0")
        for name, allowed in (("cell", CELLS), ("task", TASKS), ("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in allowed:
                raise ArgumentError(name, found=str(getattr(self, name)), allowed=", ".join(allowed))
        cells, layers = _KNOWN_FOR.get("groups" if grouped(self.scheme) else self.scheme, (CELLS, self.layers))
        if self.cell not in cells or self.layers != layers:
            found = f"{self.scheme!r} for {self.cell} of {self.layers} layer(s)"
            raise ArgumentError("scheme", found=found, allowed=f"{', '.join(cells)} of {layers}")
        if self.stop_at_target and TASKS[self.task].target is None:
            raise ArgumentError("stop_at_target", found=self.task, allowed="a task with a target")

    @property
    def rates(self) -> Rates:
        """What a scheme is free to choose."""
        return Rates(self.learning_rate, self.readout_ratio)

    @property
    def key(self) -> Run:
        """The run as the table names it: files without their folders."""
        return replace(self, files=tuple(Path(file).name for file in self.files))


@dataclass(frozen=True)
class Result:
    """What a run found.  A run whose loss is no number any more ends there: ``metric`` and ``loss`` are then NaN.

    Attributes:
        run: The run.
        data: Fingerprint of the data.
        start: Fingerprint of the scheme's spec; empty for PyTorch's own weights.
        steps: Optimizer steps at each evaluation.
        metric: The held-out metric at each evaluation.
        loss: The held-out loss, in nats or as a mean squared error.
        training_loss: The mean training loss since the evaluation before; NaN at 0 steps.
        seconds: This run's share of the time that its group took.
    """

    run: Run
    data: str
    start: str
    steps: tuple[int, ...]
    metric: tuple[float, ...]
    loss: tuple[float, ...]
    training_loss: tuple[float, ...]
    seconds: float

    @property
    def steps_to_target(self) -> float:
        """Steps at the first evaluation that reaches the task's target; infinite where none does, or it has none."""
        target = TASKS[self.run.task].target
        return math.inf if target is None else self.steps_to(target)

    def steps_to(self, goal: float) -> float:
        """Steps at the first evaluation that reaches ``goal``; infinite where none does."""
        metric = TASKS[self.run.task].metric
        return next((s for s, m in zip(self.steps, self.metric, strict=True) if metric.reached(m, goal)), math.inf)

    @property
    def final(self) -> float:
        """The held-out metric at the end; NaN where the run broke off.

        Of a task without a target, where it is what schemes are compared by, the median of the last evaluations.
        """
        if math.isnan(self.metric[-1]) or TASKS[self.run.task].target is not None:
            return self.metric[-1]
        return statistics.median(self.metric[-_LAST:])


@dataclass(frozen=True)
class Row:
    """What the schemes are compared on: all settings but scheme, rates and seed; the run holds placeholders."""

    cell: str
    task: str
    T: int
    data: str
    rest: tuple[tuple[str, Any], ...]

    @property
    def files(self) -> tuple[str, ...]:
        """Of its images, where they are not the task's own."""
        files: tuple[str, ...] = dict(self.rest)["files"]
        return files

    def __str__(self) -> str:
        rest = dict(self.rest)
        units = "" if rest["hidden"] == _HIDDEN else f", {rest['hidden']} units"
        falling = "" if rest["schedule"] == "constant" else f", {rest['schedule']} schedule"
        return f"{self.cell} {self.task}{f' of {self.files[0]}' if self.files else ''} T = {self.T}{units}{falling}"


_COMPARED = ("scheme", "learning_rate", "readout_ratio", "seed")


def row_of(run: Run, data: str = "") -> Row:
    """Return the row that a run belongs to."""
    own = (*_COMPARED, "cell", "task", "T")
    rest = tuple((f.name, getattr(run.key, f.name)) for f in fields(run) if f.name not in own)
    return Row(run.cell, run.task, run.T, data, rest)


def read(file: Path) -> list[Result]:
    """Return the results in a table, in order; none where there is no file.  An unfinished last line is left out.

    Raises:
        FileError: A line is no result.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(found=type(error).__name__, allowed="a table of runs", source=str(file)) from None
    *lines, last = text.split("\n")
    if last and not _unfinished(last):
        lines.append(last)
    return [_result(file, number, line) for number, line in enumerate(lines, 1)]


def _unfinished(line: str) -> bool:
    """Whether a last line without its end is what an interrupted write left of a record."""
    try:
        json.loads(line)
    except ValueError:
        return line.startswith(_START[: len(line)])
    return False


def _result(file: Path, number: int, line: str) -> Result:
    try:
        data = json.loads(line)
        settings = {f.name: data[f.name] for f in fields(Run) if f.name != "schedule"}
        settings["schedule"] = data.get("schedule", "constant")
        run = Run(**(settings | {"files": tuple(data["files"])}))
        curves = {n: tuple(math.nan if v is None else v for v in data[n]) for n in ("metric", "loss", "training_loss")}
        result = Result(run, data["data"], data["start"], tuple(data["at"]), seconds=data["seconds"], **curves)
        if {len(curve) for curve in curves.values()} != {len(result.steps)} or not result.steps:
            raise ValueError("curves of different lengths")
        if not all(isinstance(v, (int, float)) for curve in (result.steps, *curves.values()) for v in curve):
            raise TypeError("a curve of other things than numbers")
        return result
    except (ValueError, KeyError, TypeError, ArgumentError) as error:
        found = f"{type(error).__name__}: {error}"
        allowed = "a run as this command writes it"
        raise FileError(f"line {number}", found=found, allowed=allowed, source=str(file)) from None


def append(results: Iterable[Result], file: Path) -> None:
    """Add results to a table, each as a line; what an interrupted write left of a record is cut off first.

    The file is locked meanwhile, where the system can: several commands may share a table.
    """
    lines = "".join(json.dumps(_record(result)) + "\n" for result in results)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab+") as table:
            if fcntl is not None:
                fcntl.flock(table, fcntl.LOCK_EX)  # until it is closed
            table.seek(0)
            *whole, last = table.read().rpartition(b"\n")
            if _unfinished(last.decode(errors="replace")):
                table.truncate(sum(map(len, whole)))
            elif last:
                lines = "\n" + lines
            table.write(lines.encode())
    except OSError as error:
        raise refusal(str(file), error, "a place that can be written") from None


def _record(result: Result) -> dict[str, Any]:
    """A flat line: settings, what the task is judged by, then what was found; JSON has no NaN or infinity."""
    task = TASKS[result.run.task]
    reached = result.steps_to_target

    def numbers(values: tuple[float, ...], digits: int) -> list[float | None]:
        return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in values]

    return asdict(result.run.key) | {
        "data": result.data,
        "start": result.start,
        "used_to_fix": result.run.T in task.used_to_fix and not result.run.files,
        "measure": task.metric.name,
        "target": task.target,
        "steps_to_target": int(reached) if math.isfinite(reached) else None,
        "at": list(result.steps),
        "metric": numbers(result.metric, 17),  # all digits: rounded, it might reach the target a little sooner
        "loss": numbers(result.loss, 5),
        "training_loss": numbers(result.training_loss, 5),
        "seconds": round(result.seconds, 1),
    }
