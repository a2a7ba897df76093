"""``critinit compare``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from critinit_cli import options
from critinit_cli.output import as_json, emit
from critinit_cli.usage import named_as_options

if TYPE_CHECKING:
    from critinit.spec import InitSpec

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "compare"
EXAMPLES = """\b
Examples:
  critinit compare --cell gru --T 784
  critinit compare --cell lstm --T 500 --null-variance 0 --json
"""


def command(
    cell: options.Cell,
    T: options.T,
    reset: options.Reset = None,
    input_variance: options.InputVariance = 1.0,
    input_correlation: options.InputCorrelation = 1.0,
    null_variance: options.NullVariance = None,
    hidden_size: options.HiddenSize = None,
    input_size: options.InputSize = None,
    json: options.JSON = False,
) -> int:
    """Show what the theory says of every scheme, side by side."""
    from critinit.errors import ArgumentError
    from critinit.schemes import NAMES, generate

    specs: dict[str, InitSpec] = {}
    refusals: dict[str, str] = {}
    with named_as_options():
        for scheme in NAMES:
            try:
                specs[scheme] = generate(
                    cell,
                    T,
                    scheme=scheme,
                    reset=reset,
                    input_variance=input_variance,
                    input_correlation=input_correlation,
                    null_variance=null_variance,
                    hidden_size=hidden_size,
                    input_size=input_size,
                )
            except ArgumentError as error:
                if not str(error).startswith("scheme: "):  # no matter of the scheme: it holds for all
                    raise
                refusals[scheme] = str(error).removeprefix("scheme: ")
    emit(as_json(_as_object(specs, refusals)) if json else _as_text(specs, refusals))
    return 0


def _as_object(specs: dict[str, InitSpec], refusals: dict[str, str]) -> dict[str, Any]:
    from critinit.schemes import NAMES, describe

    any_spec = next(iter(specs.values()))
    reset = {} if any_spec.reset is None else {"reset": any_spec.reset}
    rows = []
    for scheme in NAMES:
        row: dict[str, Any] = {"scheme": scheme, "description": describe(scheme)}
        if scheme in specs:
            dump = specs[scheme].model_dump(mode="json")
            row |= {"target": dump["target"]} if "target" in dump else {}
            row["layers"] = [layer["predicted"] for layer in dump["layers"]]
        else:
            row["refused"] = refusals[scheme]
        rows.append(row)
    return {"cell": any_spec.cell, **reset, "T": any_spec.T, "schemes": rows}


_COLUMNS = ("scheme", "weights", "chi", "time scale", "survival", "second moment", "J mean", "J variance")


def _as_text(specs: dict[str, InitSpec], refusals: dict[str, str]) -> str:
    from critinit.spec import Numbers
    from critinit_cli.numbers import heading, time_scale
    from critinit_cli.tables import number, render

    rows = []
    for scheme, spec in specs.items():
        name = scheme
        for weights in ("untied", "tied"):
            numbers = getattr(spec.layers[0].predicted, weights)
            if isinstance(numbers, Numbers):
                rows.append(
                    (
                        name,
                        weights,
                        number(numbers.chi),
                        time_scale(numbers),
                        number(numbers.survival),
                        number(numbers.second_moment),
                        number(numbers.jacobian.mean_squared_singular_value),
                        number(numbers.jacobian.variance),
                    )
                )
                name = ""
    title = heading(next(iter(specs.values()))).replace("scheme critical", "every scheme")
    words = "survival: what T steps leave of a perturbation; J: squared singular values of the Jacobian\n"
    return render(title, _COLUMNS, rows) + words + "".join(f"{s}: {why}\n" for s, why in refusals.items())
