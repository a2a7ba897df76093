"""Haiku beyond the conformance table: the caller's map of modules, what is refused, GRUs declared with their spec."""

from __future__ import annotations

import pytest

pytest.importorskip("haiku")

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from critinit_adapters.haiku.adapter import initializers

from critinit.errors import ApplyError, ArgumentError
from critinit.tensors.application import apply
from critinit.tensors.sampling import draw
from tests.adapters.specs import make_spec

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("eager")]
M, H = 5, 12
KEY = jax.random.key(0)


def network(x):
    lstm, gru = hk.LSTM(H), hk.GRU(H, name="inner")
    x, _ = lstm(x, lstm.initial_state(1))
    x, _ = gru(x, gru.initial_state(1))
    return hk.Linear(2)(x)


def params(forward=network):
    return hk.transform(forward).init(KEY, jnp.zeros((1, M)))


def test_a_model_with_other_things():
    tree = params()
    applied = apply(make_spec("lstm"), tree, seed=0, haiku={"lstm": "lstm", "inner": "gru"})
    new = applied.model
    assert new["inner"]["w_i"] is tree["inner"]["w_i"]
    assert new["linear"]["w"] is tree["linear"]["w"]
    assert applied.report.untouched == ("inner/b", "inner/w_h", "inner/w_i", "linear/b", "linear/w")
    gates = draw(make_spec("lstm"), M, H).layers[0][0].gates
    stored = new["lstm/linear"]
    assert np.array_equal(stored["w"][:M, H : 2 * H], gates["cell"].input.T.astype(np.float32))
    assert np.array_equal(stored["w"][M:, 2 * H : 3 * H], gates["forget"].recurrent.T.astype(np.float32))
    # the cell adds 1 by itself
    assert np.array_equal(stored["b"][2 * H : 3 * H], (gates["forget"].bias - 1).astype(np.float32))


def test_the_update_gate_is_stored_with_its_sign_changed():
    new = apply(make_spec("gru_reset_before"), params(), seed=0, haiku={"inner": "gru"}).model["inner"]
    gates = draw(make_spec("gru_reset_before"), H, H).layers[0][0].gates
    for name, part in (("w_i", "input"), ("w_h", "recurrent"), ("b", "bias")):
        assert np.array_equal(new[name][..., :H], -getattr(gates["update"], part).T.astype(np.float32))
        assert np.array_equal(new[name][..., H : 2 * H], getattr(gates["reset"], part).T.astype(np.float32))


def test_the_order_of_the_map_is_that_of_the_layers():
    def forward(x):
        for name in ("b", "a"):
            core = hk.GRU(M, name=name)
            x, _ = core(x, core.initial_state(1))
        return x

    spec = make_spec("gru_reset_before", layers=2)
    report = apply(spec, params(forward), seed=0, haiku={"b": "gru", "a": "gru"}).report
    assert {(row.tensor[0], row.layer) for row in report} == {("b", 0), ("a", 1)}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ArgumentError, r"haiku: found nothing; .*haiku=\{'inner': 'gru', 'lstm': 'lstm'\}"),
        ({"haiku": {}}, ArgumentError, r"haiku: found \{\}; allowed: a mapping"),
        ({"haiku": "gru"}, ArgumentError, "haiku: found 'gru'"),
        ({"haiku": {"inner": "mgu"}}, ArgumentError, "haiku: found 'mgu' for 'inner'; allowed: a mapping"),
        ({"haiku": {"inner": "rnn"}}, ArgumentError, "haiku: found 'rnn' for 'inner'; .* 'vanilla_rnn'$"),
        ({"haiku": {"inner": "vanilla_rnn"}}, ApplyError, "the path of a module that holds linear/w"),
        (
            {"haiku": {"outer": "gru"}},
            ApplyError,
            "haiku: found 'outer'; allowed: the path of a module that holds w_i; modules: 'lstm/linear', 'inner'",
        ),
        ({"haiku": {"inner": "lstm"}}, ApplyError, "found 'inner'; allowed: the path of a module that holds linear/w"),
        ({"haiku": {"lstm": "lstm"}}, ApplyError, "found lstm at 'lstm'; .*cell, gru_reset_before; .* --cell lstm$"),
        ({"haiku": {"inner": "gru"}, "speed": 3}, ArgumentError, r"speed: found no option of the haiku adapter"),
    ],
)
def test_refused(options, error, message):
    with pytest.raises(error, match=message) as raised:
        apply(make_spec("gru_reset_before"), params(), seed=0, **options)
    assert "\n" not in str(raised.value)


def test_a_reset_gate_after_the_kernel_is_refused():
    with pytest.raises(ApplyError, match=r"found gru_reset_before at 'inner'; .* --cell gru_reset_before$"):
        apply(make_spec("gru"), params(), seed=0, haiku={"inner": "gru"})


def test_a_declared_gru_has_the_numbers_of_apply():
    spec = make_spec("gru_reset_before", recurrent="orthogonal")

    def forward(**given):
        def run(x):
            core = hk.GRU(H, **given)
            return core(x, core.initial_state(1))

        return params(run)

    patched = apply(spec, forward(), seed=4, haiku={"gru": "gru"}).model
    declared = forward(**initializers(spec, seed=4))
    assert jax.tree.all(jax.tree.map(np.array_equal, declared, patched))
    for other in (make_spec("gru"), make_spec("lstm")):
        with pytest.raises(ArgumentError, match=r"spec: found .*allowed: gru_reset_before"):
            initializers(other)


def test_an_lstm_of_any_name_is_suggested():
    def forward(x):
        lstm = hk.LSTM(H, name="bottom")
        return lstm(x, lstm.initial_state(1))[0]

    with pytest.raises(ArgumentError, match=r"such as haiku=\{'bottom': 'lstm'\}"):
        apply(make_spec("lstm"), params(forward), seed=0)


def test_a_declared_gru_draws_from_the_key():
    spec = make_spec("gru_reset_before")

    def forward(x):
        for _ in range(2):
            core = hk.GRU(M, **initializers(spec))
            x, _ = core(x, core.initial_state(1))
        return x

    def init(seed):
        with jax.disable_jit(False):
            return jax.jit(hk.transform(forward).init)(jax.random.key(seed), jnp.zeros((1, M)))

    one, again, other = init(1), init(1), init(2)
    assert jax.tree.all(jax.tree.map(np.array_equal, one, again))
    found = [np.asarray(layer[name]).tobytes() for tree in (one, other) for layer in tree.values() for name in layer]
    assert len(set(found)) == len(found) == 12
    with pytest.raises(ArgumentError, match="seed: found none"):
        apply(spec, one, haiku={"gru": "gru"})


@pytest.mark.parametrize("double_bias", [True, False])
def test_a_vanilla_rnn_is_a_relu_rnn_whose_second_bias_is_zeroed(double_bias):
    def forward(x):
        core = hk.VanillaRNN(M, double_bias=double_bias)
        return hk.dynamic_unroll(core, x, core.initial_state(1))[0]

    tree = params(forward)
    with pytest.raises(ArgumentError, match=r"haiku=\{'vanilla_rnn': 'vanilla_rnn'\}"):
        apply(make_spec("relu_rnn"), tree, seed=0)
    with pytest.raises(ApplyError, match=r"found relu_rnn at 'vanilla_rnn'; .*cell, rnn; .* --cell relu_rnn$"):
        apply(make_spec("rnn"), tree, haiku={"vanilla_rnn": "vanilla_rnn"}, seed=0)
    applied = apply(make_spec("relu_rnn"), tree, haiku={"vanilla_rnn": "vanilla_rnn"}, seed=0)
    assert len(applied.report) == 3
    second = applied.model["vanilla_rnn/linear_1"]
    assert ("b" in second) == double_bias
    assert not np.any(second.get("b", 0.0))
