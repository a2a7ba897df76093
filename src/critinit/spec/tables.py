"""A spec as two small tables a layer: what its gates are and what theory says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING

from critinit.showing import Table

if TYPE_CHECKING:
    from critinit.distributions import Kernel
    from critinit.spec.model import InitSpec, Layer, Numbers

__all__ = ["gates_table", "heading", "number_rows", "numbers_table", "of_features", "tables"]


_EXTREMES = ("unit_time_constants.min", "unit_time_constants.max")
"""Numbers that depend on how many units are sampled, and for how long, so they are not shown beside those of theory."""
_ALIKE = 1.0 + 1e-6
"""Units whose time constants differ by less are alike, and any of them shows them all."""
_NUMBERS = (
    ("second moment", "second_moment"),
    ("cell second moment", "cell_second_moment"),
    ("retention over T", "retention"),
    ("growth rate chi over T", "chi_over_T"),
    ("time scale xi over T", "time_scale_over_T"),
    ("growth rate chi, asymptotic", "chi"),
    ("time scale xi, asymptotic", "time_scale"),
    ("time constant, shortest", "unit_time_constants.min"),
    ("time constant, median", "unit_time_constants.median"),
    ("time constant, longest", "unit_time_constants.max"),
    ("Jacobian, mean squared singular value", "jacobian.mean_squared_singular_value"),
    ("Jacobian, variance", "jacobian.variance"),
)
"""What people read -> the number and, in ``standard_error``, its error."""

_ABSENT, _NO_READING = "-", "none"
_DIGITS = 6
"""Of a number in a table: those that a spec keeps."""
_UNDERFLOW = "below 1e-308"
"""A retention that is smaller than a number can be; the growth over T steps says how small."""


def heading(spec: InitSpec, layer: int | None = None) -> str:
    """Return what a spec is, in a line; which of its layers, where it has several."""
    where = f", layer {layer}" if layer is not None and len(spec.layers) > 1 else ""
    return f"{spec.cell}, scheme {spec.scheme}, T = {spec.T}{where}"


def of_features(features: int | None) -> str:
    """Return the end of a title that says for inputs of how many features its numbers are; "": infinitely many.

    Example:
        >>> of_features(3)
        ', inputs of 3 features'
    """
    return "" if features is None else f", inputs of {features} feature{'s' * (features != 1)}"


def tables(spec: InitSpec) -> Iterator[Table]:
    """Return the tables of every layer."""
    for index, layer in enumerate(spec.layers):
        yield gates_table(heading(spec, index), layer)
        predicted = _predicted(layer)
        if predicted:
            yield numbers_table("predicted", predicted)


def gates_table(title: str, layer: Layer) -> Table:
    """Return a row for each gate of each group."""
    several = len(layer.groups) > 1
    rows = tuple(
        (
            f"{group.name} ({group.share:.3g}): {name}" if several else name,
            _kernel(gate.recurrent, gate.recurrent_gain),
            _kernel(gate.input, gate.input_gain),
            gate.bias.describe(),
        )
        for group in layer.groups
        for name, gate in group.gates.items()
    )
    notes = () if layer.memory_gain is None else (f"the memory is normalized to {layer.memory_gain:.4g}",)
    return Table(title, ("gate", "recurrent kernel", "input kernel", "bias"), rows, notes)


def _kernel(kernel: Kernel, gain: float | None) -> str:
    """A kernel in a few words, and the gain of its product's normalization where there is one."""
    return kernel.describe() if gain is None else f"{kernel.describe()}, normalized to {gain:.4g}"


def _predicted(layer: Layer) -> dict[str, Numbers]:
    """What theory says, for the readings that were computed."""
    from critinit.spec.model import Numbers

    readings = (("untied", layer.predicted.untied), ("tied", layer.predicted.tied))
    return {name: numbers for name, numbers in readings if isinstance(numbers, Numbers)}


def numbers_table(title: str, readings: Mapping[str, Numbers | None]) -> Table:
    """Return the numbers side by side, their notes below."""
    notes = tuple(f"{name}: {note}" for name, numbers in readings.items() if numbers for note in numbers.notes)
    return Table(title, ("", *readings), number_rows(readings.values()), notes)


def number_rows(readings: Iterable[Numbers | None]) -> tuple[tuple[str, ...], ...]:
    """Return a row for each number that a reading has: what it is and, for every reading, the number and its error."""
    found = tuple(readings)
    rows = ((label, *(_number(numbers, name) for numbers in found)) for label, name in _NUMBERS)
    return tuple(row for row in rows if set(row[1:]) - {_ABSENT, _NO_READING})


def _is_unbounded(numbers: Numbers, name: str) -> bool:
    """Whether a number is absent because it is infinite: a time scale where perturbations do not decay."""
    return name == "time_scale_over_T" or (name == "time_scale" and numbers.chi is not None)


def _kept_digits(value: float) -> int:
    """Digits of a number that a spec keeps: near 1 those of its distance from 1."""
    near = 0.0 < abs(1.0 - value) < 0.1
    return _DIGITS - (math.floor(math.log10(abs(1.0 - value))) + 1 if near else 0)


def _number(numbers: Numbers | None, name: str) -> str:
    """``0.88134 ± 0.00041``: to the last digit of the error, which has two, and 6 at most; in words without a value."""
    if numbers is None:
        return _NO_READING
    times = numbers.unit_time_constants
    if name in _EXTREMES and numbers.standard_error is not None and times.max > times.min * _ALIKE:
        return _ABSENT
    value = attrgetter(name)(numbers)
    error = None if numbers.standard_error is None else numbers.standard_error.get(name)
    if name == "retention" and value == 0.0 and numbers.chi_over_T > 0.0:
        return _UNDERFLOW
    if value is None:
        text = "unbounded" if _is_unbounded(numbers, name) else _ABSENT
    elif error is not None and 0.0 < error < abs(value):
        digits = 2 + math.floor(math.log10(abs(value))) - math.floor(math.log10(error))
        text = f"{value:#.{min(digits, _kept_digits(value))}g}".rstrip(".")
    elif error:
        text = f"{value:.1g}"
    else:
        text = f"{value:.{_DIGITS}g}"
    return text if error is None else f"{text} ± {error:.2g}"
