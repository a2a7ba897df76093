"""The tasks are what they say, and what they tell a spec of their inputs is what their inputs are."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.training.tasks import TASKS
from critinit.errors import ArgumentError

pytestmark = pytest.mark.frameworks
pytest.importorskip("sklearn", reason="three of the tasks are made of its digits")

LENGTHS = {name: 128 for name, task in TASKS.items() if task.target is not None}
"""Of the tasks that need no package beside scikit-learn; test_real.py has the others."""


@pytest.fixture(scope="module", params=LENGTHS)
def named(request):
    return request.param, TASKS[request.param].make(LENGTHS[request.param], ())


def test_batches_have_the_shapes_that_are_told(named):
    name, data = named
    for batch in (data.sample(np.random.default_rng(0), 5), data.held_out):
        T, n, inputs = batch.x.shape
        assert (T, inputs) == (LENGTHS[name], data.inputs)
        assert batch.x.dtype == np.float32
        assert batch.y.shape[1] == n
        assert 1 <= len(batch.y) <= T
        if data.outputs > 1:
            assert batch.y.dtype == np.int64
            assert set(np.unique(batch.y)) <= set(range(data.outputs))
        else:
            assert batch.y.dtype == np.float32


def test_the_inputs_second_moment_is_the_one_told(named):
    name, data = named
    x = data.sample(np.random.default_rng(0), 400).x
    seen = x[:64] if name == "digits" else x  # silence is told apart
    assert np.mean(seen.astype(np.float64) ** 2) == pytest.approx(data.input_variance, rel=0.03)


def test_a_batch_is_its_seeds(named):
    _, data = named
    once, again, other = (data.sample(np.random.default_rng(seed), 4) for seed in (0, 0, 1))
    np.testing.assert_array_equal(once.x, again.x)
    assert not np.array_equal(once.x, other.x)


@pytest.mark.parametrize(("name", "power"), [("digits", 0.0), ("digits-noise", 1.0)])
def test_padding_has_the_power_that_is_told(name, power):
    data = TASKS[name].make(100, ())
    padding = data.sample(np.random.default_rng(0), 400).x[64:].astype(np.float64)
    assert data.padding is not None
    assert data.padding.variance == power
    assert np.mean(padding**2) == pytest.approx(power, abs=0.03)
    assert (data.sample(np.random.default_rng(0), 1).x[64:] == 0).all() == (power == 0)


def test_digits_are_held_out():
    data = TASKS["digits"].make(64, ())
    shown = {x.tobytes() for x in data.sample(np.random.default_rng(0), 3000).x.transpose(1, 0, 2)}
    held = [x.tobytes() for x in data.held_out.x.transpose(1, 0, 2)]
    assert sum(image in shown for image in held) <= 2  # two digits of the set are alike, pixel by pixel


def test_unrolled_digits_are_the_same_digits():
    short, long = (TASKS["pixels"].make(T, ()).held_out for T in (64, 192))
    np.testing.assert_array_equal(long.x[::3], short.x)
    np.testing.assert_array_equal(long.x[1::3], long.x[2::3])
    np.testing.assert_array_equal(long.y, short.y)


def test_the_sum_is_of_the_marked_numbers():
    batch = TASKS["adding"].make(50, ()).sample(np.random.default_rng(0), 20)
    values, marks = batch.x[..., 0], batch.x[..., 1]
    np.testing.assert_allclose(batch.y[0], (values * marks).sum(0), rtol=1e-6)
    np.testing.assert_array_equal(marks[:25].sum(0), 1)
    np.testing.assert_array_equal(marks[25:].sum(0), 1)


def test_symbols_are_asked_after_the_signal():
    batch = TASKS["copy"].make(40, ()).sample(np.random.default_rng(0), 20)
    seen, k = batch.x.argmax(-1), len(batch.y)
    np.testing.assert_array_equal(batch.x.sum(-1), 1)
    np.testing.assert_array_equal(seen[:k], batch.y)
    assert (seen[-k] == batch.x.shape[2] - 1).all()
    assert (np.delete(seen[k:], -k, axis=0) == batch.x.shape[2] - 2).all()


def test_the_next_character_is_asked():
    data = TASKS["characters"].make(30, ())
    batch = data.sample(np.random.default_rng(0), 20)
    np.testing.assert_array_equal(batch.x.argmax(-1)[1:], batch.y[:-1])
    assert data.held_out.x.shape[1] == 64


@pytest.mark.parametrize(
    ("name", "T", "message"),
    [
        ("digits", 63, "T: found 63; allowed: 64"),
        ("pixels", 100, "T: found 100; allowed: multiples of 64"),
        ("adding", 1, "found T = 1"),
        ("copy", 6, "found T = 6"),
        ("characters", 10**6, "found T = 1000000"),
    ],
)
def test_lengths_that_cannot_be_are_refused(name, T, message):
    with pytest.raises(ArgumentError, match=message):
        TASKS[name].make(T, ())


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"pixels"}))
def test_files_are_for_the_pixels(name):
    with pytest.raises(ArgumentError, match="found"):
        TASKS[name].make(100, ("images.npz",))
