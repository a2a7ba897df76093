"""Keras beyond the conformance table: what is found and refused, types, unbuilt layers, declared models."""

from __future__ import annotations

import pytest

pytest.importorskip("keras")

import importlib.util
import json
import re
import subprocess
import sys

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
from tests.cli.conftest import environment

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
    for index, name in ((0, "first"), (2, "second")):  # the LSTM between them counts too
        found = host(parts[name].cell.recurrent_kernel.value)
        assert np.array_equal(found[:, :H], kernel_of(make_spec("gru"), "update", seed=5, module=index))


def test_include():
    model, parts = larger_model()
    before = bits(model)
    apply(make_spec("gru"), model, seed=0, include="second")
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
    apply(make_spec("gru"), layer, seed=0)
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
        apply(spec, layer, seed=0)
    with pytest.raises(ApplyError, match=r"found gru at the model itself; .* --cell gru$"):
        apply(make_spec("gru_reset_before", layers=count), layer, seed=0, input_size=M)
    assert not layer.built
    report = apply(spec, layer, seed=0, input_size=M).report
    assert layer.built
    assert len(report) == 9 * count * directions
    built = make()
    built.build((None, M) if isinstance(built, layers.GRUCell | layers.StackedRNNCells) else (None, None, M))
    apply(spec, built, seed=0)
    kernels = [[host(v.value) for v in one.trainable_variables] for one in (layer, built)]
    assert all(np.array_equal(one, other) for one, other in zip(*kernels, strict=True))


def test_an_unbuilt_model_is_refused():
    model = keras.Sequential([layers.GRU(H)])
    with pytest.raises(ApplyError, match=r"not built yet.*build the model first"):
        apply(make_spec("gru"), model, input_size=M)
    model.build((None, None, M))
    assert len(apply(make_spec("gru"), model).report) == 9


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
            "found relu_rnn at the model itself; allowed: a layer of the spec's cell, rnn; .* --cell relu_rnn$",
        ),
        (make_spec("relu_rnn"), lambda: layers.SimpleRNN(H), "found rnn at the model itself; .* --cell rnn$"),
        (
            make_spec("rnn"),
            lambda: layers.SimpleRNN(H, activation="relu6"),
            "activation: found relu6; allowed: tanh; the theory is for tanh",
        ),
        (
            make_spec("relu_rnn"),
            lambda: layers.SimpleRNN(H, activation="relu6"),
            r"found rnn at the model itself \(no spec takes it: activation: found relu6; .*cell, relu_rnn$",
        ),
        (
            make_spec("lstm"),
            lambda: layers.LSTM(H, recurrent_activation="hard_sigmoid"),
            "recurrent_activation: found hard_sigmoid",
        ),
        (
            make_spec("gru"),
            lambda: layers.GRU(H, reset_after=False),
            "found gru_reset_before at the model itself; .* --cell gru_reset_before$",
        ),
        (make_spec("gru_reset_before"), lambda: layers.GRU(H), "found gru at the model itself; .* --cell gru$"),
        (
            make_spec("minimal_rnn"),
            lambda: layers.SimpleRNN(H),
            "cell, minimal_rnn; this framework has layers for rnn, gru, gru_reset_before",
        ),
        (make_spec("lstm"), lambda: layers.GRU(H), "found gru at the model itself; .*cell, lstm"),
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
        layers.LSTM(H, **initializers(spec, seed=0)),
        backward_layer=layers.LSTM(H, go_backwards=True, **initializers(spec, direction=1, seed=0)),
    )
    both.build((None, None, M))
    patched = layers.Bidirectional(layers.LSTM(H))
    patched.build((None, None, M))
    apply(spec, patched, seed=0)
    found = ([host(v.value).tobytes() for v in one.trainable_variables] for one in (both, patched))
    assert next(found) == next(found)


def kernels(model):
    return [host(v.value) for v in model.trainable_variables if "kernel" in v.path]


def declared_stack(spec, **given):
    """Three layers that share one call's initializers, the first in two directions."""
    shared = initializers(spec, **given)
    return keras.Sequential(
        [
            keras.Input((None, H)),
            layers.Bidirectional(layers.LSTM(H // 2, return_sequences=True, **shared)),
            layers.LSTM(H, return_sequences=True, **shared),
            layers.LSTM(H, **shared),
        ]
    )


def test_without_a_seed_no_two_parts_are_alike_and_set_random_seed_decides():
    def made(seed):
        keras.utils.set_random_seed(seed)
        return declared_stack(make_spec("lstm"))

    one, again, other = made(1), made(1), made(2)
    assert all(map(np.array_equal, kernels(one), kernels(again)))
    found = [*kernels(one), *kernels(other)]
    assert len({kernel.tobytes() for kernel in found}) == len(found) == 16
    assert len({kernel[:5, :5].tobytes() for kernel in found}) == 16  # no part of one is in another either
    for copy in (keras.models.clone_model(one), keras.Sequential.from_config(one.get_config())):
        assert not any(map(np.array_equal, kernels(one), kernels(copy)))
    # the input gate's bias follows the forget gate's within the layer
    bias = host(one.layers[1].cell.bias.value)
    assert np.array_equal(bias[:H], -bias[H : 2 * H])


def test_with_a_seed_every_call_and_every_copy_gives_the_same():
    one = declared_stack(make_spec("lstm"), seed=3)
    assert np.array_equal(kernels(one)[0], kernels(one)[2])  # Keras copies the forward layer's initializers
    assert np.array_equal(kernels(one)[5], kernels(one)[7])
    for copy in (keras.models.clone_model(one), keras.Sequential.from_config(one.get_config())):
        assert all(map(np.array_equal, kernels(one), kernels(copy)))


@pytest.mark.parametrize(("cell", "kind"), CLASSES)
def test_what_is_drawn_without_a_seed_is_of_the_specs_distributions(cell, kind):
    keras.utils.set_random_seed(0)
    spec = make_spec(cell, recurrent="orthogonal")
    layer = kind(64, **initializers(spec))
    layer.build((None, None, 48))
    weights = {variable.path: host(variable.value) for variable in layer.trainable_variables}
    assert critinit.check(spec, weights, framework="keras").matches


def test_apply_without_a_seed_follows_set_random_seed():
    def applied(seed):
        keras.utils.set_random_seed(seed)
        return [apply(make_spec("gru"), layers.GRU(H), input_size=M) for _ in range(2)]

    (first, second), again, (other, _) = applied(1), applied(1), applied(2)
    assert [one.seed for one in again] == [first.seed, second.seed]
    assert len({first.seed, second.seed, other.seed}) == 3
    assert all(map(np.array_equal, kernels(first.model), kernels(again[0].model)))
    repeated = apply(make_spec("gru"), layers.GRU(H), seed=first.seed, input_size=M)
    assert all(map(np.array_equal, kernels(first.model), kernels(repeated.model)))


BACKENDS = [name for name in ("torch", "jax", "tensorflow") if importlib.util.find_spec(name)]


@pytest.mark.parametrize(
    "backend", [pytest.param(name, marks=[pytest.mark.slow] if name == "tensorflow" else []) for name in BACKENDS]
)
def test_a_saved_model_is_loaded_in_another_process(backend, tmp_path):
    for task in ("save", "load"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.adapters.keras_saved", task, str(tmp_path)],
            env={**environment(), "KERAS_BACKEND": backend},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    assert len(list(tmp_path.glob("*.keras"))) == 3


def test_importing_the_package_makes_the_initializers_known_where_keras_is_in_use():
    code = "import keras, critinit_adapters.keras as ours\n"
    code += "print(keras.saving.get_registered_object('critinit>SpecInitializer') is ours.SpecInitializer)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment(), "KERAS_BACKEND": BACKENDS[0]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n"


MISTAKES = [
    (cell, layer) for cell, _ in CLASSES for layer in ("SimpleRNN", "GRU", "LSTM") if layer.upper() not in cell.upper()
]

RIGHT = [("rnn", "SimpleRNN"), ("relu_rnn", "SimpleRNN")]
"""The initializers of ``relu_rnn`` bring the activation."""


@pytest.mark.parametrize(("cell", "layer"), [m for m in MISTAKES if m not in RIGHT])
@pytest.mark.parametrize("units", [12, 10])
def test_a_spec_of_another_cell_is_named_and_the_hint_helps(cell, layer, units):
    def make(spec):
        made = getattr(layers, layer)(units, **initializers(spec))
        made.build((None, None, M))
        return made

    with pytest.raises((ApplyError, ValueError)) as raised:
        make(make_spec(cell))
    message = str(raised.value)
    assert re.search(rf"(spec is for|for|of a) {cell}\b", message)
    named = re.search(r"write the spec for its cell: --cell (\w+)(?: or (\w+))?$", message)
    if named is None:
        assert "cell (--cell)" in message
    for right in filter(None, named.groups()) if named else [{"SimpleRNN": "rnn"}.get(layer, layer.lower())]:
        assert make(make_spec(right)).built


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
            "allowed: that of a gru of 12 units; the layer is of another cell",
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


BROKEN = "found a layer without a recurrent kernel: Keras failed to build it; .* recurrent_initializer='glorot_uniform'"


UNBUILT = """
import critinit, keras
model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4, dtype="bfloat16", name="l")])
critinit.apply(critinit.generate("lstm", T=10), model, seed=0)
"""


def test_a_model_whose_layer_keras_could_not_build_is_refused_with_the_way_out():
    """On JAX; TensorFlow refuses while the model is made."""
    done = subprocess.run(
        [sys.executable, "-c", UNBUILT], env={**environment(), "KERAS_BACKEND": "jax"}, capture_output=True, text=True
    )
    assert re.search(f"ApplyError: 'l': {BROKEN}", done.stderr), done.stderr


def test_a_layer_that_keras_cannot_build_is_refused_with_the_way_out():
    with pytest.raises(ApplyError, match=f"^target: {BROKEN}"):
        critinit.apply(make_spec("lstm"), layers.LSTM(4, dtype="bfloat16"), input_size=3, seed=0)
    layer = layers.LSTM(4, dtype="bfloat16", recurrent_initializer="glorot_uniform")
    assert critinit.apply(make_spec("lstm"), layer, input_size=3, seed=0).report.rows


class Failing(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        raise ValueError(f"no numbers of shape {tuple(shape)}\nand more of it")


PARTS = [
    ("kernel_initializer", "kernel", (3, 12)),
    ("recurrent_initializer", "recurrent_kernel", (4, 12)),
    ("bias_initializer", "bias", (2, 12)),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("argument", "part", "shape"), PARTS)
def test_a_layer_that_keras_cannot_build_for_another_reason_says_which(argument, part, shape, dtype):
    def made(kind=layers.GRU):
        return kind(4, dtype=dtype, **{"recurrent_initializer": "glorot_uniform", argument: Failing()})

    said = re.escape(f"a layer that Keras fails to build (ValueError: no numbers of shape {shape}); call the layer")
    for kind in (layers.GRU, layers.GRUCell):
        with pytest.raises(ApplyError, match=f"^target: found {said}"):
            critinit.apply(make_spec("gru"), made(kind), input_size=3, seed=0)
    layer = made()
    with pytest.raises(ValueError, match="no numbers"):
        layer(np.zeros((1, 5, 3), "float32"))
    with pytest.raises(ApplyError, match=f"found a layer without {part}: Keras failed to build it; make the layer"):
        critinit.apply(make_spec("gru"), layer, seed=0)


def test_what_an_initializer_of_ours_refuses_while_the_layer_is_built_is_said_as_it_is():
    given = {**initializers(make_spec("gru")), "reset_after": False}
    with pytest.raises(ApplyError, match=r"^bias: found .*reset_after decides"):
        critinit.apply(make_spec("gru_reset_before"), layers.GRU(4, **given), input_size=3, seed=0)
