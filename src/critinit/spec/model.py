"""The InitSpec: what a recurrent network's weights are to be, in terms of no framework.

The JSON form is canonical: one order of keys, shortest exact numbers, so the same spec has the same bytes.

Evolution: ``schema_version`` is 1.  A change that lets old files keep their meaning (a new optional key, a
new distribution) keeps the number; a change that would alter what an existing file means raises it, and the
reader then converts the older versions it knows.  It refuses a version that it does not know, by number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    SerializeAsAny,
    Tag,
    create_model,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from critinit import cells
from critinit.showing import Shown, Table
from critinit.spec.distributions import (
    AnyBias,
    CoupledBias,
    Finite,
    Integer,
    Kernel,
    NonNegative,
    StrictModel,
)

__all__ = [
    "SCHEMA_VERSION",
    "Gate",
    "Gates",
    "InitSpec",
    "Input",
    "Jacobian",
    "Layer",
    "Numbers",
    "Predicted",
    "ProjectedLayer",
    "Projection",
    "Target",
    "TimeConstants",
    "spec_model",
]

SCHEMA_VERSION = 1
MAX_LAYERS = 1000
MAX_T = 10**9


class Gate(StrictModel):
    """One gate: u = U x + W m + b."""

    recurrent: Kernel = Field(description="W: reads the state.")
    input: Kernel = Field(description="U: reads the input.")
    bias: AnyBias = Field(description="b: the effective bias, the sum of all that a framework adds.")


class Gates(StrictModel):
    """The gates of a cell, by semantic name; every gate of the cell is required."""

    def __getitem__(self, name: str) -> Gate:
        if name not in type(self).model_fields:
            raise KeyError(name)
        return cast(Gate, getattr(self, name))

    def names(self) -> tuple[str, ...]:
        """Gate names in canonical order."""
        return tuple(type(self).model_fields)

    def items(self) -> Iterator[tuple[str, Gate]]:
        """Pairs of name and gate in canonical order."""
        return ((name, self[name]) for name in self.names())

    @model_validator(mode="after")
    def _couple(self) -> Self:
        for name, gate in self.items():
            if isinstance(gate.bias, CoupledBias):
                others = [n for n, g in self.items() if n != name and not isinstance(g.bias, CoupledBias)]
                if gate.bias.to not in others:
                    raise PydanticCustomError(
                        "coupling",
                        "allowed: {others}",
                        {
                            "field": f"{name}.bias.to",
                            "others": ", ".join(others) or "none (all others are coupled)",
                        },
                    )
                try:
                    gate.bias.resolve(self[gate.bias.to].bias)
                except PydanticCustomError as error:
                    context = dict(error.context or {})
                    context["field"] = f"{name}.bias.{context['field']}"
                    raise PydanticCustomError(error.type, error.message_template, context) from None
        return self


class Input(StrictModel):
    """What is known of the layer's input."""

    variance: NonNegative = Field(description="Second moment of an input coordinate, R.")
    correlation: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        default=1.0, description="Correlation of the inputs of the two copies whose distance χ describes."
    )
    null_variance: NonNegative | None = Field(
        default=None,
        description="Power per coordinate of inputs that carry no information (padding); 0 when silent; "
        "left out means unknown, which counts as variance.",
    )

    @model_validator(mode="after")
    def _unknown_null_counts_as_variance(self) -> Self:
        if self.null_variance is None:
            object.__setattr__(self, "null_variance", self.variance)
        return self

    @property
    def null_power(self) -> float:
        """``null_variance``, filled in."""
        return self.variance if self.null_variance is None else self.null_variance


class TimeConstants(StrictModel):
    """Time constants of single units, 1/(1 − E keep), in steps."""

    min: Annotated[float, Field(ge=0)]
    median: Annotated[float, Field(ge=0)]
    max: Annotated[float, Field(ge=0)]


class Jacobian(StrictModel):
    """Squared singular values of the state-to-state Jacobian of one step."""

    mean_squared_singular_value: NonNegative
    variance: Finite


ERROR_NAMES = (
    "second_moment",
    "cell_second_moment",
    "chi",
    "time_scale",
    "survival",
    *(f"unit_time_constants.{name}" for name in TimeConstants.model_fields),
    *(f"jacobian.{name}" for name in Jacobian.model_fields),
)


class ErrorTable(dict[str, float | None]):
    """The standard errors by name, in canonical order; immutable."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a spec is immutable; make another with model_copy(update=...)")

    __setitem__ = __delitem__ = __ior__ = update = pop = popitem = clear = setdefault = _refuse

    def __reduce__(self) -> Any:  # a dict is unpickled, and copied, entry by entry
        return ErrorTable, (dict(self),)


def _error_table(table: dict[str, float | None]) -> ErrorTable:
    for name in table:
        if name not in ERROR_NAMES:
            raise PydanticCustomError("error_name", "the names {names}", {"names": ", ".join(ERROR_NAMES)})
    return ErrorTable((name, table[name]) for name in ERROR_NAMES if name in table)


class Numbers(StrictModel):
    """What theory or measurement says of one layer."""

    second_moment: NonNegative = Field(description="E h² per unit (of c for the peephole LSTM).")
    cell_second_moment: NonNegative | None = Field(default=None, description="E c² per unit (LSTM only).")
    chi: NonNegative = Field(description="Growth per step of the mean squared distance of two copies.")
    time_scale: NonNegative | None = Field(description="−1/ln χ in steps; null where χ ≥ 1.")
    survival: NonNegative = Field(description="E|δ_T|²/E|δ_0|²: what T steps leave of a perturbation.")
    unit_time_constants: TimeConstants
    jacobian: Jacobian
    standard_error: Annotated[dict[str, NonNegative | None], AfterValidator(_error_table)] | None = Field(
        default=None, description="Of each number, where it was sampled; nested names joined with a dot."
    )
    notes: tuple[str, ...] = Field(default=(), strict=False, description="Where a number is no longer valid, in words.")

    @model_serializer(mode="wrap")
    def _leave_out_the_empty(self, handler: Any) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        for key in ("cell_second_moment", "standard_error"):
            if data.get(key) is None:
                data.pop(key, None)
        if not data.get("notes"):
            data.pop("notes", None)
        return data


class NotComputed(StrictModel):
    """``{}``: nothing is predicted yet."""


def _numbers_or_nothing(value: Any) -> str:
    return "nothing" if value == {} or isinstance(value, NotComputed) else "numbers"


AnyNumbers = Annotated[
    Annotated[Numbers, Tag("numbers")] | Annotated[NotComputed, Tag("nothing")],
    Discriminator(_numbers_or_nothing),
]


class Predicted(StrictModel):
    """What theory says: ``{}`` where it was not computed, null where it has no reading (identity, untied)."""

    untied: AnyNumbers | None = Field(default=NotComputed(), description="Weights drawn anew at every step.")
    tied: AnyNumbers | None = Field(default=NotComputed(), description="One set of weights, as networks have.")


class Target(StrictModel):
    """What the scheme set out to reach, and what it reached."""

    quantity: Literal["time_scale", "unit_time_constant"] = Field(
        description="time_scale: −1/ln χ, untied; unit_time_constant: 1/(1 − E keep) of the slowest unit "
        "while the input carries no information; the first layer is meant."
    )
    wanted: NonNegative
    reached: NonNegative | None = Field(description="null: unbounded (a time scale where χ ≥ 1).")
    limit: str | None = Field(default=None, description="What stops it; left out where the target is met.")

    @model_serializer(mode="wrap")
    def _leave_out_the_empty(self, handler: Any) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        if data.get("limit") is None:
            data.pop("limit", None)
        return data


class Layer(StrictModel):
    """One recurrent layer; both directions of a bidirectional layer follow it."""

    input: Input
    gates: SerializeAsAny[Gates]
    predicted: Predicted = Predicted()

    @property
    def projected(self) -> Projection | None:
        """The projection whose coordinates the kernels read, in a cell that has one."""
        return None

    def unprojected(self) -> Layer:
        """The layer whose kernels read h as these read P h: what both are at infinite width but for ``spread``."""
        return self


class Projection(StrictModel):
    """r = P h, with P of as many rows as r has coordinates: what the kernels read and the layer gives."""

    kernel: Kernel = Field(description="P: normal, uniform or orthogonal (orthonormal rows times a gain).")
    width: Annotated[float, Field(gt=0, le=1, description="Coordinates of r per unit.")]

    @model_validator(mode="after")
    def _projects(self) -> Self:
        if self.kernel.distribution in _SQUARE_OR_NOTHING:
            raise PydanticCustomError(
                "projection", "allowed: normal, uniform, orthogonal", {"field": "kernel.distribution"}
            )
        return self

    @property
    def gain(self) -> float:
        """E r²/E h²."""
        return self.kernel.variance

    @property
    def spread(self) -> float:
        """κ: with Z = J − D_a at infinite width, the mean of (Z Zᵀ)² is that of an unprojected layer + κ (tr Z Zᵀ)²."""
        return 1.0 / self.width - (1.0 if self.kernel.distribution == "orthogonal" else 0.0)

    def coordinates(self, units: int) -> int:
        """How many r has, at least 1."""
        return max(1, round(self.width * units))


_SQUARE_OR_NOTHING = ("identity", "zero")


class ProjectedLayer(Layer):
    """A layer whose kernels read a projection of the state."""

    projection: Projection = Field(description="P, whose coordinates all kernels read.")

    @model_validator(mode="after")
    def _kernels_read_coordinates(self) -> Self:
        for name, gate in self.gates.items():
            for part in ("recurrent", "input"):
                if getattr(gate, part).distribution in ("orthogonal", "identity"):
                    raise PydanticCustomError(
                        "projected_kernel",
                        "allowed where the state is projected: normal, uniform, zero (an orthogonal or identity "
                        "kernel is square)",
                        {"field": f"gates.{name}.{part}.distribution"},
                    )
        return self

    @property
    def projected(self) -> Projection:
        return self.projection

    def unprojected(self) -> Layer:
        gates = {
            name: gate.model_copy(
                update={
                    "recurrent": gate.recurrent.model_copy(
                        update={"variance": gate.recurrent.variance * self.projection.gain}
                    )
                }
            )
            for name, gate in self.gates.items()
        }
        return Layer(input=self.input, gates=self.gates.model_copy(update=gates))


class InitSpec(Shown, StrictModel):
    """What the weights of a recurrent network are to be.

    Validating against ``InitSpec`` gives an instance of the model of the named cell, in which every gate of
    that cell is required; ``isinstance(spec, InitSpec)`` holds for all.  Instances are immutable;
    ``to_json()`` is canonical.  Raises ``pydantic.ValidationError``; ``critinit.load`` and ``critinit.parse``
    raise ``SpecError`` with one clear message instead.
    """

    schema_version: Annotated[Literal[1], Integer]
    cell: str
    reset: Literal["after", "before"] | None = Field(
        default=None, description="gru only: where the reset gate acts, after or before the recurrent kernel."
    )
    scheme: str = Field(min_length=1, max_length=100, description="Where this came from; custom after changes.")
    T: Annotated[int, Field(ge=1, le=MAX_T, description="Sequence length that it is made for, in steps.")]
    layers: Annotated[tuple[Layer, ...], Field(min_length=1, max_length=MAX_LAYERS, strict=False)]
    target: Target | None = Field(default=None, description="What the scheme set out to reach.")

    @model_validator(mode="wrap")
    @classmethod
    def _dispatch(cls, data: Any, handler: Any) -> Any:
        if cls is not InitSpec or isinstance(data, InitSpec):
            return handler(data)
        if not isinstance(data, dict):
            raise PydanticCustomError("object", "a JSON object", {"field": ""})
        name = data.get("cell")
        if not isinstance(name, str) or not cells.is_known(name):
            own = isinstance(name, str) and name.isidentifier()
            raise PydanticCustomError(
                "cell" if "cell" in data else "missing",
                "allowed: {names}" + ("; for a cell of your own name its file with --cell-file" if own else ""),
                {"field": "cell", "names": ", ".join(cells.known())},
            )
        return spec_model(name).model_validate(data)

    @model_validator(mode="after")
    def _kernels_fit(self) -> Self:
        for gate, parts in self.layers[0].gates.items():
            if parts.input.distribution in ("orthogonal", "identity"):
                raise PydanticCustomError(
                    "input_kernel",
                    "allowed in the first layer: normal, uniform, zero (its input has a width of its own, "
                    "and an orthogonal or identity kernel is square)",
                    {"field": f"layers.0.gates.{gate}.input.distribution"},
                )
        return self

    @model_serializer(mode="wrap")
    def _leave_out_the_empty(self, handler: Any) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        for key in ("reset", "target"):
            if data.get(key) is None:
                data.pop(key, None)
        return data

    def to_json(self) -> str:
        """The canonical JSON text, newline at the end."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"

    def to_bytes(self) -> bytes:
        """The canonical bytes: ``to_json`` in UTF-8."""
        return self.to_json().encode()

    def _tables(self) -> Iterator[Table]:
        from critinit.spec.tables import tables

        return tables(self)

    def find_cell(self) -> cells.Cell:
        """The cell's definition."""
        return cells.find(self.cell, self.reset)


def spec_model(cell: str) -> type[InitSpec]:
    """The model of one known cell's specs: its gates and its reset variants, all required."""
    variants = cells.variants(cell)
    return _spec_model(cell, variants[0].gates, tuple(variant.reset for variant in variants), variants[0].projects)


def _title(cell: str) -> str:
    return "".join(part.capitalize() for part in cell.split("_"))


if not TYPE_CHECKING:  # a type checker would take every name for one of this module

    def __getattr__(name: str) -> Any:
        """The models of the cells, ``GruSpec``, ``GruLayer`` and ``GruGates``: by these names specs are pickled."""
        for cell in cells.known():
            if name.startswith(_title(cell)):
                model = spec_model(cell)
                layer = cast(Any, model.model_fields["layers"].annotation).__args__[0]
                for found in (model, layer, layer.model_fields["gates"].annotation):
                    if found.__name__ == name:
                        return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _spec_model(cell: str, gates: tuple[str, ...], resets: tuple[str | None, ...], projects: bool) -> type[InitSpec]:
    title = _title(cell)
    fields: Any = dict.fromkeys(gates, (Gate, ...))
    gates_model = create_model(f"{title}Gates", __base__=Gates, **fields)
    layer_fields: Any = {"gates": (gates_model, ...)}
    layer_model: Any = create_model(f"{title}Layer", __base__=ProjectedLayer if projects else Layer, **layer_fields)
    spec_fields: Any = {
        "cell": (Literal[cell], ...),
        "layers": (tuple[layer_model, ...], Field(min_length=1, max_length=MAX_LAYERS, strict=False)),
    }
    if resets == (None,):
        spec_fields["reset"] = (type(None), None)
    else:
        spec_fields["reset"] = (Literal[resets], Field(description="Where the reset gate acts."))
    return create_model(f"{title}Spec", __base__=InitSpec, **spec_fields)
