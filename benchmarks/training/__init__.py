"""How fast networks learn from each initialization: any cell, task, scheme, length, learning rate and seed.

``python -m benchmarks training --help`` explains how to use it.  A *run* is one network trained from one seed; a *row*
is what schemes are compared on (a cell, a task, a length T).

================  ====================================================================
``run``           a run and its result as data; the table of JSON lines
``starts``        what a run starts from: its data's moments, its scheme's spec
``tasks``         the tasks, one module a family
``recurrence``    many GRUs stepped together, faster than one by one
``models``        torch's layer, initialized by a scheme, and a readout
``train``         runs -> results
``runner``        what is still to do, on which executor
``grids``         which runs: a product, or the paper's grid by stages
``summary``       results -> comparisons: best learning rate, ratio, rows lost
``report``        comparisons -> Markdown; ``picture``: -> PNG and SVG
``cli``           the command
================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] = ()) -> int:
    """Train what is asked for and the table lacks, then report."""
    from benchmarks.training.cli import run

    return run(arguments)
