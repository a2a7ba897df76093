"""Materialized files: the numbers of ``apply``, loaded by each framework's own means, running as they should."""

from __future__ import annotations

import json
import math

import equinox as eqx
import flax.traverse_util
import h5py
import haiku as hk
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import safetensors
import safetensors.flax
import safetensors.numpy
import safetensors.torch
import torch
from critinit_adapters.shared.jax_arrays import path_name
from flax import linen, nnx

from critinit import apply, check, materialize
from critinit.weights.materializing import save
from critinit.errors import ArgumentError, FileError
from critinit.tensors.sampling import draw
from tests.adapters.numpy_reference import forward
from tests.adapters.specs import GATES, make_spec

INPUT, HIDDEN, BATCH, TIME, SEED = 5, 12, 3, 9, 7
TOLERANCE = 1e-5
SHAPES = [(1, False), (2, False), (1, True), (2, True)]
x = np.random.default_rng(0).standard_normal((TIME, BATCH, INPUT)).astype(np.float32)


def written(tmp_path, framework, cell, reset, layers, both):
    """The path of a file of materialized weights, the weights, and the outputs that they should give."""
    spec = make_spec(cell, reset, layers)
    tensors = materialize(spec, framework, input_size=INPUT, hidden_size=HIDDEN, seed=SEED, bidirectional=both)
    path = tmp_path / "weights.safetensors"
    save(path, tensors, spec=spec, framework=framework, seed=SEED)
    weights = draw(spec, INPUT, HIDDEN, seed=SEED, directions=2 if both else 1)
    return path, tensors, forward(cell, spec.reset, weights, x.astype(np.float64))


def agree(found, expected):
    np.testing.assert_allclose(np.asarray(found, dtype=np.float64), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_torch_loads_its_state_dict(tmp_path, cell, layers, both):
    path, _, expected = written(tmp_path, "torch", cell, None, layers, both)
    kind = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
    model = kind(INPUT, HIDDEN, layers, bidirectional=both)
    model.load_state_dict(safetensors.torch.load_file(path))
    agree(model(torch.from_numpy(x))[0].detach(), expected)
    other = kind(INPUT, HIDDEN, layers, bidirectional=both)
    apply(make_spec(cell, None, layers), other, seed=SEED)
    for name, tensor in model.state_dict().items():
        assert tensor.numpy().tobytes() == other.state_dict()[name].numpy().tobytes(), name


@pytest.mark.parametrize(("cell", "reset"), [("rnn", None), ("gru", "after"), ("gru", "before"), ("lstm", None)])
@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_keras_takes_them_by_path(tmp_path, cell, reset, layers, both):
    path, _, expected = written(tmp_path, "keras", cell, reset, layers, both)
    keras.backend.clear_session()
    kind = {"rnn": keras.layers.SimpleRNN, "gru": keras.layers.GRU, "lstm": keras.layers.LSTM}[cell]
    changes = {"reset_after": reset == "after"} if reset else {}

    def layer():
        one = kind(HIDDEN, return_sequences=True, **changes)
        return keras.layers.Bidirectional(one) if both else one

    model = keras.Sequential([keras.Input((None, INPUT)), *(layer() for _ in range(layers))])
    found = safetensors.numpy.load_file(path)
    assert {variable.path for variable in model.weights} == set(found)
    for variable in model.weights:
        variable.assign(found[variable.path])
    agree(np.asarray(model(np.swapaxes(x, 0, 1))).swapaxes(0, 1), expected)


@pytest.mark.parametrize(("cell", "reset"), [("rnn", None), ("gru", "after"), ("gru", "before"), ("lstm", None)])
@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_keras_loads_its_own_format(tmp_path, cell, reset, layers, both):
    spec = make_spec(cell, reset, layers)
    path = tmp_path / "m.weights.h5"
    sizes = {"input_size": INPUT, "hidden_size": HIDDEN, "seed": SEED, "bidirectional": both}
    save(path, materialize(spec, "keras", **sizes, ending=".weights.h5"), spec=spec, framework="keras", seed=SEED)
    kind = {"rnn": keras.layers.SimpleRNN, "gru": keras.layers.GRU, "lstm": keras.layers.LSTM}[cell]
    changes = {"reset_after": reset == "after"} if reset else {}

    def layer():
        one = kind(HIDDEN, return_sequences=True, **changes)
        return keras.layers.Bidirectional(one) if both else one

    model = keras.Sequential([keras.Input((None, INPUT)), *(layer() for _ in range(layers))])
    model.load_weights(path)
    weights = draw(spec, INPUT, HIDDEN, seed=SEED, directions=2 if both else 1)
    agree(np.asarray(model(np.swapaxes(x, 0, 1))).swapaxes(0, 1), forward(cell, spec.reset, weights, x.astype(float)))
    assert check(spec, path, false_alarm_rate=1e-6).matches
    with h5py.File(path) as file:
        assert json.loads(file.attrs["critinit"])["seed"] == SEED


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_linen_takes_the_unflattened_tree(tmp_path, cell, layers, both):
    path, tensors, expected = written(tmp_path, "linen", cell, None, layers, both)
    kind = {"rnn": linen.SimpleCell, "gru": linen.GRUCell, "lstm": linen.LSTMCell}[cell]

    def layer():
        one = [linen.RNN(kind(HIDDEN)) for _ in range(1 + both)]
        return linen.Bidirectional(*one) if both else one[0]

    model = linen.Sequential([layer() for _ in range(layers)]) if layers > 1 else layer()
    inputs = jnp.swapaxes(x, 0, 1)
    wanted = model.init(jax.random.key(0), inputs)
    params = flax.traverse_util.unflatten_dict(safetensors.flax.load_file(path), sep="/")
    assert jax.tree.structure(params) == jax.tree.structure(wanted)
    agree(model.apply(params, inputs).swapaxes(0, 1), expected)
    applied = flax.traverse_util.flatten_dict(apply(make_spec(cell, None, layers), wanted, seed=SEED).model, sep="/")
    assert {n: a.tobytes() for n, a in tensors.items()} == {n: np.asarray(a).tobytes() for n, a in applied.items()}


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_nnx_takes_the_unflattened_state(tmp_path, cell, layers, both):
    path, _, expected = written(tmp_path, "nnx", cell, None, layers, both)
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
    nnx.replace_by_pure_dict(state, flax.traverse_util.unflatten_dict(found))
    nnx.update(model, state)
    agree(model(jnp.swapaxes(x, 0, 1)).swapaxes(0, 1), expected)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_equinox_takes_them_leaf_by_leaf(tmp_path, cell, layers, both):
    path, _, expected = written(tmp_path, "equinox", cell, None, layers, both)
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


@pytest.mark.parametrize(("cell", "reset"), [("gru", "before"), ("lstm", None)])
@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_haiku_takes_the_tree(tmp_path, cell, reset, layers, both):
    path, _, expected = written(tmp_path, "haiku", cell, reset, layers, both)
    kind = {"gru": hk.GRU, "lstm": hk.LSTM}[cell]

    def run(inputs):
        for layer in range(layers):
            number = f"_{layer}" if layer else ""
            names = [f"{way}_{cell}{number}" for way in ("forward", "backward")] if both else [None]
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


@pytest.mark.parametrize("cell", GATES)
def test_canonical_holds_every_cell_bit_for_bit(cell):
    spec = make_spec(cell, layers=2)
    found = materialize(
        spec, "canonical", input_size=INPUT, hidden_size=HIDDEN, seed=SEED, bidirectional=True, dtype="float64"
    )
    weights = draw(spec, INPUT, HIDDEN, seed=SEED, directions=2)
    assert len(found) == 2 * 2 * 3 * len(GATES[cell])
    for name, array in found.items():
        _, layer, direction, gate, part = name.split(".")
        wanted = getattr(weights.layers[int(layer)][int(direction)].gates[gate], part)
        assert array.dtype == np.float64
        assert array.tobytes() == wanted.tobytes()


def test_the_file_says_where_it_comes_from_and_is_the_same_each_time(tmp_path):
    spec = make_spec("gru")
    contents = set()
    for n in range(6):
        tensors = materialize(spec, "keras", input_size=INPUT, hidden_size=HIDDEN, seed=SEED)
        assert all(array.flags.c_contiguous and array.dtype == np.float32 for array in tensors.values())
        path = tmp_path / f"{n}.safetensors"
        save(path, tensors, spec=spec, framework="keras", seed=SEED)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    with safetensors.safe_open(path, "numpy") as file:
        origin = json.loads(file.metadata()["critinit"])
    assert (origin["framework"], origin["seed"], origin["spec"]) == ("keras", SEED, json.loads(spec.to_json()))


def test_arrays_that_are_not_contiguous_are_saved_right(tmp_path):
    """``safetensors.numpy`` writes a transposed array's memory as it lies; ours is copied first."""
    array = np.arange(6.0, dtype=np.float32).reshape(2, 3).T
    path = tmp_path / "t.safetensors"
    save(path, {"a": array}, spec=make_spec("rnn"), framework="canonical", seed=0)
    np.testing.assert_array_equal(safetensors.numpy.load_file(path)["a"], array)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"framework": "chainer"}, r"^framework: found 'chainer'; allowed: canonical, equinox, haiku, keras"),
        ({"framework": "haiku"}, r"^framework: haiku has no gru with reset after; it has lstm, gru with reset before"),
        ({"input_size": 0}, r"^input_size: found 0; allowed: an integer of at least 1"),
        ({"hidden_size": 2.0}, r"^hidden_size: found 2\.0"),
        ({"seed": -1}, r"^seed: found -1"),
        ({"ending": ".weights.h5"}, r"^ending: found '\.weights\.h5'; allowed for torch: \.safetensors"),
        ({"dtype": "int8"}, r"^dtype: found 'int8'; allowed: float32, float64, float16"),
    ],
)
def test_bad_arguments(changes, message):
    arguments = {"framework": "torch", "input_size": 3, "hidden_size": 4} | changes
    with pytest.raises(ArgumentError, match=message):
        materialize(make_spec("gru"), arguments.pop("framework"), **arguments)


def test_numbers_that_the_type_cannot_hold_are_refused():
    spec = make_spec("rnn", bias={"distribution": "constant", "mean": 1e6, "variance": 0.0})
    with pytest.raises(ArgumentError, match=r"^dtype: float16 cannot hold the numbers of bias_ih_l0"):
        materialize(spec, "torch", input_size=3, hidden_size=4, dtype="float16")
    assert math.isclose(materialize(spec, "torch", input_size=3, hidden_size=4)["bias_ih_l0"][0], 1e6)


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    tensors = materialize(make_spec("rnn"), "torch", input_size=3, hidden_size=4)
    with pytest.raises(FileError, match="a directory"):
        save(tmp_path, tensors, spec=make_spec("rnn"), framework="torch", seed=0)
    assert list(tmp_path.iterdir()) == []
