"""MetaInit: the gradient quotient by hand, its gradient by finite differences, and the steps on norms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from critinit.errors import ArgumentError
from critinit.refining.metainit import Group, MetaInit, tune

pytestmark = pytest.mark.frameworks
torch = pytest.importorskip("torch")

EPSILON = 1e-5
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((7, 3)), RNG.standard_normal((7, 2))
VALUES = {"first.weight": RNG.standard_normal((4, 3)), "second.weight": RNG.standard_normal((2, 4))}


class TwoLinear(torch.nn.Module):
    """y = B A x."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(3, 4, bias=False)
        self.second = torch.nn.Linear(4, 2, bias=False)

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x))


def of_torch() -> Any:
    from critinit_adapters.torch.objective import TorchObjective

    names = {name: name for name in VALUES}
    batch = torch.from_numpy(X), torch.from_numpy(Y)
    loss = lambda model, batch: 0.5 * (model(batch[0]) - batch[1]).square().mean()  # noqa: E731
    return TorchObjective(TwoLinear().double(), names, loss, batch, lambda model: model, 0)


def of_jax() -> Any:
    jax = pytest.importorskip("jax")
    from critinit_adapters.shared.jax_refining import JaxObjective

    def loss(leaves: Any) -> Any:
        output = X @ leaves["first.weight"].T @ leaves["second.weight"].T
        return 0.5 * jax.numpy.mean((output - Y) ** 2)

    return JaxObjective(loss, VALUES)


def by_hand(values: dict[str, np.ndarray]) -> float:
    """The quotient, with gradient and Hessian of ½ mean (B A x − y)² written out."""
    a, b = values["first.weight"], values["second.weight"]
    n = Y.size
    error = X @ a.T @ b.T - Y
    g_a, g_b = b.T @ error.T @ X / n, error.T @ X @ a.T / n
    # the change of both by a step (g_a, g_b): products of the second derivatives
    moved = X @ g_a.T @ b.T + X @ a.T @ g_b.T
    h_a = (b.T @ moved.T @ X + g_b.T @ error.T @ X) / n
    h_b = (moved.T @ X @ a.T + error.T @ X @ g_a.T) / n
    total = 0.0
    for g, h in ((g_a, h_a), (g_b, h_b)):
        total += float(np.abs((g - h) / (g + EPSILON * np.where(g >= 0, 1.0, -1.0)) - 1.0).sum())
    return total / (a.size + b.size)


@pytest.mark.parametrize("make", [of_torch, of_jax])
def test_the_quotient_of_a_linear_model_is_that_by_hand(make):
    context = __import__("jax").enable_x64(True) if make is of_jax else torch.no_grad()
    with context:
        objective = make()
        loss, slopes = objective.gradient(VALUES)
        quotient, third = objective.quotient(VALUES, EPSILON)
        error = X @ VALUES["first.weight"].T @ VALUES["second.weight"].T - Y
        assert loss == pytest.approx(0.5 * np.mean(error**2), rel=1e-12)
        np.testing.assert_allclose(slopes["second.weight"], error.T @ X @ VALUES["first.weight"].T / Y.size, rtol=1e-10)
        assert quotient == pytest.approx(by_hand(VALUES), rel=1e-9)
        for name in VALUES:
            direction = np.random.default_rng(1).standard_normal(VALUES[name].shape)
            ends = [by_hand(VALUES | {name: VALUES[name] + s * 1e-7 * direction}) for s in (1, -1)]
            wanted = (ends[0] - ends[1]) / 2e-7
            assert float(np.sum(third[name] * direction)) == pytest.approx(wanted, rel=1e-4)


class Bowl:
    """A quotient |‖W‖ − 2| of one matrix."""

    def gradient(self, values: Any) -> Any:
        raise AssertionError

    def quotient(self, values: Any, epsilon: float) -> Any:
        norm = float(np.linalg.norm(values["w"]))
        return abs(norm - 2.0), {"w": np.sign(norm - 2.0) * values["w"] / norm, "b": np.zeros(3)}


def test_steps_change_norms_alone_and_the_best_is_kept():
    start = {"w": np.array([[3.0, 4.0], [0.0, 0.0]]), "b": np.ones(3)}
    told: list[tuple[int, float]] = []
    settings = MetaInit(steps=60, momentum=0.0)
    done = tune(Bowl(), start, [Group("w", ())], settings, lambda step, quotient: told.append((step, quotient)))
    assert not done.problem
    np.testing.assert_allclose(done.quotients[:3], [3.0, 2.9, 2.8])
    np.testing.assert_allclose(done.values["w"] / np.linalg.norm(done.values["w"]), start["w"] / 5.0, atol=1e-12)
    assert np.linalg.norm(done.values["w"]) == pytest.approx(2.0, abs=0.051)
    np.testing.assert_array_equal(done.values["b"], start["b"])
    assert [step for step, _ in told] == list(range(61))
    assert start["w"][0, 0] == 3.0


def test_momentum_adds_the_last_steps():
    start = {"w": np.array([[3.0, 4.0]]), "b": np.ones(3)}
    done = tune(Bowl(), start, [Group("w", ())], MetaInit(steps=3), lambda step, quotient: None)
    np.testing.assert_allclose(done.quotients, [3.0, 2.9, 2.71, 2.439])  # steps .1, .19, .271


def test_no_gain_and_no_numbers_leave_the_weights():
    start = {"w": np.array([[2.0, 0.0]]), "b": np.ones(3)}
    done = tune(Bowl(), start, [Group("w", ())], MetaInit(steps=2), lambda step, quotient: None)
    assert "no step had a smaller gradient quotient" in done.problem
    assert done.values is start

    class Broken(Bowl):
        def quotient(self, values: Any, epsilon: float) -> Any:
            return float("nan"), {"w": np.zeros((1, 2)), "b": np.zeros(3)}

    assert "not finite at step 0" in tune(Broken(), start, [Group("w", ())], MetaInit(), lambda step, q: None).problem


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"learning_rate": 0.0}, {"momentum": 1.0}, {"epsilon": -1.0}, {"steps": 2.0}]
)
def test_settings_out_of_range(wrong):
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        MetaInit(**wrong)
