"""Limits on the learning rate in Keras, on the backend that is in use."""

from __future__ import annotations

import pytest

pytest.importorskip("keras")

import keras
import numpy as np
from critinit_adapters.keras import LimitedOptimizer

import critinit
from critinit.errors import ApplyError, ArgumentError

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
M, H, T, B, RATE, LIMIT = 2, 4, 5, 3, 0.05, 1e-3
SETTINGS = [f"layers.0.gates.{part}.max_learning_rate={LIMIT}" for part in ("candidate.recurrent", "update.bias")]
SPEC = critinit.generate("gru", T=T, settings=SETTINGS)
X = np.random.default_rng(0).standard_normal((B, T, M)).astype("float32")
Y = np.ones((B, 1), "float32")


def built(spec=SPEC):
    model = keras.Sequential([keras.Input((T, M)), keras.layers.GRU(H), keras.layers.Dense(1)])
    return critinit.apply(spec, model, seed=0)


def moved(applied, optimizer, epochs=1, **compiled):
    """How far each gate's part of the kernel, the recurrent kernel and the bias went, and the losses."""
    model = applied.model
    before = [np.array(w) for w in model.get_weights()[:3]]
    model.compile(optimizer, "mse", **compiled)
    losses = model.fit(X, Y, batch_size=B, epochs=epochs, shuffle=False, verbose=0).history["loss"]
    after = [np.array(w) for w in model.get_weights()[:3]]
    steps = [np.abs(new - old) for new, old in zip(after, before, strict=True)]
    return [[part.max() for part in np.split(step, 3, axis=-1)] for step in steps], losses


def test_the_report_names_the_regions_and_the_step_keeps_them():
    applied = built()
    names = {limit.tensor.rpartition("/")[2] for limit in applied.limits}
    assert names == {"recurrent_kernel", "bias"}
    optimizer = critinit.limit_steps(keras.optimizers.Adam(RATE, epsilon=1e-12), applied)  # small gradients count
    assert isinstance(optimizer, LimitedOptimizer)
    (kernel, recurrent, bias), _ = moved(applied, optimizer)
    assert kernel == pytest.approx([RATE] * 3, rel=0.01)  # update, reset, candidate
    assert recurrent == pytest.approx([RATE, RATE, LIMIT], rel=0.01)
    assert bias == pytest.approx([LIMIT, RATE, RATE], rel=0.01)  # both rows


def test_what_is_excluded_from_weight_decay_is_excluded():
    applied = built()
    applied.model.layers[-1].kernel.assign(np.ones((H, 1)))
    optimizer = critinit.limit_steps(keras.optimizers.AdamW(RATE, weight_decay=5.0), applied)
    optimizer.exclude_from_weight_decay([applied.model.layers[-1].kernel])
    moved(applied, optimizer)
    # decay would take a quarter, .05 · 5; Adam's step is RATE
    assert np.abs(1.0 - np.array(applied.model.layers[-1].get_weights()[0])).max() < 1.1 * RATE


def test_a_layer_that_apply_builds_is_limited_too():
    layer = keras.layers.GRU(H)
    with pytest.raises(ApplyError, match="build the model first"):
        critinit.step_limits(SPEC, layer, input_size=M)
    applied = critinit.apply(SPEC, layer, seed=0, input_size=M)
    assert applied.limits == critinit.step_limits(SPEC, layer).limits
    optimizer = critinit.limit_steps(keras.optimizers.Adam(RATE), applied)
    optimizer.build(layer.trainable_variables)
    assert len(optimizer._limited) == 2


class Own(keras.layers.Layer):
    """Keeps the parts of a GRU in variables of its own."""

    def build(self, shape):
        self.U = self.add_weight(shape=(M, 3 * H), name="U")
        self.W = self.add_weight(shape=(H, 3 * H), name="W")
        self.b = self.add_weight(shape=(3 * H,), name="b")


def test_variables_that_the_user_named_are_limited_too():
    layer = Own()
    layer.build((None, M))
    where = critinit.fused(("update", "reset", "candidate"), input="U", recurrent="W", bias="b", axis=1)
    applied = critinit.apply(SPEC, layer, seed=0, where=where)
    assert applied.limits == critinit.step_limits(SPEC, layer, where=where).limits
    assert {limit.tensor.rpartition("/")[2] for limit in applied.limits} == {"W", "b"}
    optimizer = critinit.limit_steps(keras.optimizers.SGD(RATE), applied)
    before = np.array(layer.W)
    trained = layer.trainable_variables
    optimizer.apply([keras.ops.ones(variable.shape) for variable in trained], trained)
    moved = [part.max() for part in np.split(before - np.array(layer.W), 3, axis=1)]
    assert moved == pytest.approx([RATE, RATE, LIMIT], rel=1e-3)


def test_a_limit_that_does_not_bind_changes_no_bit():
    limited, plain = built(), built()
    plain.model.layers[1].set_weights(limited.model.layers[1].get_weights())
    optimizer = critinit.limit_steps(keras.optimizers.Adam(1e-4), limited)
    assert moved(limited, optimizer, 3) == moved(plain, keras.optimizers.Adam(1e-4), 3)


def test_the_rate_is_read_and_written_through():
    applied = built()
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: RATE if epoch else 1e-5)
    optimizer = critinit.limit_steps(keras.optimizers.Adam(1.0), applied)
    model = applied.model
    model.compile(optimizer, "mse")
    before = np.array(model.get_weights()[1])
    model.fit(X, Y, batch_size=B, epochs=2, verbose=0, callbacks=[schedule])
    step = np.abs(model.get_weights()[1] - before)
    assert step[:, 2 * H :].max() < 1.05 * (LIMIT + 1e-5)
    assert step[:, : 2 * H].max() > 0.8 * RATE
    assert float(optimizer.learning_rate) == pytest.approx(RATE)
    assert int(optimizer.iterations) == int(optimizer.inner_optimizer.iterations) == 2


def test_accumulated_gradients_and_scaled_losses():
    for made in (
        lambda: keras.optimizers.Adam(RATE, gradient_accumulation_steps=2, loss_scale_factor=8.0),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(RATE)),
    ):
        applied = built()
        optimizer = critinit.limit_steps(made(), applied)
        (_, recurrent, _), _ = moved(applied, optimizer, 2)
        assert recurrent[2] < 2.2 * LIMIT
        assert 0.9 * RATE < recurrent[0] < 2.2 * RATE


def test_twice_is_once():
    once, twice = built(), built()
    twice.model.layers[1].set_weights(once.model.layers[1].get_weights())
    optimizer = critinit.limit_steps(keras.optimizers.Adam(RATE), twice)
    limits = optimizer.limits
    again = critinit.limit_steps(optimizer, twice)
    assert again is optimizer
    assert again.limits == limits
    assert moved(twice, again, 3) == moved(once, critinit.limit_steps(keras.optimizers.Adam(RATE), once), 3)


def compiled(applied, optimizer, **how):
    applied.model.compile(optimizer, "mse", **how)
    return applied.model


def fit(model):
    """How far the candidate's recurrent kernel went in one epoch."""
    before = np.array(model.get_weights()[1])
    model.fit(X, Y, batch_size=B, shuffle=False, verbose=0)
    return np.abs(model.get_weights()[1] - before)[:, 2 * H :].max()


HOW = [{}, {"jit_compile": False}, *([{"run_eagerly": True}] if keras.backend.backend() != "torch" else [])]


@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize("trained", [False, True])
def test_limits_reach_a_model_that_was_compiled_before(how, trained, tmp_path):
    applied = built()
    model = compiled(applied, keras.optimizers.Adam(RATE, epsilon=1e-12), **how)
    if trained:  # its step is compiled without limits
        assert fit(model) > 10 * LIMIT
    returned = critinit.limit_steps(model.optimizer, applied)
    assert model.optimizer is returned
    assert fit(model) < 1.01 * LIMIT
    assert fit(model) > 0.5 * LIMIT
    assert critinit.limit_steps(model.optimizer, applied) is returned
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(again.optimizer, LimitedOptimizer)
    assert fit(again) < 1.01 * LIMIT


@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize("trained", [False, True])
def test_limits_of_a_layer_reach_the_model_around_it(how, trained, tmp_path):
    model = built().model
    applied = critinit.apply(SPEC, model.layers[0], seed=0)
    bare = keras.optimizers.Adam(RATE, epsilon=1e-12)
    model.compile(bare, "mse", **how)
    if trained:
        assert fit(model) > 10 * LIMIT
    assert critinit.limit_steps(bare, applied) is model.optimizer
    assert fit(model) < 1.01 * LIMIT
    assert fit(model) > 0.5 * LIMIT
    model.save(tmp_path / "model.keras")
    assert fit(keras.models.load_model(tmp_path / "model.keras")) < 1.01 * LIMIT


@pytest.mark.parametrize("trained", [False, True])
def test_limits_reach_a_model_that_wrapped_the_given_optimizer_to_scale_the_loss(trained, tmp_path):
    applied = built()
    applied.model.dtype_policy = keras.dtype_policies.DTypePolicy("mixed_float16")  # of the model, not of its layers
    bare = keras.optimizers.Adam(RATE, epsilon=1e-12)
    model = compiled(applied, bare)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    if trained:
        assert fit(model) > 10 * LIMIT
    limited = critinit.limit_steps(bare, applied)
    assert model.optimizer.inner_optimizer is limited
    assert fit(model) < 1.01 * LIMIT
    assert fit(model) > 0.5 * LIMIT
    model.save(tmp_path / "model.keras")
    assert fit(keras.models.load_model(tmp_path / "model.keras")) < 1.01 * LIMIT


def test_new_limits_reach_every_model_that_holds_the_optimizer_in_any_form():
    tighter = critinit.generate("gru", T=T, settings=["layers.0.gates.candidate.recurrent.max_learning_rate=1e-4"])
    bare = keras.optimizers.Adam(RATE, epsilon=1e-12)
    applied = built()
    limited = critinit.limit_steps(bare, applied)
    for given, held in ((bare, limited), (limited, bare), (bare, keras.optimizers.LossScaleOptimizer(limited))):
        critinit.limit_steps(bare, applied)
        model = compiled(applied, held)
        assert 0.5 * LIMIT < fit(model) < 1.01 * LIMIT
        critinit.limit_steps(given, critinit.step_limits(tighter, model.layers[0]))
        assert fit(model) < 1.01e-4


@pytest.mark.parametrize("event", ["on_train_batch_end", "on_epoch_end"])
def test_limits_reach_a_model_in_the_middle_of_its_training(event):
    def moved(callback):
        model = compiled(applied, keras.optimizers.Adam(RATE, epsilon=1e-12))
        before = np.array(model.get_weights()[1])
        model.fit(X, Y, batch_size=B, epochs=10, shuffle=False, verbose=0, callbacks=[callback])
        return np.abs(model.get_weights()[1] - before)[:, 2 * H :].max()

    limiting = keras.callbacks.Callback()
    setattr(limiting, event, lambda *_, **__: critinit.limit_steps(limiting.model.optimizer, applied))
    applied = built()
    assert RATE < moved(limiting) < 1.5 * RATE  # one step at the rate, nine with the limit
    applied = built()
    assert moved(keras.callbacks.Callback()) > 3 * RATE


class Pair(keras.Model):
    """A model with a training step of its own that uses an optimizer of its own."""

    def __init__(self):
        super().__init__()
        self.rnn, self.second = keras.layers.GRU(H), keras.optimizers.SGD(RATE)

    def call(self, x):
        return self.rnn(x)


def test_a_step_of_ones_own_is_compiled_again():
    model = Pair()
    model(X)
    model.compile("sgd", "mse")
    first, model.train_function = model.optimizer, "compiled"
    critinit.limit_steps(model.second, critinit.apply(SPEC, model.rnn, seed=0))
    assert model.train_function != "compiled"
    assert model.optimizer is first
    assert not isinstance(first, LimitedOptimizer)


def test_another_model_keeps_its_compiled_step():
    applied, other = built(), built().model
    other.compile("adam", "mse")
    fit(other)
    step = other.train_function
    critinit.limit_steps(keras.optimizers.Adam(RATE), applied)
    assert other.train_function is step


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch's steps are not compiled")
def test_a_loop_that_has_made_steps_is_told_to_compile_again():
    applied, optimizer = built(), keras.optimizers.SGD(RATE)
    trained = applied.model.trainable_variables
    optimizer.apply([keras.ops.ones(variable.shape) for variable in trained], trained)
    with pytest.warns(UserWarning, match="no Keras model holds it: if you compiled the training step yourself"):
        critinit.limit_steps(optimizer, applied)


def test_an_optimizer_that_is_saved_without_its_wrapper_warns():
    bare = keras.optimizers.Adam(RATE)
    critinit.limit_steps(bare, built())
    with pytest.warns(UserWarning, match="limits of this optimizer are not saved with it: compile the model with"):
        keras.saving.serialize_keras_object(bare)


class Loop(keras.Model):
    """A model with an optimizer of its own that it was not compiled with."""

    def __init__(self):
        super().__init__()
        self.rnn, self.optimizer = keras.layers.GRU(H), keras.optimizers.SGD(RATE)

    def call(self, x):
        return self.rnn(x)


def test_an_optimizer_that_the_model_keeps_without_being_compiled_stays_where_it_is():
    model = Loop()
    model(X)
    bare, applied = model.optimizer, critinit.apply(SPEC, model, seed=0)
    assert isinstance(critinit.limit_steps(model.optimizer, applied), LimitedOptimizer)
    assert model.optimizer is bare
    trained = model.trainable_variables
    before = np.array(trained[1])
    bare.apply([keras.ops.ones(variable.shape) for variable in trained], trained)
    assert (before - np.array(trained[1]))[:, 2 * H :].max() == pytest.approx(LIMIT, rel=1e-3)


def test_limits_reach_the_bare_optimizer_of_a_loop_of_ones_own():
    applied = built()
    bare = keras.optimizers.SGD(RATE)
    limited = critinit.limit_steps(bare, applied)
    assert critinit.limit_steps(bare, applied) is limited
    trained = applied.model.trainable_variables
    ones = [keras.ops.ones(variable.shape) for variable in trained]
    for step in (bare.apply, limited.apply, lambda *pair: bare.apply_gradients(zip(*pair, strict=True))):
        before = np.array(trained[1])
        step(ones, trained)
        moved = [part.max() for part in np.split(before - np.array(trained[1]), 3, axis=1)]
        assert moved == pytest.approx([RATE, RATE, LIMIT], rel=1e-3)
    bare.apply(ones)
    assert int(bare.iterations) == 4


def test_new_limits_reach_a_model_that_trains_with_limits_already():
    settings = ["layers.0.gates.candidate.recurrent.max_learning_rate=1e-4"]
    tighter = critinit.generate("gru", T=T, settings=settings)
    for make in (keras.optimizers.Adam, lambda rate: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(rate))):
        applied = built()
        model = compiled(applied, critinit.limit_steps(make(RATE), applied))
        assert fit(model) == pytest.approx(LIMIT, rel=0.01)
        assert critinit.limit_steps(model.optimizer, critinit.step_limits(tighter, model)) is model.optimizer
        assert fit(model) < 1.01e-4


def test_limits_reach_a_model_whose_scaled_optimizer_is_given():
    applied = built()
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(RATE))
    model = compiled(applied, scaled)
    assert fit(model) > 10 * LIMIT
    assert critinit.limit_steps(model.optimizer, applied) is scaled
    assert fit(model) < 1.01 * LIMIT


@pytest.mark.filterwarnings("ignore:Skipping variable loading:UserWarning")  # as of every optimizer
def test_saved_before_it_was_trained(tmp_path):
    applied = built()
    applied.model.compile(critinit.limit_steps(keras.optimizers.Adam(RATE), applied), "mse")
    applied.model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    before = np.array(model.get_weights()[1])
    model.fit(X, Y, batch_size=B, verbose=0)
    assert np.abs(model.get_weights()[1] - before)[:, 2 * H :].max() == pytest.approx(LIMIT, rel=0.01)


def test_what_cannot_be_limited_is_refused():
    applied = built()
    for wrong, said in (
        (keras.optimizers.Ftrl(RATE), "computes weights anew"),
        (keras.optimizers.Adam(RATE, use_ema=True), "average of the weights"),
    ):
        with pytest.raises(ArgumentError, match=said):
            critinit.limit_steps(wrong, applied)
    with pytest.raises(ArgumentError, match="states its own"):
        critinit.limit_steps(keras.optimizers.Adam(RATE), applied, RATE)
    other = keras.Sequential([keras.Input((M,)), keras.layers.Dense(1)])
    with pytest.raises(ArgumentError, match=r"an optimizer of .*kernel, .*; allowed: one that trains"):
        critinit.limit_steps(keras.optimizers.Adam(RATE), applied, model=other)
    optimizer = critinit.limit_steps(keras.optimizers.Adam(RATE), applied)
    with pytest.raises(ArgumentError, match="trains at least one of the limited"):
        optimizer.build(other.trainable_variables)
    busy = keras.optimizers.SGD(RATE)
    busy.build(other.trainable_variables)
    with pytest.raises(ArgumentError, match="trains at least one of the limited"):
        critinit.limit_steps(busy, applied)
    busy.apply([keras.ops.ones(variable.shape) for variable in other.trainable_variables])  # as it was
    none = built(critinit.generate("gru", T=T))
    plain = keras.optimizers.Adam(RATE)
    assert critinit.limit_steps(plain, none) is plain
