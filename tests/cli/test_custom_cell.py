"""A custom cell on the command line: processes that know it only where its file is named."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from critinit.cells import CELLS
from tests.cli.conftest import Result, Run, process

FILE = str(Path(__file__).parents[1] / "cells" / "janet.py")


@pytest.fixture
def run(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Every run in a process that knows critinit's own cells only."""

    def alone(*arguments: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(CELLS, "_registered", {})
        return run(*arguments, stdin=stdin)

    return alone


@pytest.fixture
def spec(run: Run) -> bytes:
    result = run("spec", "--cell", FILE, "--T", "20")
    assert result.code == 0, result.err
    assert json.loads(result.out)["cell"] == "janet_tested"
    return result.out.encode()


@pytest.mark.parametrize(
    "command",
    [
        ("validate", "-"),
        ("analyze", "-", "--weights", "untied"),
        ("simulate", "-", "--width", "30", "--steps", "20", "--weights", "untied", "--networks", "2"),
        ("materialize", "-", "--framework", "canonical", "--input-size", "2", "--hidden-size", "8"),
    ],
)
def test_a_command_needs_the_cell_s_file(run: Run, spec: bytes, command: tuple[str, ...], tmp_path: Path) -> None:
    if command[0] == "materialize":
        pytest.importorskip("safetensors")
        command = (*command, "-o", str(tmp_path / "w.safetensors"))
    unknown = run(*command, stdin=spec)
    assert unknown.code == 1
    assert unknown.out == ""
    assert unknown.err.count("\n") == 1
    assert 'cell: found "janet_tested"' in unknown.err
    assert "--cell-file" in unknown.err
    known = run(*command, "--cell-file", f"{FILE}:JANET", stdin=spec)
    assert known.code in ((0, 3) if command[0] == "simulate" else (0,))
    assert known.out


def test_compare_takes_a_file_and_says_the_cell_s_name(run: Run) -> None:
    result = run("compare", "--cell", FILE, "--T", "20", "--json")
    assert json.loads(result.out)["cell"] == "janet_tested"


def test_the_schema_with_the_cell_accepts_its_specs_and_the_published_one_does_not(run: Run, spec: bytes) -> None:
    value = json.loads(spec)
    with_cell = json.loads(run("schema", "--cell-file", FILE).out)
    jsonschema.Draft202012Validator(with_cell).validate(value)
    published = json.loads(run("schema").out)
    assert not jsonschema.Draft202012Validator(published).is_valid(value)
    assert "$id" in published
    assert "$id" not in with_cell  # it is another schema
    value["layers"][0]["gates"]["update"] = value["layers"][0]["gates"]["forget"]
    assert not jsonschema.Draft202012Validator(with_cell).is_valid(value)


def test_what_a_cell_s_file_prints_does_not_mix_with_the_spec(tmp_path: Path) -> None:
    path = tmp_path / "loud.py"
    path.write_text(Path(FILE).read_text(encoding="utf-8") + "print('loud')\n", encoding="utf-8")
    result = process(["spec", "--cell", str(path), "--T", "10"])
    assert result.returncode == 0
    assert json.loads(result.stdout)["T"] == 10
    assert b"loud" in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["loud.py"]  # no cache beside the user's file


def test_a_bad_file_is_a_usage_error_in_one_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "cell.py"
    path.write_text(Path(FILE).read_text(encoding="utf-8").replace("(1 - f)", "np.mean(f)"), encoding="utf-8")
    for arguments in (("spec", "--cell", str(path), "--T", "10"), ("schema", "--cell-file", str(path))):
        result = run(*arguments)
        assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
        assert result.err.startswith(f"error: {path}: JANET.update: found ")


def test_a_file_that_is_not_there_is_a_usage_error(run: Run, tmp_path: Path) -> None:
    result = run("spec", "--cell", str(tmp_path / "none.py"), "--T", "10")
    assert (result.code, result.out) == (2, "")
    assert "no such file or folder; allowed: a Python file with one subclass of critinit.Cell" in result.err


def test_a_scheme_that_cannot_reach_its_target_is_left_out_and_said(run: Run, tmp_path: Path) -> None:
    """Two schemes find no gains for a normalized cell without a gate that keeps the state."""
    path = tmp_path / "normed.py"
    path.write_text(
        "import numpy as np\nfrom critinit import Cell\n\n\nclass Normed(Cell):\n"
        '    name = "normed_tested"\n    gates = ("cell",)\n    candidate_gate = "cell"\n    normalized = True\n\n'
        '    def update(self, s, u):\n        return np.tanh(u["cell"])\n'
    )
    result = run("compare", "--cell", str(path), "--T", "50")
    assert (result.code, result.err) == (0, "")
    for name in ("critical", "isometry"):
        assert f"\n{name}: left out; {name} finds no gains for a normalized cell" in result.out
    assert "\n  torch " in result.out
    refused = run("spec", "--cell", str(path), "--T", "50")
    assert (refused.code, refused.out) == (2, "")
    assert "critical finds no gains for a normalized cell" in refused.err
