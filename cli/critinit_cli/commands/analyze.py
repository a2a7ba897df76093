"""``critinit analyze``."""

from __future__ import annotations

from critinit_cli import options
from critinit_cli.output import as_json, emit
from critinit_cli.usage import named_as_options

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "analyze"
EXAMPLES = """\b
Examples:
  critinit analyze spec.json
  critinit spec --cell lstm --T 300 | critinit analyze - --weights tied --json
"""


def command(file: options.File, weights: options.Weights = "both", json: options.JSON = False) -> int:
    """Say what the theory says of a spec, layer by layer.

    chi is the growth per step of the distance of two copies; survival is what T steps leave of it.
    """
    from critinit import analyze
    from critinit_cli.numbers import layers_as_text
    from critinit_cli.reading import read_spec

    spec = read_spec(file)
    with named_as_options():
        analysis = analyze(spec, weights=weights)
    if json:
        emit(as_json(analysis.model_dump(mode="json")))
    else:
        emit(layers_as_text(spec, [(layer.untied, layer.tied) for layer in analysis.layers], weights))
    return 0
