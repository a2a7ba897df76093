"""``critinit.prune``: scores by finite differences of the frameworks' own Jacobians, and masks that stay."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import critinit
from critinit.errors import ApplyError, ArgumentError

pytestmark = pytest.mark.frameworks
torch = pytest.importorskip("torch")

from critinit_adapters.torch.adapter import ADAPTER  # noqa: E402

from critinit.refining.prune import jacobian_slopes, state_slopes  # noqa: E402
from tests.refining import layers_by_hand as by_hand  # noqa: E402
from tests.refining.test_refine import Net, batch, frozen, labels, net, of_equinox, of_linen, of_nnx, same  # noqa: E402

METHODS = ("jacobian", "snip", "magnitude", "random")


KINDS = ["rnn", "gru", "lstm", "projected"]


def differences(module: Any, value: Any, slopes: Any) -> None:
    """Slopes along random directions are the central differences of ``value``."""
    rng, small = np.random.default_rng(1), 1e-6
    for name, parameter in module.named_parameters():
        direction = torch.from_numpy(rng.standard_normal(tuple(parameter.shape)))
        ends = []
        for sign in (1.0, -2.0, 1.0):
            with torch.no_grad():
                parameter.add_(sign * small * direction)
            ends.append(value())
        wanted = (ends[0] - ends[1]) / (2 * small)
        assert float(np.sum(slopes[name] * direction.numpy())) == pytest.approx(wanted, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_the_slopes_of_the_jacobians_norm_are_finite_differences(kind):
    """χ by the framework's own Jacobians over the last 4 steps; all steps before count through the state."""
    module = by_hand.torch_layer(kind)
    x = np.random.default_rng(0).standard_normal((2, 9, by_hand.INPUT))

    def chi() -> float:
        found = (by_hand.jacobians(module, sequence)[-4:] for sequence in x)
        return sum(float(np.linalg.norm(matrix.sum(1))) for one in found for matrix in one) / len(x)

    (layer,) = ADAPTER.held_layers(module, {})
    differences(module, chi, jacobian_slopes(layer, list(x), ADAPTER.library(module)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_slopes_of_the_states_on_noise_are_finite_differences(kind):
    """The noise is drawn as in the module: first the inputs, then the visible states, then the memories."""
    module = by_hand.torch_layer(kind)
    visible = 4 if kind == "projected" else by_hand.HIDDEN
    rng = np.random.default_rng(5)
    x = torch.from_numpy(0.1 * rng.standard_normal((5, 100, by_hand.INPUT)))
    h, c = (torch.from_numpy(1.0 + 0.1 * rng.standard_normal((1, 100, n))) for n in (visible, by_hand.HIDDEN))

    def rho() -> float:
        with torch.no_grad():
            return float(module(x, h if kind in ("rnn", "gru") else (h, c))[0][-1].sum())

    (layer,) = ADAPTER.held_layers(module, {})
    differences(module, rho, state_slopes(layer, ADAPTER.library(module), 5))


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_the_input_kernel_counts_where_sequences_end_in_silence(kind):
    """Through the states: with these as constants its slopes would be 0, and its entries all alike."""
    model = net(kind)
    (layer,) = ADAPTER.held_layers(model.rnn, {})
    x = np.random.default_rng(0).standard_normal((6, 25, 3))
    x[:, 15:] = 0.0
    slopes = jacobian_slopes(layer, list(x), ADAPTER.library(model))
    assert (slopes["weight_ih_l0"] != 0.0).all()


def kernels(model: Any) -> dict[str, Any]:
    names = (name for name in dict(model.rnn.named_parameters()) if name.startswith("weight"))
    return {name.removesuffix("_orig"): getattr(model.rnn, name.removesuffix("_orig")) for name in names}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.98])
def test_the_smallest_scores_go(method, sparsity):
    model = net("LSTM", 2, True)
    before = {name: kernel.detach().clone() for name, kernel in kernels(model).items()}
    pruned = critinit.prune(model, batch(), sparsity, method)
    after = kernels(model)
    entries = sum(kernel.numel() for kernel in after.values())
    zeros = sum(int((kernel == 0).sum()) for kernel in after.values())
    assert zeros == round(sparsity * entries)
    assert pruned.sparsity == pytest.approx(sparsity, abs=1.0 / entries)
    assert sum(row.entries for row in pruned.rows) == entries
    for name, kernel in after.items():
        stays = pruned.kept[f"rnn.{name}"]
        np.testing.assert_array_equal(kernel.detach().numpy(), before[name].numpy() * stays)
    if method == "magnitude":
        gone = np.concatenate([before[n].abs().numpy()[~pruned.kept[f"rnn.{n}"]] for n in before])
        stay = np.concatenate([before[n].abs().numpy()[pruned.kept[f"rnn.{n}"]] for n in before])
        assert gone.max() <= stay.min()
    assert f"method: {method}" in str(pruned)


def test_snip_scores_by_the_loss():
    model = net("GRU").double()
    x = batch().double()
    labels(model.eval(), x).backward()
    scores = {n: (k * k.grad).abs().detach() for n, k in kernels(model).items()}
    model.zero_grad()
    pruned = critinit.prune(model, x, 0.7, "snip", loss=labels)
    together = torch.cat([scores[n][torch.from_numpy(pruned.kept[f"rnn.{n}"])] for n in scores])
    gone = torch.cat([scores[n][~torch.from_numpy(pruned.kept[f"rnn.{n}"])] for n in scores])
    assert float(gone.max()) <= float(together.min()) * (1 + 1e-5)


def test_training_keeps_zeros_and_torch_removes_its_hooks():
    model = net("LSTM").train()
    biases = model.rnn.bias_hh_l0.detach().clone()
    critinit.prune(model, batch(), 0.9)
    copy.deepcopy(model)
    assert torch.equal(model.rnn.bias_hh_l0, biases)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        labels(model, batch()).backward()
        optimizer.step()
    with torch.no_grad():
        model(batch())
    for name, kernel in kernels(model).items():
        mask = getattr(model.rnn, f"{name}_mask")
        assert bool((kernel[mask == 0] == 0).all())
        assert bool((kernel[mask == 1] != 0).all())
        torch.nn.utils.prune.remove(model.rnn, name)
    assert isinstance(model.rnn.weight_hh_l0, torch.nn.Parameter)
    again = Net("LSTM")
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.eval()(batch()), model.eval()(batch()))


def test_a_pruned_model_runs_as_one_with_zeros():
    model, other = net("GRU", 2), net("GRU", 2)
    pruned = critinit.prune(model, batch(), 0.8, "magnitude")
    with torch.no_grad():
        for name, kernel in kernels(other).items():
            kernel.mul_(torch.from_numpy(pruned.kept[f"rnn.{name}"]))
    torch.testing.assert_close(model.eval()(batch()), other.eval()(batch()))


def test_a_failure_leaves_the_model():
    model = net("GRU", 2)
    weights = copy.deepcopy(model.state_dict())
    original = torch.nn.utils.prune.custom_from_mask
    calls = iter(range(9))

    def fails(*arguments: Any) -> Any:
        if next(calls) == 2:
            raise RuntimeError("planted")
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils.prune, "custom_from_mask", fails)
        with pytest.raises(RuntimeError, match="planted"):
            critinit.prune(model, batch(), 0.5)
    after = model.state_dict()
    assert weights.keys() == after.keys()
    assert all(torch.equal(weights[name], after[name]) for name in weights)
    assert torch.isfinite(model(batch())).all()


WRONG = {
    "sparsity": {"sparsity": 1.0},
    "sparsity of text": {"sparsity": "half"},
    "sparsity below 0": {"sparsity": -0.1},
    "sparsity of nothing": {"sparsity": float("nan")},
    "sparsity of truth": {"sparsity": True},
    "method": {"method": "best"},
    "method of nothing": {"method": None},
    "loss": {"loss": labels, "method": "jacobian"},
    "loss that is none": {"loss": "entropy", "method": "snip"},
    "loss of many numbers": {"loss": lambda model, given: model(given), "method": "snip"},
    "sparsity of all entries": {"sparsity": 0.9999},
    "seed": {"seed": 0.5},
    "call": {"call": 3},
    "include": {"include": "nowhere"},
    "batch": {"batch": torch.full((6, 25, 3), float("nan")), "method": "jacobian"},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_named(name):
    model = net()
    with pytest.raises(ArgumentError) as raised:
        critinit.prune(**{"model": model, "batch": batch(), "sparsity": 0.5, **WRONG[name]})
    assert raised.value.where == name.partition(" ")[0]
    assert "\n" not in str(raised.value)
    assert not any(name.endswith("_mask") for name, _ in model.named_buffers())


def test_a_share_of_numpy_is_one():
    assert critinit.prune(net(), batch(), np.float64(0.5), "magnitude").sparsity == 0.5


@pytest.mark.parametrize("method", METHODS)
def test_a_frozen_kernel_is_refused_and_a_frozen_bias_is_not(method):
    model = net()
    model.rnn.bias_hh_l0.requires_grad_(False)
    assert critinit.prune(model, batch(), 0.5, method).sparsity == 0.5
    other = net()
    other.rnn.weight_hh_l0.requires_grad_(False)
    with pytest.raises(ApplyError, match=r"rnn\.weight_hh_l0: found requires_grad=False; allowed: kernels that train"):
        critinit.prune(other, batch(), 0.5, method)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda model, given: 0.0 * model(given).sum(), "scores by snip that are all 0"),
        (lambda model, given: model(given).sum() * float("inf"), "a score that is not finite"),
        (lambda model, given: model(given).sum().detach(), "a loss without a gradient"),
    ],
)
def test_a_loss_that_says_nothing_is_refused(loss, said):
    model = net()
    with pytest.raises(ApplyError, match=said):
        critinit.prune(model, batch(), 0.5, "snip", loss=loss)
    assert not any(name.endswith("_mask") for name, _ in model.named_buffers())


@pytest.mark.parametrize("what", ["a linear cell by parts", "inputs of zeros"])
def test_kernels_are_not_pruned_for_scores_that_say_nothing_of_them(what):
    """The Jacobian of a ReLU's step does not move with the input kernel: without it the network would be blind."""
    torch.manual_seed(0)
    linear = what.startswith("a linear")
    model = torch.nn.RNN(3, 8, nonlinearity="relu" if linear else "tanh", batch_first=True)
    before = copy.deepcopy(model.state_dict())
    x = batch() if linear else torch.zeros(6, 25, 3)
    with pytest.raises(ApplyError, match="scores by jacobian that are all 0 for the input kernels"):
        critinit.prune(model, x, 0.5)
    assert same(list(before.values()), list(model.state_dict().values()))
    assert critinit.prune(copy.deepcopy(model), x, 0.5, "magnitude").sparsity == pytest.approx(0.5, abs=0.01)
    assert critinit.prune(model, x, 0.2).sparsity == pytest.approx(0.2, abs=0.01)  # of what says nothing, a part


def test_a_sequence_of_one_step_does_not_decide_for_all():
    torch.manual_seed(0)
    model = torch.nn.GRU(3, 8, batch_first=True)
    x = batch()

    def packed(*lengths: int) -> Any:
        some = x[: len(lengths)]
        return torch.nn.utils.rnn.pack_padded_sequence(some, torch.tensor(lengths), batch_first=True)

    long, mixed = (
        critinit.prune(copy.deepcopy(model), given, 0.5) for given in (packed(25, 25, 25), packed(25, 25, 25, 1))
    )
    assert same(list(long.kept.values()), list(mixed.kept.values()))


def test_what_is_pruned_already_is_refused():
    model = net()
    critinit.prune(model, batch(), 0.5)
    with pytest.raises(ApplyError, match=r"torch.nn.utils.prune.remove"):
        critinit.prune(model, batch(), 0.5)
    with pytest.raises(ApplyError, match="requires_grad=False"):
        critinit.prune(frozen(), batch(), 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("make", [of_nnx, of_linen, of_equinox])
@pytest.mark.parametrize("method", ["jacobian", "snip"])
def test_optax_keeps_what_is_pruned(make, method):
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    model, how = make()
    pruned = critinit.prune(model, batch().numpy(), 0.8, method, **how)
    adapter = critinit.tensors.application.find_adapter(pruned.model, None, {})

    def zeros(tree: Any) -> dict[str, np.ndarray]:
        named = adapter.tensors(tree, {})
        return {name: np.asarray(adapter.present(named[name])) == 0 for name in pruned.kept}

    for name, zero in zeros(pruned.model).items():
        np.testing.assert_array_equal(zero[~pruned.kept[name]], True)
    if make is of_nnx:
        from flax import nnx

        optimizer = nnx.Optimizer(pruned.model, critinit.keep_pruned(optax.adamw(0.1), pruned), wrt=nnx.Param)
        slopes = jax.tree.map(jax.numpy.ones_like, nnx.state(pruned.model, nnx.Param))
        optimizer.update(pruned.model, slopes)
        after: Any = pruned.model
        assert jax.tree.structure(pruned.masks) == jax.tree.structure(slopes)
    else:
        arrays = jax.tree.map(lambda leaf: leaf if hasattr(leaf, "dtype") else None, pruned.model)
        optimizer = critinit.keep_pruned(optax.adamw(0.1), pruned)
        slopes = jax.tree.map(jax.numpy.ones_like, arrays)
        updates, _ = optimizer.update(slopes, optimizer.init(arrays), arrays)
        after = jax.tree.map(lambda p, u: p if u is None else p + u, arrays, updates, is_leaf=lambda n: n is None)
    for name, zero in zeros(after).items():
        np.testing.assert_array_equal(zero, ~pruned.kept[name])


def test_an_optimizer_of_torch_needs_nothing():
    model = net()
    pruned = critinit.prune(model, batch(), 0.5)
    optimizer = torch.optim.Adam(model.parameters())
    assert critinit.keep_pruned(optimizer, pruned) is optimizer
    with pytest.raises(ArgumentError, match="optimizer"):
        critinit.keep_pruned(object(), pruned)
    with pytest.raises(ArgumentError, match=r"what critinit\.prune returned"):
        critinit.keep_pruned(optimizer, model)
