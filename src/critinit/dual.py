"""Forward-mode derivatives of elementwise NumPy code.

A ``Dual`` is ``value + ε·tangent`` with ε² = 0.  A cell states its update once, in plain NumPy.  Fed with duals, the
same code gives its couplings (untied theory), its tangent dynamics (simulation, tied theory) and its Jacobian.
``tangent`` has the shape of ``value``, or more leading axes for several directions at once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NoReturn, Union

import numpy as np
from numpy.typing import NDArray

from critinit.foreign import Foreign

__all__ = ["SUPPORTED", "Array", "Dual", "DualError", "derivative", "sigmoid", "tangent", "value"]

Array = NDArray[np.float64]
Number = Union[float, Array, "Dual"]

SUPPORTED = (
    "+ - * /, integer powers, comparisons, critinit.sigmoid, and NumPy's tanh exp expm1 log log1p sqrt square "
    "reciprocal sin cos arctan abs maximum minimum logaddexp where"
)
"""The functions that take duals, for messages."""
_NO_EXPONENT = ("a Dual is no exponent", "use np.exp(x * np.log(base))")


class DualError(TypeError):
    """A function that has no derivative here was given a dual.

    Args:
        what: What is not possible.
        hint: The way out; the list of functions that take duals unless given.
    """

    def __init__(self, what: str, hint: str = f"these functions take one: {SUPPORTED}") -> None:
        super().__init__(what, hint)
        self.what = what

    def __str__(self) -> str:
        return "; ".join(self.args)


def _tanh(x: Array) -> tuple[Array, Array]:
    y = np.tanh(x)
    return y, 1.0 - y * y


def _exp(x: Array) -> tuple[Array, Array]:
    y = np.exp(x)
    return y, y


def _sqrt(x: Array) -> tuple[Array, Array]:
    y = np.sqrt(x)
    return y, 0.5 / y


def _reciprocal(x: Array) -> tuple[Array, Array]:
    y = 1.0 / x
    return y, -y * y


_DOUBLE = np.dtype(float)
_HALF, _ONE = np.array(0.5), np.array(1.0)
"""NumPy takes arrays sooner than Python's numbers."""
_UNARY: dict[np.ufunc, Callable[[Array], tuple[Array, Array]]] = {
    np.positive: lambda x: (x, np.ones_like(x)),
    np.negative: lambda x: (-x, np.full_like(x, -1.0)),
    np.tanh: _tanh,
    np.exp: _exp,
    np.expm1: lambda x: (np.expm1(x), np.exp(x)),
    np.log: lambda x: (np.log(x), 1.0 / x),
    np.log1p: lambda x: (np.log1p(x), 1.0 / (1.0 + x)),
    np.sqrt: _sqrt,
    np.square: lambda x: (x * x, 2.0 * x),
    np.reciprocal: _reciprocal,
    np.sin: lambda x: (np.sin(x), np.cos(x)),
    np.cos: lambda x: (np.cos(x), -np.sin(x)),
    np.arctan: lambda x: (np.arctan(x), 1.0 / (1.0 + x * x)),
    np.absolute: lambda x: (np.abs(x), np.sign(x)),
}
"""ufunc -> x -> (f(x), f'(x))."""


class Dual:
    """A value and its derivative: carries a derivative through arithmetic and NumPy's elementary functions.

    ``SUPPORTED`` lists the functions.  Every other one raises ``TypeError``; none gives a wrong derivative.
    Comparisons are those of the values and give plain arrays, for ``np.where(x > 0, x, 0.1 * x)``.

    Args:
        value: The value, an array of any shape, of NumPy or another library's (``critinit.foreign``).
        tangent: The derivative, of the same shape or with more leading axes, one entry per direction.

    Example:
        >>> y = np.tanh(Dual(0.5, 1.0))
        >>> bool(np.isclose(y.tangent, 1 - np.tanh(0.5) ** 2))
        True
    """

    __slots__ = ("tangent", "value")

    def __init__(self, value: Any, tangent: Any) -> None:
        self.value: Array = _array(value)
        self.tangent: Array = _array(tangent)

    def __repr__(self) -> str:
        return f"Dual({self.value!r}, {self.tangent!r})"

    def __array__(self, *arguments: Any, **options: Any) -> NoReturn:
        raise DualError("a Dual is no array")

    def __float__(self) -> float:
        raise DualError("a Dual is no number")

    def __bool__(self) -> bool:
        raise DualError("a Dual is neither true nor false", "use np.where")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method == "__call__" and not options:
            if ufunc in _UNARY:
                y, slope = _UNARY[ufunc](inputs[0].value)
                return Dual(y, slope * inputs[0].tangent)
            if ufunc in _BINARY:
                return _BINARY[ufunc](*inputs)
            if ufunc in _COMPARISONS:
                return ufunc(*map(value, inputs))
        how = f"numpy.{ufunc.__name__}" + (f".{method}" if method != "__call__" else "")
        raise DualError(f"{how} takes no Dual{' with options' if options else ''}")

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Dual:
        if function is np.where and len(arguments) == 3 and not options:
            return _where(*arguments)
        raise DualError(f"numpy.{function.__name__} takes no Dual")

    def __lt__(self, other: Any) -> Any:
        return self.value < value(other)

    def __le__(self, other: Any) -> Any:
        return self.value <= value(other)

    def __gt__(self, other: Any) -> Any:
        return self.value > value(other)

    def __ge__(self, other: Any) -> Any:
        return self.value >= value(other)

    def __eq__(self, other: object) -> Any:
        return self.value == value(other)

    def __ne__(self, other: object) -> Any:
        return self.value != value(other)

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: Number) -> Dual:
        if isinstance(other, Dual):
            return Dual(self.value + other.value, self.tangent + other.tangent)
        return Dual(self.value + other, self.tangent + np.zeros_like(other))

    __radd__ = __add__

    def __pos__(self) -> Dual:
        return self

    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.tangent)

    def __abs__(self) -> Dual:
        return Dual(np.abs(self.value), np.sign(self.value) * self.tangent)

    def __sub__(self, other: Number) -> Dual:
        return self + (-other)

    def __rsub__(self, other: Number) -> Dual:  # type: ignore[misc]  # arrays give way
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

    def __rtruediv__(self, other: Number) -> Dual:  # type: ignore[misc]  # likewise
        return _dual(other) / self

    def __pow__(self, exponent: int) -> Dual:
        try:
            n = operator.index(exponent)
        except TypeError:
            hint = "for other powers use np.sqrt(x), or np.exp(p * np.log(x))"
            raise DualError(f"a Dual's power takes one integer, found {exponent!r}", hint) from None
        if n == 0:
            return Dual(np.ones_like(self.value), np.zeros_like(self.tangent))
        return Dual(self.value**n, n * self.value ** (n - 1) * self.tangent)

    def __rpow__(self, base: Any) -> NoReturn:
        raise DualError(*_NO_EXPONENT)


def _array(x: Any) -> Any:
    if type(x) is np.ndarray and x.dtype is _DOUBLE:  # most are, and this takes a third of the time
        return x
    return x if isinstance(x, Foreign) else np.asarray(x, dtype=float)


def _dual(x: Any) -> Dual:
    return x if isinstance(x, Dual) else Dual(x, np.zeros_like(x, dtype=float))


def _where(condition: Any, a: Any, b: Any) -> Dual:
    if isinstance(condition, Dual):
        raise DualError("the condition of numpy.where is a Dual", "compare it with a number")
    a, b = _dual(a), _dual(b)
    return Dual(np.where(condition, a.value, b.value), np.where(condition, a.tangent, b.tangent))


def _maximum(a: Any, b: Any) -> Dual:
    return _where(value(a) >= value(b), a, b)


def _minimum(a: Any, b: Any) -> Dual:
    return _where(value(a) <= value(b), a, b)


def _logaddexp(a: Any, b: Any) -> Dual:
    """ln(eᵃ + eᵇ): its derivative is that of a and b by their shares; softplus is logaddexp(0, x)."""
    a, b = _dual(a), _dual(b)
    share = sigmoid(a.value - b.value)
    return Dual(np.logaddexp(a.value, b.value), share * a.tangent + (1.0 - share) * b.tangent)


def _power(base: Any, exponent: Any) -> Dual:
    if isinstance(base, Dual):
        return base.__pow__(exponent)
    raise DualError(*_NO_EXPONENT)


_BINARY: dict[np.ufunc, Callable[[Any, Any], Dual]] = {
    np.add: lambda a, b: _dual(a) + b,
    np.subtract: lambda a, b: _dual(a) - b,
    np.multiply: lambda a, b: _dual(a) * b,
    np.divide: lambda a, b: _dual(a) / b,
    np.power: _power,
    np.maximum: _maximum,
    np.minimum: _minimum,
    np.logaddexp: _logaddexp,
}


_COMPARISONS = (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal)


def value(x: Any) -> Array:
    """Return the value of a dual, or the array itself.

    Example:
        >>> float(value(Dual(2.0, 1.0)))
        2.0
    """
    return x.value if isinstance(x, Dual) else _array(x)


def tangent(x: Any) -> Array:
    """Return the tangent of a dual; zeros for a plain array.

    Example:
        >>> float(tangent(Dual(2.0, 1.0) ** 3))
        12.0
    """
    return x.tangent if isinstance(x, Dual) else np.zeros_like(x, dtype=float)


def derivative(function: Callable[[Any], Any], x: Array) -> Array:
    """Return the derivative of an elementwise function, of the shape of x.

    Args:
        function: The function, of arrays and duals.
        x: Where.

    Example:
        >>> derivative(np.square, np.array([1.0, 2.0])).tolist()
        [2.0, 4.0]
    """
    return np.asarray(np.broadcast_to(tangent(function(Dual(x, 1.0))), np.shape(x)))


def sigmoid(x: Any) -> Any:
    """Return the logistic function 1/(1 + e⁻ˣ) of an array or a dual.

    It is written with tanh, so it does not overflow.

    Args:
        x: Pre-activations, an array of any shape or a ``Dual``.

    Returns:
        Numbers from 0 to 1, of the same shape and kind.

    Example:
        >>> float(sigmoid(0.0))
        0.5
        >>> float(sigmoid(Dual(0.0, 1.0)).tangent)
        0.25
    """
    if type(x) is np.ndarray and x.dtype is _DOUBLE and x.ndim:  # the same, in two thirds of the time for a few units
        y = x * _HALF
        np.tanh(y, y)
        y += _ONE
        y *= _HALF
        return y
    return 0.5 * (1.0 + np.tanh(0.5 * x))
