"""One small valid member of each kind, as the text of the one file that it takes."""

from __future__ import annotations

__all__ = ["ADAPTER", "BIAS", "CELL", "KERNEL", "LAYOUT", "MEMBERS", "SCHEME"]

CELL = '''
"""A cell that forgets at a rate that one gate chooses."""

import numpy as np

from critinit import Cell, sigmoid


class Member(Cell):
    name = "toy"
    gates = ("forget", "content")
    keep_gate = write_gate = "forget"
    candidate_gate = "content"

    def update(self, s, u):
        keep = sigmoid(u["forget"])
        return keep * s + (1 - keep) * np.tanh(u["content"])
'''

SCHEME = '''
"""A scheme: Glorot's input kernels of the given sizes, and a keep gate that is open."""

from critinit.schemes import Scheme, bias, gate, kernel


def gates(layer):
    made = {}
    for name in layer.cell.gates:
        keep = name == layer.cell.keep_gate
        recurrent = kernel("uniform", 0.25)
        made[name] = gate(recurrent, kernel("uniform", 1.0, fan="average"), bias(3.0 if keep else 0.0))
    return made


Member = Scheme("toy", "an open keep gate, Glorot's input kernels", gates)
'''

KERNEL = '''
"""Kernels of Laplace-distributed entries."""

import math
from typing import Literal

from pydantic import Field

from critinit.distributions import EntryKernel, Outcome, goodness, numbers, register_distribution


@register_distribution
class Member(EntryKernel):
    distribution: Literal["toy"] = "toy"
    variance: numbers.NonNegative = Field(description="Var(entry) times fan-in.")

    def draw(self, drawing):
        rows, columns = drawing.rows, drawing.columns
        scale = self.deviation(rows, columns) / math.sqrt(2.0)
        return drawing.numpy(lambda rng: rng.laplace(0.0, scale, (rows, columns)))

    def check(self, observed):
        from scipy.stats import laplace

        scale = self.deviation(*observed.values.shape) / math.sqrt(2.0)
        shares = laplace(0.0, scale).cdf(goodness.thinned(observed.values.ravel()))
        return (Outcome("shape", goodness.kolmogorov_smirnov(shares)),)
'''

BIAS = '''
"""Biases that are uniform over units."""

import math
from typing import Literal

import numpy as np
from pydantic import Field

from critinit.distributions import Bias, Outcome, goodness, numbers, register_distribution


@register_distribution
class Member(Bias):
    distribution: Literal["toy"] = "toy"
    mean: numbers.Finite = Field(description="Mean over units.")
    variance: numbers.NonNegative = Field(description="Variance over units.")

    @property
    def reach(self):
        return math.sqrt(3.0 * self.variance)

    def draw(self, rng, units):
        return self.quantile(rng.random(units))

    def quantile(self, q):
        return self.mean + self.reach * (2.0 * np.asarray(q) - 1.0)

    def check(self, observed):
        shares = np.clip(0.5 * ((observed.values - self.mean) / self.reach + 1.0), 0.0, 1.0)
        return (Outcome("shape", goodness.kolmogorov_smirnov(shares)),)

    def describe(self):
        return f"uniform, {self.mean - self.reach:.4g} to {self.mean + self.reach:.4g}"
'''

ADAPTER = '''
"""An adapter for models that are dictionaries."""

from critinit.tensors.application import Applied, Report
from critinit.tensors.sampling import draw


class Toy:
    framework = "toys"
    module = "toy"

    def claims(self, target, options):
        return type(target) is dict

    def apply(self, spec, target, *, seed, sampler, include, options):
        weights = draw(spec, target["input"], target["hidden"], seed=seed)
        return Applied({**target, "weights": weights}, Report((), seed))


Member = Toy()
'''

LAYOUT = '''
"""A layout that has no form of any cell."""

from critinit.tensors.layouts import Layout

Member = Layout(
    framework="toy",
    forms=(),
    path=lambda form, layers, directions, layer, direction: "",
    split=lambda name: None,
    model="a dictionary",
)
'''

MEMBERS = {"cell": CELL, "scheme": SCHEME, "kernel": KERNEL, "bias": BIAS, "adapter": ADAPTER, "layout": LAYOUT}
