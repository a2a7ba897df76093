"""What is wrong with a layer, in plain words, from its numbers.

Each limit is stated in docs/diagnose.md, and each finding names the number that crossed it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

from critinit.cells import Cell
from critinit.diagnosis.numbers import LayerNumbers
from critinit.spec import FORGOTTEN

__all__ = ["FINE", "Finding", "Kind", "findings_of"]

Kind = Literal["explodes", "chaotic", "saturates", "forgets", "differs"]
FINE = "fine"
"""The verdict on a layer of which nothing was found."""

_EXPLODED = 1e6
"""How many times a squared perturbation or gradient may grow: a thousand times its size, more than clipping mends."""
_CHAOS = 10.0
"""How many times a perturbation has to grow within the later half of the sequences to be called chaos ..."""
_ERRORS = 3.0
"""... and by how many standard errors its exponent has to be above 0."""
_SATURATED = 2.0 / 3.0
"""Share of the units that are driven until they hardly react from which on a layer saturates.  Networks that learned
their task had up to .53, those whose inputs were 30 times too large .69 and more (measured)."""


class Finding(NamedTuple):
    """One thing that is wrong.

    Attributes:
        kind: "explodes", "chaotic", "saturates", "forgets" or "differs".
        text: It in words, with the number that shows it.
    """

    kind: Kind
    text: str

    def __str__(self) -> str:
        return self.text


def findings_of(cell: Cell, numbers: LayerNumbers) -> Iterator[Finding]:
    """Yield what is wrong, the worst first.

    Args:
        cell: The cell.
        numbers: What was measured.
    """
    if numbers.ends_at is not None:
        yield Finding("explodes", f"explodes: the state is no longer finite after {numbers.ends_at} steps")
    grows = _grows(numbers)
    if grows and not cell.bounded:
        yield Finding("explodes", f"explodes: {_a_step(numbers)}, and nothing bounds the state")
    elif grows:
        yield Finding("chaotic", f"chaotic: {_a_step(numbers)}")
    elif numbers.ends_at is None:
        yield from _explosion(numbers)
    if numbers.overdriven_units >= _SATURATED:
        share = f"{100 * numbers.overdriven_units:.0f} %"
        yield Finding("saturates", f"saturates: {share} of the units hardly react to their inputs")
    after = next((n for n, left in enumerate(numbers.perturbation) if left < FORGOTTEN), None)
    if after is not None and after < numbers.retention_steps:
        left = "less than a thousandth of a difference is left"
        yield Finding("forgets", f"forgets after {after} of {_steps(numbers.retention_steps)}: {left}")


def _grows(numbers: LayerNumbers) -> bool:
    """Whether perturbations surely grow exponentially, by enough to matter."""
    exponent, error = numbers.lyapunov[0], numbers.standard_error["lyapunov"][0] or 0.0
    surely = exponent > _ERRORS * error and exponent + min(numbers.lyapunov_drift[0], 0.0) > 0.0
    return surely and exponent * (numbers.steps / 2) >= math.log(_CHAOS)


def _a_step(numbers: LayerNumbers) -> str:
    return f"small differences grow by {100 * math.expm1(numbers.lyapunov[0]):.2g} % a step"


def _explosion(numbers: LayerNumbers) -> Iterator[Finding]:
    for what, course, way in (
        ("a difference", numbers.perturbation, "within"),
        ("a gradient", numbers.gradient, "on its way back through"),
    ):
        largest = max(course)
        if largest > _EXPLODED:
            size = f"{math.sqrt(largest):.2g}"
            steps = _steps(course.index(largest))
            yield Finding("explodes", f"explodes: {what} grows {size} times {way} {steps}")
            return


def _steps(count: int) -> str:
    return f"{count} step{'s' * (count != 1)}"
