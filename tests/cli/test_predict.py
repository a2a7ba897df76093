"""``critinit predict``: an edited spec gets its numbers, and ``validate`` says so."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from critinit.spec import Numbers, load, parse
from tests.cli.conftest import Run


@pytest.fixture
def edited(spec_file: Path, tmp_path: Path) -> Path:
    """A spec whose gates were edited, and whose numbers were not."""
    value = json.loads(spec_file.read_text())
    gates = value["layers"][0]["gates"]
    for name in gates:
        gates[name]["recurrent"]["variance"] = 0.3
        gates[name]["bias"] = {"distribution": "constant", "mean": 1.0}
    path = tmp_path / "edited by hand.json"
    path.write_text(json.dumps(value))
    return path


def reached(value: Any) -> float:
    return float(value["target"]["reached"])


def test_a_spec_that_holds_stays_as_it_is(run: Run, spec_file: Path) -> None:
    assert run("predict", str(spec_file)) == (0, spec_file.read_text(), "")
    assert run("predict", "-", stdin=spec_file.read_bytes()).out == spec_file.read_text()


def test_validate_names_the_command_in_a_line_for_each_kind(run: Run, edited: Path) -> None:
    result = run("validate", str(edited))
    assert (result.code, result.out) == (3, "")
    prediction, target = result.err.splitlines()
    quoted = shlex.quote(str(edited))
    for line, where in ((prediction, "layers.0.predicted.untied.second_moment"), (target, "target.reached")):
        assert line.startswith(f"missed: {edited}: {where}: found ")
        assert line.endswith(f"critinit predict {quoted} -o {quoted} writes the numbers of the edited spec")
    assert " more numbers do not hold; " in prediction
    assert "more numbers" not in target
    deviations = json.loads(run("validate", "--json", str(edited)).out)[0]["deviations"]
    assert len(deviations) > 5
    assert all(set(deviation) == {"where", "found", "allowed", "hint"} for deviation in deviations)
    piped = run("validate", "-", stdin=edited.read_bytes())
    assert "critinit predict - writes the numbers" in piped.err


def test_the_command_that_validate_names_makes_the_numbers_hold(run: Run, edited: Path) -> None:
    before = json.loads(edited.read_text())
    result = run("predict", str(edited), "-o", str(edited))
    after = json.loads(edited.read_text())
    generated = before.pop("generated")
    assert generated["arguments"]["T"] == 50
    assert {**after, "target": 0, "layers": 0} == {**before, "target": 0, "layers": 0}
    assert after["layers"][0]["input"] == before["layers"][0]["input"]
    assert load(edited).layers[0].gates == parse(json.dumps(before)).layers[0].gates
    assert isinstance(load(edited).layers[0].predicted.untied, Numbers)
    assert after["layers"][0]["predicted"] != before["layers"][0]["predicted"]
    assert reached(after) < reached(before)
    # the numbers are right now, and say that the edited spec misses what its scheme set out to reach
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith("missed: target: found ")
    checked = run("validate", str(edited))
    assert (checked.code, len(checked.err.splitlines())) == (3, 1)
    assert checked.err.startswith(f"missed: {edited}: target: found ")
    assert "critinit predict" not in checked.err


def test_a_spec_without_a_target_holds_after_it(run: Run, edited: Path) -> None:
    value = json.loads(edited.read_text())
    del value["target"]
    value["scheme"] = "by_hand"
    edited.write_text(json.dumps(value))
    assert run("validate", str(edited)).code == 3
    assert run("predict", str(edited), "-o", str(edited)) == (0, "", "")
    assert run("validate", str(edited)).code == 0
    assert load(edited).scheme == "by_hand"


def test_an_invalid_spec_is_code_1_and_the_file_stays(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text("{}")
    result = run("predict", str(path), "-o", str(path))
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"error: {path}: schema_version: found nothing")
    assert path.read_text() == "{}"


@pytest.mark.parametrize(("where", "to"), [("mean", 4.0), ("T", 49)])
def test_what_no_longer_generates_the_spec_is_left_out(run: Run, spec_file: Path, where: str, to: float) -> None:
    """A bias behind the reset gate, or T, may change no number; generating again gives other gates all the same."""
    value = json.loads(spec_file.read_text())
    (value if where == "T" else value["layers"][0]["gates"]["reset"]["bias"])[where] = to
    result = run("predict", "-", stdin=json.dumps(value).encode())
    assert "generated" in value
    assert "generated" not in json.loads(result.out)


def test_a_layer_that_was_taken_away_is_noticed(run: Run) -> None:
    """The numbers of the layer that is left hold; the record would generate two."""
    value = json.loads(run("spec", "--cell", "gru", "--T", "50", "--layers", "2").out)
    del value["layers"][1]
    result = run("predict", "-", stdin=json.dumps(value).encode())
    assert (result.code, result.err) == (0, "")
    assert "generated" not in json.loads(result.out)
