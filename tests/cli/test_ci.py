"""What runs in other people's CI: annotations, the pre-commit hook, the action, the schema; and the page about them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from critinit_cli.lines import Lines

from tests.cli.conftest import ROOT, Run, environment

HOOK = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())[0]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
PAGE = (ROOT / "docs" / "ci.md").read_text()


@pytest.fixture
def specs(tmp_path: Path, spec_file: Path) -> Path:
    """A folder with a good spec, an invalid one, and one whose prediction does not hold."""
    text = spec_file.read_text()
    (tmp_path / "good.initspec.json").write_text(text)
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "bad, 1.initspec.json").write_text(text.replace('"T": 50', '"T": 0'))
    value = json.loads(text)
    value["layers"][0]["predicted"]["untied"]["chi"] *= 0.9
    (tmp_path / "stale.json").write_text(json.dumps(value))
    return tmp_path


@pytest.fixture
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runner's temporary folder in which critinit is installed, as the action's first step leaves it."""
    folder = tmp_path_factory.mktemp("runner")
    programs = folder / "critinit" / "bin"
    programs.mkdir(parents=True)
    for name, module in (("critinit", "critinit_cli"), ("check-jsonschema", "check_jsonschema")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {module} "$@"\n')
        program.chmod(0o755)
    return folder


def shell(script: str, folder: Path, tools: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a step does: ``bash -eo pipefail``."""
    path = os.pathsep.join([str(tools / "critinit" / "bin"), os.environ["PATH"]])
    env = environment(PATH=path, RUNNER_TEMP=str(tools), **variables)
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def undo(line: str) -> tuple[dict[str, str], str]:
    """Properties and message of an annotation, its escapes undone as the runner does."""
    match = re.fullmatch(r"::error (.*?)::(.*)", line)
    assert match is not None, line
    properties = dict(part.split("=", 1) for part in match[1].split(","))

    def plain(text: str) -> str:
        for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
            text = text.replace(code, character)
        return text

    return {name: plain(value) for name, value in properties.items()}, plain(match[2])


def test_validate_annotates_where_github_runs_it(run: Run, specs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(specs)
    files = ["good.initspec.json", "a b/bad, 1.initspec.json", "stale.json", "no%:where.json"]
    plain = run("validate", *files)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(specs))
    result = run("validate", *files)
    assert (result.code, result.out) == (plain.code, plain.out)
    lines = result.err.splitlines()
    assert [line for line in lines if not line.startswith("::")] == plain.err.splitlines()
    invalid, stale, missing = (undo(line) for line in lines if line.startswith("::"))
    line = next(n for n, text in enumerate(Path(files[1]).read_text().splitlines(), 1) if '"T": 0' in text)
    assert invalid == ({"file": files[1], "line": str(line), "title": "T"}, "found 0; allowed: at least 1")
    line = next(n for n, text in enumerate(Path(files[2]).read_text().splitlines(), 1) if '"chi"' in text)
    assert stale[0] == {"file": files[2], "line": str(line), "title": "the prediction does not hold"}
    assert "layers.0.predicted.untied.chi: found 0." in stale[1]
    assert missing[0]["file"] == files[3]
    assert missing[1].startswith("found no such file")
    absolute = run("validate", str(specs / files[1])).err.splitlines()[-1]
    assert undo(absolute)[0]["file"] == files[1]
    outside = run("validate", "/nowhere/x.json").err.splitlines()[-1]
    assert undo(outside)[0]["file"] == "/nowhere/x.json"


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ('{\n"a": 1,\n"b": [0,\n {"c": "x, ]", "d":\n 2}]}', "b.1.d", 5),
        ('{\n"a": 1,\n"b": [0,\n {"c": 1}]}', "b.1.e.f", 4),
        ('{"a": 1,\n"b": []}', "b.0", 2),
        ('{\n"a": {},\n"b\\u0063": 3}', "bc", 3),
        ('\n\n  {"a": 1}', "", 3),
        ('{"a": 1,\n"b" 2}', "", 2),
        ("", "a", 1),
        ("[" * 10_000, "a", None),
        ('{"a":\n' + "9" * 5000 + "}", "a", None),
    ],
)
def test_a_field_stands_on_its_line(text: str, path: str, line: int | None) -> None:
    assert Lines(text).of(path) == line


def test_annotations_leave_json_and_stdin_alone(run: Run, specs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = run("validate", "--json", str(specs / "a b" / "bad, 1.initspec.json"))
    assert json.loads(result.out)[0]["valid"] is False
    assert undo(result.err.splitlines()[-1])[0]["title"] == "T"
    bad = b'{"schema_version": 1, "cell": "a\\nb%", "scheme": "x", "T": 5, "layers": []}'
    result = run("validate", "-", stdin=bad)
    properties, message = undo(next(line for line in result.err.splitlines() if line.startswith("::")))
    assert properties == {"title": "cell"}
    assert message.startswith('found "a\\nb%"; allowed: ')
    monkeypatch.setenv("GITHUB_ACTIONS", "false")
    assert "::" not in run("validate", "-", stdin=b"{}").err


def test_the_hook_takes_the_files_it_names(specs: Path, tools: Path) -> None:
    assert HOOK["id"] == "critinit-validate"
    assert HOOK["language"] == "python"  # pre-commit installs this repository
    names = (
        "initspec.json",
        "a/initspec.json",
        "a/gru.initspec.json",
        "myinitspec.json",
        "initspec.json.bak",
        "a.json",
    )
    assert [bool(re.search(HOOK["files"], name)) for name in names] == [True, True, True, False, False, False]
    for arguments, code in (
        (["good.initspec.json"], 0),
        (["good.initspec.json", "a b/bad, 1.initspec.json"], 1),
        (["stale.json"], 3),
        (["-dash.initspec.json"], 2),
    ):
        line = f"{HOOK['entry']} {shlex.join(arguments)}"
        result = shell(line, specs, tools)
        assert result.returncode == code, result
        assert "no such option" not in result.stderr


def steps() -> list[dict[str, Any]]:
    return ACTION["runs"]["steps"]  # type: ignore[no-any-return]


def validate(patterns: str, folder: Path, tools: Path) -> tuple[int, str, str]:
    """Run the action's second step; exit code, its output ``exit-code``, and what it said."""
    output = tools / "output"
    output.write_text("")
    result = shell(
        steps()[1]["run"], folder, tools, PATTERNS=patterns, GITHUB_OUTPUT=str(output), GITHUB_ACTIONS="true",
        GITHUB_WORKSPACE=str(folder),
    )  # fmt: skip
    return result.returncode, output.read_text(), result.stdout + result.stderr


def test_the_action_validates_what_its_patterns_match(specs: Path, tools: Path) -> None:
    default = ACTION["inputs"]["files"]["default"]
    code, output, words = validate(default, specs, tools)
    assert (code, output) == (1, "exit-code=1\n")
    assert "good.initspec.json: ok" in words
    assert "::error file=a b/bad%2C 1.initspec.json,line=5,title=T::found 0; allowed: at least 1" in words
    code, output, words = validate("good*.json\n\nstale.json\n", specs, tools)
    assert (code, output) == (3, "exit-code=3\n")
    assert validate("good.initspec.json", specs, tools)[:2] == (0, "exit-code=0\n")
    code, output, words = validate("nothing/*.json", specs, tools)
    assert (code, output) == (2, "exit-code=2\n")
    assert words.startswith("::error title=critinit::no file matches")
    assert validate("$(touch pwned);`touch pwned`", specs, tools)[0] == 2
    assert not (specs / "pwned").exists()


def test_the_action_takes_no_input_into_its_scripts() -> None:
    """An input that stood in a script would be run as one."""
    assert ACTION["runs"]["using"] == "composite"
    for step in steps():
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]
    given = {f"${{{{ inputs.{name} }}}}" for name in ACTION["inputs"]}
    used = {value for step in steps() for value in step["env"].values()}
    assert given <= used


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_pages_settings_name_what_there_is() -> None:
    hooks, workflow, schema = (yaml.safe_load(text) for text in blocks("yaml"))
    assert hooks["repos"][0]["hooks"] == [{"id": HOOK["id"]}]
    used = workflow["jobs"]["specs"]["steps"][-1]
    assert set(used["with"]) <= set(ACTION["inputs"])
    assert schema["repos"][0]["hooks"][0]["files"] == HOOK["files"]


def test_the_schema_alone_finds_structural_errors(specs: Path, tools: Path) -> None:
    schema = shlex.quote(str(ROOT / "schemas" / "initspec.v1.schema.json"))
    for name, code in (("good.initspec.json", 0), ("a b/bad, 1.initspec.json", 1)):
        result = shell(f"check-jsonschema --schemafile {schema} {shlex.quote(name)}", specs, tools)
        assert result.returncode == code, result
