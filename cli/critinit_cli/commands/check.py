"""``critinit check``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from critinit_cli import codes, options
from critinit_cli.output import as_json, complain, emit

if TYPE_CHECKING:
    from critinit.weights.checking import Checked, CheckRow

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "check"
EXAMPLES = """\b
Examples:
  critinit check spec.json model.safetensors
  critinit check spec.json model.weights.h5 --module layers/gru --false-alarm-rate 1e-4
  critinit check spec.json params.npz --framework haiku --module net/lstm --json
"""

Spec = Annotated[str, typer.Argument(metavar="SPEC", help="A spec; - is standard input.", show_default=False)]
Weights = Annotated[
    str,
    typer.Argument(
        metavar="WEIGHTS",
        help="safetensors, npz, .weights.h5, .keras, a checkpoint (.pt, .ckpt), an index of shards, or a folder.",
        show_default=False,
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
        help="In which share of files with right weights at most a part may be called different.",
        parser=options.number,
    ),
]


def command(
    spec: Spec,
    weights: Weights,
    framework: options.Framework = None,
    module: Module = None,
    false_alarm_rate: Rate = 1e-3,
    json: options.JSON = False,
    cell_file: options.CellFile = None,
) -> int:
    """Check that a file of freshly initialized weights holds what a spec asks for.

    Every gate's kernels and effective bias are tested against their distributions. The exit code is 0 where all match,
    3 where some do not, 1 where the spec or the file of weights is not valid, 2 for options and files that cannot be
    read.
    """
    from critinit.weights.checking import check
    from critinit_cli.reading import read_spec

    checked = check(
        read_spec(spec, cell_file),
        weights,
        framework=framework,
        module=module or (),
        false_alarm_rate=float(false_alarm_rate),
    )
    emit(as_json(_as_object(checked)) if json else _as_text(checked))
    if not json:
        for kind, words in (("hint", checked.hints), ("note", checked.notes)):
            for word in words:
                complain(kind, word)
    return codes.GOOD if checked.matches else codes.MISSED


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


def _row_as_object(row: CheckRow) -> dict[str, Any]:
    from math import isfinite

    names = ("module", "layer", "direction", "group", "gate", "part", "asked", "found", "matches")
    numbers = {name: getattr(row, name) for name in ("mean", "variance")}
    return {
        **{name: getattr(row, name) for name in names},
        "tensors": list(row.tensors),
        **{name: value if isfinite(value) else None for name, value in numbers.items()},
        "tests": [{"name": test.name, "p": test.p, "exact": test.exact} for test in row.tests],
    }


def _as_text(checked: Checked) -> str:
    """A table for each network, what its columns mean, and the verdict."""
    from critinit_cli.tables import paragraph, render

    tables = [render(table.title, table.columns, table.rows, left=range(5), wrap=(2, 3)) for table in checked._tables()]
    return "".join((*tables, *map(paragraph, checked.explanation), f"{checked.verdict}\n"))
