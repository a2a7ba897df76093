"""``critinit compare``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from critinit_cli import codes, options
from critinit_cli.output import as_json, emit

if TYPE_CHECKING:
    from critinit.errors import ArgumentError
    from critinit.spec import InitSpec

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "compare"
EXAMPLES = """\b
Examples:
  critinit compare --cell gru --T 784
  critinit compare --cell gru --T 784 --scheme ./my_scheme.py
  critinit compare --cell lstm --T 500 --padding-variance 0 --json
"""

SchemeFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--scheme",
        metavar="FILE",
        help="A Python file with a scheme of your own to show beside {schemes}; scheme.py or scheme.py:NAME. The file "
        "is run. Repeatable.",
    ),
]


@dataclass(frozen=True)
class _Compared:
    """What every scheme gives.

    Attributes:
        specs: The spec of each scheme that suits the cell, by its name.
        refusals: Why the others do not.
        stated: Where nothing is known of the padding: the default scheme's spec if it were stated, by what it would be.
    """

    specs: Mapping[str, InitSpec]
    refusals: Mapping[str, ArgumentError]
    stated: Mapping[str, InitSpec]


def command(
    cell: options.Cell,
    T: options.T,
    scheme: SchemeFiles = None,
    input_variance: options.InputVariance = 1.0,
    input_correlation: options.InputCorrelation = 1.0,
    input_autocorrelation: options.InputAutocorrelation = None,
    padding_variance: options.PaddingVariance = None,
    padding_constant: options.PaddingConstant = False,
    hidden_size: options.HiddenSize = None,
    input_size: options.InputSize = None,
    json: options.JSON = False,
) -> int:
    """Show what theory says of every scheme, side by side.

    Shown are critinit's own schemes, those of installed packages, and those in the files that --scheme names.
    """
    from critinit.cells import CELLS
    from critinit.schemes import load_scheme
    from critinit.schemes.generating import generate

    padding = options.padding(padding_variance, padding_constant)
    for file in scheme or ():
        load_scheme(file)
    make = partial(
        generate,
        CELLS.name_of(cell),
        T,
        input_variance=input_variance,
        input_correlation=input_correlation,
        input_autocorrelation=input_autocorrelation,
        hidden_size=hidden_size,
        input_size=input_size,
    )
    specs, refusals = _every_scheme(partial(make, padding=padding))
    compared = _Compared(specs, refusals, _if_stated(specs, make, input_variance) if padding is None else {})
    emit(as_json(_as_object(compared)) if json else _as_text(compared))
    return codes.GOOD


def _every_scheme(make: Callable[..., InitSpec]) -> tuple[dict[str, InitSpec], dict[str, ArgumentError]]:
    """The specs of the schemes that suit the cell, and why the others do not."""
    from critinit.errors import ArgumentError, SchemeError
    from critinit.schemes import SCHEMES

    specs: dict[str, InitSpec] = {}
    refusals: dict[str, ArgumentError] = {}
    for name in SCHEMES.loaded():
        try:
            specs[name] = make(scheme=name)
        except ArgumentError as error:
            if not isinstance(error, SchemeError) and error.where != "scheme":  # wrong for every scheme
                raise
            why = error.__cause__  # without the schemes that do suit it: they are in the table
            refusals[name] = why if isinstance(why, SchemeError) else error
    if not specs:
        raise next(iter(refusals.values()))
    return specs, refusals


def _if_stated(specs: Mapping[str, InitSpec], make: Callable[..., InitSpec], power: float) -> dict[str, InitSpec]:
    """What the default would be for padding that is known: silence, and noise as strong as the input."""
    from critinit.schemes import DEFAULT

    if power <= 0.0 or DEFAULT not in specs or specs[DEFAULT].find_cell().keep_gate is None:
        return {}
    return {name: make(padding={"variance": variance}) for name, variance in (("silence", 0.0), ("noise", power))}


# ---- JSON ------------------------------------------------------------------------------------------------


def _as_object(compared: _Compared) -> dict[str, Any]:
    from critinit.schemes import SCHEMES

    any_spec = next(iter(compared.specs.values()))
    rows = [
        {"scheme": name, "description": scheme.description, **_row(name, compared)}
        for name, scheme in SCHEMES.loaded().items()
    ]
    stated = {name: _stated_row(spec, compared.specs) for name, spec in compared.stated.items()}
    return {
        **{"cell": any_spec.cell, "T": any_spec.T, "schemes": rows},
        **({"if_padding_were_stated": stated} if stated else {}),
    }


def _row(scheme: str, compared: _Compared) -> dict[str, Any]:
    """What there is of a scheme: its predictions, or why there are none."""
    if scheme in compared.refusals:
        return {"refused": compared.refusals[scheme].problem._asdict()}
    spec = compared.specs[scheme]
    data = spec.to_dict()
    return {
        **({"target": data["target"]} if "target" in data else {}),
        "layers": [layer["predicted"] for layer in data["layers"]],
        "requirements": None if spec.find_cell().keep_gate is None else _requirements(spec),
    }


def _stated_row(spec: InitSpec, specs: Mapping[str, InitSpec]) -> dict[str, Any]:
    from critinit.schemes import DEFAULT

    layer = spec.layers[0]
    return {
        "padding": layer.input.padding and layer.input.padding.model_dump(mode="json"),
        "same_gates": layer.groups == specs[DEFAULT].layers[0].groups,
        "requirements": _requirements(spec),
    }


def _requirements(spec: InitSpec) -> dict[str, Any]:
    from critinit.theory.requirements import requirements

    return requirements(spec).model_dump(mode="json")


# ---- text ------------------------------------------------------------------------------------------------


def _as_text(compared: _Compared) -> str:
    from critinit_cli.columns import comparison_table, explanation, introduction

    any_spec = next(iter(compared.specs.values()))
    title = f"{any_spec.cell}, every scheme, T = {any_spec.T}"
    table = comparison_table(title, compared.specs)
    refusals = [f"{name}: left out; {_reason(error)}\n" for name, error in compared.refusals.items()]
    return "".join(
        (introduction(any_spec.T), "\n", table, *refusals, *_padding(compared), "\n", explanation(any_spec.T))
    )


def _reason(error: ArgumentError) -> str:
    """Why a scheme has no row."""
    return error.hint or str(error.problem._replace(where=""))


def _padding(compared: _Compared) -> list[str]:
    """Lines on what stating the padding would change, where it is unknown."""
    from critinit.schemes import DEFAULT
    from critinit.theory.requirements import requirements
    from critinit_cli.tables import paragraph

    if not compared.stated:
        return []
    lines = [
        paragraph(
            "You did not state the padding, so the numbers assume the worst: that it is as strong as the input. If you "
            f"know it, state it. Zeros change only the prediction. For noise {DEFAULT} also chooses gates that react "
            f"less, so that the noise changes the memory little. {DEFAULT} would have"
        )
    ]
    unknown = compared.specs[DEFAULT].layers[0]
    for name, spec in compared.stated.items():
        layer = spec.layers[0]
        gates = "the same gates" if layer.groups == unknown.groups else "gates that react less to inputs"
        option = f"--padding-variance {layer.input.padding_power:g}"
        kept = requirements(spec).padding_retention
        lines.append(f"  with {option} ({name}): {gates}, padding retention {kept:.3g}\n")
    return lines
