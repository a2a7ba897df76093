"""NNX beyond the conformance table: graphs, types, what is refused, cells declared with their spec."""

from __future__ import annotations

import pytest

pytest.importorskip("flax")

import jax
import jax.numpy as jnp
import numpy as np
from critinit_adapters.nnx.adapter import initializers
from flax import nnx

import critinit
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
    apply(spec, one, seed=0)
    apply(spec, other, seed=0)
    assert bits(one) == bits(other)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("sampler", ["portable", "native"])
def test_types(dtype, sampler):
    zeros = nnx.initializers.zeros_init()  # NNX's own orthogonal kernels have no half precision
    cell = nnx.GRUCell(M, H, param_dtype=dtype, recurrent_kernel_init=zeros, rngs=nnx.Rngs(0))
    apply(make_spec("gru"), cell, seed=0, sampler=sampler)
    found = cell.dense_i.kernel.get_value()
    assert found.dtype == dtype
    if sampler == "portable":
        wanted = draw(make_spec("gru"), M, H).layers[0][0].gates["reset"].input.T.astype(dtype)
        assert np.array_equal(found[:, :H], wanted)


def test_a_recurrent_candidate_bias_becomes_zero():
    """Some versions of the cell have one; it is found by its name."""
    cell = nnx.GRUCell(M, H, rngs=nnx.Rngs(0))
    cell.hn_bias = nnx.Param(jnp.ones(H))
    assert apply(make_spec("gru"), cell, seed=0).report.zeroed == ("hn_bias",)
    assert not cell.hn_bias.get_value().any()


@pytest.mark.parametrize(
    ("spec", "make", "message"),
    [
        (make_spec("rnn"), lambda r: nnx.SimpleCell(M, H, residual=True, rngs=r), "residual: found True"),
        (
            make_spec("rnn"),
            lambda r: nnx.SimpleCell(M, H, activation_fn=jax.nn.relu, rngs=r),
            "found relu_rnn at the model itself; .*cell, rnn; .* --cell relu_rnn$",
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
        (make_spec("lstm"), lambda r: nnx.GRUCell(M, H, rngs=r), "found gru at the model itself; .*cell, lstm"),
        (
            make_spec("gru"),
            lambda r: nnx.eval_shape(lambda: nnx.GRUCell(M, H, rngs=nnx.Rngs(0))),
            "dense_i/kernel: found an abstract array",
        ),
    ],
)
def test_refused(spec, make, message):
    with pytest.raises(ApplyError, match=message) as raised:
        apply(spec, make(nnx.Rngs(0)), seed=0)
    assert "\n" not in str(raised.value)


def test_a_parameter_that_refuses_to_be_written():
    model = Model()
    before = bits(model)

    def refuse(variable, value):
        raise RuntimeError("read only")

    model.encoder.cell.dense_i.bias.set_metadata("on_set_value", refuse)
    with pytest.raises(ApplyError, match=r"encoder/cell/dense_i/bias: cannot be written .*nothing was changed"):
        apply(make_spec("gru"), model, seed=0)
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
    with pytest.raises(ApplyError, match=r"found shape \(12, 12\); allowed: .* of 3 units; .*nnx.OptimizedLSTMCell"):
        nnx.LSTMCell(M, H, **initializers(make_spec("lstm")), rngs=nnx.Rngs(0))


def test_a_variable_shared_with_another_module_is_named():
    class Tied(nnx.Module):
        def __init__(self):
            self.a_head = nnx.Linear(H, 3 * H, use_bias=False, rngs=nnx.Rngs(0))
            self.cell = nnx.GRUCell(M, H, rngs=nnx.Rngs(1))
            self.cell.dense_h.kernel = self.a_head.kernel

    report = apply(make_spec("gru"), Tied(), seed=0).report
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


def random_parts(cell, count=1):
    """Kernels, and the bias of the forget gate, which is spread over units; one of each for every member."""
    parts = [cell.dense_i.kernel, cell.dense_h.kernel]
    return [np.asarray(part.get_value()).reshape(count, -1)[n] for part in parts for n in range(count)] + [
        np.asarray(cell.dense_h.bias.get_value()).reshape(count, -1)[n] for n in range(count)
    ]


def test_a_declared_cell_draws_from_its_rngs():
    given = initializers(make_spec("lstm"))

    def cells(seed):
        rngs = nnx.Rngs(seed)
        both = nnx.Bidirectional(*(nnx.RNN(nnx.OptimizedLSTMCell(M, H, **given, rngs=rngs)) for _ in range(2)))
        return both.forward_rnn.cell, both.backward_rnn.cell

    one, again, other = cells(1), cells(1), cells(2)
    assert [bits(cell) for cell in one] == [bits(cell) for cell in again]
    found = [part.tobytes() for cell in (*one, *other) for part in random_parts(cell)]
    assert len(set(found)) == len(found) == 12


def test_the_members_of_a_vmapped_ensemble_get_weights_of_their_own():
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def make(rngs):
        return nnx.OptimizedLSTMCell(M, H, **initializers(make_spec("lstm", recurrent="orthogonal")), rngs=rngs)

    with jax.disable_jit(False):
        ensemble = make(nnx.Rngs(0))
    found = [part.tobytes() for part in random_parts(ensemble, 3)]
    assert len(set(found)) == len(found) == 9
    bias = np.asarray(ensemble.dense_h.bias.get_value())
    assert np.array_equal(bias[:, :H], -bias[:, H : 2 * H])  # the input gate's follows the forget gate's
    kernel = np.asarray(ensemble.dense_h.kernel.get_value(), np.float64)[:, :, :H]
    assert np.abs(np.einsum("nij,nkj->nik", kernel, kernel) / 0.3 - np.eye(H)).max() < 1e-5


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_what_is_drawn_from_rngs_is_of_the_specs_distributions(cell):
    kind = {"rnn": nnx.SimpleCell, "gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}[cell]
    spec = make_spec(cell, recurrent="orthogonal")
    with jax.disable_jit(False):
        made = nnx.jit(lambda rngs: kind(48, 64, **initializers(spec), rngs=rngs))(nnx.Rngs(0))
    found = {"/".join(map(str, path)): node for path, node in nnx.iter_graph(made) if isinstance(node, nnx.Param)}
    weights = {name: np.asarray(node.get_value()) for name, node in found.items()}
    assert critinit.check(spec, weights, framework="nnx").matches


def test_a_seed_or_a_key_is_asked_for():
    rngs = nnx.Rngs(0)
    with pytest.raises(ArgumentError, match=r"seed: found none; .*JAX has no global seed"):
        apply(make_spec("gru"), nnx.GRUCell(M, H, rngs=rngs))
    one, other = (apply(make_spec("gru"), nnx.GRUCell(M, H, rngs=rngs), seed=rngs.params()) for _ in range(2))
    assert one.seed != other.seed
    again = apply(make_spec("gru"), nnx.GRUCell(M, H, rngs=rngs), seed=other.seed)
    assert bits(again.model) == bits(other.model)


@pytest.mark.parametrize("units", [H, 10])
def test_the_lstm_that_the_hint_names_can_be_declared(units):
    given = initializers(make_spec("lstm"))
    with pytest.raises(ApplyError, match=r"for nnx.LSTMCell take nnx\.OptimizedLSTMCell"):
        nnx.LSTMCell(M, units, **given, rngs=nnx.Rngs(0))
    assert nnx.OptimizedLSTMCell(M, units, **given, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("units", [H, 10])
@pytest.mark.parametrize(
    ("spec", "kind", "right"),
    [
        ("gru", nnx.OptimizedLSTMCell, "lstm"),
        ("gru", nnx.SimpleCell, "rnn"),
        ("rnn", nnx.GRUCell, "gru"),
        ("rnn", nnx.OptimizedLSTMCell, "lstm"),
        ("lstm", nnx.GRUCell, "gru"),
        ("lstm", nnx.SimpleCell, "rnn"),
    ],
)
def test_a_spec_of_another_cell_is_named(spec, kind, right, units):
    with pytest.raises(ApplyError, match=rf"--cell( {right}( or relu_rnn)?|\))?$"):
        kind(M, units, **initializers(make_spec(spec)), rngs=nnx.Rngs(0))
    assert kind(M, units, **initializers(make_spec(right)), rngs=nnx.Rngs(0))


def test_what_is_given_instead_of_a_module():
    module = nnx.GRUCell(3, 4, rngs=nnx.Rngs(0))
    for other in (nnx.state(module), nnx.graphdef(module)):
        with pytest.raises(ApplyError, match="; give the module itself; no adapter for it"):
            critinit.apply(make_spec("gru"), other, seed=0)


def test_a_layer_whose_cell_is_known_by_another_path_is_no_unknown_one():
    cell = nnx.GRUCell(3, 4, rngs=nnx.Rngs(0))
    model = nnx.Sequential(nnx.RNN(cell))
    model.again = cell  # the graph names it by this path
    assert critinit.apply(make_spec("gru"), model, seed=0).report.notes == ()
