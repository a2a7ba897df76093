"""Sequences of thousands of steps: units that remember for longer than a run, or are rarer than a sample shows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from critinit import generate
from critinit.simulation import simulate
from critinit.spec.overrides import override
from critinit.theory.analysis import untied_numbers
from critinit.theory.comparing import comparisons
from critinit.theory.protocol import DRIFTING, pilot_steps
from critinit.theory.settling import first_burn_in
from critinit.theory.tied.solution import tied_layer
from critinit.theory.widths import excess

NO_KERNELS = ['layers.0.gates.*.recurrent={"distribution": "zero"}']


def without_kernels(scheme, T):
    """A GRU of independent units: the untied theory is exact for weights that stay too."""
    return override(generate("gru", T=T, scheme=scheme), NO_KERNELS)


def exact(spec):
    """Steps -> ln of what is left after so many, by quadrature."""

    def left(steps):
        at = spec.model_copy(update={"T": steps})
        return steps * math.log(untied_numbers(at, at.layers[0]).chi_over_T)

    return left


@pytest.fixture(scope="module")
def rare():
    """Of 300 units none has the time constants that carry what 6,000 steps leave."""
    return without_kernels("uniform_gate", 6000)


def sampled(spec, beyond):
    cell, layer = spec.find_cell(), spec.layers[0]
    return tied_layer(cell, layer, T=spec.T, particles=300, tolerance=1.0, beyond=beyond)


def test_a_sample_is_continued_where_it_tells_no_more(rare):
    found, left = sampled(rare, exact(rare)), exact(rare)(rare.T)
    assert math.log(found.retention) == pytest.approx(left, abs=0.2)
    error = found.standard_error["retention"] / found.retention
    assert abs(math.log(found.retention) - left) < 3.0 * error < 1.0
    assert "continued to T = 6000 by the fast estimate" in " ".join(found.notes)


def test_what_continues_it_wrongly_shows_in_the_error(rare):
    """Half the time scale: the two differ by half of the logarithm while both are there, and perhaps after it."""
    found = sampled(rare, lambda steps: 2.0 * exact(rare)(steps))
    error = found.standard_error["chi_over_T"] / found.chi_over_T * rare.T
    assert error > 0.4 * abs(exact(rare)(rare.T))
    assert "% off in the logarithm until then" in " ".join(found.notes)


def test_units_slower_than_the_run_have_their_past():
    """Units remember for 6,000 steps: from rest, a run of 400 has a tenth of the second moment.

    A run is so short for them that each counts once: a mean of n squares of Gaussian numbers is known to √(2/n).
    """
    spec = without_kernels("isometry", 6000)
    cell, layer = spec.find_cell(), spec.layers[0]
    expected = untied_numbers(spec, layer).second_moment
    assert pilot_steps(cell, layer) == 300
    found = tied_layer(cell, layer, T=300, particles=2000, steps=50, tolerance=1.0).second_moment
    assert found == pytest.approx(expected, rel=3.0 * math.sqrt(2.0 / (4 * 2000)))
    measured = simulate(spec, width=800, steps=50, seeds=4, weights="untied")[0].numbers
    assert measured.second_moment == pytest.approx(expected, rel=3.0 * math.sqrt(2.0 / (4 * 800)))


@pytest.mark.parametrize("T", [300, 2000])
def test_a_loop_of_gain_one_settles_before_it_is_measured(T):
    """From rest the second moment goes as Q tanh(t/T): a run of 100 steps, enough for a unit, has 5 to 30 % of it."""
    spec = generate("rnn", T=T, scheme="isometry")
    found = simulate(spec, width=128, seeds=6)[0].numbers
    compared = comparisons(spec.layers[0].predicted.tied, found, T, errors=3.0, width=128)
    assert [c.field for c in compared] == ["second_moment", "chi_over_T", "chi"]
    assert all(c.agrees for c in compared)
    assert compared[0].limit < 0.15
    assert DRIFTING not in found.notes


def test_the_first_look_waits_for_loops_that_are_slower_than_units():
    spec = override(generate("gru", T=100, scheme="isometry"), ["layers.0.gates.update.bias.mean=3"])
    cell = spec.find_cell()

    def first(gain):
        gates = "layers.0.gates.candidate"
        kernel = f'{gates}.recurrent={{"distribution": "orthogonal", "variance": {gain**2}}}'
        return first_burn_in(cell, override(spec, [kernel, f"{gates}.input.variance=0.0001"]).layers[0])

    assert first(0.0) == first(0.5) == 100
    leak = 1.0 / (1.0 + math.exp(3.0))
    for gain in (1.6, 1.9):  # the reset gate is half open: the slowest direction leaks (1 - gain/2) of a unit's leak
        assert first(gain) == pytest.approx(3.0 / (2.0 * leak * (1.0 - 0.5 * gain)), rel=0.05)
    assert first(1.9999) == 3000


def test_a_population_without_memory_starts_with_its_steady_second_moment():
    """Networks run for 3 T steps from rest instead; so they hold what the population starts with."""
    spec = generate("rnn", T=5000, scheme="isometry")
    cell, layer = spec.find_cell(), spec.layers[0]
    assert (first_burn_in(cell, layer), first_burn_in(cell, layer, filled=True)) == (14_999, 100)
    found = tied_layer(cell, layer, T=300, particles=2000, steps=50, tolerance=1.0)
    assert found.second_moment == pytest.approx(spec.layers[0].predicted.untied.second_moment, rel=0.03)
    assert DRIFTING not in found.notes


def test_a_state_that_nothing_bounds_is_said_to_drift():
    """The gates of these LSTMs read a memory without bounds, which holds some of them open."""
    spec = generate("peephole_lstm", T=300, scheme="orthogonal")
    assert DRIFTING in spec.layers[0].predicted.tied.notes
    assert DRIFTING in simulate(spec, width=48, seeds=3)[0].numbers.notes


def test_a_layer_that_forgets_within_the_run_needs_no_past():
    spec = generate("gru", T=50)
    assert pilot_steps(spec.find_cell(), spec.layers[0]) == 0


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_overlap_of_rows_raises_the_second_moment_of_narrow_networks(cell):
    """Networks of two widths that differ by 4: each has what is stated, and what is added falls as 1/N."""
    spec = generate(cell, T=1500, scheme="chrono")
    numbers = untied_numbers(spec, spec.layers[0])
    moment = numbers.second_moment if numbers.cell_second_moment is None else numbers.cell_second_moment
    name = "second_moment" if numbers.cell_second_moment is None else "cell_second_moment"
    added = []
    for width, networks in ((48, 16), (192, 6)):
        found = simulate(spec, width=width, steps=600, seeds=networks)[0].numbers
        share = excess(spec.find_cell(), spec.layers[0], numbers, width)
        measured, stated = getattr(found, name) / moment - 1.0, share / (1.0 - share)
        error = found.standard_error[name] / moment
        assert abs(measured - stated) < 3.0 * error + 8.0 / width  # and what the rows' lengths make
        assert 3.0 * error < 0.8 * stated
        added.append(measured)
    assert added[0] > 2.0 * added[1]


def test_the_limit_on_second_moments_counts_the_overlap_and_may_not_decide():
    spec = generate("gru", T=10_000, scheme="chrono")
    numbers = untied_numbers(spec, spec.layers[0])
    larger = numbers.model_copy(update={"second_moment": 4.0 * numbers.second_moment, "standard_error": None})

    def second(width):
        share = excess(spec.find_cell(), spec.layers[0], numbers, width)
        return comparisons(numbers, larger, spec.T, errors=0.0, width=width, excess=share)[0]

    assert second(128).agrees
    assert not second(128).decides
    assert not second(100_000).agrees
    assert second(100_000).decides


def test_a_note_says_where_few_units_carry_what_is_left():
    told = "fewer than 3 units carry what is left"
    found = {
        scheme: simulate(without_kernels(scheme, 1500), width=64, seeds=2, weights="untied", tangents=1)[0].numbers
        for scheme in ("uniform_gate", "chrono")
    }
    assert told in " ".join(found["uniform_gate"].notes)
    assert told not in " ".join(found["chrono"].notes)


def test_overlap_needs_two_gates_that_read_the_input():
    spec = generate("gru", T=100)
    layer = override(spec, ["layers.0.gates.update.input.variance=0", "layers.0.gates.update.recurrent.variance=0"])
    assert excess(spec.find_cell(), layer.layers[0], spec.layers[0].predicted.untied, 64) == 0.0
    assert np.isfinite(excess(spec.find_cell(), spec.layers[0], spec.layers[0].predicted.untied, 64))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_estimate_resolves_the_few_units_that_carry_what_is_left(cell):
    """Tying changes the retention of uniform_gate by some percent, at every T: its slow units are as likely as 1/T."""
    for T in (300, 3000, 30_000):
        numbers = generate(cell, T=T, scheme="uniform_gate").layers[0].predicted
        assert 1.0 < numbers.tied.retention / numbers.untied.retention < 1.15
