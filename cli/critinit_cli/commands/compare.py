"""``critinit compare``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from critinit_cli import options
from critinit_cli.output import as_json, emit
from critinit_cli.usage import named_as_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from critinit.spec import InitSpec

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "compare"
DEFAULT = "critical"
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
    null_constant: options.NullConstant = False,
    hidden_size: options.HiddenSize = None,
    input_size: options.InputSize = None,
    json: options.JSON = False,
) -> int:
    """Show what the theory says of every scheme, side by side."""
    from critinit.errors import ArgumentError
    from critinit.schemes import NAMES, generate
    from critinit_cli.reading import cell_name

    make = partial(
        generate,
        cell_name(cell),
        T,
        reset=reset,
        input_variance=input_variance,
        input_correlation=input_correlation,
        null_constant=null_constant,
        hidden_size=hidden_size,
        input_size=input_size,
    )
    specs: dict[str, InitSpec] = {}
    refusals: dict[str, str] = {}
    with named_as_options():
        for scheme in NAMES:
            try:
                specs[scheme] = make(scheme=scheme, null_variance=null_variance)
            except ArgumentError as error:
                if not str(error).startswith("scheme: "):  # no matter of the scheme: it holds for all
                    raise
                refusals[scheme] = str(error).removeprefix("scheme: ")
    stated = {} if null_variance is not None else _stated(specs, make, input_variance)
    emit(as_json(_as_object(specs, refusals, stated)) if json else _as_text(specs, refusals, stated))
    return 0


def _stated(specs: dict[str, InitSpec], make: Callable[..., InitSpec], power: float) -> dict[str, InitSpec]:
    """What the default would be for padding that is known: silence, and noise as strong as the input."""
    if power <= 0.0 or DEFAULT not in specs or specs[DEFAULT].find_cell().keep_gate is None:
        return {}
    return {name: make(null_variance=null, null_constant=False) for name, null in (("silence", 0.0), ("noise", power))}


def _as_object(specs: dict[str, InitSpec], refusals: dict[str, str], stated: dict[str, InitSpec]) -> dict[str, Any]:
    from critinit.schemes import NAMES, describe
    from critinit.theory.requirements import requirements

    any_spec = next(iter(specs.values()))
    keeps = any_spec.find_cell().keep_gate is not None
    reset = {} if any_spec.reset is None else {"reset": any_spec.reset}
    rows = []
    for scheme in NAMES:
        row: dict[str, Any] = {"scheme": scheme, "description": describe(scheme)}
        if scheme in specs:
            dump = specs[scheme].model_dump(mode="json")
            row |= {"target": dump["target"]} if "target" in dump else {}
            row["layers"] = [layer["predicted"] for layer in dump["layers"]]
            row["requirements"] = requirements(specs[scheme]).model_dump(mode="json") if keeps else None
        else:
            row["refused"] = refusals[scheme]
        rows.append(row)
    if_stated = {
        name: {
            "null_variance": spec.layers[0].input.null_power,
            "same_gates": spec.layers[0].gates == specs[DEFAULT].layers[0].gates,
            "requirements": requirements(spec).model_dump(mode="json"),
        }
        for name, spec in stated.items()
    }
    return {
        **{"cell": any_spec.cell, **reset, "T": any_spec.T, "schemes": rows},
        **({"if_padding_were_stated": if_stated} if stated else {}),
    }


_COLUMNS = ("scheme", "written\nsignal", "retention", "gain", "chi\nuntied", "chi\ntied", "J\nmean", "J\nvariance")
_WORDS = """\
written signal: what an informative step adds, times what T uninformative ones leave of it; retention: what they leave
gain: how far a constant drive moves the memory, 1 where gates are coupled; chi: growth of a distance per step
J: squared singular values of the one-step Jacobian, tied, as chi tied a fast estimate: analyze samples the full theory
"""


def _as_text(specs: dict[str, InitSpec], refusals: dict[str, str], stated: dict[str, InitSpec]) -> str:
    from critinit.spec import Numbers
    from critinit.spec.tables import heading
    from critinit.theory.requirements import requirements
    from critinit_cli.tables import render

    rows = []
    for scheme, spec in specs.items():
        judged = requirements(spec) if spec.find_cell().keep_gate else None
        predicted = spec.layers[0].predicted
        untied = predicted.untied if isinstance(predicted.untied, Numbers) else None
        tied = predicted.tied if isinstance(predicted.tied, Numbers) else None
        jacobian = None if tied is None else tied.jacobian
        rows.append(
            (
                scheme,
                *("-" if judged is None else f"{getattr(judged, x):.3g}" for x in ("written", "retention", "gain")),
                "none" if untied is None else f"{untied.chi:.5g}",
                "none" if tied is None else f"{tied.chi:.5g}",
                "none" if jacobian is None else f"{jacobian.mean_squared_singular_value:.4g}",
                "none" if jacobian is None else f"{jacobian.variance:.3g}",
            )
        )
    title = heading(next(iter(specs.values()))).replace("scheme critical", "every scheme")
    notes = [f"{scheme}: {why}\n" for scheme, why in refusals.items()]
    notes += _padding(specs[DEFAULT], stated) if stated else []
    return render(title, _COLUMNS, rows) + _WORDS + "".join(notes)


def _padding(unknown: InitSpec, stated: dict[str, InitSpec]) -> list[str]:
    """Lines on what stating the padding would gain."""
    from critinit.theory.requirements import requirements

    lines = [f"padding: unknown, so it counts as strong as the input; stated, {DEFAULT} would have\n"]
    for name, spec in stated.items():
        gates = "the same gates" if spec.layers[0].gates == unknown.layers[0].gates else "gates that are driven less"
        option = f"--null-variance {spec.layers[0].input.null_power:g}"
        lines.append(f"  {option} ({name}): {gates}, retention {requirements(spec).retention:.3g}\n")
    return lines
