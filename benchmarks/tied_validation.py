"""Tied theory against simulated networks at random hyperparameters: ``python -m benchmarks tied_validation``.

Draws points over all cells from fixed seeds, simulates networks of width 2,000, and keeps their numbers, one JSON line
a point, in docs/validation-tied.jsonl (points that stand there are not run again).  ``--table`` writes
docs/validation-tied.md from it, every miss included, with the theories computed afresh.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._options import count
from critinit.cells import find_cell
from critinit.simulation import simulate
from critinit.spec import InitSpec, Numbers
from critinit.spec.reading import validate_object
from critinit.theory.analysis import untied_numbers
from critinit.theory.tied.estimate import fast_tied
from critinit.theory.tied.growth import late_growth
from critinit.theory.tied.solution import tied, tied_course

__all__ = ["PointRow", "main", "points", "rows", "run", "table"]

DOCS = Path(__file__).resolve().parent.parent / "docs"
RESULTS = DOCS / "validation-tied.jsonl"
WIDTH = 2000
"""Units of a simulated network: what theory leaves out is of order 1/width."""
STEPS = 200
"""Steps that a perturbation is followed."""
NETWORKS = 4
"""Networks of a point: their scatter is the standard error."""


@dataclass(frozen=True)
class Group:
    """Points over some cells, in turn, from a seed of their own: another cell goes into another group."""

    cells: tuple[str, ...]
    count: int
    seed: int


GROUPS = (
    Group(
        ("rnn", "minimal_rnn", "gru", "gru_reset_before", "lstm", "peephole_lstm"),
        count=66, seed=20,
    ),
    Group(("mgu", "coupled_lstm", "projection_lstm"), count=18, seed=21),
)  # fmt: skip


def points() -> list[InitSpec]:
    """Return the specs of all groups, from wide ranges of every hyperparameter."""
    return [spec for group in GROUPS for spec in _drawn(group)]


def _drawn(group: Group) -> Iterator[InitSpec]:
    rng = np.random.default_rng(group.seed)
    for i in range(group.count):
        yield _point(group.cells[i % len(group.cells)], rng)


def _point(name: str, rng: np.random.Generator) -> InitSpec:
    cell = find_cell(name)
    distributions = ["normal", "normal", "normal" if cell.projects else "orthogonal", "uniform"]
    distribution = str(rng.choice(distributions))
    spread = bool(rng.random() < 0.25)
    gates: dict[str, Any] = {}
    for gate in cell.gates:
        mean = float(rng.uniform(-1.0, 2.5)) if gate != cell.candidate_gate else 0.0
        bias: dict[str, Any] = {"distribution": "constant", "mean": mean, "variance": 0.0}
        if spread and gate == cell.keep_gate:
            bias = {
                "distribution": "log_uniform_time",
                "min_time": 1.05,
                "max_time": float(rng.uniform(10, 60)),
            }
        elif rng.random() < 0.3:
            bias = {"distribution": "normal", "mean": mean, "variance": float(rng.uniform(0.05, 0.5))}
        top = 2.0 if gate == cell.candidate_gate else 1.5
        gates[gate] = {
            "recurrent": {
                "distribution": distribution,
                "variance": float(np.exp(rng.uniform(math.log(0.02), math.log(top)))),
            },
            "input": {"distribution": "normal", "variance": float(rng.uniform(0.05, 1.5))},
            "bias": bias,
        }
    layer = {"input": {"variance": float(rng.uniform(0.3, 1.5)), "correlation": 1.0}, "gates": gates}
    if cell.projects:
        kernel = {"distribution": str(rng.choice(["orthogonal", "normal"])), "variance": float(rng.uniform(0.5, 1.5))}
        layer["projection"] = {"kernel": kernel, "width": float(rng.uniform(0.2, 0.8))}
    return validate_object({"schema_version": 1, "cell": name, "scheme": "custom", "T": STEPS, "layers": [layer]})


def run(width: int, only: int | None) -> None:
    """Simulate what is missing."""
    done = {json.loads(line)["point"] for line in RESULTS.read_text().splitlines()} if RESULTS.exists() else set()
    for i, spec in enumerate(points()):
        if i in done or (only is not None and i >= only):
            continue
        start = time.process_time()
        measured = simulate(spec, width=width, steps=STEPS, seeds=NETWORKS, seed=i)[0]
        assert measured is not None  # tied: always a reading
        row = {
            "point": i, "width": width, "seconds": round(time.process_time() - start, 1),
            "numbers": measured.numbers.model_dump(mode="json"),
        }  # fmt: skip
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(i, spec.cell, row["seconds"], "s", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class PointRow:
    """One point: what was simulated and what the three theories say."""

    point: int
    name: str
    simulated: Numbers
    tied: Numbers
    fast: Numbers
    untied: Numbers | None
    seconds: tuple[float, float]

    @property
    def log_error(self) -> float:
        """Standard error of the simulated ln χ."""
        return _error(self.simulated, "chi") / max(self.simulated.chi, 1e-300)

    def miss(self, theory: Numbers | None) -> float:
        """Return how far ln χ of a theory is from the simulated one."""
        return math.nan if theory is None else abs(_log(theory.chi) - _log(self.simulated.chi))

    @property
    def chi_holds(self) -> bool:
        """Within .01 in ln χ, or twice the simulation's standard error."""
        return self.miss(self.tied) <= max(0.01, 2.0 * self.log_error)

    @property
    def chaotic(self) -> bool:
        """Whether the simulated networks were chaotic."""
        return any(note.startswith("chaotic") for note in self.simulated.notes)

    @property
    def moment_miss(self) -> float:
        """Relative error of the second moment."""
        return abs(self.tied.second_moment / self.simulated.second_moment - 1.0)

    @property
    def moment_holds(self) -> bool:
        """Within 3 %, or twice the simulation's standard error, where the networks are not chaotic."""
        error = _error(self.simulated, "second_moment") / self.simulated.second_moment
        return self.chaotic or self.moment_miss <= max(0.03, 2.0 * error)

    @property
    def verdict(self) -> str:
        """What misses."""
        recognised = self.chaotic == any(note.startswith("chaotic") for note in self.tied.notes)
        checks = {"chi": self.chi_holds, "second moment": self.moment_holds, "chaos": recognised}
        return ", ".join(f"**{name}**" for name, holds in checks.items() if not holds) or "holds"


def _log(x: float) -> float:
    """ln x; of nothing that of the smallest number."""
    return math.log(max(x, 1e-300))


def _error(numbers: Numbers, name: str) -> float:
    return (numbers.standard_error or {}).get(name) or 0.0


def rows() -> list[PointRow]:
    """Return every simulated point with the theories, computed now."""
    specs, found = points(), []
    for line in RESULTS.read_text().splitlines():
        data = json.loads(line)
        spec = specs[data["point"]]
        cell, layer = spec.find_cell(), spec.layers[0]
        start = time.process_time()
        simulated = Numbers.model_validate(data["numbers"])
        sampled = tied(spec, steps=STEPS, seed=data["point"])[0]
        middle = time.process_time()
        untied = untied_numbers(spec, layer)
        quick = fast_tied(cell, layer, spec.T, untied)
        seconds = middle - start, time.process_time() - middle
        sampled = _over_the_same_steps(spec, sampled, simulated, data["point"])
        name = spec.cell
        found.append(PointRow(data["point"], name, simulated, sampled, quick, untied, seconds))
        print(data["point"], name, found[-1].verdict, file=sys.stderr, flush=True)
    return found


def _over_the_same_steps(spec: InitSpec, sampled: Numbers, simulated: Numbers, seed: int) -> Numbers:
    """The theory's χ read until the step up to which the networks' was, where few units carry what is left.

    There the growth still changes when it is read, and where reading ends is itself subject to chance.
    """
    read = [re.search(r"growth until step (\d+)", note) for note in (simulated.notes or ())]
    last = next((int(match[1]) for match in read if match), None)
    if last is None:
        return sampled
    courses = tied_course(spec.find_cell(), spec.layers[0], steps=last, particles=WIDTH, populations=24, seed=seed)
    logs = np.array([late_growth(course) for course in courses])
    chi = math.exp(logs.mean())
    error = chi * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    errors = {**(sampled.standard_error or {}), "chi": error}
    return sampled.model_copy(update={"chi": chi, "standard_error": errors})


def table(found: list[PointRow]) -> str:
    """Return the page."""
    good = [r for r in found if r.verdict == "holds"]
    untied_miss = [r.miss(r.untied) for r in found if r.untied is not None]
    calm = [r for r in found if not r.chaotic]
    lines = [
        "# Tied theory against simulated networks",
        "",
        f"{len(found)} points over {len({spec.cell for spec in points()})} cells, drawn from fixed seeds"
        " (`benchmarks/tied_validation.py`): kernel variances,",
        "distributions, biases (constant, normal, spread over time constants) and input powers from wide ranges.",
        f"Simulated: {NETWORKS} networks of width {WIDTH:,}, a perturbation followed for {STEPS} steps.",
        "Where few units carry what is left of it, the growth changes with the steps over which it is read. The",
        f"theory's growth is then read over the networks' steps, at 24 times {WIDTH:,} sampled units.",
        "",
        "`python -m benchmarks tied_validation` simulates,"
        " `python -m benchmarks tied_validation --table` writes this page.",
        "",
        f"- all of a point holds at **{len(good)} of {len(found)}** points: χ within .01 in ln χ or twice the",
        "  simulation's standard error, the second moment within 3 % (or twice its standard error) where the networks",
        "  are not chaotic, and chaos called chaos;",
        f"- χ holds at {sum(r.chi_holds for r in found)}, the second moment at {sum(r.moment_holds for r in found)};",
        f"- median error in ln χ: tied theory {np.median([r.miss(r.tied) for r in found]):.4f}, fast estimate"
        f" {np.median([r.miss(r.fast) for r in found]):.4f}"
        f" ({np.median([r.miss(r.fast) for r in calm]):.4f} where not chaotic),"
        f" untied theory {np.median(untied_miss):.4f};",
        f"- largest error in ln χ: tied {max(r.miss(r.tied) for r in found):.3f},"
        f" fast {max(r.miss(r.fast) for r in found):.3f},"
        f" untied {max(untied_miss):.3f};",
        f"- median time: tied theory {np.median([r.seconds[0] for r in found]):.1f} s,"
        f" fast estimate {1e3 * np.median([r.seconds[1] for r in found]):.0f} ms.",
        "",
        "Misses:" if len(good) < len(found) else "No misses.",
        "",
        *(f"- point {r.point} ({r.name}): {r.verdict}{_why(r)}" for r in found if r.verdict != "holds"),
        "",
        "| point | cell | χ simulated | tied | fast | untied | Q simulated | tied | fast | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in found:
        untied_chi = "" if r.untied is None else f"{r.untied.chi:.4f}"
        chi = (
            f"{r.simulated.chi:.4f} ± {_error(r.simulated, 'chi'):.4f} | {r.tied.chi:.4f} ± {_error(r.tied, 'chi'):.4f}"
        )
        moment = f"{r.simulated.second_moment:.4g} | {r.tied.second_moment:.4g} | {r.fast.second_moment:.4g}"
        verdict = r.verdict + (" (chaotic)" if r.chaotic else "")
        lines.append(f"| {r.point} | {r.name} | {chi} | {r.fast.chi:.4f} | {untied_chi} | {moment} | {verdict} |")
    return "\n".join(lines) + "\n"


def _why(row: PointRow) -> str:
    """What is known of a point whose χ misses."""
    spec = points()[row.point]
    keep = spec.find_cell().keep_gate
    if row.chaotic:
        return "; chaotic, and nothing bounds this cell's memory"
    looked = "no unit is the slowest, so χ depends on how long and at how many one looks"
    if keep is not None and spec.layers[0].gates[keep].bias.distribution == "normal":
        return f"; normal biases of the keep gate: {looked}"
    if any("units carry" in note for note in row.tied.notes):
        return f"; fields on the keep gate that stay with their unit, as normal biases do: {looked}"
    return ""


def main(arguments: Sequence[str] = ()) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Tied theory against simulated networks at random hyperparameters.")
    parser.add_argument("--width", type=count, default=WIDTH)
    parser.add_argument("--points", type=count, default=None, help="only the first so many")
    parser.add_argument("--table", action="store_true", help="write the page from what was simulated")
    options = parser.parse_args(arguments)
    if options.table:
        (DOCS / "validation-tied.md").write_text(table(rows()))
    else:
        run(options.width, options.points)


if __name__ == "__main__":
    main(sys.argv[1:])
