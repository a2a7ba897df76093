"""``check``: does this checkpoint hold what the spec asks for?

Every gate's recurrent kernel, input kernel and effective bias is brought to canonical form and tested against its
distribution (``critinit.distributions.goodness``).  With m tests in which chance plays a part, each is held to rate/m
(Bonferroni), so weights that do follow the spec are called different in at most ``false_alarm_rate`` of all files,
however many gates and layers they have.  Weights that training has changed differ, and are called so.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.distributions import Observed, Outcome
from critinit.distributions.goodness import COMPARED, all_zero, orthogonality_error
from critinit.errors import ArgumentError
from critinit.showing import Shown, Table
from critinit.spec import InitSpec, checked_spec
from critinit.tensors.sampling import Draw, GroupDraws, draws_of
from critinit.weights.comparing import compare, passes
from critinit.weights.effective import Effective, effective
from critinit.weights.finding import FoundLayer, FoundNetwork, fragments_of, networks_of
from critinit.weights.hints import NEARLY_ORTHOGONAL, Mismatch, hints_of
from critinit.weights.reading import Entry, entries_of, open_weights

__all__ = ["CheckRow", "Checked", "check"]

INSIDE = "inner bias"
BETWEEN = "other groups"
"""What a row's part ends with that is about what a group reads of other groups."""
_OFF_CENTRE = 5.0
"""A kernel's mean is shown where it is more than so many standard errors from 0."""
_LEAST_P = 1e-300
"""Smaller p are shown as a bound: what double precision says of them is not reliable."""


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One gate's part: what the spec asks for, what was found, and how probable that is.

    Attributes:
        module: The path of the network in the file.
        layer: The spec's layer.
        direction: 0 forward, 1 backward.
        gate: The gate; empty for a projection.
        part: recurrent, input, bias or projection; "inner bias" for one that no spec asks for; with
            ", other groups" at its end it is about what a group of units reads of the others.
        tensors: The names of the tensors that it was read from.
        asked: What the spec asks for, in words.
        found: What was found, in words.
        mean: The mean of the effective numbers.
        variance: Their variance; of a kernel Var(entry)·fan-in.
        tests: The tests that were made.
        threshold: The smallest p of a part that matches.
        group: The name of the group of units, "" in a layer of one group.
    """

    module: str
    layer: int
    direction: int
    gate: str
    part: str
    tensors: tuple[str, ...]
    asked: str
    found: str
    mean: float
    variance: float
    tests: tuple[Outcome, ...]
    threshold: float = 0.0
    group: str = ""

    @property
    def worst(self) -> Outcome:
        """The test with the smallest p."""
        return min(self.tests, key=lambda test: (test.p, test.exact))

    @property
    def matches(self) -> bool:
        """Whether every test is passed."""
        return passes(self.tests, self.threshold)

    @property
    def p(self) -> str:
        """The smallest p in words: a number, or "exact" where no chance is involved and the numbers are right."""
        if self.worst.exact:
            return "exact" if self.worst.p else "0"
        return f"< {_LEAST_P:.0e}" if self.worst.p < _LEAST_P else f"{self.worst.p:.2g}"


@dataclass(frozen=True, slots=True)
class Checked(Shown):
    """What ``check`` returns: whether weights match a spec, and a row for each of their parts.

    Attributes:
        rows: One for every part of every layer and direction.
        networks: In words what was found, and for which layer of the spec it was taken.
        hints: What a mismatch looks like.
        false_alarm_rate: In which share of files with right weights at most a part is called different.
        tests: How many tests of chance were made.
        threshold: The p below which a part differs, ``false_alarm_rate`` / ``tests``.
        notes: What was not checked.
    """

    rows: tuple[CheckRow, ...]
    networks: tuple[str, ...]
    hints: tuple[str, ...]
    false_alarm_rate: float
    tests: int
    threshold: float
    notes: tuple[str, ...] = ()

    @property
    def matches(self) -> bool:
        """Whether the weights are as the spec asks."""
        return all(row.matches for row in self.rows)

    @property
    def verdict(self) -> str:
        """The result in a line, and how it was decided."""
        differ = sum(not row.matches for row in self.rows)
        if not differ:
            return f"the weights match the spec: {len(self.rows)} parts ({self._rule})"
        return f"the weights do not match the spec: {differ} of {len(self.rows)} parts differ ({self._rule})"

    @property
    def _rule(self) -> str:
        """How it was decided."""
        if not self.tests:
            return "nothing is left to chance, so every number was compared with the one that the spec asks for"
        return (
            f"{self.tests} tests; a part differs where a test's p is below {self.threshold:.2g}, so that at most "
            f"{self.false_alarm_rate:g} of all files with right weights are said to differ"
        )

    @property
    def explanation(self) -> tuple[str, ...]:
        """What the columns of the table mean, in lines of text; of the tests only those that it names."""
        lines = ["test: the test of this part that has the smallest p"]
        if not all(row.worst.exact for row in self.rows):
            lines.append("p: the probability that weights drawn from the spec look at least as odd in this test")
        if any(row.p == "exact" for row in self.rows):
            lines.append("exact: the spec fixes this, so the numbers were compared with it and p is not needed")
        names = dict.fromkeys(row.worst.name for row in self.rows)
        return (*lines, *(f"{name}: {COMPARED[name]}" for name in names if name in COMPARED))

    def _tables(self) -> Iterator[Table]:
        columns = ("gate", "part", "asked", "found", "test", "p", "")
        places = list(dict.fromkeys((row.module, row.layer, row.direction) for row in self.rows))
        for network, place in zip(self.networks, places, strict=True):
            rows = [row for row in self.rows if (row.module, row.layer, row.direction) == place]
            yield Table(network, columns, tuple(map(_cells, rows)), self._below() if place == places[-1] else ())

    def _below(self) -> tuple[str, ...]:
        """What is said below the last table."""
        hints, notes = (f"hint: {hint}" for hint in self.hints), (f"note: {note}" for note in self.notes)
        return (*self.explanation, self.verdict, *hints, *notes)


def _cells(row: CheckRow) -> tuple[str, ...]:
    end = "" if row.matches else "DIFFERS"
    gate = ": ".join(filter(None, (row.group, row.gate))) or "-"
    return gate, row.part, row.asked, row.found, row.worst.name, row.p, end


def check(
    spec: InitSpec,
    weights: str | os.PathLike[str] | Mapping[str, Any],
    *,
    framework: str | None = None,
    module: str | Sequence[str] = (),
    false_alarm_rate: float = 1e-3,
) -> Checked:
    """Compare a file of freshly initialized weights, or arrays, with a spec.

    Every network of the spec's cell is checked.  Cost: the reading of the recurrent tensors, and O(H³) for each
    orthogonal kernel (at most 512 rows of it).

    Args:
        spec: The spec.
        weights: The path of a file (safetensors, npz, .weights.h5, .keras, or a framework's own where its layout reads
            it), of an index of shards or of a folder with either; or arrays by name.  The arrays may be of any
            framework and on any device, as ``model.state_dict()`` gives them.
        framework: The name of the layout that the weights have, where names and shapes leave that open.
        module: The path of the network in the file, or patterns of paths in the order of the layers, as ``include`` of
            ``critinit.apply`` takes them.
        false_alarm_rate: In which share of files with right weights at most a part may be called different.

    Returns:
        What was found, part by part; ``matches`` says whether it is what the spec asks for.

    Raises:
        FileError: The file cannot be opened.
        WeightsError: It is damaged, of another kind, or has no network of the spec's cell.
        ArgumentError: A choice is to be made, or an argument is out of range.
        MissingExtraError: The library that reads the file is not installed.

    Example:
        >>> from critinit import generate, materialize
        >>> spec = generate("gru", T=100)
        >>> check(spec, materialize(spec, "canonical", input_size=8, hidden_size=64, seed=1)).matches
        True
    """
    modules = _checked_arguments(spec, weights, module, false_alarm_rate)
    source = "the weights" if isinstance(weights, Mapping) else os.fspath(weights)
    opened = nullcontext(entries_of(weights)) if isinstance(weights, Mapping) else open_weights(source)
    with opened as entries, np.errstate(invalid="ignore", over="ignore"):  # whatever numbers a file holds
        shapes = {name: entry.shape for name, entry in entries.items()}
        stacks = networks_of(shapes, spec, framework=framework, modules=modules, source=source)
        layers = [layer for stack in stacks for layer in _numbered(stack)]
        tested = [list(_rows(spec, layer, entries)) for layer in layers]
        count = sum(not test.exact for rows in tested for row in rows for test in row.tests)
        threshold = false_alarm_rate / max(count, 1)
        done = [
            (layer, [replace(row, threshold=threshold) for row in rows])
            for layer, rows in zip(layers, tested, strict=True)
        ]
        hints = (*_hints(spec, done, entries, threshold), *_orders(stacks, done))
        notes = () if modules else tuple(fragments_of(shapes, [network for stack in stacks for network in stack]))
    rows = tuple(row for _, rows in done for row in rows)
    return Checked(rows, tuple(map(str, layers)), hints, false_alarm_rate, count, threshold, notes)


def _checked_arguments(spec: object, weights: object, module: object, rate: object) -> tuple[str, ...]:
    """The patterns of modules; refuses arguments of other kinds."""
    checked_spec(spec)
    if not isinstance(weights, (str, os.PathLike, Mapping)):
        hint = "its state_dict() has them" if hasattr(weights, "state_dict") else ""
        found = type(weights).__name__
        raise ArgumentError("weights", found=found, allowed="a path, or arrays by name", hint=hint)
    if not isinstance(rate, float) or not 0.0 < rate < 1.0:
        raise ArgumentError("false_alarm_rate", found=repr(rate), allowed="a number between 0 and 1")
    modules = (module,) if isinstance(module, str) else module
    if not isinstance(modules, Sequence) or not all(isinstance(path, str) for path in modules):
        raise ArgumentError("module", found=repr(module), allowed="a path or pattern, or several")
    return tuple(modules)


def _numbered(stack: Sequence[FoundNetwork]) -> Iterator[FoundLayer]:
    """The layers of networks that take the spec's layers together, by their numbers in the spec."""
    start = 0
    for network in stack:
        yield from network.numbered(start)
        start += network.depth


def _draws(spec: InitSpec, layer: FoundLayer) -> tuple[GroupDraws, ...]:
    """What the spec asks for in a layer of these sizes, group by group."""
    return draws_of(
        spec,
        layer.layer,
        seed=0,
        input_size=layer.sizes.input,
        hidden_size=layer.sizes.hidden,
        projection_size=layer.sizes.projection,
        direction=layer.direction,
        window=layer.sizes.window,
    )


# ---- rows ------------------------------------------------------------------------------------------------


def _rows(spec: InitSpec, layer: FoundLayer, entries: Mapping[str, Entry]) -> Iterator[CheckRow]:
    """The rows of one layer in one direction, not yet held to a threshold."""
    groups = _draws(spec, layer)
    for group in groups:
        yield from _rows_of_group(layer, group, effective(layer, entries, groups, group))


def _rows_of_group(layer: FoundLayer, group: GroupDraws, read: Effective) -> Iterator[CheckRow]:
    for (gate, part), draw in group.draws.items():
        observed = read.parts[gate, part]
        partner = None if draw.coupled_to is None else read.parts[draw.coupled_to, part]
        rest = read.taps.get((gate, part))
        tests = (*compare(draw, observed, partner), *(() if rest is None else (all_zero(rest),)))
        yield _row(layer, gate, part, read.tensors[gate, part], _asked(draw), observed, tests, draw.group)
        other = read.between.get((gate, part))
        if other is not None:
            tensors = read.tensors[gate, part]
            yield _row(layer, gate, f"{part}, {BETWEEN}", tensors, "0", other, (all_zero(other),), draw.group)
    for name, observed in read.inside.items():
        yield _row(layer, "candidate", INSIDE, (name,), "0", observed, (all_zero(observed),))


def _row(
    layer: FoundLayer,
    gate: str,
    part: str,
    names: tuple[str, ...],
    asked: str,
    observed: Observed,
    tests: tuple[Outcome, ...],
    group: str = "",
) -> CheckRow:
    """The row of one part."""
    x = observed.values
    mean, variance = float(x.mean()), float(x.var()) * (x.shape[1] if x.ndim == 2 else 1)
    found = _found(x, mean, variance) if names else "none in the file"
    place = (layer.module, layer.layer, layer.direction, gate, part)
    return CheckRow(*place, names, asked, found, mean, variance, tests, group=group)


def _asked(draw: Draw) -> str:
    """What the spec asks for, in a few words."""
    if draw.coupled_to is not None:
        return f"{'-' if draw.sign < 0 else ''}{draw.coupled_to}"
    return "0" if draw.is_zero else draw.distribution.describe()


def _found(x: NDArray[np.float64], mean: float, variance: float) -> str:
    """What numbers look like, in a few words."""
    bad = int(x.size - np.isfinite(x).sum())
    if bad:
        return f"{bad} that are not finite"
    if not x.any():
        return "0"
    if x.min() == x.max():
        return f"{x.flat[0]:.6g}"
    if x.ndim == 1:
        return f"mean {mean:.4g}, variance {variance:.4g}"
    gain = math.sqrt(float(np.einsum("ij,ij->", x, x)) / len(x))
    if 1 < x.shape[0] <= x.shape[1] and orthogonality_error(x / gain) < NEARLY_ORTHOGONAL:
        return f"orthogonal, gain {gain:.4g}"
    off_centre = mean * mean * x.size > _OFF_CENTRE**2 * variance / x.shape[1]
    return f"variance {variance:.4g}" + (f", mean {mean:.2g}" if off_centre else "")


# ---- hints -----------------------------------------------------------------------------------------------

_Done = Sequence[tuple[FoundLayer, Sequence[CheckRow]]]


def _hints(spec: InitSpec, done: _Done, entries: Mapping[str, Entry], threshold: float) -> tuple[str, ...]:
    """What the mismatches look like, layer by layer; a hint that holds for several is given once."""
    places: dict[str, list[str]] = {}
    alone = len({layer.module for layer, _ in done}) == 1

    def named(layer: FoundLayer) -> str:
        return layer.place if alone else f"{layer.module or 'the top of the file'}, {layer.place}"

    for layer, rows in done:
        differing = [row for row in rows if not row.matches]
        groups = _draws(spec, layer) if differing else ()
        for group, stated in zip(groups, spec.layers[layer.layer].groups, strict=False):
            name = stated.name if len(groups) > 1 else ""
            wrong = frozenset((row.gate, row.part) for row in differing if row.group in ("", name))
            if not wrong:
                continue
            read = effective(layer, entries, groups, group)  # again: all layers would take the memory of all weights
            for hint in hints_of(Mismatch(layer, group.draws, read, wrong, threshold)):
                place = f"{named(layer)}, group {name}" if name else named(layer)
                places.setdefault(hint, []).append(place)
    several = len(done) > 1 or any(len(layer.groups) > 1 for layer in spec.layers)
    hints = [f"{', '.join(dict.fromkeys(where))}: {hint}" if several else hint for hint, where in places.items()]
    good = any(all(row.matches for row in rows) for _, rows in done)
    bad = [layer for layer, rows in done if not any(row.matches for row in rows if row.part in ("recurrent", "input"))]
    if good and bad:
        names = ", ".join(map(named, bad))
        hints.append(f"{names}: no kernel is as asked while other layers match: left out of the initialization?")
    return tuple(hints)


def _orders(stacks: Sequence[Sequence[FoundNetwork]], done: _Done) -> Iterator[str]:
    """Where several networks make up the layers and do not match: how they were ordered."""
    differ = {layer.module for layer, rows in done if not all(row.matches for row in rows)}
    for stack in stacks:
        modules = {layer.module for network in stack for layer in network.layers}
        if len(stack) > 1 and modules & differ:
            yield f"the layers were taken in this order: {', '.join(map(str, stack))}; module gives another"
