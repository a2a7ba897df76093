"""Reservoirs: an exact spectral radius, a density, and theory against simulated networks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from critinit import InitSpec, Numbers, predict
from critinit.distributions import SpectralRadiusKernel
from critinit.errors import ArgumentError
from critinit.simulation import simulate
from critinit.spec.reading import validate_object

WIDTH = 300


@given(st.floats(min_value=1e-3, max_value=10), st.floats(min_value=0.5, max_value=1), st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_the_radius_is_exact(radius: float, density: float, seed: int) -> None:
    w = SpectralRadiusKernel(spectral_radius=radius, density=density).sample(np.random.default_rng(seed), 20, 20)
    assert np.abs(np.linalg.eigvals(w)).max() == pytest.approx(radius, rel=1e-9)


@pytest.mark.parametrize("density", [0.02, 0.3, 1.0])
def test_the_density_is_the_share_of_entries_that_are_there(density: float) -> None:
    w = SpectralRadiusKernel(spectral_radius=0.9, density=density).sample(np.random.default_rng(0), WIDTH, WIDTH)
    there = np.count_nonzero(w) / w.size
    assert abs(there - density) <= 4.9 * math.sqrt(density * (1 - density) / w.size)


def test_the_entries_that_are_there_are_normal() -> None:
    w = SpectralRadiusKernel(spectral_radius=0.9, density=0.3).sample(np.random.default_rng(0), WIDTH, WIDTH)
    entries = w[w != 0]
    unit = entries / entries.std()
    assert abs(unit.mean()) < 4.9 / math.sqrt(unit.size)
    assert abs((unit**4).mean() - 3.0) < 4.9 * math.sqrt(96.0 / unit.size)


@given(st.floats(min_value=0, max_value=1e50))
def test_the_variance_is_the_square_of_the_radius(radius: float) -> None:
    asked = SpectralRadiusKernel(spectral_radius=radius)
    assert asked.variance == pytest.approx(radius**2, rel=1e-11)
    assert asked == SpectralRadiusKernel.model_validate(asked.model_dump(mode="json"))
    assert asked.model_copy(update={"spectral_radius": 0.5}).variance == 0.25


@pytest.mark.parametrize(
    "parameters",
    [
        {"spectral_radius": -0.1},
        {"spectral_radius": 1e51},
        {"spectral_radius": 0.9, "density": 0.0},
        {"spectral_radius": 0.9, "density": 1.1},
        {"spectral_radius": 0.9, "variance": 0.9},
        {"variance": 0.81},
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SpectralRadiusKernel.model_validate(parameters)


def test_a_matrix_without_a_cycle_has_no_radius_to_scale() -> None:
    with pytest.raises(ArgumentError, match=r"^density: found 0.001 for 5 units; the matrix drawn has no cycle"):
        SpectralRadiusKernel(spectral_radius=0.9, density=0.001).sample(np.random.default_rng(0), 5, 5)


def reservoir(radius: float, density: float, input_variance: float, distribution: str = "spectral_radius") -> InitSpec:
    """A tanh network; ``distribution`` normal: of the variance ``radius``²."""
    recurrent = {"distribution": "spectral_radius", "spectral_radius": radius, "density": density}
    if distribution == "normal":
        recurrent = {"distribution": "normal", "variance": radius**2}
    gate = {
        "recurrent": recurrent,
        "input": {"distribution": "normal", "variance": input_variance},
        "bias": {"distribution": "constant", "mean": 0.0},
    }
    layer = {"input": {"variance": 1.0}, "gates": {"hidden": gate}}
    head = {"schema_version": 1, "cell": "rnn", "scheme": "reservoir", "T": 50}
    return predict(validate_object({**head, "layers": [layer]}))


def tied(spec: InitSpec) -> Numbers:
    found = spec.layers[0].predicted.tied
    assert isinstance(found, Numbers)
    return found


@pytest.mark.parametrize(("radius", "density", "input_variance"), [(0.9, 1.0, 0.1), (0.9, 0.1, 0.1), (1.2, 0.1, 0.3)])
def test_theory_holds_for_simulated_reservoirs(radius: float, density: float, input_variance: float) -> None:
    """With the variance that drawn matrices have: at a finite width it is less than the squared radius."""
    kernel = SpectralRadiusKernel(spectral_radius=radius, density=density)
    drawn = [np.sum(kernel.sample(np.random.default_rng(seed), WIDTH, WIDTH) ** 2) / WIDTH for seed in range(8)]
    share, share_error = np.mean(drawn) / radius**2, np.std(drawn) / radius**2 / math.sqrt(len(drawn))
    assert 0.90 < share < 0.97
    (measured,) = simulate(reservoir(radius, density, input_variance), width=WIDTH, weights="tied", seeds=8, seed=1)
    assert measured is not None
    numbers, errors = measured.numbers, measured.numbers.standard_error
    assert errors is not None
    expected = tied(reservoir(radius * math.sqrt(float(share)), density, input_variance))
    for name in ("chi", "second_moment"):
        error, value = errors[name], getattr(expected, name)
        assert error is not None
        assert abs(getattr(numbers, name) - value) < 4.0 * math.hypot(error, value * share_error) + 0.01 * value, name
    nominal = tied(reservoir(radius, density, input_variance))
    assert 0.92 * nominal.chi < numbers.chi < nominal.chi


def test_theory_reads_the_kernel_as_a_gaussian_one() -> None:
    ours, gaussian = (reservoir(0.9, 0.2, 0.1, name).layers[0].predicted for name in ("spectral_radius", "normal"))
    assert ours == gaussian
