"""The tied theory: what an infinitely wide network with one set of weights does (causal dynamic mean field).

A population of particles (``tied_particles``) runs from rest to its stationary state, is perturbed, and followed:

    retention(t) = E|δ_t|²/E|δ_0|²,    ln χ = slope of ln E|δ_t|² over the second half.

Independent populations give the standard errors, and more of them are run until these are small enough.  With the
same ``steps`` the numbers are those that ``critinit.simulation`` measures, at infinite width; with inputs of
correlation below 1 too, χ here is that of two copies with the same inputs, and a note says so.

Related: Sompolinsky, Crisanti & Sommers 1988 (the mean field of one fixed matrix), Can, Krishnamurthy & Schwab
2002.00025 and Krishnamurthy, Can & Schwab PRX 12, 011011 (gates), Bolthausen 2014 (the conditioning in ``tied_field``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from critinit.cells import Cell
from critinit.dual import Array, value
from critinit.errors import ArgumentError
from critinit.spec import InitSpec, Layer, Numbers
from critinit.theory.tied.growth import (
    LEAST_STEPS,
    Sample,
    Settling,
    combine,
    first_burn_in,
    follow_steps,
    participation,
    reach,
    windows,
)
from critinit.theory.tied.inputs import STEADY, Inputs
from critinit.theory.tied.particles import Population

__all__ = ["tied", "tied_course", "tied_layer"]

_PARTICLES = 1000
_LARGEST = 2
"""A population is at most so many times the default."""
_FEWEST, _MOST = 4, 8
"""Populations: at least so many for a standard error, at most so many for the wanted accuracy."""
_MOMENT_TOLERANCE = 3.0
"""Wanted relative error of the second moment, in units of the tolerance of ln χ."""
_SCATTER = 2.0
"""Populations whose ln χ scatters by more than this, in units of the tolerance, are biased too: ln of a noisy mean."""
_SNAPSHOT_EVERY = 20
_LARGEST_TIME = 1e12


def tied(
    spec: InitSpec,
    *,
    particles: int | None = None,
    steps: int | None = None,
    tolerance: float = 0.003,
    seed: int = 0,
    inputs: Inputs = STEADY,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Numbers, ...]:
    """The tied numbers of every layer, with standard errors; the same arguments, the same numbers.

    ``tolerance``: wanted standard error of ln χ, and a third of that of ln of the second moment.  Four populations
    of ``particles`` each (default 1,000, then as many as the first four call for, up to 2,000) are joined by others
    until both are met, up to 8; a note says where they are not.
    ``steps``: how long a perturbation is followed (default: T between 300 and 2000).
    Cost: O(populations·steps·particles·gates·log steps); a second or two for a GRU at the defaults.
    Raises ``ArgumentError`` for arguments out of range.
    """
    cell, n = spec.find_cell(), len(spec.layers)

    def part(i: int) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, total: progress(i * total + done, n * total)

    return tuple(
        tied_layer(
            cell, layer, T=spec.T, particles=particles, steps=steps, tolerance=tolerance,
            seed=(seed, i), inputs=inputs, progress=part(i),
        )
        for i, layer in enumerate(spec.layers)
    )  # fmt: skip


def tied_layer(
    cell: Cell,
    layer: Layer,
    *,
    T: int,
    particles: int | None = None,
    steps: int | None = None,
    tolerance: float = 0.003,
    seed: int | tuple[int, ...] = 0,
    inputs: Inputs = STEADY,
    progress: Callable[[int, int], None] | None = None,
) -> Numbers:
    """``tied`` for one layer of a cell."""
    count = _PARTICLES if particles is None else particles
    length = follow_steps(T) if steps is None else steps
    if count < 2:
        raise ArgumentError(f"particles: found {count}; allowed: at least 2")
    if length < LEAST_STEPS:
        raise ArgumentError(f"steps: found {length}; allowed: at least {LEAST_STEPS}")
    if not tolerance > 0.0:
        raise ArgumentError(f"tolerance: found {tolerance}; allowed: more than 0")
    streams = iter(np.random.SeedSequence(seed).spawn(_FEWEST + _MOST))
    samples: list[Sample] = []

    def run(size: int, populations: int) -> None:
        for i, child in enumerate(itertools.islice(streams, populations)):
            samples.append(_follow(cell, layer, size, length, np.random.default_rng(child), inputs))
            if progress:
                progress(min(i, _FEWEST - 1), _FEWEST)

    run(count, _FEWEST)
    excess = max(_worst(samples), _scatter(samples) / _SCATTER) ** 2 / tolerance**2
    if particles is None and excess > 2.0:
        # larger populations rather than more: their bias goes down with their noise
        count = min(2 ** math.ceil(math.log2(excess)), _LARGEST) * _PARTICLES
        samples.clear()
        run(count, _FEWEST)
    while _worst(samples) > tolerance and len(samples) < _MOST:
        run(count, 1)
    if progress:
        progress(_FEWEST, _FEWEST)
    notes = []
    if _worst(samples) > tolerance:
        notes.append(f"chi: the wanted accuracy {tolerance:g} was not reached with {_MOST} populations of {count}")
    if layer.input.correlation < 1.0:
        notes.append("chi: of two copies with the same inputs; their correlation below 1 enters the untied theory only")
    return combine(samples, T, notes=notes)


def tied_course(
    cell: Cell,
    layer: Layer,
    *,
    steps: int,
    particles: int = _PARTICLES,
    populations: int = _FEWEST,
    seed: int | tuple[int, ...] = 0,
    inputs: Inputs = STEADY,
) -> Array:
    """ln E|δ_t|²/E|δ_0|² of a perturbation, step by step, of each population: (populations, steps + 1).

    Raises ``ArgumentError`` for arguments out of range.
    """
    for name, found, least in (("particles", particles, 2), ("populations", populations, 1), ("steps", steps, 1)):
        if found < least:
            raise ArgumentError(f"{name}: found {found}; allowed: at least {least}")
    streams = np.random.SeedSequence(seed).spawn(populations)
    followed = (_follow(cell, layer, particles, steps, np.random.default_rng(s), inputs).log_square for s in streams)
    return np.array([course - course[0] for course in followed])


def _scatter(samples: list[Sample]) -> float:
    """Standard deviation of ln χ over populations."""
    steps = reach(samples)
    logs = [s.log_chi(steps) for s in samples]
    return float(np.std(logs, ddof=1)) if all(map(math.isfinite, logs)) else 0.0


def _worst(samples: list[Sample]) -> float:
    """The larger of the standard errors of ln χ and, by its own measure, of the second moment."""
    root = math.sqrt(len(samples))
    moments = np.array([s.second_moment for s in samples])
    moment = moments.std(ddof=1) / root / max(moments.mean(), 1e-300)
    return float(max(_scatter(samples) / root, moment / _MOMENT_TOLERANCE))


def _follow(cell: Cell, layer: Layer, particles: int, steps: int, rng: np.random.Generator, inputs: Inputs) -> Sample:
    """One population from rest to its numbers."""
    layer, projection = layer.unprojected(), layer.projection
    population = Population(cell, layer, particles, rng, inputs=inputs)
    settling = Settling(first_burn_in(cell, layer), steps)
    population.step(-1)
    while settling.goes_on(float(np.mean(population.h**2))):
        population.step(-1)
    population.perturb(steps)
    log_square, carried = np.zeros(steps + 1), np.ones(steps + 1)
    keep, moments, jacobian, looks = np.zeros(particles), np.zeros(2), np.zeros(2), 0
    kernels = {name: gate.recurrent for name, gate in layer.gates.items()}
    gain, excess = (1.0, 0.0) if projection is None else (projection.gain, projection.excess)
    for t in range(steps):
        population.step(t)
        moments += np.mean(value(population.h) ** 2), np.mean(value(population.s) ** 2)
        keep += value(cell.keep(population.u))
        if t % _SNAPSHOT_EVERY == 0:
            factor = population.couplings().factor(kernels)
            jacobian += factor.first_moment(), factor.second_moment(excess)
            looks += 1
        log_square[t + 1] = log_square[t] + population.rescale()
        carried[t + 1] = participation(np.sum(population.s.tangent**2, axis=0))
    sample = Sample(
        second_moment=gain * float(moments[0] / steps),
        memory=float(moments[1] / steps) if cell.has_readout else None,
        time_constants=1.0 / np.maximum(1.0 - keep / steps, 1.0 / _LARGEST_TIME),
        log_square=log_square,
        participation=carried,
        jacobian_square=float(jacobian[0] / looks),
        jacobian_second=float(jacobian[1] / looks),
        settled=settling.settled,
    )
    told = reach([sample])
    again = 0 if inputs.off_after is not None else windows(told, steps)
    return replace(sample, windows=tuple(_window(population, told) for _ in range(again)))


def _window(population: Population, steps: int) -> Array:
    """ln E|δ_t|² of a new perturbation for ``steps`` steps, (steps + 1,)."""
    population.perturb(steps)
    course = np.zeros(steps + 1)
    for t in range(steps):
        population.step(t)
        course[t + 1] = course[t] + population.rescale()
    return course
