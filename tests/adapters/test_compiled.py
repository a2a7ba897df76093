"""What a compiled run of JAX records is what a run step by step records, and it is compiled once."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from critinit.errors import ArgumentError
from critinit.inputs.network import Runner
from critinit.inputs.traced import Traced
from critinit.tensors.application import find_adapter
from tests.adapters.frameworks import Row, build, inputs, rows

INSTALLED = [
    name
    for name, module in {"linen": "flax", "nnx": "flax", "equinox": "equinox", "haiku": "haiku"}.items()
    if importlib.util.find_spec(module)
]
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.slow,
    pytest.mark.skipif(not INSTALLED, reason="no framework on JAX is installed"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
ROWS = [row for name in INSTALLED for row in rows(name)]
STEPS = 5
RESETS = 10.0
"""Inputs beyond this reset a state."""
RESET_BY = ("input", "counter", "step before", "factor", "after the step", "zeros each time", "exchanged")
NNX_RUNS = ("plain", "lengths", "carry", "time first", "backwards", "twice", "a cell around it")


def both(monkeypatch: pytest.MonkeyPatch, model: Any, batch: Any, call: Any = None, **options: Any) -> list[Traced]:
    """What was recorded compiled, compiled again, and step by step."""
    from critinit_adapters.shared import jax_compiling

    monkeypatch.setattr(jax_compiling, "_PROGRAMS", type(jax_compiling._PROGRAMS)())
    adapter: Any = find_adapter(model, options.pop("framework", None), options)
    found = [adapter.trace(model, Runner(batch, call), options) for _ in range(2)]
    ((program,),) = jax_compiling._PROGRAMS.values()
    assert program is not None
    run = Runner(batch, call)
    return [*found, adapter.trace(model, lambda *given: run(*given), options)]


def one_pass() -> list[bool]:
    """Whether each scan of the kept program is taken as one pass."""
    from critinit_adapters.shared import jax_compiling

    ((program,),) = jax_compiling._PROGRAMS.values()
    assert program is not None
    return [take.whole for take in program.takes if isinstance(take, jax_compiling._Loop)]


def same(found: list[Traced]) -> None:
    assert any(network.arrivals for network in found[0].networks)
    for other in found[1:]:
        assert len(found[0].networks) == len(other.networks)
        for one, two in zip(found[0].networks, other.networks, strict=True):
            assert (one.name, len(one.arrivals)) == (two.name, len(two.arrivals))
            for a, b in zip(one.arrivals, two.arrivals, strict=True):
                assert (a.layer, a.dtype, a.from_rest) == (b.layer, b.dtype, b.from_rest)
                np.testing.assert_allclose(a.values, b.values, atol=1e-5)
                assert (a.read is None) == (b.read is None)
                assert a.read is None or np.array_equal(a.read, b.read)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_compiled_run_records_the_same(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    built, x = build(row), inputs(STEPS).astype("float32")
    options = dict(built.options)
    if row.framework == "equinox":
        from tests.adapters.drivers.equinox import _scan

        def call(model: Any, x: Any) -> Any:
            import jax.numpy as jnp

            for cells in model:
                ways = [_scan(cells[0], x)]
                ways += [_scan(cells[1], x[::-1])[::-1]] if len(cells) == 2 else []
                x = jnp.concatenate(ways, axis=-1)
            return x

        same(both(monkeypatch, built.model, x, call, **options))
    elif row.framework == "nnx":
        same(both(monkeypatch, built.model, x.swapaxes(0, 1), **options))
    else:
        x = x.swapaxes(0, 1) if row.framework == "linen" else x
        from critinit_adapters.shared import jax_compiling

        if row.framework == "haiku":  # its functions are made of objects that could change
            monkeypatch.setattr(jax_compiling, "_frozen", lambda call: id(call))
        same(both(monkeypatch, built.model, x, built.definition.apply, **options))


def test_new_weights_are_read_and_other_surroundings_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flax")
    import flax.linen as nn
    import jax
    from critinit_adapters.shared import jax_compiling

    monkeypatch.setattr(jax_compiling, "_PROGRAMS", type(jax_compiling._PROGRAMS)())
    net, x = nn.Sequential([nn.Dense(3), nn.RNN(nn.GRUCell(4))]), inputs(STEPS).astype("float32")
    tree = net.init(jax.random.key(0), x)
    adapter: Any = find_adapter(tree, None, {})

    def read(call: Any, tree: Any = tree) -> np.ndarray:
        (network,) = adapter.trace(tree, Runner(x, call), {}).networks
        return network.arrivals[0].values

    first = read(net.apply)
    double = jax.tree.map(lambda leaf: 2 * leaf, tree)
    np.testing.assert_allclose(read(net.apply, double), 2 * first, rtol=1e-5)
    assert len(jax_compiling._PROGRAMS) == 1
    for factor in (3.0, 4.0):  # the same code, which reads another number
        np.testing.assert_allclose(
            read(lambda tree, x, factor=factor: net.apply(tree, factor * x)), factor * first, rtol=1e-5
        )
    np.testing.assert_allclose(read(lambda tree, x: net.apply(tree, factor * x)), 4.0 * first, rtol=1e-5)
    scale = {"of": 5.0}  # it can change, so nothing is kept
    kept = len(jax_compiling._PROGRAMS)
    for scale["of"] in (5.0, 6.0):
        np.testing.assert_allclose(
            read(lambda tree, x: net.apply(tree, scale["of"] * x)), scale["of"] * first, rtol=1e-5
        )
    assert len(jax_compiling._PROGRAMS) == kept == 4


def test_what_cannot_be_compiled_runs_step_by_step() -> None:
    pytest.importorskip("flax")
    import flax.linen as nn
    import jax

    net, x = nn.RNN(nn.GRUCell(4)), inputs(STEPS).astype("float32")
    tree = net.init(jax.random.key(0), x)
    adapter: Any = find_adapter(tree, None, {})

    def on_the_host(tree: Any, x: Any) -> Any:
        return net.apply(tree, np.asarray(x) + 1.0)

    def branching(tree: Any, x: Any) -> Any:
        return jax.lax.cond(x[0, 0, 0] > -100.0, lambda x: net.apply(tree, x), lambda x: net.apply(tree, -x), x)

    for call, wanted in ((on_the_host, x + 1.0), (branching, x)):
        (network,) = adapter.trace(tree, Runner(x, call), {}).networks
        np.testing.assert_allclose(network.arrivals[0].values, wanted, rtol=1e-6)

    def wrong(tree: Any, x: Any) -> Any:
        raise ZeroDivisionError("of the model itself")

    with pytest.raises(ArgumentError, match="ZeroDivisionError: of the model itself"):
        adapter.trace(tree, Runner(x, wrong), {})


def test_lengths_and_nested_calls_are_seen_within_a_compiled_run(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flax")
    import flax.linen as nn
    import jax

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any, lengths: Any) -> Any:
            y = nn.Bidirectional(nn.RNN(nn.GRUCell(4)), nn.RNN(nn.GRUCell(4)))(x, seq_lengths=lengths)
            return nn.remat(nn.RNN)(nn.OptimizedLSTMCell(3))(y)

    net, x = Net(), inputs(STEPS).astype("float32")
    lengths = np.array([5, 2, 3, 4, 1][: len(x)])
    tree = net.init(jax.random.key(0), x, lengths)
    pair = {"bidirectional": [("params/GRUCell_0", "params/GRUCell_1")]}
    found = both(monkeypatch, tree, (x, lengths), jax.jit(net.apply).__wrapped__, **pair)
    same(found)
    assert one_pass() == [True, True, True]
    assert any(arrival.read is not None for network in found[0].networks for arrival in network.arrivals)


@pytest.mark.skipif("equinox" not in INSTALLED, reason="needs Equinox")
@pytest.mark.parametrize("kind", ["two cells", "one cell twice", "a state that is reset"])
def test_steps_of_a_scan_are_taken_in_their_order(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan's steps are recorded at once, unless a cell is met twice in one of them."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    class Model(eqx.Module):
        first: Any
        second: Any

        def __call__(self, x: Any) -> Any:
            second = self.first if kind == "one cell twice" else self.second

            def step(states: Any, given: Any) -> Any:
                one, two = states
                t, x = given
                if kind == "a state that is reset":
                    one = jnp.where(t == 3, 0.0, one)
                one = self.first(x, one)
                two = second(one, two)
                return (one, two), two

            zero = jnp.zeros(4)
            return jax.lax.scan(step, (zero, zero), (jnp.arange(len(x)), x))[1]

    keys = jax.random.split(jax.random.key(0))
    model = Model(*(eqx.nn.GRUCell(4, 4, key=key) for key in keys))
    x = np.random.default_rng(0).standard_normal((3, 7, 4)).astype(np.float32)
    found = both(monkeypatch, model, x)
    same(found)
    if kind == "a state that is reset":
        assert sum(len(network.arrivals) for network in found[0].networks) == 3


@pytest.mark.skipif("nnx" not in INSTALLED, reason="needs Flax")
@pytest.mark.parametrize("kind", NNX_RUNS)
def test_layers_of_nnx_are_recorded_however_they_are_run(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import jax.numpy as jnp
    from flax import nnx

    class Resetting(nnx.RNNCellBase):
        """A cell of no known class that runs one, from zero where an input says so."""

        def __init__(self, rngs: Any) -> None:
            self.inner = nnx.GRUCell(4, 4, rngs=rngs)

        def __call__(self, carry: Any, x: Any) -> Any:
            return self.inner(jnp.where(x[..., :1] > RESETS, 0.0, carry), x)

        def initialize_carry(self, shape: Any, rngs: Any = None) -> Any:
            return jnp.zeros((*shape[:-1], 4))

        @property
        def num_feature_axes(self) -> int:
            return 1

    class Net(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            cells = [nnx.GRUCell(4, 4, rngs=rngs), nnx.OptimizedLSTMCell(4, 4, rngs=rngs)]
            self.first = nnx.RNN(Resetting(rngs) if kind == "a cell around it" else cells[0], rngs=rngs)
            self.second = nnx.RNN(cells[1], rngs=rngs)
            self.both = nnx.Bidirectional(nnx.RNN(nnx.GRUCell(4, 2, rngs=rngs)), nnx.RNN(nnx.GRUCell(4, 2, rngs=rngs)))
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x: Any, lengths: Any, carry: Any) -> Any:
            x = self.drop(x)
            if kind == "lengths":
                return self.second(self.both(self.first(x, seq_lengths=lengths), seq_lengths=lengths))
            if kind == "carry":
                last, y = self.first(x, initial_carry=carry, return_carry=True)
                return self.second(y) + last[:, None]
            if kind == "time first":
                return self.second(self.first(x.swapaxes(0, 1), time_major=True), time_major=True)
            if kind == "backwards":
                return self.second(self.first(x, reverse=True), reverse=True, keep_order=True)
            if kind == "twice":
                return self.second(self.first(self.first(x)))
            return self.second(self.both(self.first(x)))

    model, rng = Net(nnx.Rngs(0)), np.random.default_rng(0)
    x = rng.standard_normal((3, 7, 4)).astype(np.float32)
    x[:, 4, 0] = 2 * RESETS
    carry = jnp.asarray(rng.standard_normal((3, 4)), jnp.float32)
    found = both(monkeypatch, model, (x, np.array([7, 2, 5]), carry))
    same(found)
    assert one_pass() == [kind != "a cell around it" or i > 0 for i in range(len(one_pass()))] != []
    first = next(network for network in found[0].networks if network.name.startswith("first"))
    steps = {"a cell around it": [4, 3], "twice": [7, 7]}.get(kind, [7])
    assert [arrival.values.shape[1] for arrival in first.arrivals] == steps
    assert first.arrivals[0].from_rest == (kind != "carry")
    assert model.drop.deterministic is False
    read = np.concatenate([arrival.values for arrival in first.arrivals], axis=1)[:, :7]
    np.testing.assert_allclose(read, x[:, ::-1] if kind == "backwards" else x)


def around(inner: Any, kind: str, carry: Any, x: Any) -> tuple[Any, Any]:
    """Run a cell whose state is reset in one of the ways of ``RESET_BY``; the carry has a counter and a flag."""
    import jax.numpy as jnp

    state, other, count, flag = carry
    is_end = jnp.any(x > RESETS)
    by = {"input": is_end, "counter": count % 3 == 0, "step before": flag}.get(kind, False)
    state = jnp.where(by, 0.0, state)
    if kind == "factor":
        state = state * (1.0 - flag)
    if kind == "zeros each time":
        state = jnp.zeros_like(state)
    state, y = inner(state, x)
    if kind == "after the step":
        state = state * (1.0 - is_end)
    if kind == "exchanged":
        state, other = other, state
    return (state, other, count + 1, is_end), y


@pytest.mark.skipif("nnx" not in INSTALLED, reason="needs Flax")
@pytest.mark.parametrize("kind", RESET_BY)
@pytest.mark.parametrize("framework", ["linen", "nnx"])
def test_a_state_that_is_reset_begins_a_pass(framework: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever resets it, before a step or after it."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    from flax import nnx

    def rest(shape: Any) -> Any:
        return jnp.zeros((*shape[:-1], 4)), jnp.zeros((*shape[:-1], 4)), jnp.zeros((), jnp.int32), jnp.zeros((), bool)

    class OfLinen(nn.RNNCellBase):
        inner: Any

        def __call__(self, carry: Any, x: Any) -> Any:
            return around(self.inner, kind, carry, x)

        def initialize_carry(self, rng: Any, shape: Any) -> Any:
            return rest(shape)

        @property
        def num_feature_axes(self) -> int:
            return 1

    class OfNnx(nnx.RNNCellBase):
        def __init__(self) -> None:
            self.inner = nnx.GRUCell(4, 4, rngs=nnx.Rngs(0))

        def __call__(self, carry: Any, x: Any) -> Any:
            return around(self.inner, kind, carry, x)

        def initialize_carry(self, shape: Any, rngs: Any = None) -> Any:
            return rest(shape)

        @property
        def num_feature_axes(self) -> int:
            return 1

    x = np.random.default_rng(0).standard_normal((3, 7, 4)).astype(np.float32)
    x[0, 4, 0] = 2 * RESETS
    if framework == "linen":
        net = nn.RNN(OfLinen(nn.GRUCell(4)))
        found = both(monkeypatch, net.init(jax.random.key(0), x), x, net.apply)
    else:
        found = both(monkeypatch, nnx.RNN(OfNnx(), rngs=nnx.Rngs(0)), x)
    same(found)
    assert one_pass() == [False]
    steps = {"input": [4, 3], "counter": [3, 3, 1], "exchanged": [7], "zeros each time": [7]}.get(kind, [5, 2])
    assert [arrival.values.shape[1] for arrival in found[0].networks[0].arrivals] == steps


@pytest.mark.skipif("linen" not in INSTALLED, reason="needs Flax")
@pytest.mark.parametrize("kind", ["cells after each other", "half precision", "more input", "many members"])
def test_states_that_cells_alone_make_are_one_pass(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    dtype = jnp.bfloat16 if kind == "half precision" else jnp.float32

    class Two(nn.RNNCellBase):
        """A cell of two that follow each other."""

        first: Any
        second: Any

        def __call__(self, carry: Any, x: Any) -> Any:
            one, y = self.first(carry[0], 2.0 * x if kind == "more input" else x)
            two, y = self.second(carry[1], y)
            return (one, two), y

        def initialize_carry(self, rng: Any, shape: Any) -> Any:
            zero = jnp.zeros((*shape[:-1], 4), dtype)
            return zero, (zero, zero)

        @property
        def num_feature_axes(self) -> int:
            return 1

    x = np.random.default_rng(0).standard_normal((3, 7, 4)).astype(np.float32)
    net = nn.RNN(Two(nn.GRUCell(4, dtype=dtype), nn.OptimizedLSTMCell(4, dtype=dtype)))
    tree, apply = net.init(jax.random.key(0), x), net.apply

    def each(tree: Any, x: Any) -> Any:
        return jax.vmap(lambda x: net.apply(tree, x))(x)

    same(both(monkeypatch, tree, x, each if kind == "many members" else apply))
    assert one_pass() == [True]


@pytest.mark.skipif("nnx" not in INSTALLED, reason="needs Flax")
def test_a_layer_that_nothing_waits_for_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from critinit_adapters.shared import jax_compiling
    from flax import nnx

    def loops(*layers: Any) -> int:
        monkeypatch.setattr(jax_compiling, "_PROGRAMS", type(jax_compiling._PROGRAMS)())
        adapter: Any = find_adapter(layers[0], None, {})
        adapter.trace(nnx.Sequential(*layers), Runner(np.ones((2, 5, 4), np.float32), None), {})
        ((program,),) = jax_compiling._PROGRAMS.values()
        assert program is not None
        return program.run.as_text().count(" while(")

    one, two, three = (nnx.RNN(nnx.GRUCell(4, 4, rngs=nnx.Rngs(i))) for i in range(3))
    assert [loops(one), loops(one, two), loops(one, two, three)] == [0, 1, 2]
