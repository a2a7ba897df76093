"""``critinit predict``."""

from __future__ import annotations

from critinit_cli import codes, options
from critinit_cli.output import complain, emit

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "predict"
EXAMPLES = """\b
Examples:
  critinit predict spec.json -o spec.json
  critinit predict edited.json | critinit validate -
"""


def command(file: options.File, output: options.Output = "-", cell_file: options.CellFile = None) -> int:
    """Write a spec with the numbers that theory predicts of it.

    For specs that were edited: "predicted", and the target's "reached", are computed anew. Where they change, the spec
    is no longer what "generated" says, and that key is left out. All else stays as it is. The output can be the file
    itself. The exit code is 3 where the spec misses the target of its scheme.
    """
    from critinit.theory.analysis import deviations, predict
    from critinit_cli.reading import read_spec

    spec = read_spec(file, cell_file)
    edited = any(problem.where != "target" for problem in deviations(spec))
    predicted = predict(spec)
    if edited:
        predicted = predicted.model_copy(update={"generated": None})
    emit(predicted.to_json(), output)
    missed = deviations(predicted)
    for problem in missed:
        complain("missed", str(problem))
    return codes.MISSED if missed else codes.GOOD
