"""``critinit spec``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from critinit_cli import options
from critinit_cli.options import integer
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
  critinit spec --cell gru --T 200 --set 'layers.*.gates.reset.bias={"distribution":"constant","mean":2}'
"""

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
    T: options.T,
    scheme: options.Scheme = "critical",
    reset: options.Reset = None,
    layers: Layers = 1,
    input_variance: options.InputVariance = 1.0,
    input_correlation: options.InputCorrelation = 1.0,
    null_variance: options.NullVariance = None,
    hidden_size: options.HiddenSize = None,
    input_size: options.InputSize = None,
    settings: Settings = None,
    output: options.Output = "-",
) -> int:
    """Write the spec of a cell for sequences of T steps.

    The spec goes to standard output, or whole to FILE. Where it misses its scheme's target it is written
    all the same, one line on standard error says what was reached and what stops it, and the exit code is 3.
    """
    from critinit.schemes import generate

    with named_as_options():
        spec = generate(
            cell,
            T,
            scheme=scheme,
            reset=reset,
            layers=layers,
            input_variance=input_variance,
            input_correlation=input_correlation,
            null_variance=null_variance,
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
