"""Keras beyond the conformance table: what is found and refused, types, unbuilt layers, declared models."""

from __future__ import annotations

import pytest

pytest.importorskip("keras")

import json
import re

import keras
import numpy as np
from critinit_adapters.keras.adapter import SpecInitializer, initializers
from keras import layers

import critinit
from critinit.errors import ApplyError, ArgumentError, SchemeError, SpecError
from critinit.schemes import SCHEMES
from critinit.tensors.application import apply
from critinit.tensors.sampling import draw
from tests.adapters.drivers.keras import RESET_AFTER, host
from tests.adapters.specs import GATES, make_spec

pytestmark = pytest.mark.frameworks
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
    with pytest.raises(ApplyError, match=r"bias: found numbers of layers\.0\.gates\.update\.bias that"):
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
    with pytest.raises(ApplyError, match=r"found gru at the target itself; .* --cell gru$"):
        apply(make_spec("gru_reset_before", layers=count), layer, input_size=M)
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
            "found relu_rnn at the target itself; allowed: a layer of the spec's cell, rnn; .* --cell relu_rnn$",
        ),
        (make_spec("relu_rnn"), lambda: layers.SimpleRNN(H), "found rnn at the target itself; .* --cell rnn$"),
        (
            make_spec("rnn"),
            lambda: layers.SimpleRNN(H, activation="relu6"),
            "activation: found relu6; allowed: tanh; the theory is for tanh",
        ),
        (
            make_spec("relu_rnn"),
            lambda: layers.SimpleRNN(H, activation="relu6"),
            r"found rnn at the target itself \(no spec takes it: activation: found relu6; .*cell, relu_rnn$",
        ),
        (
            make_spec("lstm"),
            lambda: layers.LSTM(H, recurrent_activation="hard_sigmoid"),
            "recurrent_activation: found hard_sigmoid",
        ),
        (
            make_spec("gru"),
            lambda: layers.GRU(H, reset_after=False),
            "found gru_reset_before at the target itself; .* --cell gru_reset_before$",
        ),
        (make_spec("gru_reset_before"), lambda: layers.GRU(H), "found gru at the target itself; .* --cell gru$"),
        (
            make_spec("minimal_rnn"),
            lambda: layers.SimpleRNN(H),
            "cell, minimal_rnn; this framework has layers for rnn, gru, gru_reset_before",
        ),
        (make_spec("lstm"), lambda: layers.GRU(H), "found gru at the target itself; .*cell, lstm"),
        (make_spec("gru"), lambda: layers.GRU(H, use_bias=False), r"found no bias for gate update"),
        (make_spec("gru", layers=2), lambda: layers.GRU(H), "found 1 layer; allowed: 2, as the spec has"),
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
    ("rnn", layers.SimpleRNN),
    ("relu_rnn", layers.SimpleRNN),
    ("gru", layers.GRU),
    ("gru_reset_before", layers.GRU),
    ("lstm", layers.LSTM),
]


@pytest.mark.parametrize(("cell", "kind"), CLASSES)
def test_a_declared_layer_has_the_numbers_of_apply(cell, kind):
    spec = make_spec(cell, recurrent="orthogonal", layers=2)

    def variables(layer):
        return [host(v.value).tobytes() for v in layer.trainable_variables]

    def stack(made):
        return keras.Sequential([keras.Input((None, M)), *made])

    more = {"reset_after": RESET_AFTER[cell]} if cell in RESET_AFTER else {}
    more = {"activation": "relu"} if cell == "relu_rnn" else more
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


def reloaded(spec):
    """The spec of an initializer that went through Keras' own serialization, as JSON text."""
    given = initializers(spec)["kernel_initializer"]
    text = json.dumps(keras.saving.serialize_keras_object(given))
    return keras.saving.deserialize_keras_object(json.loads(text)).place.spec


@pytest.mark.parametrize("cell", [cell for cell, _ in CLASSES])
def test_the_specs_of_every_scheme_survive_the_config(cell):
    seen = 0
    for scheme in SCHEMES.names():
        try:
            spec = critinit.generate(cell, T=50, scheme=scheme, layers=2)
        except SchemeError:  # such as chrono of a cell without gates
            continue
        seen += 1
        assert reloaded(spec).to_bytes() == spec.to_bytes()
        assert reloaded(spec) == spec
    assert seen >= 5


CHAOS = {
    "recurrent": {"distribution": "normal", "variance": 100.0},
    "input": {"distribution": "normal", "variance": 0.01},
    "bias": {"distribution": "constant", "mean": 0.0},
}
IDENTITY = {"recurrent": {"distribution": "identity", "variance": 1.0}}


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize("kernel", [CHAOS, IDENTITY], ids=["chaotic", "identity"])
@pytest.mark.parametrize(("cell", "kind"), CLASSES)
def test_a_model_whose_spec_has_nulls_is_saved_and_loaded(cell, kind, kernel, tmp_path):
    """χ ≥ 1 has no time scale, an identity kernel no untied reading; both are null, and null is not "not computed"."""
    spec = critinit.predict(make_spec(cell, **dict.fromkeys(GATES[cell], kernel)))
    if kernel is IDENTITY:
        assert spec.layers[0].predicted.untied is None
    else:
        assert spec.layers[0].predicted.untied.time_scale is None
    model = keras.Sequential([keras.Input((None, M)), kind(H, **initializers(spec, seed=2))])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    layer = loaded.layers[0]
    assert layer.cell.recurrent_initializer.place.spec == spec
    fresh = layer.cell.recurrent_initializer(tuple(layer.cell.recurrent_kernel.shape))
    assert np.array_equal(host(fresh), host(model.layers[0].cell.recurrent_kernel.value))
    assert reloaded(spec).to_bytes() == spec.to_bytes()


def test_a_declared_layer_of_the_other_gru_is_refused():
    for cell, other in (("gru", "gru_reset_before"), ("gru_reset_before", "gru")):
        given = {**initializers(make_spec(cell)), "reset_after": RESET_AFTER[other]}
        with pytest.raises(ApplyError, match=f"bias: found shape .*, of a {other}; .*--cell {other}, or use"):
            layers.GRU(H, **given).build((None, None, M))


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
        (
            lambda: initializers(make_spec("minimal_rnn")),
            ArgumentError,
            "spec: found cell minimal_rnn; allowed: rnn, gru",
        ),
        (lambda: SpecInitializer(make_spec("gru"), "gates"), ArgumentError, "tensor: found 'gates'"),
        (lambda: SpecInitializer({"cell": "gru"}, "bias"), SpecError, "schema_version|layers|missing"),
        (
            lambda: initializers(make_spec("gru"))["kernel_initializer"]((M, 3 * H + 1)),
            ApplyError,
            "allowed: that of a gru of 12 units",
        ),
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
    broken = "<lambda>, which cannot be evaluated (AttributeError: "
    for other, name in ((keras.ops.relu, "relu;"), (lambda x: x.no_such_attribute, broken)):
        layer = layers.GRU(H, activation=other)
        layer.build((None, None, M))
        with pytest.raises(ApplyError, match=rf"activation: found {re.escape(name)}.*the theory is for tanh"):
            apply(make_spec("gru"), layer)
