"""Linen beyond the conformance table: what is recognised, refused and left alone; boxes, types, shardings."""

from __future__ import annotations

import pytest

pytest.importorskip("flax")

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from critinit_adapters.linen.adapter import initializers
from flax import linen as nn
from flax.core import freeze
from flax.training.train_state import TrainState

import critinit
from critinit.errors import ApplyError, ArgumentError
from critinit.tensors.application import apply
from critinit.tensors.sampling import draw
from tests.adapters.specs import make_spec

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("eager")]
M, H = 5, 12
KEY = jax.random.key(0)
X = jnp.zeros((1, 2, M))


class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Bidirectional(nn.RNN(nn.GRUCell(H)), nn.RNN(nn.GRUCell(H)))(x)
        x = nn.RNN(nn.OptimizedLSTMCell(H), name="memory")(x)
        x = nn.RNN(nn.MGUCell(H))(x)
        return nn.Dense(3)(nn.BatchNorm(use_running_average=True)(x))


def leaves(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def kernel_of(spec, gate, part, direction=0, size=M, **given):
    return getattr(draw(spec, size, H, **given).layers[0][direction].gates[gate], part).T.astype(np.float32)


def test_a_model_with_other_things():
    tree = Model().init(KEY, X)
    applied = apply(make_spec("gru"), tree, seed=0, bidirectional=[("params/GRUCell_0", "params/GRUCell_1")])
    before, after = leaves(tree), leaves(applied.model)
    assert list(before) == list(after)
    assert {name for name in before if before[name] is not after[name]} == {n for n in before if "GRUCell" in n}
    assert set(applied.report.untouched) == {
        name.replace("']['", "/").strip("[]'") for name in before if "GRUCell" not in name
    }
    assert any("'params/MGUCell_0': a mgu, left as it was" in note for note in applied.report.notes)
    for direction in (0, 1):
        found = applied.model["params"][f"GRUCell_{direction}"]["hz"]["kernel"]
        assert np.array_equal(found, kernel_of(make_spec("gru"), "update", "recurrent", direction, directions=2))
    assert {row.direction for row in applied.report} == {0, 1}


def test_without_a_pair_two_cells_are_two_networks():
    applied = apply(make_spec("gru"), Model().init(KEY, X), seed=0)
    assert {row.direction for row in applied.report} == {0}
    cells = (applied.model["params"][f"GRUCell_{n}"]["hz"]["kernel"] for n in (0, 1))
    assert not np.array_equal(next(cells), next(cells))


def test_named_directions_are_recognised():
    both = nn.Bidirectional(nn.RNN(nn.GRUCell(H)), nn.RNN(nn.GRUCell(H)))
    report = apply(make_spec("gru"), both.init(KEY, X), seed=0).report
    assert {row.direction for row in report if "backward_rnn" in row.tensor} == {1}
    assert {row.direction for row in report if "forward_rnn" in row.tensor} == {0}


def test_layers_are_in_natural_order():
    layers = 11
    tree = {f"cell_{n}": nn.SimpleCell(H).init(KEY, jnp.zeros(H), jnp.zeros(H))["params"] for n in range(layers)}
    report = apply(make_spec("rnn", layers=layers), dict(sorted(tree.items())), seed=0).report
    assert {(row.tensor.split("/")[0], row.layer) for row in report} == {(f"cell_{n}", n) for n in range(layers)}


def test_the_bias_inside_the_reset_gate_becomes_zero():
    tree = nn.GRUCell(H, bias_init=nn.initializers.ones).init(KEY, jnp.zeros(H), jnp.zeros(M))
    applied = apply(make_spec("gru"), tree, seed=0)
    assert not applied.model["params"]["hn"]["bias"].any()
    assert applied.report.zeroed == ("params/hn/bias",)


def test_frozen_and_boxed_trees():
    boxed = nn.GRUCell(H, kernel_init=nn.with_partitioning(nn.initializers.ones, (None, "x")))
    tree = freeze(boxed.init(KEY, jnp.zeros(H), jnp.zeros(M)))
    new = apply(make_spec("gru"), tree, seed=0).model
    assert type(new) is type(tree)
    box = new["params"]["iz"]["kernel"]
    assert isinstance(box, nn.Partitioned)
    assert box.names == (None, "x")
    assert np.array_equal(box.value, kernel_of(make_spec("gru"), "update", "input"))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("sampler", ["portable", "native"])
def test_types(dtype, sampler):
    tree = nn.GRUCell(H, param_dtype=dtype, recurrent_kernel_init=nn.initializers.zeros).init(
        KEY, jnp.zeros(H), jnp.zeros(M)
    )
    new = apply(make_spec("gru"), tree, seed=0, sampler=sampler).model["params"]
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype(dtype)}
    if sampler == "portable":
        wanted = draw(make_spec("gru"), M, H).layers[0][0].gates["reset"].input.T.astype(dtype)
        assert np.array_equal(new["ir"]["kernel"], wanted)


def test_numpy_leaves_stay_numpy():
    tree = jax.tree.map(lambda x: np.asarray(x, np.float64), nn.GRUCell(H).init(KEY, jnp.zeros(H), jnp.zeros(M)))
    new = apply(make_spec("gru"), tree, seed=0).model["params"]["iz"]["kernel"]
    assert isinstance(new, np.ndarray)
    assert np.array_equal(new, draw(make_spec("gru"), M, H).layers[0][0].gates["update"].input.T)
    native = apply(make_spec("gru"), tree, seed=0, sampler="native").model["params"]["iz"]["kernel"]
    assert isinstance(native, np.ndarray)
    assert native.dtype == np.float64


def gru():
    return nn.GRUCell(H).init(KEY, jnp.zeros(H), jnp.zeros(M))


@pytest.mark.parametrize(
    ("spec", "make", "message"),
    [
        (make_spec("gru_reset_before"), gru, "found gru at 'params'; .*write the spec for its cell: --cell gru$"),
        (make_spec("minimal_rnn"), gru, "cell, minimal_rnn; this framework has layers for rnn, gru, ugrnn, lstm"),
        (
            make_spec("gru"),
            lambda: nn.MGUCell(H).init(KEY, jnp.zeros(H), jnp.zeros(M)),
            r"found mgu at 'params' \(no spec takes it: .*reset_gate.*\); allowed: a layer of the spec's cell, gru$",
        ),
        (make_spec("gru"), lambda: jax.eval_shape(gru), "found an abstract array.*initialize the model first"),
        (make_spec("gru"), lambda: jax.tree.map(lambda x: jnp.stack([x, x], -1), gru()), r"shape \(5, 12, 2\).*vmap"),
        (make_spec("gru"), lambda: jax.tree.map(lambda x: x.astype(int), gru()), "found type int32; allowed: float32"),
        (make_spec("gru", layers=2), gru, "found 1 layer; allowed: 2, as the spec has"),
    ],
)
def test_refused(spec, make, message):
    with pytest.raises(ApplyError, match=message) as raised:
        apply(spec, make(), seed=0, framework="linen")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("cell", ["mgu", "ugrnn"])
def test_an_mgu_whose_kept_gate_scales_is_refused_and_the_hint_works(cell):
    tree = nn.MGUCell(H).init(KEY, jnp.zeros(H), jnp.zeros(M))
    with pytest.raises(ApplyError, match=r"'params': found an MGUCell with reset_gate=True, .*reset_gate=False"):
        apply(make_spec(cell), tree, seed=0, framework="linen")
    tree = nn.MGUCell(H, reset_gate=False).init(KEY, jnp.zeros(H), jnp.zeros(M))
    applied = apply(make_spec("ugrnn"), tree, seed=0)
    assert len(applied.report) == 6
    assert not any("default" in note for note in applied.report.notes)


def test_refused_inside_jit():
    tree = gru()
    with jax.disable_jit(False), pytest.raises(ApplyError, match=r"being traced; .*apply a spec outside jit"):
        jax.jit(lambda tree: apply(make_spec("gru"), tree, seed=0).model)(tree)


@pytest.mark.parametrize(
    "pairs", ["ab", 3, [("params/GRUCell_0",)], [("params/GRUCell_0", "nowhere")], [("params/GRUCell_0",) * 3]]
)
def test_bad_pairs(pairs):
    with pytest.raises(ArgumentError, match=r"bidirectional: found .*; allowed"):
        apply(make_spec("gru"), Model().init(KEY, X), seed=0, bidirectional=pairs)


def test_sharded_arrays():
    """On four devices: every shard is the slice of what one device gets, in Linen, NNX and Equinox."""
    script = Path(__file__).with_name("jax_sharded.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=script.parents[2],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(script.parents[2]), *sys.path]),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == ["linen", "nnx", "equinox"]


CELLS = [
    ("rnn", nn.SimpleCell),
    ("relu_rnn", nn.SimpleCell),
    ("gru", nn.GRUCell),
    ("ugrnn", nn.MGUCell),
    ("lstm", nn.LSTMCell),
    ("lstm", nn.OptimizedLSTMCell),
]


@pytest.mark.parametrize(("cell", "kind"), CELLS)
@pytest.mark.parametrize("jit", [False, True])
def test_a_declared_cell_has_the_numbers_of_apply(cell, kind, jit):
    spec = make_spec(cell, recurrent="orthogonal")

    def tree(**given):
        given = {"reset_gate": False, **given} if kind is nn.MGUCell else given
        init = nn.RNN(kind(H, **given)).init
        with jax.disable_jit(not jit):
            return (jax.jit(init) if jit else init)(KEY, X)

    patched = apply(spec, tree(), seed=7).model
    declared = tree(**initializers(spec, seed=7))
    assert jax.tree.structure(declared) == jax.tree.structure(patched)
    assert jax.tree.all(jax.tree.map(np.array_equal, declared, patched))


def test_bad_declarations():
    with pytest.raises(
        ArgumentError,
        match=r"spec: found cell gru_reset_before; allowed: rnn, gru, ugrnn, lstm, relu_rnn; .* --cell gru$",
    ):
        initializers(make_spec("gru_reset_before"))
    with pytest.raises(ArgumentError, match=r"spec: found cell gru; allowed: that of LSTMCell, .*--cell lstm"):
        nn.RNN(nn.LSTMCell(H, **initializers(make_spec("gru")))).init(KEY, X)


def test_a_module_with_a_parameter_more_is_no_cell():
    """A gate's bias on the recurrent side too would be added to the effective bias."""

    class Own(nn.Module):
        @nn.compact
        def __call__(self, h, x):
            inputs = [nn.Dense(H, name=name)(x) for name in ("ir", "iz", "in")]
            return sum(inputs, sum(nn.Dense(H, name=name)(h) for name in ("hr", "hz", "hn")))

    tree = Own().init(KEY, jnp.zeros((1, H)), jnp.zeros((1, M)))
    with pytest.raises(ApplyError, match="found no recurrent layer"):
        apply(make_spec("gru"), tree, seed=0, framework="linen")
    for name in ("hr", "hz"):
        del tree["params"][name]["bias"]
    assert len(apply(make_spec("gru"), tree, seed=0).report) == 9


# ---- seeds and keys --------------------------------------------------------------------------------------


def test_a_seed_or_a_key_is_asked_for():
    with pytest.raises(ArgumentError, match=r"seed: found none; .*or a key; .*seed=0, or .*seed=jax\.random\.key\(0\)"):
        apply(make_spec("gru"), gru())
    for seed, key in ((0, jax.random.key(0)), (7, jax.random.PRNGKey(7)), (2**32 + 5, np.array([1, 5], np.uint32))):
        one, other = (apply(make_spec("gru"), gru(), seed=given) for given in (seed, key))
        assert one.seed == other.seed == seed
        assert jax.tree.all(jax.tree.map(np.array_equal, one.model, other.model))
    wide = apply(make_spec("gru"), gru(), seed=jax.random.key(1, impl="rbg"))
    assert jax.tree.all(jax.tree.map(np.array_equal, wide.model, apply(make_spec("gru"), gru(), seed=wide.seed).model))
    for keys in (jax.random.split(jax.random.key(0), 2), jax.random.split(jax.random.PRNGKey(0), 2)):
        with pytest.raises(ArgumentError, match=r"seed: found keys of shape .*; allowed: one key"):
            apply(make_spec("gru"), gru(), seed=keys)
    for bad in (jnp.zeros(3), 1.5, "0", True):
        with pytest.raises(ArgumentError, match=r"seed: found .* an integer from 0"):
            apply(make_spec("gru"), gru(), seed=bad)
    with (
        jax.disable_jit(False),
        pytest.raises(ArgumentError, match=r"seed: found a key that is being traced; .*outside"),
    ):
        jax.jit(lambda key: apply(make_spec("gru"), gru(), seed=key).seed)(jax.random.key(0))


class Stack(nn.Module):
    """Two layers of two directions, all with one call's initializers."""

    spec: critinit.InitSpec

    @nn.compact
    def __call__(self, x):
        given = initializers(self.spec)
        for _ in range(2):
            x = nn.Bidirectional(nn.RNN(nn.OptimizedLSTMCell(H, **given)), nn.RNN(nn.OptimizedLSTMCell(H, **given)))(x)
        return x


def random_leaves(tree):
    """The leaves of which every draw differs: kernels, and the biases that are spread over units."""
    return [np.asarray(leaf) for name, leaf in leaves(tree).items() if "kernel" in name or "hf" in name]


def all_differ(arrays):
    return len({array[..., :5].tobytes() for array in arrays}) == len(arrays)


def test_a_declared_cell_draws_from_the_key():
    one, again, other = (Stack(make_spec("lstm")).init(jax.random.key(n), X) for n in (1, 1, 2))
    assert jax.tree.all(jax.tree.map(np.array_equal, one, again))
    found = [*random_leaves(one), *random_leaves(other)]
    assert len(found) == 2 * 4 * (8 + 1)
    assert all_differ(found)
    for cell in one["params"].values():  # the gates of one cell belong together
        assert np.array_equal(cell["hi"]["bias"], -cell["hf"]["bias"])


@pytest.mark.parametrize("lift", ["scan", "vmap", "jax.vmap"])
def test_scanned_layers_and_members_of_an_ensemble_get_weights_of_their_own(lift):
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, _=None):
            return nn.RNN(nn.LSTMCell(M, **initializers(make_spec("lstm"))))(x), None

    split = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
    with jax.disable_jit(False):
        if lift == "scan":
            tree = nn.scan(Layer, **split, length=3)().init(KEY, X, None)
        elif lift == "vmap":
            tree = nn.vmap(Layer, **split, in_axes=None, axis_size=3)().init(KEY, X, None)
        else:
            tree = jax.vmap(lambda key: Layer().init(key, X))(jax.random.split(KEY, 3))
    members = [leaf[n] for leaf in random_leaves(tree) for n in range(3)]
    assert len(members) == 3 * (8 + 1)
    assert all_differ(members)
    (cell,) = tree["params"].values()
    assert np.array_equal(cell["hi"]["bias"], -cell["hf"]["bias"])


def test_compiled_or_not_the_key_gives_the_same():
    model = nn.RNN(nn.LSTMCell(H, **initializers(make_spec("lstm", recurrent="orthogonal"))))
    eager = model.init(KEY, X)
    with jax.disable_jit(False):
        compiled = jax.jit(model.init)(KEY, X)
        shapes = jax.eval_shape(model.init, KEY, X)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.allclose(a, b, atol=1e-5), eager, compiled))
    assert jax.tree.all(jax.tree.map(lambda a, b: a.shape == b.shape, eager, shapes))


SPARSE = {"recurrent": {"distribution": "spectral_radius", "spectral_radius": 0.8, "density": 0.5}}


@pytest.mark.parametrize("changes", [{}, {"update": SPARSE, "reset": SPARSE}], ids=["jax", "numpy"])
@pytest.mark.parametrize("recurrent", ["normal", "uniform", "orthogonal", "identity"])
def test_what_is_drawn_from_a_key_is_of_the_specs_distributions(recurrent, changes):
    spec = make_spec("gru", recurrent=recurrent, **changes)
    with jax.disable_jit(False):
        tree = jax.jit(nn.RNN(nn.GRUCell(64, **initializers(spec))).init)(KEY, jnp.zeros((1, 2, 48)))
    found = {"/".join(re.findall(r"'(\w+)'", name)): np.asarray(leaf) for name, leaf in leaves(tree).items()}
    assert critinit.check(spec, found, framework="linen").matches


def test_applying_a_declared_model_works():
    """Linen asks an initializer for shapes then, without any key."""
    model = Stack(make_spec("lstm"))
    assert np.isfinite(model.apply(model.init(KEY, X), X)).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_declared_types(dtype):
    cell = nn.GRUCell(H, param_dtype=dtype, **initializers(make_spec("gru")))
    assert {leaf.dtype for leaf in jax.tree.leaves(nn.RNN(cell).init(KEY, X))} == {jnp.dtype(dtype)}


# ---- hints, followed -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "kind"), [pair for pair in CELLS if pair[0] != "ugrnn"])
@pytest.mark.parametrize("other", ["rnn", "gru", "lstm"])
def test_the_cell_that_is_named_is_the_right_one(cell, kind, other):
    if other == cell or (other, kind) == ("rnn", nn.SimpleCell):
        return

    def init(spec):
        return nn.RNN(kind(H, **initializers(spec))).init(KEY, X)

    with pytest.raises(ArgumentError, match=rf"found cell {other}; allowed: that of {kind.__name__}") as raised:
        init(make_spec(other))
    assert init(make_spec(re.search(r"--cell (\w+)", raised.value.hint)[1]))


def test_two_layers_of_two_directions_are_paired_as_the_hint_says():
    class Between(nn.Module):
        between: bool

        @nn.compact
        def __call__(self, x):
            for _ in range(2):
                x = nn.Bidirectional(nn.RNN(nn.GRUCell(H)), nn.RNN(nn.GRUCell(H)))(x)
                x = nn.Dense(7)(x) if self.between else x
            return x

    spec = make_spec("gru", layers=2)
    for between in (False, True):
        tree = Between(between).init(KEY, X)
        with pytest.raises(ApplyError, match=r"if these are 2 layers in two directions, say bidirectional=") as raised:
            apply(spec, tree, seed=0)
        pairs = ast.literal_eval(re.search(r"bidirectional=(\[.*?\]);", raised.value.hint)[1])
        order = None
        if between:  # the widths tell no order, so it is to be said
            with pytest.raises(ApplyError, match="if other layers stand between them, say the order") as raised:
                apply(spec, tree, seed=0, bidirectional=pairs)
            order = ast.literal_eval(re.search(r"include=(\[.*?\]);", raised.value.hint)[1])
        report = apply(spec, tree, seed=0, bidirectional=pairs, include=order).report
        places = {(row.tensor.split("/")[1], row.layer, row.direction) for row in report}
        assert places == {(f"GRUCell_{2 * n + way}", n, way) for n in (0, 1) for way in (0, 1)}
        assert not any("GRUCell" in name for name in report.untouched)
        for found in (tree["params"][f"GRUCell_{n}"]["hz"]["kernel"] for n in range(4)):
            assert found.shape == (H, H)


def test_pairs_are_found_by_their_widths_and_else_left_to_the_user():
    def tree(*names_and_widths):
        cells = {n: nn.GRUCell(H).init(KEY, jnp.zeros(H), jnp.zeros(w))["params"] for n, w in names_and_widths}
        return {"params": cells}

    named = tree(("bwd_0", M), ("bwd_1", 2 * H), ("fwd_0", M), ("fwd_1", 2 * H))
    with pytest.raises(
        ApplyError, match=re.escape("[('params/bwd_0', 'params/fwd_0'), ('params/bwd_1', 'params/fwd_1')]")
    ):
        apply(make_spec("gru", layers=2), named, seed=0)
    open_ = tree(("b0", M), ("b1", 2 * H), ("b2", 2 * H), ("f0", M), ("f1", 2 * H), ("f2", 2 * H))
    with pytest.raises(ApplyError, match=r"say bidirectional=\[\(forward path, backward path\), \.\.\.\]"):
        apply(make_spec("gru", layers=3), open_, seed=0)


def test_layers_that_do_not_add_up_can_be_chosen_or_the_spec_made_deeper():
    tree = {f"cell_{n}": nn.GRUCell(H).init(KEY, jnp.zeros(H), jnp.zeros(H))["params"] for n in range(5)}
    with pytest.raises(
        ApplyError, match=r"write the spec with layers=5 \(--layers 5\); else apply once for each stack of 2"
    ) as raised:
        apply(make_spec("gru", layers=2), tree, seed=0)
    assert "bidirectional" not in raised.value.hint
    assert len(apply(make_spec("gru", layers=5), tree, seed=0).report) == 45
    for stack in (["cell_0", "cell_1"], ["cell_2", "cell_3"]):
        tree = apply(make_spec("gru", layers=2), tree, seed=0, include=stack).model
    assert all_differ([tree[f"cell_{n}"]["hz"]["kernel"] for n in range(5)])


def test_what_is_given_instead_of_a_tree_of_parameters():
    module = nn.RNN(nn.GRUCell(4))
    params = module.init(jax.random.key(0), jnp.zeros((1, 2, 3)))["params"]
    optax = pytest.importorskip("optax")
    state = TrainState.create(apply_fn=module.apply, params=params, tx=optax.sgd(0.1))
    spec = make_spec("gru")
    with pytest.raises(ApplyError, match=r"module of Linen has no weights; give those that its init\(key, x\) returns"):
        critinit.apply(spec, module, seed=0)
    with pytest.raises(ApplyError, match="; give its params; no adapter for it"):
        critinit.apply(spec, state, seed=0)
