"""A layer that runs compiled for a diagnosis has the states that NumPy finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import critinit
from critinit.diagnosis.course import run_course
from critinit.tensors.recurrence import LayerWeights
from tests.diagnosis.layers import CELLS, layer, sequences

jax = pytest.importorskip("jax")

pytestmark = [pytest.mark.frameworks, pytest.mark.slow]


def in_single(weights: LayerWeights) -> LayerWeights:
    """The layer in single precision."""

    def cast(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {gate: array.astype(np.float32) for gate, array in part.items()}
        return part.astype(np.float32) if isinstance(part, np.ndarray) else part

    fields = {field.name: cast(getattr(weights, field.name)) for field in dataclasses.fields(weights)}
    return LayerWeights(**fields)


@pytest.mark.parametrize("lengths", [(9, 7, 7, 4), (3,), (33, 33)])
@pytest.mark.parametrize("name", CELLS)
def test_states_are_those_of_numpy(name: str, lengths: tuple[int, ...]) -> None:
    from critinit_adapters.shared.jax_running import run_layer

    weights = in_single(layer(name, gain=0.5))
    given = sequences(lengths, weights.inputs)
    runs: list[bool] = []

    def run(*asked: Any) -> Any:
        found = run_layer(*asked)
        runs.append(found is not None)
        return found

    own, found = run_course(weights, given), run_course(weights, given, run=run)
    assert runs == [weights.is_plain]
    for part in ("h", "s"):
        np.testing.assert_allclose(getattr(found, part), getattr(own, part), atol=1e-5)
    for gate, u in own.u.items():
        np.testing.assert_allclose(found.u[gate], u, atol=1e-5)
    for i, start in enumerate(own.starts):
        assert not found.h[: start + 1, i].any()


def test_what_jax_does_not_run_is_left_to_numpy() -> None:
    from critinit_adapters.shared.jax_running import run_layer

    weights = layer("gru")
    (x,) = sequences((5,), weights.inputs)
    made = np.ones((5, 1), bool)
    assert run_layer(weights, weights.external(x[:, None]), made) is None  # double precision
    single = in_single(weights)
    external = single.external(x[:, None])
    assert run_layer(single, external, made) is not None
    with jax.disable_jit():
        assert run_layer(single, external, made) is None


def test_without_a_cpu_in_jax_numpy_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from critinit_adapters.shared.jax_running import run_layer

    def none(*asked: Any) -> Any:
        raise RuntimeError("Unknown backend cpu")

    weights = in_single(layer("gru"))
    (x,) = sequences((5,), weights.inputs)
    external, made = weights.external(x[:, None]), np.ones((5, 1), bool)
    own, found = run_course(weights, [x]), run_layer(weights, external, made)
    assert found is not None
    monkeypatch.setattr(jax, "devices", none)
    assert run_layer(weights, external, made) is None
    assert np.array_equal(run_course(weights, [x], run=run_layer).h, own.h)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_diagnosis_is_the_same_with_and_without(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nnx = pytest.importorskip("flax.nnx")
    from critinit_adapters.nnx.adapter import ADAPTER

    kinds = {"gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}
    model = nnx.RNN(kinds[cell](3, 8, rngs=nnx.Rngs(0)))
    x = np.random.default_rng(0).standard_normal((4, 40, 3)).astype(np.float32)
    found = critinit.diagnose(model, x).layers[0].numbers
    monkeypatch.setattr(type(ADAPTER), "run_layer", lambda *_: None)
    own = critinit.diagnose(model, x).layers[0].numbers
    assert found.second_moment == pytest.approx(own.second_moment, rel=1e-5)
    np.testing.assert_allclose(np.log(found.perturbation), np.log(own.perturbation), atol=1e-4)
    np.testing.assert_allclose(np.log(found.gradient), np.log(own.gradient), atol=1e-4)
    np.testing.assert_allclose(found.lyapunov, own.lyapunov, atol=1e-5)
