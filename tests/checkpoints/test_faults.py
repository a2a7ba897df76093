"""The known mistakes, made by each framework itself at hidden size 128: every one is found, and named.

The numbers 1 to 5 are those of the list of traps: 1 an orthogonal fused block, 2 both bias vectors, 3 the candidate's
second bias, 4 the order and the sign of gates, 5 layers and directions left out.
"""

from __future__ import annotations

from itertools import product

import equinox as eqx
import flax.traverse_util
import haiku as hk
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import torch
from critinit_adapters.shared.jax_arrays import path_name
from flax import linen, nnx

from critinit import apply, check, materialize
from tests.adapters.specs import make_spec
from tests.checkpoints.faults import CONSTANT, INPUT, H, arrays, differing, found_wrong, orthogonal_spec

RECURRENT = {
    "gru": {(gate, "recurrent") for gate in ("update", "reset", "candidate")},
    "lstm": {(gate, "recurrent") for gate in ("input", "forget", "cell", "output")},
}


def fresh(framework, spec, **changes):
    """Weights that follow the spec, as the framework stores them."""
    return materialize(spec, framework, **{"input_size": INPUT, "hidden_size": H, "seed": 3, **changes})


# ---- 1: the fused block ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_torch_orthogonal_on_the_fused_block(cell):
    spec = orthogonal_spec(cell)
    model = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell](INPUT, H)
    apply(spec, model, seed=1)
    assert found_wrong(spec, model.state_dict()) == (set(), "")
    torch.nn.init.orthogonal_(model.weight_hh_l0, generator=torch.Generator().manual_seed(0))
    wrong, hints = found_wrong(spec, model.state_dict())
    assert wrong == RECURRENT[cell]
    assert "orthogonal as a whole" in hints


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_torch_orthogonal_gate_by_gate_is_right(cell):
    """torch's own single-precision QR passes, drawn as it should be."""
    spec = orthogonal_spec(cell)
    model = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell](INPUT, H)
    apply(spec, model, seed=1)
    generator = torch.Generator().manual_seed(0)
    for block in model.weight_hh_l0.detach().chunk(len(model.weight_hh_l0) // H):
        torch.nn.init.orthogonal_(block, generator=generator)
    assert found_wrong(spec, model.state_dict()) == (set(), "")


def keras_layer(cell, **changes):
    kind = {"rnn": keras.layers.SimpleRNN, "gru": keras.layers.GRU, "lstm": keras.layers.LSTM}[cell]
    layer = kind(H, **{"unit_forget_bias": False, **changes} if cell == "lstm" else {**changes})
    layer.build((None, None, INPUT))
    return layer


def keras_arrays(layer):
    return {variable.path: np.asarray(variable.value) for variable in layer.weights}


@pytest.mark.parametrize(("cell", "reset"), [("gru", "after"), ("gru", "before"), ("lstm", None)])
def test_keras_default_recurrent_initializer(cell, reset):
    spec = orthogonal_spec(cell, reset)
    changes = {"reset_after": reset == "after"} if reset else {}
    layer = keras_layer(cell, recurrent_initializer=keras.initializers.Orthogonal(seed=0), **changes)
    kernel = np.asarray(layer.cell.recurrent_kernel.value).copy()
    apply(spec, layer, seed=1)
    assert found_wrong(spec, keras_arrays(layer)) == (set(), "")
    layer.cell.recurrent_kernel.assign(kernel)
    wrong, hints = found_wrong(spec, keras_arrays(layer))
    assert wrong == RECURRENT[cell]
    assert "orthogonal as a whole" in hints


@pytest.mark.parametrize(("cell", "kind"), [("gru", nnx.GRUCell), ("lstm", nnx.OptimizedLSTMCell)])
def test_nnx_default_recurrent_initializer(cell, kind):
    spec = orthogonal_spec(cell)
    model = kind(INPUT, H, rngs=nnx.Rngs(0))
    kernel = model.dense_h.kernel.get_value()
    apply(spec, model, seed=1)

    def found():
        return {"/".join(map(str, path)): v.get_value() for path, v in nnx.to_flat_state(nnx.state(model, nnx.Param))}

    assert found_wrong(spec, found()) == (set(), "")
    model.dense_h.kernel.set_value(kernel)
    wrong, hints = found_wrong(spec, found())
    assert wrong == RECURRENT[cell]
    assert "orthogonal as a whole" in hints


def test_linen_and_nnx_cells_with_separate_kernels_are_orthogonal_by_default():
    """Linen's default is orthogonal gate by gate: no mistake, and none is seen."""
    spec = orthogonal_spec("gru")
    tree = linen.GRUCell(H).init(jax.random.key(0), jnp.zeros((1, H)), jnp.zeros((1, INPUT)))
    drawn = flax.traverse_util.flatten_dict(tree, sep="/")
    applied = flax.traverse_util.flatten_dict(apply(spec, tree, seed=1).model, sep="/")
    own = {name: drawn[name] for name in drawn if "/h" in name and name.endswith("kernel")}
    assert len(own) == 3
    assert found_wrong(spec, applied | own) == (set(), "")


# ---- 2: both bias vectors --------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_both_torch_biases(cell):
    spec = orthogonal_spec(cell)
    tensors = fresh("torch", spec)
    tensors["bias_hh_l0"] = tensors["bias_ih_l0"].copy()
    wrong, hints = found_wrong(spec, tensors)
    # the two of the LSTM that are coupled double together, and so stay coupled
    assert (
        wrong
        == {
            "rnn": {("hidden", "bias")},
            "gru": {("update", "bias"), ("reset", "bias")},
            "lstm": {("forget", "bias"), ("output", "bias")},
        }[cell]
    )
    assert "first bias vector alone is as asked; the second is added to it" in hints


def test_torch_forget_bias_counted_twice():
    """The usual recipe: 1 into the forget slice of every tensor whose name says bias."""
    spec = orthogonal_spec("lstm", forget={**CONSTANT, "mean": 1.0})
    model = torch.nn.LSTM(INPUT, H)
    apply(spec, model, seed=1)
    assert found_wrong(spec, model.state_dict()) == (set(), "")
    for name, parameter in model.named_parameters():
        if "bias" in name:
            parameter.data[H : 2 * H].fill_(1.0)
    wrong, _ = found_wrong(spec, model.state_dict())
    assert wrong == {("forget", "bias"), ("input", "bias")}  # the input gate is coupled to the forget gate


def test_torch_default_biases_add_variance():
    spec = orthogonal_spec("gru", update=CONSTANT | {"mean": 1.0})
    model = torch.nn.GRU(INPUT, H)
    random = model.bias_hh_l0.detach().clone()
    apply(spec, model, seed=1)
    model.bias_hh_l0.data.copy_(random)
    wrong, hints = found_wrong(spec, model.state_dict())
    assert wrong == {("update", "bias"), ("reset", "bias"), ("candidate", "inner bias")}
    assert "the second is added to it" in hints


def test_both_rows_of_keras_bias():
    spec = orthogonal_spec("gru", "after")
    layer = keras_layer("gru")
    apply(spec, layer, seed=1)
    layer.cell.bias.assign(np.stack([np.asarray(layer.cell.bias.value)[0]] * 2))
    wrong, hints = found_wrong(spec, keras_arrays(layer))
    assert wrong == {("update", "bias"), ("reset", "bias")}
    assert "the second is added to it" in hints


# ---- 3: the candidate's second bias ----------------------------------------------------------------------


def test_a_bias_within_the_reset_product():
    spec = orthogonal_spec("gru", candidate={**CONSTANT, "mean": 0.7})
    slots = {
        "torch": lambda t: (t["bias_ih_l0"][2 * H :], t["bias_hh_l0"][2 * H :]),
        "keras": lambda t: (
            t["sequential/gru/gru_cell/bias"][0, 2 * H :],
            t["sequential/gru/gru_cell/bias"][1, 2 * H :],
        ),
        "linen": lambda t: (t["params/cell/in/bias"], t["params/cell/hn/bias"]),
        "equinox": lambda t: (t["bias"][2 * H :], t["bias_n"]),
    }
    for framework, slot in slots.items():
        tensors = fresh(framework, spec)
        assert found_wrong(spec, tensors) == (set(), "")
        first, second = slot(tensors)
        second[:], first[:] = first.copy(), 0.0
        wrong, hints = found_wrong(spec, tensors)
        assert wrong == {("candidate", "bias"), ("candidate", "inner bias")}, framework
        assert "scaled by the reset gate" in hints


# ---- 4: order and sign -----------------------------------------------------------------------------------


def reordered(array, axis, order):
    return np.concatenate([np.split(array, len(order), axis)[k] for k in order], axis)


@pytest.mark.parametrize("framework", ["torch", "keras", "nnx", "equinox", "haiku"])
def test_update_and_reset_exchanged(framework):
    """PyTorch's order written into Keras' places, and the other way round."""
    spec = orthogonal_spec("gru", "before" if framework == "haiku" else "after")
    tensors = fresh(framework, spec)
    axis = 0 if framework in ("torch", "equinox") else -1
    for name, array in tensors.items():
        if array.shape[axis] == 3 * H:
            tensors[name] = reordered(array, axis, (1, 0, 2))
    wrong, hints = found_wrong(spec, tensors)
    assert wrong >= {("update", "bias"), ("reset", "bias")}
    if framework == "haiku":  # exchanged with the sign that only one of them has
        return
    assert "reset where update belongs, update where reset belongs" in hints
    assert ("keras" if framework != "keras" else "torch") in hints.partition("that is the order of")[2]


@pytest.mark.parametrize("framework", ["torch", "keras", "nnx", "equinox"])
def test_the_order_of_haikus_lstm_in_the_others(framework):
    """i, g, f, o where i, f, g, o belong."""
    spec = orthogonal_spec("lstm")
    tensors = fresh(framework, spec)
    axis = 0 if framework in ("torch", "equinox") else -1
    for name, array in tensors.items():
        tensors[name] = reordered(array, axis, (0, 2, 1, 3))
    wrong, hints = found_wrong(spec, tensors)
    assert wrong >= {("forget", "bias"), ("cell", "bias")}
    assert "cell where forget belongs, forget where cell belongs" in hints
    assert "that is the order of haiku" in hints


def test_linen_children_exchanged():
    spec = orthogonal_spec("gru")
    tensors = fresh("linen", spec)
    for child in ("kernel", "bias"):
        r, z = f"params/cell/ir/{child}", f"params/cell/iz/{child}"
        tensors[r], tensors[z] = tensors[z], tensors[r]
    wrong, hints = found_wrong(spec, tensors)
    assert wrong == {("update", "bias"), ("reset", "bias")}
    assert "reset where update belongs" in hints


def test_one_minus_z_keeps_the_state_in_haiku():
    """A GRU initialized as if z kept the old state."""
    spec = orthogonal_spec("gru", "before")
    network = hk.transform(lambda x: hk.GRU(H)(x, jnp.zeros((1, H))))
    params = network.init(jax.random.key(0), jnp.zeros((1, INPUT)))
    params = apply(spec, params, seed=1, haiku={"gru": "gru"}).model
    tensors = {path_name(path): np.array(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    assert found_wrong(spec, tensors) == (set(), "")
    tensors["gru/b"][:H] *= -1
    wrong, hints = found_wrong(spec, tensors)
    assert wrong == {("update", "bias")}
    assert "the bias of update has the opposite sign; in Haiku's GRU 1 - z keeps the state" in hints


def test_the_one_that_haikus_lstm_adds():
    """The wanted forget bias stored as it is; the cell then adds 1."""
    spec = orthogonal_spec("lstm")
    network = hk.transform(lambda x: hk.LSTM(H)(x, hk.LSTM(H).initial_state(1))[0])
    params = network.init(jax.random.key(0), jnp.zeros((1, INPUT)))
    params = apply(spec, {"lstm/linear": params["lstm/linear"]}, seed=1, haiku={"lstm": "lstm"}).model
    tensors = {path_name(path): np.array(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    assert found_wrong(spec, tensors) == (set(), "")
    tensors["lstm/linear/b"][2 * H : 3 * H] += 1.0
    wrong, hints = found_wrong(spec, tensors)
    assert wrong == {("forget", "bias"), ("input", "bias")}
    assert "the bias of forget is 1 more than asked; hk.LSTM adds 1 to it by itself" in hints


# ---- 5: layers and directions left out -------------------------------------------------------------------


@pytest.mark.parametrize("left_out", ["_l1", "_reverse"])
def test_torch_layers_and_directions_left_out(left_out):
    spec = orthogonal_spec("lstm", layers=2)
    model = torch.nn.LSTM(INPUT, H, 2, bidirectional=True)
    default = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    apply(spec, model, seed=1)
    assert found_wrong(spec, model.state_dict()) == (set(), "")
    tensors = {n: default[n] if left_out in n else t for n, t in model.state_dict().items()}
    checked = check(spec, arrays(tensors))
    wrong = {(layer, direction) for layer, direction, _, _ in differing(checked)}
    assert wrong == {
        (layer, direction)
        for layer, direction in product((0, 1), (0, 1))
        if (layer == 1 if left_out == "_l1" else direction == 1)
    }
    hints = " | ".join(checked.hints)
    assert "left out of the initialization?" in hints
    assert "the default of torch and Equinox" in hints


def test_the_backward_layer_of_keras_left_out():
    spec = orthogonal_spec("gru", "after")
    both = keras.layers.Bidirectional(keras.layers.GRU(H))
    both.build((None, None, INPUT))
    default = {v.path: np.asarray(v.value).copy() for v in both.weights if "backward" in v.path}
    apply(spec, both, seed=1)
    tensors = keras_arrays(both)
    assert not differing(check(spec, tensors))
    checked = check(spec, tensors | default)
    assert {direction for _, direction, _, _ in differing(checked)} == {1}
    assert "Glorot uniform on the fused kernel, the default of Keras" in " ".join(checked.hints)


# ---- slips of scale, and what is no mistake ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "factor", "hint"),
    [
        (
            "recurrent",
            0.3**0.5,
            "the variance of the recurrent kernel of hidden is 0.09: the spec's variance was taken",
        ),
        ("recurrent", 0.3**-0.25, "is 0.5477: the square root of the spec's variance was taken for the variance"),
        ("recurrent", H**0.5, "it was not divided by the fan-in"),
        ("recurrent", H**-0.5, "it was divided by the fan-in twice"),
        ("bias", 2.0, "the bias of hidden is twice what is asked"),
        ("bias", -1.0, "the bias of hidden has the opposite sign"),
        ("bias", 1.0 + 1.0 / 0.3, "the bias of hidden is 1 more than asked"),
        ("bias", 1.0 - 1.0 / 0.3, "the bias of hidden is 1 less than asked"),
    ],
)
def test_slips_are_named(part, factor, hint):
    """Recurrent variance .3, bias .3 in all units; the numbers multiplied by a factor."""
    spec = make_spec("rnn")
    tensors = fresh("canonical", spec)
    assert found_wrong(spec, tensors) == (set(), "")
    tensors[f"layers.0.0.hidden.{part}"] *= np.float32(factor)
    wrong, hints = found_wrong(spec, tensors)
    assert wrong == {("hidden", part)}
    assert hint in hints


def test_the_second_bias_vector_may_be_the_right_one():
    spec = make_spec("rnn")
    tensors = fresh("torch", spec)
    tensors["bias_hh_l0"] = tensors["bias_ih_l0"].copy()
    tensors["bias_ih_l0"] += np.random.default_rng(0).standard_normal(H).astype(np.float32)
    wrong, hints = found_wrong(spec, tensors)
    assert wrong == {("hidden", "bias")}
    assert "the second bias vector alone is as asked" in hints


def test_biases_divided_between_the_two_vectors_are_no_mistake():
    """Only the sum counts."""
    spec = make_spec("lstm")
    tensors = fresh("torch", spec)
    half = np.float32(0.5) * tensors["bias_ih_l0"]
    assert found_wrong(spec, tensors | {"bias_ih_l0": half, "bias_hh_l0": half}) == (set(), "")


def test_gates_of_one_law_can_change_places():
    spec = orthogonal_spec("gru", update=CONSTANT, reset=CONSTANT)
    tensors = {n: reordered(a, 0, (1, 0, 2)) for n, a in fresh("torch", spec).items()}
    assert found_wrong(spec, tensors) == (set(), "")


# ---- defaults, everywhere --------------------------------------------------------------------------------


def defaults(framework, cell):
    """A layer as the framework initializes it, flat."""
    key, x = jax.random.key(0), jnp.zeros((1, INPUT))
    match framework:
        case "torch":
            torch.manual_seed(0)
            return {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell](INPUT, H).state_dict()
        case "keras":
            return keras_arrays(keras_layer(cell))
        case "linen":
            kind = {"gru": linen.GRUCell, "lstm": linen.LSTMCell}[cell](H)
            return flax.traverse_util.flatten_dict(kind.init(key, kind.initialize_carry(key, x.shape), x), sep="/")
        case "nnx":
            kind = {"gru": nnx.GRUCell, "lstm": nnx.LSTMCell}[cell](INPUT, H, rngs=nnx.Rngs(0))
            return {"/".join(map(str, p)): v.get_value() for p, v in nnx.to_flat_state(nnx.state(kind, nnx.Param))}
        case "equinox":
            kind = {"gru": eqx.nn.GRUCell, "lstm": eqx.nn.LSTMCell}[cell](INPUT, H, key=key)
            return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(kind)}
        case _:
            kind = {"gru": hk.GRU, "lstm": hk.LSTM}[cell]

            def run(x):
                core = kind(H)
                return core(x, core.initial_state(1))[0]

            params = hk.transform(run).init(key, x)
            return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("framework", ["torch", "keras", "linen", "nnx", "equinox", "haiku"])
def test_a_model_never_initialized_is_found(framework, cell):
    """Input kernels of variance 1/2 are no framework's default: with them everything that can differ does."""
    spec = orthogonal_spec(cell, "before" if framework == "haiku" else None)
    gates = spec.layers[0].gates
    wrong, _ = found_wrong(spec, defaults(framework, cell))
    spread = {"gru": "update", "lstm": "forget"}[cell]
    assert (spread, "bias") in wrong
    separate = framework == "linen" or (framework, cell) == ("nnx", "lstm")  # orthogonal by default, gate by gate
    assert {gate for gate, part in wrong if part == "recurrent"} == (set() if separate else set(gates.names()))
