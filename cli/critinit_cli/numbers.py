"""The numbers of a layer as rows for people."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from critinit_cli.tables import number, render

if TYPE_CHECKING:
    from critinit.spec import InitSpec, Numbers

__all__ = ["ROWS", "cell_text", "heading", "layers_as_text", "time_scale"]


def time_scale(numbers: Numbers) -> str:
    """The time scale, in words where it has none."""
    return number(numbers.time_scale, missing="unbounded")


# what people read -> the name in ``standard_error``, and the text
ROWS: tuple[tuple[str, str, Callable[[Numbers], str]], ...] = (
    ("second moment", "second_moment", lambda n: number(n.second_moment)),
    ("cell second moment", "cell_second_moment", lambda n: number(n.cell_second_moment)),
    ("chi", "chi", lambda n: number(n.chi)),
    ("time scale", "time_scale", time_scale),
    ("survival over T", "survival", lambda n: number(n.survival)),
    ("time constant, shortest", "unit_time_constants.min", lambda n: number(n.unit_time_constants.min)),
    ("time constant, median", "unit_time_constants.median", lambda n: number(n.unit_time_constants.median)),
    ("time constant, longest", "unit_time_constants.max", lambda n: number(n.unit_time_constants.max)),
    (
        "Jacobian, mean squared singular value",
        "jacobian.mean_squared_singular_value",
        lambda n: number(n.jacobian.mean_squared_singular_value),
    ),
    ("Jacobian, variance", "jacobian.variance", lambda n: number(n.jacobian.variance)),
)


def cell_text(numbers: Numbers | None, row: int) -> str:
    """One number and, where it was sampled, its standard error."""
    if numbers is None:
        return "none"
    _, name, text = ROWS[row]
    error = (numbers.standard_error or {}).get(name)
    return text(numbers) if error is None else _sampled(text(numbers), error)


def _sampled(text: str, error: float) -> str:
    """``0.88134 +- 0.00041``: a number to the last digit of its error, which has two."""
    with contextlib.suppress(ValueError):  # a word, such as unbounded
        value = float(text)
        if 0.0 < error < abs(value):
            digits = 2 + math.floor(math.log10(abs(value))) - math.floor(math.log10(error))
            text = f"{value:#.{digits}g}".rstrip(".")
    return f"{text} +- {error:.2g}"


def heading(spec: InitSpec) -> str:
    """What a spec is, in a line."""
    reset = f" (reset {spec.reset})" if spec.reset else ""
    return f"{spec.cell}{reset}, scheme {spec.scheme}, T = {spec.T}"


def layers_as_text(spec: InitSpec, columns: Mapping[str, Sequence[Numbers | None]], of: str = "") -> str:
    """A table for each layer, and the notes on its numbers.

    ``columns``: title -> the numbers of every layer; ``of``: what they are of, for the tables' titles.
    """
    parts = []
    for index in range(len(spec.layers)):
        readings = {name: numbers[index] for name, numbers in columns.items()}
        rows = [
            (label, *(cell_text(numbers, n) for numbers in readings.values()))
            for n, (label, _, text) in enumerate(ROWS)
            if any(numbers is not None and text(numbers) != "-" for numbers in readings.values())
        ]
        title = heading(spec) + (f", layer {index}" if len(spec.layers) > 1 else "") + (f", {of}" if of else "")
        parts.append(render(title, ("", *readings), rows, wrap=(0,)))
        for name, numbers in readings.items():
            notes = ("no such reading: an identity kernel cannot be drawn anew",) if numbers is None else numbers.notes
            parts.extend(f"{name}: {note}\n" for note in notes)
    return "".join(parts)
