"""``critinit.refine`` on models of the frameworks: what it changes, what it leaves, what it refuses."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest

import critinit
from critinit.errors import ApplyError, ArgumentError

pytestmark = pytest.mark.frameworks
torch = pytest.importorskip("torch")

FLOSS = critinit.Flossing(exponents=3, epochs=10, steps=20)
ADAM = critinit.Flossing(exponents=3, epochs=10, learning_rate=5e-3, steps=20)
TUNE = critinit.MetaInit(steps=3)


class Net(torch.nn.Module):
    """Two stacks, batch normalization, dropout and a readout."""

    def __init__(self, kind: str = "GRU", layers: int = 1, both: bool = False, units: int = 8) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3)
        self.rnn = getattr(torch.nn, kind)(3, units, layers, batch_first=True, bidirectional=both)
        self.drop = torch.nn.Dropout(0.5)
        self.out = torch.nn.Linear(units * (1 + both), 2)

    def forward(self, x: Any) -> Any:
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return self.out(self.drop(self.rnn(x)[0][:, -1]))


def net(*arguments: Any) -> Net:
    torch.manual_seed(0)
    return Net(*arguments)


def batch(steps: int = 25) -> Any:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((6, steps, 3)).astype("float32"))


def labels(model: Any, given: Any) -> Any:
    return torch.nn.functional.cross_entropy(model(given), torch.arange(6) % 2)


def world(model: Any) -> list[Any]:
    """All that measuring must not change."""
    return [
        [module.training for module in model.modules()],
        [buffer.clone() for buffer in model.buffers()],
        [parameter.grad for parameter in model.parameters()],
        [parameter.requires_grad for parameter in model.parameters()],
        [len(module._forward_pre_hooks) for module in model.modules()],
        torch.random.get_rng_state(),
        random.getstate(),
        np.random.get_state()[1].copy(),  # noqa: NPY002
    ]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return bool(np.array_equal(one, other))


@pytest.mark.parametrize(("method", "loss"), [(FLOSS, None), (ADAM, None), (TUNE, labels), (TUNE, None)])
def test_only_weights_change(method, loss):
    model = net("LSTM").train()
    before, parameters = world(model), list(model.parameters())
    weights = copy.deepcopy(model.state_dict())
    done = critinit.refine(model, batch(), method, loss=loss)
    assert done.changed, done.notes
    assert done.model is model
    assert same(before, world(model))
    assert all(one is other for one, other in zip(parameters, model.parameters(), strict=True))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, weights[name])}
    assert changed == {row.tensor for row in done.rows}
    assert changed <= {name for name in weights if name.startswith("rnn.") or name == "out.weight"}


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_every_layer_in_each_direction_is_flossed(kind):
    done = critinit.refine(net(kind, 2, True), batch(), FLOSS)
    assert [(one.layer, one.direction) for one in done.exponents] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for one in done.exponents:
        assert np.square(one.after).mean() < np.square(one.before).mean()
    assert len(done.history) == 4 * 10
    text = str(done)
    assert "Lyapunov exponents" in text
    assert "left as it was: nothing" in text
    assert "<table>" in done._repr_html_()


def test_the_exponents_are_those_that_the_new_weights_have():
    """A second call measures before what the first measured after, but for the cast to single precision."""
    model = net("GRU")
    first = critinit.refine(model, batch(), FLOSS)
    second = critinit.refine(model, batch(), FLOSS)
    np.testing.assert_allclose(second.exponents[0].before, first.exponents[0].after, atol=1e-5)


def test_the_same_seed_gives_the_same_weights():
    models = [net("GRU") for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        critinit.refine(model, batch(), FLOSS, seed=seed)
    one, two, three = (model.rnn.weight_hh_l0 for model in models)
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_padding_that_is_packed_is_not_read():
    class Packed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.rnn = torch.nn.GRU(3, 8, batch_first=True)

        def forward(self, x: Any) -> Any:
            lengths = [25, 25, 24, 24, 23, 23]
            packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
            return self.rnn(packed)[1]

    x = batch()
    for n, length in enumerate([25, 25, 24, 24, 23, 23]):
        x[n, length:] = 1e6
    done = critinit.refine(Packed(), x, FLOSS)
    assert done.changed
    assert max(done.exponents[0].before) < 0.0


def test_progress_is_told():
    told: list[tuple[str, int, int, float]] = []
    critinit.refine(net(), batch(), FLOSS, progress=lambda *said: told.append(said))
    assert [step for _, step, _, _ in told] == list(range(1, 11))
    assert {(what, steps) for what, _, steps, _ in told} == {("'rnn', layer 0", 10)}
    told.clear()
    critinit.refine(net(), batch(), TUNE, progress=lambda *said: told.append(said))
    assert [step for _, step, _, _ in told] == [0, 1, 2, 3]


def test_an_interrupt_leaves_the_model():
    model = net("GRU", 2)
    weights = copy.deepcopy(model.state_dict())

    def stop(what: str, step: int, steps: int, value: float) -> None:
        if "layer 1" in what:
            assert not torch.equal(model.rnn.weight_hh_l0, weights["rnn.weight_hh_l0"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        critinit.refine(model, batch(), FLOSS, progress=stop)
    assert same(list(weights.values()), list(model.state_dict().values()))


def test_numbers_that_are_not_finite_leave_the_model():
    model = net("GRU", 2)
    torch.nn.init.zeros_(model.rnn.weight_hh_l1)
    torch.nn.init.constant_(model.rnn.bias_ih_l1, -1e30)  # the keep gate is shut: nothing is kept of any perturbation
    weights = copy.deepcopy(model.state_dict())
    done = critinit.refine(model, batch(), FLOSS)
    assert not done.changed
    assert done.rows == ()
    assert any("not finite" in note for note in done.notes)
    assert same(list(weights.values()), list(model.state_dict().values()))


def test_a_method_that_gains_nothing_leaves_the_model():
    model = net("GRU")
    weights = copy.deepcopy(model.state_dict())
    far = critinit.Flossing(exponents=3, epochs=1, learning_rate=100.0, steps=20)
    done = critinit.refine(model, batch(), far)
    assert not done.changed
    assert "no nearer" in done.notes[0]
    assert done.exponents[0].before == done.exponents[0].after
    assert same(list(weights.values()), list(model.state_dict().values()))


def test_include_narrows_what_changes():
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = torch.nn.GRU(3, 8), torch.nn.GRU(8, 8)

        def forward(self, x: Any) -> Any:
            return self.b(self.a(x)[0])[0]

    for method in (FLOSS, TUNE):
        done = critinit.refine(Two(), batch(), method, include="b")
        assert {row.tensor.partition(".")[0] for row in done.rows} == {"b"}
    with pytest.raises(ArgumentError, match="include"):
        critinit.refine(Two(), batch(), FLOSS, include="c")


def frozen() -> Any:
    return net().requires_grad_(False)


def parametrized() -> Any:
    model = net()
    torch.nn.utils.parametrizations.weight_norm(model.rnn, "weight_hh_l0")
    return model


def scripted() -> Any:
    return torch.jit.script(torch.nn.GRU(3, 8, batch_first=True))


def quantized() -> Any:
    return torch.ao.quantization.quantize_dynamic(net("LSTM").eval(), {torch.nn.LSTM}, dtype=torch.qint8)


class Pair(torch.nn.Module):
    """Two layers with one recurrent kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.GRU(3, 8, batch_first=True), torch.nn.GRU(3, 8, batch_first=True)
        self.b.weight_hh_l0 = self.a.weight_hh_l0

    def forward(self, x: Any) -> Any:
        return self.a(x)[0] + self.b(x)[0]


def broken() -> Any:
    model = net()
    with torch.no_grad():
        model.rnn.weight_hh_l0[0, 0] = float("nan")
    return model


class Own(torch.nn.GRU):
    """A step of its own."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        return super().forward(2.0 * x, hx)


REFUSED = {
    "frozen": (frozen, "requires_grad=False; allowed: weights that train"),
    "parametrized": (parametrized, "remove_parametrizations|parametrized"),
    "scripted": (scripted, "no recurrent layer that is known"),
    "quantized": (quantized, "no recurrent layer that is known"),
    "of its own": (lambda: Own(3, 8, batch_first=True), "no other step can be refined"),
    "tied": (Pair, "'b', layer 0: found weights that another layer holds too"),
    "not finite": (broken, r"rnn\.weight_hh_l0: found numbers that are not finite"),
    "a class": (lambda: torch.nn.GRU, "make a model of it first"),
    "a dictionary of weights": (lambda: net().state_dict(), "give the model itself"),
    "no model": (lambda: 3, "no adapter for it"),
    "meta": (lambda: torch.nn.GRU(3, 8, device="meta"), "meta device"),
    "without a layer": (lambda: torch.nn.Linear(3, 3), "no recurrent layer that is known"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantize:UserWarning")
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("call", ["flossing", "metainit", "prune"])
def test_what_cannot_be_refined_is_refused_in_one_line(name, call):
    make, said = REFUSED[name]
    model = make()
    before = copy.deepcopy(model.state_dict()) if isinstance(model, torch.nn.Module) and name != "quantized" else None
    run = (
        (lambda: critinit.prune(model, batch(), 0.5))
        if call == "prune"
        else (lambda: critinit.refine(model, batch(), call))
    )
    with pytest.raises(ApplyError, match=said) as raised:
        run()
    assert "\n" not in str(raised.value)
    if before is not None and name != "meta":
        after = model.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(after[key].nan_to_num(), old.nan_to_num()) for key, old in before.items())


class Stateful(torch.nn.Module):
    """It starts each call where the last one ended."""

    def __init__(self, registered: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = torch.nn.GRU(3, 8, batch_first=True)
        if registered:
            self.register_buffer("state", torch.full((1, 6, 8), 0.5))
        else:
            self.state: Any = None

    def forward(self, x: Any) -> Any:
        out, state = self.rnn(x, self.state)
        self.state = state.detach()
        return out


@pytest.mark.parametrize("registered", [True, False])
@pytest.mark.parametrize("call", ["flossing", "metainit", "jacobian", "snip"])
def test_a_state_that_the_model_keeps_is_put_back(registered, call):
    model = Stateful(registered)
    kept, value = model.state, None if model.state is None else model.state.clone()
    if call in ("flossing", "metainit"):
        critinit.refine(model, batch(), FLOSS if call == "flossing" else TUNE)
    else:
        critinit.prune(model, batch(), 0.5, call)
    assert model.state is kept
    assert value is None or torch.equal(model.state, value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_module_beside_the_layer_runs_as_it_is():
    model = net()
    model.norm = torch.jit.script(torch.nn.BatchNorm1d(3))
    buffers = [buffer.clone() for buffer in model.buffers()]
    assert critinit.refine(model, batch(), FLOSS).changed
    assert same(buffers, list(model.buffers()))
    assert model.norm.training


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", [FLOSS, TUNE])
def test_short_floats_stay_what_they_are(dtype, method):
    model = net().to(dtype)
    done = critinit.refine(model, batch().to(dtype), method)
    assert done.changed, done.notes
    assert all(p.dtype == dtype and bool(torch.isfinite(p).all()) for p in model.parameters())


@pytest.mark.parametrize("method", [FLOSS, TUNE])
def test_the_report_on_a_model_of_double_precision_is_that_of_its_weights(method):
    model = net("LSTM").double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    done = critinit.refine(model, batch().double(), method)
    after = model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {row.tensor for row in done.rows}
    assert not changed & set(done.untouched)
    assert all(row.change for row in done.rows)


def test_what_is_frozen_stays_and_the_rest_is_refined():
    for method in (FLOSS, ADAM):
        model = net()
        model.rnn.weight_hh_l0.requires_grad_(False)
        done = critinit.refine(model, batch(), method)
        assert {row.tensor for row in done.rows} == {"rnn.weight_ih_l0", "rnn.bias_ih_l0", "rnn.bias_hh_l0"}
        assert "rnn.weight_hh_l0" in done.untouched


@pytest.mark.parametrize("call", ["flossing", "metainit", "prune"])
def test_where_torch_has_no_derivatives_it_says_so(call):
    model = net()
    before = copy.deepcopy(model.state_dict())
    with torch.inference_mode(), pytest.raises(ApplyError, match=r"found torch\.inference_mode\(\)"):
        critinit.prune(model, batch(), 0.5) if call == "prune" else critinit.refine(model, batch(), call)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_a_batch_that_is_not_finite_is_named():
    x = batch()
    x[0, 3, 1] = float("nan")
    model = net()
    weights = copy.deepcopy(model.state_dict())
    with pytest.raises(ArgumentError, match="batch: found numbers that are not finite at 'rnn', layer 0"):
        critinit.refine(model, x, FLOSS)
    done = critinit.refine(model, x, TUNE)
    assert not done.changed
    assert "not finite at step 0" in done.notes[0]
    assert same(list(weights.values()), list(model.state_dict().values()))


def test_flossing_a_gated_layer_does_not_saturate_it():
    """Adam's equal steps do: then the exponents are 0 as well, and the states hardly depend on the inputs."""
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((16, 40, 3)).astype("float32"))
    sizes = []
    for settings in (critinit.Flossing(), critinit.Flossing(epochs=150, learning_rate=3e-3)):
        torch.manual_seed(0)
        layer = torch.nn.LSTM(3, 24, batch_first=True)
        done = critinit.refine(layer, x, settings)
        assert np.abs(done.exponents[0].after).max() < 0.05 < np.abs(done.exponents[0].before).min()
        with torch.no_grad():
            sizes.append(float(layer(x)[0][:, -1].abs().mean()))
    assert sizes[0] < 0.3
    assert sizes[1] > 0.6


WRONG = {
    "method": {"method": "polish"},
    "seed": {"seed": -1},
    "call": {"call": 3},
    "progress": {"progress": "yes"},
    "loss": {"loss": labels},
    "batch": {"batch": batch(1)},
    "exponents": {"method": critinit.Flossing(exponents=100)},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_named(name):
    model = net()
    weights = copy.deepcopy(model.state_dict())
    with pytest.raises(ArgumentError) as raised:
        critinit.refine(**{"model": model, "batch": batch(), **WRONG[name]})
    assert raised.value.where == name
    assert same(list(weights.values()), list(model.state_dict().values()))


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"exponents": 1.5}, {"learning_rate": 0.0}, {"target": float("nan")}])
def test_settings_out_of_range(wrong):
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        critinit.Flossing(**wrong)


def test_losses_that_are_none_are_refused():
    with pytest.raises(ArgumentError, match="loss: found a Tensor of shape"):
        critinit.refine(net(), batch(), TUNE, loss=lambda model, given: model(given))
    with pytest.raises(ApplyError, match="a loss without a gradient"):
        critinit.refine(net(), batch(), TUNE, loss=lambda model, given: model(given).detach().mean())


def test_a_batch_that_does_not_reach_a_layer_is_refused():
    with pytest.raises(ArgumentError, match="does not reach 'rnn', layer 0"):
        critinit.refine(net(), batch(), FLOSS, call=lambda model, x: model.out(torch.zeros(1, 8)))


# ---- the frameworks on JAX -----------------------------------------------------------------------------------


def of_nnx() -> tuple[Any, dict[str, Any]]:
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.rnn = nnx.RNN(nnx.GRUCell(3, 8, rngs=rngs))
            self.drop, self.out = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(8, 2, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.out(self.drop(self.rnn(x)[:, -1]))

    return Model(nnx.Rngs(0)), {}


def of_linen() -> tuple[Any, dict[str, Any]]:
    nn = pytest.importorskip("flax.linen")
    import jax

    model = nn.Sequential([nn.RNN(nn.OptimizedLSTMCell(8)), nn.Dense(2)])
    return model.init(jax.random.key(0), np.zeros((1, 4, 3), np.float32)), {"call": model.apply}


def of_equinox() -> tuple[Any, dict[str, Any]]:
    eqx = pytest.importorskip("equinox")
    import jax
    import jax.numpy as jnp

    class Model(eqx.Module):
        cell: Any
        out: Any

        def __init__(self, key: Any) -> None:
            self.cell, self.out = eqx.nn.GRUCell(3, 8, key=key), eqx.nn.Linear(8, 2, key=key)

        def __call__(self, x: Any) -> Any:
            state, _ = jax.lax.scan(lambda h, one: (self.cell(one, h), None), jnp.zeros(8), x)
            return self.out(state)

    return Model(jax.random.key(0)), {}


def leaves_of(model: Any) -> list[np.ndarray]:
    import jax
    from flax import nnx

    tree = nnx.state(model) if isinstance(model, nnx.Module) else model
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    typed = [leaf for leaf in leaves if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    return [np.asarray(leaf).copy() for leaf in typed]


@pytest.mark.slow
@pytest.mark.parametrize("make", [of_nnx, of_linen, of_equinox])
@pytest.mark.parametrize("method", [FLOSS, TUNE])
def test_models_of_jax_are_refined(make, method):
    model, how = make()
    x, before = batch().numpy(), leaves_of(model)
    done = critinit.refine(model, x, method, **how)
    assert done.changed, done.notes
    after = leaves_of(done.model)
    assert (done.model is model) == (make is of_nnx)
    if make is not of_nnx:
        assert same(before, leaves_of(model))
    count = sum(not np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert count == len({row.tensor for row in done.rows})
    assert [one.dtype for one in before] == [one.dtype for one in after]
    for one in done.exponents:
        assert np.square(one.after).mean() < np.square(one.before).mean()


def test_a_tree_of_parameters_needs_to_be_told_how_to_run():
    model, _ = of_linen()
    with pytest.raises(ArgumentError, match="call: found none, where the target is a dict that cannot be called"):
        critinit.refine(model, batch().numpy(), FLOSS)


class Loop(torch.nn.Module):
    """A cell in a loop."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell = kind(3, 8)

    def forward(self, x: Any) -> Any:
        state = None
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return state


@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell"])
def test_cells_in_a_loop_are_flossed(kind):
    done = critinit.refine(Loop(getattr(torch.nn, kind)), batch(), FLOSS)
    assert done.changed
    assert np.square(done.exponents[0].after).mean() < np.square(done.exponents[0].before).mean()


def test_a_module_that_stands_twice_is_flossed_once():
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a = torch.nn.GRU(3, 3, batch_first=True)
            self.b = self.a

        def forward(self, x: Any) -> Any:
            return self.b(self.a(x)[0])[0]

    model = Twice()
    done = critinit.refine(model, batch(), FLOSS)
    assert len(done.exponents) == 1
    assert model.a is model.b


@pytest.mark.slow
def test_a_gate_that_shares_its_tensor_with_the_input_kernel_is_flossed():
    """Haiku keeps rows [x; h] in one matrix, and adds 1 to the forget gate."""
    hk, jax = pytest.importorskip("haiku"), pytest.importorskip("jax")

    def run(x: Any) -> Any:
        core = hk.LSTM(8)
        return hk.dynamic_unroll(core, x.swapaxes(0, 1), core.initial_state(len(x)))[0][-1]

    net = hk.transform(run)
    model = net.init(jax.random.key(0), batch().numpy())
    how = {"call": lambda p, x: net.apply(p, None, x), "haiku": {"lstm": "lstm"}}
    done = critinit.refine(model, batch().numpy(), FLOSS, **how)
    assert done.changed
    (one,) = done.exponents
    again = critinit.refine(done.model, batch().numpy(), FLOSS, **how)
    np.testing.assert_allclose(again.exponents[0].before, one.after, atol=1e-5)


def test_a_framework_that_cannot_is_named():
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.layers.Input((5, 3)), keras.layers.GRU(4)])
    with pytest.raises(ApplyError, match="found a model of keras; its adapter cannot refine models"):
        critinit.refine(model, batch().numpy(), "flossing")
