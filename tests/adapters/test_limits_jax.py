"""Limits on the learning rate in optax, for the parameters of each framework on JAX."""

from __future__ import annotations

import pytest

pytest.importorskip("jax")
pytest.importorskip("flax")
pytest.importorskip("optax")
pytest.importorskip("equinox")
pytest.importorskip("haiku")

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen, nnx
from flax.training.train_state import TrainState

import critinit
from critinit.errors import ArgumentError
from tests.adapters.specs import make_spec

pytestmark = pytest.mark.frameworks
M, H, RATE, LIMIT = 3, 4, 0.05, 1e-3


def spec_of(cell="gru", settings=("candidate.recurrent", "update.bias")):
    spec = make_spec(cell).to_dict()
    for setting in settings:
        gate, part = setting.split(".")
        spec["layers"][0]["gates"][gate][part]["max_learning_rate"] = LIMIT
    return critinit.parse(spec)


SPEC = spec_of()


def linen_params():
    cell = linen.GRUCell(H)
    variables = cell.init(jax.random.key(0), jnp.zeros((2, H)), jnp.zeros((2, M)))
    return critinit.apply(SPEC, variables, seed=0)


def rows(updates, axis=0):
    """The largest size of each gate's updates."""
    return [float(jnp.abs(part).max()) for part in jnp.split(updates, 3, axis)]


def update(optimizer, params, steps=1):
    """The last of some updates for gradients of 1."""
    state = optimizer.init(params)
    step = jax.jit(optimizer.update)
    for _ in range(steps):
        updates, state = step(jax.tree.map(jnp.ones_like, params), state, params)
    return updates


def test_linen_leaves_of_the_tree_of_parameters_alone():
    applied = linen_params()
    optimizer = critinit.limit_steps(optax.sgd(RATE), applied, RATE)
    for params, inner in ((applied.model, "params"), (applied.model["params"], None), ({"net": applied.model}, "net")):
        updates = update(optimizer, params)
        found = updates if inner is None else updates[inner]
        found = found["params"] if inner == "net" else found
        limited = {("hn", "kernel"), ("iz", "bias")}
        for child, parts in found.items():
            for part, values in parts.items():
                expected = LIMIT if (child, part) in limited else RATE
                assert np.allclose(values, -expected, rtol=1e-6, atol=0), (child, part)


def test_equinox():
    applied = critinit.apply(SPEC, eqx.nn.GRUCell(M, H, key=jax.random.key(0)), seed=0)
    updates = update(critinit.limit_steps(optax.sgd(RATE), applied, RATE), eqx.filter(applied.model, eqx.is_array))
    assert rows(updates.weight_hh) == pytest.approx([RATE, RATE, LIMIT])
    assert rows(updates.bias) == pytest.approx([RATE, LIMIT, RATE])
    assert rows(updates.weight_ih) == pytest.approx([RATE] * 3)


def test_a_second_bias_inside_the_candidate_has_the_limit_of_the_candidates():
    spec = spec_of(settings=("candidate.bias",))
    applied = critinit.apply(spec, eqx.nn.GRUCell(M, H, key=jax.random.key(0)), seed=0)
    updates = update(critinit.limit_steps(optax.sgd(RATE), applied, RATE), eqx.filter(applied.model, eqx.is_array))
    assert rows(updates.bias) == pytest.approx([RATE, RATE, LIMIT])
    assert np.allclose(updates.bias_n, -LIMIT)


def test_haiku():
    net = hk.transform(lambda x: hk.dynamic_unroll(hk.LSTM(H, name="lstm"), x, hk.LSTM(H).initial_state(2))[0])
    params = net.init(jax.random.key(0), jnp.zeros((5, 2, M)))
    spec = spec_of("lstm", ("cell.recurrent", "cell.bias"))
    applied = critinit.apply(spec, params, seed=0, haiku={"lstm": "lstm"})
    updates = update(critinit.limit_steps(optax.sgd(RATE), applied, RATE), applied.model)["lstm/linear"]
    kernel = np.asarray(updates["w"]).reshape(M + H, 4, H)  # rows [x; h]; input, cell, forget, output
    assert np.allclose(kernel[M:, 1], -LIMIT)
    assert np.allclose(kernel[:M], -RATE)
    assert np.allclose(np.delete(kernel, 1, axis=1), -RATE)
    assert np.allclose(np.asarray(updates["b"]).reshape(4, H)[:, 0], [-RATE, -LIMIT, -RATE, -RATE])


def test_nnx():
    model = nnx.GRUCell(M, H, rngs=nnx.Rngs(0))
    applied = critinit.apply(SPEC, model, seed=0)
    before = np.asarray(model.dense_h.kernel[...])
    optimizer = nnx.Optimizer(model, critinit.limit_steps(optax.adam(RATE), applied, RATE), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        gradient = nnx.grad(lambda model: jnp.sum(model(jnp.ones((2, H)), jnp.ones((2, M)))[0]))(model)
        optimizer.update(model, gradient)

    step(model, optimizer)
    moved = rows(jnp.asarray(np.asarray(model.dense_h.kernel[...]) - before), axis=1)
    assert moved == pytest.approx([RATE, RATE, LIMIT], rel=1e-3)


def test_a_schedule_and_rates_in_the_state_are_followed():
    applied = linen_params()
    params = applied.model["params"]
    schedule = optax.piecewise_constant_schedule(RATE, {1: 0.1, 2: 0.1})  # RATE, RATE/10, RATE/100 < LIMIT
    scheduled = critinit.limit_steps(optax.sgd(schedule), applied, schedule)
    injected = critinit.limit_steps(optax.inject_hyperparams(optax.sgd)(schedule), applied)
    chained = critinit.limit_steps(optax.chain(optax.clip(2.0), optax.inject_hyperparams(optax.sgd)(schedule)), applied)
    for optimizer in (scheduled, injected, chained):
        found = [update(optimizer, params, steps)["hn"]["kernel"].max() for steps in (1, 2, 3)]
        assert np.allclose(found, [-LIMIT, -LIMIT, -RATE / 100], rtol=1e-5)


def test_twice_is_once():
    applied = linen_params()
    params = applied.model["params"]
    once = critinit.limit_steps(optax.adam(RATE), applied, RATE)
    assert critinit.limit_steps(once, applied, RATE) is once
    other = critinit.generate("gru", T=6, settings=["layers.*.gates.reset.recurrent.max_learning_rate=1e-5"])
    both = update(critinit.limit_steps(once, critinit.step_limits(other, applied.model), RATE), params)
    assert float(jnp.abs(both["hn"]["kernel"]).max()) == pytest.approx(LIMIT, rel=1e-3)
    assert float(jnp.abs(both["hr"]["kernel"]).max()) == pytest.approx(1e-5, rel=1e-3)


def test_a_new_limit_takes_the_place_of_the_old_one_of_a_tensor():
    applied = linen_params()
    params = applied.model["params"]
    settings = ["layers.*.gates.candidate.recurrent.max_learning_rate=2e-4"]
    changed = critinit.step_limits(critinit.generate("gru", T=6, settings=settings), applied.model)
    once = critinit.limit_steps(optax.sgd(RATE), applied, RATE)
    updates = update(critinit.limit_steps(once, changed, RATE), params)
    assert np.allclose(updates["hn"]["kernel"], -2e-4, rtol=1e-5)  # and not 2e-4 · LIMIT/RATE
    assert np.allclose(updates["iz"]["bias"], -LIMIT, rtol=1e-5)


def test_a_rate_that_is_corrected_counts():
    applied = linen_params()
    params = applied.model["params"]
    wrong = critinit.limit_steps(optax.sgd(RATE), applied, RATE / 10)
    assert np.allclose(update(wrong, params)["hn"]["kernel"], -10 * LIMIT, rtol=1e-5)
    right = critinit.limit_steps(wrong, applied, RATE)
    assert np.allclose(update(right, params)["hn"]["kernel"], -LIMIT, rtol=1e-5)


def test_a_rate_in_the_state_of_another_part_is_not_that_of_the_limited_one():
    applied = linen_params()
    params = {"params": applied.model["params"], "head": jnp.ones(3)}

    def parts(rnn, head):
        return optax.multi_transform({"rnn": rnn, "head": head}, {"params": "rnn", "head": "head"})

    def stated(rate):
        return optax.inject_hyperparams(optax.sgd)(learning_rate=rate)

    mixed = parts(optax.sgd(RATE), stated(1.0))
    assert np.allclose(
        update(critinit.limit_steps(mixed, applied, RATE), params)["params"]["hn"]["kernel"], -LIMIT, rtol=1e-5
    )
    with pytest.raises(ArgumentError, match=r"found that of one part alone.*limit the transformation of the part"):
        critinit.limit_steps(mixed, applied).init(params)
    frozen = critinit.limit_steps(parts(stated(RATE), optax.set_to_zero()), applied)
    assert np.allclose(update(frozen, params)["params"]["hn"]["kernel"], -LIMIT, rtol=1e-5)


def labels_of(params):
    return {child: dict.fromkeys(parts, "slow" if child == "hn" else "fast") for child, parts in params.items()}


@pytest.mark.parametrize(
    ("wrapped", "rate"),
    [
        (lambda limited: optax.multi_transform({"slow": limited(), "fast": optax.sgd(RATE)}, labels_of), RATE),
        (lambda limited: optax.chain(optax.clip(2.0), limited()), RATE),
        (lambda limited: optax.inject_hyperparams(lambda learning_rate: limited())(RATE), None),
        (
            lambda limited: optax.masked(limited(), lambda params: jax.tree.map(lambda leaf: leaf.ndim == 2, params)),
            RATE,
        ),
        (lambda limited: optax.apply_if_finite(optax.chain(limited()), 3), RATE),
        (lambda limited: optax.MultiSteps(limited(), 2).gradient_transformation(), RATE),
    ],
    ids=["multi_transform", "chain", "inject_hyperparams", "masked", "apply_if_finite", "MultiSteps"],
)
def test_limits_around_limits_of_the_same_tensors_are_refused(wrapped, rate):
    applied = linen_params()
    params = applied.model["params"]
    inside = wrapped(lambda: critinit.limit_steps(optax.sgd(RATE), applied, RATE))
    inside.init(params)  # alone it is good
    twice = critinit.limit_steps(inside, applied, rate)
    found = r"limits around an optimizer that limits the same inside: (hn/kernel|iz/bias)"
    with pytest.raises(ArgumentError, match=f"^optimizer: found {found}.*call limit_steps once: inside"):
        twice.init(params)
    with pytest.raises(ArgumentError, match=found):
        jax.jit(optax.chain(twice, optax.clip(1.0)).init)(params)
    # what follows a refused one is judged by itself
    assert critinit.limit_steps(wrapped(lambda: optax.sgd(RATE)), applied, rate).init(params)


def test_limits_of_different_tensors_may_stand_around_each_other():
    applied = linen_params()
    params = applied.model["params"]
    settings = ["layers.*.gates.reset.recurrent.max_learning_rate=1e-5"]
    other = critinit.step_limits(critinit.generate("gru", T=6, settings=settings), applied.model)
    inside = optax.chain(critinit.limit_steps(optax.sgd(RATE), applied, RATE), optax.clip(1.0))
    updates = update(critinit.limit_steps(inside, other, RATE), params)
    assert np.allclose(updates["hn"]["kernel"], -LIMIT, rtol=1e-5)
    assert np.allclose(updates["hr"]["kernel"], -1e-5, rtol=1e-5)


def test_the_sign_of_a_schedule_does_not_matter():
    applied = linen_params()
    params = applied.model["params"]
    down = optax.chain(optax.scale_by_adam(), optax.scale_by_schedule(lambda count: -RATE))
    updates = update(critinit.limit_steps(down, applied, lambda count: -RATE), params)
    assert np.allclose(updates["hn"]["kernel"], -LIMIT, rtol=1e-3)
    traced = update(critinit.limit_steps(down, applied, lambda count: jnp.asarray(-RATE)), params)
    assert np.allclose(traced["hn"]["kernel"], -LIMIT, rtol=1e-3)


def test_a_limit_that_does_not_bind_changes_no_bit():
    applied = linen_params()
    params = applied.model["params"]
    for rate in (1e-4, optax.constant_schedule(1e-4)):
        ours = update(critinit.limit_steps(optax.adam(rate), applied, rate), params, 3)
        theirs = update(optax.adam(rate), params, 3)
        assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), ours, theirs)))


def test_lion_moves_a_limited_region_as_with_the_smaller_rate():
    applied = linen_params()
    params = applied.model["params"]
    limited, plain, slow = (
        update(optimizer, params, 2)
        for optimizer in (
            critinit.limit_steps(optax.lion(RATE, weight_decay=0.1), applied, RATE),
            optax.lion(RATE, weight_decay=0.1),
            optax.lion(LIMIT, weight_decay=0.1),
        )
    )
    assert np.allclose(limited["hn"]["kernel"], slow["hn"]["kernel"], rtol=1e-5, atol=0)
    assert np.array_equal(limited["hr"]["kernel"], plain["hr"]["kernel"])


def test_weight_decay_is_limited_and_masked_leaves_are_left_out():
    applied = linen_params()
    params = applied.model["params"]
    inner = critinit.limit_steps(optax.adamw(RATE, weight_decay=0.1), applied, RATE)
    mask = jax.tree.map(lambda leaf: leaf.ndim == 2, params)
    updates = update(optax.masked(inner, mask), params)
    plain = update(optax.adamw(LIMIT, weight_decay=0.1), params)
    assert np.allclose(updates["hn"]["kernel"], plain["hn"]["kernel"], rtol=1e-5)
    assert np.allclose(updates["iz"]["bias"], 1.0)  # masked: the gradient, as it was


def test_what_cannot_be_limited_is_refused_with_the_way_out():
    applied = linen_params()
    params = applied.model["params"]
    for wrong, said in (
        (optax.lbfgs(0.1), "searches along a line"),
        (optax.rprop(0.1), "only that of the first step"),
        (optax.contrib.schedule_free(optax.sgd(0.1), 0.1), "second copy"),
        (optax.contrib.prodigy(), "finds the size of its steps itself"),
        (optax.contrib.mechanize(optax.sgd(0.1)), "finds the size of its steps itself"),
        (optax.contrib.sam(optax.sgd(0.1), optax.contrib.normalize()), "that go into sam instead"),
        (optax.inject_hyperparams(optax.sgd)(0.2), "leave it out: the optimizer states its own"),
    ):
        with pytest.raises(ArgumentError, match=said):
            critinit.limit_steps(wrong, applied, 0.1).init(params)
    with pytest.raises(ArgumentError, match=r"learning_rate: found none; .*inject_hyperparams"):
        critinit.limit_steps(optax.adam(RATE), applied).init(params)
    with pytest.raises(ArgumentError, match=r"an optimizer of head/kernel; .*params/iz/bias"):
        critinit.limit_steps(optax.adam(RATE), applied, RATE).init({"head": {"kernel": jnp.ones(3)}})
    twins = {"one": params, "two": params}
    with pytest.raises(ArgumentError, match="several places"):
        critinit.limit_steps(optax.adam(RATE), critinit.apply(SPEC, params, seed=0), RATE).init(twins)
    stacked = jax.tree.map(
        lambda leaf: jnp.stack([leaf] * 2), eqx.filter(eqx.nn.GRUCell(M, H, key=jax.random.key(0)), eqx.is_array)
    )
    cell = critinit.apply(SPEC, eqx.nn.GRUCell(M, H, key=jax.random.key(0)), seed=0)
    with pytest.raises(ArgumentError, match="not stacked by vmap"):
        update(critinit.limit_steps(optax.sgd(RATE), cell, RATE), stacked)
    whole = TrainState.create(apply_fn=None, params=params, tx=optax.adam(RATE))
    for wrong in (whole, optax.MultiSteps(optax.adam(RATE), 2)):
        with pytest.raises(ArgumentError, match="limit the transformation before"):
            critinit.limit_steps(wrong, applied, RATE)


def test_what_skips_steps_takes_no_schedule_and_is_made_of_what_is_limited():
    applied = linen_params()
    params = applied.model["params"]
    schedule = optax.linear_schedule(RATE, 0.0, 10)
    for wrong in (
        optax.MultiSteps(optax.sgd(schedule), 2).gradient_transformation(),
        optax.apply_if_finite(optax.sgd(schedule), 3),
    ):
        with pytest.raises(ArgumentError, match=r"a schedule beside a .* limit the transformation before"):
            critinit.limit_steps(wrong, applied, schedule).init(params)
    twice = optax.MultiSteps(critinit.limit_steps(optax.sgd(schedule), applied, schedule), 2)
    last = update(twice.gradient_transformation(), params, 8)["hn"]["kernel"]
    assert np.allclose(last, -LIMIT, rtol=1e-5)


def test_lookahead_is_made_of_what_is_limited():
    applied = linen_params()
    params = optax.LookaheadParams.init_synced(applied.model["params"])
    with pytest.raises(ArgumentError, match="that goes into lookahead instead"):
        critinit.limit_steps(optax.lookahead(optax.sgd(RATE), 5, 0.5), applied, RATE).init(params)
    optimizer = optax.lookahead(critinit.limit_steps(optax.sgd(RATE), applied, RATE), 5, 0.5)
    ones = jax.tree.map(jnp.ones_like, params.fast)
    updates, _ = optimizer.update(ones, optimizer.init(params), params)
    assert np.allclose(updates.fast["hn"]["kernel"], -LIMIT, rtol=1e-5)


@pytest.mark.parametrize("rate", ["0.1", -0.1, 0.0, float("nan"), float("inf"), True, jnp.asarray(-0.1), np.ones(2)])
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises(ArgumentError, match=r"^learning_rate: found .*; allowed: a number above 0, or a schedule$"):
        critinit.limit_steps(optax.adam(RATE), linen_params(), rate)


def test_a_rate_may_be_an_array():
    applied = linen_params()
    params = applied.model["params"]
    ours, again = (
        update(critinit.limit_steps(optax.adam(RATE), applied, rate), params) for rate in (RATE, jnp.asarray(RATE))
    )
    assert jax.tree.all(jax.tree.map(lambda one, other: np.allclose(one, other, rtol=1e-6), ours, again))


def test_limits_inside_the_accumulation_of_gradients():
    applied = linen_params()
    params = applied.model["params"]
    inner = critinit.limit_steps(optax.sgd(RATE), applied, optax.constant_schedule(RATE))
    updates = update(optax.MultiSteps(inner, 2).gradient_transformation(), params, 2)
    assert np.allclose(updates["hn"]["kernel"], -LIMIT, rtol=1e-5)
    assert np.allclose(updates["hr"]["kernel"], -RATE, rtol=1e-5)
