"""Materialized files are loaded by each framework's own means, and the models run as they should."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from critinit import apply, check, materialize
from critinit.tensors.sampling import draw
from critinit.weights.materializing import save
from tests.adapters.numpy_reference import forward
from tests.adapters.specs import make_spec

torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")
jax = pytest.importorskip("jax")
jnp = pytest.importorskip("jax.numpy")
linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")
traverse_util = pytest.importorskip("flax.traverse_util")
flatten_dict, unflatten_dict = traverse_util.flatten_dict, traverse_util.unflatten_dict
eqx = pytest.importorskip("equinox")
hk = pytest.importorskip("haiku")
h5py = pytest.importorskip("h5py")
safetensors = pytest.importorskip("safetensors")
for module in ("numpy", "torch", "flax"):
    pytest.importorskip(f"safetensors.{module}")
path_name = pytest.importorskip("critinit_adapters.shared.jax_arrays").path_name
pytestmark = pytest.mark.frameworks

INPUT, HIDDEN, BATCH, TIME, SEED = 5, 12, 3, 9, 7
TOLERANCE = 1e-5
SHAPES = [(1, False), (2, False), (1, True), (2, True)]
x = np.random.default_rng(0).standard_normal((TIME, BATCH, INPUT)).astype(np.float32)


def written(tmp_path, framework, cell, layers, both):
    """The path of a file of materialized weights, the weights, and the outputs that they should give."""
    spec = make_spec(cell, layers=layers)
    tensors = materialize(spec, framework, input_size=INPUT, hidden_size=HIDDEN, seed=SEED, bidirectional=both)
    path = tmp_path / "weights.safetensors"
    save(path, tensors, spec=spec, framework=framework, seed=SEED)
    weights = draw(spec, INPUT, HIDDEN, seed=SEED, directions=2 if both else 1)
    return path, tensors, forward(cell, weights, x.astype(np.float64))


def agree(found, expected):
    np.testing.assert_allclose(np.asarray(found, dtype=np.float64), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("cell", ["rnn", "relu_rnn", "gru", "lstm"])
@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_torch_loads_its_state_dict(tmp_path, cell, layers, both):
    path, _, expected = written(tmp_path, "torch", cell, layers, both)
    kind = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}.get(cell)
    kind = kind or partial(torch.nn.RNN, nonlinearity="relu")
    model = kind(INPUT, HIDDEN, layers, bidirectional=both)
    model.load_state_dict(safetensors.torch.load_file(path))
    agree(model(torch.from_numpy(x))[0].detach(), expected)
    other = kind(INPUT, HIDDEN, layers, bidirectional=both)
    apply(make_spec(cell, layers=layers), other, seed=SEED)
    for name, tensor in model.state_dict().items():
        assert tensor.numpy().tobytes() == other.state_dict()[name].numpy().tobytes(), name


def keras_model(cell, layers, both):
    kinds = dict.fromkeys(("rnn", "relu_rnn"), keras.layers.SimpleRNN) | {"lstm": keras.layers.LSTM}
    changes = {
        "relu_rnn": {"activation": "relu"},
        "gru": {"reset_after": True},
        "gru_reset_before": {"reset_after": False},
    }.get(cell, {})

    def layer():
        one = kinds.get(cell, keras.layers.GRU)(HIDDEN, return_sequences=True, **changes)
        return keras.layers.Bidirectional(one) if both else one

    return keras.Sequential([keras.Input((None, INPUT)), *(layer() for _ in range(layers))])


@pytest.mark.parametrize("cell", ["rnn", "relu_rnn", "gru", "gru_reset_before", "lstm"])
@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_keras_takes_them_by_path(tmp_path, cell, layers, both):
    path, _, expected = written(tmp_path, "keras", cell, layers, both)
    keras.backend.clear_session()
    model = keras_model(cell, layers, both)
    found = safetensors.numpy.load_file(path)
    assert {variable.path for variable in model.weights} == set(found)
    for variable in model.weights:
        variable.assign(found[variable.path])
    agree(np.asarray(model(np.swapaxes(x, 0, 1))).swapaxes(0, 1), expected)


@pytest.mark.parametrize("cell", ["rnn", "gru", "gru_reset_before", "lstm"])
@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_keras_loads_its_own_format(tmp_path, cell, layers, both):
    spec = make_spec(cell, layers=layers)
    path = tmp_path / "m.weights.h5"
    sizes = {"input_size": INPUT, "hidden_size": HIDDEN, "seed": SEED, "bidirectional": both}
    save(path, materialize(spec, "keras", **sizes, ending=".weights.h5"), spec=spec, framework="keras", seed=SEED)
    model = keras_model(cell, layers, both)
    model.load_weights(path)
    weights = draw(spec, INPUT, HIDDEN, seed=SEED, directions=2 if both else 1)
    agree(np.asarray(model(np.swapaxes(x, 0, 1))).swapaxes(0, 1), forward(cell, weights, x.astype(float)))
    assert check(spec, path, false_alarm_rate=1e-6).matches
    with h5py.File(path) as file:
        assert json.loads(file.attrs["critinit"])["seed"] == SEED


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_linen_takes_the_unflattened_tree(tmp_path, cell, layers, both):
    path, tensors, expected = written(tmp_path, "linen", cell, layers, both)
    kind = {"rnn": linen.SimpleCell, "gru": linen.GRUCell, "lstm": linen.LSTMCell}[cell]

    def layer():
        one = [linen.RNN(kind(HIDDEN)) for _ in range(1 + both)]
        return linen.Bidirectional(*one) if both else one[0]

    model = linen.Sequential([layer() for _ in range(layers)]) if layers > 1 else layer()
    inputs = jnp.swapaxes(x, 0, 1)
    wanted = model.init(jax.random.key(0), inputs)
    params = unflatten_dict(safetensors.flax.load_file(path), sep="/")
    assert jax.tree.structure(params) == jax.tree.structure(wanted)
    agree(model.apply(params, inputs).swapaxes(0, 1), expected)
    applied = flatten_dict(apply(make_spec(cell, layers=layers), wanted, seed=SEED).model, sep="/")
    assert {n: a.tobytes() for n, a in tensors.items()} == {n: np.asarray(a).tobytes() for n, a in applied.items()}


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_nnx_takes_the_unflattened_state(tmp_path, cell, layers, both):
    path, _, expected = written(tmp_path, "nnx", cell, layers, both)
    kind = {"rnn": nnx.SimpleCell, "gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}[cell]
    rngs = nnx.Rngs(0)

    def layer(width):
        one = [nnx.RNN(kind(width, HIDDEN, rngs=rngs)) for _ in range(1 + both)]
        return nnx.Bidirectional(*one) if both else one[0]

    widths = [INPUT, *[HIDDEN * (1 + both)] * (layers - 1)]
    model = nnx.Sequential(*map(layer, widths)) if layers > 1 else layer(INPUT)
    state = nnx.state(model, nnx.Param)
    found = {
        tuple(int(part) if part.isdigit() else part for part in name.split("/")): array
        for name, array in safetensors.numpy.load_file(path).items()
    }
    assert set(found) == set(dict(nnx.to_flat_state(state)))
    nnx.replace_by_pure_dict(state, unflatten_dict(found))
    nnx.update(model, state)
    agree(model(jnp.swapaxes(x, 0, 1)).swapaxes(0, 1), expected)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_equinox_takes_them_leaf_by_leaf(tmp_path, cell, layers, both):
    path, _, expected = written(tmp_path, "equinox", cell, layers, both)
    kind = {"gru": eqx.nn.GRUCell, "lstm": eqx.nn.LSTMCell}[cell]

    def one(width):
        return kind(width, HIDDEN, key=jax.random.key(0))

    def layer(width):
        return {"forward": one(width), "backward": one(width)} if both else one(width)

    model = [layer(width) for width in [INPUT, *[HIDDEN * (1 + both)] * (layers - 1)]]
    model = model if layers > 1 else model[0]
    found = safetensors.numpy.load_file(path)
    assert {path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(model)} == set(found)
    model = jax.tree_util.tree_map_with_path(lambda p, leaf: jnp.asarray(found[path_name(p)]), model)
    out = jnp.asarray(x)
    for cells in model if layers > 1 else [model]:
        ways = (
            [_scan(cells["forward"], out), _scan(cells["backward"], out[::-1])[::-1]] if both else [_scan(cells, out)]
        )
        out = jnp.concatenate(ways, axis=-1)
    agree(out, expected)


def _scan(cell, inputs):
    zero = jnp.zeros((inputs.shape[1], HIDDEN))
    lstm = isinstance(cell, eqx.nn.LSTMCell)

    def step(state, now):
        state = jax.vmap(cell)(now, state)
        return state, state[0] if lstm else state

    return jax.lax.scan(step, (zero, zero) if lstm else zero, inputs)[1]


@pytest.mark.parametrize("cell", ["gru_reset_before", "lstm"])
@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_haiku_takes_the_tree(tmp_path, cell, layers, both):
    path, _, expected = written(tmp_path, "haiku", cell, layers, both)
    kind, name_of = {"gru_reset_before": (hk.GRU, "gru"), "lstm": (hk.LSTM, "lstm")}[cell]

    def run(inputs):
        for layer in range(layers):
            number = f"_{layer}" if layer else ""
            names = [f"{way}_{name_of}{number}" for way in ("forward", "backward")] if both else [None]
            outputs = []
            for direction, name in enumerate(names):
                core, turn = kind(HIDDEN, name=name), slice(None, None, -1 if direction else 1)
                outputs.append(hk.dynamic_unroll(core, inputs[turn], core.initial_state(BATCH))[0][turn])
            inputs = jnp.concatenate(outputs, axis=-1)
        return inputs

    network = hk.without_apply_rng(hk.transform(run))
    wanted = network.init(jax.random.key(0), jnp.asarray(x))
    params = {}
    for name, array in safetensors.flax.load_file(path).items():
        module, _, parameter = name.rpartition("/")
        params.setdefault(module, {})[parameter] = array
    assert jax.tree.structure(params) == jax.tree.structure(wanted)
    agree(network.apply(params, jnp.asarray(x)), expected)
