"""Arrays of other libraries under NumPy's elementwise functions.

A cell states its update once, in NumPy (``critinit.cells``).  Fed with ``Foreign`` arrays the same code runs on the
arrays of any library that has an automatic derivative, and fed with duals of them it carries tangents there too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.errors import ArgumentError

__all__ = ["Foreign", "Library", "check_numbers", "raw"]

_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.zeros_like: lambda library, x, dtype=None: library.filled(x, 0.0),
    np.ones_like: lambda library, x, dtype=None: library.filled(x, 1.0),
    np.full_like: lambda library, x, number, dtype=None: library.filled(x, number),
    np.where: lambda library, condition, a, b: library.call("where", condition, library.array(a), library.array(b)),
}
"""NumPy's functions that are no ufuncs and that cells and duals call."""


class Library(ABC):
    """What a library of arrays does here; its arrays are *raw*, and ``Foreign`` wraps them."""

    @abstractmethod
    def array(self, values: Any) -> Any:
        """Return numbers, or a raw array as it is, as a raw array of the library's type, on its device."""

    @abstractmethod
    def call(self, name: str, *arrays: Any) -> Any:
        """Return what the function that NumPy calls ``name`` makes of raw arrays."""

    @abstractmethod
    def filled(self, like: Any, number: float) -> Any:
        """Return a raw array like another, with one number everywhere."""

    @abstractmethod
    def orthonormalize(self, columns: Any) -> tuple[Any, Any]:
        """Return Q of the QR decomposition of (…, n, k), and ln|R_ii| of shape (…, k); both have derivatives."""

    @abstractmethod
    def joined(self, arrays: Sequence[Any]) -> Any:
        """Return raw arrays one after the other along the last axis."""

    @abstractmethod
    def moved(self, array: Any, source: int, to: int) -> Any:
        """Return a raw array with one axis moved, as ``numpy.moveaxis``."""

    @abstractmethod
    def constant(self, array: Any) -> Any:
        """Return a raw array through which no derivative passes."""

    @abstractmethod
    def mean(self, array: Any, axes: tuple[int, ...] | None = None) -> Any:
        """Return the mean over axes, or over all."""

    @abstractmethod
    def scan(self, step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, inputs: Any) -> tuple[Any, Any]:
        """Run ``step(carry, inputs of one step) -> (carry, output)`` over the first axis of raw arrays.

        Args:
            step: The step.
            carry: A tuple of raw arrays.
            inputs: A dictionary of raw arrays, (steps, …) each.

        Returns:
            The last carry, and the outputs, (steps, …).
        """

    @abstractmethod
    def differentiate(
        self, function: Callable[..., tuple[Any, Any]]
    ) -> Callable[..., tuple[float, NDArray[np.float64], dict[str, NDArray[np.float64]]]]:
        """Return a function of NumPy's arrays that gives a value and its gradient.

        Args:
            function: ``function(leaves, *constants) -> (scalar, other)`` of raw arrays, ``leaves`` by name.

        Returns:
            ``f(leaves, *constants) -> (scalar, other, gradient by name)``, all of NumPy.
        """


class Foreign:
    """A raw array that takes arithmetic and NumPy's elementwise functions.

    Args:
        array: The raw array.
        library: Its library.
    """

    __slots__ = ("array", "library")

    def __init__(self, array: Any, library: Library) -> None:
        self.array, self.library = array, library

    def __repr__(self) -> str:
        return f"Foreign({self.array!r})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.array.shape)

    @property
    def T(self) -> Foreign:
        """It with its two axes exchanged."""
        return Foreign(self.array.T, self.library)

    def reshape(self, *shape: Any) -> Foreign:
        """Return it in another shape."""
        return Foreign(self.array.reshape(*shape), self.library)

    def __getitem__(self, index: Any) -> Foreign:
        return Foreign(self.array[index], self.library)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options or not all(isinstance(x, _TAKEN) for x in inputs):
            return NotImplemented
        arrays = [self.library.array(raw(x)) for x in inputs]
        return Foreign(self.library.call(ufunc.__name__, *arrays), self.library)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function not in _FUNCTIONS or not all(isinstance(x, _TAKEN) for x in arguments):
            return NotImplemented
        made = _FUNCTIONS[function](self.library, *map(raw, arguments), **options)
        return Foreign(made, self.library)

    def _with(self, other: Any, make: Callable[[Any, Any], Any]) -> Any:
        if not isinstance(other, _TAKEN):
            return NotImplemented
        array = raw(other)
        return Foreign(
            make(self.array, self.library.array(array) if isinstance(array, np.ndarray) else array), self.library
        )

    def __add__(self, other: Any) -> Any:
        return self._with(other, lambda a, b: a + b)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._with(other, lambda a, b: a - b)

    def __rsub__(self, other: Any) -> Any:
        return self._with(other, lambda a, b: b - a)

    def __mul__(self, other: Any) -> Any:
        return self._with(other, lambda a, b: a * b)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return self._with(other, lambda a, b: a / b)

    def __rtruediv__(self, other: Any) -> Any:
        return self._with(other, lambda a, b: b / a)

    def __pow__(self, exponent: int) -> Any:
        return Foreign(self.array**exponent, self.library)

    def __matmul__(self, other: Any) -> Any:
        return self._with(other, lambda a, b: a @ b)

    def __neg__(self) -> Foreign:
        return Foreign(-self.array, self.library)

    def __abs__(self) -> Any:
        return Foreign(self.library.call("absolute", self.array), self.library)

    def _compared(self, name: str, other: Any) -> Any:
        return self._with(other, lambda a, b: self.library.call(name, a, self.library.array(b)))

    def __lt__(self, other: Any) -> Any:
        return self._compared("less", other)

    def __le__(self, other: Any) -> Any:
        return self._compared("less_equal", other)

    def __gt__(self, other: Any) -> Any:
        return self._compared("greater", other)

    def __ge__(self, other: Any) -> Any:
        return self._compared("greater_equal", other)


_TAKEN = (Foreign, np.ndarray, np.generic, int, float)
"""What a foreign array goes together with; a dual comes first and takes care of it."""


def raw(x: Any) -> Any:
    """Return the raw array of a foreign one; anything else as it is."""
    return x.array if isinstance(x, Foreign) else x


def check_numbers(name: str, value: object) -> None:
    """Refuse what stands for an array while its library traces a function; it has no numbers.

    Args:
        name: What messages call it.
        value: Anything.

    Raises:
        ArgumentError: It is being traced.
    """
    if any(kind.__name__ == "Tracer" for kind in type(value).__mro__):
        found = "an array without numbers, in a function that is being traced"
        hint = "call critinit outside of jit, vmap and grad"
        raise ArgumentError(name, found=found, allowed="numbers", hint=hint)
