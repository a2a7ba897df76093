"""``analyze`` and ``simulate`` where inputs have few features: what is for how many is said, and compared alike."""

from __future__ import annotations

import json

import pytest

from critinit.theory.protocol import MANY_FEATURES
from tests.cli.conftest import Run

ONE = "inputs of 1 feature"


@pytest.fixture(scope="module")
def text() -> str:
    """A spec that records that its network reads one feature."""
    from critinit import generate

    return generate("gru", T=20, input_size=1).to_json()


def simulated(run: Run, text: str, *options: str):
    return run("simulate", "-", "--width", "100", "--networks", "4", "--steps", "30", *options, stdin=text.encode())


def test_analyze_says_for_how_many_the_numbers_are(run: Run, text: str) -> None:
    result = run("analyze", "-", "--precision", "0.1", stdin=text.encode())
    assert result.code == 0
    assert result.out.startswith(f"gru, scheme critical, T = 20, {ONE}\n")
    assert f"untied: {MANY_FEATURES}\n" in result.out
    assert "Untied and tied theory are not compared: " in result.out
    assert "agree" not in result.out
    (layer,) = json.loads(run("analyze", "-", "--precision", "0.1", "--json", stdin=text.encode()).out)["layers"]
    assert layer["features"] == 1
    assert layer["tied"]["second_moment"] > 1.5 * layer["untied"]["second_moment"]


def test_analyze_takes_another_number(run: Run, text: str) -> None:
    many = run("analyze", "-", "--features", "1000000", stdin=text.encode())
    assert "feature" not in many.out
    assert "Untied and tied theory agree." in many.out
    three = run("analyze", "-", "--features", "3", "--weights", "tied", "--precision", "0.2", stdin=text.encode())
    assert three.out.startswith("gru, scheme critical, T = 20, inputs of 3 features\n")


@pytest.mark.parametrize("command", [("analyze",), ("simulate", "--width", "50")])
def test_less_than_one_is_refused(run: Run, text: str, command: tuple[str, ...]) -> None:
    name, *options = command
    result = run(name, "-", *options, "--features", "0", stdin=text.encode())
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: --features: found 0; allowed: an integer of at least 1\n"


def test_networks_are_compared_with_theory_for_as_many(run: Run, text: str) -> None:
    result = simulated(run, text, "--weights", "tied")
    assert result.code == 0
    assert result.out.startswith(f"gru, scheme critical, T = 20, tied weights, {ONE}\n")
    assert f"predicted: by the full tied theory, {ONE}\n" in result.out
    assert result.out.endswith("measured on 4 networks of 100 units that read 1 feature: the prediction holds\n")
    value = json.loads(simulated(run, text, "--weights", "tied", "--json").out)
    (layer,) = value["layers"]
    (moment,) = (one for one in value["compared"] if one["field"] == "second_moment")
    assert (layer["features"], value["prediction_holds"]) == (1, True)
    assert moment["expected"] == layer["predicted"]["tied"]["second_moment"]
    stated = json.loads(text)["layers"][0]["predicted"]["tied"]["second_moment"]
    assert moment["expected"] > 1.5 * stated


def test_untied_numbers_are_not_compared(run: Run, text: str) -> None:
    result = simulated(run, text, "--weights", "untied")
    assert result.code == 0
    assert "predicted: for inputs of infinitely many features, so it is not compared\n" in result.out
    assert result.out.endswith("measured on 4 networks of 100 units that read 1 feature: nothing is compared\n")
    value = json.loads(simulated(run, text, "--weights", "untied", "--json").out)
    assert (value["compared"], value["prediction_holds"]) == ([], None)


def test_a_prediction_of_ones_own_is_compared_all_the_same(run: Run, text: str) -> None:
    value = json.loads(text)
    value["layers"][0]["predicted"]["tied"]["second_moment"] *= 4
    result = simulated(run, json.dumps(value), "--weights", "tied")
    assert result.code == 3
    assert "predicted: as the spec states\n" in result.out
    assert "layers.0.tied.second_moment" in result.err


def test_compare_says_once_what_is_true_of_every_scheme(run: Run) -> None:
    result = run("compare", "--cell", "gru", "--T", "20", "--input-size", "2")
    words = " ".join(result.out.split())
    assert words.count("for inputs of many features, where this network reads 2;") == 1
    assert "every scheme, tied: for inputs of many features" in words
