"""Forward-mode derivatives of elementwise NumPy code.

A ``Dual`` is ``value + ε·tangent`` with ε² = 0.  A cell's update, written once in plain NumPy, gives its
couplings (untied theory), its tangent dynamics (simulation, tied theory) and its Jacobian when it is fed
duals.  ``tangent`` has the shape of ``value``, or more leading axes for several directions at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Dual", "sigmoid", "tangent", "value"]

Array = NDArray[np.float64]
Number = Union[float, Array, "Dual"]


def _tanh(x: Array) -> tuple[Array, Array]:
    y = np.tanh(x)
    return y, 1.0 - y * y


def _exp(x: Array) -> tuple[Array, Array]:
    y = np.exp(x)
    return y, y


def _log(x: Array) -> tuple[Array, Array]:
    return np.log(x), 1.0 / x


def _sqrt(x: Array) -> tuple[Array, Array]:
    y = np.sqrt(x)
    return y, 0.5 / y


def _square(x: Array) -> tuple[Array, Array]:
    return x * x, 2.0 * x


def _sin(x: Array) -> tuple[Array, Array]:
    return np.sin(x), np.cos(x)


def _cos(x: Array) -> tuple[Array, Array]:
    return np.cos(x), -np.sin(x)


def _abs(x: Array) -> tuple[Array, Array]:
    return np.abs(x), np.sign(x)


# ufunc -> (f(x), f'(x))
_UNARY: dict[np.ufunc, Callable[[Array], tuple[Array, Array]]] = {
    np.tanh: _tanh,
    np.exp: _exp,
    np.log: _log,
    np.sqrt: _sqrt,
    np.square: _square,
    np.sin: _sin,
    np.cos: _cos,
    np.absolute: _abs,
}


class Dual:
    """``value + ε·tangent``: carries a derivative through arithmetic and NumPy's elementary functions.

    Supported: ``+ - * /``, integer powers, and ``tanh exp log sqrt square sin cos abs maximum minimum``.
    Anything else raises ``TypeError`` (NumPy's own, naming the function), never a wrong derivative.
    """

    __slots__ = ("tangent", "value")

    def __init__(self, value: Any, tangent: Any) -> None:
        self.value: Array = np.asarray(value, dtype=float)
        self.tangent: Array = np.asarray(tangent, dtype=float)

    def __repr__(self) -> str:
        return f"Dual({self.value!r}, {self.tangent!r})"

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            return NotImplemented
        if ufunc in _UNARY:
            y, slope = _UNARY[ufunc](inputs[0].value)
            return Dual(y, slope * inputs[0].tangent)
        if ufunc in _BINARY:
            return _BINARY[ufunc](*inputs)
        return NotImplemented

    def __add__(self, other: Number) -> Dual:
        if isinstance(other, Dual):
            return Dual(self.value + other.value, self.tangent + other.tangent)
        return Dual(self.value + other, self.tangent + np.zeros_like(other))

    __radd__ = __add__

    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.tangent)

    def __sub__(self, other: Number) -> Dual:
        return self + (-other)

    def __rsub__(self, other: Number) -> Dual:
        return (-self) + other

    def __mul__(self, other: Number) -> Dual:
        if isinstance(other, Dual):
            return Dual(self.value * other.value, self.tangent * other.value + self.value * other.tangent)
        return Dual(self.value * other, self.tangent * other)

    __rmul__ = __mul__

    def __truediv__(self, other: Number) -> Dual:
        if isinstance(other, Dual):
            ratio = self.value / other.value
            return Dual(ratio, (self.tangent - ratio * other.tangent) / other.value)
        return Dual(self.value / other, self.tangent / other)

    def __rtruediv__(self, other: Number) -> Dual:
        return Dual(other, np.zeros_like(other)) / self

    def __pow__(self, exponent: int) -> Dual:
        return Dual(self.value**exponent, exponent * self.value ** (exponent - 1) * self.tangent)


def _dual(x: Any) -> Dual:
    return x if isinstance(x, Dual) else Dual(x, np.zeros_like(x, dtype=float))


def _select(larger: bool) -> Callable[[Any, Any], Dual]:
    def choose(a: Any, b: Any) -> Dual:
        a, b = _dual(a), _dual(b)
        first = (a.value >= b.value) == larger
        return Dual(np.where(first, a.value, b.value), np.where(first, a.tangent, b.tangent))

    return choose


_BINARY: dict[np.ufunc, Callable[[Any, Any], Dual]] = {
    np.add: lambda a, b: _dual(a) + b,
    np.subtract: lambda a, b: _dual(a) - b,
    np.multiply: lambda a, b: _dual(a) * b,
    np.divide: lambda a, b: _dual(a) / b,
    np.maximum: _select(True),
    np.minimum: _select(False),
}


def value(x: Any) -> Array:
    """The value of a dual, or the array itself."""
    return x.value if isinstance(x, Dual) else np.asarray(x, dtype=float)


def tangent(x: Any) -> Array:
    """The tangent of a dual; zero for a plain array."""
    return x.tangent if isinstance(x, Dual) else np.zeros_like(x, dtype=float)


def sigmoid(x: Any) -> Any:
    """The logistic function 1/(1+e⁻ˣ), written with tanh: no overflow, and it takes duals."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))
