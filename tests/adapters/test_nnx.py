"""NNX beyond the conformance table: graphs, types, what is refused, cells declared with their spec."""

from __future__ import annotations

import pytest

pytest.importorskip("flax")

import jax
import jax.numpy as jnp
import numpy as np
from critinit_adapters.nnx.adapter import initializers
from flax import nnx

from critinit.errors import ApplyError, ArgumentError
from critinit.tensors.application import apply
from critinit.tensors.sampling import draw
from tests.adapters.specs import make_spec

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("eager")]
M, H = 5, 12


class Model(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.encoder = nnx.RNN(nnx.GRUCell(M, H, rngs=rngs))
        self.decoder = nnx.GRUCell(H, H, rngs=rngs)
        self.again = self.decoder
        self.memory = nnx.LSTMCell(M, H, rngs=rngs)
        self.norm = nnx.BatchNorm(H, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


def bits(model):
    found = ((path, node) for path, node in nnx.iter_graph(model) if isinstance(node, nnx.Variable))
    values = {"/".join(map(str, path)): node.get_value() for path, node in found}
    return {
        n: np.asarray(jax.random.key_data(v) if v.dtype == jax.random.key(0).dtype else v).tobytes()
        for n, v in values.items()
    }


def test_a_model_with_other_things():
    model = Model()
    before = bits(model)
    applied = apply(make_spec("gru"), model, seed=5)
    assert applied.model is model
    after = bits(model)
    changed = {name for name in before if before[name] != after[name]}
    ours = {row.tensor for row in applied.report}
    assert changed == ours
    assert set(applied.report.untouched) == set(before) - ours
    assert len(applied.report) == 18  # the shared cell counts once
    assert any("'memory': a lstm, left as it was" in note for note in applied.report.notes)


def test_the_order_survives_split_and_merge():
    def build():
        cells = [nnx.SimpleCell(H, H, rngs=nnx.Rngs(n)) for n in range(11)]
        return nnx.Sequential(*cells)

    spec, one = make_spec("rnn", layers=11), build()
    other = nnx.merge(*nnx.split(build()))
    apply(spec, one)
    apply(spec, other)
    assert bits(one) == bits(other)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("sampler", ["portable", "native"])
def test_types(dtype, sampler):
    zeros = nnx.initializers.zeros_init()  # NNX's own orthogonal kernels have no half precision
    cell = nnx.GRUCell(M, H, param_dtype=dtype, recurrent_kernel_init=zeros, rngs=nnx.Rngs(0))
    apply(make_spec("gru"), cell, sampler=sampler)
    found = cell.dense_i.kernel.get_value()
    assert found.dtype == dtype
    if sampler == "portable":
        wanted = draw(make_spec("gru"), M, H).layers[0][0].gates["reset"].input.T.astype(dtype)
        assert np.array_equal(found[:, :H], wanted)


def test_a_recurrent_candidate_bias_becomes_zero():
    """Some versions of the cell have one; it is found by its name."""
    cell = nnx.GRUCell(M, H, rngs=nnx.Rngs(0))
    cell.hn_bias = nnx.Param(jnp.ones(H))
    assert apply(make_spec("gru"), cell).report.zeroed == ("hn_bias",)
    assert not cell.hn_bias.get_value().any()


@pytest.mark.parametrize(
    ("spec", "make", "message"),
    [
        (make_spec("rnn"), lambda r: nnx.SimpleCell(M, H, residual=True, rngs=r), "residual: found True"),
        (
            make_spec("rnn"),
            lambda r: nnx.SimpleCell(M, H, activation_fn=jax.nn.relu, rngs=r),
            "found relu_rnn at the target itself; .*cell, rnn; .* --cell relu_rnn$",
        ),
        (make_spec("relu_rnn"), lambda r: nnx.SimpleCell(M, H, rngs=r), "found rnn at .* --cell rnn$"),
        (
            make_spec("rnn"),
            lambda r: nnx.SimpleCell(M, H, activation_fn=jax.nn.relu6, rngs=r),
            "activation_fn: found relu6; allowed: tanh",
        ),
        (
            make_spec("gru"),
            lambda r: nnx.GRUCell(M, H, gate_fn=jax.nn.hard_sigmoid, rngs=r),
            "gate_fn: found hard_sigmoid",
        ),
        (
            make_spec("gru"),
            lambda r: nnx.GRUCell(M, H, gate_fn=lambda x: x.no_such_attribute, rngs=r),
            r"gate_fn: found <lambda>, which cannot be evaluated \(AttributeError: .*; the theory is for sigmoid",
        ),
        (make_spec("gru_reset_before"), lambda r: nnx.GRUCell(M, H, rngs=r), "found gru at .* --cell gru$"),
        (
            make_spec("minimal_rnn"),
            lambda r: nnx.GRUCell(M, H, rngs=r),
            "cell, minimal_rnn; this framework has layers for rnn, gru, lstm",
        ),
        (make_spec("lstm"), lambda r: nnx.GRUCell(M, H, rngs=r), "found gru at the target itself; .*cell, lstm"),
        (
            make_spec("gru"),
            lambda r: nnx.eval_shape(lambda: nnx.GRUCell(M, H, rngs=nnx.Rngs(0))),
            "dense_i/kernel: found an abstract array",
        ),
    ],
)
def test_refused(spec, make, message):
    with pytest.raises(ApplyError, match=message) as raised:
        apply(spec, make(nnx.Rngs(0)))
    assert "\n" not in str(raised.value)


def test_a_parameter_that_refuses_to_be_written():
    model = Model()
    before = bits(model)

    def refuse(variable, value):
        raise RuntimeError("read only")

    model.encoder.cell.dense_i.bias.set_metadata("on_set_value", refuse)
    with pytest.raises(ApplyError, match=r"encoder/cell/dense_i/bias: cannot be written .*nothing was changed"):
        apply(make_spec("gru"), model)
    assert bits(model) == before


@pytest.mark.parametrize("cell", ["rnn", "relu_rnn", "gru", "lstm"])
def test_a_declared_cell_has_the_numbers_of_apply(cell):
    kind = {"rnn": nnx.SimpleCell, "relu_rnn": nnx.SimpleCell, "gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}[cell]
    spec = make_spec(cell, recurrent="orthogonal")
    relu = {"activation_fn": jax.nn.relu} if cell == "relu_rnn" else {}
    patched = kind(M, H, **relu, rngs=nnx.Rngs(0))
    apply(spec, patched, seed=7)
    assert bits(kind(M, H, **initializers(spec, seed=7), rngs=nnx.Rngs(0))) == bits(patched)


def test_bad_declarations():
    with pytest.raises(
        ArgumentError, match=r"spec: found cell gru_reset_before; allowed: rnn, gru, lstm, relu_rnn; .* --cell gru$"
    ):
        initializers(make_spec("gru_reset_before"))
    with pytest.raises(ArgumentError, match=r"spec: found cell minimal_rnn; allowed: rnn, gru, lstm, relu_rnn$"):
        initializers(make_spec("minimal_rnn"))
    with pytest.raises(ApplyError, match=r"recurrent: found shape \(12, 12\); allowed: that of a lstm of 3 units"):
        nnx.LSTMCell(M, H, **initializers(make_spec("lstm")), rngs=nnx.Rngs(0))


def test_a_variable_shared_with_another_module_is_named():
    class Tied(nnx.Module):
        def __init__(self):
            self.a_head = nnx.Linear(H, 3 * H, use_bias=False, rngs=nnx.Rngs(0))
            self.cell = nnx.GRUCell(M, H, rngs=nnx.Rngs(1))
            self.cell.dense_h.kernel = self.a_head.kernel

    report = apply(make_spec("gru"), Tied()).report
    assert "a_head/kernel" not in report.untouched
    assert report.notes == ("a_head/kernel: the same tensor as cell/dense_h/kernel, so it was written too",)


def test_layers_are_in_the_order_in_which_their_widths_fit():
    """And get the weights that they get in every other framework."""

    class Two(nnx.Module):
        def __init__(self, lower, upper):
            setattr(self, lower, nnx.GRUCell(M, H, rngs=nnx.Rngs(0)))
            setattr(self, upper, nnx.GRUCell(H, H, rngs=nnx.Rngs(0)))

    spec = make_spec("gru", layers=2)
    kernels = []
    for names in (("a", "z"), ("z", "a")):
        model = apply(spec, Two(*names), seed=3).model
        kernels.append([np.asarray(getattr(model, name).dense_i.kernel.get_value()) for name in names])
    for one, other in zip(*kernels, strict=True):
        assert np.array_equal(one, other)
