"""Diagnosing changes nothing of a model, and says of bad batches in one line what is wrong with them."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import critinit
from critinit.errors import CritinitError

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
X = np.random.default_rng(0).standard_normal((4, 9, 3)).astype("float32")
Y = X[:, 0, :1].copy()


class Case(NamedTuple):
    """A model with dropout and batch normalization in training mode, and all that must stay."""

    model: Any
    state: Callable[[], object]
    call: Any = None
    convert: Callable[[Any], Any] = lambda x: x


def _torch() -> Case:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.norm = torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(3)
            self.rnn = torch.nn.LSTM(3, 5, 2, batch_first=True, dropout=0.5)

        def forward(self, x: Any) -> Any:
            return self.rnn(self.drop(self.norm(x.transpose(1, 2)).transpose(1, 2)))[0]

    model = Net()
    model(torch.from_numpy(X)).sum().backward()

    def state() -> object:
        tensors = {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}
        gradients = [parameter.grad.numpy().tobytes() for parameter in model.parameters()]
        needs = [parameter.requires_grad for parameter in model.parameters()]
        hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.modules()]
        return tensors, gradients, needs, hooks, torch.get_rng_state().numpy().tobytes(), torch.is_grad_enabled()

    return Case(model, state, None, torch.from_numpy)


def _keras() -> Case:
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((None, 3)), layers.BatchNormalization(), layers.Dropout(0.5), layers.GRU(5, dropout=0.5)]
    )
    model(X)  # after which Keras remembers that it was called

    def state() -> object:
        every = [model, *model._flatten_layers()]
        variables = [np.array(keras.ops.convert_to_numpy(v)).tobytes() for v in model.variables]
        flags = [(layer.trainable, sorted(vars(layer))) for layer in every]
        return variables, flags, [np.array(keras.ops.convert_to_numpy(keras.random.normal((1,), seed=1)))[0]]

    return Case(model, state)


def _nnx() -> Case:
    pytest.importorskip("flax")
    import jax
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.norm, self.drop = nnx.BatchNorm(3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
            self.rnn = nnx.RNN(nnx.GRUCell(3, 5, rngs=rngs))

        def __call__(self, x: Any) -> Any:
            return self.rnn(self.drop(self.norm(x)))

    model = Net(nnx.Rngs(0))

    def state() -> object:
        graph, values = nnx.split(model)
        leaves = [jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
                  for x in jax.tree.leaves(values)]  # fmt: skip
        return graph, [np.array(leaf).tobytes() for leaf in leaves], model.drop.deterministic, vars(nnx.RNN)["__call__"]

    return Case(model, state)


def _linen() -> Case:
    pytest.importorskip("flax")
    import flax.linen as nn
    import jax

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = nn.BatchNorm(use_running_average=True)(x)
            return nn.RNN(nn.OptimizedLSTMCell(5))(nn.Dropout(0.5, deterministic=True)(x))

    net = Net()
    variables = net.init(jax.random.key(0), X)
    return Case(variables, lambda: [np.array(leaf).tobytes() for leaf in jax.tree.leaves(variables)], net.apply)


def _equinox() -> Case:
    eqx = pytest.importorskip("equinox")
    import jax
    import jax.numpy as jnp

    class Net(eqx.Module):
        cell: Any
        drop: Any

        def __call__(self, x: Any) -> Any:
            return jax.lax.scan(lambda h, now: (self.cell(self.drop(now), h), None), jnp.zeros(5), x)[0]

    model = Net(eqx.nn.GRUCell(3, 5, key=jax.random.key(0)), eqx.nn.Dropout(0.5))

    def state() -> object:
        leaves, structure = jax.tree.flatten(model)
        return structure, [np.array(leaf).tobytes() for leaf in leaves if eqx.is_array(leaf)]

    return Case(model, state)


CASES = {"torch": _torch, "keras": _keras, "nnx": _nnx, "linen": _linen, "equinox": _equinox}
BAD = {
    "a wrong rank": X[0, 0],
    "other features": X[..., :2],
    "no sequences": X[:0],
    "no steps": X[:, :0],
    "one step": X[:, :1],
    "NaN": X * np.float32("nan"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_model_is_left_as_it_was_and_bad_batches_are_refused_in_one_line(name: str) -> None:
    case = CASES[name]()
    generators = random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    before = case.state()
    for _ in range(2):
        assert len(critinit.diagnose(case.model, case.convert(X), call=case.call)) > 0
        assert case.state() == before
    for what, batch in BAD.items():
        with pytest.raises(CritinitError) as error:
            critinit.diagnose(case.model, case.convert(batch), call=case.call)
        assert "\n" not in str(error.value), what
        assert case.state() == before, what
    assert generators == (random.getstate(), np.random.get_state()[1].tobytes())  # noqa: NPY002


@pytest.mark.parametrize("name", CASES)
def test_a_batch_of_one_sequence_will_do(name: str) -> None:
    case = CASES[name]()
    (first, *_) = critinit.diagnose(case.model, case.convert(X[:1]), call=case.call)
    assert first.numbers.sequences == 1
    assert first.numbers.standard_error["second_moment"] is None


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_torch_in_other_precisions(kind: str) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model, x = torch.nn.GRU(3, 16, batch_first=True), torch.from_numpy(X)
    single = critinit.diagnose(model, x)[0].numbers
    dtype = getattr(torch, kind)
    other = critinit.diagnose(model.to(dtype), x.to(dtype))[0].numbers
    assert other.retention == pytest.approx(single.retention, rel=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = critinit.diagnose(model.float(), x)[0].numbers
    assert mixed.retention == pytest.approx(single.retention, rel=0.05)


def test_within_a_transformation_of_jax_there_are_no_numbers() -> None:
    pytest.importorskip("flax")
    import jax

    for name in ("nnx", "linen", "equinox"):
        case = CASES[name]()
        with pytest.raises(CritinitError, match="outside of jit"):
            jax.jit(lambda x, case=case: critinit.diagnose(case.model, x, call=case.call)[0].numbers.retention)(X)


def test_every_function_that_takes_numbers_says_that_it_is_no_part_of_a_transformation() -> None:
    pytest.importorskip("equinox")
    import jax

    spec, case = critinit.generate("gru", T=20), CASES["equinox"]()
    weights = critinit.materialize(spec, "canonical", input_size=3, hidden_size=8, seed=0)
    asked = {
        "input_variance": lambda x: critinit.generate("gru", T=20, input_variance=x[0, 0, 0]),
        "T": lambda x: critinit.generate("gru", T=x[0, 0, 0]),
        "seed": lambda x: critinit.materialize(spec, "canonical", input_size=3, hidden_size=8, seed=x[0, 0, 0]),
        "the array": critinit.inputs.measure,
        "weights: .*": lambda x: critinit.check(spec, {name: x.sum() * w for name, w in weights.items()}),
        "batch": lambda x: critinit.measure(case.model, x, call=case.call),
    }
    for transform in (jax.jit, jax.vmap, lambda function: jax.grad(lambda x: function(x).sum())):
        for where, call in asked.items():
            with pytest.raises(
                CritinitError, match=f"^{where}: found (an array|arrays) without numbers, .*outside of jit, vmap"
            ):
                transform(call)(X if transform is not jax.vmap else X[None])


def test_a_tree_of_weights_is_refused_with_the_way_to_flatten_it() -> None:
    spec = critinit.generate("gru", T=20)
    weights = critinit.materialize(spec, "linen", input_size=3, hidden_size=8, seed=0)
    with pytest.raises(CritinitError, match=r"^weights: params: found a mapping; .*by their paths, as"):
        critinit.check(spec, {"params": weights})


COMPILING = ("jax", "tensorflow")
"""Keras's backends on which a model runs compiled."""


@pytest.mark.skipif(os.environ.get("KERAS_BACKEND") in COMPILING, reason="this process has that backend")
@pytest.mark.parametrize("backend", COMPILING)
def test_keras_runs_compiled(backend: str) -> None:
    """In a process of its own, as a process has one backend."""
    pytest.importorskip("keras")
    if not importlib.util.find_spec(backend):
        pytest.skip(f"needs {backend}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", __file__, "-k", "keras and not compiled or compiled_keras"],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout, done.stdout


@pytest.mark.skipif(os.environ.get("KERAS_BACKEND") not in COMPILING, reason="of Keras on JAX and TensorFlow")
@pytest.mark.parametrize("of", ["layers", "stacked cells"])
def test_a_compiled_keras_model_records_the_same(of: str) -> None:
    import keras

    from critinit.inputs.network import Runner
    from critinit.tensors.application import find_adapter
    from tests.adapters.test_compiled import same

    if keras.backend.backend() == "jax":
        from critinit_adapters.shared.jax_compiling import _PROGRAMS as kept
    else:
        from critinit_adapters.keras.graphs import _GRAPHS as kept
    layers = keras.layers
    stack = [layers.Bidirectional(layers.LSTM(4, return_sequences=True)), layers.GRU(3, go_backwards=True)]
    if of == "stacked cells":
        stack = [layers.RNN([layers.GRUCell(4), layers.LSTMCell(3)])]
    model = keras.Sequential([keras.Input((None, 3)), layers.Dense(3), layers.Masking(), *stack])
    model.layers[0].bias.assign([0.5, 0.0, 0.0])
    x = X.copy()
    adapter: Any = find_adapter(model, None, {})
    run = Runner(x, None)
    kept.clear()
    found = [adapter.trace(model, run, {}) for _ in range(2)]
    (program,) = kept.values()
    # of stacked cells the upper ones are seen within a loop, of which TensorFlow's graphs show nothing
    assert (program is None) == (of == "stacked cells" and keras.backend.backend() == "tensorflow")
    same([*found, adapter.trace(model, lambda *given: run(*given), {})])
    x[1, 5:] = 0.0
    model.layers[0].bias.assign([0.0, 0.0, 0.0])  # what stands in the weights and in the batch is read anew
    found = [adapter.trace(model, run, {}), adapter.trace(model, lambda *given: run(*given), {})]
    assert len(kept) == 1
    kept.clear()
    same(found)
    assert any(arrival.read is not None for network in found[0].networks for arrival in network.arrivals)
    assert any(not np.all(arrival.read) for arrival in found[0].networks[0].arrivals)
