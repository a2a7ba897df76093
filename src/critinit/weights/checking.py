"""``check``: does this checkpoint hold what the spec asks for?

Every gate's recurrent kernel, input kernel and effective bias is brought to canonical form and tested against its law
(``laws``).  With m tests in which chance plays a part, each is held to rate/m (Bonferroni), so weights that do follow
the spec are called different in at most ``false_alarm_rate`` of all files, however many gates and layers they have.
Weights that training has changed differ, and are called so.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from critinit.weights.effective import Effective, effective
from critinit.weights.finding import DIRECTIONS, Network, Site, fragments_of, networks_of
from critinit.weights.hints import hints_of
from critinit.distributions.goodness import Observed, Outcome, orthogonality_error, outcomes_of
from critinit.weights.reading import Entry, entries_of, open_weights
from critinit.errors import ArgumentError
from critinit.tensors.sampling import Draw, draws_of
from critinit.spec import ConstantBias, InitSpec, Kernel, NormalBias

__all__ = ["Checked", "Row", "check"]

INSIDE = "inner bias"


@dataclass(frozen=True, slots=True)
class Row:
    """One gate's part: what was asked, what was found, and how probable that is.

    ``mean`` and ``variance`` are of the effective numbers; ``variance`` of a kernel is Var(entry)·fan_in.
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

    @property
    def worst(self) -> Outcome:
        """The least probable of its tests."""
        return min(self.tests, key=lambda test: (test.p, test.exact))

    @property
    def matches(self) -> bool:
        """Whether no test is below the threshold."""
        return all(test.p > 0.0 if test.exact else test.p >= self.threshold for test in self.tests)


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of ``check``.

    ``threshold``: what every test of chance is held to, ``false_alarm_rate`` / ``tests``.  ``networks``: in words what
    was found and taken for which layers.  ``hints``: what a mismatch looks like.  ``notes``: what was not checked.
    """

    rows: tuple[Row, ...]
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
        """The result in a line."""
        held = (
            f"{self.tests} tests of chance, each held to p >= {self.threshold:.2g}"
            if self.tests
            else "no test of chance"
        )
        rate = f"false-alarm rate {self.false_alarm_rate:g} for the whole file: {held}"
        differ = sum(not row.matches for row in self.rows)
        if not differ:
            return f"the weights match the spec: {len(self.rows)} parts ({rate})"
        return f"the weights do not match the spec: {differ} of {len(self.rows)} parts differ ({rate})"


def check(
    spec: InitSpec,
    weights: str | os.PathLike[str] | Mapping[str, Any],
    *,
    framework: str | None = None,
    module: str | Sequence[str] = (),
    false_alarm_rate: float = 1e-3,
) -> Checked:
    """Compare a file of weights (safetensors, npz, .weights.h5, .keras, torch's), or arrays by name, with ``spec``.

    Arrays may be any framework's, on any device: ``model.state_dict()`` of PyTorch, for one.

    ``framework``: torch, keras, linen, nnx, equinox, haiku or canonical, where names and shapes leave that open.
    ``module``: the path of the network in the file, or shell-style patterns of paths, in the order of the layers.
    Every network of the spec's cell is checked otherwise.  Costs the reading of the recurrent tensors, and O(H³) for
    each orthogonal kernel (at most 512 rows of it).

    Raises ``FileError``, ``WeightsError`` (damaged, of another kind, or without a network of the spec's cell),
    ``ArgumentError`` (a choice is to be made, or an argument is out of range) and ``MissingExtraError``.
    """
    if not isinstance(spec, InitSpec):
        raise ArgumentError(f"spec: found {type(spec).__name__}; allowed: an InitSpec (critinit.load reads one)")
    if not isinstance(weights, (str, os.PathLike, Mapping)):
        which = ", as its state_dict() has them" if hasattr(weights, "state_dict") else ""
        raise ArgumentError(f"weights: found {type(weights).__name__}; allowed: a path, or arrays by name{which}")
    if not isinstance(false_alarm_rate, float) or not 0.0 < false_alarm_rate < 1.0:
        raise ArgumentError(f"false_alarm_rate: found {false_alarm_rate!r}; allowed: between 0 and 1")
    modules = (module,) if isinstance(module, str) else _paths(module)
    source = "the weights" if isinstance(weights, Mapping) else os.fspath(weights)
    opened = nullcontext(entries_of(weights)) if isinstance(weights, Mapping) else open_weights(source)
    with opened as entries, np.errstate(invalid="ignore", over="ignore"):  # whatever numbers a file holds
        shapes = {name: entry.shape for name, entry in entries.items()}
        stacks = networks_of(shapes, spec, framework=framework, modules=modules, source=source)
        sites = [_Site(network, site, layer) for stack in stacks for network, site, layer in _layers(stack)]
        tested = [(site, list(_rows(spec, site, entries))) for site in sites]
        count = sum(not test.exact for _, rows in tested for row in rows for test in row.tests)
        threshold = false_alarm_rate / max(count, 1)
        done = [(site, [replace(row, threshold=threshold) for row in rows]) for site, rows in tested]
        hints = (*_hints(spec, done, entries, threshold), *_orders(stacks, done))
        notes = () if modules else tuple(fragments_of(shapes, [network for stack in stacks for network in stack]))
    rows = tuple(row for _, rows in done for row in rows)
    networks = tuple(dict.fromkeys(str(site) for site in sites))
    return Checked(rows, networks, hints, false_alarm_rate, count, threshold, notes)


def _paths(module: object) -> tuple[str, ...]:
    if not isinstance(module, Sequence) or not all(isinstance(path, str) for path in module):
        raise ArgumentError(f"module: found {module!r}; allowed: a path, or several")
    return tuple(module)


@dataclass(frozen=True)
class _Site:
    """A site and the layer of the spec that it takes."""

    network: Network
    site: Site
    layer: int

    def __str__(self) -> str:
        sizes = self.site.sizes
        widths = f"input {sizes.input}, hidden {sizes.hidden}"
        widths += f", projection {sizes.projection}" if sizes.projection is not None else ""
        where = self.site.module or "the top of the file"
        return f"layer {self.layer}, {DIRECTIONS[self.site.direction]}: {where} ({self.kind}, {widths})"

    @property
    def kind(self) -> str:
        return f"{self.network.framework} {self.network.form.name.removeprefix(self.network.framework).strip()}"

    def draws(self, spec: InitSpec) -> Mapping[tuple[str, Any], Draw]:
        sizes = self.site.sizes
        return draws_of(
            spec,
            self.layer,
            seed=0,
            input_size=sizes.input,
            hidden_size=sizes.hidden,
            projection_size=sizes.projection,
            direction=self.site.direction,
        )


def _layers(stack: Sequence[Network]) -> Iterator[tuple[Network, Site, int]]:
    start = 0
    for network in stack:
        for site in network.sites:
            yield network, site, start + site.layer
        start += network.layers


# ---- rows ------------------------------------------------------------------------------------------------


def _rows(spec: InitSpec, site: _Site, entries: Mapping[str, Entry]) -> Iterator[Row]:
    draws = site.draws(spec)
    read = effective(site.site, entries, draws)
    for (gate, part), draw in draws.items():
        observed = read.parts[gate, part]
        reference = None if draw.coupled_to is None else read.parts[draw.coupled_to, part]
        tests = outcomes_of(draw, observed, reference)
        yield _row(site, gate, part, read.tensors[gate, part], _asked(draw), observed, tests)
    for name, observed in read.inside.items():
        zero = Outcome("all zero", float(not observed.values.any()), exact=True)
        yield _row(site, "candidate", INSIDE, (name,), "0", observed, (zero,))


def _row(
    site: _Site,
    gate: str,
    part: str,
    names: tuple[str, ...],
    asked: str,
    observed: Observed,
    tests: tuple[Outcome, ...],
) -> Row:
    x = observed.values
    fan_in = x.shape[1] if x.ndim == 2 else 1
    mean, variance = float(x.mean()), float(x.var()) * fan_in
    found = _found(x, mean, variance) if names else "none in the file"
    place = (site.site.module, site.layer, site.site.direction, gate, part)
    return Row(*place, names, asked, found, mean, variance, tests)


def _asked(draw: Draw) -> str:
    """A law in a few words."""
    law = draw.law
    if draw.coupled_to is not None:
        return f"{'-' if draw.sign < 0 else ''}{draw.coupled_to}"
    if isinstance(law, Kernel):
        if law.variance == 0:
            return "0"
        gain = f"gain {math.sqrt(law.variance):.4g}"
        scale = gain if law.distribution in ("orthogonal", "identity") else f"variance {law.variance:.4g}"
        return f"{law.distribution}, {scale}"
    if isinstance(law, ConstantBias):
        return f"{law.mean:.6g}"
    if isinstance(law, NormalBias):
        return f"normal, mean {law.mean:.4g}, variance {law.variance:.4g}"
    return f"{law.distribution} {getattr(law, 'min_time', 0):.4g} .. {getattr(law, 'max_time', 0):.4g}"


def _found(x: np.ndarray[Any, np.dtype[np.float64]], mean: float, variance: float) -> str:
    """What numbers look like, in a few words."""
    bad = int(x.size - np.isfinite(x).sum())
    if bad:
        return f"{bad} that are not finite"
    if not x.any():
        return "0"
    if x.min() == x.max():
        return f"{x.flat[0]:.6g}"
    if x.ndim == 2 and x.shape[0] <= x.shape[1] and x.shape[0] > 1:
        gain = math.sqrt(float(np.einsum("ij,ij->", x, x)) / len(x))
        if orthogonality_error(x / gain) < 1e-3:
            return f"orthogonal, gain {gain:.4g}"
    if x.ndim == 2:
        return f"variance {variance:.4g}" + (
            f", mean {mean:.2g}" if mean * mean * x.size > 25.0 * variance / x.shape[1] else ""
        )
    return f"mean {mean:.4g}, variance {variance:.4g}"


# ---- hints -----------------------------------------------------------------------------------------------


def _hints(
    spec: InitSpec,
    done: Sequence[tuple[_Site, Sequence[Row]]],
    entries: Mapping[str, Entry],
    threshold: float,
) -> tuple[str, ...]:
    """What the mismatches look like, site by site; a hint that holds for several is given once."""
    places: dict[str, list[str]] = {}
    for site, rows in done:
        if not all(row.matches for row in rows):
            draws = site.draws(spec)
            read: Effective = effective(site.site, entries, draws)
            wrong = {(row.gate, row.part) for row in rows if not row.matches}
            for hint in hints_of(draws, read, wrong, threshold, site.network):
                places.setdefault(hint, []).append(f"layer {site.layer} {DIRECTIONS[site.site.direction]}")
    hints = [f"{', '.join(dict.fromkeys(where))}: {hint}" if len(done) > 1 else hint for hint, where in places.items()]
    good = [site for site, rows in done if all(row.matches for row in rows)]
    bad = [site for site, rows in done if not any(row.matches for row in rows if row.part in ("recurrent", "input"))]
    if good and bad:
        names = ", ".join(f"layer {site.layer} {DIRECTIONS[site.site.direction]}" for site in bad)
        hints.append(f"{names}: no kernel is as asked while other layers match: left out of the initialization?")
    return tuple(hints)


def _orders(stacks: Sequence[Sequence[Network]], done: Sequence[tuple[_Site, Sequence[Row]]]) -> Iterator[str]:
    """Where several networks make up the layers and do not match: how they were ordered."""
    differ = [site.network for site, rows in done if not all(row.matches for row in rows)]
    for stack in stacks:
        if len(stack) > 1 and any(network in differ for network in stack):
            yield f"the layers were taken in this order: {', '.join(map(str, stack))}; module gives another"
