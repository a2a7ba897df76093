"""``critinit check``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from critinit_cli import options
from critinit_cli.output import as_json, complain, emit
from critinit_cli.usage import named_as_options

if TYPE_CHECKING:
    from critinit.weights.checking import Checked, Row
    from critinit.distributions.goodness import Outcome

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "check"
EXAMPLES = """\b
Examples:
  critinit check spec.json model.safetensors
  critinit check spec.json model.weights.h5 --module layers/gru --false-alarm-rate 1e-4
  critinit check spec.json params.npz --framework haiku --module net/lstm --json
"""

File = Annotated[
    str, typer.Argument(metavar="WEIGHTS", help="safetensors, npz, .weights.h5, .keras, .pt.", show_default=False)
]
Framework = Annotated[
    str | None,
    typer.Option(
        "--framework",
        metavar="NAME",
        help="Whose layout it is, where names and shapes leave that open.",
        autocompletion=options.frameworks,
    ),
]
Module = Annotated[
    list[str] | None,
    typer.Option(
        "--module",
        metavar="PATH",
        help="The network's path in the file, or a pattern of paths; repeatable, in the order of the layers.",
    ),
]
Rate = Annotated[
    float,
    typer.Option(
        "--false-alarm-rate",
        metavar="P",
        help="How often weights that do follow the spec may be called different, for the whole file.",
        parser=options.number,
    ),
]


def command(
    spec_file: Annotated[str, typer.Argument(metavar="SPEC", help="A spec; - is standard input.", show_default=False)],
    weights: File,
    framework: Framework = None,
    module: Module = None,
    false_alarm_rate: Rate = 1e-3,
    json: options.JSON = False,
    cell_file: options.CellFile = None,
) -> int:
    """Check that a file of freshly initialized weights holds what a spec asks for.

    Every gate's kernels and effective bias are tested against their laws. Exit code 0 where all match, 3 where some
    do not, 1 where the spec or the file of weights is not valid, 2 for options and files that cannot be read.
    """
    from critinit.weights.checking import check
    from critinit_cli.reading import read_spec

    spec = read_spec(spec_file, cell_file)
    with named_as_options():
        checked = check(
            spec, weights, framework=framework, module=module or (), false_alarm_rate=float(false_alarm_rate)
        )
    emit(as_json(_as_object(checked)) if json else _as_text(checked))
    if not json:
        for kind, words in (("hint", checked.hints), ("note", checked.notes)):
            for word in words:
                complain(kind, word)
    return 0 if checked.matches else 3


def _as_object(checked: Checked) -> dict[str, Any]:
    return {
        "matches": checked.matches,
        "verdict": checked.verdict,
        "false_alarm_rate": checked.false_alarm_rate,
        "tests": checked.tests,
        "threshold": checked.threshold,
        "networks": list(checked.networks),
        "hints": list(checked.hints),
        "notes": list(checked.notes),
        "rows": [_row_as_object(row) for row in checked.rows],
    }


def _row_as_object(row: Row) -> dict[str, Any]:
    from math import isfinite

    names = ("module", "layer", "direction", "gate", "part", "asked", "found", "matches")
    numbers = {name: getattr(row, name) for name in ("mean", "variance")}
    return {
        **{name: getattr(row, name) for name in names},
        "tensors": list(row.tensors),
        **{name: value if isfinite(value) else None for name, value in numbers.items()},
        "tests": [{"name": test.name, "p": test.p, "exact": test.exact} for test in row.tests],
    }


def _as_text(checked: Checked) -> str:
    from critinit_cli.tables import render

    parts = []
    for index, network in enumerate(checked.networks):
        rows = [_cells(row) for row in _rows_of(checked, index)]
        columns = ("gate", "part", "asked", "found", "test", "p", "")
        parts.append(render(network, columns, rows, left=range(5), wrap=(2, 3)))
    return "".join((*parts, f"{checked.verdict}\n"))


def _rows_of(checked: Checked, index: int) -> Sequence[Row]:
    places = list(dict.fromkeys((row.module, row.layer, row.direction) for row in checked.rows))
    return [row for row in checked.rows if (row.module, row.layer, row.direction) == places[index]]


def _cells(row: Row) -> tuple[str, ...]:
    worst = row.worst
    return row.gate or "-", row.part, row.asked, row.found, worst.name, _p(worst), "" if row.matches else "DIFFERS"


def _p(outcome: Outcome) -> str:
    if outcome.exact:
        return "exact" if outcome.p else "0"
    return "< 1e-300" if outcome.p < 1e-300 else f"{outcome.p:.2g}"
