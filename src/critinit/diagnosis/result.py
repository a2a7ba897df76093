"""The result of ``diagnose``: numbers, what the spec predicted, and the verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from critinit.diagnosis.findings import FINE, Finding
from critinit.diagnosis.numbers import LayerNumbers
from critinit.showing import Shown, Table, aligned
from critinit.spec import Numbers

__all__ = ["Diagnosis", "LayerDiagnosis", "place_name"]

_NEAR = 0.1
"""How far the steps of a measured retention may be from the spec's T, relative, to be compared."""
_CURVE_POINTS = 200
"""Numbers of a course in JSON: as many as a picture shows."""
_COLUMNS = ("", "measured", "±", "predicted")
_WAYS = ("forward", "backward")


def place_name(network: str, layer: int, direction: int) -> str:
    """Return in words where a layer is.

    Args:
        network: The network's path in the model; "" is the model itself.
        layer: Its number in the network, from 0.
        direction: 0 forward, 1 backward.

    Example:
        >>> place_name("", 0, 1)
        'the model itself, layer 0 backward'
    """
    way = "" if direction == 0 else f" {_WAYS[1]}"
    return f"{network or 'the model itself'}, layer {layer}{way}"


@dataclass(frozen=True, slots=True)
class LayerDiagnosis:
    """One layer in one direction.

    Attributes:
        network: The network's path in the model; "" is the model itself.
        layer: Its number in the network, from 0.
        direction: 0 forward, 1 backward.
        cell: The cell.
        numbers: What was measured.
        T: The spec's T; None without a spec.
        predicted: What the spec predicted of this layer; None where it does not say, or there is no spec.
        predicted_exponent: The largest Lyapunov exponent that the spec predicts, ½ ln χ; None also where units have
            time constants of their own on purpose: it is then that of a few slowest units after very many steps.
        findings: What is wrong, the worst first.
    """

    network: str
    layer: int
    direction: int
    cell: str
    numbers: LayerNumbers
    T: int | None
    predicted: Numbers | None
    predicted_exponent: float | None
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        """ "fine", or all that was found, in words."""
        return "; ".join(map(str, self.findings)) or FINE

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return place_name(self.network, self.layer, self.direction)

    @property
    def is_at_T(self) -> bool:
        """Whether the retention was measured over about as many steps as the spec's T."""
        return self.T is not None and abs(self.numbers.retention_steps - self.T) <= _NEAR * self.T

    def rows(self) -> Iterator[tuple[str, float | None, float | None, float | None]]:
        """Yield name, measured number, standard error and predicted number; None where there is none."""
        found, stated, errors = self.numbers, self.predicted, self.numbers.standard_error
        steps, at_T = f"over {found.retention_steps} steps", self.is_at_T

        def predicted(name: str, comparable: bool = True) -> float | None:
            value: Any = stated if comparable else None
            for part in name.split("."):
                value = None if value is None else getattr(value, part)
            return None if value is None else float(value)

        yield "second moment", found.second_moment, errors["second_moment"], predicted("second_moment")
        if found.cell_second_moment is not None:
            name = "cell_second_moment"
            yield "cell second moment", found.cell_second_moment, errors[name], predicted(name)
        for word, part in (("shortest", "min"), ("median", "median"), ("longest", "max")):
            name = f"unit_time_constants.{part}"
            yield f"time constant, {word}", getattr(found.unit_time_constants, part), None, predicted(name)
        yield f"retention {steps}", found.retention, None, predicted("retention", at_T)
        name = "chi_over_T"
        yield f"growth rate chi {steps}", found.chi_over_T, errors[name], predicted(name, at_T)
        yield f"gradient, squared, {len(found.gradient) - 1} steps back", found.gradient[-1], None, None
        for word, part in (("mean squared singular value", "mean_squared_singular_value"), ("variance", "variance")):
            name = f"jacobian.{part}"
            yield f"Jacobian, {word}", getattr(found.jacobian, part), errors[name], predicted(name)
        yield "Jacobian, largest singular value", found.largest_singular_value, None, None
        yield (
            f"largest singular value over {found.steps - 1} steps",
            found.largest_singular_value_over_T,
            None,
            None,
        )
        for k, (exponent, error) in enumerate(zip(found.lyapunov, errors["lyapunov"], strict=True)):
            yield f"Lyapunov exponent {k + 1}", exponent, error, self.predicted_exponent if k == 0 else None
        yield "saturated units", found.saturated_units, None, None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain numbers, texts and lists, for JSON; what is not finite is null."""
        found, errors = self.numbers, dict(self.numbers.standard_error)
        return {
            "network": self.network,
            "layer": self.layer,
            "direction": self.direction,
            "cell": self.cell,
            "verdict": self.verdict,
            "findings": [{"kind": finding.kind, "text": finding.text} for finding in self.findings],
            "units": found.units,
            "sequences": found.sequences,
            "steps": {"min": found.shortest, "max": found.steps},
            "second_moment": found.second_moment,
            "cell_second_moment": found.cell_second_moment,
            "unit_time_constants": found.unit_time_constants.model_dump(),
            "retention": found.retention,
            "chi_over_T": found.chi_over_T,
            "retention_steps": found.retention_steps,
            "jacobian": {
                **found.jacobian.model_dump(),
                "largest_singular_value": found.largest_singular_value,
                "largest_singular_value_over_T": found.largest_singular_value_over_T,
            },
            "lyapunov_exponents": [
                {"value": _finite(x), "standard_error": _finite(error), "drift": drift}
                for x, error, drift in zip(found.lyapunov, errors.pop("lyapunov"), found.lyapunov_drift, strict=True)
            ],
            "saturated_units": found.saturated_units,
            "overdriven_units": found.overdriven_units,
            "perturbation": _thinned(found.perturbation),
            "gradient": _thinned(found.gradient),
            "standard_error": {name: _finite(error) for name, error in errors.items()},
            "predicted": None if self.predicted is None else self.predicted.model_dump(mode="json"),
        }


@dataclass(frozen=True, slots=True)
class Diagnosis(Shown):
    """What ``diagnose`` found; iterating goes over the layers, each direction of its own.

    Attributes:
        layers: The layers.
        notes: What was left out or not compared, in words.
    """

    layers: tuple[LayerDiagnosis, ...]
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[LayerDiagnosis]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> LayerDiagnosis:
        return self.layers[index]

    @property
    def is_fine(self) -> bool:
        """Whether nothing was found."""
        return not any(layer.findings for layer in self.layers)

    @property
    def verdict(self) -> str:
        """ "fine", or what was found in each layer, in words."""
        return "; ".join(f"{layer.place}: {layer.verdict}" for layer in self.layers if layer.findings) or FINE

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain numbers, texts and lists, for JSON."""
        layers = [layer.to_dict() for layer in self.layers]
        return {"verdict": self.verdict, "fine": self.is_fine, "layers": layers, "notes": list(self.notes)}

    def to_json(self) -> str:
        """Return it as JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    def scalars(self) -> dict[str, float]:
        """Return the numbers that are worth a curve while a model trains, by names such as ``lstm/0/retention``.

        Example:
            logger.log(critinit.diagnose(model, batch).scalars())
        """
        found: dict[str, float] = {}
        for layer in self.layers:
            numbers, way = layer.numbers, "" if layer.direction == 0 else f"_{_WAYS[1]}"
            prefix = "/".join(filter(None, ("critinit", layer.network, f"{layer.layer}{way}")))
            named = {
                "second_moment": numbers.second_moment,
                "time_constant_median": numbers.unit_time_constants.median,
                "chi_over_T": numbers.chi_over_T,
                "log10_retention": _log10(numbers.retention),
                "log10_gradient": _log10(numbers.gradient[-1]),
                "lyapunov": max(numbers.lyapunov[0], -_LOWEST),
                "largest_singular_value": numbers.largest_singular_value,
                "saturated_units": numbers.saturated_units,
                "findings": float(len(layer.findings)),
            }
            found |= {f"{prefix}/{name}": value for name, value in named.items()}
        return found

    def __str__(self) -> str:
        return "\n\n".join(map(_text, self._tables()))

    def _tables(self) -> Iterator[Table]:
        for layer in self.layers:
            found = layer.numbers
            lengths = f"{found.steps}" if found.shortest == found.steps else f"{found.shortest} to {found.steps}"
            plural = "s" * (found.sequences != 1)
            followed = (
                f"{layer.cell}, {found.units} units; followed: {found.sequences} sequence{plural} of {lengths} steps"
            )
            rows = tuple((name, *map(_number, values)) for name, *values in layer.rows())
            last = layer is self.layers[-1]
            below = (followed, f"verdict: {layer.verdict}", *(f"note: {note}" for note in self.notes if last))
            yield Table(layer.place, _COLUMNS, rows, below)


_LOWEST = 100.0
"""A logged logarithm is at least minus this: loggers draw no −∞."""


def _log10(x: float) -> float:
    return max(math.log10(x), -_LOWEST) if x > 0.0 else -_LOWEST


def _finite(x: float | None) -> float | None:
    return x if x is not None and math.isfinite(x) else None


def _thinned(course: tuple[float, ...]) -> list[list[float]]:
    """[steps, what is left] of a course, at most 200 of them, the first and the last among these."""
    count = min(len(course), _CURVE_POINTS)
    places = sorted({round(i * (len(course) - 1) / max(count - 1, 1)) for i in range(count)})
    return [[n, float(f"{course[n]:.6g}")] for n in places]


def _number(x: float | None) -> str:
    return "" if x is None or math.isnan(x) else f"{x:.4g}"


def _text(table: Table) -> str:
    return "\n".join([table.title, *aligned([table.columns, *table.rows]), *table.below])
