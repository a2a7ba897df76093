"""Goodness-of-fit tests: false alarms no more often than stated, and what breaks each distribution is seen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from critinit.distributions import BIASES, KERNELS, NormalBias, Observed, SpreadBias, haar
from critinit.distributions.goodness import COMPARED
from critinit.tensors.sampling import draw, draws_of
from critinit.weights.checking import check
from critinit.weights.comparing import compare
from critinit.weights.materializing import materialize
from tests.adapters.specs import GATES, make_spec

pytestmark = pytest.mark.slow

SINGLE = 2.0**-24


def kernel_of(wanted):
    return KERNELS.get(wanted["distribution"])(**{key: value for key, value in wanted.items() if key != "distribution"})


def bias_of(wanted):
    return BIASES.get(wanted["distribution"])(**{key: value for key, value in wanted.items() if key != "distribution"})


def drawn(part, asked, rows=32, columns=32):
    """A draw of that distribution."""
    spec = make_spec("rnn", **{"bias": asked} if part == "bias" else {})
    found = draws_of(spec, 0, seed=0, input_size=columns, hidden_size=rows)[0].draws["hidden", part]
    return found if part == "bias" else replace(found, distribution=kernel_of(asked), shape=(rows, columns))


def outcomes(asked, x, roundoff=SINGLE):
    x = np.asarray(x, dtype=np.float64)
    return {o.name: o for o in compare(asked, Observed(x, roundoff, float(np.abs(x).max())))}


def sample(asked, rng):
    """As ``draw.sample``, spread biases independent over units too; where it can be, by NumPy alone."""
    distribution, shape = asked.distribution, asked.shape
    match distribution.distribution:
        case "normal" if isinstance(distribution, NormalBias):
            return distribution.mean + math.sqrt(distribution.variance) * rng.standard_normal(shape)
        case "normal":
            return math.sqrt(distribution.variance / shape[1]) * rng.standard_normal(shape)
        case "uniform":
            bound = math.sqrt(3 * distribution.variance / shape[1])
            return rng.uniform(-bound, bound, shape)
        case "truncated_normal":
            deviation = math.sqrt(distribution.variance / shape[1])
            return truncated(rng, distribution.cut, shape) * (deviation / spread_within(distribution.cut))
        case "orthogonal":
            return math.sqrt(distribution.variance) * haar(rng, *shape)
        case "spectral_radius":
            return reservoir(rng, shape[0], distribution.spectral_radius, distribution.density)
        case _:
            return distribution.quantile(rng.random(shape))


def truncated(rng, cut, shape):
    """Standard normal numbers, those beyond the cut drawn again."""
    x = rng.standard_normal(shape)
    while (far := np.abs(x) > cut).any():
        x[far] = rng.standard_normal(far.sum())
    return x


def spread_within(cut):
    """The standard deviation of a standard normal number within the cut."""
    return stats.truncnorm(-cut, cut).std()


def reservoir(rng, units, radius, density):
    """A sparse normal matrix of that spectral radius; as critinit does, one without a cycle is not taken."""
    while True:
        w = rng.standard_normal((units, units)) * (rng.random((units, units)) < density)
        found = np.abs(np.linalg.eigvals(w)).max()
        if found > 1e-3:
            return w * (radius / found)


DISTRIBUTIONS = [
    *(
        ("recurrent", {"distribution": name, "variance": 0.7}, rows, columns)
        for name in ("normal", "uniform")
        for rows, columns in ((32, 32), (32, 1), (9, 4))
    ),
    *(
        ("recurrent", {"distribution": "truncated_normal", "variance": 0.7, "cut": cut}, rows, columns)
        for cut, rows, columns in ((2.0, 32, 32), (0.5, 9, 4), (4.0, 32, 1))
    ),
    ("recurrent", {"distribution": "orthogonal", "variance": 0.7}, 32, 32),
    ("recurrent", {"distribution": "orthogonal", "variance": 0.7}, 3, 3),
    *(
        ("recurrent", {"distribution": "spectral_radius", "spectral_radius": 0.9, "density": density}, 32, 32)
        for density in (1.0, 0.3)
    ),
    ("bias", {"distribution": "normal", "mean": 1.0, "variance": 0.7}, 32, 1),
    *(
        ("bias", {"distribution": name, "min_time": 1.5, "max_time": 80.0}, 32, 1)
        for name in ("log_uniform_time", "uniform_time", "uniform_gate")
    ),
]


@pytest.mark.parametrize(("part", "wanted", "rows", "columns"), DISTRIBUTIONS, ids=str)
def test_every_p_is_a_probability_or_larger(part, wanted, rows, columns):
    """Of 1000 samples, those with p < a are no more than a binomial number with probability a."""
    asked = drawn(part, wanted, rows, columns)
    rng = np.random.default_rng(11)
    found = [compare(asked, Observed(sample(asked, rng), SINGLE, 10.0)) for _ in range(1000)]
    assert all(o.p == 1.0 for row in found for o in row if o.exact)
    chances = np.array([[o.p for o in row if not o.exact] for row in found])
    assert chances.shape[1] >= 1
    for level in (0.1, 0.01, 0.001):
        alarms = (chances < level).sum(axis=0)
        assert (alarms <= stats.binom.ppf(1 - 1e-5, 1000, level)).all(), (level, alarms)


@pytest.mark.parametrize("distribution", ["log_uniform_time", "uniform_time", "uniform_gate"])
def test_the_distribution_function_inverts_the_quantile(distribution):
    q = np.linspace(0, 1, 101)
    bias = bias_of({"distribution": distribution, "min_time": 1.2, "max_time": 700.0})
    assert isinstance(bias, SpreadBias)
    np.testing.assert_allclose(bias.share_below(bias.quantile(q)), q, atol=1e-9)
    np.testing.assert_allclose(bias.share_below(np.array([-99.0, 99.0])), [0, 1], atol=1e-15)


NORMAL = {"distribution": "normal", "variance": 1.0}
UNIFORM = {"distribution": "uniform", "variance": 1.0}
ORTHOGONAL = {"distribution": "orthogonal", "variance": 1.0}
rng = np.random.default_rng(5)
G = rng.standard_normal((128, 128)) / math.sqrt(128)
U = rng.uniform(-1, 1, (128, 128)) * math.sqrt(3 / 128)
Q = haar(rng, 128, 128)
BLOCKS = np.kron(np.eye(8), haar(rng, 16, 16))
TRUNCATED = {"distribution": "truncated_normal", "variance": 1.0}
X = truncated(rng, 2.0, (128, 128)) / (spread_within(2.0) * math.sqrt(128))
ROTATION = {"distribution": "rotation", "variance": 1.0, "concentration": 0.5}
RESERVOIR = {"distribution": "spectral_radius", "spectral_radius": 0.9, "density": 0.1}
DENSE = RESERVOIR | {"density": 1.0}
S, D = (reservoir(rng, 128, 0.9, density) for density in (0.1, 1.0))


@pytest.mark.parametrize(
    ("wanted", "values", "seen"),
    [
        (NORMAL, G, set()),
        (NORMAL, 1.05 * G, {"variance"}),
        (NORMAL, G + 0.005, {"mean"}),
        (NORMAL, U, {"shape"}),
        (NORMAL, Q, {"rows"}),
        (NORMAL, np.zeros_like(G), {"variance", "shape", "rows"}),
        (UNIFORM, U, set()),
        (UNIFORM, 0.95 * U, {"variance"}),
        (UNIFORM, 1.05 * U, {"range", "variance"}),
        (UNIFORM, G, {"range"}),
        (ORTHOGONAL, Q.astype(np.float32), set()),
        (ORTHOGONAL, 1.001 * Q, {"orthogonal"}),
        (ORTHOGONAL, G, {"orthogonal"}),
        (ORTHOGONAL, np.eye(128), {"mean", "largest entry"}),
        (ORTHOGONAL, np.eye(128)[rng.permutation(128)], {"mean", "largest entry"}),
        (ORTHOGONAL, BLOCKS, {"largest entry"}),
        ({"distribution": "identity", "variance": 1.0}, np.eye(128), set()),
        ({"distribution": "identity", "variance": 1.0}, Q, {"identity"}),
        ({"distribution": "identity", "variance": 4.0}, np.eye(128), {"identity"}),
        ({"distribution": "zero", "variance": 0.0}, np.zeros((128, 128)), set()),
        ({"distribution": "zero", "variance": 0.0}, 1e-9 * G, {"all zero"}),
        ({"distribution": "normal", "variance": 0.0}, 1e-9 * G, {"all zero"}),
        (NORMAL, np.where(3 * G.std() < G, np.nan, G), {"finite"}),
        (TRUNCATED, X, set()),
        (TRUNCATED, X.astype(np.float32), set()),
        (TRUNCATED, G, {"range"}),
        (TRUNCATED, 0.95 * X, {"variance"}),
        (TRUNCATED, 0.97 * X + 0.005, {"mean"}),
        (TRUNCATED, U, {"shape"}),
        (TRUNCATED, 1.05 * X, {"range"}),
        (TRUNCATED, 0.9 * X, {"variance", "shape"}),
        (TRUNCATED | {"cut": 1.5}, X, {"range"}),
        (TRUNCATED | {"cut": 3.0}, U, {"shape"}),
        (RESERVOIR, S, set()),
        (RESERVOIR, S.astype(np.float32), set()),
        (RESERVOIR, S.T, set()),
        (RESERVOIR, 1.01 * S, {"spectral radius"}),
        (RESERVOIR, 0.99 * S, {"spectral radius"}),
        (RESERVOIR, G, {"spectral radius", "density"}),
        (RESERVOIR, D, {"density"}),
        (RESERVOIR, np.abs(S) * (0.9 / np.abs(np.linalg.eigvals(np.abs(S))).max()), {"signs"}),
        (RESERVOIR, np.zeros_like(S), {"spectral radius", "density"}),
        (DENSE, D, set()),
        (DENSE, S, {"density"}),
        (DENSE, 0.9 * G, {"spectral radius"}),
    ],
)
def test_what_breaks_a_kernels_distribution(wanted, values, seen):
    found = outcomes(drawn("recurrent", wanted, 128, 128), values)
    assert {name for name, o in found.items() if o.p < 1e-6} >= seen
    if not seen:
        assert min(o.p for o in found.values()) > 1e-4


CONSTANT = {"distribution": "constant", "mean": 0.3, "variance": 0.0}
TIMES = {"distribution": "log_uniform_time", "min_time": 1.5, "max_time": 80.0}
B = bias_of(TIMES).quantile(rng.random(128))


@pytest.mark.parametrize(
    ("wanted", "values", "seen"),
    [
        (CONSTANT, np.full(128, np.float32(0.3)), set()),
        (CONSTANT, np.full(128, 0.3001), {"constant"}),
        (CONSTANT, np.r_[np.full(127, 0.3), 0.0], {"constant"}),
        (TIMES, B, set()),
        (TIMES, B + 1.0, {"range"}),
        (TIMES, bias_of(TIMES | {"distribution": "uniform_time"}).quantile(rng.random(128)), {"shape"}),
        (TIMES, np.full(128, B.mean()), {"shape"}),
        ({"distribution": "normal", "mean": 0.0, "variance": 1.0}, 2 * rng.standard_normal(128), {"variance"}),
        ({"distribution": "normal", "mean": 1.0, "variance": 1.0}, rng.standard_normal(128), {"mean"}),
    ],
)
def test_what_breaks_the_distribution_of_a_bias(wanted, values, seen):
    found = outcomes(drawn("bias", wanted, 128, 1), values)
    assert {name for name, o in found.items() if o.p < 1e-6} >= seen
    if not seen:
        assert min(o.p for o in found.values()) > 1e-4


def test_a_coupled_bias_is_compared_unit_by_unit():
    asked = draws_of(make_spec("lstm"), 0, seed=0, input_size=4, hidden_size=128)[0].draws["input", "bias"]
    assert (asked.coupled_to, asked.sign) == ("forget", -1)
    same = compare(asked, Observed(-B, SINGLE, 5.0), Observed(B, SINGLE, 5.0))
    other = compare(asked, Observed(-B[::-1], SINGLE, 5.0), Observed(B, SINGLE, 5.0))
    assert ([o.p for o in same], [o.p for o in other]) == ([1.0], [0.0])


@pytest.mark.parametrize("roundoff", ["float16", "bfloat16"])
def test_rounding_to_sixteen_bits_is_no_difference(roundoff):
    """bfloat16 is float32 with its last 16 bits dropped, here rounded to nearest even."""

    def rounded(array):
        if roundoff == "float16":
            return array.astype(np.float16)
        bits = array.astype(np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)

    u = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[roundoff]
    for wanted, values in ((NORMAL, G), (UNIFORM, U), (ORTHOGONAL, Q), (TRUNCATED, X), (RESERVOIR, S), (DENSE, D)):
        found = outcomes(drawn("recurrent", wanted, 128, 128), rounded(values), u)
        assert min(o.p for o in found.values()) > 1e-4, (wanted, found)
    assert all(o.p > 1e-4 for o in outcomes(drawn("bias", CONSTANT, 128), rounded(np.full(128, 0.3)), u).values())


@pytest.mark.parametrize(("dtype", "radius"), [("float32", 1e-4), ("float16", 0.01), ("bfloat16", 0.05)])
def test_a_wrong_radius_is_seen_through_rounding(dtype, radius):
    u = {"float32": SINGLE, "float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    for wanted, values in ((RESERVOIR, S), (DENSE, D)):
        for factor in (1.0 - radius, 1.0 + radius):
            assert outcomes(drawn("recurrent", wanted, 128, 128), factor * values, u)["spectral radius"].p == 0.0


def test_shapes_that_a_distribution_cannot_have_and_what_each_test_compares():
    """Every test has a text that says what it compares."""
    square = outcomes(drawn("recurrent", ORTHOGONAL, 4, 3), np.ones((4, 3)))
    assert {name: o.p for name, o in square.items()} == {"shape": 0.0}
    kinds = (NORMAL, UNIFORM, TRUNCATED, ORTHOGONAL, ROTATION, RESERVOIR)
    parts = [("recurrent", wanted) for wanted in kinds]
    names = {name for part, wanted in parts for name in outcomes(drawn(part, wanted, 128, 128), G)}
    names |= {name for wanted in (CONSTANT, TIMES) for name in outcomes(drawn("bias", wanted, 128), B)}
    assert names == set(COMPARED) - {"identity", "all zero", "unit by unit", "finite"}


# ---- whole files -----------------------------------------------------------------------------------------

KINDS = [
    *((cell, "normal") for cell in GATES),
    ("gru_reset_before", "uniform"),
    ("lstm", "uniform"),
    ("lstm", "orthogonal"),
    ("gru", "identity"),
    ("gru", "truncated_normal"),
    ("rnn", {"distribution": "spectral_radius", "spectral_radius": 0.8, "density": 0.4}),
]


def test_false_alarms_over_whole_files_are_at_most_the_stated_rate():
    """210 fresh models of all kinds, at a rate of .05: no more alarms than a binomial number with that rate.

    The bound is passed by chance once in 10^4; the seeds are fixed.
    """
    rate, alarms, files = 0.05, 0, 0
    for cell, recurrent in KINDS:
        whole = {} if isinstance(recurrent, str) else {gate: {"recurrent": recurrent} for gate in GATES[cell]}
        spec = make_spec(cell, layers=2, recurrent="normal" if whole else recurrent, **whole)
        for seed in range(210 // len(KINDS) + 1):
            tensors = materialize(
                spec, "canonical", input_size=6, hidden_size=32, seed=seed, bidirectional=seed % 2 == 1
            )
            alarms += not check(spec, tensors, false_alarm_rate=rate).matches
            files += 1
    assert files >= 200
    assert alarms <= stats.binom.ppf(1 - 1e-4, files, rate), f"{alarms} alarms in {files} files"


def test_power_at_width_128():
    """What the stated rate costs: of kernels with 5 % more variance (4.5 standard errors) about half are seen."""
    asked, found = make_spec("lstm"), 0
    for seed in range(10):
        tensors = materialize(asked, "canonical", input_size=8, hidden_size=128, seed=seed)
        more = {name: array * math.sqrt(1.05) for name, array in tensors.items() if name.endswith("recurrent")}
        found += sum(not row.matches for row in check(asked, tensors | more).rows)
    assert 12 <= found <= 32


def test_draws_are_those_of_the_sampler():
    """What is checked above is what ``draw`` gives."""
    spec = make_spec("gru")
    tensors = materialize(spec, "canonical", input_size=6, hidden_size=32, seed=4, dtype="float64")
    gate = draw(spec, 6, 32, seed=4).layers[0][0].gates["reset"]
    np.testing.assert_array_equal(tensors["layers.0.0.reset.recurrent"], gate.recurrent)
