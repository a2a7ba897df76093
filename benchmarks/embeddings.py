"""What to state as the input variance behind a trainable embedding: training a small task from several starts.

``python -m benchmarks embeddings [--framework torch|keras] [--steps N] [--seeds N] [--width F] [--cells …]
[--starts …] [--ways …] [--rates …]`` prints a line of JSON for each run: the accuracy on 1,000 fresh sequences after N
steps of Adam.

The first of 100 tokens is one of 8 and is asked at the end; the others are drawn from 24 more.  The embedding has F
numbers a token (32), the layer 32 units.  R is the embedding's mean square at the start.

    true      the spec states R
    one       it states 1
    bound     it states max(R, 1/F), as ``critinit.initialize`` does; bound4 and bound16: max(R, 4/F), max(R, 16/F)
    unit      the embedding is multiplied so that its rows have length 1, and the spec states 1/F
    rescale   the embedding is multiplied by 1/√R, and the spec states 1
    default   the framework's own start of the recurrent layer
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from benchmarks._options import count
from critinit import apply, generate

__all__ = ["main"]

CLASSES, TOKENS, T = 8, 32, 100
"""First tokens, all tokens, and steps: few enough to be learned in a few hundred steps."""
UNITS, BATCH = 32, 32
"""Units, and sequences in a batch."""
BOUNDS = {"bound": 1.0, "bound4": 4.0, "bound16": 16.0}
"""The least R that a way states, times F."""
TESTED = 1000
"""Fresh sequences on which the accuracy is measured."""
WAYS = ("true", *BOUNDS, "one", "unit", "rescale", "default")
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
STARTS = {"keras": 1 / 1200, "small": 4e-4, "torch": 1.0}
"""Mean square of an embedding at its start: Keras' U(±.05), a deviation of .02, and PyTorch's N(0, 1)."""


def batch(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of tokens, and the first of each."""
    tokens = rng.integers(CLASSES, TOKENS, (size, T))
    tokens[:, 0] = rng.integers(0, CLASSES, size)
    return tokens, tokens[:, 0].copy()


def stated(way: str, power: float, width: int) -> float:
    """The input variance that a way states."""
    if way in BOUNDS:
        return max(power, BOUNDS[way] / width)
    return {"true": power, "unit": 1.0 / width}.get(way, 1.0)


def table(start: str, way: str, width: int, seed: int) -> np.ndarray:
    """The embedding at its start."""
    rng = np.random.default_rng([seed, 1])
    power = STARTS[start]
    bound = np.sqrt(3.0 * power)
    normal = rng.standard_normal((TOKENS, width)) * np.sqrt(power)
    drawn = rng.uniform(-bound, bound, (TOKENS, width)) if start == "keras" else normal
    wanted = {"rescale": 1.0, "unit": 1.0 / width}.get(way)
    return drawn if wanted is None else drawn * np.sqrt(wanted / np.mean(drawn**2))


def with_torch(cell: str, start: str, way: str, rate: float, seed: int, width: int, steps: int) -> float:
    """Train in PyTorch; return the accuracy."""
    import torch

    torch.manual_seed(seed)
    embedding = torch.nn.Embedding.from_pretrained(torch.tensor(table(start, way, width, seed)).float(), freeze=False)
    layer = getattr(torch.nn, cell.upper())(width, UNITS, batch_first=True)
    head = torch.nn.Linear(UNITS, CLASSES)
    if way != "default":
        apply(generate(cell, T, input_variance=stated(way, STARTS[start], width)), layer, seed=seed)
    parameters = [*embedding.parameters(), *layer.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=rate)
    rng = np.random.default_rng([seed, 2])

    def logits(tokens: np.ndarray) -> Any:
        return head(layer(embedding(torch.from_numpy(tokens)))[0][:, -1])

    for _ in range(steps):
        x, y = batch(rng, BATCH)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits(x), torch.from_numpy(y)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    with torch.no_grad():
        x, y = batch(rng, TESTED)
        return float((logits(x).argmax(1).numpy() == y).mean())


def with_keras(cell: str, start: str, way: str, rate: float, seed: int, width: int, steps: int) -> float:
    """Train in Keras, whose own embedding is used where ``start`` is its; return the accuracy."""
    import keras

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    embedding, recurrent = layers.Embedding(TOKENS, width), getattr(layers, cell.upper())(UNITS)
    model = keras.Sequential([keras.Input((T,), dtype="int32"), embedding, recurrent, layers.Dense(CLASSES)])
    if start != "keras" or way in ("rescale", "unit"):
        embedding.set_weights([table(start, way, width, seed)])
    if way != "default":
        apply(generate(cell, T, input_variance=stated(way, STARTS[start], width)), model, seed=seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate, clipnorm=1.0), loss, metrics=["accuracy"])
    rng = np.random.default_rng([seed, 2])
    model.fit(*batch(rng, steps * BATCH), batch_size=BATCH, epochs=1, verbose=0)
    return float(model.evaluate(*batch(rng, TESTED), batch_size=TESTED, verbose=0)[1])


TRAIN: dict[str, Callable[..., float]] = {"torch": with_torch, "keras": with_keras}


def runs(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Train everything that is asked for, run by run."""
    asked = (options.cells, options.starts, options.ways, options.rates, range(options.seeds))
    for cell, start, way, rate, seed in product(*asked):
        began = time.perf_counter()
        accuracy = TRAIN[options.framework](cell, start, way, rate, seed, options.width, options.steps)
        run = {"framework": options.framework, "cell": cell, "width": options.width}
        run |= {"start": start, "way": way, "rate": rate, "seed": seed}
        yield {**run, "accuracy": round(accuracy, 3), "seconds": round(time.perf_counter() - began, 1)}


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks embeddings", description=__doc__)
    parser.add_argument("--framework", choices=tuple(TRAIN), default="torch")
    parser.add_argument("--steps", type=count, default=200)
    parser.add_argument("--width", type=count, default=32)
    parser.add_argument("--seeds", type=count, default=2)
    parser.add_argument("--cells", nargs="+", choices=("lstm", "gru"), default=["lstm", "gru"])
    parser.add_argument("--starts", nargs="+", choices=tuple(STARTS), default=["keras"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["true", "bound", "one", "rescale"])
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES))
    for run in runs(parser.parse_args(arguments)):
        print(json.dumps(run), flush=True)
    return 0
