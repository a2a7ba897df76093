"""The options that commands share: their types, help, parsing and completion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from critinit_cli import registered

__all__ = [
    "JSON",
    "WEIGHTS",
    "Cell",
    "CellFile",
    "File",
    "Framework",
    "HiddenSize",
    "InputAutocorrelation",
    "InputCorrelation",
    "InputSize",
    "InputVariance",
    "Output",
    "PaddingConstant",
    "PaddingVariance",
    "Scheme",
    "T",
    "Weights",
    "choice",
    "completion",
    "integer",
    "number",
    "padding",
]

WEIGHTS = ("untied", "tied", "both")
"""How the weights can be read."""


def integer(value: Any) -> int:
    """Return the integer that the command line states."""
    try:
        parsed = int(value)
    except ValueError:
        raise _refused(value, "an integer") from None
    if abs(parsed) >= 2**63:
        raise _refused(value, "an integer of at most 18 digits")
    return parsed


def number(value: Any) -> float:
    """Return the finite number that the command line states."""
    try:
        parsed = float(value)
    except ValueError:
        parsed = math.nan
    if not math.isfinite(parsed):
        raise _refused(value, "a finite number")
    return parsed


def choice(values: Sequence[str]) -> Callable[[Any], str]:
    """Return the parser of an option that takes one of ``values``."""

    def parse(value: Any) -> str:
        if value not in values:
            raise _refused(value, ", ".join(values))
        return str(value)

    return parse


def completion(names: Callable[[], Sequence[str]]) -> Callable[[str], list[str]]:
    """Return what a shell asks for completions: from the beginning of a word to the names that begin so."""
    return lambda incomplete: [name for name in names() if name.startswith(incomplete)]


def padding(variance: float | None, constant: bool) -> dict[str, Any] | None:
    """Return the padding that the options state, as ``critinit.generate`` takes it.

    Args:
        variance: ``--padding-variance``, or None.
        constant: ``--padding-constant``.

    Raises:
        ArgumentError: It is constant, and its variance is not stated.
    """
    from critinit.errors import ArgumentError

    if variance is not None:
        return {"variance": variance, "constant": constant}
    if constant:
        hint = "zeros are --padding-variance 0 --padding-constant"
        allowed = "with --padding-variance, the power of that padding"
        raise ArgumentError("padding_constant", found="no --padding-variance beside it", allowed=allowed, hint=hint)
    return None


def _refused(value: Any, allowed: str) -> typer.BadParameter:
    text = str(value) or "nothing"
    shown = text if len(text) <= 40 else f"{text[:36]} ..."
    return typer.BadParameter(f"found {shown}; allowed: {allowed}")


Cell = Annotated[
    str,
    typer.Option(
        "--cell",
        metavar="CELL",
        help="{cells}, or a Python file with a cell of your own, cell.py or cell.py:Class. The file is run.",
        autocompletion=completion(registered.cells),
        show_default=False,
    ),
]
CellFile = Annotated[
    list[str] | None,
    typer.Option(
        "--cell-file",
        metavar="FILE",
        help="A Python file with a cell of your own that specs name, cell.py or cell.py:Class. The file is run. "
        "Repeatable.",
    ),
]
STEPS = "Over how many steps the network has to remember: the length of the sequences, if information may be anywhere."
"""What T is."""
T = Annotated[
    int,
    typer.Option("--T", metavar="N", help=STEPS, parser=integer, show_default=False),
]
Scheme = Annotated[
    str | None,
    typer.Option(
        "--scheme",
        metavar="SCHEME",
        help="{schemes}, or a Python file with a scheme of your own, scheme.py or scheme.py:NAME. The file is run. "
        "[default: critical, or what --learning-rate chooses]",
        autocompletion=completion(registered.schemes),
    ),
]
InputVariance = Annotated[
    float,
    typer.Option(
        "--input-variance",
        metavar="R",
        help="Mean square of an input number; standardized inputs have 1.",
        parser=number,
    ),
]
InputCorrelation = Annotated[
    float,
    typer.Option(
        "--input-correlation",
        metavar="C",
        help="Correlation of the inputs of the two perturbed copies whose distance chi describes.",
        parser=number,
    ),
]
InputAutocorrelation = Annotated[
    float | None,
    typer.Option(
        "--input-autocorrelation",
        metavar="A",
        help="Correlation of the input with that of the step before; near 1 for smooth signals. Left out: unknown, and "
        "inputs at different steps count as independent.",
        parser=number,
    ),
]
PaddingVariance = Annotated[
    float | None,
    typer.Option(
        "--padding-variance",
        metavar="R0",
        help="Mean square of inputs that carry no information: 0 where they are silent. Left out: unknown, which "
        "counts as R. Where padding is noise, the scheme critical makes gates that react less to inputs.",
        parser=number,
    ),
]
PaddingConstant = Annotated[
    bool,
    typer.Option("--padding-constant", help="The padding is the same number everywhere, so it is no noise."),
]
HiddenSize = Annotated[
    int | None,
    typer.Option("--hidden-size", metavar="H", help="Units, for schemes that depend on widths.", parser=integer),
]
InputSize = Annotated[
    int | None,
    typer.Option(
        "--input-size", metavar="M", help="Numbers in one input, for schemes that depend on widths.", parser=integer
    ),
]
Features = Annotated[
    int | None,
    typer.Option(
        "--features",
        metavar="M",
        help="Numbers in one input. Left out: what the spec records, where that is at most 100; else theory is for "
        "infinitely many, and networks read as many as they have units.",
        parser=integer,
    ),
]
Output = Annotated[
    str,
    typer.Option("--output", "-o", metavar="FILE", help="Where to write; - is standard output."),
]
File = Annotated[str, typer.Argument(metavar="FILE", help="A spec; - is standard input.", show_default=False)]
Framework = Annotated[
    str | None,
    typer.Option(
        "--framework",
        metavar="NAME",
        help="Whose names and shapes the file has, where these leave it open: {frameworks}.",
        autocompletion=completion(registered.frameworks),
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        "--weights",
        metavar="untied|tied|both",
        help="untied: drawn anew at every step, the published theory; tied: kept, as in real networks.",
        autocompletion=completion(lambda: WEIGHTS),
        parser=choice(WEIGHTS),
    ),
]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
