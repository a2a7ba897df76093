"""Weights that ``vmap`` and ``scan`` stacked: each member is a network of its own."""

from __future__ import annotations

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import critinit
from critinit.errors import ApplyError, ArgumentError
from tests.adapters.specs import make_spec

pytestmark = [pytest.mark.frameworks, pytest.mark.slow]
M, H, N = 5, 8, 3
KEYS = jax.random.split(jax.random.key(0), N)


class Conv(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.RNN(nn.ConvLSTMCell(4, (3, 3)))(x)


class Ways(eqx.Module):
    """Two layers."""

    below: eqx.nn.GRUCell
    above: eqx.nn.GRUCell

    def __init__(self, key, inputs=M):
        self.below = eqx.nn.GRUCell(inputs, H, key=key)
        self.above = eqx.nn.GRUCell(H, H, key=key)


def ensemble_nnx(cell):
    @nnx.vmap
    def make(key):
        return nnx.RNN(cell(M, H, rngs=nnx.Rngs(key)))

    return make(KEYS)


def haiku(cell):
    run = hk.without_apply_rng(hk.transform(lambda x: hk.dynamic_unroll(cell(H), x, cell(H).initial_state(None))[0]))
    return jax.vmap(lambda key: run.init(key, jnp.zeros((4, M))))(KEYS)


def linen(module, *inputs):
    return jax.vmap(lambda key: module.init(key, *inputs))(KEYS)


def orthogonal(cell):
    return make_spec(cell, recurrent="orthogonal")


# what is stacked -> the spec, how to make it, the adapter's options
CASES = {
    "nnx gru": (make_spec("gru"), lambda: ensemble_nnx(nnx.GRUCell), {}),
    "nnx lstm": (orthogonal("lstm"), lambda: ensemble_nnx(nnx.LSTMCell), {}),
    "nnx rnn": (make_spec("rnn"), lambda: ensemble_nnx(nnx.SimpleCell), {}),
    "linen gru": (orthogonal("gru"), lambda: linen(nn.GRUCell(H), jnp.zeros(H), jnp.zeros(M)), {}),
    "linen lstm": (make_spec("lstm"), lambda: linen(nn.OptimizedLSTMCell(H), (jnp.zeros(H),) * 2, jnp.zeros(M)), {}),
    "linen images": (make_spec("lstm"), lambda: linen(Conv(), jnp.zeros((1, 2, 6, 6, 2))), {}),
    "linen images, delta-orthogonal": (orthogonal("lstm"), lambda: linen(Conv(), jnp.zeros((1, 2, 6, 6, 4))), {}),
    "equinox lstm": (orthogonal("lstm"), lambda: eqx.filter_vmap(lambda k: eqx.nn.LSTMCell(M, H, key=k))(KEYS), {}),
    "equinox, of width N": (make_spec("gru"), lambda: eqx.filter_vmap(lambda k: eqx.nn.GRUCell(N, N, key=k))(KEYS), {}),
    "haiku lstm": (make_spec("lstm"), lambda: haiku(hk.LSTM), {"haiku": {"lstm": "lstm"}}),
    "haiku gru": (make_spec("gru_reset_before"), lambda: haiku(hk.GRU), {"haiku": {"gru": "gru"}}),
}


def arrays(model):
    """The floating arrays of a model by path."""
    tree = nnx.to_pure_dict(nnx.state(model, nnx.Param)) if isinstance(model, nnx.Module) else model
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in found if eqx.is_inexact_array(leaf)}


def member(model, number):
    """One of the models in an ensemble."""
    if not isinstance(model, nnx.Module):
        return jax.tree.map(lambda leaf: leaf[number] if eqx.is_array(leaf) else leaf, model)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    return nnx.merge(graph, jax.tree.map(lambda leaf: leaf[number], params), rest)


NATIVE = ("nnx gru", "linen images, delta-orthogonal", "equinox lstm")


@pytest.mark.parametrize(
    ("case", "sampler"), [*((case, "portable") for case in CASES), *((case, "native") for case in NATIVE)]
)
def test_each_member_has_weights_of_its_own_the_first_those_of_a_single_model(case, sampler):
    spec, make, options = CASES[case]
    single = arrays(critinit.apply(spec, member(make(), 0), seed=3, sampler=sampler, **options).model)
    applied = critinit.apply(spec, make(), seed=3, sampler=sampler, **options)
    written = arrays(applied.model)
    assert written.keys() == single.keys()
    for name, values in written.items():
        np.testing.assert_allclose(values[0], single[name], rtol=1e-6, atol=1e-7, err_msg=name)
        assert values.dtype == single[name].dtype
    kernels = [values for values in written.values() if values[0].ndim > 1]
    assert all(len({one.tobytes() for one in values}) == N for values in kernels)
    assert f"{N} stacked networks, each with weights of its own" in applied.report.notes[0]
    assert not any("did not hold" in note for note in applied.report.notes)
    again = critinit.apply(spec, applied.model, seed=4, sampler=sampler, **options)  # no longer the framework's own
    assert any("did not hold what" in note for note in again.report.notes)


@pytest.mark.parametrize("case", ["nnx gru", "equinox lstm", "haiku gru", "linen images"])
def test_the_reports_rows_are_of_one_member_each(case):
    spec, make, options = CASES[case]
    applied = critinit.apply(spec, make(), seed=0, **options)
    assert len(applied.report) == N * len(critinit.apply(spec, member(make(), 0), seed=0, **options).report)
    for number in range(N):
        rows = [row for row in applied.report if row.tensor.endswith(f"[{number}]")]
        assert {(row.gate, row.part) for row in rows} == {(row.gate, row.part) for row in applied.report}
    biases = [row for row in applied.report if row.part == "bias"]
    assert all(row.realised_mean == pytest.approx(row.mean, abs=1e-5) for row in biases if row.variance == 0)
    assert {name.rpartition("[")[0] for name in (row.tensor for row in applied.report)} & set(
        applied.report.untouched
    ) == set()


def test_a_spec_of_several_layers_is_laid_over_each_member():
    models = eqx.filter_vmap(Ways)(KEYS)
    spec = make_spec("gru", layers=2)
    applied = critinit.apply(spec, models, seed=0)
    assert {(row.tensor, row.layer) for row in applied.report if row.part == "recurrent"} == {
        (f"{way}/weight_hh[{number}]", layer) for layer, way in enumerate(("below", "above")) for number in range(N)
    }
    single = arrays(critinit.apply(spec, member(models, 0), seed=0).model)
    assert all(np.array_equal(values[0], single[name]) for name, values in arrays(applied.model).items())
    orders = [note for note in applied.report.notes if "took layer" in note]
    assert len(orders) == 1
    assert orders[0].endswith("'below/0' took layer 0, 'above/0' took layer 1; and so in each member of the ensemble")


def test_the_hint_for_one_layer_on_stacked_cells_writes_all_members():
    models = eqx.filter_vmap(Ways)(KEYS)
    note = next(n for n in critinit.apply(make_spec("gru"), models, seed=0).report.notes if n.startswith("each of"))
    assert "layers=2), and apply it with include=['below', 'above']" in note
    applied = critinit.apply(make_spec("gru", layers=2), models, seed=0, include=["below", "above"])
    assert applied.report.untouched == ()


def test_scanned_layers_take_the_spec_layer_by_layer_and_the_note_says_how():
    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x):
            scan = nn.scan(
                lambda layer, x, _: (layer(x), None), variable_axes={"params": 0}, split_rngs={"params": True}, length=N
            )
            return scan(nn.RNN(nn.GRUCell(H)), x, None)[0]

    params = Layers().init(jax.random.key(0), jnp.zeros((2, 4, H)))
    note = critinit.apply(make_spec("gru"), params, seed=0).report.notes[0]
    assert note.endswith(
        f"if they are layers, one above the other, write one spec for them, critinit.generate(..., layers={N})"
    )
    applied = critinit.apply(make_spec("gru", layers=N), params, seed=0)
    assert [row.layer for row in applied.report if (row.gate, row.part) == ("reset", "input")] == list(range(N))
    with pytest.raises(ApplyError, match=f"write the spec with layers={N} \\(--layers"):
        critinit.apply(make_spec("gru", layers=2), params, seed=0)


def test_two_directions_two_axes_and_one_member():
    @nnx.vmap
    def make(key):
        rngs = nnx.Rngs(key)
        return nnx.Bidirectional(*(nnx.RNN(nnx.GRUCell(M, H, rngs=rngs), reverse=way) for way in (False, True)))

    both = critinit.apply(make_spec("gru"), make(KEYS), seed=0).model
    kernels = [k for way in (both.forward_rnn, both.backward_rnn) for k in np.asarray(way.cell.dense_h.kernel[...])]
    assert len({kernel.tobytes() for kernel in kernels}) == 2 * N

    pairs = eqx.filter_vmap(lambda key: Ways(key, H))(KEYS)
    paired = critinit.apply(make_spec("gru"), pairs, seed=0, bidirectional=[("below", "above")]).report
    assert {(row.tensor.partition("/")[0], row.direction) for row in paired} == {("below", 0), ("above", 1)}

    grid = eqx.filter_vmap(eqx.filter_vmap(lambda k: eqx.nn.GRUCell(M, H, key=k)))(
        jax.random.split(jax.random.key(0), (2, N))
    )
    assert (
        len(
            {
                k.tobytes()
                for row in critinit.apply(make_spec("gru"), grid, seed=0).model.weight_hh
                for k in np.asarray(row)
            }
        )
        == 2 * N
    )

    models = eqx.filter_vmap(Ways)(KEYS)
    applied = critinit.apply(make_spec("gru"), models, seed=0, include=["below/1"])
    assert applied.report.notes[0] == "'below': 1 of 3 stacked networks, each with weights of its own"
    old, new = np.asarray(models.below.weight_hh), np.asarray(applied.model.below.weight_hh)
    assert [not np.array_equal(a, b) for a, b in zip(old, new, strict=True)] == [False, True, False]


def test_steps_are_limited_in_every_member():
    models = eqx.filter_vmap(Ways)(KEYS)
    spec = critinit.generate("gru", T=50, settings=["layers.0.gates.candidate.recurrent.max_learning_rate=1e-4"])
    optimizer = critinit.limit_steps(optax.adam(0.01), critinit.apply(spec, models, seed=0), 0.01)
    params = eqx.filter(models, eqx.is_array)
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    steps = np.abs(np.asarray(updates.below.weight_hh))
    np.testing.assert_allclose(steps[:, 2 * H :], 1e-4, rtol=1e-3)
    np.testing.assert_allclose(steps[:, : 2 * H], 1e-2, rtol=1e-3)


def test_what_arrives_at_an_ensemble_is_measured_and_initialized():
    x = np.random.default_rng(0).standard_normal((4, 20, M)).astype("float32")
    models = ensemble_nnx(nnx.GRUCell)
    done = critinit.initialize(
        models, x, seed=0, call=lambda m, x: nnx.vmap(lambda one, x: one(x), in_axes=(0, None))(m, x)
    )
    assert done.specs["cell"].layers[0].input.variance == pytest.approx(np.mean(x**2), rel=1e-5)
    assert done.specs["cell"].T == 20
    assert len({k.tobytes() for k in np.asarray(models.cell.dense_h.kernel[...])}) == N


def test_other_axes_and_a_trial_of_several_are_refused():
    @nnx.vmap(in_axes=0, out_axes=1)
    def last(key):
        return nnx.GRUCell(M, H, rngs=nnx.Rngs(key))

    cells = eqx.filter_vmap(lambda k: eqx.nn.LSTMCell(M, H, key=k), out_axes=-1)(KEYS)
    for spec, models in ((make_spec("gru"), last(KEYS)), (make_spec("lstm"), cells)):
        with pytest.raises(ApplyError, match=r"further axes in front.*own-modules.md#ensembles"):
            critinit.apply(spec, models, seed=0)
    with pytest.raises(ArgumentError, match="choose one with include="):
        critinit.apply(make_spec("gru"), ensemble_nnx(nnx.GRUCell), seed=0, verify=lambda model, x: x)
