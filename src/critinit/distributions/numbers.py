"""The numbers that a spec can hold, and the base of its models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from critinit.errors import ArgumentError

__all__ = ["LARGEST", "LONGEST_TIME", "Finite", "Integer", "NonNegative", "Positive", "StrictModel", "Time", "rounded"]

LARGEST = 1e100
"""The largest number in a spec (no unit): squares of larger ones overflow in the theory."""

LONGEST_TIME = 1e15
"""The longest time constant, in steps: 1 − 1/τ of a longer one is 1 in double precision."""


def _without_sign_of_zero(value: float) -> float:
    """0.0 for -0.0: the two are equal, so they have the same bytes."""
    return value + 0.0


def _an_integer(value: Any) -> Any:
    """Literal compares with ==, so True and 1.0 would pass for 1."""
    if type(value) is not int:
        raise PydanticCustomError("int_type", "an integer", {})
    return value


Finite = Annotated[float, Field(allow_inf_nan=False, ge=-LARGEST, le=LARGEST), AfterValidator(_without_sign_of_zero)]
NonNegative = Annotated[float, Field(allow_inf_nan=False, ge=0, le=LARGEST), AfterValidator(_without_sign_of_zero)]
Positive = Annotated[float, Field(allow_inf_nan=False, gt=0, le=LARGEST)]
Time = Annotated[float, Field(allow_inf_nan=False, gt=1, le=LONGEST_TIME)]
Integer = BeforeValidator(_an_integer)


class StrictModel(BaseModel):
    """A value that never changes; it refuses unknown keys, wrong types, NaN and infinities.

    ``model_copy(update=…)`` validates what it makes, and computes the fields named in ``derived`` anew unless the
    update states them, so a copy is never inconsistent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    derived: ClassVar[tuple[str, ...]] = ()

    if not TYPE_CHECKING:  # a type checker knows by model_config that nothing can be set

        def __setattr__(self, name: str, value: Any) -> None:
            raise _frozen(self, name)

        def __delattr__(self, name: str) -> None:
            raise _frozen(self, name)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return the same value, or one with other fields, validated."""
        if not update:
            return self
        kept = {name: getattr(self, name) for name in type(self).model_fields if name not in self.derived}
        return type(self).model_validate({**kept, **update})


def _frozen(model: StrictModel, name: str) -> ArgumentError:
    """The error for a value that is to be changed in its place."""
    kind = type(model).__name__
    if name not in type(model).model_fields:
        return ArgumentError(f"{kind}.{name}", found="no such field", allowed=", ".join(type(model).model_fields))
    hint = f"a changed copy is value.model_copy(update={{{name!r}: ...}})"
    if kind == "InitSpec":
        hint += "; critinit.predict(copy) brings its predicted numbers up to date"
    return ArgumentError(f"{kind}.{name}", found="an assignment", allowed="reading, as it is frozen", hint=hint)


def rounded(value: float, digits: int = 12) -> float:
    """Return ``value`` to so many digits, so that a computed number has the same bytes on every machine."""
    return float(f"{value:.{digits}g}") + 0.0
