"""The options that commands share: their types, help, parsing and completion."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

__all__ = [
    "JSON",
    "SCHEMES",
    "Cell",
    "CellFile",
    "File",
    "HiddenSize",
    "InputCorrelation",
    "InputSize",
    "InputVariance",
    "NullConstant",
    "NullVariance",
    "Output",
    "Reset",
    "Scheme",
    "T",
    "Weights",
    "frameworks",
    "integer",
    "number",
    "weights",
]

SCHEMES = ("critical", "isometry", "chrono", "uniform_gate", "orthogonal", "torch", "keras")
"""For help and completion, which must not wait for imports; a test holds it to ``critinit.schemes``."""

_WEIGHTS = ("untied", "tied", "both")


def integer(value: Any) -> int:
    """An integer from the command line."""
    try:
        parsed = int(value)
    except ValueError:
        raise typer.BadParameter(f"found {_short(value)}; allowed: an integer") from None
    if abs(parsed) >= 2**63:
        raise typer.BadParameter(f"found {_short(value)}; allowed: an integer of at most 18 digits")
    return parsed


def number(value: Any) -> float:
    """A finite number from the command line."""
    try:
        parsed = float(value)
    except ValueError:
        parsed = math.nan
    if not math.isfinite(parsed):
        raise typer.BadParameter(f"found {_short(value)}; allowed: a finite number")
    return parsed


def weights(value: Any) -> str:
    """How the weights are to be read."""
    if value not in _WEIGHTS:
        raise typer.BadParameter(f"found {_short(value)}; allowed: {', '.join(_WEIGHTS)}")
    return str(value)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:36]} ..."


def _cells(incomplete: str) -> list[str]:
    from critinit import cells

    return [name for name in cells.NAMES if name.startswith(incomplete)]


def _schemes(incomplete: str) -> list[str]:
    return [name for name in SCHEMES if name.startswith(incomplete)]


def _resets(incomplete: str) -> list[str]:
    return [name for name in ("after", "before") if name.startswith(incomplete)]


def _weights(incomplete: str) -> list[str]:
    return [name for name in _WEIGHTS if name.startswith(incomplete)]


def frameworks(incomplete: str) -> list[str]:
    """The published layouts, for completion."""
    from critinit.tensors.layouts import layouts

    return [name for name in layouts() if name.startswith(incomplete)]


Cell = Annotated[
    str,
    typer.Option(
        "--cell",
        metavar="CELL",
        help="rnn, minimal_rnn, gru, lstm, peephole_lstm, mgu, coupled_lstm, projection_lstm, or a Python file with a "
        "cell of yours, cell.py or cell.py:Class, which is run.",
        autocompletion=_cells,
        show_default=False,
    ),
]
CellFile = Annotated[
    list[str] | None,
    typer.Option(
        "--cell-file",
        metavar="FILE",
        help="A Python file with a cell of yours that specs name, cell.py or cell.py:Class; it is run. Repeatable.",
    ),
]
T = Annotated[
    int,
    typer.Option("--T", metavar="N", help="Sequence length in steps.", parser=integer, show_default=False),
]
Scheme = Annotated[
    str,
    typer.Option("--scheme", metavar="SCHEME", help=f"One of {', '.join(SCHEMES)}.", autocompletion=_schemes),
]
Reset = Annotated[
    str | None,
    typer.Option(
        "--reset",
        metavar="after|before",
        help="gru: where the reset gate acts, after the recurrent kernel (the default) or before it.",
        autocompletion=_resets,
    ),
]
InputVariance = Annotated[
    float,
    typer.Option("--input-variance", metavar="R", help="Second moment of an input coordinate, E x².", parser=number),
]
InputCorrelation = Annotated[
    float,
    typer.Option(
        "--input-correlation",
        metavar="C",
        help="Correlation of the inputs of the two copies whose distance chi describes.",
        parser=number,
    ),
]
NullVariance = Annotated[
    float | None,
    typer.Option(
        "--null-variance",
        metavar="R0",
        help="Power of inputs that carry no information (padding): 0 when silent; unknown counts as R. critical drives gates less where noise is declared.",
        parser=number,
    ),
]

NullConstant = Annotated[
    bool, typer.Option("--null-constant", help="Inputs that carry no information are all alike: no noise.")
]
HiddenSize = Annotated[
    int | None,
    typer.Option("--hidden-size", metavar="N", help="Width, for what depends on it.", parser=integer),
]
InputSize = Annotated[
    int | None,
    typer.Option("--input-size", metavar="M", help="Input coordinates, for what depends on them.", parser=integer),
]
Output = Annotated[
    str,
    typer.Option("--output", "-o", metavar="FILE", help="Where to write; - is standard output."),
]
File = Annotated[str, typer.Argument(metavar="FILE", help="A spec; - is standard input.", show_default=False)]
Weights = Annotated[
    str,
    typer.Option(
        "--weights",
        metavar="untied|tied|both",
        help="untied: drawn anew at every step, the paper's setting; tied: kept, as real networks do.",
        autocompletion=_weights,
        parser=weights,
    ),
]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
