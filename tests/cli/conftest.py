"""Running the command line: within this process, and as a process of its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from critinit_cli.main import execute

ROOT = Path(__file__).parents[2]


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run("spec", "--cell", "gru", stdin=b"")``, within this process."""
    monkeypatch.setenv("CRITINIT_DEBUG", "1")  # what should not happen is a traceback here
    monkeypatch.setenv("CRITINIT_PROGRESS", "off")  # what is slow here may be quick elsewhere

    def run(*arguments: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        code = execute(arguments)
        return Result(code, *capsys.readouterr())

    return run


def command(*arguments: str) -> list[str]:
    """The command line as a process, by the interpreter that runs the tests."""
    return [sys.executable, "-m", "critinit_cli", *arguments]


def environment(**changes: str) -> dict[str, str]:
    """This process's environment, in which the packages are found whether they are installed or not.

    Commands are quiet about being slow, which the machine decides.
    """
    paths = [str(ROOT / part) for part in ("src", "adapters", "cli")]
    kept = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    return os.environ | {"PYTHONPATH": os.pathsep.join([*paths, *kept]), "CRITINIT_PROGRESS": "off"} | changes


def process(arguments: Sequence[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run ``critinit`` with ``arguments`` as a process of its own."""
    options.setdefault("env", environment())
    options.setdefault("timeout", 120)
    if "stdout" not in options:
        options["capture_output"] = True
    return subprocess.run(command(*arguments), check=False, **options)


@pytest.fixture(scope="session")
def spec_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec as the command writes it."""
    path = tmp_path_factory.mktemp("specs") / "spec.json"
    assert execute(["spec", "--cell", "gru", "--T", "50", "-o", str(path)]) == 0
    return path
