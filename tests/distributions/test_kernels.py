"""Kernels: the moments of what is drawn, in three ways; what ``check`` accepts and refuses; the words for tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import integrate, stats

from critinit.distributions import (
    KERNELS,
    EntryKernel,
    IdentityKernel,
    Kernel,
    KernelFamily,
    NormalKernel,
    Observed,
    OrthogonalKernel,
    TruncatedNormalKernel,
    UniformKernel,
    ZeroKernel,
    kernel,
)
from critinit.errors import ArgumentError

Array = NDArray[np.float64]

DOUBLE = 2.0**-53
Z = 4.9
"""Standard errors that a sampled moment may be off: passed by chance once in a million; the seeds are fixed."""
VARIANCES = st.floats(min_value=1e-3, max_value=1e3)
CUTS = st.floats(min_value=0.1, max_value=10)
FANS = st.sampled_from(["in", "out", "average"])
SHAPES = st.tuples(st.integers(1, 60), st.integers(1, 60))
SEEDS = st.integers(0, 2**32)


@st.composite
def entry_kernels(draw: st.DrawFn) -> EntryKernel:
    variance, fan = draw(VARIANCES), draw(FANS)
    if draw(st.booleans()):
        return TruncatedNormalKernel(variance=variance, fan=fan, cut=draw(CUTS))
    return draw(st.sampled_from([NormalKernel, UniformKernel]))(variance=variance, fan=fan)


def sampled(asked: Kernel, rows: int, columns: int, seed: int = 0) -> Array:
    return asked.sample(np.random.default_rng(seed), rows, columns)


def reference(asked: EntryKernel, rows: int, columns: int) -> Any:
    """SciPy's distribution of one entry, from the definition and not from the code."""
    deviation = math.sqrt(asked.variance / {"in": columns, "out": rows, "average": (rows + columns) / 2}[asked.fan])
    match asked:
        case NormalKernel():
            return stats.norm(0.0, deviation)
        case UniformKernel():
            return stats.uniform(-math.sqrt(3.0) * deviation, 2.0 * math.sqrt(3.0) * deviation)
        case TruncatedNormalKernel():
            wide = deviation / stats.truncnorm(-asked.cut, asked.cut).std()
            return stats.truncnorm(-asked.cut, asked.cut, scale=wide)
        case _:
            raise AssertionError(asked)


# ---- moments ---------------------------------------------------------------------------------------------


@given(entry_kernels(), SHAPES)
@settings(deadline=None, max_examples=60)
def test_the_stated_variance_is_that_of_the_entries(asked: EntryKernel, shape: tuple[int, int]) -> None:
    """In closed form, and as an integral over the entry's density."""
    rows, columns = shape
    entry = reference(asked, rows, columns)
    assert asked.variance_at(rows, columns) == pytest.approx(entry.var() * columns, rel=1e-9)
    assert asked.deviation(rows, columns) == pytest.approx(entry.std(), rel=1e-9)
    ends = entry.support() if math.isfinite(entry.support()[0]) else (-12 * entry.std(), 12 * entry.std())
    scale = entry.std()
    second = integrate.quad(lambda x: x * x * entry.pdf(x * scale) * scale, *(end / scale for end in ends), limit=200)[
        0
    ]
    assert asked.variance_at(rows, columns) == pytest.approx(second * scale**2 * columns, rel=1e-7)
    assert asked.entry_mean(columns) == 0.0


@given(entry_kernels(), SEEDS)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_sampled_entries_have_the_stated_distribution(asked: EntryKernel, seed: int) -> None:
    rows, columns = 150, 90
    x = sampled(asked, rows, columns, seed)
    entry = reference(asked, rows, columns)
    assert x.shape == (rows, columns)
    assert x.dtype == np.float64
    assert abs(x.mean()) < Z * entry.std() / math.sqrt(x.size)
    fourth = float(entry.stats("k")) + 3.0
    assert abs((x**2).mean() / entry.var() - 1.0) < Z * math.sqrt((fourth - 1.0) / x.size)
    assert stats.kstest(x.ravel(), entry.cdf).pvalue > 1e-6


@given(CUTS)
@settings(deadline=None, max_examples=60)
def test_the_shrinkage_of_a_cut_is_its_standard_deviation(cut: float) -> None:
    """1/(1 − 2cφ(c)/(2Φ(c) − 1)) is by how much the distribution before the cut is wider."""
    second, _ = integrate.quad(lambda z: z * z * stats.norm.pdf(z), -cut, cut, epsabs=1e-14)
    share, _ = integrate.quad(stats.norm.pdf, -cut, cut, epsabs=1e-14)
    assert TruncatedNormalKernel(variance=1.0, cut=cut).shrinkage == pytest.approx(math.sqrt(second / share), rel=1e-9)


def test_the_habit_of_the_frameworks_is_a_cut_at_two() -> None:
    """Their ``variance_scaling`` divides by the number .87962566103423978."""
    assert TruncatedNormalKernel(variance=1.0).shrinkage == pytest.approx(0.87962566103423978, rel=1e-14)
    assert np.abs(sampled(TruncatedNormalKernel(variance=1.0), 200, 200)).max() < 2.0 / 0.8796 / math.sqrt(200)


@given(st.integers(1, 400), st.integers(1, 400))
@settings(deadline=None)
def test_variance_one_over_the_average_fan_is_glorots(units: int, coordinates: int) -> None:
    """Glorot & Bengio 2010: normal of variance 2/(fan-in + fan-out), uniform between ±√(6/(fan-in + fan-out))."""
    normal, uniform = (kernel(name, 1.0, fan="average") for name in ("normal", "uniform"))
    assert isinstance(normal, EntryKernel)
    assert isinstance(uniform, UniformKernel)
    assert normal.deviation(units, coordinates) == pytest.approx(math.sqrt(2.0 / (units + coordinates)), rel=1e-12)
    assert uniform.bound(units, coordinates) == pytest.approx(math.sqrt(6.0 / (units + coordinates)), rel=1e-12)
    assert np.abs(sampled(uniform, units, coordinates)).max() <= math.sqrt(6.0 / (units + coordinates)) * (1 + 1e-12)
    assert normal.variance_at(units, coordinates) == pytest.approx(2.0 * coordinates / (units + coordinates), rel=1e-12)


def test_the_default_fan_is_fan_in_and_is_not_written() -> None:
    assert kernel("normal", 0.5).model_dump(mode="json") == {"distribution": "normal", "variance": 0.5}
    assert kernel("normal", 0.5, fan="in") == kernel("normal", 0.5)
    assert kernel("truncated_normal", 0.5, cut=2.0).model_dump(mode="json") == {
        "distribution": "truncated_normal",
        "variance": 0.5,
    }
    assert kernel("truncated_normal", 0.5, cut=3.0, fan="out", max_learning_rate=1e-3).model_dump(mode="json") == {
        "distribution": "truncated_normal",
        "variance": 0.5,
        "cut": 3.0,
        "fan": "out",
        "max_learning_rate": 1e-3,
    }


@given(VARIANCES, st.integers(1, 40), SEEDS)
@settings(deadline=None, max_examples=30)
def test_an_orthogonal_kernel_stretches_every_vector_by_its_gain(variance: float, units: int, seed: int) -> None:
    asked = OrthogonalKernel(variance=variance)
    w = sampled(asked, units, units, seed)
    assert np.abs(w @ w.T / variance - np.eye(units)).max() < 1e-12
    assert asked.gain == math.sqrt(variance) == pytest.approx(math.sqrt(asked.variance_at(units, units)))
    first = sampled(asked, max(1, units // 2), units, seed)
    assert np.abs(first @ first.T / variance - np.eye(len(first))).max() < 1e-12


def test_the_entries_of_an_orthogonal_kernel_have_the_stated_variance() -> None:
    """E w² = gain²/H exactly, for every H; the mean over matrices has the standard error of the entries' squares."""
    for units in (2, 3, 8):
        w = np.array([sampled(OrthogonalKernel(variance=0.7), units, units, seed) for seed in range(2000)])
        squares = w[:, 0, 0] ** 2 * units / 0.7
        assert abs(squares.mean() - 1.0) < Z * squares.std() / math.sqrt(len(squares))
        assert abs(w[:, 0, 0].mean()) < Z * w[:, 0, 0].std() / math.sqrt(len(w))


@given(VARIANCES, st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_an_identity_kernel_is_its_gain_on_the_diagonal(variance: float, units: int) -> None:
    asked = IdentityKernel(variance=variance)
    w = sampled(asked, units, units)
    assert (w == math.sqrt(variance) * np.eye(units)).all()
    assert w.mean() == pytest.approx(asked.entry_mean(units), rel=1e-12)
    assert w.sum(axis=1) == pytest.approx(np.full(units, asked.gain))


def test_a_zero_kernel_is_zero_and_draws_nothing() -> None:
    def never() -> np.random.Generator:
        raise AssertionError("nothing is drawn")

    assert not ZeroKernel().sample(never, 3, 5).any()
    assert not kernel("spectral_radius", spectral_radius=0.0).sample(never, 4, 4).any()
    assert (kernel("identity", 4.0).sample(never, 2, 2) == 2.0 * np.eye(2)).all()


def test_a_generator_and_a_function_that_makes_one_draw_the_same() -> None:
    for name, kind in KERNELS.built_in.items():
        others = {"spectral_radius": {"spectral_radius": 0.9}, "rotation": {"variance": 0.4, "concentration": 0.5}}
        asked = kernel(name, **others.get(name, {"variance": 0.0 if name == "zero" else 0.4}))
        assert isinstance(asked, kind)
        made = asked.sample(lambda: np.random.default_rng(3), 6, 6)
        assert (made == asked.sample(np.random.default_rng(3), 6, 6)).all()


# ---- what a kernel says of itself ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (kernel("normal", 1e-5), "normal, variance 1e-05"),
        (kernel("normal", 0.123456), "normal, variance 0.1235"),
        (kernel("uniform", 1.0, fan="average"), "uniform, variance 1 over the average fan"),
        (kernel("uniform", 1.0, fan="out"), "uniform, variance 1 over fan-out"),
        (kernel("truncated_normal", 2.0), "truncated_normal, variance 2, cut at 2 deviations"),
        (kernel("orthogonal", 4.0), "orthogonal, gain 2"),
        (kernel("identity", 0.25), "identity, gain 0.5"),
        (kernel("zero", 0.0), "zero"),
        (kernel("spectral_radius", spectral_radius=0.9), "spectral radius 0.9"),
        (kernel("spectral_radius", spectral_radius=0.9, density=0.1), "spectral radius 0.9, density 0.1"),
    ],
)
def test_it_describes_itself(asked: Kernel, words: str) -> None:
    assert asked.describe() == words


@pytest.mark.parametrize(
    ("name", "family", "is_square"),
    [
        ("normal", KernelFamily.INDEPENDENT, False),
        ("uniform", KernelFamily.INDEPENDENT, False),
        ("truncated_normal", KernelFamily.INDEPENDENT, False),
        ("orthogonal", KernelFamily.HAAR, True),
        ("identity", KernelFamily.DIAGONAL, True),
        ("zero", KernelFamily.DIAGONAL, False),
        ("spectral_radius", KernelFamily.INDEPENDENT, True),
    ],
)
def test_its_family_and_shape(name: str, family: KernelFamily, is_square: bool) -> None:
    asked = (
        kernel(name, spectral_radius=1.0) if name == "spectral_radius" else kernel(name, 0.0 if name == "zero" else 1.0)
    )
    assert (asked.family, asked.is_square) == (family, is_square)
    assert asked.keeps_angles is (family is not KernelFamily.INDEPENDENT)
    assert asked.reads_itself is (name == "identity")
    assert asked.is_zero is (name == "zero")
    assert asked.problem(4, 4) is None
    wanted = f"{name}, for a kernel of shape (4, 3), which is not square" if is_square else None
    assert asked.problem(4, 3) == wanted


def test_an_unknown_distribution_has_no_answer() -> None:
    with pytest.raises(
        ArgumentError, match=r"^kernel distribution: found 'norml'; allowed: normal, .*; did you mean 'normal'\?"
    ):
        kernel("norml", 1.0)


@pytest.mark.parametrize(
    "parameters",
    [
        {"distribution": "normal", "variance": -1.0},
        {"distribution": "normal"},
        {"distribution": "normal", "variance": 1.0, "fan": "both"},
        {"distribution": "zero", "variance": 1.0},
        {"distribution": "truncated_normal", "variance": 1.0, "cut": 0.01},
        {"distribution": "orthogonal", "variance": 1.0, "fan": "out"},
        {"distribution": "identity", "variance": math.inf},
        {"distribution": "uniform", "variance": 1.0, "max_learning_rate": -1.0},
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kernel(**parameters)


# ---- check -----------------------------------------------------------------------------------------------

CHECKED = [
    kernel("normal", 0.7),
    kernel("normal", 0.7, fan="out"),
    kernel("uniform", 0.7, fan="average"),
    kernel("truncated_normal", 0.7),
    kernel("truncated_normal", 0.7, cut=0.5),
    kernel("orthogonal", 0.7),
    kernel("identity", 0.7),
    kernel("spectral_radius", spectral_radius=0.9),
    kernel("spectral_radius", spectral_radius=0.9, density=0.3),
    kernel("zero", 0.0),
]


def outcomes(asked: Kernel, x: Array) -> dict[str, tuple[float, bool]]:
    return {o.name: (o.p, o.exact) for o in asked.check(Observed(x, DOUBLE, float(np.abs(x).max())))}


def shape_of(asked: Kernel) -> tuple[int, int]:
    return (20, 20) if asked.is_square else (20, 14)


@pytest.mark.parametrize("asked", CHECKED, ids=lambda k: k.describe())
def test_it_accepts_its_own_samples_at_the_stated_rate(asked: Kernel) -> None:
    """Of 400 samples, those with p below a are no more than a binomial number of that rate, test by test."""
    found = [outcomes(asked, sampled(asked, *shape_of(asked), seed)) for seed in range(400)]
    for name, (_, exact) in found[0].items():
        ps = np.array([row[name][0] for row in found])
        if exact:
            assert (ps == 1.0).all(), name
        else:
            for level in (0.1, 0.01):
                assert (ps < level).sum() <= stats.binom.ppf(1 - 1e-6, len(ps), level), name


@pytest.mark.parametrize("asked", CHECKED, ids=lambda k: k.describe())
def test_it_refuses_what_is_not_its_own(asked: Kernel) -> None:
    """Another scale, another offset, another matrix of the same size."""
    rows, columns = (64, 64) if asked.is_square else (64, 48)
    x = sampled(asked, rows, columns, 5)
    deviation = asked.gain / math.sqrt(columns)
    other = np.random.default_rng(6).laplace(0.0, deviation / math.sqrt(2.0) or 1.0, x.shape)
    planted = {"half as large again": 1.5 * x, "shifted": x + 0.3 * (deviation or 1.0), "another distribution": other}
    if asked.is_zero:
        planted.pop("half as large again")
    for what, values in planted.items():
        assert min(p for p, _ in outcomes(asked, values).values()) < 1e-6, what
    assert min(p for p, _ in outcomes(asked, x).values()) > 1e-4


# ---- rotations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concentration", [0.0, 0.3, 0.9])
def test_the_phases_of_a_rotation_are_wrapped_cauchy(concentration: float) -> None:
    """E cos kθ = aᵏ over many matrices; every matrix is orthogonal times the gain."""
    asked, size, count = kernel("rotation", 1.44, concentration=concentration), 24, 200
    found = [sampled(asked, size, size, seed) / 1.2 for seed in range(count)]
    assert max(np.abs(w @ w.T - np.eye(size)).max() for w in found) < 1e-12
    for k in (1, 2, 3):
        traces = np.array([np.trace(np.linalg.matrix_power(w, k)) / size for w in found])
        # an orthogonal matrix has eigenvalues in pairs, and ±1 more often than a unitary one: of order 1/size
        assert abs(traces.mean() - concentration**k) < Z * traces.std() / math.sqrt(count) + 1.5 / size


def test_the_phases_have_the_quantiles_of_scipys_wrapped_cauchy() -> None:
    phases = np.concatenate(
        [
            np.angle(np.linalg.eigvals(sampled(kernel("rotation", 1.0, concentration=0.6), 100, 100, seed)))
            for seed in range(20)
        ]
    )
    exact = stats.wrapcauchy(0.6)
    inside = phases[phases != 0.0] % (2.0 * math.pi)
    for q in (0.1, 0.25, 0.4, 0.6, 0.9):
        assert abs(np.mean(inside < exact.ppf(q)) - q) < 0.015


@pytest.mark.parametrize("size", [2, 10, 64, 300])
def test_check_accepts_rotations_and_refuses_other_phases(size: int) -> None:
    asked = kernel("rotation", 1.1, concentration=0.8)
    w = sampled(asked, size, size, seed=4)
    for dtype in (np.float64, np.float32):
        observed = Observed(w.astype(dtype).astype(np.float64), float(np.finfo(dtype).eps) / 2, np.abs(w).max())
        assert all(test.p > 1e-6 for test in asked.check(observed)), (size, dtype)
    if size >= 10:
        other = sampled(kernel("orthogonal", 1.1), size, size, seed=4)
        assert min(test.p for test in asked.check(Observed(other, DOUBLE, 1.0))) < 1e-6
        assert min(test.p for test in kernel("orthogonal", 1.1).check(Observed(w, DOUBLE, 1.0))) < 1e-6


def test_a_spectrum_decides_how_many_planes_turn_by_an_angle() -> None:
    """Of 1000 planes each bin has its share, in even steps, and a bin without power has none."""
    asked = kernel("rotation", 1.0, spectrum=(2.0, 0.0, 5.0, 1.0))
    angles = asked.angles(1000)
    counts, _ = np.histogram(angles, np.linspace(0.0, math.pi, 5))
    assert counts.tolist() == [250, 0, 625, 125]
    within = np.diff(angles[250:875])
    assert within == pytest.approx(math.pi / 4 / 625 * np.ones(624))
    even = kernel("rotation", 1.0, spectrum=(3.0, 3.0)).angles(7)
    assert even == pytest.approx(kernel("rotation", 1.0).angles(7))
    w = sampled(asked, 20, 20, seed=0)
    assert np.sort(np.angle(np.linalg.eigvals(w)))[10:] == pytest.approx(asked.angles(10))
    assert asked.describe() == "rotation, gain 1, angles by a spectrum"


@pytest.mark.parametrize(
    "changes",
    [
        {"spectrum": (0.0, 0.0)},
        {"spectrum": (1.0,)},
        {"spectrum": (1.0, -1.0)},
        {"spectrum": (1.0, 2.0), "concentration": 0.3},
    ],
)
def test_a_spectrum_that_is_none_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="spectrum"):
        kernel("rotation", 1.0, **changes)
