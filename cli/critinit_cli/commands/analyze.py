"""``critinit analyze``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from critinit_cli import codes, options
from critinit_cli.output import as_json, emit
from critinit_cli.progress import progress_bars

if TYPE_CHECKING:
    from critinit import Analysis
    from critinit.spec import InitSpec

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "analyze"
EXAMPLES = """\b
Examples:
  critinit analyze spec.json
  critinit spec --cell lstm --T 300 | critinit analyze - --weights tied --json
"""

Precision = Annotated[
    float | None,
    typer.Option(
        "--precision",
        metavar="P",
        help="Wanted relative standard error of the sampled numbers; half of it takes four times as long.",
        parser=options.number,
        show_default=False,
    ),
]


def command(
    file: options.File,
    weights: options.Weights = "both",
    features: options.Features = None,
    precision: Precision = None,
    json: options.JSON = False,
    cell_file: options.CellFile = None,
) -> int:
    """Show what theory says of a spec, layer by layer.

    chi is the growth per step of the squared distance of two perturbed copies; retention is what T steps leave of
    that distance. With both weights, a sentence for each layer says whether the untied numbers mislead.

    Inputs of a few numbers, as of sensors and sound, make another state than those of many, mostly a larger one. The
    tied numbers are for as many as --features states, or the spec records; the title says how many. The untied ones
    are for many.
    """
    from critinit import analyze
    from critinit_cli.reading import read_spec

    spec = read_spec(file, cell_file)
    with progress_bars() as bar:
        analysis = analyze(
            spec, weights=cast("Any", weights), features=features, precision=precision, progress=bar("tied theory")
        )
    emit(as_json(analysis.model_dump(mode="json")) if json else _as_text(spec, analysis, weights))
    return codes.GOOD


def _as_text(spec: InitSpec, analysis: Analysis, weights: str) -> str:
    """The tables, and whether the two readings agree where both were asked for."""
    from critinit_cli.numbers import layers_as_text
    from critinit_cli.tables import GLOSSARY

    shown = ("untied", "tied") if weights == "both" else (weights,)
    columns = {name: [getattr(layer, name) for layer in analysis.layers] for name in shown}
    features = [layer.features for layer in analysis.layers]
    verdicts = _verdicts(analysis, spec.T) if weights == "both" else []
    return "".join((layers_as_text(spec, columns, features=features), GLOSSARY, *verdicts))


def _verdicts(analysis: Analysis, T: int) -> list[str]:
    """A line for each layer on whether its two readings agree."""
    from critinit.theory.agreement import agreement

    words = [agreement(layer.untied, layer.tied, T)[1] for layer in analysis.layers if layer.tied is not None]
    return [f"{f'layer {index}: ' if len(words) > 1 else ''}{line}\n" for index, line in enumerate(words)]
