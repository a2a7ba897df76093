"""``critinit analyze``."""

from __future__ import annotations

from typing import Any, cast

from critinit_cli import options
from critinit_cli.output import as_json, emit
from critinit_cli.progress import progress_bars
from critinit_cli.usage import named_as_options

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "analyze"
EXAMPLES = """\b
Examples:
  critinit analyze spec.json
  critinit spec --cell lstm --T 300 | critinit analyze - --weights tied --json
"""


def command(
    file: options.File,
    weights: options.Weights = "both",
    json: options.JSON = False,
    cell_file: options.CellFile = None,
) -> int:
    """Say what the theory says of a spec, layer by layer.

    chi is the growth per step of the distance of two copies; retention is what T steps leave of it. With both weights,
    a sentence a layer says whether the untied numbers mislead.
    """
    from critinit import analyze
    from critinit.theory.agreement import agreement
    from critinit_cli.numbers import layers_as_text
    from critinit_cli.reading import read_spec

    spec = read_spec(file, cell_file)
    with named_as_options(), progress_bars() as bar:
        analysis = analyze(spec, weights=cast("Any", weights), progress=bar("tied theory"))
    if json:
        emit(as_json(analysis.model_dump(mode="json")))
        return 0
    shown = ("untied", "tied") if weights == "both" else (weights,)
    text = layers_as_text(spec, {name: [getattr(layer, name) for layer in analysis.layers] for name in shown})
    if weights == "both":
        said = [agreement(layer.untied, layer.tied)[1] for layer in analysis.layers if layer.tied is not None]
        several = len(said) > 1
        text += "".join(f"{f'layer {i}: ' if several else ''}{words}\n" for i, words in enumerate(said))
    emit(text)
    return 0
