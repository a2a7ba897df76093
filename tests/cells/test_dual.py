"""Dual numbers: every supported function against complex steps or finite differences; all others are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from critinit.dual import SUPPORTED, Dual, sigmoid, tangent, value

X = np.array([0.15, 0.6, 1.3, 2.2])
"""Where all the functions are smooth, and their complex continuations have no branch."""

SMOOTH = {
    "tanh": np.tanh,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "square": np.square,
    "reciprocal": np.reciprocal,
    "negative": np.negative,
    "positive": np.positive,
    "sin": np.sin,
    "cos": np.cos,
    "arctan": np.arctan,
    "sigmoid": sigmoid,
    "sum": lambda x: 3.0 + x + X,
    "difference": lambda x: (2.0 - x) - (x - 5.0 * X),
    "product": lambda x: 2.0 * x * (X * x),
    "ratio": lambda x: (1.0 + x) / (2.0 + x * x) + x / X,
    "reciprocal of a number": lambda x: 3.0 / x,
    "plus and minus": lambda x: +x - (-x),
    "cube": lambda x: x**3,
    "power -2": lambda x: x**-2,
    "power of NumPy's": lambda x: np.power(x, 4),
    "power of a NumPy integer": lambda x: x ** np.int64(5),
    "an array ahead of it": lambda x: (X + x) * (X - x) + np.multiply(X, x) / np.add(x, X),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_are_those_of_complex_steps(name):
    function, step = SMOOTH[name], 1e-30
    found = function(Dual(X, np.ones_like(X)))
    np.testing.assert_allclose(found.value, function(X), rtol=1e-14)
    np.testing.assert_allclose(found.tangent, np.imag(function(X + 1j * step)) / step, rtol=1e-13)


PIECEWISE = {
    "abs": np.abs,
    "Python's abs": abs,
    "maximum": lambda x: np.maximum(x, 0.3),
    "maximum, the other way": lambda x: np.maximum(0.3, x * x),
    "minimum": lambda x: np.minimum(x, -0.3 * x),
    "where": lambda x: np.where(value(x) > 0.2, x * x, 0.0),
    "where, the other way": lambda x: np.where(value(x) > 0.2, 1.0, np.exp(x)),
    "leaky rectifier": lambda x: np.where(x > 0.2, x, 0.1 * x),
    "where of two": lambda x: np.where(value(x) > 0.2, np.sin(x), np.exp(x)),
    "logaddexp": lambda x: np.logaddexp(x, x * x),
    "softplus": lambda x: np.logaddexp(0.0, x),
    "softplus, the other way": lambda x: np.logaddexp(x, 0.0),
}


@pytest.mark.parametrize("name", PIECEWISE)
def test_derivatives_are_those_of_finite_differences(name):
    function, step = PIECEWISE[name], 1e-6
    x = np.array([-30.0, -1.7, -0.4, 0.15, 0.6, 2.2, 30.0])
    found = function(Dual(x, np.ones_like(x)))
    assert found.value.dtype == found.tangent.dtype == float
    np.testing.assert_allclose(found.value, function(x), rtol=1e-14)
    numeric = (function(x + step) - function(x - step)) / (2 * step)
    np.testing.assert_allclose(found.tangent, numeric, rtol=1e-6, atol=1e-8)


def test_several_directions_are_carried_at_once():
    directions = np.stack([np.ones(4), -2.0 * X])
    found = np.tanh(Dual(X, directions)) * X
    alone = [np.tanh(Dual(X, direction)) * X for direction in directions]
    np.testing.assert_array_equal(found.tangent, [one.tangent for one in alone])
    where = np.where(X > 1.0, Dual(X, directions), 0.0)
    np.testing.assert_array_equal(where.tangent, np.where(X > 1.0, directions, 0.0))


def test_powers_at_zero():
    """x⁰ is 1 with derivative 0 everywhere, and x¹ has derivative 1."""
    zero = Dual([0.0, 2.0], [1.0, 1.0])
    for exponent, values, slopes in ((0, [1, 1], [0, 0]), (1, [0, 2], [1, 1]), (2, [0, 4], [0, 4])):
        for found in (zero**exponent, np.power(zero, exponent)):
            np.testing.assert_array_equal(found.value, values)
            np.testing.assert_array_equal(found.tangent, slopes)


def test_comparisons_are_those_of_the_values():
    x, y = Dual(X, np.ones(4)), Dual(X[::-1], np.zeros(4))
    for found, wanted in (
        (x > 1.0, X > 1.0), (x >= y, X[::-1] <= X), (x < y, X[::-1] > X), (x >= 1.0, X >= 1.0),
        (x == y, X[::-1] == X), (x != 0.6, X != 0.6), (np.greater(X, y), X[::-1] < X),
        (np.less_equal(x, 1.0), X <= 1.0),
    ):  # fmt: skip
        assert found.dtype == bool
        np.testing.assert_array_equal(found, wanted)


def test_a_plain_array_has_tangent_zero():
    np.testing.assert_array_equal(tangent(X), np.zeros(4))
    np.testing.assert_array_equal(value(X), X)


REFUSED = {
    "half a power": (lambda x: x**0.5, r"one integer, found 0.5; for other powers use np.sqrt"),
    "a whole power that is no integer": (lambda x: x**2.0, "one integer, found 2.0"),
    "an array of powers": (lambda x: x ** np.array([1, 2, 1, 2]), "one integer"),
    "a dual power": (lambda x: x**x, "one integer"),
    "a power of two": (lambda x: 2.0**x, r"use np.exp\(x \* np.log\(base\)\)"),
    "a power of an array": (lambda x: np.power(X, x), r"use np.exp"),
    "arcsin": (np.arcsin, r"numpy.arcsin takes no Dual; these functions take one: .*arctan"),
    "floor": (np.floor, "numpy.floor takes no Dual"),
    "truth": (bool, "neither true nor false; use np.where"),
    "a number": (float, "a Dual is no number"),
    "a function of Python's": (math.tanh, "a Dual is no number"),
    "a reduction": (np.add.reduce, "numpy.add.reduce takes no Dual"),
    "a sum": (np.sum, "takes no Dual"),
    "a mean": (np.mean, "numpy.mean takes no Dual"),
    "a clip": (lambda x: np.clip(x, 0.0, 1.0), "takes no Dual"),
    "a stack": (lambda x: np.stack([x, x]), "numpy.stack takes no Dual"),
    "options": (lambda x: np.tanh(x, where=X > 1.0), "with options"),
    "an array to write into": (lambda x: np.tanh(X, out=x), "with options|must be an array|must be of Array"),
    "a dual condition": (lambda x: np.where(x, 1.0, 0.0), "compare it with a number"),
    "where without values": (np.where, "numpy.where takes no Dual"),
    "an array": (np.asarray, "a Dual is no array"),
    "an array of duals": (lambda x: np.array([x, x]), "a Dual is no array"),
    "a matrix product": (lambda x: np.eye(4) @ x, "numpy.matmul takes no Dual"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_refused(name):
    function, message = REFUSED[name]
    with pytest.raises(TypeError, match=message):
        function(Dual(X, np.ones_like(X)))


def test_the_list_of_supported_functions_is_true():
    """Each name in it is a function that takes a dual."""
    names = SUPPORTED.partition("NumPy's ")[2].split()
    assert len(names) == 16
    for name in names:
        arguments = {"where": (X > 1.0, 0.0), "maximum": (0.0,), "minimum": (0.0,), "logaddexp": (0.0,)}.get(name, ())
        assert isinstance(getattr(np, name)(*arguments, Dual(X, np.ones_like(X))), Dual)
