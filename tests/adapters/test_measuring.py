"""What reaches the layers of real models is what their drivers feed them, and measuring changes nothing."""

from __future__ import annotations

import importlib.util
import random
from typing import Any

import numpy as np
import pytest

import critinit
from critinit.errors import ApplyError, ArgumentError, SchemeError
from critinit.tensors.application import find_adapter
from tests.adapters.frameworks import BATCH, INPUT, Row, build, inputs, rows, run, tensors
from tests.adapters.texts import text, text_model

MODULES = {
    "torch": "torch",
    "keras": "keras",
    "linen": "flax",
    "nnx": "flax",
    "equinox": "equinox",
    "haiku": "haiku",
}
INSTALLED = [name for name, module in MODULES.items() if importlib.util.find_spec(module)]
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.slow,
    pytest.mark.skipif(not INSTALLED, reason="no framework is installed"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
ROWS = [row for name in INSTALLED for row in rows(name) if row.bias]
STEPS = 6


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_what_is_fed_is_what_arrives(row: Row) -> None:
    """Every layer that a driver has; the first one's input is known, and the others' widths are."""
    built, x = build(row), inputs(STEPS)
    before = {name: np.array(tensor) for name, tensor in tensors(built, built.model).items()}
    adapter = find_adapter(built.model, row.framework, built.options)
    options = {name: value for name, value in built.options.items() if name != "framework"}
    traced = adapter.trace(built.model, lambda model, *_: run(built, model, x), options)
    assert {name: tensor.tobytes() for name, tensor in before.items()} == {
        name: np.array(tensor).tobytes() for name, tensor in tensors(built, built.model).items()
    }
    first = traced.networks[0].arrivals[0]
    assert first.values.shape == (BATCH, STEPS, INPUT)
    np.testing.assert_allclose(first.values, x.transpose(1, 0, 2), atol=1e-6)
    assert sum(network.layers for network in traced.networks) == row.layers
    assert {network.directions for network in traced.networks} == {row.directions}
    for network in traced.networks:
        assert {arrival.layer for arrival in network.arrivals} == set(range(network.layers))
        assert all(arrival.values.shape[:2] == (BATCH, STEPS) for arrival in network.arrivals)


# ---- PyTorch ---------------------------------------------------------------------------------------------


def test_torch_padding_packing_and_layers_above() -> None:
    model = text_model()
    import torch

    tokens, lengths = text()
    x = torch.from_numpy(tokens)
    found = critinit.measure(model, x)
    lstm, gru = found["lstm"], found["gru"]
    assert (lstm.origin, lstm.embedding, lstm.trains) == ("embedding", "embed.weight", True)
    assert lstm.layers[0].right.kind == "silent"
    assert lstm.layers[0].lengths == tuple(lengths)
    weight = model.embed.weight.detach().numpy()
    assert lstm.second_moment == pytest.approx(np.mean(weight[tokens[tokens > 0]] ** 2), rel=1e-5)
    assert gru.second_moment == pytest.approx(1.0, rel=0.02)  # by the batch, as in training
    packed = critinit.measure(model, {"tokens": x, "lengths": torch.from_numpy(lengths)})["lstm"]
    assert packed.layers[0].unread == pytest.approx(1 - lengths.mean() / 20)
    assert packed.layers[0].right is None
    assert packed.layers[1].lengths == tuple(lengths)
    # the second layer reads what the first one alone gives
    one = torch.nn.LSTM(10, 7, batch_first=True, bidirectional=True)
    one.load_state_dict({k: v for k, v in model.lstm.state_dict().items() if "_l0" in k})
    with torch.no_grad():
        below = one(model.embed(x))[0].numpy()
    assert lstm.layers[1].statistics.second_moment == pytest.approx(np.mean(below**2), rel=1e-4)


def test_torch_is_left_as_it_was() -> None:
    model = text_model()
    import torch

    model.drop.eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    critinit.measure(model, torch.from_numpy(text()[0]))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert flags == [module.training for module in model.modules()]
    assert torch.equal(generators[0], torch.get_rng_state())
    assert generators[1] == random.getstate()
    assert generators[2] == np.random.get_state()[1].tobytes()  # noqa: NPY002
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(ArgumentError, match="the model fails"):  # its own error, and still nothing is left behind
        critinit.measure(model, torch.zeros(2, 3, dtype=torch.float64))
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert flags == [module.training for module in model.modules()]


def test_torch_data_convolution_and_cells() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(3, 6, 3, stride=2)
            self.cell = nn.GRUCell(6, 4)
            self.raw = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x: Any) -> Any:
            y = self.conv(x.transpose(1, 2)).transpose(1, 2)
            for _ in range(2):
                h = torch.zeros(len(x), 4)
                for t in range(y.shape[1]):
                    h = self.cell(y[:, t], h)
            return h, self.raw(x)[0]

    x = torch.randn(8, 21, 3, generator=torch.Generator().manual_seed(0))
    model = Net()
    found = critinit.measure(model, x)
    assert [network.name for network in found] == ["cell", "raw"]
    assert found["raw"].origin == "data"
    assert not found["raw"].trains
    assert found["cell"].origin == "layers"
    assert found["cell"].trains
    assert found["cell"].layers[0].lengths == (10,) * 16  # two passes of 8 sequences
    for parameter in model.conv.parameters():
        parameter.requires_grad = False
    assert not critinit.measure(model, x)["cell"].trains


# ---- JAX -------------------------------------------------------------------------------------------------


def test_linen_lengths_and_compiled_models() -> None:
    pytest.importorskip("flax")
    import flax.linen as nn
    import jax

    class Net(nn.Module):
        @nn.compact
        def __call__(self, tokens: Any, lengths: Any = None) -> Any:
            x = nn.Embed(30, 8)(tokens)
            y = nn.Bidirectional(nn.RNN(nn.GRUCell(4)), nn.RNN(nn.GRUCell(4)))(x, seq_lengths=lengths)
            return nn.RNN(nn.OptimizedLSTMCell(3))(y)

    tokens, lengths = text(8, 16)
    model = Net()
    variables = model.init(jax.random.key(0), tokens)
    pair = {"bidirectional": [("params/GRUCell_0", "params/GRUCell_1")]}
    found = critinit.measure(variables, (tokens, lengths), call=jax.jit(model.apply), **pair)
    assert [network.name for network in found] == ["params/GRUCell_0", "params/OptimizedLSTMCell_0"]
    first = found["params/GRUCell_0"]
    assert first.directions == 2
    assert first.embedding == "params/Embed_0/embedding"
    assert first.layers[0].lengths == tuple(lengths)
    assert critinit.measure(variables, tokens, call=model.apply, **pair)["params/GRUCell_0"].layers[0].right.kind == (
        "constant"
    )
    variables["params"]["Embed_0"]["embedding"] *= 9.0
    done = critinit.initialize(variables, tokens, seed=0, call=model.apply, embeddings="rescale", **pair)
    assert list(done.specs) == ["params/GRUCell_0", "params/OptimizedLSTMCell_0"]
    table = np.asarray(done.model["params"]["Embed_0"]["embedding"])
    used = tokens[tokens > 0]
    assert np.mean(table[used] ** 2) == pytest.approx(1 / 8, rel=1e-4)
    assert done.specs["params/GRUCell_0"].layers[0].input.variance == pytest.approx(1 / 8, rel=1e-4)


def test_nnx_inside_of_its_transformations() -> None:
    pytest.importorskip("flax")
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.embed = nnx.Embed(30, 8, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.norm = nnx.BatchNorm(8, rngs=rngs)
            self.rnn = nnx.RNN(nnx.GRUCell(8, 4, rngs=rngs))

        def __call__(self, tokens: Any) -> Any:
            return self.rnn(self.norm(self.drop(self.embed(tokens))))

    model = Net(nnx.Rngs(0))
    before = np.array(model.norm.mean.get_value())
    count = int(model.drop.rngs.count.get_value())
    tokens = np.random.default_rng(2).integers(1, 30, (8, 16))  # no padding, which would be normalized too
    found = critinit.measure(model, tokens, call=nnx.jit(lambda model, x: model(x)))["rnn/cell"]
    assert found.second_moment == pytest.approx(1.0, rel=0.05)
    assert found.origin == "layers"
    assert np.array_equal(before, model.norm.mean.get_value())
    assert int(model.drop.rngs.count.get_value()) == count
    assert model.drop.deterministic is False
    assert "critinit_place" not in vars(model.rnn.cell)
    assert nnx.GRUCell.__call__.__name__ == "__call__"


def test_equinox_runs_each_sequence_of_the_batch() -> None:
    eqx = pytest.importorskip("equinox")
    import jax
    import jax.numpy as jnp

    class Net(eqx.Module):
        cell: Any
        drop: Any

        def __call__(self, x: Any) -> Any:
            assert isinstance(self.cell, eqx.nn.LSTMCell)
            start = jnp.zeros(4), jnp.zeros(4)
            return jax.lax.scan(lambda h, x_t: (self.cell(self.drop(x_t), h), None), start, x)[0]

    model = Net(eqx.nn.LSTMCell(3, 4, key=jax.random.key(0)), eqx.nn.Dropout(0.5))
    x = np.random.default_rng(0).standard_normal((6, 9, 3)).astype(np.float32)
    for call in (None, eqx.filter_jit(lambda model, x: jax.vmap(model)(x))):
        found = critinit.measure(model, x, call=call)["cell"]
        assert found.origin == "data"
        assert found.layers[0].steps == (9,) * 6
        assert found.second_moment == pytest.approx(np.mean(x**2), rel=1e-5)
    assert critinit.measure(model, x[0], call=lambda model, x: model(x))["cell"].layers[0].steps == (9,)
    with pytest.raises(ArgumentError, match=r"on each sequence of the batch .*call=lambda model, x: model\(x\)"):
        critinit.measure(model, x[0])


# ---- Keras -----------------------------------------------------------------------------------------------


def keras_model(mask_zero: bool = True) -> Any:
    keras = pytest.importorskip("keras")
    layers = keras.layers
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((16,), dtype="int32"),
            layers.Embedding(30, 8, mask_zero=mask_zero),
            layers.Dropout(0.5),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
            layers.BatchNormalization(epsilon=1e-9),
            layers.RNN([layers.GRUCell(3), layers.GRUCell(3)], return_sequences=True),
            layers.GRU(3),
        ]
    )


def test_keras_masks_stacks_and_normalization() -> None:
    model = keras_model()
    tokens, lengths = text(8, 16)
    before = [np.array(value) for value in model.get_weights()]
    first, stacked, last = critinit.measure(model, tokens)
    assert first.embedding.endswith("embeddings")
    assert first.trains
    assert first.input_variance == 1 / 8
    assert [layer.lengths for layer in (*first.layers, *stacked.layers, *last.layers)] == [tuple(lengths)] * 4
    assert stacked.second_moment == pytest.approx(1.0, rel=0.01)  # normalized by the batch
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))
    assert not any("call" in vars(layer) for layer in model._flatten_layers())
    unmasked, *_ = critinit.measure(keras_model(mask_zero=False), tokens)
    assert unmasked.layers[0].right.kind == "constant"


# ---- initialize ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [list, tuple, "mapping"])
def test_keras_models_of_several_inputs(form: Any) -> None:
    keras = pytest.importorskip("keras")
    layers = keras.layers
    rows, words = keras.Input((None, 4), name="rows"), keras.Input((None,), dtype="int32", name="words")
    states = [layers.LSTM(8, name="upper")(rows), layers.GRU(8, name="lower")(layers.Embedding(20, 4)(words))]
    model = keras.Model({"rows": rows, "words": words} if form == "mapping" else [rows, words], states)
    rng = np.random.default_rng(0)
    x, tokens = rng.standard_normal((8, 30, 4)).astype("float32"), rng.integers(1, 20, (8, 25))
    batch = {"rows": x, "words": tokens} if form == "mapping" else form([x, tokens])
    done = critinit.initialize(model, batch, seed=0)
    assert {name: (spec.cell, spec.T) for name, spec in done.specs.items()} == {
        "upper": ("lstm", 30),
        "lower": ("gru", 25),
    }


def test_a_keras_model_that_is_not_built_is_built_by_the_batch() -> None:
    keras = pytest.importorskip("keras")

    class Reader(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.rnn = keras.layers.Embedding(20, 8, mask_zero=True), keras.layers.GRU(8)

        def call(self, tokens: Any, shift: Any = 0) -> Any:
            return self.rnn(self.embed(tokens + shift))

    tokens = np.random.default_rng(0).integers(1, 19, (8, 30))
    for model, batch in (
        (Reader(), tokens),
        (Reader(), (tokens, np.ones((), tokens.dtype))),
        (keras.Sequential([keras.layers.Embedding(20, 8), keras.layers.GRU(8)]), tokens),
    ):
        done = critinit.initialize(model, batch, seed=0)
        assert [spec.T for spec in done.specs.values()] == [30]
    images = np.random.default_rng(0).standard_normal((2, 6, 8, 8, 3)).astype("float32")
    assert critinit.initialize(keras.layers.ConvLSTM2D(4, 3), images, seed=0).measured[""].input_size == 3


def test_initialize_makes_a_spec_for_each_network_and_writes_it() -> None:
    model = text_model()
    import torch

    x = torch.from_numpy(text()[0])
    done = critinit.initialize(model, x, seed=3)
    assert done.model is model
    assert list(done.specs) == ["lstm", "gru"]
    lstm, gru = done.specs.values()
    assert (lstm.cell, lstm.T, len(lstm.layers), gru.cell, gru.T) == ("lstm", 20, 2, "gru", 20)
    assert lstm.layers[0].input.padding.variance == 0.0
    assert lstm.layers[0].input.variance == done.measured["lstm"].input_variance
    again = text_model()
    critinit.apply(lstm, again, seed=3, include="lstm")
    critinit.apply(gru, again, seed=3, include="gru")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert {row.tensor.split(".")[0] for row in done.applied.report} == {"lstm", "gru"}
    assert "embed.weight" in done.applied.report.untouched
    assert any(note.startswith("lstm: fed by embed.weight") for note in done.applied.report.notes)
    assert "left as it was (the spec is for" not in str(done)
    assert critinit.initialize(model, x, T=77, include="gru").specs["gru"].T == 77


def test_initialize_hands_over_the_limits_of_every_network() -> None:
    torch = pytest.importorskip("torch")
    model = text_model()

    done = critinit.initialize(model, torch.from_numpy(text()[0]), scheme="memory", seed=3)
    again = [critinit.apply(spec, text_model(), seed=3, include=name) for name, spec in done.specs.items()]
    assert done.applied.limits == tuple(limit for applied in again for limit in applied.limits)
    assert {limit.tensor.split(".")[0] for limit in done.applied.limits} == {"lstm", "gru"}
    optimizer = critinit.limit_steps(torch.optim.Adam(model.parameters(), 0.1), done)
    before = model.lstm.weight_hh_l0.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert (model.lstm.weight_hh_l0 - before).abs().max() < 0.031


def test_a_network_above_is_measured_after_the_one_below_was_written() -> None:
    model = text_model()
    import torch

    model.norm = torch.nn.Identity()
    done = critinit.initialize(model, torch.from_numpy(text()[0]))
    now = critinit.measure(model, torch.from_numpy(text()[0]))["gru"]
    assert done.measured["gru"].second_moment == pytest.approx(now.second_moment, rel=1e-6)
    assert done.specs["gru"].layers[0].input.variance == now.input_variance


def test_initialize_is_all_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = text_model()
    import torch

    x = torch.from_numpy(text()[0])
    torch.nn.utils.parametrizations.orthogonal(model.gru, "weight_hh_l0")
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ApplyError, match="gru"):
        critinit.initialize(model, x, embeddings="rescale")
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    done = critinit.initialize(model, x, include="lstm")
    assert list(done.specs) == ["lstm"]
    # a failure at the second network undoes the first one
    model = text_model()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    from critinit.inputs import initializing

    real, calls = initializing.apply, []

    def failing(*args: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **named)

    monkeypatch.setattr(initializing, "apply", failing)
    with pytest.raises(KeyboardInterrupt):
        critinit.initialize(model, x, embeddings="rescale")
    assert len(calls) == 2
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_tied_embedding_is_not_rescaled() -> None:
    model = text_model()
    import torch

    x = torch.from_numpy(text()[0])
    weight = model.embed.weight.detach().clone()
    model.decoder = torch.nn.Linear(10, 30, bias=False)
    model.decoder.weight = model.embed.weight
    done = critinit.initialize(model, x, embeddings="rescale")
    assert torch.equal(model.embed.weight, weight)
    assert "embed.weight: kept, for another layer uses it too" in done.applied.report.notes
    model.decoder.weight = torch.nn.Parameter(torch.zeros(30, 10))
    critinit.initialize(model, x, embeddings="rescale")
    rows = model.embed.weight.detach().numpy()
    assert np.mean(rows[text()[0][text()[0] > 0]] ** 2) == pytest.approx(1 / 10, rel=1e-5)
    assert not np.any(rows[0])


def test_what_initialize_refuses() -> None:
    model = text_model()
    import torch

    x = torch.from_numpy(text()[0])
    with pytest.raises(ArgumentError, match=r"embeddings: found 'both'; allowed: 'keep' or 'rescale'"):
        critinit.initialize(model, x, embeddings="both")  # type: ignore[arg-type]
    with pytest.raises(
        ArgumentError, match=r"include: found 'lst'; allowed: a pattern that one of these matches: 'lst"
    ):
        critinit.initialize(model, x, include="lst")
    model.other = torch.nn.LSTM(3, 4)
    with pytest.raises(ArgumentError, match=r"batch: found one that does not reach 'other'; call= says"):
        critinit.initialize(model, x)
    assert list(critinit.initialize(model, x, include=["lstm", "gru"]).specs) == ["lstm", "gru"]
    with pytest.raises(ArgumentError, match="T: found 0"):
        critinit.initialize(model, x, T=0, include="lstm")


def test_what_to_do_about_a_batch_on_which_a_model_fails() -> None:
    torch = pytest.importorskip("torch")
    model, x = torch.nn.GRU(INPUT, 8, batch_first=True), torch.zeros(BATCH, STEPS, INPUT)
    data = torch.utils.data.TensorDataset(x, torch.zeros(BATCH))
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH)
    for batch, said in (
        (x.numpy(), "turn NumPy's arrays into the framework's tensors first"),
        (loader, r"this is a DataLoader; give one batch of it, next\(iter\(\.\.\.\)\), without the targets"),
        (next(iter(loader)), r"2 arguments were given, model\(\*batch\); if some are targets, leave them out"),
    ):
        with pytest.raises(ArgumentError, match=f"^batch: found one on which the model fails: .*; {said}"):
            critinit.initialize(model, batch, seed=0)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_data_are_known_as_data_in_every_precision(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    kind = getattr(torch, dtype)
    x = 0.1 * torch.randn(BATCH, 20, INPUT, generator=torch.Generator().manual_seed(0))
    spec = critinit.initialize(torch.nn.GRU(INPUT, 8, batch_first=True).to(kind), x.to(kind), seed=0).specs[""]
    assert spec.layers[0].input.variance == pytest.approx(float(x.square().mean()), rel=0.01)


def test_bfloat16_data_of_jax_are_known_as_data() -> None:
    nnx = pytest.importorskip("flax.nnx")
    import jax.numpy as jnp

    x = jnp.asarray(0.1 * np.random.default_rng(0).standard_normal((BATCH, 20, INPUT)), jnp.bfloat16)
    model = nnx.RNN(nnx.GRUCell(INPUT, 8, rngs=nnx.Rngs(0)))
    spec = critinit.initialize(model, x, seed=0).specs["cell"]
    assert spec.layers[0].input.variance == pytest.approx(float(jnp.square(x.astype(jnp.float32)).mean()), rel=0.01)


def test_a_cell_that_a_scheme_refuses_is_named_with_the_way_to_leave_it_out() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.ModuleList([torch.nn.GRU(INPUT, 8), torch.nn.RNN(8, 8)])
    x, call = torch.randn(STEPS, BATCH, INPUT), lambda model, x: model[1](model[0](x)[0])
    with pytest.raises(SchemeError, match=r"suit rnn: .*; to leave '1' as it is: include=\['0'\]$"):
        critinit.initialize(model, x, scheme="memory", call=call, seed=0)
    assert list(critinit.initialize(model, x, scheme="memory", call=call, include=["0"], seed=0).specs) == ["0"]


def test_one_step_is_noted_unless_T_is_stated() -> None:
    torch = pytest.importorskip("torch")
    model, step = torch.nn.Sequential(torch.nn.GRUCell(INPUT, 8)), torch.randn(BATCH, INPUT)
    said = "'0' read one step, so T is 1: state how many it has to remember: initialize(..., T=)"
    assert said in critinit.initialize(model, step, seed=0).applied.report.notes
    assert not any("one step" in n for n in critinit.initialize(model, step, T=50, seed=0).applied.report.notes)


def test_sequences_that_begin_in_the_middle_are_noted_unless_T_is_stated() -> None:
    torch = pytest.importorskip("torch")
    model, x = torch.nn.GRU(INPUT, 8, batch_first=True), torch.randn(BATCH, STEPS, INPUT)
    batch = (x, torch.ones(1, BATCH, 8))
    said = f"the network began at another state than zero, and read at most {STEPS} steps from there, so T is {STEPS}: "
    assert any(note.startswith(said) for note in critinit.initialize(model, batch, seed=0).applied.report.notes)
    for done in (critinit.initialize(model, batch, T=50, seed=0), critinit.initialize(model, x, seed=0)):
        assert not any("another state" in note for note in done.applied.report.notes)


def test_without_a_seed_initialize_follows_the_global_generator() -> None:
    import torch

    def run(seed: int) -> Any:
        torch.manual_seed(seed)
        return critinit.initialize(torch.nn.LSTM(3, 8), torch.zeros(20, 4, 3) + 1.0)

    one, two, other = run(1), run(1), run(2)
    assert one.applied.seed == two.applied.seed != other.applied.seed
    again = critinit.apply(one.specs[""], torch.nn.LSTM(3, 8), seed=one.applied.seed)
    for found in (two.model, again.model):
        assert torch.equal(one.model.weight_hh_l0, found.weight_hh_l0)
    assert not torch.equal(one.model.weight_hh_l0, other.model.weight_hh_l0)


def test_classes_with_a_step_of_their_own_are_measured_and_initialized_where_they_are_trusted() -> None:
    import torch

    class Own(torch.nn.LSTM):
        def forward(self, x: Any, state: Any = None) -> Any:
            return super().forward(x, state)

    model, x = torch.nn.Sequential(Own(3, 8)), torch.randn(20, 4, 3, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ApplyError, match=r"'0': found a Own, whose forward is not that of LSTM.*trust=True"):
        critinit.initialize(model, x, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert critinit.measure(model, x)["0"].second_moment == pytest.approx(float((x**2).mean()), rel=1e-5)
    done = critinit.initialize(model, x, seed=0, trust=True)
    assert any("written, as trust=True says" in note for note in done.applied.report.notes)
    plain = critinit.apply(done.specs["0"], torch.nn.Sequential(torch.nn.LSTM(3, 8)), seed=0).model
    assert torch.equal(plain[0].weight_hh_l0, model[0].weight_hh_l0)


def test_a_module_that_only_looks_recurrent_is_named_where_it_cannot_be_measured() -> None:
    import torch

    class OwnLSTMCell(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x

    none = "with no recurrent layer that is known"
    for model, found in (
        (
            torch.nn.Sequential(OwnLSTMCell()),
            f"target: found a Sequential {none}; looks recurrent: OwnLSTMCell at '0' ",
        ),
        (torch.nn.Linear(3, 3), f"target: found a Linear {none}; allowed: a model with a layer of rnn, gru, lstm"),
    ):
        for ask, way in (
            (critinit.measure, "of a recurrent module of your own measure the arrays that reach it with critinit"),
            (critinit.initialize, "of a recurrent module of your own measure the arrays that reach it"),
            (critinit.diagnose, "only recurrent layers are diagnosed; one of your own by its numbers: .*diagnose_file"),
        ):
            with pytest.raises(ApplyError, match=f"^{found}.*; {way}"):
                ask(model, torch.zeros(20, 4, 3))
