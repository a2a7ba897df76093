"""Theory against networks written out by hand, at 100 points, half of them near criticality.

``python -m benchmarks validation`` simulates: it draws the points from fixed seeds (``points``), runs networks of the
tests' oracle at each, and keeps their numbers, one JSON line a point, in docs/validation.jsonl.  Points that stand
there are not run again.  ``--table`` computes the theories afresh, and writes docs/validation.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._options import count
from benchmarks.validation.points import ABOVE, ANYWHERE, Point, newer, points

__all__ = ["main", "points", "run", "simulated", "stored"]

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
RESULTS = DOCS / "validation.jsonl"
SIZES = {ABOVE: (1000, 32), ANYWHERE: (1000, 16)}
"""Units and number of the networks that keep their weights, by kind: what theory leaves out is of order 1/units, and
the scatter of the networks is the standard error.  Points with a slow state, the others, have ``SLOW``."""
SLOW, PLAIN = (500, 8), (1500, 32)
"""The same where the state is slow, and of a cell without gates, whose growth differs most from network to network."""
ONE_GATE = 1500
"""Units where a cell has one gate, and so costs least."""
UNTIED, UNTIED_PLAIN = 1000, 10_000
"""Units of a network whose weights are drawn anew, and of one without gates."""


def simulated(point: Point) -> dict[str, Any]:
    """Return what networks do at a point, tied and untied, as it is stored."""
    from tests.theory import oracle

    spec, cell = point.spec, point.spec.find_cell()
    layer = spec.to_dict()["layers"][0]
    row: dict[str, Any] = {"point": point.index, "cell": spec.cell, "kind": point.kind, "T": spec.T, "layer": layer}
    layer.pop("predicted", None)
    width, networks = PLAIN if cell.is_of_one_step else SIZES.get(point.kind, SLOW)
    widths = {
        "tied": ONE_GATE if len(cell.gates) == 1 else width,
        "untied": UNTIED_PLAIN if cell.is_of_one_step else UNTIED,
    }
    for (reading, width), burn_in in zip(widths.items(), point.burn_in, strict=True):
        start = time.process_time()
        found = oracle.measure(
            spec.cell, layer, T=spec.T, tied=reading == "tied", width=width, networks=networks, burn_in=burn_in,
            seed=point.index,
        )  # fmt: skip
        numbers = {name: [float(f"{x:.8g}") for x in estimate] for name, estimate in found._asdict().items()}
        seconds = round(time.process_time() - start, 1)
        row[reading] = {"width": width, "networks": networks, "seconds": seconds, **numbers}
    return row


def stored() -> list[dict[str, Any]]:
    """Return the points that were simulated, by number."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    return sorted((json.loads(line) for line in lines), key=lambda row: int(row["point"]))


def run(only: int | None) -> None:
    """Simulate what is missing."""
    done = {row["point"] for row in stored()}
    for point in (*points(), *newer()):
        if point.index in done or (only is not None and point.index >= only):
            continue
        row = simulated(point)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(point.index, row["cell"], point.kind, row["tied"]["seconds"], row["untied"]["seconds"], "s",
              file=sys.stderr, flush=True)  # fmt: skip


def main(arguments: Sequence[str] = ()) -> None:
    """Command line."""
    summary = "Theory against networks written out by hand, at 100 points, half of them near criticality."
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--points", type=count, default=None, help="only the first so many")
    parser.add_argument("--table", action="store_true", help="write the page from what was simulated")
    options = parser.parse_args(arguments)
    if options.table:
        from benchmarks.validation.page import page

        (DOCS / "validation.md").write_text(page(stored()), encoding="utf-8")
    else:
        run(options.points)
