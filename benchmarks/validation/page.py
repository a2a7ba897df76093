"""docs/validation.md: three theories beside the networks that were simulated, every miss with its reason."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.validation.points import ABOVE
from critinit.spec import InitSpec, NotComputed, Numbers
from critinit.spec.reading import validate_object
from critinit.theory.analysis import fast_numbers, untied_numbers
from critinit.theory.comparing import Comparison, comparisons
from critinit.theory.decay import over_T
from critinit.theory.tied.solution import tied_layer

__all__ = [
    "ERRORS",
    "NEARLY_CRITICAL",
    "Judged",
    "compare",
    "judge",
    "measured",
    "page",
    "spec_of",
    "verdict",
    "written",
]

ERRORS = 2.0
"""Standard errors that may be chance."""
NEARLY_CRITICAL = (1e-4, 1e-2)
"""|ln χ| of the networks' growth over T steps, tied, at a point that counts as near criticality."""
TOLERANCE = 0.01
"""Wanted standard error of the tied theory's asymptotic ln χ: four populations of 1,000 units mostly do."""
PARTICLES_PLAIN, PARTICLES_ABOVE = 16_000, 4000
"""Units of a population of a cell without gates, and above criticality, where growth varies most."""
REASONS: Mapping[int, str] = {}
"""What was found where the tied theory misses, by point."""
_MOMENTS = ("second_moment", "cell_second_moment")


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
    particles = PARTICLES_PLAIN if cell.is_plain else PARTICLES_ABOVE if row["kind"] == ABOVE else None
    tied = tied_layer(cell, layer, T=T, steps=T, particles=particles, tolerance=TOLERANCE, seed=row["point"])
    middle = time.process_time()
    untied = untied_numbers(spec, layer)
    fast = fast_numbers(spec, layer)
    seconds = middle - start, time.process_time() - middle
    assert untied is not None
    assert not isinstance(fast, NotComputed)
    return Judged(
        row, compare(row, "tied", tied), compare(row, "tied", fast), compare(row, "untied", untied),
        {"tied": tied, "fast": fast, "untied": untied}, seconds,
    )  # fmt: skip


def verdict(compared: Iterable[Comparison]) -> str:
    """Return what misses, or what chance leaves open; "holds" where nothing does."""
    compared = list(compared)
    missed = ["growth" if one.field == "chi_over_T" else one.name for one in compared if not one.agrees]
    if missed:
        return f"**{', '.join(missed)}**"
    return "holds" if not any(one.leaves_open for one in compared) else "cannot be decided"


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the page."""
    found = []
    for row in rows:
        found.append(judge(row))
        print(row["point"], row["cell"], verdict(found[-1].tied), file=sys.stderr, flush=True)
    return written(found)


def written(found: Sequence[Judged]) -> str:
    """Return the page of judged points."""
    near = [one for one in found if one.is_near]
    held = Counter(verdict(one.tied) for one in found)["holds"]
    missed = [one for one in found if verdict(one.tied) != "holds"]
    widths = {name: sorted({one.row[name]["width"] for one in found}) for name in ("tied", "untied")}
    steps = sorted(one.row["T"] for one in found)
    above = sum(one.rate > 0.0 for one in near)
    lines = [
        "# Theory against networks",
        "",
        "How far can you trust the numbers of a spec? Here the theories are held to networks that share no code with",
        "them: the recurrences of all nine cells are written out by hand, weights are drawn by a few lines of their",
        "own, and perturbations are followed by complex steps (`tests/theory/oracle.py`).",
        "",
        f"There are {len(found)} points over {len({one.row['cell'] for one in found})} cells, drawn from fixed seeds"
        " (`benchmarks/validation/points.py`), with Gaussian",
        "and orthogonal recurrent kernels, and with constant, normal and spread biases. A point has eight networks",
        f"that keep their weights, of {_and(widths['tied'])} units (more where a cell has one gate; `rnn` has 32),",
        f"and as many whose weights are drawn anew at every step, of {_and(widths['untied'])} units. A perturbation is",
        f"followed for T steps, {steps[0]} to {steps[-1]}.",
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
        "The errors are relative to the rate: 5 % of ln χ is 5 % of the time scale over T.",
        f"The tied theory took {np.median([one.seconds[0] for one in found]):.1f} s of processor time a point (median),"
        f" the fast estimate with the untied theory {np.median([one.seconds[1] for one in found]):.2f} s.",
        "",
        *_estimate(found),
        "",
        f"## Where the tied theory misses: {len(missed)} of {len(found)}" if missed else "## No misses",
        "",
        *(f"- point {o.row['point']} ({o.row['cell']}): {verdict(o.tied)}. {REASONS.get(o.row['point'], '?')}"
          for o in missed),
        "",
        "## All points",
        "",
        "ln χ T is the logarithm of the retention over T steps, Q the second moment.",
        "",
        "| point | cell | where | T | ln χ T, networks | tied theory | estimate | Q, networks | tied | estimate"
        " | tied verdict | estimate's | ln χ T, untied networks | untied theory | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        *map(_line, found),
    ]  # fmt: skip
    assert held + len(missed) == len(found)
    return "\n".join(lines) + "\n"


_THEORIES = {
    "tied": ("tied theory, sampled", "networks that keep their weights"),
    "fast": ("fast estimate, as in `predicted.tied`", "networks that keep their weights"),
    "untied": ("untied theory", "networks of fresh weights"),
}


def _and(numbers: Sequence[int]) -> str:
    return " and ".join(f"{n:,}" for n in numbers)


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
    largest = max(errors)
    return f"{100 * largest:.0f} %" if largest < 10.0 else f"{largest:.0f} times"


def _estimate(found: Sequence[Judged]) -> list[str]:
    """Where the fast estimate can be used, by what is known without running anything."""
    alike = [one for one in found if _feeds_back(one) < 0.5]
    other = [one for one in found if _feeds_back(one) >= 0.5]
    lines = ["**The fast estimate** by the largest recurrent variance of a layer:", ""]
    for words, points in (("below .5", alike), ("from .5 on", other)):
        errors = [_growth(one.fast).difference for one in points]
        holds = sum(_growth(one.fast).agrees for one in points)
        lines.append(
            f"- {words}: the growth holds at {holds} of {len(points)}; errors of ln χ: median"
            f" {100 * np.median(errors):.1f} %, 9 of 10 below {100 * np.quantile(errors, 0.9):.0f} %;"
        )
    return lines


def _feeds_back(one: Judged) -> float:
    return max(float(gate["recurrent"]["variance"]) for gate in one.row["layer"]["gates"].values())


def _line(one: Judged) -> str:
    row, T = one.row, one.row["T"]

    def logarithm(numbers: Numbers) -> str:
        return f"{T * math.log(numbers.chi_over_T):+.3f}" if numbers.chi_over_T > 0.0 else "−∞"

    def networks(name: str) -> str:
        return "{:+.3f} ± {:.3f}".format(*row[name]["log_retention"])

    theories = one.theories
    error = (theories["tied"].standard_error or {}).get("chi_over_T") or 0.0
    tied = logarithm(theories["tied"]) + (f" ± {T * error / theories['tied'].chi_over_T:.3f}" if error else "")
    moment = row["tied"]["second_moment"][0]
    return (
        f"| {row['point']} | {row['cell']} | {row['kind']} | {T} | {networks('tied')} | {tied}"
        f" | {logarithm(theories['fast'])} | {moment:.4g} | {theories['tied'].second_moment:.4g}"
        f" | {theories['fast'].second_moment:.4g} | {verdict(one.tied)} | {verdict(one.fast)}"
        f" | {networks('untied')} | {logarithm(theories['untied'])} | {verdict(one.untied)} |"
    )
