"""A cell for the tests: JANET, stated by its update alone."""

from __future__ import annotations

import numpy as np

from critinit import Cell, sigmoid


class JANET(Cell):
    name = "janet_tested"
    gates = ("forget", "cell")
    keep_gate = write_gate = "forget"
    candidate_gate = "cell"

    def update(self, s, u):
        f = sigmoid(u["forget"])
        return f * s + (1 - f) * np.tanh(u["cell"])
