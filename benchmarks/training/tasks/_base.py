"""What a task is: sequences, what is asked of them, how the answer is judged, and what is known of its inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from critinit.inputs import measure
from critinit.spec import Padding

__all__ = ["HELD_OUT", "Batch", "Data", "Metric", "Task", "fingerprint"]

HELD_OUT = 256
"""Sequences that a run is judged on."""


@dataclass(frozen=True, eq=False)
class Batch:
    """``x`` (T, n, inputs) float32; ``y`` (k, n) answers to the last k outputs: classes (int64) or values (float32)."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True, eq=False)
class Data:
    """A task at one length.

    Attributes:
        inputs: Coordinates of an input.
        outputs: Coordinates of an output.
        input_variance: R, the second moment of an input coordinate.
        padding: Inputs that carry no information; None where there are none, or where they cannot be told apart.
        sample: From a random generator and a number n to a batch of n sequences to train on.
        held_out: The sequences that every run is judged on.
        fingerprint: Tells apart data of the same name (texts and files change).
    """

    inputs: int
    outputs: int
    input_variance: float
    padding: Padding | None
    sample: Callable[[np.random.Generator, int], Batch]
    held_out: Batch
    fingerprint: str

    @cached_property
    def autocorrelation(self) -> float:
        """The correlation of the inputs with those of the step before, to two digits; silence counts nowhere."""
        x = self.held_out.x.astype(np.float64)
        products, squares = float(np.sum(x[1:] * x[:-1])), float(np.sum(x * x))
        return round(products / squares, 2) if squares else 0.0

    @cached_property
    def spectrum(self) -> tuple[float, ...] | None:
        """The inputs' power spectrum, as ``generate`` takes it; padding counts nowhere."""
        return measure(self.held_out.x.transpose(1, 0, 2), tokens="length").input_spectrum


@dataclass(frozen=True)
class Metric:
    """How held-out answers are judged."""

    name: Literal["accuracy", "mean squared error", "bits per character"]
    rises: bool

    def reached(self, value: float, target: float) -> bool:
        """Whether ``value`` is at the target or better; never for NaN."""
        return value >= target if self.rises else value <= target


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        name: Its name on the command line and in tables.
        summary: What is asked, in words.
        metric: How answers are judged.
        target: The metric at which a run has learned the task.  None: what a row's best peer reaches at last.
        make: From T and a list of files to the data.
        used_to_fix: Lengths at which a scheme's constants were chosen or tried.
    """

    name: str
    summary: str
    metric: Metric
    target: float | None
    make: Callable[[int, Sequence[str]], Data]
    used_to_fix: frozenset[int] = frozenset()


def fingerprint(*arrays: np.ndarray) -> str:
    """Eight hexadecimal digits of a hash over the arrays' types, shapes and bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:8]
