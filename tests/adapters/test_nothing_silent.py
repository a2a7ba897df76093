"""What no adapter does without a word: another step or order, frozen and trained weights, what it misses."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("keras")
pytest.importorskip("flax")
pytest.importorskip("equinox")
pytest.importorskip("haiku")

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import keras
import numpy as np
import torch
from critinit_adapters.jax import ADAPTER as JAX
from flax import linen, nnx
from keras import layers, ops
from torch import nn
from torch.nn.utils import prune

import critinit
from critinit import Slice, fused
from critinit.errors import ApplyError, ArgumentError
from critinit.tensors.sampling import draw
from tests.adapters.numpy_reference import forward
from tests.adapters.specs import make_spec
from tests.adapters.test_torch import bits

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("eager")]
M, H, B = 5, 6, 3
GATES = ("input", "forget", "cell", "output")
SPEC = make_spec("lstm")


# ---- classes with a step of their own --------------------------------------------------------------------


class NormalizedCell(nn.LSTMCell):
    def forward(self, x, state=None):
        h, c = super().forward(x, state)
        return nn.functional.layer_norm(h, (self.hidden_size,)), c


class DroppedLayer(nn.LSTM):
    def forward(self, x, hx=None):
        with torch.no_grad():
            self.weight_hh_l0.mul_(torch.rand_like(self.weight_hh_l0) > 0.1)
        return super().forward(x, hx)


class Renamed(nn.LSTM):
    """Only what it is made with, and more beside its step."""

    def __init__(self, inputs):
        super().__init__(inputs, H, batch_first=True)
        self.kind = "renamed"

    def describe(self):
        return self.kind


def patched():
    module = nn.LSTMCell(M, H)
    step = module.forward
    module.forward = lambda x, state=None: step(2 * x, state)
    return module


@keras.saving.register_keras_serializable("critinit tests")
class NormalizedKerasCell(layers.LSTMCell):
    def call(self, inputs, states, training=False):
        h, (_, c) = super().call(inputs, states, training=training)
        return h / (1 + ops.mean(h**2)), [h, c]


@keras.saving.register_keras_serializable("critinit tests")
class LoopedKerasLayer(layers.LSTM):
    def inner_loop(self, sequences, initial_state, mask, training=False):
        return super().inner_loop(2 * sequences, initial_state, mask, training)


@keras.saving.register_keras_serializable("critinit tests")
class RenamedKerasLayer(layers.LSTM):
    def get_config(self):
        return super().get_config()


class RenamedKerasCell(layers.LSTMCell):
    def build(self, input_shape):
        super().build(input_shape)


def of_keras(layer):
    return keras.Sequential([keras.Input((None, M)), layer])


class NormalizedNnxCell(nnx.OptimizedLSTMCell):
    def __call__(self, carry, inputs):
        return super().__call__(carry, inputs / 2)


class RenamedNnxCell(nnx.LSTMCell):
    pass


class NormalizedEquinoxCell(eqx.nn.LSTMCell):
    def __call__(self, input, hidden, *, key=None):
        return super().__call__(input / 2, hidden)


class RenamedEquinoxCell(eqx.nn.LSTMCell):
    @property
    def kind(self):
        return "renamed"


class NormalizedLinenCell(linen.LSTMCell):
    @linen.compact
    def __call__(self, carry, inputs):
        return linen.LSTMCell.__call__(self, carry, inputs / 2)


class RenamedLinenCell(linen.LSTMCell):
    pass


class OfLinen(linen.Module):
    cell: type

    @linen.compact
    def __call__(self, x):
        return linen.RNN(self.cell(H))(x)


def of_linen(cell):
    return OfLinen(cell).init(jax.random.key(0), jnp.ones((2, 3, M)))


def key():
    return jax.random.key(0)


OWN_STEPS = {
    "torch cell": (lambda: NormalizedCell(M, H), "NormalizedCell, whose forward is not that of LSTMCell"),
    "torch layer": (lambda: DroppedLayer(M, H), "DroppedLayer, whose forward is not that of LSTM"),
    "torch, one module's own": (patched, "LSTMCell, whose forward is not that of LSTMCell"),
    "keras cell": (lambda: of_keras(layers.RNN(NormalizedKerasCell(H))), "NormalizedKerasCell, whose call is not that"),
    "keras layer": (lambda: of_keras(LoopedKerasLayer(H)), "LoopedKerasLayer, whose inner_loop is not that of LSTM"),
    "keras, both directions": (
        lambda: of_keras(layers.Bidirectional(LoopedKerasLayer(H))),
        "LoopedKerasLayer, whose inner_loop is not that of LSTM",
    ),
    "nnx": (
        lambda: NormalizedNnxCell(M, H, rngs=nnx.Rngs(0)),
        "NormalizedNnxCell, whose __call__ is not that of OptimizedLSTMCell",
    ),
    "equinox": (
        lambda: {"rnn": [NormalizedEquinoxCell(M, H, key=key())]},
        "NormalizedEquinoxCell, whose __call__ is not that of LSTMCell",
    ),
    "linen": (lambda: of_linen(NormalizedLinenCell), "NormalizedLinenCell, which is none of Linen's cells or has a"),
}
KNOWN_STEPS = {
    "torch": lambda: Renamed(M),
    "keras layer": lambda: of_keras(RenamedKerasLayer(H)),
    "keras cell": lambda: of_keras(layers.RNN(RenamedKerasCell(H))),
    "nnx": lambda: RenamedNnxCell(M, H, rngs=nnx.Rngs(0)),
    "equinox": lambda: RenamedEquinoxCell(M, H, key=key()),
    "linen": lambda: of_linen(RenamedLinenCell),
    "linen, Linen's own": lambda: of_linen(linen.OptimizedLSTMCell),
    "linen, transformed": lambda: of_linen(linen.remat(linen.LSTMCell)),
}


@pytest.mark.parametrize("case", OWN_STEPS)
def test_a_class_with_a_step_of_its_own_is_refused_and_taken_on_trust(case):
    make, found = OWN_STEPS[case]
    with pytest.raises(ApplyError, match=f"found a {found}.*; allowed: the step of lstm; .*trust=True; .*where="):
        critinit.apply(SPEC, make(), seed=0)
    notes = critinit.apply(SPEC, make(), trust=True, seed=0).report.notes
    assert any(found in note and note.endswith("written, as trust=True says") for note in notes)


@pytest.mark.parametrize("case", KNOWN_STEPS)
def test_a_class_that_only_looks_different_goes_on_being_taken(case):
    report = critinit.apply(SPEC, KNOWN_STEPS[case](), seed=0).report
    assert report.notes == ()
    assert len(report) in (12, 24)


def test_the_other_way_out_is_where():
    names = {"input": "weight_ih", "recurrent": "weight_hh", "bias": "bias_ih", "second_bias": "bias_hh"}
    module = NormalizedCell(M, H)
    with pytest.raises(
        ApplyError, match="verify: found outputs that differ"
    ):  # and it can be tried whether it is an lstm
        critinit.apply(SPEC, module, where=fused(GATES, **names), verify=True, seed=0)
    assert len(critinit.apply(SPEC, module, where=fused(GATES, **names), seed=0).report) == 12
    with pytest.raises(ApplyError, match="verify: found outputs that differ"):
        critinit.apply(SPEC, module, trust=True, verify=True, seed=0)


# ---- weights that are computed ---------------------------------------------------------------------------


def dropped_by_fastai(layer):
    """fast.ai's WeightDropout: the raw weight is a parameter of the wrapper, the layer has a plain tensor."""
    wrapper = nn.Module()
    wrapper.module = layer
    raw = layer.weight_hh_l0
    del layer.weight_hh_l0
    wrapper.register_parameter("weight_hh_l0_raw", nn.Parameter(raw.data))
    layer.weight_hh_l0 = raw.detach().clone()
    return wrapper


def dropped_by_salesforce(layer):
    """AWD-LSTM's WeightDrop: the raw weight is a parameter of the layer itself."""
    raw = layer.weight_hh_l0
    del layer.weight_hh_l0
    layer.register_parameter("weight_hh_l0_raw", nn.Parameter(raw.data))
    return layer


@pytest.mark.parametrize(
    ("drop", "prefix", "raw", "found"),
    [
        (dropped_by_fastai, "module.", "weight_hh_l0_raw", "a tensor that is no parameter"),
        (dropped_by_salesforce, "", "weight_hh_l0_raw", "none"),
    ],
)
def test_dropped_weights_are_refused_and_written_by_where(drop, prefix, raw, found):
    module = drop(nn.LSTM(M, H))
    with pytest.raises(ApplyError, match=rf"weight_hh_l0: found {found}; allowed: a parameter; say with where="):
        critinit.apply(SPEC, module, seed=0)
    bias = {"bias": f"{prefix}bias_ih_l0", "second_bias": f"{prefix}bias_hh_l0"}
    where = fused(GATES, input=f"{prefix}weight_ih_l0", recurrent=raw, **bias)
    critinit.apply(SPEC, module, where=where, seed=4)
    gates = draw(SPEC, M, H, seed=4).layers[0][0].gates
    expected = np.concatenate([gates[gate].recurrent for gate in GATES]).astype(np.float32)
    assert np.array_equal(dict(module.named_parameters())[raw].detach().numpy(), expected)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "change",
    [
        lambda m: nn.utils.parametrizations.weight_norm(m, "weight_hh_l0"),
        lambda m: nn.utils.parametrizations.spectral_norm(m, "weight_hh_l0"),
        lambda m: nn.utils.weight_norm(m, "weight_hh_l0"),
        lambda m: nn.utils.spectral_norm(m, "weight_hh_l0"),
        lambda m: prune.l1_unstructured(m, "weight_hh_l0", 0.3),
    ],
)
def test_the_call_that_a_hint_names_makes_the_weight_a_parameter_again(change):
    module = nn.LSTM(M, H)
    change(module)
    with pytest.raises(ApplyError, match="weight_hh_l0: found a parametrized tensor") as raised:
        critinit.apply(SPEC, module, seed=0)
    call = raised.value.hint.removeprefix("call ").partition(", and ")[0]
    eval(call, {"torch": torch, "module": module})  # as the hint says
    assert len(critinit.apply(SPEC, module, seed=0).report) == 12


# ---- what looks recurrent --------------------------------------------------------------------------------


class Memory(nn.Module):
    """Nothing but its state says that it is recurrent."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(M + H, H)

    def forward(self, x, hidden):
        return torch.tanh(self.gate(torch.cat([x, hidden], -1)))


class ConvLSTMCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)


class OwnLSTMCell(layers.Layer):
    """A Keras cell from nothing; the gates in the order f, i, o, g, and f is 1 less what is stored."""

    def __init__(self, units, **more):
        super().__init__(**more)
        self.units, self.state_size, self.output_size = units, [units, units], units

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 4 * self.units), name="w")
        self.u = self.add_weight(shape=(self.units, 4 * self.units), name="u")
        self.b = self.add_weight(shape=(4 * self.units,), name="b")

    def call(self, inputs, states, training=False):
        h, c = states
        f, i, o, g = ops.split(ops.matmul(inputs, self.w) + ops.matmul(h, self.u) + self.b, 4, axis=-1)
        c = (1 - ops.sigmoid(f)) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        return h, [h, c]


class OwnNnxCell(nnx.Module):
    def __init__(self, rngs):
        self.x = nnx.Linear(M, 4 * H, rngs=rngs)
        self.h = nnx.Linear(H, 4 * H, use_bias=False, rngs=rngs)

    def __call__(self, x, state):
        i, f, g, o = jnp.split(self.x(x) + self.h(state[0]), 4, -1)
        c = jax.nn.sigmoid(f + 1) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c


class OwnNnxModel(nnx.Module):
    def __init__(self):
        self.cells = nnx.List([OwnNnxCell(nnx.Rngs(0))])


class OwnEquinoxCell(eqx.Module):
    w: jax.Array
    b: jax.Array

    def __call__(self, x, state):
        i, f, g, o = jnp.split(jnp.concatenate([x, state[0]]) @ self.w + self.b, 4)
        c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c


class OwnLinenCell(linen.Module):
    @linen.compact
    def __call__(self, x, state):
        u = linen.Dense(4 * H, name="x")(x) + linen.Dense(4 * H, use_bias=False, name="h")(state[0])
        i, f, g, o = jnp.split(u, 4, -1)
        c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c


class LinenModel(linen.Module):
    @linen.compact
    def __call__(self, x, state):
        return OwnLinenCell()(x, state)


def linen_params():
    state = jnp.zeros((2, H)), jnp.zeros((2, H))
    return LinenModel().init(key(), jnp.ones((2, M)), state)


def equinox_cell():
    return OwnEquinoxCell(jnp.zeros((M + H, 4 * H)), jnp.zeros(4 * H))


LOOKALIKES = {
    "torch, by its state": (
        lambda: nn.ModuleDict({"own": Memory()}),
        r"Memory at 'own' \(a class that derives from none",
    ),
    "torch, quantizable": (
        lambda: torch.ao.nn.quantizable.LSTM(M, H),
        r"LSTM at the model itself, .*LSTMCell at 'layers.0.layer_fw.cell' \(a class of torch.ao",
    ),
    "keras": (
        lambda: of_keras(layers.RNN(OwnLSTMCell(H), name="own")),
        r"RNN at 'own' \(its cell is a OwnLSTMCell, none",
    ),
    "nnx": (lambda: nnx.Sequential(OwnNnxCell(nnx.Rngs(0))), r"OwnNnxCell at 'layers/0' \(a class that derives"),
    "equinox": (lambda: OwnEquinoxCell, "the class"),
    "linen": (linen_params, "module OwnLinenCell_0 at 'params/OwnLinenCell_0'"),
}


@pytest.mark.parametrize("case", LOOKALIKES)
def test_what_looks_recurrent_is_listed_with_its_class_its_path_and_why(case):
    make, found = LOOKALIKES[case]
    hint = "make a model of it first" if case == "equinox" else r"say with where= in which tensors its gates lie"
    with pytest.raises(ApplyError, match=f"{found}.*; .*{hint}") as raised:
        critinit.apply(SPEC, make(), seed=0)
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (ConvLSTMCell, "it is made of convolutions: docs/own-modules.md#convolutions shows how to write it"),
        (
            lambda: torch.ao.nn.quantized.dynamic.LSTM(M, H),
            r"its weights are quantized to integers: take the model as it was before",
        ),
    ],
)
def test_where_is_no_way_out_for_what_it_cannot_describe(make, reason):
    with pytest.raises(ApplyError, match=rf"LSTM\w* at '0' \({reason}\); allowed: a layer of the spec's cell, lstm$"):
        critinit.apply(SPEC, nn.Sequential(make()), seed=0)


def test_a_module_of_equinox_is_listed_too():
    with pytest.raises(
        ApplyError, match=r"looks recurrent: OwnEquinoxCell at 'own/0' \(a class that derives from neither"
    ):
        critinit.apply(
            SPEC, {"own": [equinox_cell()], "other": eqx.nn.Linear(2, 2, key=key())}, framework="equinox", seed=0
        )


def test_what_looks_recurrent_beside_what_was_written_is_noted():
    model = nn.ModuleDict({"known": nn.LSTM(M, H), "own": Memory()})
    (note,) = critinit.apply(SPEC, model, seed=0).report.notes
    assert note.startswith("looks recurrent and was left as it was: Memory at 'own'")

    class Wrapper(nn.Module):  # holds a known layer, so it is no recurrent module of its own
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(M, H)

        def forward(self, x, hidden):
            return self.lstm(x, hidden)

    assert critinit.apply(SPEC, nn.Sequential(Wrapper()), seed=0).report.notes == ()


def test_a_long_list_ends():
    with pytest.raises(ApplyError, match=r"Memory at '7' \(.*\), and 4 more; allowed"):
        critinit.apply(SPEC, nn.ModuleList([Memory() for _ in range(12)]), seed=0)


# ---- modules of one's own in other frameworks ------------------------------------------------------------


def keras_where(prefix):
    order, paths = ("forget", "input", "output", "cell"), {"input": "w", "recurrent": "u", "bias": "b"}
    named = {part: f"{prefix}{path}" for part, path in paths.items()}
    return fused(order, **named, axis=1, sign={"forget": -1})


X = np.random.default_rng(0).standard_normal((7, B, M))


def steps(function):
    """Run a step over a sequence from zero states."""
    state, seen = (np.zeros((B, H), np.float32),) * 2, []
    for x in X.astype(np.float32):
        state = function(x, state)
        seen.append(np.asarray(state[0]))
    return np.stack(seen)


OWN_MODELS = {
    "keras": (
        lambda: of_keras(layers.RNN(OwnLSTMCell(H), name="own")),
        keras_where("layers.0.cell."),
        lambda model, x, state: model.layers[0].cell(x, list(state))[1],
    ),
    "nnx": (
        lambda: OwnNnxModel(),
        fused(
            GATES,
            input="cells.0.x.kernel",
            recurrent="cells/0/h/kernel",
            bias="cells.0.x.bias",
            axis=1,
            offset={"forget": -1},
        ),
        lambda model, x, state: model.cells[0](x, state),
    ),
    "equinox": (
        equinox_cell,
        fused(GATES, input=Slice("w", rows=(0, M)), recurrent=Slice("w", rows=(M, M + H)), bias="b", axis=1),
        lambda model, x, state: jax.vmap(model)(x, state),
    ),
    "linen": (
        linen_params,
        fused(
            GATES,
            input="params.OwnLinenCell_0.x.kernel",
            recurrent="params/OwnLinenCell_0/h/kernel",
            bias="params.OwnLinenCell_0.x.bias",
            axis=1,
        ),
        lambda model, x, state: LinenModel().apply(model, x, state),
    ),
    "a dictionary": (
        lambda: {"W": jnp.zeros((4 * H, M)), "U": np.zeros((4 * H, H), np.float32), "b": [jnp.zeros(4 * H)]},
        fused(GATES, input="W", recurrent="U", bias="b.0"),
        lambda model, x, state: dictionary_step(model, x, state),
    ),
}


def dictionary_step(model, x, state):
    i, f, g, o = jnp.split(x @ model["W"].T + state[0] @ model["U"].T + model["b"][0], 4, -1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


@pytest.mark.parametrize("sampler", ["portable", "native"])
@pytest.mark.parametrize("case", OWN_MODELS)
def test_modules_of_ones_own(case, sampler):
    make, where, step = OWN_MODELS[case]
    framework = JAX if case in ("a dictionary", "linen") else None
    model = make()
    applied = critinit.apply(SPEC, model, where=where, verify=step, seed=2, sampler=sampler, framework=framework)
    assert len(applied.report) == 12
    if sampler == "portable":
        found = steps(lambda x, state: step(applied.model, x, state))
        np.testing.assert_allclose(found, forward("lstm", draw(SPEC, M, H, seed=2), X), atol=1e-5)
    wrong = {**where, "forget": where["input"], "input": where["forget"]}
    with pytest.raises(ApplyError, match="verify: found outputs that differ from those of lstm"):
        critinit.apply(SPEC, applied.model, where=wrong, verify=step, framework=framework, seed=0)


def test_true_runs_a_model_that_is_a_step():
    where = keras_where("")
    cell = OwnLSTMCell(H)
    cell.build((None, M))
    critinit.apply(SPEC, cell, where=where, verify=True, seed=0)
    critinit.apply(SPEC, equinox_cell(), where=OWN_MODELS["equinox"][1], verify=True, seed=0)
    nnx_where = fused(GATES, input="x.kernel", recurrent="h.kernel", bias="x.bias", axis=1, offset={"forget": -1})
    critinit.apply(SPEC, OwnNnxCell(nnx.Rngs(0)), where=nnx_where, verify=True, seed=0)
    critinit.apply(SPEC, nnx.LSTMCell(M, H, rngs=nnx.Rngs(0)), verify=True, seed=0)
    critinit.apply(make_spec("gru"), nnx.GRUCell(M, H, rngs=nnx.Rngs(0)), verify=True, seed=0)
    critinit.apply(SPEC, eqx.nn.LSTMCell(M, H, key=key()), verify=True, seed=0)
    critinit.apply(make_spec("gru"), layers.GRUCell(H), input_size=M, verify=True, seed=0)


def test_a_keras_cell_that_is_not_built():
    with pytest.raises(ApplyError, match=r"found 'w', where there is no tensor"):
        critinit.apply(SPEC, OwnLSTMCell(H), where=keras_where(""), seed=0)


def flat_where(layers_, directions, inputs):
    """cuDNN's layout in one row of numbers: all kernels, then all biases."""
    start, places = 0, []
    for layer in range(layers_):
        for _ in range(directions):
            place = {}
            reads = inputs if layer == 0 else directions * H
            for part, columns in (("input", reads), ("recurrent", H)):
                size = 4 * H * columns
                place[part] = Slice("", rows=(start, start + size), shape=(4 * H, columns))
                start += size
            places.append(place)
    for place in places:
        for part in ("bias", "second_bias"):
            place[part] = Slice("", rows=(start, start + 4 * H))
            start += 4 * H
    made = [fused(GATES, **place) for place in places]
    return [tuple(made[n : n + 2]) for n in range(0, len(made), 2)] if directions == 2 else made


@pytest.mark.parametrize("sampler", ["portable", "native"])
@pytest.mark.parametrize("directions", [1, 2])
def test_the_flat_array_of_jax_experimental_rnn(directions, sampler):
    from jax.experimental import rnn

    two = directions == 2

    def run(weights, x):
        zeros = jnp.zeros((2 * directions, x.shape[1], H))
        parts = rnn.unpack_lstm_weights(weights, M, H, 2, two)
        lengths = jnp.full((x.shape[1],), x.shape[0])
        out, *_ = rnn.lstm_ref(x.transpose(1, 0, 2), zeros, zeros, *parts, lengths, M, H, 2, 0.0, two)
        return out.transpose(1, 0, 2)

    weights, where = rnn.init_lstm_weight(key(), M, H, 2, two), flat_where(2, directions, M)
    spec = make_spec("lstm", layers=2)
    applied = critinit.apply(spec, weights, where=where, verify=run, seed=6, sampler=sampler, framework=JAX)
    assert applied.model.shape == weights.shape
    if sampler == "portable":
        expected = forward("lstm", draw(spec, M, H, seed=6, directions=directions), X)
        np.testing.assert_allclose(run(applied.model, jnp.asarray(X, jnp.float32)), expected, atol=1e-5)
    if two:
        turned = [where[0], where[1][::-1]]
        with pytest.raises(ApplyError, match="verify: found outputs that differ"):
            critinit.apply(spec, weights, where=turned, verify=run, framework=JAX, seed=0)
    with pytest.raises(ApplyError, match=r"^target: found \d+ of \d+ numbers that no place names"):
        critinit.apply(SPEC, jnp.concatenate([weights, weights]), where=where[:1], framework=JAX, seed=0)


def test_arrays_without_where_are_refused():
    with pytest.raises(ArgumentError, match="where: found nothing; allowed: where in this tree the gates lie"):
        critinit.apply(SPEC, {"W": jnp.zeros((4, 3))}, framework=JAX, seed=0)


# ---- frozen, trained, stacked ----------------------------------------------------------------------------


def test_frozen_weights_are_noted_and_kept_as_the_note_says():
    model = nn.ModuleDict({"frozen": nn.LSTM(M, H), "free": nn.LSTM(M, H)})
    model["frozen"].requires_grad_(False)
    (note,) = critinit.apply(SPEC, model, seed=0).report.notes
    assert note.startswith("frozen (requires_grad=False), and written all the same: frozen.weight_ih_l0, ")
    assert note.endswith("; include=['free'] writes only the others")
    before = bits(model["frozen"])
    report = critinit.apply(SPEC, model, include=["free"], seed=0).report
    assert bits(model["frozen"]) == before
    assert not any("frozen" in note for note in report.notes)

    layer = layers.LSTM(H)
    frozen = of_keras(layer)
    layer.trainable = False
    (note,) = critinit.apply(SPEC, frozen, seed=0).report.notes
    assert note.startswith("frozen (trainable=False), and written all the same: sequential")


FRESH = {
    "torch": lambda: nn.LSTM(M, H, 1, bidirectional=True),
    "torch, bfloat16": lambda: nn.LSTM(M, H, dtype=torch.bfloat16),
    "keras": lambda: of_keras(layers.LSTM(H)),
    "keras gru": lambda: of_keras(layers.GRU(H)),
    "nnx": lambda: nnx.LSTMCell(M, H, rngs=nnx.Rngs(0)),
    "nnx gru": lambda: nnx.GRUCell(M, H, rngs=nnx.Rngs(0)),
    "linen": lambda: of_linen(linen.OptimizedLSTMCell),
    "equinox": lambda: eqx.nn.LSTMCell(M, H, key=key()),
    "equinox gru": lambda: eqx.nn.GRUCell(M, H, key=key()),
}


def nudged(model):
    """The model, each number moved by about .03, as some steps of training do."""
    rng = np.random.default_rng(0)

    def moved(array):
        return array + 0.03 * rng.choice([-1.0, 1.0], np.shape(array)).astype(np.float32)

    if isinstance(model, nn.Module):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.from_numpy(moved(np.zeros(parameter.shape))).to(parameter.dtype))
        return model
    if isinstance(model, keras.Model):
        model.set_weights([moved(weight) for weight in model.get_weights()])
        return model
    if isinstance(model, nnx.Module):
        for _, variable in nnx.iter_graph(model):
            if isinstance(variable, nnx.Param):
                variable.set_value(moved(variable.get_value()))
        return model
    return jax.tree.map(moved, model)


@pytest.mark.parametrize("case", FRESH)
def test_weights_that_were_trained_are_noted_and_fresh_ones_are_not(case):
    spec = make_spec("gru") if "gru" in case else SPEC
    assert critinit.apply(spec, FRESH[case](), seed=0).report.notes == ()
    (note,) = critinit.apply(spec, nudged(FRESH[case]()), seed=0).report.notes
    assert "draws by default; if these weights were trained or loaded, they are replaced now" in note


@pytest.mark.parametrize("case", FRESH)
def test_fresh_weights_are_not_called_trained_where_units_have_groups(case):
    spec = critinit.generate("gru" if "gru" in case else "lstm", T=100, scheme="memory")
    fresh, trained = (
        critinit.apply(spec, model, seed=0).report.notes for model in (FRESH[case](), nudged(FRESH[case]()))
    )
    assert not any("draws by default" in note for note in fresh)
    assert any("draws by default" in note for note in trained)


def test_arrays_that_were_donated_are_replaced_without_being_read():
    cell = eqx.nn.LSTMCell(M, H, key=key())
    cell.weight_hh.delete()
    applied = critinit.apply(SPEC, cell, seed=0)
    assert applied.report.notes == ()
    assert applied.model.weight_hh.shape == (4 * H, H)


def test_haikus_fresh_and_trained_weights():
    run = hk.without_apply_rng(hk.transform(lambda x: hk.GRU(H)(x, jnp.zeros((B, H)))))
    params = run.init(key(), jnp.zeros((B, M)))
    spec = make_spec("gru_reset_before")
    assert critinit.apply(spec, params, haiku={"gru": "gru"}, seed=0).report.notes == ()
    assert len(critinit.apply(spec, nudged(params), haiku={"gru": "gru"}, seed=0).report.notes) == 1


def test_one_layer_of_a_spec_on_stacked_keras_layers():
    model = keras.Sequential(
        [keras.Input((None, M)), layers.LSTM(H, return_sequences=True, name="a"), layers.LSTM(H, name="b")]
    )
    (note,) = critinit.apply(SPEC, model, seed=0).report.notes
    assert note.startswith("each of 'a', 'b' took the whole spec")
    assert note.endswith("critinit.generate(..., layers=2), and apply it with include=['a', 'b']")
    report = critinit.apply(make_spec("lstm", layers=2), model, include=["a", "b"], seed=0).report
    assert {row.tensor.split("/")[1]: row.layer for row in report} == {"a": 0, "b": 1}
