"""``critinit spec``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from critinit_cli import options
from critinit_cli.options import integer, number
from critinit_cli.output import complain, emit
from critinit_cli.usage import named_as_options

if TYPE_CHECKING:
    from critinit.spec import InitSpec

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "spec"
EXAMPLES = """\b
Examples:
  critinit spec --cell gru --T 784 > spec.json
  critinit spec --cell lstm --T 500 --scheme chrono --layers 2 -o spec.json
  critinit spec --cell gru --T 200 --null-variance 0 --set layers.0.gates.update.bias.mean=3
  critinit spec --cell ./my_cell.py --T 100 > spec.json
  critinit spec --cell lstm --data train.npy -o spec.json
  critinit spec --cell gru --data sensors.csv --T 500 --columns speed,angle > spec.json
  critinit spec --cell gru --T 200 --set 'layers.*.gates.reset.bias={"distribution":"constant","mean":2}'
"""

Length = Annotated[
    int | None,
    typer.Option("--T", metavar="N", help="Sequence length in steps; that of the data.", parser=integer),
]
InputVariance = Annotated[
    float | None,
    typer.Option(
        "--input-variance",
        metavar="R",
        help="Second moment of an input coordinate, E x²; that of the data, or 1.",
        parser=number,
    ),
]
InputCorrelation = Annotated[
    float | None,
    typer.Option(
        "--input-correlation",
        metavar="C",
        help="Correlation of the inputs of the two copies whose distance chi describes; that of the data's sequences, or 1.",
        parser=number,
    ),
]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="FILE", help="Measure the inputs in a .npy, .npz, .csv or .parquet file."),
]
Layout = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="AXES",
        help="The data's axes as stored, N sequences, T steps, F features: T, TF or NTF unless said.",
    ),
]
Array = Annotated[
    str | None, typer.Option("--array", metavar="NAME", help="Which array of an npz file that holds several.")
]
Columns = Annotated[
    str | None,
    typer.Option("--columns", metavar="NAMES", help="A table's columns that are inputs, with commas between."),
]
Layers = Annotated[int, typer.Option("--layers", metavar="L", help="Recurrent layers.", parser=integer)]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Set a value, or a whole part as JSON; repeatable. * stands for every layer or gate.",
    ),
]


def command(
    cell: options.Cell,
    T: Length = None,
    scheme: options.Scheme = "critical",
    reset: options.Reset = None,
    layers: Layers = 1,
    input_variance: InputVariance = None,
    input_correlation: InputCorrelation = None,
    null_variance: options.NullVariance = None,
    null_constant: options.NullConstant = False,
    hidden_size: options.HiddenSize = None,
    input_size: options.InputSize = None,
    data: Data = None,
    layout: Layout = None,
    array: Array = None,
    columns: Columns = None,
    settings: Settings = None,
    output: options.Output = "-",
) -> int:
    """Write the spec of a cell for sequences of T steps.

    With --data the inputs are measured: what is not said of them, and T, is taken from the file (npy, npz, csv,
    parquet), and what was measured is shown on standard error.

    The spec goes to standard output, or whole to FILE. Where it misses its scheme's target it is written
    all the same, one line on standard error says what was reached and what stops it, and the exit code is 3.
    """
    from critinit.errors import ArgumentError
    from critinit.schemes import generate
    from critinit_cli.reading import cell_name

    said = {"variance": input_variance, "correlation": input_correlation, "null_variance": null_variance}
    if data is not None:
        from critinit_cli.inputs import measured

        with named_as_options():
            found = measured(data, layout=layout, array=array, columns=columns)
        T = found.T if T is None else T
        input_size = found.features if input_size is None else input_size
        null_constant = null_constant or null_variance is None  # what measuring takes for padding is all alike
        said = {name: found.inputs[name] if value is None else value for name, value in said.items()}
    elif stray := [n for n, v in (("layout", layout), ("array", array), ("columns", columns)) if v is not None]:
        raise ArgumentError(f"--{stray[0]}: allowed: with --data, whose file it is about")
    elif T is None:
        raise ArgumentError("Missing option '--T', the sequence length; allowed to be left out: with --data")
    with named_as_options():
        spec = generate(
            cell_name(cell),
            T,
            scheme=scheme,
            reset=reset,
            layers=layers,
            input_variance=1.0 if said["variance"] is None else said["variance"],
            input_correlation=1.0 if said["correlation"] is None else said["correlation"],
            null_variance=said["null_variance"],
            null_constant=null_constant,
            hidden_size=hidden_size,
            input_size=input_size,
        )
    if settings:
        spec = _set(spec, settings)
    emit(spec.to_json(), output)
    target = spec.target
    if target is None or target.limit is None:
        return 0
    reached = "unbounded" if target.reached is None else f"{target.reached:.6g}"
    complain("missed", f"{target.quantity}: reached {reached}; wanted {target.wanted:.6g}; {target.limit}")
    return 3


def _set(spec: InitSpec, settings: list[str]) -> InitSpec:
    """``spec`` with the settings made and its prediction computed anew."""
    from critinit.errors import ArgumentError, SpecError
    from critinit.spec.overrides import override
    from critinit.theory.analysis import predict

    try:
        return predict(override(spec, settings))
    except (ArgumentError, SpecError) as error:
        raise ArgumentError(f"--set {error}") from None
