"""``critinit spec``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from critinit_cli import codes, options
from critinit_cli.options import integer, number
from critinit_cli.output import complain, emit

if TYPE_CHECKING:
    from critinit.spec import Target

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "spec"
EXAMPLES = """\b
Examples:
  critinit spec --cell gru --T 784 > spec.json
  critinit spec --cell lstm --T 500 --scheme chrono --layers 2 -o spec.json
  critinit spec --cell gru --T 200 --padding-variance 0 --set layers.0.gates.update.bias.mean=3
  critinit spec --cell ./my_cell.py --T 100 --scheme ./my_scheme.py > spec.json
  critinit spec --cell lstm --data train.npy -o spec.json
  critinit spec --cell gru --data sensors.csv --T 500 --columns speed,angle --missing drop > spec.json
  critinit spec --cell gru --data long.parquet --group sensor --time date > spec.json
  critinit spec --cell gru --data export.csv --csv 'delimiter=;' --csv decimal_point=, > spec.json
  critinit spec --cell gru --T 200 --scheme memory --set layers.0.groups.gated.gates.update.bias.mean=3
  critinit spec --cell gru --T 200 --set 'layers.*.gates.reset.bias={"distribution":"constant","mean":2}'
"""

_WHY = {
    "memory": "the scheme memory, which bears this rate without limits",
    "critical": "the scheme critical, which needs no limits",
}
"""What a learning rate chose, and why."""
_FASTER = "; where the optimizer keeps limits, memory trains faster: --scheme memory"
Length = Annotated[
    int | None,
    typer.Option("--T", metavar="N", help=f"{options.STEPS} Left out: that of the data.", parser=integer),
]
InputVariance = Annotated[
    float | None,
    typer.Option(
        "--input-variance",
        metavar="R",
        help="Mean square of an input number; that of the data, or 1, which standardized inputs have. 0: every input "
        "is zero.",
        parser=number,
    ),
]
InputCorrelation = Annotated[
    float | None,
    typer.Option(
        "--input-correlation",
        metavar="C",
        help="Correlation of the inputs of the two perturbed copies whose distance chi describes; that of the data's "
        "sequences, or 1.",
        parser=number,
    ),
]
InputAutocorrelation = Annotated[
    float | None,
    typer.Option(
        "--input-autocorrelation",
        metavar="A",
        help="Correlation of the input with that of the step before, near 1 for smooth signals; that of the data, or "
        "unknown, and inputs at different steps count as independent.",
        parser=number,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="FILE",
        help="Measure the inputs in this file: .npy, .npz, .safetensors, .csv, .parquet, .feather, .arrow.",
    ),
]
Layout = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="AXES",
        help="The data's axes as stored, N sequences, T steps, F features: T, TF or NTF where it is left out.",
    ),
]
Array = Annotated[
    str | None,
    typer.Option(
        "--array",
        metavar="NAME",
        help="Which array of an npz or safetensors file that holds several; a pattern with * takes each that fits for "
        "one sequence.",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="NAMES",
        help="The columns that are inputs, with commas between; or, each with - before it, those that are none. "
        "Columns without names are called by number from 0.",
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        "--group", metavar="NAMES", help="The column, or columns, of a long table that name the sequence of a row."
    ),
]
Time = Annotated[
    str | None,
    typer.Option("--time", metavar="NAME", help="The column of a table by which the rows of a sequence are ordered."),
]
Csv = Annotated[
    list[str] | None,
    typer.Option(
        "--csv",
        metavar="OPTION=VALUE",
        help="How a table of text is written, such as decimal_point=, thousands=. encoding=latin-1 delimiter=; "
        "skip_rows=2 null_values=? timestamp_parsers=%d.%m.%Y; repeatable.",
    ),
]
Missing = Annotated[
    str | None,
    typer.Option(
        "--missing",
        metavar="refuse|drop",
        help="What to do about steps of the data that lack a number: refuse the file, or leave these steps out "
        "[default: refuse].",
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        "--learning-rate",
        metavar="RATE",
        help="The rate of an optimizer of Adam's kind that keeps no limits. It chooses the scheme: memory up to .1/T "
        "where that suits the cell, else critical. Not beside --scheme.",
        parser=number,
    ),
]
Layers = Annotated[int, typer.Option("--layers", metavar="L", help="Recurrent layers.", parser=integer)]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Set a value, or a whole part as JSON; repeatable. * stands for every layer, group or gate; a "
        "group of units is called by its name: layers.0.groups.memory.gates.update.bias.mean=3.",
    ),
]


def command(
    cell: options.Cell,
    T: Length = None,
    scheme: options.Scheme = None,
    learning_rate: LearningRate = None,
    layers: Layers = 1,
    input_variance: InputVariance = None,
    input_correlation: InputCorrelation = None,
    input_autocorrelation: InputAutocorrelation = None,
    padding_variance: options.PaddingVariance = None,
    padding_constant: options.PaddingConstant = False,
    hidden_size: options.HiddenSize = None,
    input_size: options.InputSize = None,
    data: Data = None,
    layout: Layout = None,
    array: Array = None,
    columns: Columns = None,
    group: Group = None,
    time: Time = None,
    csv: Csv = None,
    missing: Missing = None,
    settings: Settings = None,
    output: options.Output = "-",
) -> int:
    """Write the spec of a cell that has to remember over T steps.

    With --data the inputs are measured: T, and what no option states about the inputs, is taken from the file. What
    was measured is shown on standard error.

    The spec goes to standard output, or whole to FILE. Where it misses its scheme's target it is written
    all the same, one line on standard error states what was reached and what stops it, and the exit code is 3.
    """
    from critinit.cells import CELLS
    from critinit.schemes import SCHEMES
    from critinit.schemes.generating import LIMITED, generate, reads_spectrum, suits
    from critinit_cli.inputs import Inputs, Reading, measured

    given = Inputs(
        T,
        input_variance,
        input_correlation,
        input_autocorrelation,
        None,
        options.padding(padding_variance, padding_constant),
        input_size,
    )
    reading = Reading(layout, array, columns, group, time, tuple(csv or ()), missing)
    _check(T, data, reading._asdict())
    _check_output(output, (data, cell, scheme))
    named = None if scheme is None else SCHEMES.name_of(scheme)
    if data is not None:
        given = measured(data, given, reading, spectrum=reads_spectrum(named, learning_rate))
    spec = generate(
        CELLS.name_of(cell),
        scheme=named,
        learning_rate=learning_rate,
        layers=layers,
        hidden_size=hidden_size,
        settings=settings or (),
        **given.arguments(),
    )
    arguments: Mapping[str, Any] = {} if spec.generated is None else spec.generated.arguments
    if "input_spectrum" in arguments:
        complain("note", "the angles of the memory group follow the spectrum of the data")
    if given.variance == 0.0:
        complain(
            "note",
            "an input variance of 0 says that every input is zero: the prediction is for a network that reads nothing, "
            "and input kernels are as for a variance of 1; leave --input-variance out where it is unknown",
        )
    if learning_rate is not None:
        chosen = arguments["scheme"]
        why = _WHY[chosen] + (_FASTER if chosen != LIMITED and suits(LIMITED, spec) else "")
        complain("note", f"learning rate {learning_rate:g} over {spec.T} steps: {why}")
    emit(spec.to_json(), output)
    return _missed(spec.target)


def _check(T: int | None, data: str | None, about_data: dict[str, Any]) -> None:
    """Raise ``ArgumentError`` where the options do not go together; ``about_data``: those that need ``--data``."""
    from critinit.errors import ArgumentError

    if data is not None:
        return
    for name, value in about_data.items():
        if value:
            value = " ".join(value) if isinstance(value, tuple) else value
            hint = "it states how that file is to be read"
            raise ArgumentError(name, found=f"{value} without --data", allowed="with --data FILE", hint=hint)
    if T is None:
        hint = "or --data FILE, which is measured"
        raise ArgumentError(
            "T", found="nothing", allowed="over how many steps the network has to remember, such as --T 784", hint=hint
        )


def _check_output(output: str, read: Sequence[str | None]) -> None:
    """Raise ``ArgumentError`` where the file to write is one of those that are read, which would be lost."""
    from critinit.errors import ArgumentError

    given = filter(None, read)
    for name in (part for one in given for part in (one, one.rpartition(":")[0])):  # FILE.py:Class names a class
        if os.path.isfile(name) and os.path.isfile(output) and os.path.samefile(name, output):
            raise ArgumentError("output", found=f"{output!r}, which is read too", allowed="another file")


def _missed(target: Target | None) -> int:
    """Say that the spec misses its scheme's target, where it does, and return the exit code."""
    if target is None or target.limit is None:
        return codes.GOOD
    reached = "unbounded" if target.reached is None else f"{target.reached:.6g}"
    complain("missed", f"{target.quantity}: reached {reached}; wanted {target.wanted:.6g}; {target.limit}")
    return codes.MISSED
