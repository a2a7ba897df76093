"""What goes wrong inside: bugs, memory, plug-ins that fail, warnings."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from critinit_cli import usage

from critinit.schemes import SCHEMES
from tests.cli.conftest import Run, command, environment, process
from tests.cli.test_custom_scheme import SOURCE


def failing(error: BaseException) -> object:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("debug", [False, True])
def test_a_bug_has_a_code_of_its_own_and_says_how_to_report_it(
    run: Run, spec_file: Path, monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    monkeypatch.setattr("critinit.theory.analysis.deviations", failing(KeyError("gone")))
    if not debug:
        monkeypatch.delenv("CRITINIT_DEBUG")
    result = run("validate", str(spec_file))
    assert (result.code, result.out) == (70, "")
    words = "error: KeyError: 'gone'; this is a bug in critinit: please report it with CRITINIT_DEBUG=1's output"
    *trace, line = result.err.splitlines()
    assert line == words
    assert bool(trace) == debug
    assert not debug or trace[0] == "Traceback (most recent call last):"


@pytest.mark.parametrize("reason", ["Unable to allocate 9 TiB", ""])
def test_too_little_memory_has_a_code_of_its_own(
    run: Run, spec_file: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr("critinit.theory.analysis.deviations", failing(MemoryError(reason)))
    result = run("validate", str(spec_file))
    assert (result.code, result.out) == (71, "")
    found = f"found too little ({reason})" if reason else "found too little"
    assert result.err.startswith(f"error: memory: {found}; smaller --width, ")
    assert len(result.err.splitlines()) == 1


def test_a_plugin_that_fails_is_a_note_and_the_rest_works(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint(name="broken", value="no_such_module:X", group="critinit.schemes")
    monkeypatch.setattr(SCHEMES, "_points", lambda: {"broken": point})
    monkeypatch.setattr(SCHEMES, "_broken", {})
    result = run("compare", "--cell", "gru", "--T", "20", "--json")
    assert result.code == 0
    (line,) = result.err.splitlines()
    assert line.startswith("note: scheme broken of no_such_module:X was skipped: ModuleNotFoundError")
    assert [row["scheme"] for row in json.loads(result.out)["schemes"]] == list(SCHEMES.built_in)
    unknown = run("spec", "--cell", "gru", "--T", "20", "--scheme", "broken")
    assert unknown.code == 2
    assert "skipped broken: ModuleNotFoundError" in unknown.err


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with an installed package that publishes a scheme, and one that does not load."""
    (tmp_path / "lab.py").write_text(SOURCE, encoding="utf-8")
    about = tmp_path / "lab-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n", encoding="utf-8")
    points = "[critinit.schemes]\nlab_tested = lab:LAB\nlost = lab:LOST\n"
    (about / "entry_points.txt").write_text(points, encoding="utf-8")
    return tmp_path


def test_schemes_of_installed_packages_are_shown(installed: Path) -> None:
    variables = environment()
    variables["PYTHONPATH"] = f"{installed}:{variables['PYTHONPATH']}"
    result = process(["compare", "--cell", "gru", "--T", "20", "--json"], env=variables)
    assert result.returncode == 0
    assert [row["scheme"] for row in json.loads(result.stdout)["schemes"]] == [*SCHEMES.built_in, "lab_tested"]
    (note,) = result.stderr.decode().splitlines()
    assert note.startswith("note: scheme lost of lab:LOST was skipped: AttributeError")
    helped = process(["spec", "--help"], env=variables)
    assert b"lab_tested" in helped.stdout
    assert helped.stderr == b""


def test_other_warnings_are_hidden_unless_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "lab.py"
    path.write_text(f"import warnings\nwarnings.warn('numbers are rough')\n{SOURCE}", encoding="utf-8")
    arguments = ("spec", "--cell", "gru", "--T", "20", "--scheme", str(path))
    assert process(arguments).stderr == b""
    interpreter, *rest = command(*arguments)
    shown = subprocess.run(
        [interpreter, "-W", "default", *rest], env=environment(), capture_output=True, check=True, text=True
    )
    assert "UserWarning: numbers are rough" in shown.stderr


def test_the_examples_in_docstrings_run() -> None:
    found = doctest.testmod(usage)
    assert (found.failed, found.attempted > 0) == (0, True)


def test_no_module_of_the_command_line_imports_a_framework() -> None:
    """All modules, those of the commands too: what they import at their top is imported at every start."""
    code = (
        "import importlib, pkgutil, sys, critinit_cli\n"
        "for module in pkgutil.walk_packages(critinit_cli.__path__, 'critinit_cli.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "heavy = ('scipy', 'torch', 'jax', 'keras', 'rich.table', 'matplotlib', 'pydantic', 'numpy')\n"
        "print(*(name for name in heavy if name in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=True)
    assert result.stdout.decode().split() in ([], ["numpy", "pydantic"], ["pydantic", "numpy"])
