"""One small driver per framework, so that one test serves them all.

A driver builds a model of a row (cell, layers, directions, bias), runs it from zero states on inputs
(time, batch, I) to outputs (time, batch, H·directions), and lists its tensors by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

INPUT, HIDDEN, BATCH = 5, 12, 3


@dataclass(frozen=True)
class Row:
    """One line of the conformance table; ``kind`` names a variant of the layer (a Cell class, ...)."""

    framework: str
    cell: str
    layers: int = 1
    directions: int = 1
    bias: bool = True
    kind: str = ""

    def __str__(self) -> str:
        parts = (self.framework, self.kind, self.cell, f"{self.layers}x{self.directions}")
        return "-".join(filter(None, (*parts, "" if self.bias else "nobias")))


@dataclass
class Built:
    """A model, how to run it, and what ``apply`` is to be told."""

    model: Any
    row: Row
    options: dict[str, Any] = field(default_factory=dict)
    definition: Any = None


def rows(framework: str) -> list[Row]:
    """All rows of a framework."""
    table = importlib.import_module(f"tests.adapters.drivers.{framework}")
    return list(table.ROWS)


def build(row: Row, hidden: int = HIDDEN, size: int = INPUT) -> Built:
    """A fresh model of a row, with the framework's own initial weights."""
    return importlib.import_module(f"tests.adapters.drivers.{row.framework}").build(row, hidden, size)


def inputs(time: int, size: int = INPUT, seed: int = 0) -> np.ndarray:
    """Inputs (time, batch, size)."""
    return np.random.default_rng(seed).standard_normal((time, BATCH, size))


def run(built: Built, model: Any, x: np.ndarray) -> np.ndarray:
    """Outputs of ``model`` (the built one or its successor)."""
    driver = importlib.import_module(f"tests.adapters.drivers.{built.row.framework}")
    return np.asarray(driver.run(built, model, x), dtype=np.float64)


def tensors(built: Built, model: Any) -> Mapping[str, np.ndarray]:
    """Every tensor by the name that the report uses."""
    return importlib.import_module(f"tests.adapters.drivers.{built.row.framework}").tensors(built, model)
