"""Linen beyond the conformance table: what is recognised, refused and left alone; boxes, types, shardings."""

from __future__ import annotations

import pytest

pytest.importorskip("flax")

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from critinit_adapters.linen.adapter import initializers
from flax import linen as nn
from flax.core import freeze

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
    applied = apply(make_spec("gru"), tree, bidirectional=[("params/GRUCell_0", "params/GRUCell_1")])
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
    applied = apply(make_spec("gru"), Model().init(KEY, X))
    assert {row.direction for row in applied.report} == {0}
    cells = (applied.model["params"][f"GRUCell_{n}"]["hz"]["kernel"] for n in (0, 1))
    assert not np.array_equal(next(cells), next(cells))


def test_named_directions_are_recognised():
    both = nn.Bidirectional(nn.RNN(nn.GRUCell(H)), nn.RNN(nn.GRUCell(H)))
    report = apply(make_spec("gru"), both.init(KEY, X)).report
    assert {row.direction for row in report if "backward_rnn" in row.tensor} == {1}
    assert {row.direction for row in report if "forward_rnn" in row.tensor} == {0}


def test_layers_are_in_natural_order():
    layers = 11
    tree = {f"cell_{n}": nn.SimpleCell(H).init(KEY, jnp.zeros(H), jnp.zeros(H))["params"] for n in range(layers)}
    report = apply(make_spec("rnn", layers=layers), dict(sorted(tree.items()))).report
    assert {(row.tensor.split("/")[0], row.layer) for row in report} == {(f"cell_{n}", n) for n in range(layers)}


def test_the_bias_inside_the_reset_gate_becomes_zero():
    tree = nn.GRUCell(H, bias_init=nn.initializers.ones).init(KEY, jnp.zeros(H), jnp.zeros(M))
    applied = apply(make_spec("gru"), tree)
    assert not applied.model["params"]["hn"]["bias"].any()
    assert applied.report.zeroed == ("params/hn/bias",)


def test_frozen_and_boxed_trees():
    boxed = nn.GRUCell(H, kernel_init=nn.with_partitioning(nn.initializers.ones, (None, "x")))
    tree = freeze(boxed.init(KEY, jnp.zeros(H), jnp.zeros(M)))
    new = apply(make_spec("gru"), tree).model
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
    new = apply(make_spec("gru"), tree, sampler=sampler).model["params"]
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype(dtype)}
    if sampler == "portable":
        wanted = draw(make_spec("gru"), M, H).layers[0][0].gates["reset"].input.T.astype(dtype)
        assert np.array_equal(new["ir"]["kernel"], wanted)


def test_numpy_leaves_stay_numpy():
    tree = jax.tree.map(lambda x: np.asarray(x, np.float64), nn.GRUCell(H).init(KEY, jnp.zeros(H), jnp.zeros(M)))
    new = apply(make_spec("gru"), tree).model["params"]["iz"]["kernel"]
    assert isinstance(new, np.ndarray)
    assert np.array_equal(new, draw(make_spec("gru"), M, H).layers[0][0].gates["update"].input.T)
    native = apply(make_spec("gru"), tree, sampler="native").model["params"]["iz"]["kernel"]
    assert isinstance(native, np.ndarray)
    assert native.dtype == np.float64


def gru():
    return nn.GRUCell(H).init(KEY, jnp.zeros(H), jnp.zeros(M))


@pytest.mark.parametrize(
    ("spec", "make", "message"),
    [
        (make_spec("gru_reset_before"), gru, "found gru at 'params'; .*write the spec with --cell gru$"),
        (make_spec("minimal_rnn"), gru, "cell, minimal_rnn; this framework has layers for rnn, gru, lstm"),
        (
            make_spec("gru"),
            lambda: nn.MGUCell(H).init(KEY, jnp.zeros(H), jnp.zeros(M)),
            "found mgu at 'params'; allowed: a layer of the spec's cell, gru$",
        ),
        (make_spec("gru"), lambda: jax.eval_shape(gru), "found an abstract array.*initialize the model first"),
        (make_spec("gru"), lambda: jax.tree.map(lambda x: jnp.stack([x, x]), gru()), r"found shape \(2, 5, 12\).*vmap"),
        (make_spec("gru"), lambda: jax.tree.map(lambda x: x.astype(int), gru()), "found type int32; allowed: float32"),
        (make_spec("gru", layers=2), gru, "found 1 layer; allowed: 2, as the spec has"),
    ],
)
def test_refused(spec, make, message):
    with pytest.raises(ApplyError, match=message) as raised:
        apply(spec, make(), framework="linen")
    assert "\n" not in str(raised.value)


def test_refused_inside_jit():
    tree = gru()
    with jax.disable_jit(False), pytest.raises(ApplyError, match=r"being traced; .*apply a spec outside jit"):
        jax.jit(lambda tree: apply(make_spec("gru"), tree).model)(tree)


@pytest.mark.parametrize(
    "pairs", ["ab", 3, [("params/GRUCell_0",)], [("params/GRUCell_0", "nowhere")], [("params/GRUCell_0",) * 3]]
)
def test_bad_pairs(pairs):
    with pytest.raises(ArgumentError, match=r"bidirectional: found .*; allowed"):
        apply(make_spec("gru"), Model().init(KEY, X), bidirectional=pairs)


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
    ("lstm", nn.LSTMCell),
    ("lstm", nn.OptimizedLSTMCell),
]


@pytest.mark.parametrize(("cell", "kind"), CELLS)
@pytest.mark.parametrize("jit", [False, True])
def test_a_declared_cell_has_the_numbers_of_apply(cell, kind, jit):
    spec = make_spec(cell, recurrent="orthogonal")

    def tree(**given):
        init = nn.RNN(kind(H, **given)).init
        with jax.disable_jit(not jit):
            return (jax.jit(init) if jit else init)(KEY, X)

    patched = apply(spec, tree(), seed=7).model
    declared = tree(**initializers(spec, seed=7))
    assert jax.tree.structure(declared) == jax.tree.structure(patched)
    assert jax.tree.all(jax.tree.map(np.array_equal, declared, patched))


def test_bad_declarations():
    with pytest.raises(
        ArgumentError, match=r"spec: found cell gru_reset_before; allowed: rnn, gru, lstm, relu_rnn; .* --cell gru$"
    ):
        initializers(make_spec("gru_reset_before"))
    with pytest.raises(ArgumentError, match="spec: found cell gru; its initializer was called in 'ii', no part of it"):
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
        apply(make_spec("gru"), tree, framework="linen")
    for name in ("hr", "hz"):
        del tree["params"][name]["bias"]
    assert len(apply(make_spec("gru"), tree).report) == 9
