"""The paper's experiments on networks that keep their weights: distance of perturbed copies, and what trains.

``python -m benchmarks paper --only copies`` and ``… --only trainability`` print a table and draw a picture to
docs/images; the singular values are ``python -m benchmarks spectrum``.  docs/paper.md explains them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

_FOLDER = Path(__file__).parents[2] / "docs"


def main(arguments: Sequence[str] = ()) -> None:
    """Run one experiment, or both."""
    from benchmarks.paper import copies, trainability
    from critinit.files import make_folder

    parser = argparse.ArgumentParser(prog="python -m benchmarks paper", description=__doc__)
    parser.add_argument("--only", choices=("copies", "trainability"), help="one of the two")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where tables and pictures go (default docs)")
    options = parser.parse_args(list(arguments))
    make_folder(options.folder / "images")
    for name, run in (("copies", copies.run), ("trainability", trainability.run)):
        if options.only in (None, name):
            run(options.folder)
