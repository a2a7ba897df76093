"""What a kernel's and a bias's distribution is: the two base classes."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from critinit.distributions.drawing import Drawing, Generator, NumpyDrawing, deviation, fan, maker
from critinit.distributions.goodness import Observed, Outcome
from critinit.distributions.numbers import Positive, StrictModel
from critinit.errors import ArgumentError, CritinitError, PluginError

__all__ = ["Bias", "EntryKernel", "Kernel", "KernelFamily", "Part"]

Array = NDArray[np.float64]
A = TypeVar("A")
T = TypeVar("T")


class KernelFamily(Enum):
    """How a kernel acts on a vector at large width; the theories know these three ways and no distribution by name."""

    INDEPENDENT = "independent entries"
    """Independent entries of mean 0: the products are Gaussian, whatever the entries' distribution."""
    HAAR = "orthogonal"
    """A gain times a Haar-distributed orthogonal matrix."""
    DIAGONAL = "multiple of the identity"
    """Each unit reads itself alone."""


class Part(StrictModel):
    """What kernels and biases share."""

    max_learning_rate: Positive | None = Field(
        default=None,
        description="Largest learning rate of an optimizer of Adam's kind that the start can bear; left out: no limit.",
    )
    optional: ClassVar[tuple[str, ...]] = ("max_learning_rate",)
    """Keys that are left out of the JSON where they say nothing."""

    @model_serializer(mode="wrap")
    def _without_empty_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        own = [key for key in data if key not in ("distribution", "mean", "variance", *self.optional)]
        stated = [key for key in self.optional if data[key] != type(self).model_fields[key].default]
        return {key: data[key] for key in ("distribution", *own, "mean", "variance", *stated) if key in data}

    @abstractmethod
    def describe(self) -> str:
        """Return the distribution in a few words, for tables."""

    @abstractmethod
    def check(self, observed: Observed) -> tuple[Outcome, ...]:
        """Return the goodness-of-fit tests of numbers that should be of this distribution."""

    def tests(self, observed: Observed) -> tuple[Outcome, ...]:
        """Return what ``check`` says.

        Raises:
            PluginError: It fails, or returns something else.
        """
        found = _asked(self, "check", lambda: self.check(observed))
        if not (isinstance(found, (tuple, list)) and found and all(isinstance(test, Outcome) for test in found)):
            allowed = "a tuple of critinit.distributions.goodness.Outcome"
            raise PluginError(f"{type(self).__name__}.check", found=repr(found)[:60], allowed=allowed)
        return tuple(found)


def _is_users(part: Part) -> bool:
    """Whether a distribution is none of critinit's own."""
    return type(part).__module__.partition(".")[0] != __name__.partition(".")[0]


def _asked(part: Part, name: str, function: Callable[[], T]) -> T:
    """What a method of a distribution answers; whatever one of a user's raises becomes a ``PluginError``."""
    try:
        return function()
    except Exception as error:
        if isinstance(error, (CritinitError, MemoryError)) or not _is_users(part):
            raise
        said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        hint = f"the distribution {getattr(part, 'distribution', '')} is not critinit's own"
        raise PluginError(f"{type(part).__name__}.{name}", found=said, hint=hint) from error


def _shaped(part: Part, values: Any, shape: tuple[int, ...]) -> Array:
    """What was drawn, if it is an array of this shape, and of finite numbers."""
    if not isinstance(values, np.ndarray) or values.shape != shape:
        found = f"an array of shape {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise PluginError(f"{type(part).__name__}.draw", found=found, allowed=f"an array of shape {shape}")
    if _is_users(part) and not np.isfinite(values).all():
        raise PluginError(f"{type(part).__name__}.draw", found="NaN or infinity", allowed="finite numbers")
    return values


class Kernel(Part):
    """The distribution of a weight matrix.

    Where an optimizer moves all entries of a row alike, the sum that the row makes moves by fan-in times as much.  So a
    limit on the learning rate can be stated for a row: with ``learning_rate_fan`` "in" an entry's limit is
    ``max_learning_rate`` over the fan-in, and the spec holds for every size.

    Attributes:
        distribution: Its name in a spec.
        variance: Var(entry)·fan-in, or the gain squared of an orthogonal or identity kernel.
        family: How it acts at large width.
        is_square: Whether it needs as many rows as columns.
        pairs_units: Whether each unit reads itself and one other unit alone; it then has ``turned``.
    """

    if TYPE_CHECKING:  # fields of every subclass, in its own order
        distribution: str
        variance: float
    learning_rate_fan: Literal["none", "in"] = Field(
        default="none", description='What divides max_learning_rate: nothing, or with "in" the fan-in.'
    )
    optional: ClassVar[tuple[str, ...]] = ("max_learning_rate", "learning_rate_fan")
    family: ClassVar[KernelFamily]
    is_square: ClassVar[bool] = False
    pairs_units: ClassVar[bool] = False

    @abstractmethod
    def draw(self, drawing: Drawing[A]) -> A:
        """Return the matrix, made of one of the drawing's primitives."""

    def sample(self, generator: Generator, rows: int, columns: int) -> Array:
        """Draw the matrix by NumPy in float64.

        Args:
            generator: A random generator, or a function that makes one where numbers are drawn.
            rows: Number of rows, the units.
            columns: Number of columns, the fan-in.

        Returns:
            An array of shape (rows, columns).

        Example:
            >>> from critinit.distributions import kernel
            >>> kernel("identity", 4.0).sample(np.random.default_rng(0), 2, 2).tolist()
            [[2.0, 0.0], [0.0, 2.0]]
        """
        drawing = NumpyDrawing(maker(generator), rows, columns)
        return _shaped(self, _asked(self, "draw", lambda: self.draw(drawing)), (rows, columns))

    def turned(self, x: Any) -> Any:
        """Return W x, for x with the units along its last axis, of a kernel that ``pairs_units``."""
        raise NotImplementedError(f"{self.distribution} does not pair units")

    def problem(self, rows: int, columns: int) -> str | None:
        """Return why the matrix cannot have this shape, or None."""
        if self.is_square and rows != columns:
            return f"{self.distribution}, for a kernel of shape ({rows}, {columns}), which is not square"
        return None

    def variance_at(self, rows: int, columns: int) -> float:
        """Return Var(entry)·fan-in (or the gain squared) of a matrix of this shape."""
        return self.variance

    def limit_at(self, columns: int) -> float | None:
        """Return the largest learning rate of an entry of a matrix with so many columns; None where there is none."""
        limit = self.max_learning_rate
        return limit / columns if limit is not None and self.learning_rate_fan == "in" else limit

    def entry_mean(self, columns: int) -> float:
        """Return the mean of the entries of a matrix with so many columns."""
        return 0.0

    @property
    def gain(self) -> float:
        """The square root of the variance: by how much the kernel stretches a vector in the mean."""
        return math.sqrt(self.variance)

    @property
    def is_zero(self) -> bool:
        """Whether every entry is 0 with certainty."""
        return self.variance == 0

    @property
    def reads_itself(self) -> bool:
        """Whether each unit reads its own state alone, so that there is no untied reading."""
        return self.family is KernelFamily.DIAGONAL and not self.is_zero

    @property
    def keeps_angles(self) -> bool:
        """Whether W Wᵀ = gain²·I for a matrix of at most as many rows as columns."""
        return self.family is not KernelFamily.INDEPENDENT


class EntryKernel(Kernel):
    """A kernel of independent entries whose variance is divided by a width.

    ``fan`` says which: "in" (the default: variance = Var(entry)·fan-in), "out", or "average", as in Glorot's (Xavier's)
    initialization, which is variance 1 over the average.  The spec then holds for every size.  The theory takes the
    widths as equal where they are not known.
    """

    family = KernelFamily.INDEPENDENT
    fan: Literal["in", "out", "average"] = Field(
        default="in", description="The width that divides the variance: fan-in, fan-out or their average."
    )
    optional: ClassVar[tuple[str, ...]] = ("fan", *Kernel.optional)

    def deviation(self, rows: int, columns: int) -> float:
        """Return the standard deviation of an entry of a (rows, columns) matrix."""
        return deviation(self.variance, fan(self.fan, rows, columns))

    def variance_at(self, rows: int, columns: int) -> float:
        """Return Var(entry)·fan-in of a matrix of this shape."""
        return self.variance * (columns / fan(self.fan, rows, columns))

    def describe(self) -> str:
        """Return the name and the variance."""
        by = {"in": "", "out": " over fan-out", "average": " over the average fan"}[self.fan]
        return f"{self.distribution}, variance {self.variance:.4g}{by}"


class Bias(Part):
    """The distribution of a gate's bias over units.

    Attributes:
        distribution: Its name in a spec.
        mean: Mean over units.
        variance: Variance over units.
    """

    if TYPE_CHECKING:  # fields of every subclass, in its own order
        distribution: str
        mean: float | None
        variance: float | None

    def sample(self, generator: Generator, units: int) -> Array:
        """Draw one bias a unit by NumPy in float64.

        Args:
            generator: A random generator, or a function that makes one.
            units: Number of units.

        Returns:
            An array of shape (units,).

        Example:
            >>> from critinit.distributions import ConstantBias
            >>> ConstantBias(mean=2.0).sample(np.random.default_rng(0), 3).tolist()
            [2.0, 2.0, 2.0]
        """
        return _shaped(self, _asked(self, "draw", lambda: self.draw(maker(generator)(), units)), (units,))

    @abstractmethod
    def draw(self, rng: np.random.Generator, units: int) -> Array:
        """Return one bias a unit, an array of shape (units,)."""

    @abstractmethod
    def quantile(self, q: Array) -> Array:
        """Return the bias at quantile q of the units, the inverse of the distribution function; shape of ``q``."""

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and variance over units.

        Raises:
            ArgumentError: A coupled bias outside of a spec has none.
        """
        if self.mean is None or self.variance is None:
            hint = "the moments follow from the gate that it is coupled to, within the gates of a layer"
            raise ArgumentError("bias", found=self.describe(), hint=hint)
        return self.mean, self.variance

    @property
    def is_random(self) -> bool:
        """Whether units differ."""
        return True

    @property
    def redrawn_variance(self) -> float:
        """The variance that the untied theory draws anew at every step, as the literature does.

        All of it, unless ``classes`` has an answer: then units keep their biases, and it is 0.
        """
        return 0.0 if self.classes(1) is not None else self.moments[1]

    @property
    def extremes(self) -> tuple[float, float]:
        """The smallest and largest bias that counts when times are estimated.

        Two standard deviations to either side: of a normal bias one unit in twenty is farther out.
        """
        mean, variance = self.moments
        reach = 2.0 * math.sqrt(variance)
        return mean - reach, mean + reach

    def classes(self, nodes: int) -> tuple[Array, Array] | None:
        """Return biases (ascending) and weights (sum 1) that stand for units which differ for good, or None."""
        return None

    def with_mean(self, mean: float) -> Bias:
        """Return the same distribution with another mean.

        Raises:
            ArgumentError: It cannot have that mean.
        """
        return self.model_copy(update={"mean": mean})
