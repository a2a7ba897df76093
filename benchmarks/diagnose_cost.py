"""What ``critinit.diagnose`` costs beside a training step of the same batch.

``python -m benchmarks diagnose_cost`` takes one thread, 32 sequences of 100 steps and 8 inputs, Adam and a readout of
the last state.  Times are processor time, of later calls the least of several, because a busy machine only adds.
Training steps and diagnoses take turns, so that both meet the same load.  The first call stands apart: it imports,
fills caches and, on JAX, compiles.  ``--framework`` is torch, keras (on the backend that ``KERAS_BACKEND`` names),
nnx, linen or equinox.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import critinit

__all__ = ["main"]

_SEQUENCES, _STEPS, _INPUTS = 32, 100, 8
_RUNS = 25
_UNITS = (64, 128, 256, 512)
_Pair = tuple[Callable[[], object], Callable[[], object]]


def _time(function: Callable[[], object]) -> float:
    """Processor time of a call, in milliseconds."""
    start = time.process_time()
    function()
    return 1e3 * (time.process_time() - start)


def _torch(cell: str, units: int, x: Any) -> _Pair:
    """A training step and a diagnosis in PyTorch."""
    import torch

    torch.set_num_threads(1)
    rnn = getattr(torch.nn, cell.upper())(_INPUTS, units, batch_first=True)
    head = torch.nn.Linear(units, 1)
    optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()])
    batch = torch.from_numpy(x)
    spec = critinit.generate(cell, T=_STEPS)
    critinit.apply(spec, rnn, seed=0)

    def step() -> None:
        optimizer.zero_grad()
        (head(rnn(batch)[0][:, -1]) ** 2).mean().backward()
        optimizer.step()

    return step, lambda: critinit.diagnose(rnn, batch, spec)


def _keras(cell: str, units: int, x: Any) -> _Pair:
    """A training step and a diagnosis in Keras."""
    import keras

    rnn = getattr(keras.layers, cell.upper())(units)
    model = keras.Sequential([keras.Input((_STEPS, _INPUTS)), rnn, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    y = np.zeros((_SEQUENCES, 1), "float32")
    return lambda: model.train_on_batch(x, y), lambda: critinit.diagnose(model, x)


def _nnx(cell: str, units: int, x: Any) -> _Pair:
    """A training step and a diagnosis in Flax NNX."""
    import jax
    import optax
    from flax import nnx

    kinds = {"gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}

    class Net(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.rnn = nnx.RNN(kinds[cell](_INPUTS, units, rngs=rngs))
            self.head = nnx.Linear(units, 1, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.head(self.rnn(x)[:, -1])

    model = Net(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any, x: Any) -> Any:
        loss, gradient = nnx.value_and_grad(lambda m: (m(x) ** 2).mean())(model)
        optimizer.update(model, gradient)
        return loss

    return lambda: jax.block_until_ready(step(model, optimizer, x)), lambda: critinit.diagnose(model, x)


def _optax_step(loss: Callable[[Any, Any], Any], tree: Any, x: Any) -> Callable[[], object]:
    """A training step of a tree of parameters."""
    import jax
    import optax

    optimizer = optax.adam(1e-3)
    state = optimizer.init(tree)

    @jax.jit
    def step(tree: Any, state: Any, x: Any) -> Any:
        updates, state = optimizer.update(jax.grad(loss)(tree, x), state)
        return optax.apply_updates(tree, updates), state

    return lambda: jax.block_until_ready(step(tree, state, x))


def _linen(cell: str, units: int, x: Any) -> _Pair:
    """A training step and a diagnosis in Flax Linen."""
    import flax.linen as nn
    import jax

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.Dense(1)(nn.RNN({"gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}[cell](units))(x)[:, -1])

    net = Net()
    tree = net.init(jax.random.key(0), x)
    step = _optax_step(lambda tree, x: (net.apply(tree, x) ** 2).mean(), tree, x)
    return step, lambda: critinit.diagnose(tree, x, call=net.apply, cell=cell)


def _equinox(cell: str, units: int, x: Any) -> _Pair:
    """A training step and a diagnosis in Equinox."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    class Net(eqx.Module):
        cell: Any
        head: Any

        def __call__(self, x: Any) -> Any:
            zero = jnp.zeros(units)
            state, _ = jax.lax.scan(lambda h, x: (self.cell(x, h), None), (zero, zero) if cell == "lstm" else zero, x)
            return self.head(jax.tree.leaves(state)[0])

    first, second = jax.random.split(jax.random.key(0))
    kind = {"gru": eqx.nn.GRUCell, "lstm": eqx.nn.LSTMCell}[cell]
    model = Net(kind(_INPUTS, units, key=first), eqx.nn.Linear(units, 1, key=second))
    arrays, rest = eqx.partition(model, eqx.is_array)

    def loss(arrays: Any, x: Any) -> Any:
        return (jax.vmap(eqx.combine(arrays, rest))(x) ** 2).mean()

    return _optax_step(loss, arrays, x), lambda: critinit.diagnose(model, x)


_FRAMEWORKS = {"torch": _torch, "keras": _keras, "nnx": _nnx, "linen": _linen, "equinox": _equinox}


def main(arguments: Sequence[str]) -> int:
    """Print a row for each cell and number of units.

    Args:
        arguments: Those of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks diagnose_cost", description=__doc__)
    parser.add_argument("--framework", choices=_FRAMEWORKS, default="torch")
    parser.add_argument("--units", type=int, nargs="+", default=_UNITS)
    options = parser.parse_args(arguments)
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")  # one thread, as for PyTorch
    x = np.random.default_rng(0).standard_normal((_SEQUENCES, _STEPS, _INPUTS)).astype("float32")
    print("cell  units  training step  diagnose  steps  first call")
    for cell in ("gru", "lstm"):
        for units in options.units:
            step, diagnosis = _FRAMEWORKS[options.framework](cell, units, x)
            step()
            first = _time(diagnosis)
            one, later = np.min([(_time(step), _time(diagnosis)) for _ in range(_RUNS)], axis=0)
            row = f"{cell:4}  {units:5}  {one:10.1f} ms  {later:5.1f} ms  {later / one:5.2f}  {first:7.0f} ms"
            print(row, flush=True)
    return 0
