"""The derivatives of a step are those of its values, and gradients are the transpose of perturbations."""

from __future__ import annotations

import numpy as np
import pytest

from critinit.diagnosis import course as course_module
from critinit.diagnosis.course import run_course
from critinit.diagnosis.joint import Joint
from critinit.diagnosis.linear import Linear
from critinit.diagnosis.matrices import Matrices
from critinit.diagnosis.sweeps import backward, forward, jacobians
from tests.diagnosis.layers import CELLS, layer, sequences

LENGTHS = (9, 7, 7, 4)
STEP = 1e-6
"""Of central differences: their error is of its square, 1e-12, and of rounding, 1e-10."""


@pytest.mark.parametrize("name", CELLS)
def test_a_course_is_each_sequence_by_itself(name: str) -> None:
    weights = layer(name)
    given = sequences(LENGTHS, weights.inputs)
    course = run_course(weights, given)
    for i, x in enumerate(given):
        np.testing.assert_allclose(course.h[course.starts[i] + 1 :, i], weights.run(x[:, None])[:, 0], atol=1e-12)
        assert not course.h[: course.starts[i] + 1, i].any()


@pytest.mark.parametrize("name", CELLS)
def test_a_perturbation_moves_as_the_step_does(name: str) -> None:
    weights, rng = layer(name), np.random.default_rng(3)
    given = sequences(LENGTHS, weights.inputs)
    course = run_course(weights, given)
    t, n = 6, course.running[6]
    linear, at = course.at(t)
    ds = rng.standard_normal((n, 3, weights.units))
    dh = rng.standard_normal((n, 3, weights.outputs))
    if weights.shares_state and weights.projection is None:
        dh = ds
    found = linear.forward(dh, ds, slice(at, at + 1), slice(0, n))
    external = weights.external(np.stack([x[t - 9] for x in given[:n]]))
    found = found[0], found[1][0]
    for k in range(3):
        ahead, behind = (
            weights.step(course.h[t, :n] + e * dh[:, k], course.s[t, :n] + e * ds[:, k], external)
            for e in (STEP, -STEP)
        )
        for part, (a, b) in enumerate(zip(ahead[:2], behind[:2], strict=True)):
            np.testing.assert_allclose(found[part][:, k], (a - b) / (2 * STEP), atol=1e-8)


@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_the_transpose(name: str) -> None:
    weights, rng = layer(name), np.random.default_rng(4)
    course = run_course(weights, sequences(LENGTHS, weights.inputs))
    n = course.running[5]
    linear, at = course.at(5)
    place = at, slice(0, n)
    shapes = (n, 1, weights.outputs), (n, 1, weights.units)
    dh, gh = rng.standard_normal(shapes[0]), rng.standard_normal(shapes[0])
    ds, gs = rng.standard_normal(shapes[1]), rng.standard_normal(shapes[1])
    one = slice(at, at + 1)
    ahead, back = linear.forward(dh, ds, one, slice(0, n)), linear.backward(gh, gs, one, slice(0, n))
    np.testing.assert_allclose(back[2][0], gs + linear.gathered(gh, place), atol=1e-12)
    left = np.sum(ahead[0] * gh) + np.sum(ahead[1][0] * gs)
    right = np.sum(back[0] * dh) + np.sum(back[1] * ds)
    assert left == pytest.approx(right, rel=1e-10)
    assert np.sum(linear.visible(ds, place) * gh) == pytest.approx(np.sum(ds * linear.gathered(gh, place)), rel=1e-10)


@pytest.mark.parametrize("name", CELLS)
def test_sweeps_are_products_of_one_step_jacobians(name: str) -> None:
    """The growth of perturbations and gradients, against products of full matrices over (h, s)."""
    weights = layer(name)
    units = weights.units
    course = run_course(weights, sequences(LENGTHS, weights.inputs))
    found = forward(course, units, np.random.default_rng(0))
    back = backward(course, found.leading, 2, np.random.default_rng(0))
    losses = np.random.default_rng(0).standard_normal((len(LENGTHS), 2, weights.outputs))
    losses /= np.linalg.norm(losses, axis=2, keepdims=True)
    eye = np.eye(units)[None]
    for i, start in enumerate(course.starts):
        linear, at = course.at(start)
        ds = eye.copy()
        dh = linear.visible(ds, (at, slice(i, i + 1)))
        for t in range(start + 1, 9):
            linear, at = course.at(t)
            dh, ds = linear.forward(dh, ds, slice(at, at + 1), slice(i, i + 1))
            ds = ds[0]
            if t == start + 1:
                one = jacobians(course, np.array([[t, i]]))[0]
                np.testing.assert_allclose(one.T, ds[0], atol=1e-12)
            square = np.sum(ds**2) / units
            assert np.exp(found.log_square[t + 1, i]) == pytest.approx(square, rel=1e-8)
        largest = np.linalg.svd(ds[0], compute_uv=False)[0]
        assert np.exp(back.log_leading[i]) == pytest.approx(largest, rel=1e-8)
        reached = losses[i] @ dh[0].T  # of unit perturbations of the memory, the rows
        assert np.exp(back.log_square[start + 1, i]) == pytest.approx(np.mean(np.sum(reached**2, axis=1)), rel=1e-8)


@pytest.mark.parametrize("name", CELLS)
def test_outputs_of_the_layer_spare_its_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They give the same course; outputs of another step, or another start, are not believed."""
    weights = layer(name)
    given = sequences(LENGTHS, weights.inputs)
    outputs = [weights.run(x[:, None])[:, 0] for x in given]
    own = run_course(weights, given)
    runs: list[bool] = []
    followed = course_module._followed
    monkeypatch.setattr(course_module, "_followed", lambda *a: (runs.append(followed(*a) is not None), followed(*a))[1])
    found = run_course(weights, given, outputs)
    assert runs == [name != "layernorm_lstm_kept"]
    for part in ("h", "s"):
        np.testing.assert_allclose(getattr(found, part), getattr(own, part), atol=1e-12)
    for gate, u in own.u.items():
        np.testing.assert_allclose(found.u[gate], u, atol=1e-12)
    wrong = [
        [y + 1e-3 * (i == 2) for i, y in enumerate(outputs)],
        [y[:-1] for y in outputs],
        [np.where(np.arange(len(y))[:, None] == 3, np.nan, y) for y in outputs],
    ]
    for others in wrong:
        np.testing.assert_array_equal(run_course(weights, given, others).h, own.h)
    assert not any(runs[1:])


@pytest.mark.parametrize("units", [40, 100])
@pytest.mark.parametrize("name", CELLS)
def test_fast_derivatives_are_those_of_every_cell(name: str, units: int) -> None:
    """Perturbations and gradients by matrices, or by one product a step, beside ``Linear``, which serves every cell."""
    weights, rng = layer(name, units), np.random.default_rng(5)
    course = run_course(weights, sequences((6, 6), weights.inputs))
    whole = Linear.of(weights, course.h[:-1], course.s[:-1], course.u)
    fast = course.linear(slice(0, 6), slice(None))
    is_plain = not (weights.cell.before or weights.cell.normalized)
    is_small = units == 40 and is_plain and weights.projection is None
    assert type(fast) is (Matrices if is_small else Joint if is_plain else Linear)
    ds, gs = (rng.standard_normal((2, 3, units)) for _ in range(2))
    gh = rng.standard_normal((2, 3, weights.outputs))
    dh = whole.visible(ds, (1, slice(0, 2)))
    for ahead, other in zip(
        fast.forward(dh, ds, slice(2, 5), slice(0, 2)), whole.forward(dh, ds, slice(2, 5), slice(0, 2)), strict=True
    ):
        np.testing.assert_allclose(ahead, other, rtol=1e-9, atol=1e-12)
    back, other_back = (one.backward(gh, gs, slice(2, 5), slice(0, 2)) for one in (fast, whole))
    np.testing.assert_allclose(back[2], other_back[2], rtol=1e-9, atol=1e-12)
    # what reaches the state before, which is one array where h is the memory
    reached, others = (
        g[1] + linear.gathered(g[0], (1, slice(0, 2))) for g, linear in ((back, fast), (other_back, whole))
    )
    np.testing.assert_allclose(reached, others, rtol=1e-9, atol=1e-12)
