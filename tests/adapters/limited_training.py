"""Trains one GRU with the same weights, data and limits by torch, optax and Keras in float64, and saves a Keras model.

Run it with ``python -m tests.adapters.limited_training curves`` (prints the losses as JSON), ``... save FOLDER`` and
``... load FOLDER``, with ``KERAS_BACKEND`` and ``JAX_ENABLE_X64=1`` set.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import torch
from flax import linen

import critinit

M, H, T, B, STEPS, RATE = 2, 6, 8, 4, 20, 0.02
SPEC = critinit.generate(
    "gru",
    T=10,
    settings=[
        "layers.0.gates.*.recurrent.variance=0.5",
        "layers.0.gates.candidate.recurrent.max_learning_rate=1e-4",
        "layers.0.gates.update.input.max_learning_rate=3e-3",
        "layers.0.gates.update.bias.max_learning_rate=1e-3",
        "layers.0.gates.reset.bias.max_learning_rate=1",
    ],
)
X = np.random.default_rng(0).standard_normal((B, T, M))
READ = np.random.default_rng(1).standard_normal(H)
"""The readout; it is not trained."""
TARGET = np.array([1.0, -1.0, 0.5, 0.0])


def by_torch(name: str) -> list[float]:
    """The losses of torch's GRU."""
    model = torch.nn.GRU(M, H, batch_first=True, dtype=torch.float64)
    applied = critinit.apply(SPEC, model, seed=3)
    # the other two have a second bias inside the candidate alone
    model.bias_hh_l0.register_hook(lambda g: g * torch.cat([torch.zeros(2 * H), torch.ones(H)]))
    made = torch.optim.Adam if name == "adam" else torch.optim.SGD
    momentum = {} if name == "adam" else {"momentum": 0.9}
    optimizer = critinit.limit_steps(made(model.parameters(), RATE, **momentum), applied)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        out = model(torch.from_numpy(X))[0][:, -1] @ torch.from_numpy(READ)
        loss = (out - torch.from_numpy(TARGET)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def by_optax(name: str) -> list[float]:
    """The losses of Linen's GRU cell, every step under jit, with the rate as a schedule."""
    cell = linen.RNN(linen.GRUCell(H, dtype=jnp.float64, param_dtype=jnp.float64))
    applied = critinit.apply(SPEC, cell.init(jax.random.key(0), X), seed=3)
    params = applied.model["params"]
    made = optax.adam(RATE) if name == "adam" else optax.sgd(RATE, momentum=0.9)
    optimizer = critinit.limit_steps(made, applied, optax.constant_schedule(RATE))
    state = optimizer.init(params)

    def loss_of(params: Any) -> Any:
        return jnp.mean((cell.apply({"params": params}, X)[:, -1] @ READ - TARGET) ** 2)

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        loss, gradient = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(gradient, state, params)
        return loss, optax.apply_updates(params, updates), state

    losses = []
    for _ in range(STEPS):
        loss, params, state = step(params, state)
        losses.append(float(loss))
    return losses


class InCandidate(keras.constraints.Constraint):
    """Holds the second bias of the gates update and reset at 0, which the other two frameworks do not have."""

    def __call__(self, w: Any) -> Any:
        mask = np.ones(w.shape)
        mask[1, : 2 * H] = 0.0
        return w * keras.ops.cast(mask, w.dtype)


def keras_model() -> Any:
    """A GRU with a readout that is not trained."""
    gru = keras.layers.GRU(H, dtype="float64", bias_constraint=InCandidate())
    readout = keras.layers.Dense(1, use_bias=False, trainable=False, dtype="float64")
    model = keras.Sequential([keras.Input((T, M), dtype="float64"), gru, readout])
    readout.set_weights([READ[:, None]])
    return model


def optimizer_of(name: str) -> Any:
    """The same optimizer of Keras."""
    return keras.optimizers.Adam(RATE, epsilon=1e-8) if name == "adam" else keras.optimizers.SGD(RATE, momentum=0.9)


def fitted(model: Any, steps: int) -> list[float]:
    """The losses of a compiled model."""
    kept = model.fit(X, TARGET[:, None], batch_size=B, epochs=steps, shuffle=False, verbose=0)
    return [float(loss) for loss in kept.history["loss"]]


def by_keras(name: str) -> list[float]:
    """The losses of Keras' GRU."""
    model = keras_model()
    applied = critinit.apply(SPEC, model, seed=3)
    model.compile(critinit.limit_steps(optimizer_of(name), applied), "mse")
    return fitted(model, STEPS)


def save(folder: Path) -> None:
    """Train, save in the middle, and keep the losses of the rest."""
    model = keras_model()
    applied = critinit.apply(SPEC, model, seed=3)
    schedule = keras.optimizers.schedules.ExponentialDecay(RATE, 3, 0.5)
    optimizer = critinit.limit_steps(keras.optimizers.AdamW(schedule, weight_decay=0.1), applied)
    model.compile(optimizer, "mse")
    fitted(model, 4)
    model.save(folder / "limited.keras")
    (folder / "losses.json").write_text(json.dumps(fitted(model, 6)))


def load(folder: Path) -> None:
    """Load and go on: the limits are kept, and the losses are those of the run that was not interrupted."""
    from critinit_adapters.keras import LimitedOptimizer

    model = keras.models.load_model(folder / "limited.keras", custom_objects={"InCandidate": InCandidate})
    assert isinstance(model.optimizer, LimitedOptimizer)
    before = [np.array(w) for w in model.get_weights()]
    losses = fitted(model, 6)
    assert np.allclose(losses, json.loads((folder / "losses.json").read_text()), rtol=1e-9, atol=0)
    recurrent = np.abs(model.get_weights()[1] - before[1])
    # six steps of 1e-4; Adam's steps exceed its rate a little where gradients grow
    assert 0 < recurrent[:, 2 * H :].max() < 7e-4 < recurrent[:, : 2 * H].max()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["curves"]:
            ways = {"torch": by_torch, "optax": by_optax, "keras": by_keras}
            print(json.dumps({name: {way: run(name) for way, run in ways.items()} for name in ("adam", "sgd")}))
        case ["save", folder]:
            save(Path(folder))
        case ["load", folder]:
            load(Path(folder))
