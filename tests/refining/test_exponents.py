"""Lyapunov exponents and their gradients: exact ones, the framework's own Jacobians, finite differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.frameworks
torch = pytest.importorskip("torch")

from critinit_adapters.torch.adapter import ADAPTER  # noqa: E402
from critinit_adapters.torch.differentiating import TorchLibrary  # noqa: E402

from critinit.cells import CELLS, Cell  # noqa: E402
from critinit.dual import Dual  # noqa: E402
from critinit.foreign import Foreign  # noqa: E402
from critinit.refining.flossing import Flossing, floss  # noqa: E402
from critinit.refining.layers import Held, HeldLayer, Weights, exponents, orthonormal, weights_of  # noqa: E402
from tests.refining import layers_by_hand as by_hand  # noqa: E402

LIBRARIES = ("torch", "jax")


def library(name: str) -> Any:
    if name == "torch":
        return TorchLibrary(torch.device("cpu"), torch.float64)
    pytest.importorskip("jax")
    from critinit_adapters.shared.jax_refining import JaxLibrary

    return JaxLibrary()


class Linear(Cell):
    """h' = W h + U x."""

    name = "linear_for_exponents"
    gates = ("hidden",)
    candidate_gate = "hidden"

    def keep(self, u: Any) -> Any:
        return 0.0

    def write(self, u: Any) -> Any:
        return 1.0

    def candidate(self, u: Any) -> Any:
        return u["hidden"]


def linear(name: str, kernel: np.ndarray, count: int, steps: int) -> np.ndarray:
    """The exponents of a linear network."""
    lib, size = library(name), len(kernel)
    x = np.random.default_rng(0).standard_normal((steps, 1, 2))
    columns = orthonormal(size, count, 1, 0)

    def run(leaves: Any, x: Any, columns: Any) -> Any:
        weights = Weights({"hidden": Foreign(leaves["w"], lib)}, {"hidden": Foreign(leaves["u"], lib)}, {}, {})
        found = exponents(Linear(), weights, x, columns, 0, lib)
        return lib.mean(found), found

    _, found, _ = lib.differentiate(run)({"w": kernel, "u": np.ones((size, 2))}, x, columns)
    return np.asarray(found[0])


@pytest.mark.parametrize("name", LIBRARIES)
def test_exponents_of_linear_networks_are_exact(name):
    rng = np.random.default_rng(1)
    orthogonal = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    np.testing.assert_allclose(linear(name, 0.8 * orthogonal, 5, 7), math.log(0.8), atol=1e-12)
    any_kernel = rng.standard_normal((5, 5))
    # the growth of volume is that of the determinant, after any number of steps
    assert linear(name, any_kernel, 5, 9).sum() == pytest.approx(math.log(abs(np.linalg.det(any_kernel))), abs=1e-10)


@pytest.mark.parametrize("name", LIBRARIES)
def test_exponents_of_a_normal_kernel_are_the_logarithms_of_its_eigenvalues(name):
    rng = np.random.default_rng(2)
    basis = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    sizes = np.array([1.5, 1.0, 0.6, 0.2])
    found = linear(name, basis @ np.diag(sizes) @ basis.T, 3, 4000)
    np.testing.assert_allclose(
        found, np.log(sizes[:3]), atol=2e-3
    )  # the directions turn in the first steps: O(1/steps)


def held(module: Any) -> HeldLayer:
    """A layer of torch as the adapter hands it over."""
    (layer,) = ADAPTER.held_layers(module, {})
    return layer


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm", "projected"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_exponents_are_those_of_the_frameworks_own_jacobians(kind, name):
    module, lib = by_hand.torch_layer(kind), library(name)
    x = np.random.default_rng(4).standard_normal((30, by_hand.INPUT))
    matrices = by_hand.jacobians(module, x)
    columns = orthonormal(len(matrices[0]), 4, 1, 5)
    layer = held(module)
    blocks = {one.name: one.blocks for one in layer.tensors}

    def run(leaves: Any, x: Any, columns: Any) -> Any:
        weights = weights_of(blocks, {n: Foreign(leaf, lib) for n, leaf in leaves.items()})
        found = exponents(CELLS.get(layer.cell), weights, x, columns, 3, lib)
        return lib.mean(found), found

    values = {one.name: one.values for one in layer.tensors}
    _, found, _ = lib.differentiate(run)(values, x[:, None], columns)
    np.testing.assert_allclose(found[0], by_hand.exponents(matrices, columns[0], 3), rtol=1e-9)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_the_gradient_of_flossing_is_that_of_finite_differences(kind, name):
    module, lib = by_hand.torch_layer(kind), library(name)
    layer = held(module)
    blocks = {one.name: one.blocks for one in layer.tensors}
    x = np.random.default_rng(6).standard_normal((12, 2, by_hand.INPUT))
    size = by_hand.HIDDEN * (2 if kind == "lstm" else 1)
    columns = orthonormal(size, 3, 2, 7)

    def loss(leaves: Any, x: Any, columns: Any) -> Any:
        weights = weights_of(blocks, {n: Foreign(leaf, lib) for n, leaf in leaves.items()})
        found = exponents(CELLS.get(layer.cell), weights, x, columns, 2, lib)
        return lib.mean(found * found), found

    measured = lib.differentiate(loss)
    values = {one.name: one.values for one in layer.tensors}
    _, _, slopes = measured(values, x, columns)
    rng, step = np.random.default_rng(8), 1e-6
    for tensor in values:
        direction = rng.standard_normal(values[tensor].shape)
        ends = [measured(values | {tensor: values[tensor] + s * step * direction}, x, columns)[0] for s in (1, -1)]
        wanted = (ends[0] - ends[1]) / (2 * step)
        assert float(np.sum(slopes[tensor] * direction)) == pytest.approx(wanted, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_gradient_that_is_cut_takes_the_first_states_and_directions_as_constants(name):
    module, lib = by_hand.torch_layer("gru"), library(name)
    layer = held(module)
    blocks = {one.name: one.blocks for one in layer.tensors}
    x = np.random.default_rng(6).standard_normal((9, by_hand.INPUT))
    columns = orthonormal(by_hand.HIDDEN, 3, 1, 7)

    def loss(leaves: Any, x: Any, columns: Any) -> Any:
        weights = weights_of(blocks, {n: Foreign(leaf, lib) for n, leaf in leaves.items()})
        found = exponents(CELLS.get("gru"), weights, x, columns, 5, lib, cut=True)
        return lib.mean(found * found), found

    _, found, slopes = lib.differentiate(loss)({one.name: one.values for one in layer.tensors}, x[:, None], columns)
    np.testing.assert_allclose(found[0], by_hand.exponents(by_hand.jacobians(module, x), columns[0], 5), rtol=1e-9)
    state, q = by_hand.course(module, x[:5]), columns[0]
    for matrix in by_hand.jacobians(module, x[:5]):
        q = np.linalg.qr(matrix @ q)[0]
    rng, small = np.random.default_rng(8), 1e-6
    for tensor, parameter in module.named_parameters():
        direction = torch.from_numpy(rng.standard_normal(tuple(parameter.shape)))
        ends = []
        for sign in (1.0, -2.0, 1.0):
            with torch.no_grad():
                parameter.add_(sign * small * direction)
            ends.append(float(np.square(by_hand.exponents(by_hand.jacobians(module, x[5:], state), q, 0)).mean()))
        wanted = (ends[0] - ends[1]) / (2 * small)
        assert float(np.sum(slopes[tensor] * direction.numpy())) == pytest.approx(wanted, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("cell", CELLS.names())
def test_a_cells_own_functions_run_on_foreign_arrays(cell, name):
    """Update and read of every cell, with tangents, are NumPy's."""
    lib, one = library(name), CELLS.get(cell)
    rng = np.random.default_rng(9)
    gates = (*one.gates, "input") if one.embeds_input else one.gates
    numbers = {gate: rng.standard_normal((2, 4)) for gate in gates}
    s, tangents = rng.standard_normal((2, 4)), {gate: rng.standard_normal((3, 2, 4)) for gate in (*gates, "s")}

    def run(value: Any, wrap: Any) -> tuple[Any, Any]:
        u = {gate: Dual(wrap(numbers[gate]), wrap(tangents[gate])) for gate in gates}
        after = one.update(Dual(wrap(s), wrap(tangents["s"])), u)
        read = one.read(after, u)
        return value(read.value), value(read.tangent)

    wanted = run(np.asarray, lambda array: array)
    context = __import__("jax").enable_x64(True) if name == "jax" else torch.no_grad()
    with context:
        found = run(lambda x: np.asarray(x.array), lambda array: Foreign(lib.array(array), lib))
    for there, here in zip(wanted, found, strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-12)


def test_flossing_reaches_its_target():
    torch.manual_seed(0)
    layer = held(torch.nn.GRU(3, 16).double())
    sequences = list(np.random.default_rng(0).standard_normal((4, 40, 3)))
    told: list[int] = []
    settings = Flossing(exponents=3, epochs=150, learning_rate=5e-3, steps=30, target=-0.1)
    done = floss(layer, sequences, settings, 0, library("torch"), lambda step, value: told.append(step))
    assert told == list(range(1, 151))
    assert not done.problem
    assert np.abs(done.before + 0.1).min() > 0.2
    assert np.abs(done.after + 0.1).max() < 0.05


def test_a_chaotic_networks_largest_exponent_comes_to_0():
    """Recurrent entries of deviation 2/√H; a derivative along the whole course would be thousands of times too long."""
    torch.manual_seed(0)
    module = torch.nn.RNN(1, 64).double()
    with torch.no_grad():
        module.weight_hh_l0.normal_(0.0, 2.0 / 8.0)
    sequences = list(np.random.default_rng(0).standard_normal((8, 100, 1)))
    settings = Flossing(exponents=1, epochs=300)
    done = floss(held(module), sequences, settings, 0, library("torch"), lambda step, value: None)
    assert done.before[0] > 0.1
    assert abs(done.after[0]) < 0.04


def test_numbers_that_are_not_finite_end_it():
    """A layer of rectified units that are all silent has exponents of −∞."""
    module = torch.nn.RNN(3, 4, nonlinearity="relu").double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    sequences = list(np.ones((1, 20, 3)))
    done = floss(held(module), sequences, Flossing(epochs=3), 0, library("torch"), lambda step, value: None)
    assert not done.is_finite
    assert "not finite" in done.problem
    assert all(np.array_equal(done.values[one.name], one.values) for one in held(module).tensors)


def test_a_frozen_tensor_stays():
    module = torch.nn.RNN(3, 4).double()
    module.weight_ih_l0.requires_grad_(False)
    layer = held(module)
    sequences = list(np.random.default_rng(0).standard_normal((2, 20, 3)))
    done = floss(layer, sequences, Flossing(epochs=3), 0, library("torch"), lambda step, value: None)
    assert not done.problem
    changed = {one.name for one in layer.tensors if not np.array_equal(done.values[one.name], one.values)}
    assert changed == {"weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}


def test_what_a_layer_is_not_is_said():
    layer = HeldLayer("rnn", 0, 0, "layernorm_lstm", 4, (Held("w", np.zeros((1, 1)), ()),))
    assert "layernorm_lstm" in str(layer.problem)
    assert HeldLayer("rnn", 0, 0, "lstm", 4, (), window=(3,)).problem is not None
