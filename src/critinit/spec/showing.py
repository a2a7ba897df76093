"""A spec as two small tables a layer, what its gates are and what theory says, for notebooks and rich's ``print``.

The same rows serve both; rich is imported only where something is shown with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from critinit.spec.distributions import Bias, ConstantBias, CoupledBias, Kernel, NormalBias

if TYPE_CHECKING:
    from critinit.spec.model import InitSpec, Layer, Numbers

__all__ = ["Table", "html", "rich_group", "tables"]


class Table(NamedTuple):
    """A table's title, the names of its columns and its rows, all as text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


_NUMBERS: tuple[tuple[str, Callable[[Numbers], float | None]], ...] = (
    ("second moment", lambda n: n.second_moment),
    ("cell second moment", lambda n: n.cell_second_moment),
    ("chi", lambda n: n.chi),
    ("time scale", lambda n: n.time_scale),
    ("survival over T", lambda n: n.survival),
    ("time constant, median", lambda n: n.unit_time_constants.median),
    ("time constant, longest", lambda n: n.unit_time_constants.max),
    ("Jacobian, mean squared singular value", lambda n: n.jacobian.mean_squared_singular_value),
    ("Jacobian, variance", lambda n: n.jacobian.variance),
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
        if predicted is not None:
            yield predicted


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


def _predicted(layer: Layer) -> Table | None:
    """What theory says, for the readings that were computed."""
    from critinit.spec.model import Numbers

    readings = (("untied", layer.predicted.untied), ("tied", layer.predicted.tied))
    found = [(name, numbers) for name, numbers in readings if isinstance(numbers, Numbers)]
    if not found:
        return None
    rows = []
    for label, value in _NUMBERS:
        cells = [value(numbers) for _, numbers in found]
        if label == "time scale":
            rows.append((label, *("unbounded" if cell is None else f"{cell:.4g}" for cell in cells)))
        elif any(cell is not None for cell in cells):
            rows.append((label, *("" if cell is None else f"{cell:.4g}" for cell in cells)))
    return Table("predicted", ("", *(name for name, _ in found)), tuple(rows))


def html(spec: InitSpec) -> str:
    """The tables as HTML, for ``_repr_html_``."""
    return "".join(map(_html, tables(spec)))


def _html(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    caption = f'<caption style="text-align: left"><b>{escape(table.title)}</b></caption>'
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def rich_group(spec: InitSpec) -> Any:
    """The tables as one thing that rich prints, for ``__rich__``."""
    from rich import box
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = []
    for table in tables(spec):
        one = RichTable(*table.columns, title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD)
        for row in table.rows:
            one.add_row(*map(Text, row))
        shown.append(one)
    return Group(*shown)
