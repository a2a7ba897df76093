"""docs/validation.md: three theories beside the networks that were simulated, every miss with its reason."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.validation.points import ABOVE, NEWER
from critinit.spec import InitSpec, NotComputed, Numbers
from critinit.spec.reading import validate_object
from critinit.theory.analysis import fast_numbers, untied_numbers
from critinit.theory.comparing import Comparison, comparisons
from critinit.theory.decay import over_T
from critinit.theory.tied.estimate import COARSE, ROUGH
from critinit.theory.tied.solution import tied_layer

__all__ = [
    "ERRORS",
    "NEARLY_CRITICAL",
    "Judged",
    "compare",
    "judge",
    "judged",
    "line",
    "measured",
    "page",
    "spec_of",
    "verdict",
    "written",
    "written_newer",
]

ERRORS = 2.0
"""Standard errors that may be chance."""
NEARLY_CRITICAL = (1e-4, 1e-2)
"""|ln χ| of the networks' growth over T steps, tied, at a point that counts as near criticality."""
TOLERANCE: float | None = None
"""Wanted standard error of the tied theory's asymptotic ln χ; None: sampled as ``analyze`` does by default."""
PARTICLES_PLAIN, PARTICLES_ABOVE, FINE, POPULATIONS = 60_000, 8000, 1e-4, 8
"""Units of each of eight populations (``FINE`` asks for as many as there may be) where growth varies most from step to
step: of a cell without gates, and above criticality."""
REASONS: Mapping[tuple[str, int], str] = {
    ("tied", 8): "Chance in both: three samples of 32,000 units each have a second moment of .000219 ± .000002, 3.7 %"
    " from the networks', whose standard error is 2.8 %.",
    ("tied", 59): "Chaotic, and nothing bounds this cell's memory: it has no steady state to speak of. Networks of 400"
    " units have a second moment of 3.4 after 50 steps, 33 after 100, 620 after 200 and 21,000 after 800.",
    ("tied", 66): "e⁻³⁷ is left, by rare histories: four other populations have -32.6 ± .8, networks -36.9 ± 1.1.",
    ("tied", 84): "Chance in the sampled theory: four other populations have .005542 ± .000013, 1 % from the "
    "networks'.",
    (
        "tied",
        85,
    ): "Chaotic, so populations differ: from the default 1,000 units a population ln χ T is known to .26 only."
    " With 8,000 it is .323 ± .028, 4 % from the networks'.",
    ("tied", 103): "Narrow networks: those of 1,000 units have .000524, 1.7 % from theory.",
    (
        "tied",
        109,
    ): "Its second moment wanders between .24 and .26 over thousands of steps (a population of 1,000 units, 8,000"
    " steps), so the 158 steps of four populations scatter by more than their standard error says.",
    (
        "tied",
        111,
    ): "These networks were perturbed too early: after 600 steps from rest instead of 150 the memory's second"
    " moment is 68 ± 4, as normal biases of the candidate fill it slowly.",
    ("tied", 112): "Chaotic.",
    (
        "tied",
        113,
    ): "Networks differ much, and approach theory slowly with their width: ln χ T is -10.1 ± 1.4 and the second"
    " moment .178 at 300 units, -7.7 ± 1.0 and .159 at 2,000.",
    ("untied", 111): "Nearly all is left, so networks would have to be measured better. A recurrence of 800,000 units"
    " by hand has -.094 ± .005, which is 2 % of the retention from theory.",
    ("untied", 113): "Rare histories carry what is left: by a recurrence by hand ln χ T is -14.6 at 100,000 units and"
    " -14.3 at 1,000,000.",
    ("untied", 15): "Chance in the networks: 24 others have a second moment of .000230 ± .000002, .8 % from theory.",
    ("untied", 95): "e⁻⁶⁸ is left, on a few units whose gates chance kept shut, so networks differ by 1.5 in the"
    " logarithm and their mean logarithm lies lower: -73.1 at 300 units, -71.6 at 4,000.",
}
"""What was found where a theory misses, by theory and point."""


class Judged(NamedTuple):
    """One point: what networks did, what each theory says, and how they compare.

    Attributes:
        row: What was stored of the point.
        tied: The sampled tied theory beside tied networks.
        fast: The fast estimate beside tied networks.
        untied: The untied theory beside untied networks.
        theories: The numbers of the three, by these names.
        seconds: Processor time of the tied theory and of the estimate.
    """

    row: Mapping[str, Any]
    tied: Sequence[Comparison]
    fast: Sequence[Comparison]
    untied: Sequence[Comparison]
    theories: Mapping[str, Numbers]
    seconds: tuple[float, float]

    @property
    def rate(self) -> float:
        """ln χ over T of the tied networks."""
        return float(self.row["tied"]["log_retention"][0]) / int(self.row["T"])

    @property
    def is_near(self) -> bool:
        """Whether the networks are near criticality."""
        return NEARLY_CRITICAL[0] <= abs(self.rate) <= NEARLY_CRITICAL[1]


def spec_of(row: Mapping[str, Any]) -> InitSpec:
    """Return the spec of a stored point."""
    data = {"schema_version": 1, "cell": row["cell"], "scheme": "custom", "T": row["T"], "layers": [row["layer"]]}
    return validate_object(data)


def measured(row: Mapping[str, Any], reading: str, like: Numbers) -> Numbers:
    """Return a stored measurement as numbers: second moments and the growth over T steps, the rest as in ``like``."""
    found, T = row[reading], row["T"]
    log_retention, error = found["log_retention"]
    over = over_T(log_retention, T)
    moment, memory = found["second_moment"], found["memory_moment"]
    return like.model_copy(
        update={
            "second_moment": moment[0],
            "cell_second_moment": None if like.cell_second_moment is None else memory[0],
            "chi": None,
            "time_scale": None,
            **over,
            "standard_error": {
                "second_moment": moment[1],
                "cell_second_moment": memory[1],
                "chi_over_T": over["chi_over_T"] * error / T,
            },
        }
    )


def compare(row: Mapping[str, Any], reading: str, theory: Numbers) -> list[Comparison]:
    """Return the numbers of a theory and of the networks, compared as ``critinit.theory.comparing`` says."""
    width = row[reading]["width"] if reading == "tied" else math.inf
    return comparisons(theory, measured(row, reading, theory), row["T"], errors=ERRORS, width=width)


def judge(row: Mapping[str, Any]) -> Judged:
    """Return one point with the theories, computed now."""
    spec = spec_of(row)
    layer = spec.layers[0]
    start = time.process_time()
    cell, T = spec.find_cell(), spec.T
    particles = PARTICLES_PLAIN if cell.is_of_one_step else PARTICLES_ABOVE if row["kind"] == ABOVE else None
    tolerance = TOLERANCE if particles is None else FINE
    tied = tied_layer(
        cell, layer, T=T, steps=T, particles=particles, tolerance=tolerance, most=POPULATIONS, seed=row["point"]
    )
    middle = time.process_time()
    untied = untied_numbers(spec, layer)
    fast = fast_numbers(spec)
    seconds = middle - start, time.process_time() - middle
    theories = {"tied": tied, "fast": None if isinstance(fast, NotComputed) else fast, "untied": untied}
    compared = [
        [] if found is None else compare(row, reading, found)
        for found, reading in zip(theories.values(), ("tied", "tied", "untied"), strict=True)
    ]
    return Judged(row, *compared, {name: found for name, found in theories.items() if found is not None}, seconds)


def verdict(compared: Iterable[Comparison]) -> str:
    """Return what misses, or what chance leaves open; "holds" where nothing does, "-" where theory has no numbers."""
    compared = list(compared)
    if not compared:
        return _NONE
    missed = ["growth" if one.field == "chi_over_T" else one.name for one in compared if not one.agrees]
    if missed:
        return f"**{', '.join(missed)}**"
    return "holds" if not any(one.leaves_open for one in compared) else "cannot be decided"


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the page."""
    first, later = (
        judged([row for row in rows if row["cell"] not in NEWER]),
        judged([row for row in rows if row["cell"] in NEWER]),
    )
    return written(first) + written_newer(later)


def judged(rows: Sequence[Mapping[str, Any]]) -> list[Judged]:
    """Return the points with the theories, computed now; each is told on standard error."""
    found = []
    for row in rows:
        found.append(judge(row))
        print(row["point"], row["cell"], verdict(found[-1].tied), file=sys.stderr, flush=True)
    return found


def written_newer(found: Sequence[Judged]) -> str:
    """Return the section on the cells that came later."""
    lines = [
        "",
        "## Cells that came later",
        "",
        f"{len(found)} more points, three each of {', '.join(f'`{name}`' for name in NEWER)}. Those of ReLU",
        "networks lie where growth is below 1 by more than networks scatter. A - stands where theory has no numbers.",
        "",
        *_TABLE,
        *map(line, found),
    ]
    for name in ("tied", "untied"):
        missed = [one for one in found if verdict(getattr(one, name)) not in ("holds", _NONE)]
        heading, *reasons = _reasons(name, missed, len(found))[:-1]
        lines += ["", f"#{heading}", *reasons]
    return "\n".join(lines) + "\n"


def written(found: Sequence[Judged]) -> str:
    """Return the page of judged points."""
    near = [one for one in found if one.is_near]
    held = Counter(verdict(one.tied) for one in found)["holds"]
    missed = {name: [one for one in found if verdict(getattr(one, name)) != "holds"] for name in ("tied", "untied")}
    tied = [one.row["tied"] for one in found]
    widths = _range(row["width"] for row in tied), _range(one.row["untied"]["width"] for one in found)
    networks = _range(row["networks"] for row in tied)
    steps = [one.row["T"] for one in found]
    above = sum(one.rate > 0.0 for one in near)
    lines = [
        "# Theory against networks",
        "",
        "How far can you trust the numbers of a spec? Here the theories are held to networks that share no code with",
        "them: the recurrences of all cells are written out by hand, weights are drawn by a few lines of their",
        "own, and perturbations are followed by complex steps (`tests/theory/oracle.py`).",
        "",
        f"There are {len(found)} points over the first {len({one.row['cell'] for one in found})} cells, drawn from"
        " fixed seeds (`benchmarks/validation/points.py`), with Gaussian",
        "and orthogonal recurrent kernels, and with constant, normal and spread biases. A point has",
        f"{networks} networks that keep their weights, of {widths[0]} units, and as many whose weights are drawn anew",
        f"at every step, of {widths[1]} units. A perturbation is followed for T steps, {_range(steps)}.",
        "",
        f"**Near criticality**, with a growth per step of |ln χ| from {NEARLY_CRITICAL[0]:g} to {NEARLY_CRITICAL[1]:g}"
        f" over the T steps, lie {len(near)}",
        f"points: {len(near) - above} just below, {above} just above, where small differences grow. There a tolerance",
        "of .01 in ln χ would accept twice and half the time scale, and chaos for decay.",
        "",
        "`python -m benchmarks validation` simulates, `python -m benchmarks validation --table` writes this page.",
        "",
        "## What holds",
        "",
        "A point *holds* where second moments and the growth over T steps agree as the commands have it: ln χ to 5 %",
        "of itself, or to what changes the retention by 2 %, or to two standard errors; second moments to 3 %, or to",
        "two standard errors ([what is compared](numbers.md#what-is-compared-and-with-which-limits)). Where two",
        "standard errors exceed half of ln χ the point does not count as holding: it *cannot be decided*.",
        "",
        "| theory | beside | points that hold | near criticality | median error of ln χ | largest |",
        "|---|---|---|---|---|---|",
        *(_summary(found, near, name, *words) for name, words in _THEORIES.items()),
        "",
        "The errors are shares of the larger of the two rates: 5 % of ln χ is 5 % of the time scale over T, and more",
        "than 100 % is growth for decay.",
        f"The tied theory took {np.median([one.seconds[0] for one in found]):.1f} s of processor time a point (median),"
        f" the fast estimate with the untied theory {np.median([one.seconds[1] for one in found]):.2f} s.",
        "",
        *_estimate(found),
        "",
        *_reasons("tied", missed["tied"], len(found)),
        *_reasons("untied", missed["untied"], len(found)),
        "## All points",
        "",
        "ln χ T is the logarithm of the retention over T steps, Q the second moment.",
        "",
        *_TABLE,
        *map(line, found),
    ]  # fmt: skip
    assert held + len(missed["tied"]) == len(found)
    return "\n".join(lines) + "\n"


_TABLE = (
    "| point | cell | where | T | ln χ T, networks | tied theory | estimate | Q, networks | tied | estimate"
    " | tied verdict | estimate's | ln χ T, untied networks | untied theory | verdict |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
)
_NONE = "-"
_THEORIES = {
    "tied": ("tied theory, sampled", "networks that keep their weights"),
    "fast": ("what specs state, `predicted.tied`", "networks that keep their weights"),
    "untied": ("untied theory", "networks of fresh weights"),
}


def _reasons(name: str, missed: Sequence[Judged], count: int) -> list[str]:
    """The section on the misses of one theory."""
    lines = [f"## Where the {name} theory misses: {len(missed)} of {count}", ""]
    for one in missed:
        point = one.row["point"]
        what = verdict(getattr(one, name))
        lines.append(f"- point {point} ({one.row['cell']}): {what}. {REASONS.get((name, point), '?')}")
    return [*lines, ""]


def _range(numbers: Iterable[int]) -> str:
    numbers = sorted(numbers)
    return f"{numbers[0]:,} to {numbers[-1]:,}"


def _growth(compared: Sequence[Comparison]) -> Comparison:
    return next(one for one in compared if one.field == "chi_over_T")


def _summary(found: Sequence[Judged], near: Sequence[Judged], name: str, theory: str, beside: str) -> str:
    def holding(points: Sequence[Judged]) -> str:
        return f"{sum(verdict(getattr(one, name)) == 'holds' for one in points)} of {len(points)}"

    errors = [_growth(getattr(one, name)).difference for one in found]
    return (
        f"| {theory} | {beside} | {holding(found)} | {holding(near)} | {100 * np.median(errors):.1f} %"
        f" | {_largest(errors)} |"
    )


def _largest(errors: Sequence[float]) -> str:
    return f"{100 * max(errors):.0f} %"


def _estimate(found: Sequence[Judged]) -> list[str]:
    """How far the fast estimate is off where it is used, and how far what specs state where it does not hold."""
    noted = [(one, set(one.theories["fast"].notes)) for one in found]
    sampled = [one for one, notes in noted if COARSE in notes]
    rough = [one for one, notes in noted if ROUGH in notes]
    fine = [one for one, notes in noted if not notes & {COARSE, ROUGH}]
    return [
        f"**The fast estimate** does not hold at {len(sampled) + len(rough)} points, and says so: there the",
        "recurrent kernels strengthen the state's fluctuations. Where time allows, specs state a coarse sample of the",
        f"full theory instead: at {len(sampled)} points, where growth holds at {_holding(sampled)}. Else a note says"
        + (
            f" that the estimate is rough: at {len(rough)}, where growth holds at {_holding(rough)}."
            if rough
            else " that the estimate is rough; none of these points is one."
        ),
        f"At the {len(fine)} others growth holds at {_holding(fine)}, with errors of ln χ of {_errors(fine)};",
        f"second moments hold at {sum(one.fast[0].agrees for one in fine)}.",
    ]


def _holding(points: Sequence[Judged]) -> int:
    return sum(_growth(one.fast).agrees for one in points)


def _errors(points: Sequence[Judged]) -> str:
    errors = [_growth(one.fast).difference for one in points]
    return f"{100 * np.median(errors):.1f} % (median), {100 * np.quantile(errors, 0.9):.0f} % (9 of 10 are below)"


def line(one: Judged) -> str:
    """Return the row of the table of one point."""
    row, T, theories = one.row, one.row["T"], one.theories

    def logarithm(name: str) -> str:
        numbers = theories.get(name)
        if numbers is None:
            return _NONE
        return f"{T * math.log(numbers.chi_over_T):+.3f}" if numbers.chi_over_T > 0.0 else "−∞"

    def networks(name: str) -> str:
        return "{:+.3f} ± {:.3f}".format(*row[name]["log_retention"])

    error = (theories["tied"].standard_error or {}).get("chi_over_T") or 0.0
    tied = logarithm("tied") + (f" ± {T * error / theories['tied'].chi_over_T:.3f}" if error else "")
    moment = row["tied"]["second_moment"][0]
    estimate = f"{theories['fast'].second_moment:.4g}" if "fast" in theories else _NONE
    return (
        f"| {row['point']} | {row['cell']} | {row['kind']} | {T} | {networks('tied')} | {tied}"
        f" | {logarithm('fast')} | {moment:.4g} | {theories['tied'].second_moment:.4g}"
        f" | {estimate} | {verdict(one.tied)} | {verdict(one.fast)}"
        f" | {networks('untied')} | {logarithm('untied')} | {verdict(one.untied)} |"
    )
