"""Training: from runs to results, nothing else.

For a seed every scheme sees the same batches, has the same readout and is judged on the same held-out sequences; only
the recurrent weights differ.  Runs of one row can train side by side, which is faster and changes nothing but the
order of rounding: each has its own weights, gradient norm and optimizer state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim.lr_scheduler import LambdaLR

import critinit
from benchmarks.training.models import Model, outputs
from benchmarks.training.run import SCHEDULES, Result, Run, row_of
from benchmarks.training.starts import start_of
from benchmarks.training.tasks import TASKS, Batch, Data, Metric
from critinit.errors import ArgumentError

__all__ = ["best_device", "loss_of", "prepare", "train"]

_EVALUATED_AT_ONCE = 64
"""Sequences: more need memory and are no faster."""


def best_device() -> str:
    """Return ``cuda`` where there is one, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def prepare(threads: int) -> None:
    """Set up this process: torch's threads, and denormal numbers as 0.

    Gradients that vanish pass through the denormal range, where processors take several times as long.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


@lru_cache(maxsize=4)
def _data(task: str, T: int, files: tuple[str, ...]) -> Data:
    data: Data = TASKS[task].make(T, files)
    return data


def train(
    runs: Sequence[Run], device: str = "cpu", change: Callable[[Model, Data], None] | None = None
) -> list[Result]:
    """Train runs of one row, side by side, and return their results in order.

    Args:
        runs: The runs.
        device: torch's device.
        change: What is done to each model before it trains.

    Raises:
        ArgumentError: The runs differ in more than scheme, rates and seed.
    """
    if len({row_of(run) for run in runs}) != 1:
        allowed = "runs that differ in scheme, learning rates and seed"
        raise ArgumentError("runs", found="several rows", allowed=allowed)
    start, first = time.perf_counter(), runs[0]
    data = _data(first.task, first.T, first.files)
    held = _moved(data.held_out, device)
    courses = [_Course(run, data, device) for run in runs]
    for course in courses if change else ():
        change(course.model, data)
    optimizer = _optimizer(courses)
    scheduler = LambdaLR(optimizer, lambda step: SCHEDULES[first.schedule](step / first.steps))
    _evaluate(0, courses, held)
    for step in range(1, first.steps + 1):
        going = [course for course in courses if course.goes_on]
        if not going:
            break
        optimizer.zero_grad()
        batches = {course.run.seed: course for course in going}
        drawn = {seed: _moved(c.draw(step), device) for seed, c in batches.items()}
        answers = [drawn[course.run.seed] for course in going]
        found = outputs([c.model for c in going], [x for x, _ in answers], len(answers[0][1]))
        losses = [loss_of(out, y) for out, (_, y) in zip(found, answers, strict=True)]
        torch.stack(losses).sum().backward()
        for course, loss in zip(going, losses, strict=True):
            torch.nn.utils.clip_grad_norm_(course.model.parameters(), first.clip)
            course.training.append(loss.detach())
        optimizer.step()
        scheduler.step()
        if step % first.every == 0 or step == first.steps:
            _evaluate(step, going, held)
    seconds = time.perf_counter() - start
    total = sum(course.steps[-1] + 1 for course in courses)
    return [course.result(seconds * (course.steps[-1] + 1) / total) for course in courses]


class _Course:
    """A run under way."""

    def __init__(self, run: Run, data: Data, device: str) -> None:
        self.run = run
        self.model = Model(run, data).to(device)
        self.training: list[Tensor] = []
        self.steps: list[int] = []
        self._curves: list[tuple[float, float, float]] = []
        self._data = data
        self._metric, self._target = TASKS[run.task].metric, TASKS[run.task].target

    def draw(self, step: int) -> Batch:
        """The batch of a step: of the seed and the step alone, so that runs side by side can share it."""
        return self._data.sample(np.random.default_rng([self.run.seed, step]), self.run.batch)

    @property
    def goes_on(self) -> bool:
        """False at the target, if that was asked, and once the loss is no number."""
        if not self._curves:
            return True
        metric, loss, _ = self._curves[-1]
        done = self.run.stop_at_target and self._target is not None and self._metric.reached(metric, self._target)
        return not done and math.isfinite(loss)

    def judge(self, step: int, out: Tensor, y: Tensor) -> None:
        loss = float(loss_of(out, y))
        metric = _measure(self._metric, out, y, loss) if math.isfinite(loss) else math.nan
        training = float(torch.stack(self.training).mean()) if self.training else math.nan
        self.training.clear()
        self.steps.append(step)
        self._curves.append((metric, loss if math.isfinite(loss) else math.nan, training))

    def result(self, seconds: float) -> Result:
        metric, loss, training = zip(*self._curves, strict=True)
        start = start_of(self.run, self.model.spec)
        return Result(self.run.key, self._data.fingerprint, start, tuple(self.steps), metric, loss, training, seconds)


def _moved(batch: Batch, device: str) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(batch.x).to(device), torch.from_numpy(batch.y).to(device)


def loss_of(out: Tensor, y: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats where answers are classes, mean squared error where they are values."""
    if y.is_floating_point():
        return mse_loss(out.squeeze(-1), y)
    return cross_entropy(out.flatten(0, 1), y.flatten())


def _measure(metric: Metric, out: Tensor, y: Tensor, loss: float) -> float:
    if metric.name == "accuracy":
        return float((out.argmax(-1) == y).float().mean())
    return loss / math.log(2) if metric.name == "bits per character" else loss


@torch.no_grad()
def _evaluate(step: int, courses: Sequence[_Course], held: tuple[Tensor, Tensor]) -> None:
    x, y = held
    models = [course.model for course in courses]
    parts = [outputs(models, [part] * len(models), len(y)) for part in x.split(_EVALUATED_AT_ONCE, dim=1)]
    for course, *found in zip(courses, *parts, strict=True):
        course.judge(step, torch.cat(found, 1), y)


def _optimizer(courses: Sequence[_Course]) -> Any:
    """One optimizer object; parameters of their own, and learning rates, for every run, and its start's limits."""
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    groups = [
        {"params": [*part.parameters()], "lr": c.run.learning_rate * ratio}
        for c in courses
        for part, ratio in ((c.model.layer, 1.0), (c.model.readout, c.run.readout_ratio))
    ]
    optimizer = kinds[courses[0].run.optimizer](groups)
    for course in courses:
        if course.model.limited is not None:
            critinit.limit_steps(optimizer, course.model.limited)
    return optimizer
