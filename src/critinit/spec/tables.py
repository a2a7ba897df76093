"""A spec as two small tables a layer: what its gates are and what theory says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from critinit.showing import Table
from critinit.spec.distributions import Bias, ConstantBias, CoupledBias, Kernel, NormalBias

if TYPE_CHECKING:
    from critinit.spec.model import InitSpec, Layer, Numbers

__all__ = ["numbers_table", "tables"]


_NUMBERS: tuple[tuple[str, str, Callable[[Numbers], float | None]], ...] = (
    ("second moment", "second_moment", lambda n: n.second_moment),
    ("cell second moment", "cell_second_moment", lambda n: n.cell_second_moment),
    ("chi", "chi", lambda n: n.chi),
    ("time scale", "time_scale", lambda n: n.time_scale),
    ("survival over T", "survival", lambda n: n.survival),
    ("time constant, median", "unit_time_constants.median", lambda n: n.unit_time_constants.median),
    ("time constant, longest", "unit_time_constants.max", lambda n: n.unit_time_constants.max),
    (
        "Jacobian, mean squared singular value",
        "jacobian.mean_squared_singular_value",
        lambda n: n.jacobian.mean_squared_singular_value,
    ),
    ("Jacobian, variance", "jacobian.variance", lambda n: n.jacobian.variance),
)


def tables(spec: InitSpec) -> Iterator[Table]:
    """The tables of every layer."""
    for index, layer in enumerate(spec.layers):
        where = f", layer {index}" if len(spec.layers) > 1 else ""
        reset = f" (reset {spec.reset})" if spec.reset else ""
        rows = [(g, _kernel(p.recurrent), _kernel(p.input), _bias(p.bias)) for g, p in layer.gates.items()]
        title = f"{spec.cell}{reset}, scheme {spec.scheme}, T = {spec.T}{where}"
        yield Table(title, ("gate", "recurrent kernel, variance", "input kernel, variance", "bias"), tuple(rows))
        predicted = _predicted(layer)
        if predicted:
            yield numbers_table("predicted", predicted)


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


def numbers_table(title: str, readings: Mapping[str, Numbers]) -> Table:
    """The numbers side by side, with two standard errors where they were sampled, and their notes below."""
    rows = []
    for label, name, value in _NUMBERS:
        found = [value(numbers) for numbers in readings.values()]
        if name == "time_scale":
            rows.append((label, *("unbounded" if v is None else f"{v:.4g}" for v in found)))
        elif any(v is not None for v in found):
            cells = (_with_error(v, n, name) for v, n in zip(found, readings.values(), strict=True))
            rows.append((label, *cells))
    notes = tuple(f"{reading}: {note}" for reading, numbers in readings.items() for note in numbers.notes)
    return Table(title, ("", *readings), tuple(rows), notes)


def _with_error(value: float | None, numbers: Numbers, name: str) -> str:
    if value is None:
        return ""
    error = (numbers.standard_error or {}).get(name)
    return f"{value:.4g}" + (f" ± {2.0 * error:.1g}" if error else "")
