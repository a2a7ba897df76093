"""Recurrent networks written out by hand: what theory says of them is held to what they do.

Nothing here is shared with the package: every cell's recurrence is written down below, weights and biases are drawn
here, and averages are plain means.  A perturbation is followed by complex steps: the state is s + iε δ, and the
imaginary part of the next one is ε times the derivative along δ, without any error of differences (ε = 1e-100, so its
square is nothing).  K perturbations of one network are K rows whose real parts are alike.

A layer is what a spec's JSON says of it: ``spec.to_dict()["layers"][0]``.

    tied      the weights are drawn once, and stay
    untied    they are drawn anew at every step.  Of a fresh N × N matrix W only W X is needed for the few rows X at
              hand: with Xᵀ = Q R it is (W Q) R, and W Q is a fresh N × k block.

The growth over T steps is that of the mean over perturbations, E|δ_T|²/E|δ_0|², of each network; δ is in the memory,
of which the visible state follows at fixed gates.  Networks are averaged in the logarithm, and their scatter is the
standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm

__all__ = ["CELLS", "Estimate", "Measured", "measure"]

EPSILON = 1e-100


class Estimate(NamedTuple):
    """A mean over networks and its standard error."""

    mean: float
    error: float


class Measured(NamedTuple):
    """What networks did.

    Attributes:
        log_retention: ln E|δ_T|²/E|δ_0|².
        half_way: The same after T/2 steps.
        second_moment: Mean square of the visible state over units and the T steps.
        memory_moment: That of the memory.
    """

    log_retention: Estimate
    half_way: Estimate
    second_moment: Estimate
    memory_moment: Estimate


# ---- the cells, one step each: (memory, visible state, what comes from outside, W) -> (memory, open read gate) ----


def sigmoid(x):
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def rnn(s, h, e, w):
    return np.tanh(e["hidden"] + w("hidden", h)), None


def relu_rnn(s, h, e, w):
    u = e["hidden"] + w("hidden", h)
    return np.where(u.real > 0, u, 0), None


def ugrnn(s, h, e, w):
    f = sigmoid(e["update"] + w("update", h))
    n = np.tanh(e["candidate"] + w("candidate", h))
    return f * h + (1 - f) * n, None


def minimal_rnn(s, h, e, w):
    f = sigmoid(e["update"] + w("update", h))
    return f * h + (1 - f) * e["x"], None


def gru(s, h, e, w):
    f = sigmoid(e["update"] + w("update", h))
    r = sigmoid(e["reset"] + w("reset", h))
    n = np.tanh(e["candidate"] + r * w("candidate", h))
    return f * h + (1 - f) * n, None


def gru_reset_before(s, h, e, w):
    f = sigmoid(e["update"] + w("update", h))
    r = sigmoid(e["reset"] + w("reset", h))
    n = np.tanh(e["candidate"] + w("candidate", r * h))
    return f * h + (1 - f) * n, None


def mgu(s, h, e, w):
    f = sigmoid(e["update"] + w("update", h))
    n = np.tanh(e["candidate"] + w("candidate", (1 - f) * h))
    return f * h + (1 - f) * n, None


def lstm(s, h, e, w):
    i = sigmoid(e["input"] + w("input", h))
    f = sigmoid(e["forget"] + w("forget", h))
    g = np.tanh(e["cell"] + w("cell", h))
    o = sigmoid(e["output"] + w("output", h))
    return f * s + i * g, o


def coupled_lstm(s, h, e, w):
    f = sigmoid(e["forget"] + w("forget", h))
    g = np.tanh(e["cell"] + w("cell", h))
    o = sigmoid(e["output"] + w("output", h))
    return f * s + (1 - f) * g, o


def peephole_lstm(s, h, e, w):
    i = sigmoid(e["input"] + w("input", s))
    f = sigmoid(e["forget"] + w("forget", s))
    g = np.tanh(e["cell"] + w("cell", s))
    return f * s + i * g, None


CELLS: Mapping[str, Callable[..., Any]] = {
    "rnn": rnn,
    "minimal_rnn": minimal_rnn,
    "gru": gru,
    "gru_reset_before": gru_reset_before,
    "mgu": mgu,
    "lstm": lstm,
    "coupled_lstm": coupled_lstm,
    "projection_lstm": lstm,
    "peephole_lstm": peephole_lstm,
    "relu_rnn": relu_rnn,
    "ugrnn": ugrnn,
    "layernorm_gru": gru,
    "layernorm_lstm": lstm,
    "layernorm_lstm_kept": lstm,
}
"""``projection_lstm`` is the LSTM whose kernels read P h; of the normalized cells W m, U x and c are normalized."""


def normalized(y):
    """y less its mean over the units, by its deviation."""
    y = y - y.mean(axis=-1, keepdims=True)
    size = np.sqrt((y * y).mean(axis=-1, keepdims=True))
    return np.divide(y, size, out=np.zeros_like(y), where=size != 0)


# ---- weights ------------------------------------------------------------------------------------------------------


def matrix(kernel, rows, columns, rng):
    """One matrix: ``variance`` is that of an entry times the columns, or the gain squared."""
    gain, kind = math.sqrt(kernel["variance"]), kernel["distribution"]
    if kind == "zero" or gain == 0.0:
        return np.zeros((rows, columns))
    if kind == "identity":
        return gain * np.eye(rows)
    if kind == "orthogonal":
        q, r = np.linalg.qr(rng.standard_normal((columns, columns)))
        return np.ascontiguousarray(gain * (q * np.sign(np.diag(r))).T[:rows])
    if kind == "uniform":
        return rng.uniform(-1, 1, (rows, columns)) * (gain * math.sqrt(3 / columns))
    if kind == "normal":
        return rng.standard_normal((rows, columns)) * (gain / math.sqrt(columns))
    raise NotImplementedError(kind)


def biases(gates, width, rng):
    """Of every gate, (width,); one in each of ``width`` equal strata, in random order."""
    drawn = {}
    for name, gate in gates.items():
        bias, u = gate["bias"], (rng.permutation(width) + rng.random(width)) / width
        match bias["distribution"]:
            case "constant":
                drawn[name] = np.full(width, bias["mean"])
            case "normal":
                drawn[name] = bias["mean"] + math.sqrt(bias["variance"]) * norm.ppf(u)
            case "log_uniform_time":
                low, high = math.log(bias["min_time"]), math.log(bias["max_time"])
                drawn[name] = np.log(np.exp(low + (high - low) * u) - 1)
            case "uniform_time":
                drawn[name] = np.log(bias["min_time"] + (bias["max_time"] - bias["min_time"]) * u - 1)
            case "coupled":
                pass
            case other:
                raise NotImplementedError(other)
    for name, gate in gates.items():
        if gate["bias"]["distribution"] == "coupled":
            drawn[name] = gate["bias"]["sign"] * drawn[gate["bias"]["to"]]
    return {name: drawn[name] for name in gates}


# ---- networks -----------------------------------------------------------------------------------------------------


def kept(w):
    """z -> z Wᵀ for rows z, all of one real part where they are complex; W in single precision, as networks have it."""
    transposed = np.ascontiguousarray(w.T, dtype=np.float32)

    def rows(x):
        # a row by itself: a product of a few rows copies the matrix first
        return np.stack([row @ transposed for row in x.astype(np.float32)]).astype(float)

    def product(z):
        if np.isrealobj(z):
            return rows(z)
        size = max(float(np.abs(z.imag).max()), EPSILON**3)
        y = rows(np.concatenate([z[:1].real, z.imag / size]))
        return y[0] + 1j * size * y[1:]

    return product


def drawn_anew(kernel, rows, columns, rng):
    """The same with another W at every call."""
    gain = math.sqrt(kernel["variance"])

    def fresh(x):
        if kernel["distribution"] == "zero" or gain == 0.0:
            return np.zeros((len(x), rows))
        _, r = np.linalg.qr(x.T)
        block = rng.standard_normal((max(rows, columns), len(x)))
        block = np.linalg.qr(block)[0] * math.sqrt(columns) if kernel["distribution"] == "orthogonal" else block
        return (gain / math.sqrt(columns) * block[:rows] @ r).T

    def product(z):
        if np.isrealobj(z):
            return fresh(z)
        y = fresh(np.concatenate([z[:1].real, z.imag / EPSILON]))
        return y[0] + 1j * EPSILON * y[1:]

    return product


class Network:
    """One network, its weights drawn once or anew at every step."""

    def __init__(self, cell: str, layer: Mapping[str, Any], width: int, tied: bool, rng: np.random.Generator) -> None:
        self.step, self.embeds, self.rng, self.width, self.tied = CELLS[cell], cell == "minimal_rnn", rng, width, tied
        self.gates, self.power = layer["gates"], layer["input"]["variance"]
        projection = layer.get("projection")
        self.coordinates = width if projection is None else round(projection["width"] * width)

        def operator(kernel, rows, columns):
            return kept(matrix(kernel, rows, columns, rng)) if tied else drawn_anew(kernel, rows, columns, rng)

        self.recurrent = {n: operator(g["recurrent"], width, self.coordinates) for n, g in self.gates.items()}
        self.project = None if projection is None else operator(projection["kernel"], self.coordinates, width)
        fed = self.embeds and tied
        self.feed = kept(matrix(self.gates["update"]["input"], width, width, rng)) if fed else None
        self.biases = biases(self.gates, width, rng)
        self.keeps = layer["memory_gain"] if cell == "layernorm_lstm_kept" else None
        self.reads = layer.get("memory_gain") if cell == "layernorm_lstm" else None

    def product(self, gate, m):
        """W m, of a normalized cell γ_h norm(W m)."""
        y, gain = self.recurrent[gate](m), self.gates[gate].get("recurrent_gain")
        return y if gain is None else gain * normalized(y)

    def after(self, s, h, e):
        """The memory after a step, and the open read gate."""
        s, o = self.step(s, h, e, self.product)
        return (s if self.keeps is None else self.keeps * normalized(s)), o

    def visible(self, s, o):
        seen = s if self.reads is None else self.reads * normalized(s)
        h = s if o is None else o * np.tanh(seen)
        return h if self.project is None else self.project(h)

    def outside(self, steps: int) -> Iterator[dict[str, Any]]:
        """U x + b of every gate, one step after the other; of a cell that embeds its input also x.

        The inputs have far more coordinates than there are units, so U x is a fresh Gaussian vector.  With as few as
        units, rows of the kernels of two gates overlap by √(1/M), which moves a slow unit for good.
        """
        for _ in range(steps):
            out: dict[str, Any] = {}
            again = biases(self.gates, self.width, self.rng) if self._redraws() else self.biases
            for name, gate in self.gates.items():
                bias = again if self._of(name)["distribution"] == "normal" else self.biases
                noise = self.rng.standard_normal(self.width)
                fed = math.sqrt(gate["input"]["variance"] * self.power) * noise
                if gate.get("input_gain") is not None:
                    fed = gate["input_gain"] * normalized(fed)
                out[name] = fed + bias[name]
            if self.embeds:
                out["x"] = math.sqrt(self.power) * self.rng.standard_normal(self.width)
                if self.feed is not None:
                    out["update"] = self.feed(out["x"][None])[0] + self.biases["update"]
            yield out

    def _of(self, name):
        bias = self.gates[name]["bias"]
        return self.gates[bias["to"]]["bias"] if bias["distribution"] == "coupled" else bias

    def _redraws(self):
        """Normal biases are drawn anew with the weights; biases that are spread over units stay with them."""
        return not self.tied and any(self._of(name)["distribution"] == "normal" for name in self.gates)


def follow(network: Network, T: int, burn_in: int, directions: int) -> tuple[float, float, float, float]:
    """ln of the retention after T and T/2 steps, and the second moments of visible state and memory."""
    s, h, o = np.zeros((1, network.width)), np.zeros((1, network.coordinates)), None
    for e in network.outside(burn_in):
        s, o = network.after(s, h, e)
        h = network.visible(s, o)
    delta = network.rng.standard_normal((directions, network.width))
    s = s + 1j * EPSILON * delta
    h = network.visible(s, o)
    start, half, squares = np.mean(delta**2), 0.0, []
    for t, e in enumerate(network.outside(T)):
        s, o = network.after(s, h, e)
        h = network.visible(s, o)
        squares.append((np.mean(h[0].real ** 2), np.mean(s[0].real ** 2)))
        if t + 1 == T // 2:
            half = np.mean((s.imag / EPSILON) ** 2)
    visible, memory = np.mean(squares, axis=0)
    left = np.mean((s.imag / EPSILON) ** 2)
    with np.errstate(divide="ignore"):
        return np.log(left / start), np.log(half / start), visible, memory


def measure(
    cell: str,
    layer: Mapping[str, Any],
    *,
    T: int,
    tied: bool,
    width: int,
    networks: int,
    burn_in: int,
    seed: int,
    directions: int = 2,
) -> Measured:
    """Return what networks of one layer do over T steps.

    Args:
        cell: The cell's name.
        layer: The layer as a spec's JSON has it.
        T: Steps that a perturbation is followed.
        tied: Whether the weights stay.
        width: Units of a network.
        networks: How many, at least 2.
        burn_in: Steps from rest to the perturbation.
        seed: Seed of all that is drawn.
        directions: K, perturbations of each network.
    """
    found = np.array(
        [
            follow(Network(cell, layer, width, tied, np.random.default_rng(child)), T, burn_in, directions)
            for child in np.random.SeedSequence([seed, int(tied)]).spawn(networks)
        ]
    )
    errors = found.std(axis=0, ddof=1) / math.sqrt(networks)
    return Measured(*(Estimate(float(m), float(e)) for m, e in zip(found.mean(axis=0), errors, strict=True)))
