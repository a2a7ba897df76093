"""A scheme of one's own on the command line: ``--scheme FILE.py``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from critinit.schemes import SCHEMES
from critinit.spec import parse
from tests.cli.conftest import Result, Run

SOURCE = """
from critinit.schemes import Scheme, bias, gate, kernel


def gates(layer):
    keep = layer.cell.keep_gate
    return {
        name: gate(kernel("normal", 0.5), kernel("normal", 1.0), bias(2.0 if name == keep else 0.0))
        for name in layer.cell.gates
    }


LAB = Scheme("lab_tested", "recurrent variance 1/2, keep gate's bias 2", gates)
"""


@pytest.fixture
def run(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Every run in a process that knows critinit's own schemes only."""

    def alone(*arguments: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(SCHEMES, "_registered", {})
        return run(*arguments, stdin=stdin)

    return alone


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lab.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def test_the_spec_has_the_schemes_name_and_description(run: Run, file: Path) -> None:
    result = run("spec", "--cell", "gru", "--T", "30", "--scheme", str(file))
    assert (result.code, result.err) == (0, "")
    spec = parse(result.out)
    assert (spec.scheme, spec.description) == ("lab_tested", "recurrent variance 1/2, keep gate's bias 2")
    gates = spec.layers[0].gates
    assert [gate.bias.mean for gate in gates.values()] == [2.0, 0.0, 0.0]
    assert {gate.recurrent.variance for gate in gates.values()} == {0.5}
    assert spec.generated is not None
    assert spec.generated.arguments["scheme"] == "lab_tested"


def test_a_stored_spec_needs_no_file(run: Run, file: Path) -> None:
    written = run("spec", "--cell", "gru", "--T", "30", "--scheme", str(file)).out
    file.unlink()
    for command in (("validate",), ("predict",), ("analyze", "--weights", "untied")):
        result = run(*command, "-", stdin=written.encode())
        assert (result.code, result.err) == (0, ""), command
    assert run("predict", "-", stdin=written.encode()).out == written


def test_compare_shows_it_beside_the_others(run: Run, file: Path) -> None:
    arguments = ("compare", "--cell", "gru", "--T", "30", "--scheme", f"{file}:LAB")
    rows = {row["scheme"]: row for row in json.loads(run(*arguments, "--json").out)["schemes"]}
    assert tuple(rows) == (*SCHEMES.built_in, "lab_tested")
    assert rows["lab_tested"]["description"] == "recurrent variance 1/2, keep gate's bias 2"
    alone = parse(run("spec", "--cell", "gru", "--T", "30", "--scheme", str(file)).out)
    assert rows["lab_tested"]["layers"] == [layer.predicted.model_dump(mode="json") for layer in alone.layers]
    assert any(line.split()[:1] == ["lab_tested"] for line in run(*arguments).out.splitlines())
    assert "lab_tested" not in run("compare", "--cell", "gru", "--T", "30").out


def test_one_of_several_schemes_in_a_file_is_named(run: Run, file: Path) -> None:
    file.write_text(f'{SOURCE}\nOTHER = Scheme("other_tested", "the same", gates)\n', encoding="utf-8")
    several = run("spec", "--cell", "gru", "--T", "30", "--scheme", str(file))
    assert (several.code, several.out) == (2, "")
    assert f"error: {file}: found several schemes (LAB, OTHER); allowed: one, or {file}:LAB" in several.err
    result = run("spec", "--cell", "gru", "--T", "30", "--scheme", f"{file}:OTHER")
    assert parse(result.out).scheme == "other_tested"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("LAB = Scheme(", "(lambda *all: 0)(", "found no scheme; allowed: a Python file with one"),
        ("def gates(layer):", "def gates(layer)", "line 5: found expected ':'; allowed: Python"),
        ("LAB = ", "1 / 0\nLAB = ", "found ZeroDivisionError: division by zero; allowed: a file that runs by itself"),
        ('"lab_tested"', '"critical"', "found 'critical'; allowed: a name that none of critinit's own schemes has"),
        ('"lab_tested"', '"my lab"', "Scheme.name: found 'my lab'; allowed: letters, digits and _"),
        ("recurrent variance 1/2, keep gate's bias 2", "", "Scheme.description: found ''; allowed: "),
        ("layer.cell.keep_gate", "layer.keep", "--scheme: found lab_tested; its function gates raised AttributeError"),
        ("for name in layer.cell.gates", "for name in layer.cell.gates[1:]", "--scheme: found lab_tested; "),
        ("    return {", "    return 3\n    {", "--scheme: found lab_tested; "),
        ('kernel("normal", 0.5)', 'kernel("normal", -1.0)', "--scheme: found lab_tested; "),
    ],
)
def test_a_bad_file_is_one_clear_line(run: Run, file: Path, old: str, new: str, says: str) -> None:
    assert old in SOURCE
    file.write_text(SOURCE.replace(old, new), encoding="utf-8")
    output = file.parent / "spec.json"
    result = run("spec", "--cell", "gru", "--T", "30", "--scheme", str(file), "-o", str(output))
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert result.err.startswith("error: ")
    assert says in result.err
    assert not output.exists()


def test_compare_leaves_a_scheme_out_that_does_not_suit_the_cell(run: Run, file: Path) -> None:
    file.write_text(SOURCE.replace("layer.cell.keep_gate", "layer.keep"), encoding="utf-8")
    result = run("compare", "--cell", "gru", "--T", "30", "--scheme", str(file))
    assert (result.code, result.err) == (0, "")
    assert "lab_tested: left out; its function gates raised AttributeError" in result.out


def test_a_name_in_place_of_a_file_is_refused_by_compare(run: Run) -> None:
    result = run("compare", "--cell", "gru", "--T", "30", "--scheme", "critical")
    assert (result.code, result.out) == (2, "")
    assert (
        "critical: found no such file or folder; allowed: a Python file with one critinit.schemes.Scheme" in result.err
    )
