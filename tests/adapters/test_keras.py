"""Keras beyond the conformance table: what is found and refused, types, unbuilt layers, declared models."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from critinit_adapters.keras.adapter import SpecInitializer, initializers
from keras import layers

from critinit.tensors.application import apply
from critinit.errors import ApplyError, ArgumentError, SpecError
from critinit.tensors.sampling import draw
from tests.adapters.drivers.keras import host
from tests.adapters.specs import make_spec

M, H = 5, 12


def bits(model):
    return {id(v): host(v.value).tobytes() for v in model.variables}


def kernel_of(spec, gate, layer=0, direction=0, **given):
    return draw(spec, M, H, **given).layers[layer][direction].gates[gate].recurrent.T.astype(np.float32)


def larger_model():
    """Two GRUs and an LSTM among other things; returns the model and its parts."""
    parts = {
        "first": layers.GRU(H, return_sequences=True, name="first"),
        "memory": layers.LSTM(H, return_sequences=True, name="memory"),
        "norm": layers.BatchNormalization(name="norm"),
        "second": layers.GRU(H, name="second"),
        "head": layers.Dense(2, name="head"),
    }
    return keras.Sequential([keras.Input((None, M)), *parts.values()]), parts


def test_a_model_with_other_things():
    model, parts = larger_model()
    before = bits(model)
    applied = apply(make_spec("gru"), model, seed=5)
    assert applied.model is model
    after = bits(model)
    ours = {id(v) for name in ("first", "second") for v in parts[name].trainable_variables}
    assert {key for key in before if before[key] != after[key]} == ours
    assert set(applied.report.untouched) == {v.path for v in model.variables if id(v) not in ours}
    assert any("'memory': a lstm" in note for note in applied.report.notes)
    for index, name in enumerate(("first", "second")):
        found = host(parts[name].cell.recurrent_kernel.value)
        assert np.array_equal(found[:, :H], kernel_of(make_spec("gru"), "update", seed=5, module=index))


def test_include():
    model, parts = larger_model()
    before = bits(model)
    apply(make_spec("gru"), model, include="second")
    after = bits(model)
    ours = {id(v) for v in parts["second"].trainable_variables}
    assert {key for key in before if before[key] != after[key]} == ours


def test_a_mixed_stack_is_a_network_for_each_cell():
    rnn = layers.RNN([layers.GRUCell(H), layers.LSTMCell(H), layers.GRUCell(7)])
    rnn.build((None, None, M))
    report = apply(make_spec("gru", layers=2), rnn).report
    assert {(row.layer, row.tensor.split("/")[-2]) for row in report} == {
        (layer, rnn.cell.cells[n].name) for layer, n in ((0, 0), (1, 2))
    }


def test_a_shared_layer_is_written_once():
    shared = layers.GRU(H, return_sequences=True)
    inputs = keras.Input((None, H))
    model = keras.Model(inputs, shared(shared(inputs)))
    assert len(apply(make_spec("gru"), model).report) == 9


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_types(dtype):
    layer = layers.GRU(H, dtype=dtype, recurrent_initializer="zeros")
    layer.build((None, None, M))
    apply(make_spec("gru"), layer)
    variable = layer.cell.recurrent_kernel
    assert variable.dtype == dtype
    wanted = draw(make_spec("gru"), M, H).layers[0][0].gates["update"].recurrent.T.astype(variable.dtype)
    found = host(variable.value)[:, :H]
    assert np.array_equal(found.astype(np.float32), wanted.astype(np.float32))


def test_a_number_that_the_type_cannot_hold():
    layer = layers.GRU(H, dtype="float16")
    layer.build((None, None, M))
    before = bits(layer)
    spec = make_spec("gru", bias={"distribution": "constant", "mean": 1e5, "variance": 0.0})
    with pytest.raises(ApplyError, match=r"bias: layers\.0\.gates\.update\.bias has numbers"):
        apply(spec, layer)
    assert bits(layer) == before


# ---- layers that are not built ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "count", "directions"),
    [
        (lambda: layers.GRU(H), 1, 1),
        (lambda: layers.GRUCell(H), 1, 1),
        (lambda: layers.Bidirectional(layers.GRU(H)), 1, 2),
        (lambda: layers.RNN([layers.GRUCell(H), layers.GRUCell(H)]), 2, 1),
        (lambda: layers.StackedRNNCells([layers.GRUCell(H), layers.GRUCell(H)]), 2, 1),
    ],
)
def test_unbuilt_layers_are_built_where_the_width_is_given(make, count, directions):
    spec = make_spec("gru", layers=count)
    layer = make()
    with pytest.raises(ApplyError, match=r"not built yet.*input_size="):
        apply(spec, layer)
    with pytest.raises(ApplyError, match=r"reset gate acts after.*the spec's before"):
        apply(make_spec("gru", "before", layers=count), layer, input_size=M)
    assert not layer.built
    report = apply(spec, layer, input_size=M).report
    assert layer.built
    assert len(report) == 9 * count * directions
    built = make()
    built.build((None, M) if isinstance(built, layers.GRUCell | layers.StackedRNNCells) else (None, None, M))
    apply(spec, built)
    kernels = [[host(v.value) for v in one.trainable_variables] for one in (layer, built)]
    assert all(np.array_equal(one, other) for one, other in zip(*kernels, strict=True))


def test_an_unbuilt_model_is_refused():
    with pytest.raises(ApplyError, match="not built yet"):
        apply(make_spec("gru"), keras.Sequential([layers.GRU(H)]), input_size=M)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "5"])
def test_bad_input_size(size):
    with pytest.raises(ArgumentError, match="input_size: found"):
        apply(make_spec("gru"), layers.GRU(H), input_size=size)


# ---- what is refused -------------------------------------------------------------------------------------


def built(layer):
    layer.build((None, None, M))
    return layer


@pytest.mark.parametrize(
    ("spec", "make", "message"),
    [
        (
            make_spec("rnn"),
            lambda: layers.SimpleRNN(H, activation="relu"),
            "found activation relu; the theory is for tanh",
        ),
        (
            make_spec("lstm"),
            lambda: layers.LSTM(H, recurrent_activation="hard_sigmoid"),
            "recurrent_activation hard_sigmoid",
        ),
        (
            make_spec("gru"),
            lambda: layers.GRU(H, reset_after=False),
            "acts before the recurrent kernel, the spec's after",
        ),
        (make_spec("gru", "before"), lambda: layers.GRU(H), "acts after the recurrent kernel, the spec's before"),
        (make_spec("minimal_rnn"), lambda: layers.SimpleRNN(H), "keras has no layer for minimal_rnn"),
        (make_spec("lstm"), lambda: layers.GRU(H), "for cell lstm; found gru"),
        (make_spec("gru"), lambda: layers.GRU(H, use_bias=False), r"no bias for gate update"),
        (make_spec("gru", layers=2), lambda: layers.GRU(H), "has 1 layers, the spec has 2"),
    ],
)
def test_refused(spec, make, message):
    layer = built(make())
    before = bits(layer)
    with pytest.raises(ApplyError, match=message) as raised:
        apply(spec, layer)
    assert "\n" not in str(raised.value)
    assert bits(layer) == before


def test_a_variable_that_refuses_to_be_written(monkeypatch):
    model, parts = larger_model()
    before = bits(model)

    def refuse(value):
        raise RuntimeError("read only")

    monkeypatch.setattr(parts["second"].cell.bias, "assign", refuse)
    with pytest.raises(ApplyError, match=r"second.*/bias: cannot be written \(RuntimeError: read only\); nothing"):
        apply(make_spec("gru"), model)
    monkeypatch.undo()
    assert bits(model) == before


# ---- declared with the spec ------------------------------------------------------------------------------

CLASSES = [
    ("rnn", None, layers.SimpleRNN),
    ("gru", "after", layers.GRU),
    ("gru", "before", layers.GRU),
    ("lstm", None, layers.LSTM),
]


@pytest.mark.parametrize(("cell", "reset", "kind"), CLASSES)
def test_a_declared_layer_has_the_numbers_of_apply(cell, reset, kind, tmp_path):
    spec = make_spec(cell, reset, recurrent="orthogonal", layers=2)

    def variables(layer):
        return [host(v.value).tobytes() for v in layer.trainable_variables]

    def stack(made):
        return keras.Sequential([keras.Input((None, M)), *made])

    more = {"reset_after": reset == "after"} if reset else {}
    patched = stack([kind(H, return_sequences=True, **more), kind(H, **more)])
    apply(spec, patched, seed=9)
    declared = stack([kind(H, return_sequences=n == 0, **initializers(spec, layer=n, seed=9)) for n in range(2)])
    assert variables(declared) == variables(patched)
    again = keras.Sequential.from_config(declared.get_config())
    assert variables(again) == variables(patched)


def test_an_initializer_is_saved_and_loaded():
    given = initializers(make_spec("lstm", layers=2), layer=1, direction=1, seed=4, module=2)["bias_initializer"]
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(given))
    assert isinstance(loaded, SpecInitializer)
    assert loaded.place == given.place
    assert np.array_equal(host(loaded((4 * H,))), host(given((4 * H,))))


def test_declared_directions():
    spec = make_spec("lstm")
    both = layers.Bidirectional(
        layers.LSTM(H, **initializers(spec)),
        backward_layer=layers.LSTM(H, go_backwards=True, **initializers(spec, direction=1)),
    )
    both.build((None, None, M))
    patched = layers.Bidirectional(layers.LSTM(H))
    patched.build((None, None, M))
    apply(spec, patched)
    found = ([host(v.value).tobytes() for v in one.trainable_variables] for one in (both, patched))
    assert next(found) == next(found)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: initializers(make_spec("gru"), layer=1), ArgumentError, "layer: found 1; allowed: 0 to 0"),
        (lambda: initializers(make_spec("gru"), direction=2), ArgumentError, "direction: found 2"),
        (lambda: initializers(make_spec("gru"), seed=-1), ArgumentError, "seed: found -1"),
        (lambda: initializers(make_spec("minimal_rnn")), ArgumentError, "keras has no layer for minimal_rnn"),
        (lambda: SpecInitializer(make_spec("gru"), "gates"), ArgumentError, "tensor: found 'gates'"),
        (lambda: SpecInitializer({"cell": "gru"}, "bias"), SpecError, "schema_version|layers|missing"),
        (lambda: initializers(make_spec("gru"))["kernel_initializer"]((M, 3 * H + 1)), ApplyError, "which is no gru"),
    ],
)
def test_bad_declarations(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_activations_are_known_by_what_they_compute():
    for tanh in (keras.ops.tanh, lambda x: keras.ops.tanh(x)):
        layer = layers.GRU(H, activation=tanh)
        layer.build((None, None, M))
        assert len(apply(make_spec("gru"), layer).report) == 9
    for other, name in ((keras.ops.relu, "relu"), (lambda x: x.no_such_attribute, "<lambda>")):
        layer = layers.GRU(H, activation=other)
        layer.build((None, None, M))
        with pytest.raises(ApplyError, match=f"found activation {name}; the theory is for tanh"):
            apply(make_spec("gru"), layer)
