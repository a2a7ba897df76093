"""Equinox beyond the conformance table: cells inside trees, types, what is refused."""

from __future__ import annotations

import pytest

pytest.importorskip("equinox")

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from critinit.errors import ApplyError, ArgumentError
from critinit.tensors.application import apply
from critinit.tensors.sampling import draw
from tests.adapters.specs import make_spec

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("eager")]
M, H = 5, 12
KEY = jax.random.key(0)


class Model(eqx.Module):
    encoder: eqx.nn.GRUCell
    memory: eqx.nn.LSTMCell
    others: dict
    scale: float

    def __init__(self):
        self.encoder = eqx.nn.GRUCell(M, H, key=KEY)
        self.memory = eqx.nn.LSTMCell(M, H, key=KEY)
        self.others = {"head": eqx.nn.Linear(H, 2, key=KEY), "decoder": eqx.nn.GRUCell(M, H, key=KEY)}
        self.scale = 2.0


def test_a_model_with_other_things():
    model = Model()
    applied = apply(make_spec("gru"), model, seed=5)
    new = applied.model
    assert new is not model
    assert isinstance(new, Model)
    assert jax.tree.structure(new) == jax.tree.structure(model)
    assert new.memory.weight_ih is model.memory.weight_ih
    assert new.others["head"].weight is model.others["head"].weight
    assert new.scale == 2.0
    assert {row.tensor.rpartition("/")[0] for row in applied.report} == {"encoder", "others/decoder"}
    assert set(applied.report.untouched) >= {"memory/bias", "others/head/weight"}
    assert set(applied.report.zeroed) == {"encoder/bias_n", "others/decoder/bias_n"}
    for index, cell in ((0, new.encoder), (2, new.others["decoder"])):  # the LSTM between them counts too
        wanted = draw(make_spec("gru"), M, H, seed=5, module=index).layers[0][0].gates["reset"].recurrent
        assert np.array_equal(cell.weight_hh[:H], wanted.astype(np.float32))
        assert not cell.bias_n.any()


def test_include():
    model = Model()
    new = apply(make_spec("gru"), model, seed=0, include="others").model
    assert new.encoder.weight_hh is model.encoder.weight_hh
    assert new.others["decoder"].weight_hh is not model.others["decoder"].weight_hh


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("sampler", ["portable", "native"])
def test_types(dtype, sampler):
    cell = eqx.nn.LSTMCell(M, H, dtype=dtype, key=KEY)
    new = apply(make_spec("lstm"), cell, seed=0, sampler=sampler).model
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype(dtype)}
    if sampler == "portable":
        wanted = draw(make_spec("lstm"), M, H).layers[0][0].gates["input"].recurrent.astype(dtype)
        assert np.array_equal(new.weight_hh[:H], wanted)


def gru(**given):
    return eqx.nn.GRUCell(M, H, key=KEY, **given)


@pytest.mark.parametrize(
    ("spec", "make", "message"),
    [
        (make_spec("gru_reset_before"), gru, "found gru at the model itself; .* --cell gru$"),
        (make_spec("rnn"), gru, "cell, rnn; this framework has layers for gru, lstm"),
        (make_spec("lstm"), gru, "found gru at the model itself; .*cell, lstm"),
        (make_spec("gru"), lambda: gru(use_bias=False), r"found no bias for gate update"),
        (make_spec("gru"), lambda: eqx.filter_eval_shape(gru), "weight_ih: found an abstract array"),
        (
            make_spec("gru"),
            lambda: eqx.filter_vmap(lambda key: eqx.nn.GRUCell(M, H, key=key), out_axes=1)(jax.random.split(KEY, 4)),
            r"found shape \(36, 4, 5\).*vmap",
        ),
        (make_spec("gru"), lambda: eqx.nn.Linear(M, H, key=KEY), "found no recurrent layer"),
    ],
)
def test_refused(spec, make, message):
    with pytest.raises(ApplyError, match=message) as raised:
        apply(spec, make(), seed=0)
    assert "\n" not in str(raised.value)


def test_directions_that_differ_are_refused():
    cells = {"forward": gru(), "backward": eqx.nn.GRUCell(M, 7, key=KEY)}
    with pytest.raises(ApplyError, match=r"found two directions that differ: .* of 12 units, .* of 7 units"):
        apply(make_spec("gru"), cells, seed=0, bidirectional=[("forward", "backward")])
    with pytest.raises(ArgumentError, match="bidirectional: found 'sideways'"):
        apply(make_spec("gru"), cells, seed=0, bidirectional=[("forward", "sideways")])


def test_keys_are_in_their_natural_order_fields_and_lists_in_their_own():
    class Stack(eqx.Module):
        lower: dict
        above: list

    cells = {f"layer_{n}": eqx.nn.GRUCell(H, H, key=KEY) for n in range(11)}
    stack = Stack(cells, [eqx.nn.GRUCell(H, H, key=KEY) for _ in range(11)])
    rows = apply(make_spec("gru", layers=22), stack, seed=0).report
    wanted = [f"lower/layer_{n}" for n in range(11)] + [f"above/{n}" for n in range(11)]
    assert {row.layer: row.tensor.rpartition("/")[0] for row in rows} == dict(enumerate(wanted))


def test_an_ensemble_is_made_of_members_with_keys_of_their_own():
    """As docs/frameworks/equinox.md shows."""
    with pytest.raises(ArgumentError, match=r"seed: found none; .*seed=jax\.random\.key\(0\)"):
        apply(make_spec("gru"), gru())
    keys = jax.random.split(KEY, 3)
    members = [apply(make_spec("gru"), gru(), seed=key).model for key in keys]
    ensemble = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    kernels = {np.asarray(kernel).tobytes() for kernel in ensemble.weight_hh}
    assert len(kernels) == 3
    out = eqx.filter_vmap(lambda cell, x, h: cell(x, h), in_axes=(eqx.if_array(0), None, None))(
        ensemble, jnp.ones(M), jnp.zeros(H)
    )
    assert out.shape == (3, H)
    assert not np.array_equal(out[0], out[1])


def test_a_compiled_model_is_refused_with_the_way_out():
    cell = eqx.nn.GRUCell(3, 4, key=jax.random.key(0))
    with pytest.raises(ApplyError, match=r"found what eqx\.filter_jit returns; .*; give the model itself"):
        apply(make_spec("gru"), eqx.filter_jit(cell), seed=0)
