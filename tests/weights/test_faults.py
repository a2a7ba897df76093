"""The known mistakes, made by each framework itself at hidden size 128: every one is found, and named.

The numbers are those of the list of traps: 1 an orthogonal fused block, 2 both bias vectors, 4 the order and the sign
of gates, 5 layers and directions left out.  Number 3, the candidate's second bias, and mistakes that need no framework
are in ``test_hints``.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from critinit import apply, check, generate
from tests.weights.faults import CONSTANT, INPUT, H, arrays, differing, found_wrong, fresh, orthogonal_spec

torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")
jax = pytest.importorskip("jax")
jnp = pytest.importorskip("jax.numpy")
linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")
flatten_dict = pytest.importorskip("flax.traverse_util").flatten_dict
eqx = pytest.importorskip("equinox")
hk = pytest.importorskip("haiku")
path_name = pytest.importorskip("critinit_adapters.shared.jax_arrays").path_name
pytestmark = pytest.mark.frameworks

RECURRENT = {
    "gru": {(gate, "recurrent") for gate in ("update", "reset", "candidate")},
    "lstm": {(gate, "recurrent") for gate in ("input", "forget", "cell", "output")},
}
RECURRENT["gru_reset_before"] = RECURRENT["gru"]


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
    layers, own = keras.layers, {"lstm": {"unit_forget_bias": False}, "gru_reset_before": {"reset_after": False}}
    kinds = {"rnn": layers.SimpleRNN, "gru": layers.GRU, "gru_reset_before": layers.GRU, "lstm": layers.LSTM}
    layer = kinds[cell](H, **own.get(cell, {}), **changes)
    layer.build((None, None, INPUT))
    return layer


def keras_arrays(layer):
    return {variable.path: np.asarray(variable.value) for variable in layer.weights}


@pytest.mark.parametrize("cell", ["gru", "gru_reset_before", "lstm"])
def test_keras_default_recurrent_initializer(cell):
    spec = orthogonal_spec(cell)
    layer = keras_layer(cell, recurrent_initializer=keras.initializers.Orthogonal(seed=0))
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
    drawn = flatten_dict(tree, sep="/")
    applied = flatten_dict(apply(spec, tree, seed=1).model, sep="/")
    own = {name: drawn[name] for name in drawn if "/h" in name and name.endswith("kernel")}
    assert len(own) == 3
    assert found_wrong(spec, applied | own) == (set(), "")


# ---- 2: both bias vectors --------------------------------------------------------------------------------


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
    spec = orthogonal_spec("gru")
    layer = keras_layer("gru")
    apply(spec, layer, seed=1)
    layer.cell.bias.assign(np.stack([np.asarray(layer.cell.bias.value)[0]] * 2))
    wrong, hints = found_wrong(spec, keras_arrays(layer))
    assert wrong == {("update", "bias"), ("reset", "bias")}
    assert "the second is added to it" in hints


# ---- 4: order and sign -----------------------------------------------------------------------------------


def test_one_minus_z_keeps_the_state_in_haiku():
    """A GRU initialized as if z kept the old state."""
    spec = orthogonal_spec("gru_reset_before")
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
    spec = orthogonal_spec("gru")
    both = keras.layers.Bidirectional(keras.layers.GRU(H))
    both.build((None, None, INPUT))
    default = {v.path: np.asarray(v.value).copy() for v in both.weights if "backward" in v.path}
    apply(spec, both, seed=1)
    tensors = keras_arrays(both)
    assert not differing(check(spec, tensors))
    checked = check(spec, tensors | default)
    assert {direction for _, direction, _, _ in differing(checked)} == {1}
    assert "Glorot uniform on the fused kernel, the default of Keras" in " ".join(checked.hints)


# ---- training --------------------------------------------------------------------------------------------


def one_step(model, optimizer):
    """One step of an optimizer on a random task of three classes."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 16, INPUT, generator=generator), torch.randint(3, (16,), generator=generator)
    head = 0.1 * torch.randn(H, 3, generator=generator)
    loss = torch.nn.functional.cross_entropy(model(x)[0][-1] @ head, y)
    stepper = optimizer(model.parameters())
    loss.backward()
    stepper.step()


TRAINED = "every part differs a little, by about {}, and each unit by its own amount: this looks trained"


@pytest.mark.parametrize("rate", [1e-3, 1e-2])
@pytest.mark.parametrize("scheme", ["critical", "chrono", "orthogonal", "keras"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_one_step_of_adam_looks_trained(cell, scheme, rate):
    """The two bias vectors move together, so that hints about the second one would be false."""
    spec = generate(cell, T=100, scheme=scheme)
    model = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell](INPUT, H)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in fresh("torch", spec).items()})
    assert found_wrong(spec, model.state_dict()) == (set(), "")
    one_step(model, lambda parameters: torch.optim.Adam(parameters, lr=rate))
    wrong, hints = found_wrong(spec, model.state_dict())
    assert wrong
    assert hints == f"{TRAINED.format(f'{rate:.1g}')}; check is for weights as they are before training"


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
            return flatten_dict(kind.init(key, kind.initialize_carry(key, x.shape), x), sep="/")
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
    spec = orthogonal_spec("gru_reset_before" if (framework, cell) == ("haiku", "gru") else cell)
    gates = spec.layers[0].gates
    wrong, _ = found_wrong(spec, defaults(framework, cell))
    spread = {"gru": "update", "lstm": "forget"}[cell]
    assert (spread, "bias") in wrong
    separate = framework == "linen" or (framework, cell) == ("nnx", "lstm")  # orthogonal by default, gate by gate
    assert {gate for gate, part in wrong if part == "recurrent"} == (set() if separate else set(gates))
