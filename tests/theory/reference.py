"""The untied theory written out by hand, cell by cell, as an independent second way.

Nothing here is shared with the package: the couplings are derived on paper, the averages are Gauss–Hermite sums of 201
nodes on tensor grids (adaptive integration for the minimal RNN), the fixed points plain iterations or Brent's method.
A gate is (σ², ν², μ, ρ²).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq

Z, W = np.polynomial.hermite_e.hermegauss(201)
W = W / W.sum()


class Gate(NamedTuple):
    recurrent: float
    input: float
    mean: float
    variance: float = 0.0


class Result(NamedTuple):
    second_moment: float
    chi: float
    variance: float


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def nodes(gate: Gate, message: float, r: float):
    return gate.mean + np.sqrt(gate.recurrent * message + gate.input * r + gate.variance) * Z


def fixed_point(step, start=0.5):
    q = start
    for _ in range(20000):
        new = step(q)
        if abs(new - q) < 1e-15:
            break
        q = new
    return q


def rnn(hidden: Gate, r: float = 1.0) -> Result:
    q = fixed_point(lambda q: W @ np.tanh(nodes(hidden, q, r)) ** 2)
    slope = 1 - np.tanh(nodes(hidden, q, r)) ** 2
    v, v2 = hidden.recurrent * (W @ slope**2), hidden.recurrent**2 * (W @ slope**4)
    return Result(q, v, v2 + v**2 - v**2)  # J = D W: m2 = E v² + (E v)²


def minimal_rnn(update: Gate, r: float = 1.0) -> Result:
    """By adaptive integration: its gates may have large variances, where a Gauss rule of 201 nodes errs by 1e-6."""

    def moments(q):
        deviation = np.sqrt(update.recurrent * q + update.input * r + update.variance)

        def average(function):
            def integrand(z):
                return np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi) * function(sigmoid(update.mean + deviation * z))

            return quad(integrand, -12, 12, epsabs=1e-14, epsrel=1e-13, limit=400)[0]

        return average

    def excess(q):
        average = moments(q)
        return average(lambda f: f**2) * q + average(lambda f: (1 - f) ** 2) * r - q

    q = brentq(excess, 1e-9, r, xtol=1e-14)
    average = moments(q)
    slope2 = average(lambda f: (f * (1 - f)) ** 2)
    # h − z has second moment Q + R; the variance needs E h⁴ and is held on the other cells
    return Result(q, average(lambda f: f**2) + update.recurrent * slope2 * (q + r), float("nan"))


def _scalar_moments(keep, write, n):
    """E s … E s⁴ of s' = keep·s + write·n from the joint moments E keepᵃ writeᵇ and E nᵖ."""
    m1 = write(0, 1) * n(1) / (1 - keep(1))
    m2 = (2 * write(1, 1) * n(1) * m1 + write(0, 2) * n(2)) / (1 - keep(2))
    m3 = (3 * write(2, 1) * n(1) * m2 + 3 * write(1, 2) * n(2) * m1 + write(0, 3) * n(3)) / (1 - keep(3))
    m4 = 4 * write(3, 1) * n(1) * m3 + 6 * write(2, 2) * n(2) * m2 + 4 * write(1, 3) * n(3) * m1 + write(0, 4) * n(4)
    return m1, m2, m3, m4 / (1 - keep(4))


def gru(update: Gate, reset: Gate, candidate: Gate, *, after: bool, r: float = 1.0) -> Result:
    y_grid, w_grid = np.polynomial.hermite_e.hermegauss(61)
    w_grid = w_grid / w_grid.sum()

    def parts(q):
        f = sigmoid(nodes(update, q, r))
        g = sigmoid(nodes(reset, q, r))
        if after:
            # candidate tanh(e + g y): tensor grid over the reset gate, e and y
            g = sigmoid(reset.mean + np.sqrt(reset.recurrent * q + reset.input * r + reset.variance) * y_grid)
            e = candidate.mean + np.sqrt(candidate.input * r + candidate.variance) * y_grid
            y = np.sqrt(candidate.recurrent * q) * y_grid
            n = np.tanh(e[None, :, None] + g[:, None, None] * y[None, None, :])
            weight = w_grid[:, None, None] * w_grid[None, :, None] * w_grid[None, None, :]
            return f, g[:, None, None], y[None, None, :], n, weight
        n = np.tanh(nodes(candidate, (W @ g**2) * q, r))
        return f, g, None, n, W

    def moments(q):
        f, _, _, n, weight = parts(q)
        return _scalar_moments(
            lambda p: W @ f**p, lambda a, b: W @ (f**a * (1 - f) ** b), lambda p: float(np.sum(weight * n**p))
        )

    q = brentq(lambda q: moments(q)[1] - q, 0.0, 1.0, xtol=1e-15, rtol=1e-14)
    f, g, y, n, weight = parts(q)
    m1, m2, m3, m4 = moments(q)
    h, hw = _three_point(m1, m2, m3, m4)
    # the squared coupling is v = A(f)·(h − n)² + B(f)·k, f and h independent of each other and of n and k
    slope = 1 - n**2
    a, b = update.recurrent * (f * (1 - f)) ** 2, (1 - f) ** 2
    extra = 0.0
    if after:
        k = (slope * g) ** 2 * (candidate.recurrent + reset.recurrent * ((1 - g) * y) ** 2)
    else:
        w = reset.recurrent * (g * (1 - g))[:, None] ** 2 * (h**2)[None, :]
        pair = W[:, None] * hw[None, :]
        g2 = (g**2)[:, None] + 0 * w
        beta = np.sum(pair * (g2 + w))
        beta2 = np.sum(pair * (g2 + w) ** 2) + 2 * np.sum(pair * g2) * np.sum(pair * w) + np.sum(pair * w) ** 2
        k = candidate.recurrent * beta * slope**2
        extra = (candidate.recurrent * (W @ b) * np.sum(weight * slope**2)) ** 2 * (beta2 - beta**2)

    def distance(p, factor=1.0):
        """E (h − n)ᵖ·factor(n)."""
        return sum(share * np.sum(weight * factor * (value - n) ** p) for value, share in zip(h, hw, strict=True))

    ek, ek2 = np.sum(weight * k), np.sum(weight * k**2)
    ea2, ev = float(W @ f**2), float((W @ a) * distance(2) + (W @ b) * ek)
    ea2v = (W @ (f**2 * a)) * distance(2) + (W @ (f**2 * b)) * ek
    ev2 = (W @ a**2) * distance(4) + 2 * (W @ (a * b)) * distance(2, k) + (W @ b**2) * ek2
    second = W @ f**4 + 2 * ea2v + ev2 + 2 * ea2 * ev + ev**2 + extra
    return Result(q, ea2 + ev, float(second - (ea2 + ev) ** 2))


def _three_point(m1, m2, m3, m4):
    """A signed rule of five nodes with these four moments (enough for polynomials of degree 4)."""
    x = np.array([-1.0, -0.5, 0.0, 0.5, 1.0]) * 2.0 * np.sqrt(max(m2, 1e-12))
    return x, np.linalg.solve(np.vander(x, increasing=True).T, np.array([1.0, m1, m2, m3, m4]))


def peephole_lstm(input: Gate, forget: Gate, cell: Gate, r: float = 1.0) -> Result:
    def moments(q):
        f, i, g = sigmoid(nodes(forget, q, r)), sigmoid(nodes(input, q, r)), np.tanh(nodes(cell, q, r))
        return _scalar_moments(lambda p: W @ f**p, lambda a, b: (W @ f**a) * (W @ i**b), lambda p: float(W @ g**p))

    q = fixed_point(lambda q: moments(q)[1])
    m1, m2, m3, m4 = moments(q)
    c, cw = _three_point(m1, m2, m3, m4)
    f, i, g = sigmoid(nodes(forget, q, r)), sigmoid(nodes(input, q, r)), np.tanh(nodes(cell, q, r))
    f_, i_, g_, c_ = f[:, None, None], i[None, ::, None], g[None, None, :], c
    ev = ev2 = ea2v = 0.0
    for value, weight in zip(c_, cw, strict=True):
        v = forget.recurrent * (f_ * (1 - f_) * value) ** 2 + input.recurrent * (i_ * (1 - i_) * g_) ** 2
        v = v + cell.recurrent * (i_ * (1 - g_**2)) ** 2
        mean = lambda x: float(np.einsum("abc,a,b,c->", x, W, W, W))  # noqa: E731
        ev, ev2, ea2v = ev + weight * mean(v), ev2 + weight * mean(v**2), ea2v + weight * mean(f_**2 * v)
    a2, a4 = W @ f**2, W @ f**4
    return Result(q, a2 + ev, float(a4 + 2 * ea2v + 2 * a2 * ev + ev2 + ev**2 - (a2 + ev) ** 2))
