"""A wrong prediction is noticed, a right one is not: the verdict can fail."""

from __future__ import annotations

import numpy as np
import pytest
from critinit_cli.verdict import misses

from critinit.spec import Numbers


def numbers(chi: float, second: float = 0.1, error: float | None = None) -> Numbers:
    value = {
        "second_moment": second,
        "chi": chi,
        "time_scale": None,
        "retention": 0.5,
        "unit_time_constants": {"min": 1.0, "median": 2.0, "max": 3.0},
        "jacobian": {"mean_squared_singular_value": chi, "variance": 0.0},
        "standard_error": None if error is None else {"chi": error},
    }
    return Numbers.model_validate(value)


@pytest.mark.parametrize(
    ("chi", "error", "names"),
    [
        (0.905, 0.001, []),  # within a percent
        (0.95, 0.02, []),  # within the error
        (0.95, 0.005, ["chi"]),
        (0.0, 0.0, ["chi"]),
        (1.2, 0.02, ["chi"]),
    ],
)
def test_chi_is_held_to_its_error(chi: float, error: float, names: list[str]) -> None:
    found = misses({"tied": [numbers(0.9)]}, {"tied": [numbers(chi, 0.101, error)]}, 6)
    assert [miss.where for miss in found] == [f"layers.0.tied.{name}" for name in names]
    assert {miss.reading for miss in found} <= {"tied"}


def test_fewer_networks_know_their_error_less_well() -> None:
    expected, found = {"tied": [numbers(0.9)]}, {"tied": [numbers(0.95, 0.1, 0.01)]}
    assert misses(expected, found, 3) == []
    assert len(misses(expected, found, 30)) == 1


def test_the_second_moment_is_held_to_three_percent() -> None:
    expected = {"untied": [None, numbers(0.9, 0.1)]}
    assert misses(expected, {"untied": [None, numbers(0.9, 0.1029)]}, 6) == []
    (miss,) = misses(expected, {"untied": [None, numbers(0.9, 0.104)]}, 6)
    assert str(miss) == "layers.1.untied.second_moment: measured 0.104 ± 0; predicted 0.1; allowed: 3 % apart"


def test_the_predictions_own_error_counts() -> None:
    expected = {"tied": [numbers(0.9, 0.1, 0.1)]}
    assert misses(expected, {"tied": [numbers(1.1)]}, 6) == []
    assert misses({"tied": [numbers(0.9)]}, {"tied": [numbers(1.1)]}, 6) != []


def test_what_has_no_reading_and_a_dead_state_are_not_judged() -> None:
    expected = {"untied": [None], "tied": [numbers(0.0, 0.0)]}
    assert misses(expected, {"untied": [None], "tied": [numbers(0.0, 0.0)]}, 6) == []


@pytest.mark.parametrize("networks", [3, 6, 20])
def test_a_true_prediction_is_called_missed_as_rarely_as_stated(networks: int) -> None:
    """2,000 runs of a true prediction, each with its own estimate of the error: at most 1 % and some luck."""
    rng = np.random.default_rng(0)
    runs = 2000
    samples = 0.9 + 0.05 * rng.standard_normal((runs, networks))
    means, errors = samples.mean(axis=1), samples.std(axis=1, ddof=1) / np.sqrt(networks)
    expected = {"tied": [numbers(0.9)]}
    alarms = sum(
        bool(misses(expected, {"tied": [numbers(mean, 0.1, error)]}, networks))
        for mean, error in zip(means, errors, strict=True)
    )
    assert alarms <= 0.01 * runs + 3 * np.sqrt(0.01 * runs)
