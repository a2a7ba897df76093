"""The tied theory: what an infinitely wide network with one set of weights does (causal dynamic mean field).

A population of particles (``particles``) runs from rest to its stationary state, is perturbed, and followed:

    retention(t) = E|δ_t|²/E|δ_0|²,    ln χ = slope of ln E|δ_t|² over the second half.

Independent populations give the standard errors, and more of them are run until these are small enough.  Both this
theory and ``critinit.simulation`` follow ``critinit.theory.protocol``, so with the same ``steps`` the numbers are those
that are measured on networks, at infinite width.  With inputs of correlation below 1 the two differ: χ here is that of
two copies with the same inputs, and a note says so.

Related: Sompolinsky, Crisanti & Sommers 1988 (the mean field of one fixed matrix), Can, Krishnamurthy & Schwab
2002.00025 and Krishnamurthy, Can & Schwab PRX 12, 011011 (gates), Bolthausen 2014 (the conditioning in ``fields``).
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
from critinit.theory.protocol import (
    LEAST_STEPS,
    LONGEST_UNIT_TIME,
    STEADY,
    Inputs,
    first_burn_in,
    follow_steps,
    has_spread,
)
from critinit.theory.tied.growth import Run, combine, informative_steps, participation, repeats, settle
from critinit.theory.tied.particles import Population

__all__ = ["tied", "tied_course", "tied_layer", "tied_with_courses"]

_PARTICLES = 1000
"""Particles of a population by default: ln χ of most layers is then known to .003 from four populations."""
_LARGEST = 2
"""A population is at most so many times the default: its cost grows faster than its noise falls."""
_FEWEST, _MOST = 4, 8
"""Populations: at least so many for a standard error, at most so many for the wanted accuracy."""
_MOMENT_TOLERANCE = 3.0
"""Wanted relative error of the second moment, in units of the tolerance of ln χ."""
_SCATTER = 2.0
"""Populations whose ln χ scatters by more than this, in units of the tolerance, are biased too: ln of a noisy mean."""
_CALLED_FOR = 2.0
"""Larger populations are run where so many times the particles would be needed, not for less."""
_SNAPSHOT_EVERY = 20
"""Steps between two looks at the Jacobian: nearer ones are alike and cost time."""


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
    """Return the tied numbers of every layer, with standard errors; the same arguments give the same numbers.

    Four populations are joined by others, up to 8, until the wanted accuracy is met; a note says where it is not.
    The cost is O(populations·steps·particles·gates·log steps): a second or two for a GRU at the defaults.

    Args:
        spec: The spec.
        particles: Particles of a population.  None: 1,000, then as many as the first four call for, up to 2,000.
        steps: How long a perturbation is followed.  None: T, between 300 and 2000.
        tolerance: Wanted standard error of ln χ, and a third of that of ln of the second moment.
        seed: Seed of the random numbers.
        inputs: The course of the inputs in time.
        progress: Called with (parts done, parts in all).

    Returns:
        One ``Numbers`` a layer.

    Raises:
        ArgumentError: An argument is out of its range.

    Example:
        >>> from critinit import generate
        >>> numbers, = tied(generate("gru", T=20), particles=50, steps=20, tolerance=1.0)
        >>> numbers.standard_error["retention"] > 0
        True
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
    """Return the tied numbers of one layer of a cell.

    Args:
        cell: The cell.
        layer: The layer.
        T: Steps at which the retention is stated.
        particles: As for ``tied``, like all the following.
        steps: How long a perturbation is followed.
        tolerance: Wanted standard error of ln χ.
        seed: Seed of the random numbers.
        inputs: The course of the inputs in time.
        progress: Called with (parts done, parts in all).

    Raises:
        ArgumentError: An argument is out of its range.
    """
    return tied_with_courses(
        cell, layer, T=T, particles=particles, steps=steps, tolerance=tolerance, seed=seed, inputs=inputs,
        progress=progress,
    )[0]  # fmt: skip


def tied_with_courses(
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
) -> tuple[Numbers, Array]:
    """Return what ``tied_layer`` returns for these arguments, and the courses that it rests on.

    Returns:
        The numbers, and ln E|δ_t|²/E|δ_0|² step by step of every population, (populations, steps + 1).

    Raises:
        ArgumentError: An argument is out of its range.
    """
    count = _PARTICLES if particles is None else particles
    spread = has_spread(cell, layer, tied=True)
    length = follow_steps(T, spread=spread) if steps is None else steps
    _check("particles", count, 2)
    _check("steps", length, LEAST_STEPS)
    if not tolerance > 0.0:
        raise ArgumentError("tolerance", found=str(tolerance), allowed="more than 0")
    streams = iter(np.random.SeedSequence(seed).spawn(_FEWEST + _MOST))
    runs: list[Run] = []

    def run(size: int, populations: int) -> None:
        for i, child in enumerate(itertools.islice(streams, populations)):
            runs.append(_follow(cell, layer, size, length, np.random.default_rng(child), inputs))
            if progress:
                progress(min(i, _FEWEST - 1), _FEWEST)

    run(count, _FEWEST)
    excess = max(_worst(runs), _scatter(runs) / _SCATTER) ** 2 / tolerance**2
    if particles is None and excess > _CALLED_FOR:
        # larger populations rather than more: their bias goes down with their noise
        count = min(2 ** math.ceil(math.log2(excess)), _LARGEST) * _PARTICLES
        runs.clear()
        run(count, _FEWEST)
    while _worst(runs) > tolerance and len(runs) < _MOST:
        run(count, 1)
    if progress:
        progress(_FEWEST, _FEWEST)
    notes = []
    if _worst(runs) > tolerance:
        notes.append(f"chi: the wanted accuracy {tolerance:g} was not reached with {_MOST} populations of {count}")
    if layer.input.correlation < 1.0:
        notes.append("chi: of two copies with the same inputs; their correlation below 1 enters the untied theory only")
    return combine(runs, T, spread=spread, notes=notes), np.array([run.log_square - run.log_square[0] for run in runs])


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
    """Return the course of a perturbation, ln E|δ_t|²/E|δ_0|², step by step.

    Args:
        cell: The cell.
        layer: The layer.
        steps: How long the perturbation is followed.
        particles: Particles of a population.
        populations: Number of independent populations.
        seed: Seed of the random numbers.
        inputs: The course of the inputs in time.

    Returns:
        One course a population, (populations, steps + 1).

    Raises:
        ArgumentError: An argument is out of its range.
    """
    _check("particles", particles, 2)
    _check("populations", populations, 1)
    _check("steps", steps, 1)
    streams = np.random.SeedSequence(seed).spawn(populations)
    followed = (_follow(cell, layer, particles, steps, np.random.default_rng(s), inputs).log_square for s in streams)
    return np.array([course - course[0] for course in followed])


def _check(name: str, found: int, least: int) -> None:
    if found < least:
        raise ArgumentError(name, found=str(found), allowed=f"at least {least}")


def _scatter(runs: list[Run]) -> float:
    """Standard deviation of ln χ over populations."""
    steps = informative_steps(runs)
    logs = [run.log_chi(steps) for run in runs]
    return float(np.std(logs, ddof=1)) if all(map(math.isfinite, logs)) else 0.0


def _worst(runs: list[Run]) -> float:
    """The larger of the standard errors of ln χ and, by its own measure, of the second moment."""
    root = math.sqrt(len(runs))
    moments = np.array([run.second_moment for run in runs])
    moment = moments.std(ddof=1) / root / max(moments.mean(), np.finfo(float).tiny)
    return float(max(_scatter(runs) / root, moment / _MOMENT_TOLERANCE))


def _follow(cell: Cell, layer: Layer, particles: int, steps: int, rng: np.random.Generator, inputs: Inputs) -> Run:
    """One population from rest to its numbers."""
    layer, projection = layer.unprojected(), layer.projection
    population = Population(cell, layer, particles, rng, inputs=inputs)

    def step() -> float:
        population.step(-1)
        return float(np.mean(population.h**2))

    settled = settle(step, first_burn_in(cell, layer), steps)
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
    run = Run(
        second_moment=gain * float(moments[0] / steps),
        memory=float(moments[1] / steps) if cell.has_readout else None,
        time_constants=1.0 / np.maximum(1.0 - keep / steps, 1.0 / LONGEST_UNIT_TIME),
        log_square=log_square,
        participation=carried,
        jacobian_square=float(jacobian[0] / looks),
        jacobian_second=float(jacobian[1] / looks),
        settled=settled,
    )
    informative = informative_steps([run])
    again = 0 if inputs.off_after is not None else repeats(informative, steps)
    return replace(run, repeated=tuple(_course(population, informative) for _ in range(again)))


def _course(population: Population, steps: int) -> Array:
    """ln E|δ_t|² of a new perturbation, (steps + 1,)."""
    population.perturb(steps)
    course = np.zeros(steps + 1)
    for t in range(steps):
        population.step(t)
        course[t + 1] = course[t] + population.rescale()
    return course
