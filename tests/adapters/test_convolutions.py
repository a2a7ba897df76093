"""Convolutional LSTMs of Keras and Linen: against a convolution written in NumPy, and against the dense theory."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import critinit
from critinit.errors import ApplyError, ArgumentError
from critinit.tensors.application import apply
from critinit.tensors.blocks import fill
from critinit.tensors.convolutions import convolution, on_taps
from critinit.tensors.sampling import draws_of
from critinit.theory.tied.solution import tied
from critinit.weights.materializing import save
from tests.adapters.numpy_reference import sigmoid
from tests.adapters.specs import GATES, make_spec
from tests.theory import points

pytestmark = pytest.mark.frameworks
KINDS = ("normal", "uniform", "orthogonal", "identity")
C, H, BATCH, TIME = 2, 3, 2, 4
SEED = 5


def kernels(spec, window, channels=C, units=H, seed=SEED):
    """By gate and part: kernels (units, *window, channels) and biases, written out from the portable draws."""
    found = {}
    for (gate, part), draw in draws_of(spec, 0, seed=seed, input_size=channels, hidden_size=units, window=window)[
        0
    ].draws.items():
        values = draw.sample()
        if part != "bias":
            reads = channels if part == "input" else units
            if draw.distribution.distribution in ("normal", "uniform"):
                assert values.shape == (units, int(np.prod(window)) * reads)
                values = values.reshape(units, *window, reads)
            else:
                whole = np.zeros((units, *window, reads))
                whole[(slice(None), *(size // 2 for size in window))] = values
                values = whole
        found[gate, part] = values
    return found


def convolved(x, kernel, strides=1, pad=True):
    """x (batch, *places, channels) through a kernel (units, *window, channels), place by place."""
    window = kernel.shape[1:-1]
    if pad:
        before = [(size - 1) // 2 for size in window]
        x = np.pad(x, [(0, 0), *((b, size - 1 - b) for b, size in zip(before, window, strict=True)), (0, 0)])
    places = [range(0, n - size + 1, strides) for n, size in zip(x.shape[1:-1], window, strict=True)]
    out = np.zeros((len(x), *map(len, places), len(kernel)))
    for at in itertools.product(*(range(len(p)) for p in places)):
        corner = [p[n] for p, n in zip(places, at, strict=True)]
        patch = x[(slice(None), *(slice(c, c + size) for c, size in zip(corner, window, strict=True)))]
        out[(slice(None), *at)] = patch.reshape(len(x), -1) @ kernel.reshape(len(kernel), -1).T
    return out


def recurrence(weights, x, strides=1, pad=True):
    """Outputs (time, batch, *places, units) of a convolutional LSTM from zero states."""
    h, c, outputs = 0.0, 0.0, []
    for xt in x:
        u = {}
        for gate in GATES["lstm"]:
            u[gate] = convolved(xt, weights[gate, "input"], strides, pad) + weights[gate, "bias"]
            if outputs:
                u[gate] = u[gate] + convolved(h, weights[gate, "recurrent"])
        c = sigmoid(u["forget"]) * c + sigmoid(u["input"]) * np.tanh(u["cell"])
        h = sigmoid(u["output"]) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def images(places, time=TIME, channels=C):
    return np.random.default_rng(0).standard_normal((time, BATCH, *places, channels))


# ---- Keras -----------------------------------------------------------------------------------------------


def keras_layer(rank, places, window=3, channels=C, units=H, **given):
    keras = pytest.importorskip("keras")
    kind = (keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D)[rank - 1]
    layer = kind(units, window, return_sequences=True, **{"padding": "same", **given})
    first = given.get("data_format") == "channels_first"
    layer.build((None, None, channels, *places) if first else (None, None, *places, channels))
    return layer


def run_keras(layer, x):
    from keras import ops

    from tests.adapters.drivers.keras import host, without_compilation

    first = layer.data_format == "channels_first"
    x = np.moveaxis(x, -1, 2) if first else x
    with without_compilation():
        out = host(layer(ops.convert_to_tensor(np.swapaxes(x, 0, 1).astype("float32")))).swapaxes(0, 1)
    return np.moveaxis(out, 2, -1) if first else out


def arrays(layer):
    from tests.adapters.drivers.keras import host

    return {variable.path: host(variable.value) for variable in layer.variables if "seed" not in variable.path}


PLACES = {1: (7,), 2: (5, 6), 3: (3, 4, 3)}


@pytest.mark.parametrize("recurrent", KINDS)
@pytest.mark.parametrize("rank", PLACES)
def test_keras_computes_the_convolutional_recurrence(rank, recurrent):
    spec, places = make_spec("lstm", recurrent=recurrent), PLACES[rank]
    layer = keras_layer(rank, places)
    report = apply(spec, layer, seed=SEED).report
    wanted = recurrence(kernels(spec, (3,) * rank), images(places))
    np.testing.assert_allclose(run_keras(layer, images(places)), wanted, atol=1e-5)
    assert np.abs(wanted).max() > 0.3
    assert len(report) == 12
    assert critinit.check(spec, arrays(layer), framework="keras").matches


@pytest.mark.parametrize(
    "given",
    [
        {"padding": "valid"},
        {"padding": "valid", "strides": 2},
        {"window": (2, 3)},
        {"padding": "valid", "window": (1, 4)},
    ],
    ids=str,
)
def test_keras_options(given):
    spec, places = make_spec("lstm"), (5, 6)
    layer = keras_layer(2, places, **given)
    apply(spec, layer, seed=SEED)
    window = given.get("window", (3, 3))
    pad, strides = given.get("padding") != "valid", given.get("strides", 1)
    wanted = recurrence(kernels(spec, window), images(places), strides, pad)
    np.testing.assert_allclose(run_keras(layer, images(places)), wanted, atol=1e-5)


def test_keras_kernels_do_not_depend_on_the_order_of_axes():
    one, other = (keras_layer(2, (5, 6), data_format=f"channels_{which}") for which in ("first", "last"))
    for layer in (one, other):
        apply(make_spec("lstm"), layer, seed=SEED)
    for a, b in zip(arrays(one).values(), arrays(other).values(), strict=True):
        assert np.array_equal(a, b)


def test_a_declared_keras_layer_has_the_numbers_of_apply():
    keras = pytest.importorskip("keras")
    from critinit_adapters.keras import initializers

    for recurrent in ("normal", "orthogonal"):
        spec = make_spec("lstm", recurrent=recurrent)
        declared = keras_layer(2, (5, 6), **initializers(spec, seed=SEED))
        plain = keras_layer(2, (5, 6))
        apply(spec, plain, seed=SEED)
        for a, b in zip(arrays(declared).values(), arrays(plain).values(), strict=True):
            assert np.array_equal(a, b)
    with pytest.raises(ApplyError, match=r"recurrent_kernel: found a kernel of 4 gates"):
        keras_layer(2, (5, 6), **initializers(make_spec("rnn")))
    loaded = keras.layers.ConvLSTM2D.from_config(keras.layers.ConvLSTM2D(3, 3, **initializers(spec)).get_config())
    assert not loaded.cell.unit_forget_bias


@pytest.mark.parametrize("recurrent", ["normal", "orthogonal"])
def test_native_numbers_of_keras_match_the_spec(recurrent):
    spec = make_spec("lstm", recurrent=recurrent)
    layer = keras_layer(2, (5, 6), channels=16, units=32)
    report = apply(spec, layer, seed=0, sampler="native").report
    assert critinit.check(spec, arrays(layer), framework="keras").matches
    portable = keras_layer(2, (5, 6), channels=16, units=32)
    apply(spec, portable, seed=0)
    assert not np.array_equal(*(next(iter(arrays(one).values())) for one in (layer, portable)))
    for row in report:
        if row.part != "bias":
            assert row.realised_variance == pytest.approx(row.variance, rel=0.1)


def test_a_keras_stack_in_two_directions_and_its_fresh_weights():
    keras = pytest.importorskip("keras")
    layers = [keras.layers.Bidirectional(keras.layers.ConvLSTM2D(H, 3, return_sequences=True, padding="same"))] * 1
    layers.append(keras.layers.ConvLSTM2D(4, 3, padding="same"))
    model = keras.Sequential([keras.Input((None, 5, 6, C)), *layers])
    with pytest.raises(ApplyError, match="found layers that add up to something else"):
        apply(make_spec("lstm", layers=3), model, seed=0)
    applied = apply(make_spec("lstm", layers=2), model, seed=0)
    assert {(row.layer, row.direction) for row in applied.report} == {(0, 0), (0, 1), (1, 0)}
    assert not any("by default" in note for note in applied.report.notes)
    again = apply(make_spec("lstm", layers=2), model, seed=0)
    assert any("by default" in note for note in again.report.notes)


def test_refused_in_keras():
    keras = pytest.importorskip("keras")
    spec = make_spec("lstm")
    with pytest.raises(ApplyError, match=r"not built yet.*call it once"):
        apply(spec, keras.layers.ConvLSTM2D(H, 3), seed=0, input_size=C)
    with pytest.raises(ApplyError, match=r"recurrent_activation: found .*sigmoid"):
        apply(spec, keras_layer(2, (5, 6), recurrent_activation="hard_sigmoid"), seed=0)
    message = r"orthogonal, for a convolution of window \(2, 2\), which has no centre; allowed: .*, or a window of odd"
    with pytest.raises(ApplyError, match=message):
        apply(make_spec("lstm", recurrent="orthogonal"), keras_layer(2, (5, 6), window=2), seed=0)
    with pytest.raises(ArgumentError, match="verify: found a convolutional layer"):
        apply(spec, keras_layer(2, (5, 6)), seed=0, verify=lambda model, x: x)
    with pytest.raises(ApplyError, match="found lstm at"):
        apply(make_spec("gru"), keras_layer(2, (5, 6)), seed=0)


# ---- Linen -----------------------------------------------------------------------------------------------


def linen_cell(rank, units=H, window=3, **given):
    linen = pytest.importorskip("flax.linen")
    return linen.ConvLSTMCell(units, (window,) * rank, **given)


def run_linen(cell, params, x):
    import jax
    import jax.numpy as jnp

    with jax.disable_jit(False):
        step = jax.jit(lambda carry, xt: cell.apply(params, carry, xt))
        carry, outputs = cell.initialize_carry(jax.random.key(0), x.shape[1:]), []
        for xt in x:
            carry, out = step(carry, jnp.asarray(xt, jnp.float32))
            outputs.append(np.asarray(out))
    return np.stack(outputs)


def init_linen(cell, x):
    import jax
    import jax.numpy as jnp

    with jax.disable_jit(False):
        return cell.init(jax.random.key(0), cell.initialize_carry(jax.random.key(0), x.shape[1:]), jnp.asarray(x[0]))


def by_name(tree):
    return {f"params/{a}/{b}": np.asarray(leaf) for a, own in tree["params"].items() for b, leaf in own.items()}


@pytest.mark.parametrize("recurrent", KINDS)
@pytest.mark.parametrize("rank", PLACES)
def test_linen_computes_the_convolutional_recurrence(rank, recurrent):
    spec, x = make_spec("lstm", recurrent=recurrent), images(PLACES[rank])
    cell = linen_cell(rank)
    tree = init_linen(cell, x)
    applied = apply(spec, tree, seed=SEED, framework="linen")
    wanted = recurrence(kernels(spec, (3,) * rank), x)
    np.testing.assert_allclose(run_linen(cell, applied.model, x), wanted, atol=1e-5)
    assert critinit.check(spec, by_name(applied.model), framework="linen").matches
    assert not any("by default" in note for note in applied.report.notes)
    native = apply(spec, tree, seed=SEED, framework="linen", sampler="native").model
    assert critinit.check(spec, by_name(native), framework="linen").matches


def test_refused_in_linen():
    x = images((5, 6))
    with pytest.raises(ApplyError, match="use_bias=False, which adds 1"):
        apply(make_spec("lstm"), init_linen(linen_cell(2, use_bias=False), x), seed=0)
    with pytest.raises(ApplyError, match="window"):
        apply(make_spec("lstm", recurrent="identity"), init_linen(linen_cell(2, window=4), x), seed=0)
    import jax

    tree = init_linen(linen_cell(2), x)
    with pytest.raises(ApplyError, match=r"differ in their sizes.*further axes in front"):
        apply(make_spec("lstm"), jax.tree.map(lambda leaf: np.stack([leaf, leaf], -1), tree), seed=0)


# ---- files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rank", "both"), [(1, True), (2, False), (3, False)])
def test_a_file_for_keras_loads_and_holds_what_apply_writes(rank, both, tmp_path):
    keras = pytest.importorskip("keras")
    window = (3, 1, 2)[:rank]
    kind = getattr(keras.layers, f"ConvLSTM{rank}D")

    def model():
        layers = [kind(H, window, return_sequences=True, padding="same") for _ in range(2)]
        wrapped = [keras.layers.Bidirectional(layer) for layer in layers] if both else layers
        return keras.Sequential([keras.Input((None, *PLACES[rank], C)), *wrapped])

    spec, path = make_spec("lstm", layers=2), tmp_path / "model.weights.h5"
    tensors = critinit.materialize(
        spec,
        "keras",
        input_size=C,
        hidden_size=H,
        seed=SEED,
        bidirectional=both,
        window=window,
        ending=".weights.h5",
    )
    save(path, tensors, spec=spec, framework="keras", seed=SEED)
    loaded = model()
    loaded.load_weights(path)
    applied = apply(spec, model(), seed=SEED).model
    for one, other in zip(loaded.get_weights(), applied.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert critinit.check(spec, path).matches


@pytest.mark.parametrize("recurrent", ["normal", "orthogonal"])
def test_a_file_for_linen_holds_what_apply_writes(recurrent):
    nn = pytest.importorskip("flax.linen")
    import jax
    from flax.traverse_util import flatten_dict

    spec = make_spec("lstm", recurrent=recurrent)
    tree = nn.RNN(nn.ConvLSTMCell(H, (3, 3))).init(jax.random.key(0), np.zeros((1, 2, 5, 6, H)))
    written = flatten_dict(apply(spec, tree, seed=SEED).model, sep="/")
    found = critinit.materialize(spec, "linen", input_size=H, hidden_size=H, seed=SEED, window=(3, 3))
    assert found.keys() == written.keys()
    for name, values in found.items():
        np.testing.assert_array_equal(values, written[name])
    assert critinit.check(spec, found).matches


def test_a_module_of_torch_gets_the_weights_as_the_page_on_own_modules_shows():
    """The page's block runs as it stands; the module then computes the recurrence with the portable draws."""
    torch = pytest.importorskip("torch")
    page = (Path(__file__).parents[2] / "docs" / "own-modules.md").read_text().partition("\n## Convolutions\n")[2]
    names = {"critinit": critinit, "torch": torch}
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    x = images((5, 6), channels=3)
    h = c = torch.zeros(BATCH, 16, 5, 6)
    outputs = []
    for step in torch.from_numpy(x).float().permute(0, 1, 4, 2, 3):
        h, c = names["model"](step, (h, c))
        outputs.append(h.permute(0, 2, 3, 1).detach().numpy())
    wanted = recurrence(kernels(names["spec"], (3, 3), channels=3, units=16, seed=0), x)
    np.testing.assert_allclose(np.stack(outputs), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("framework", "window", "message"),
    [
        ("torch", (3, 3), "torch, whose layers of lstm convolve nothing; allowed: no window"),
        ("keras", (3, 3, 3, 3), "keras, whose layers of lstm convolve 1, 2, 3 axes"),
        (
            "linen",
            (2, 3),
            r"orthogonal, for a convolution of window \(2, 3\), which has no centre.*odd sizes",
        ),
        ("linen", (0, 3), "window: .*such as"),
        ("linen", "3x3", "window: .*such as"),
        ("linen", 3, "window: .*such as"),
    ],
)
def test_windows_that_cannot_be_written(framework, window, message):
    spec = make_spec("lstm", recurrent="orthogonal")
    with pytest.raises(ArgumentError, match=message):
        critinit.materialize(spec, framework, input_size=H, hidden_size=H, window=window)


# ---- what arrives ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_what_arrives_at_a_keras_layer_is_measured_place_by_place(data_format):
    keras = pytest.importorskip("keras")
    first = data_format == "channels_first"
    if first and keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow has no such convolution on a CPU; the next test runs this one on torch")
    x = 2.0 * np.random.default_rng(0).standard_normal((BATCH, 6, 5, 6, C)).astype("float32")
    shown = np.moveaxis(x, -1, 2) if first else x
    layer = keras.layers.ConvLSTM2D(H, 3, padding="same", data_format=data_format)
    model = keras.Sequential([keras.Input(shown.shape[1:]), layer])
    (found,) = critinit.measure(model, shown).networks
    assert found.input_size == C
    assert found.second_moment == pytest.approx(np.mean(x**2), rel=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("KERAS_BACKEND") == "torch", reason="this process has that backend")
def test_channels_may_come_first_where_the_backend_can():
    """In a process with torch as Keras' backend."""
    pytest.importorskip("keras")
    pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "place_by_place", __file__],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "2 passed" in done.stdout


def test_what_arrives_at_a_linen_cell_is_measured():
    linen = pytest.importorskip("flax.linen")
    import jax

    x = 2.0 * np.random.default_rng(0).standard_normal((BATCH, 6, 5, 6, C)).astype("float32")
    model = linen.RNN(linen_cell(2))
    with jax.disable_jit(False):
        params = model.init(jax.random.key(0), x)
    (found,) = critinit.measure(params, x, call=lambda params, x: model.apply(params, x)).networks
    assert found.input_size == C
    assert found.second_moment == pytest.approx(np.mean(x**2), rel=1e-4)


# ---- theory ----------------------------------------------------------------------------------------------


def test_many_channels_have_the_second_moment_of_a_dense_layer():
    """On a torus, where no place is at a border.  Over the channels alone the variance would be 9 times as large."""
    spec, channels, places = points.lstm(), 64, (5, 5)
    expected = tied(spec, steps=40)[0].second_moment  # fresh weights at every step would make it 26 % smaller
    rng = np.random.default_rng(1)
    x = rng.standard_normal((100, 4, *places, channels))
    cell = linen_cell(2, channels, padding="CIRCULAR")
    found, larger = [], []
    for seed in range(3):
        params = apply(spec, init_linen(cell, x), seed=seed, framework="linen").model
        found.append(np.mean(run_linen(cell, params, x)[60:] ** 2))
        wrong = {
            child: {n: leaf * (3.0 if n == "kernel" else 1.0) for n, leaf in own.items()}
            for child, own in params["params"].items()
        }
        larger.append(np.mean(run_linen(cell, {"params": wrong}, x)[60:] ** 2))
    assert np.mean(found) == pytest.approx(expected, rel=0.03)
    assert np.mean(larger) > 1.5 * expected


def test_borders_have_less():
    """Zero padding takes away what a place at a border would read."""
    spec, places = points.lstm(), (9, 9)
    x = np.random.default_rng(1).standard_normal((80, 4, *places, 32))
    layer = keras_layer(2, places, channels=32, units=32)
    apply(spec, layer, seed=0)
    found = np.mean(run_keras(layer, x)[40:] ** 2, axis=(0, 1, 4))
    expected = tied(spec, steps=40)[0].second_moment
    assert np.mean(found[3:-3, 3:-3]) == pytest.approx(expected, rel=0.05)
    corners = np.mean([found[a, b] for a in (0, -1) for b in (0, -1)])
    assert corners < 0.8 * expected


# ---- blocks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [(3,), (3, 5), (1, 1), (3, 1, 5)])
@pytest.mark.parametrize("recurrent", KINDS)
def test_blocks_and_draws_are_inverse(window, recurrent):
    spec = make_spec("lstm", recurrent=recurrent)
    draws = draws_of(spec, 0, seed=0, input_size=C, hidden_size=H, window=window)[0].draws
    written = kernels(spec, window, seed=0)
    blocks = convolution(GATES["lstm"], "recurrent", window, H, H)
    shape = (*window, H, 4 * H)
    pairs = [pair for block in blocks for pair in on_taps(block, draws[block.gate, "recurrent"])]
    values = fill(shape, pairs)
    assert sum(int(np.prod(block.region(shape))) for block, _ in pairs) == values.size
    for block in blocks:
        whole = block.canonical(values[block.index])
        assert np.array_equal(whole, written[block.gate, "recurrent"].reshape(H, -1))
        assert np.array_equal(block.stored(whole), values[block.index])


def test_the_fan_out_counts_the_window():
    """Glorot's variance of a convolution is 2/(window·(channels + units))."""
    asked = {"distribution": "normal", "variance": 1.0, "fan": "average"}
    spec = make_spec("lstm", forget={"input": asked})
    draw = draws_of(spec, 0, seed=0, input_size=6, hidden_size=10, window=(3, 5))[0].draws["forget", "input"]
    assert draw.variance / draw.fan_in == pytest.approx(2.0 / (15 * (6 + 10)))
