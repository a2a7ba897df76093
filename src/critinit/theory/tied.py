"""The tied theory: what an infinitely wide network with one set of weights does (causal dynamic mean field).

A population of particles (``tied_particles``) runs from rest to its stationary state, is perturbed, and followed:

    survival(t) = E|δ_t|²/E|δ_0|²,    ln χ = slope of ln E|δ_t|² over the second half.

Independent populations give the standard errors, and more of them are run until these are small enough.  With the
same ``steps`` the numbers are those that ``critinit.simulation`` measures, at infinite width; with inputs of
correlation below 1 too, χ here is that of two copies with the same inputs, and a note says so.

Related: Sompolinsky, Crisanti & Sommers 1988 (the mean field of one fixed matrix), Can, Krishnamurthy & Schwab
2002.00025 and Krishnamurthy, Can & Schwab PRX 12, 011011 (gates), Bolthausen 2014 (the conditioning in ``tied_field``).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from critinit.cells import Cell
from critinit.dual import value
from critinit.errors import ArgumentError
from critinit.spec import InitSpec, Layer, Numbers
from critinit.theory.tied_growth import LEAST_STEPS, Sample, Settling, combine, first_burn_in, follow_steps
from critinit.theory.tied_inputs import STEADY, Inputs
from critinit.theory.tied_particles import Population

__all__ = ["tied", "tied_layer"]

_PARTICLES = 500
_FEWEST, _MOST = 4, 32
"""Populations: at least so many for a standard error, at most so many for the wanted accuracy."""
_MOMENT_TOLERANCE = 3.0
"""Wanted relative error of the second moment, in units of the tolerance of ln χ."""
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

    ``tolerance``: wanted standard error of ln χ, and a third of that of ln of the second moment; populations of
    ``particles`` (default 500) are added until both are met, between 4 and 32 of them; a note says where they are not.
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
    samples: list[Sample] = []
    for child in np.random.SeedSequence(seed).spawn(_MOST):
        samples.append(_follow(cell, layer, count, length, np.random.default_rng(child), inputs))
        if progress:
            progress(min(len(samples), _FEWEST), _FEWEST)
        if len(samples) >= _FEWEST and _worst(samples) <= tolerance:
            break
    notes = []
    if _worst(samples) > tolerance:
        notes.append(f"chi: the wanted accuracy {tolerance:g} was not reached with {_MOST} populations of {count}")
    if layer.input.correlation < 1.0:
        notes.append("chi: of two copies with the same inputs; their correlation below 1 enters the untied theory only")
    return combine(samples, T, notes=notes)


def _worst(samples: list[Sample]) -> float:
    """The larger of the standard errors of ln χ and, by its own measure, of the second moment."""
    if not all(math.isfinite(s.log_chi) for s in samples):
        return 0.0
    root = math.sqrt(len(samples))
    chi = np.std([s.log_chi for s in samples], ddof=1) / root
    moments = np.array([s.second_moment for s in samples])
    moment = moments.std(ddof=1) / root / max(moments.mean(), 1e-300)
    return float(max(chi, moment / _MOMENT_TOLERANCE))


def _follow(
    cell: Cell, layer: Layer, particles: int, steps: int, rng: np.random.Generator, inputs: Inputs
) -> Sample:
    """One population from rest to its numbers."""
    population = Population(cell, layer, particles, rng, inputs=inputs)
    settling = Settling(first_burn_in(cell, layer), steps)
    population.step(-1)
    while settling.goes_on(float(np.mean(population.h**2))):
        population.step(-1)
    population.perturb()
    log_square = np.zeros(steps + 1)
    keep, moments, jacobian, looks = np.zeros(particles), np.zeros(2), np.zeros(2), 0
    kernels = {name: gate.recurrent for name, gate in layer.gates.items()}
    for t in range(steps):
        population.step(t)
        moments += np.mean(value(population.h) ** 2), np.mean(value(population.s) ** 2)
        keep += value(cell.keep(population.u))
        if t % _SNAPSHOT_EVERY == 0:
            factor = population.couplings().factor(kernels)
            jacobian += factor.first_moment(), factor.second_moment()
            looks += 1
        log_square[t + 1] = log_square[t] + population.rescale()
    return Sample(
        second_moment=float(moments[0] / steps),
        memory=float(moments[1] / steps) if cell.has_readout else None,
        keep_times=1.0 / np.maximum(1.0 - keep / steps, 1.0 / _LARGEST_TIME),
        log_square=log_square,
        jacobian_square=float(jacobian[0] / looks),
        jacobian_second=float(jacobian[1] / looks),
        settled=settling.settled,
    )
