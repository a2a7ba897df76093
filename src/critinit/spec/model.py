"""The InitSpec: what a recurrent network's weights are to be, in terms of no framework.

The JSON form is canonical: one order of keys, shortest exact numbers, so the same spec has the same bytes.  What is
unknown stays unknown (null); nothing is filled in that a reader could take for something that a user said.

Evolution: ``schema_version`` is 1.  A change that lets old files keep their meaning (a new optional key, a new
distribution) keeps the number; a change that would alter what an existing file means raises it, and the reader then
converts the older versions that it knows.  It refuses a version that it does not know, by number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from critinit.cells import CELLS, Cell, find_cell
from critinit.distributions import KERNELS, Bias, CoupledBias, EntryKernel, Kernel, KernelFamily
from critinit.distributions.numbers import LARGEST, Finite, Integer, NonNegative, StrictModel, rounded
from critinit.distributions.registry import AnyBias, AnyKernel
from critinit.errors import ArgumentError
from critinit.frozen import FrozenMapping, thawed
from critinit.showing import Shown, Table

__all__ = [
    "FORGOTTEN",
    "GAINS",
    "KEPT",
    "MAX_DESCRIPTION",
    "MAX_LAYERS",
    "MAX_NAME",
    "MAX_T",
    "SCHEMA_VERSION",
    "Gate",
    "Gates",
    "Generated",
    "Group",
    "InitSpec",
    "Input",
    "Jacobian",
    "Layer",
    "NotComputed",
    "Numbers",
    "Padding",
    "Predicted",
    "Projection",
    "Target",
    "TimeConstants",
]

SCHEMA_VERSION = 1
"""The version of the format that this code reads and writes."""
MAX_LAYERS = 1000
"""Layers of a spec: more than anybody stacks, few enough that a spec is read at once."""
MAX_T = 10**9
"""Steps of a sequence."""
MAX_NAME = 100
"""Characters of a scheme's name."""
MAX_DESCRIPTION = 1000
"""Characters of a scheme's description, which is a line."""
_MOMENT_TOLERANCE = 1e-6
"""How far a coupled bias's stated moment may be from the other gate's, relative to 1 or to itself."""
_SHARE_TOLERANCE = 1e-9
"""How far the shares of groups may be from adding up to 1."""
GAINS: tuple[Literal["recurrent_gain", "input_gain"], ...] = ("recurrent_gain", "input_gain")
"""The keys of a gate that a normalized cell has, and no other."""
ONE_GROUP = "all"
"""The name of the group in a layer whose JSON has ``gates``."""


def _without(*names: str) -> Any:
    """A serializer that leaves these keys out where they say nothing (null, or nothing in them)."""

    def serialize(self: Any, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        return {key: value for key, value in data.items() if key not in names or value not in (None, [], ())}

    return model_serializer(mode="wrap")(serialize)


# ---- gates -----------------------------------------------------------------------------------------------


class Gate(StrictModel):
    """One gate: u = U x + W m + b, or in a normalized cell u = γ_x·norm(U x) + γ_h·norm(W m) + b."""

    recurrent: AnyKernel = Field(description="W: reads the state.")
    input: AnyKernel = Field(description="U: reads the input.")
    bias: AnyBias = Field(description="b: the effective bias, the sum of all that a framework adds.")
    recurrent_gain: NonNegative | None = Field(
        default=None, description="γ_h: the gain of the recurrent product's layer normalization, in a normalized cell."
    )
    input_gain: NonNegative | None = Field(
        default=None, description="γ_x: the gain of the input product's layer normalization, in a normalized cell."
    )

    _serialize = _without(*GAINS)

    @property
    def recurrent_power(self) -> float:
        """γ_h², the second moment of the normalized recurrent product; 0 where the kernel is 0."""
        return 0.0 if self.recurrent.is_zero else (self.recurrent_gain or 0.0) ** 2

    @property
    def input_power(self) -> float:
        """γ_x², the second moment of the normalized input product; 0 where the kernel is 0."""
        return 0.0 if self.input.is_zero else (self.input_gain or 0.0) ** 2


class Gates(FrozenMapping[Gate]):
    """The gates of a layer by name; coupled biases know their moments.

    Raises:
        ArgumentError: A bias is coupled to a gate that is not there or is coupled itself, or states other moments than
            follow from it.
    """

    __slots__ = ()
    item_type = Gate

    def __init__(self, gates: Mapping[str, Gate]) -> None:
        try:
            super().__init__(_coupled(gates))
        except PydanticCustomError as error:
            where, allowed = str((error.context or {})["field"]), error.message()
            raise ArgumentError(where, found=str(_at(gates, where)), allowed=allowed) from None

    @classmethod
    def _of(cls, items: Mapping[str, Gate]) -> Gates:
        return cls(_coupled(items))  # pydantic's error, with pydantic's path

    def followed(self, name: str) -> tuple[int, Bias]:
        """Return the bias that a gate's bias is, itself or the one that it is coupled to, and the sign."""
        bias = self[name].bias
        return (bias.sign, self[bias.to].bias) if isinstance(bias, CoupledBias) else (1, bias)

    def replace(self, **gates: Gate) -> Gates:
        """Return the same gates, but for these; the moments of coupled biases follow."""
        return Gates({**{name: _without_moments(gate) for name, gate in self.items()}, **gates})


def _without_moments(gate: Gate) -> Gate:
    """The gate; of a coupled bias without the moments that follow from another gate."""
    if not isinstance(gate.bias, CoupledBias):
        return gate
    return gate.model_copy(update={"bias": gate.bias.model_copy(update={"mean": None, "variance": None})})


def _at(gates: Mapping[str, Gate], path: str) -> Any:
    """What stands at a path such as ``input.bias.to``."""
    found: Any = gates
    for step in path.split("."):
        found = found[step] if isinstance(found, Mapping) else getattr(found, step)
    return found


def _coupled(gates: Mapping[str, Gate]) -> dict[str, Gate]:
    """The gates, with the moments of coupled biases filled in, or held to what they must be."""
    made = dict(gates)
    for name, gate in gates.items():
        bias = gate.bias
        if not isinstance(bias, CoupledBias):
            continue
        others = [n for n, g in gates.items() if n != name and not isinstance(g.bias, CoupledBias)]
        if bias.to not in others:
            allowed = ", ".join(others) or "none (all others are coupled)"
            raise PydanticCustomError("coupling", "{others}", {"field": f"{name}.bias.to", "others": allowed})
        mean, variance = gates[bias.to].bias.moments
        found = {}
        for field, moment in (("mean", bias.sign * mean), ("variance", variance)):
            stated, wanted = getattr(bias, field), rounded(moment)
            if stated is not None and abs(stated - wanted) > _MOMENT_TOLERANCE * max(1.0, abs(wanted)):
                context = {"field": f"{name}.bias.{field}", "to": bias.to, "wanted": f"{wanted:.8g}"}
                message = "what follows from the bias of {to}: {wanted}; or leave mean and variance out"
                raise PydanticCustomError("moment", message, context)
            found[field] = wanted if stated is None else stated
        made[name] = gate.model_copy(update={"bias": bias.model_copy(update=found)})
    return made


def _scaled(gate: Gate, **variances: float) -> Gate:
    """The gate with kernels of these variances, by part, and without gains."""
    parts = {n: getattr(gate, n).model_copy(update={"variance": variance}) for n, variance in variances.items()}
    return gate.model_copy(update={**parts, "recurrent_gain": None, "input_gain": None})


class Group(StrictModel):
    """Units of a layer that are drawn alike; a group's recurrent kernels read its own units.

    A layer's units stand in the order of its groups: those of the first group come first.
    """

    name: Annotated[str, Field(min_length=1, max_length=60)] = Field(description="Its name within the layer.")
    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(description="Share of the layer's units.")
    gates: Gates


# ---- what is known of the input --------------------------------------------------------------------------


class Padding(StrictModel):
    """Inputs that carry no information, before or after a sequence."""

    variance: NonNegative = Field(description="Their power per coordinate; 0 when silent.")
    constant: bool = Field(default=False, description="Whether they are all alike, so that they are no noise.")


class Input(StrictModel):
    """What is known of the layer's input."""

    variance: NonNegative = Field(description="Second moment of an input coordinate, R.")
    correlation: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        default=1.0, description="Correlation of the inputs of the two copies whose distance χ describes."
    )
    autocorrelation: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Correlation of the input with that of the step before; left out: 0 in the first layer, and that "
        "of the state below in further ones.",
    )
    padding: Padding | None = Field(default=None, description="Inputs that carry no information; null: unknown.")

    _serialize = _without("autocorrelation")

    @property
    def padding_power(self) -> float:
        """The power of padding where it is known; where it is not, padding counts as strong as the input."""
        return self.variance if self.padding is None else self.padding.variance

    def normalized(self) -> Input:
        """Return what a layer normalization makes of the input's product: power 1, or 0 where there is silence."""
        padding = None
        if self.padding is not None:
            padding = self.padding.model_copy(update={"variance": float(self.padding.variance > 0.0)})
        return self.model_copy(update={"variance": float(self.variance > 0.0), "padding": padding})


# ---- what is predicted -----------------------------------------------------------------------------------


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
    "chi_over_T",
    "time_scale_over_T",
    "retention",
    *(f"unit_time_constants.{name}" for name in TimeConstants.model_fields),
    *(f"jacobian.{name}" for name in Jacobian.model_fields),
)


def _errors(table: FrozenMapping[float | None]) -> FrozenMapping[float | None]:
    for name in table:
        if name not in ERROR_NAMES:
            raise PydanticCustomError("error_name", "the names {names}", {"names": ", ".join(ERROR_NAMES)})
    return FrozenMapping({name: table[name] for name in ERROR_NAMES if name in table})


KEPT, FORGOTTEN = 1e-3, 1e-6
"""What is left of a squared perturbation: from the first on it counts as kept, a thirtieth of its size, and below the
second as forgotten, a thousandth of its size, of which an optimizer sees next to nothing (docs/glossary.md)."""


class Numbers(StrictModel):
    """What theory or measurement says of one layer."""

    second_moment: NonNegative = Field(description="E h² per unit (of c for the peephole LSTM).")
    cell_second_moment: NonNegative | None = Field(default=None, description="E c² per unit (LSTM only).")
    chi: NonNegative | None = Field(
        default=None,
        description="χ: growth per step of the mean squared distance of two copies, after many steps; null where it "
        "cannot be sampled, as it belongs to the few slowest units.",
    )
    time_scale: NonNegative | None = Field(
        default=None, description="ξ = −1/ln χ in steps; null where χ ≥ 1, or is null itself."
    )
    chi_over_T: NonNegative = Field(description="Mean growth per step over T steps: the T-th root of retention.")
    time_scale_over_T: NonNegative | None = Field(
        default=None, description="−1/ln of chi_over_T in steps; null where that is 1 or more."
    )
    retention: NonNegative = Field(
        description="E|δ_T|²/E|δ_0|²: what T steps leave of a perturbation; 0 where it is below 1e-308."
    )
    unit_time_constants: TimeConstants
    jacobian: Jacobian
    standard_error: Annotated[FrozenMapping[NonNegative | None], AfterValidator(_errors)] | None = Field(
        default=None, description="Of each number, where it was sampled; nested names joined with a dot."
    )
    notes: tuple[str, ...] = Field(default=(), strict=False, description="Where a number is no longer valid, in words.")

    _serialize = _without("cell_second_moment", "standard_error", "notes")


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
        description="time_scale: −1/ln χ after many steps, with weights that stay; unit_time_constant: "
        "1/(1 − E keep) of the slowest unit while the input carries no information; the first layer is meant."
    )
    wanted: NonNegative
    reached: NonNegative | None = Field(default=None, description="null: unbounded (a time scale where χ ≥ 1).")
    limit: str | None = Field(default=None, description="What stops it; left out where the target is met.")

    _serialize = _without("limit")


# ---- layers ----------------------------------------------------------------------------------------------


class Projection(StrictModel):
    """r = P h, with P of as many rows as r has coordinates: what the kernels read and the layer gives."""

    kernel: AnyKernel = Field(description="P: independent entries, or orthogonal (orthonormal rows times a gain).")
    width: Annotated[float, Field(gt=0, le=1, description="Coordinates of r per unit.")]

    @field_validator("kernel")
    @classmethod
    def _projects(cls, kernel: Kernel) -> Kernel:
        if not _can_project(kernel):
            names = ", ".join(name for name, kind in KERNELS.loaded().items() if _can_project(kind))
            raise PydanticCustomError("projection", "{names}", {"field": "distribution", "names": names})
        if _fan(kernel) != "in":
            raise PydanticCustomError("projection", "in", {"field": "fan"})
        return kernel

    @property
    def gain(self) -> float:
        """E r²/E h²."""
        return self.kernel.variance

    @property
    def excess(self) -> float:
        """κ: with Z = J − D_a at infinite width, the mean of (Z Zᵀ)² is that of an unprojected layer + κ (tr Z Zᵀ)²."""
        return 1.0 / self.width - (1.0 if self.kernel.family is KernelFamily.HAAR else 0.0)

    def coordinates(self, units: int) -> int:
        """Return how many coordinates r has, at least 1."""
        return max(1, round(self.width * units))


def _can_project(kernel: Kernel | type[Kernel]) -> bool:
    """Whether a kernel can have fewer rows than columns, and mixes what it reads."""
    if kernel.family is KernelFamily.HAAR:
        return not kernel.pairs_units
    return kernel.family is KernelFamily.INDEPENDENT and not kernel.is_square


def _fan(kernel: Kernel) -> str:
    """The width that a kernel's variance is divided by, where it has a choice; else "in"."""
    return kernel.fan if isinstance(kernel, EntryKernel) else "in"


class Layer(StrictModel):
    """One recurrent layer; both directions of a bidirectional layer follow it.

    A layer of one group is written with ``gates``; ``layer.gates`` reads them.  Several groups are written with
    ``groups``, whose shares add up to 1.
    """

    input: Input
    groups: Annotated[tuple[Group, ...], Field(min_length=1, strict=False)]
    projection: Projection | None = Field(default=None, description="What the kernels read, in a cell that projects.")
    memory_gain: NonNegative | None = Field(
        default=None,
        description="γ_c: the gain of the layer normalization between memory and read-out, in a normalized cell; null "
        "where the memory is read as it is.",
    )
    predicted: Predicted = Predicted()

    @model_validator(mode="before")
    @classmethod
    def _of_one_group(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.keys() & {"gates", "groups"}:
            raise PydanticCustomError("missing", "required", {"field": "gates"})
        if isinstance(data, dict) and "gates" in data:
            if "groups" in data:
                context = {"field": "groups", "hint": "a layer has gates or groups"}
                raise PydanticCustomError("extra_forbidden", "an unknown key", context)
            groups = [{"name": ONE_GROUP, "share": 1.0, "gates": data["gates"]}]
            return {**{key: value for key, value in data.items() if key != "gates"}, "groups": groups}
        return data

    @field_validator("groups")
    @classmethod
    def _is_whole(cls, groups: tuple[Group, ...]) -> tuple[Group, ...]:
        names = [group.name for group in groups]
        if len(set(names)) < len(names):
            raise PydanticCustomError("group_names", "each group's name once", {})
        if abs(sum(group.share for group in groups) - 1.0) > _SHARE_TOLERANCE:
            total = f"{sum(group.share for group in groups):.6g}"
            raise PydanticCustomError("shares", "shares that add up to 1; these add up to {total}", {"total": total})
        return groups

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        groups = data.pop("groups")
        alone = len(groups) == 1 and groups[0]["name"] == ONE_GROUP
        projection, memory_gain = data.pop("projection"), data.pop("memory_gain")
        return {
            "input": data["input"],
            **({"gates": groups[0]["gates"]} if alone else {"groups": groups}),
            **({} if projection is None else {"projection": projection}),
            **({} if memory_gain is None else {"memory_gain": memory_gain}),
            "predicted": data["predicted"],
        }

    @property
    def gates(self) -> Gates:
        """The gates of a layer that has one group.

        Raises:
            ArgumentError: It has several.
        """
        return self._alone().gates

    def _alone(self) -> Group:
        """The one group, or an ``ArgumentError`` where there are several."""
        if len(self.groups) > 1:
            found = f"{len(self.groups)} groups of units ({', '.join(group.name for group in self.groups)})"
            raise ArgumentError("groups", found=found, allowed="layers of one group", hint="layer.groups has them all")
        return self.groups[0]

    def alone(self) -> tuple[Layer, ...]:
        """Return each group as a layer of its own, without a prediction; of a layer of one group the layer itself.

        Groups do not read each other, so at infinite width each does what it would do alone.
        """
        if len(self.groups) == 1:
            return (self,)
        return tuple(
            Layer(
                input=self.input,
                groups=(Group(name=ONE_GROUP, share=1.0, gates=group.gates),),
                projection=self.projection,
                memory_gain=self.memory_gain,
            )
            for group in self.groups
        )

    def split(self, total: int) -> tuple[int, ...]:
        """Return how many of ``total`` units, or of the coordinates of a projection, each group has.

        Each gets its share rounded down, and those with the largest remainders one more.

        Raises:
            ArgumentError: There are too few for every group to have one.

        Example:
            >>> from critinit import generate
            >>> generate("gru", T=50).layers[0].split(10)
            (10,)
        """
        wanted = [group.share * total for group in self.groups]
        counts = [math.floor(share + _SHARE_TOLERANCE * total) for share in wanted]
        by_remainder = sorted(range(len(counts)), key=lambda i: counts[i] - wanted[i])
        for i in by_remainder[: total - sum(counts)]:
            counts[i] += 1
        if min(counts) < 1:
            few = self.groups[counts.index(min(counts))]
            found = f"{total}, of which group {few.name} (share {few.share:g}) would have none"
            enough = math.ceil(1.0 / min(group.share for group in self.groups) - _SHARE_TOLERANCE)
            raise ArgumentError("hidden_size", found=found, allowed=f"more, for instance {enough}")
        return tuple(counts)

    def with_gates(self, gates: Mapping[str, Gate]) -> Layer:
        """Return the layer of one group with other gates, and no prediction.

        Raises:
            ArgumentError: It has several groups.
        """
        self._alone()
        groups = (self.groups[0].model_copy(update={"gates": gates}),)
        return Layer(input=self.input, groups=groups, projection=self.projection, memory_gain=self.memory_gain)

    def reduced(self) -> Layer:
        """Return the layer without a projection and gains, all in its kernels' variances.

        Of a projection P they are W P as they act on h; at infinite width this does what the projected layer does, but
        for ``Projection.excess``.  Of a normalized cell they have the variances γ_h² and γ_x² and read what is
        normalized: the message over √E m², and inputs of power 1, or 0 where they are silent.
        """
        if self.projection is not None:
            gain = self.projection.gain
            gates = {n: _scaled(gate, recurrent=gate.recurrent.variance * gain) for n, gate in self.gates.items()}
            return self.with_gates(gates).model_copy(update={"projection": None})
        if all(gate.recurrent_gain is None for gate in self.gates.values()):
            return self
        gates = {
            name: _scaled(gate, recurrent=gate.recurrent_power, input=gate.input_power)
            for name, gate in self.gates.items()
        }
        return self.with_gates(gates).model_copy(update={"input": self.input.normalized()})


_ARGUMENTS_DEPTH = 4
"""Levels of lists and objects within one argument: more than ``generate`` takes."""


def _recorded(arguments: FrozenMapping[Any]) -> FrozenMapping[Any]:
    """The arguments, immutable and in one form."""
    return FrozenMapping({name: _argument(arguments[name], name, _ARGUMENTS_DEPTH) for name in sorted(arguments)})


def _argument(value: Any, name: str, depth: int) -> Any:
    """An argument with keys by alphabet and no −0.0, so that it has one form in JSON; an error where it has none."""
    if value is None or isinstance(value, str) or (isinstance(value, int) and abs(value) <= LARGEST):
        return value
    if isinstance(value, float) and abs(value) <= LARGEST:  # which NaN is not
        return value + 0.0
    if isinstance(value, (list, tuple)) and depth > 0:
        return tuple(_argument(item, name, depth - 1) for item in value)
    if isinstance(value, Mapping) and depth > 0 and all(isinstance(key, str) for key in value):
        return FrozenMapping({key: _argument(value[key], name, depth - 1) for key in sorted(value)})
    allowed = "texts, true, false, null, numbers of at most 1e100, and lists and objects of these"
    raise PydanticCustomError("argument", allowed, {"field": name})


class Generated(StrictModel):
    """What generated a spec: ``critinit.generate(**arguments)`` gives the same bytes again."""

    critinit: str = Field(description="The version of critinit.")
    arguments: Annotated[FrozenMapping[Any], AfterValidator(_recorded), PlainSerializer(thawed)] = Field(
        description="The arguments of critinit.generate."
    )


class InitSpec(Shown, StrictModel):
    """What the weights of a recurrent network are to be.

    A value that never changes: it hashes, compares, copies and pickles.  ``to_json()`` is canonical.  A copy with
    changes (``model_copy(update=…)``) no longer says what generated it, unless the changes do.

    Raises:
        pydantic.ValidationError: It is not valid.  ``critinit.load`` and ``critinit.parse`` raise ``SpecError`` with
            one clear message instead.

    Example:
        >>> from critinit import generate
        >>> spec = generate("gru", T=100)
        >>> spec.layers[0].gates["update"].bias.distribution
        'log_uniform_time'
    """

    schema_version: Annotated[Literal[1], Integer]
    cell: str = Field(description="The cell; it decides which gates a layer has.")
    scheme: str = Field(min_length=1, max_length=MAX_NAME, description="Where this came from; custom after changes.")
    description: str | None = Field(
        default=None, max_length=MAX_DESCRIPTION, description="The scheme in a line; left out of critinit's own."
    )
    T: Annotated[int, Field(ge=1, le=MAX_T, description="Over how many steps the network has to remember.")]
    generated: Generated | None = Field(default=None, description="What generated it; left out in one made by hand.")
    layers: Annotated[tuple[Layer, ...], Field(min_length=1, max_length=MAX_LAYERS, strict=False)]
    target: Target | None = Field(default=None, description="What the scheme set out to reach.")

    _serialize = _without("description", "generated", "target")
    derived = ("generated",)

    @field_validator("cell")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if CELLS.find(name) is None:
            own = "name the file of a cell of your own with --cell-file" if name.isidentifier() else ""
            hint = "; ".join(filter(None, (CELLS.hint(name), own)))
            raise PydanticCustomError("cell", "{names}", {"names": ", ".join(CELLS.names()), "hint": hint})
        return name

    @field_validator("layers")
    @classmethod
    def _fit_the_cell(cls, layers: tuple[Layer, ...], info: ValidationInfo) -> tuple[Layer, ...]:
        if "cell" not in info.data:  # it is refused already
            return layers
        cell = find_cell(info.data["cell"])
        problems = [problem for index, layer in enumerate(layers) for problem in _misfits(cell, index, layer)]
        if problems:
            raise ValidationError.from_exception_data("InitSpec", problems)
        return tuple(_in_order(cell, layer) for layer in layers)

    def to_json(self) -> str:
        """Return the canonical JSON text, newline at the end."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: ``to_json`` in UTF-8."""
        return self.to_json().encode()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON value: plain dicts, lists, numbers and text, null where a number is unbounded or unknown."""
        return self.model_dump(mode="json")

    def find_cell(self) -> Cell:
        """Return the cell's definition."""
        return find_cell(self.cell)

    def _tables(self) -> Iterator[Table]:
        from critinit.spec.tables import tables

        return tables(self)


def _misfits(cell: Cell, index: int, layer: Layer) -> Iterator[InitErrorDetails]:
    """What of a layer does not fit the cell, or the layer's place, as pydantic's errors."""

    def wrong(kind: str, message: str, *loc: str | int, found: Any = None, **context: Any) -> InitErrorDetails:
        error = PydanticCustomError(kind, message, context)
        return InitErrorDetails(type=error, loc=(index, *loc), input=found)

    if (layer.projection is None) == cell.projects:
        if cell.projects:
            yield wrong("missing", "required", "projection")
        else:
            yield wrong("extra_forbidden", "an unknown key", "projection")
    if layer.memory_gain is not None and not (cell.normalized and cell.has_readout):
        yield wrong("extra_forbidden", "an unknown key", "memory_gain")
    if layer.memory_gain is None and cell.keeps_normalized:
        yield wrong("missing", "required", "memory_gain")
    if cell.normalized and len(layer.groups) > 1:
        message = "one group in a normalized cell, whose normalization is over all units"
        yield wrong("groups", message, "groups", found=f"{len(layer.groups)} groups")
    for number, group in enumerate(layer.groups):
        place = ("groups", number, "gates")
        for name in cell.gates:
            if name not in group.gates:
                yield wrong("missing", "required", *place, name)
        for name, gate in group.gates.items():
            if name not in cell.gates:
                yield wrong("extra_forbidden", "an unknown key", *place, name)
            for gain in GAINS:
                if (getattr(gate, gain) is None) == cell.normalized:
                    kind = ("missing", "required") if cell.normalized else ("extra_forbidden", "an unknown key")
                    yield wrong(*kind, *place, name, gain)
            for part in ("recurrent", "input"):
                found: Kernel = getattr(gate, part)
                where = (*place, name, part)
                if cell.normalized and found.reads_itself:
                    message = "{names}, where products are normalized (that kernel mixes no units)"
                    yield wrong("kernel", message, *where, "distribution", found=found.distribution, names=_mixing())
                elif cell.projects and found.is_square:
                    message = "{names}, where the state is projected (that kernel is square)"
                    yield wrong(
                        "kernel", message, *where, "distribution", found=found.distribution, names=_not_square()
                    )
                elif cell.projects and _fan(found) != "in":
                    yield wrong("kernel", "in, where the state is projected", *where, "fan", found=_fan(found))
                elif part == "input" and index == 0 and found.is_square:
                    message = "{names} in the first layer, whose input has a width of its own (that kernel is square)"
                    yield wrong(
                        "kernel", message, *where, "distribution", found=found.distribution, names=_not_square()
                    )


def _not_square() -> str:
    """The kernels that may have any shape, for messages; asks every installed package, which takes milliseconds."""
    return ", ".join(name for name, kind in KERNELS.loaded().items() if not kind.is_square)


def _mixing() -> str:
    """The kernels that mix units, for messages."""
    return ", ".join(name for name, kind in KERNELS.loaded().items() if kind.family is not KernelFamily.DIAGONAL)


def _in_order(cell: Cell, layer: Layer) -> Layer:
    """The layer with its gates in the cell's order."""
    if all(tuple(group.gates) == cell.gates for group in layer.groups):
        return layer
    groups = tuple(
        group.model_copy(update={"gates": Gates({name: group.gates[name] for name in cell.gates})})
        for group in layer.groups
    )
    return layer.model_copy(update={"groups": groups})
