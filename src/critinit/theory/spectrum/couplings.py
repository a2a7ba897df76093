"""The couplings of units in the stationary state of an infinitely wide network, and the spectral edge they make.

J has fixed diagonals at a given time, and eigenvalues at λ where perturbations of its resolvent feed themselves: with
a, a_k, e_k and b_kl as in ``tied.jacobian`` the matrix over gates

    A_kl(λ) = σ_l² E|b_kl + e_k a_l/(λ − a)|²

has spectral radius 1 at the edge of the eigenvalues, above it inside.  One gate: 1 = σ² E[a_k² e_k²/|λ − a|²].
Normal, uniform and orthogonal kernels share the outer edge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from critinit.cells import Cell
from critinit.distributions import Kernel
from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.roots import excess_over_one, falling_root
from critinit.spec import Layer
from critinit.theory.protocol import STEADY, Inputs, follow_steps, longest_burn_in
from critinit.theory.settling import first_burn_in
from critinit.theory.tied.biases import draw_biases
from critinit.theory.tied.fields import Field
from critinit.theory.tied.growth import settle
from critinit.theory.tied.jacobian import Couplings
from critinit.theory.tied.particles import Population

__all__ = ["sampled_couplings", "self_feeding", "spectral_edge"]

_FORGOTTEN = 100
"""Steps between two snapshots, at most: slower units are alike in both, and more steps cost time."""
_FIRST_STEP = 1.0
"""Of λ, from the largest a of the units upwards: eigenvalues are of order 1."""
_ACCURACY = 1e-9
"""Of λ: far below what sampling the units leaves open."""


def sampled_couplings(
    cell: Cell,
    layer: Layer,
    *,
    T: int,
    tied: bool = True,
    particles: int = 1000,
    snapshots: int = 4,
    seed: int | tuple[int, ...] = 0,
    inputs: Inputs = STEADY,
    below: Sequence[Layer] = (),
) -> Couplings:
    """Return the couplings of units of the stationary state, (…, particles·snapshots).

    Args:
        cell: The cell.
        layer: The layer, reduced.
        T: Sequence length, which bounds the burn-in.
        tied: Whether the weights stay.
        particles: Number of units.
        snapshots: Number of times, apart by what the median unit takes to forget, at most 100 steps.
        seed: Seed of the random numbers.
        inputs: The course of the inputs in time.
        below: The layers whose states reach this one, lowest first.

    Raises:
        ArgumentError: A number is out of its range.
    """
    for name, number, least in (("particles", particles, 2), ("snapshots", snapshots, 1)):
        if number < least:
            raise ArgumentError(name, found=str(number), allowed=f"at least {least}")
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    population = Population(cell, layer, particles, rng, inputs=inputs, below=below)

    def step() -> float:
        if not tied:
            _redraw(population)
        population.step(-1)
        return float(np.mean(population.h**2))

    if cell.is_of_one_step:
        population.fill(0)
    first = first_burn_in(cell, layer, below, filled=True)
    settle(step, first, longest_burn_in(layer, first, follow_steps(T)))
    found = [population.couplings()]
    keep = float(np.median(cell.keep(population.u)))
    apart = math.ceil(min(1.0 / max(1.0 - keep, 1.0 / _FORGOTTEN), _FORGOTTEN))
    for _ in range(snapshots - 1):
        for _ in range(apart):
            step()
        found.append(population.couplings())
    return _joined(found)


def _redraw(population: Population) -> None:
    """New kernels, and with them normal biases; biases that are spread over units stay with their unit."""
    rng, count, gates = population.rng, population.particles, population.layer.gates
    fields = {m: Field(count, f.gains, rng, recent=1) for m, f in population.states.fields.items()}
    population.states = replace(population.states, fields=fields)
    drawn = draw_biases(gates, count, lambda bias: rng.random(count))
    population.biases = {
        name: drawn[name] if gates.followed(name)[1].redrawn_variance else bias
        for name, bias in population.biases.items()
    }


def _joined(parts: list[Couplings]) -> Couplings:
    names, shape = parts[0].names, parts[0].update.shape

    def side_by_side(blocks: list[Array]) -> Array:
        return np.concatenate([np.broadcast_to(x, shape).reshape(1 + len(names), -1) for x in blocks], axis=1)

    messages = {n: side_by_side([p.messages[n] for p in parts]) for n in names}
    return Couplings(names, side_by_side([p.update for p in parts]), messages)


def self_feeding(couplings: Couplings, kernels: Mapping[str, Kernel], eigenvalue: complex) -> float:
    """Return the spectral radius of A(λ): above 1 where J has a density of eigenvalues, below 1 outside of its edge.

    It is infinite on the diagonal a itself, where a kernel acts.
    """
    names, by = couplings.names, couplings.update
    if not names:
        return 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        response = np.where(by[1:] == 0.0, 0.0, by[1:] / (eigenvalue - by[0]))
    matrix = np.empty((len(names), len(names)))
    for i, name in enumerate(names):
        message = np.broadcast_to(couplings.messages[name], by.shape)
        through = message[1:] + message[0] * response
        matrix[i] = np.mean(np.abs(through) ** 2, axis=1)
    matrix *= np.array([kernels[n].variance for n in names])
    return float(np.max(np.abs(np.linalg.eigvals(matrix)))) if np.all(np.isfinite(matrix)) else math.inf


def spectral_edge(couplings: Couplings, kernels: Mapping[str, Kernel]) -> float:
    """Return the largest real eigenvalue λ of J at infinite width, to 1e-9: where ``self_feeding`` falls to 1.

    It is at least max a over the units that were sampled, which are eigenvalues by themselves where no kernel acts.
    """
    low = float(np.max(couplings.update[0]))

    def feeding(x: float) -> float:
        return excess_over_one(self_feeding(couplings, kernels, x))

    return falling_root(feeding, low, _FIRST_STEP, _ACCURACY)
