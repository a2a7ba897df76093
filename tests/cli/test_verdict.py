"""A wrong prediction is noticed, a right one is not: the verdict can fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from critinit_cli.verdict import misses

from critinit.simulation import Measurement
from critinit.spec import InitSpec, Numbers
from critinit.spec.reading import validate_object
from tests.spec.examples import plain_object


def numbers(chi: float, second: float, error: float | None = None) -> dict[str, Any]:
    return {
        "second_moment": second,
        "chi": chi,
        "time_scale": None,
        "survival": 0.5,
        "unit_time_constants": {"min": 1.0, "median": 2.0, "max": 3.0},
        "jacobian": {"mean_squared_singular_value": chi, "variance": 0.0},
        "standard_error": None if error is None else {"chi": error},
    }


def predicted(untied: Any, tied: Any) -> InitSpec:
    value = plain_object()
    value["layers"][0]["predicted"] = {"untied": untied, "tied": tied}
    return validate_object(value)


def measured(value: dict[str, Any]) -> tuple[Measurement]:
    nothing = np.zeros(1)
    return (Measurement(Numbers.model_validate(value), nothing, nothing, nothing),)


@pytest.mark.parametrize(
    ("chi", "error", "names"),
    [(0.905, 0.001, []), (0.95, 0.02, []), (0.95, 0.01, ["chi"]), (0.0, 0.0, ["chi"]), (1.2, 0.05, ["chi"])],
)
def test_chi_is_held_to_its_error(chi: float, error: float, names: list[str]) -> None:
    spec = predicted({}, numbers(0.9, 0.1))
    found = misses(spec, {"tied": measured(numbers(chi, 0.101, error))})
    assert [line.split(": ")[0] for line in found] == [f"layers.0.tied.{name}" for name in names]


def test_the_second_moment_is_held_to_three_percent() -> None:
    spec = predicted(numbers(0.9, 0.1), {})
    assert misses(spec, {"untied": measured(numbers(0.9, 0.1029))}) == []
    (line,) = misses(spec, {"untied": measured(numbers(0.9, 0.104))})
    assert line.startswith(
        "layers.0.untied.second_moment: measured 0.104 +- 0; predicted 0.1; allowed: 3 % apart"
    )


def test_the_predictions_own_error_counts() -> None:
    spec = predicted({}, numbers(0.9, 0.1, 0.1))
    assert misses(spec, {"tied": measured(numbers(1.1, 0.1))}) == []


def test_what_was_not_predicted_or_not_measured_is_not_judged() -> None:
    assert misses(predicted(None, {}), {"untied": (None,), "tied": measured(numbers(0.5, 0.5))}) == []


def test_a_dead_state_agrees_with_itself() -> None:
    assert misses(predicted({}, numbers(0.0, 0.0)), {"tied": measured(numbers(0.0, 0.0))}) == []
