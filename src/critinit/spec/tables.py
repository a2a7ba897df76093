"""A spec as two small tables a layer: what its gates are and what theory says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING

from critinit.showing import Table
from critinit.spec.distributions import Bias, ConstantBias, CoupledBias, Kernel, NormalBias

if TYPE_CHECKING:
    from critinit.spec.model import InitSpec, Layer, Numbers

__all__ = ["gates_table", "heading", "number_rows", "numbers_table", "tables"]


_NUMBERS = (
    ("second moment", "second_moment"),
    ("cell second moment", "cell_second_moment"),
    ("chi", "chi"),
    ("time scale", "time_scale"),
    ("survival over T", "survival"),
    ("time constant, shortest", "unit_time_constants.min"),
    ("time constant, median", "unit_time_constants.median"),
    ("time constant, longest", "unit_time_constants.max"),
    ("Jacobian, mean squared singular value", "jacobian.mean_squared_singular_value"),
    ("Jacobian, variance", "jacobian.variance"),
)
"""What people read -> the number and, in ``standard_error``, its error."""

_ABSENT, _NO_READING = "-", "none"


def heading(spec: InitSpec, layer: int | None = None) -> str:
    """What a spec is, in a line; which of its layers, where it has several."""
    reset = f" (reset {spec.reset})" if spec.reset else ""
    where = f", layer {layer}" if layer is not None and len(spec.layers) > 1 else ""
    return f"{spec.cell}{reset}, scheme {spec.scheme}, T = {spec.T}{where}"


def tables(spec: InitSpec) -> Iterator[Table]:
    """The tables of every layer."""
    for index, layer in enumerate(spec.layers):
        yield gates_table(heading(spec, index), layer)
        predicted = _predicted(layer)
        if predicted:
            yield numbers_table("predicted", predicted)


def gates_table(title: str, layer: Layer) -> Table:
    """A row for each gate."""
    rows = tuple((g, _kernel(p.recurrent), _kernel(p.input), _bias(p.bias)) for g, p in layer.gates.items())
    return Table(title, ("gate", "recurrent kernel, variance", "input kernel, variance", "bias"), rows)


def _kernel(kernel: Kernel) -> str:
    return kernel.distribution if kernel.distribution == "zero" else f"{kernel.distribution}, {kernel.variance:.4g}"


def _bias(bias: Bias) -> str:
    match bias:
        case ConstantBias():
            return f"{bias.mean:.4g}"
        case NormalBias():
            return f"normal, mean {bias.mean:.4g}, variance {bias.variance:.4g}"
        case CoupledBias():
            return f"{'−' if bias.sign < 0 else ''}{bias.to}, unit by unit"
        case _:
            return f"{bias.distribution}, {bias.min_time:.4g} to {bias.max_time:.4g} steps"


def _predicted(layer: Layer) -> dict[str, Numbers]:
    """What theory says, for the readings that were computed."""
    from critinit.spec.model import Numbers

    readings = (("untied", layer.predicted.untied), ("tied", layer.predicted.tied))
    return {name: numbers for name, numbers in readings if isinstance(numbers, Numbers)}


def numbers_table(title: str, readings: Mapping[str, Numbers | None]) -> Table:
    """The numbers side by side, their notes below."""
    notes = tuple(f"{name}: {note}" for name, numbers in readings.items() if numbers for note in numbers.notes)
    return Table(title, ("", *readings), number_rows(readings.values()), notes)


def number_rows(readings: Iterable[Numbers | None]) -> tuple[tuple[str, ...], ...]:
    """A row for each number that a reading has: what it is and, for every reading, the number and its standard error."""
    found = tuple(readings)
    rows = ((label, *(_number(numbers, name) for numbers in found)) for label, name in _NUMBERS)
    return tuple(row for row in rows if set(row[1:]) - {_ABSENT, _NO_READING})


def _number(numbers: Numbers | None, name: str) -> str:
    """``0.88134 ± 0.00041``: to the last digit of the error, which has two; in words where it has no value."""
    if numbers is None:
        return _NO_READING
    value = attrgetter(name)(numbers)
    error = (numbers.standard_error or {}).get(name)
    if value is None:
        text = "unbounded" if name == "time_scale" else _ABSENT
    elif error is not None and 0.0 < error < abs(value):
        digits = 2 + math.floor(math.log10(abs(value))) - math.floor(math.log10(error))
        text = f"{float(f'{value:.6g}'):#.{digits}g}".rstrip(".")
    else:
        text = f"{value:.6g}"
    return text if error is None else f"{text} ± {error:.2g}"
