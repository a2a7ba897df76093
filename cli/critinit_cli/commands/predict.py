"""``critinit predict``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from critinit_cli import codes, options
from critinit_cli.output import complain, emit

if TYPE_CHECKING:
    from critinit.spec import InitSpec

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "predict"
EXAMPLES = """\b
Examples:
  critinit predict spec.json -o spec.json
  critinit predict edited.json | critinit validate -
"""


def command(file: options.File, output: options.Output = "-", cell_file: options.CellFile = None) -> int:
    """Write a spec with the numbers that theory predicts of it.

    For specs that were edited: "predicted", and the target's "reached", are computed anew. Where they change, or where
    generating again gives other gates, "generated" is no longer true, and is left out. All else stays as it is. The
    output can be the file itself. The exit code is 3 where the spec misses the target of its scheme.
    """
    from critinit.theory.analysis import deviations, predict
    from critinit_cli.reading import read_spec

    spec = read_spec(file, cell_file)
    edited = any(problem.where != "target" for problem in deviations(spec)) or not _is_as_generated(spec)
    predicted = predict(spec)
    if edited:
        predicted = predicted.model_copy(update={"generated": None})
    emit(predicted.to_json(), output)
    missed = deviations(predicted)
    for problem in missed:
        complain("missed", str(problem))
    return codes.MISSED if missed else codes.GOOD


def _is_as_generated(spec: InitSpec) -> bool:
    """Whether generating again gives the same; yes where that is not recorded, or needs a file of its own."""
    from critinit.errors import CritinitError
    from critinit.schemes.generating import generate

    if spec.generated is None:
        return True
    try:
        again = generate(**spec.generated.arguments)
    except (CritinitError, TypeError):  # a scheme or cell that is not loaded, or arguments of another version
        return True
    return _stated(again) == _stated(spec)


def _stated(spec: InitSpec) -> tuple[object, ...]:
    """All that a spec says of the network and its sequences, without what is computed of it."""
    layers = [(layer.input, layer.groups, layer.projection, layer.memory_gain) for layer in spec.layers]
    return spec.cell, spec.scheme, spec.T, layers
