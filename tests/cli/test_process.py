"""The command as a process: pipes, interrupts, encodings, imports, completion."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from critinit.cells import CELLS
from critinit.schemes import SCHEMES
from tests.cli.conftest import command, environment, process

pytestmark = pytest.mark.slow

FRAMEWORKS = ("torch", "jax", "tensorflow", "keras", "flax", "equinox", "haiku", "matplotlib", "sklearn")
SPEC = ("spec", "--cell", "gru", "--T", "50")


def last_words(result: subprocess.CompletedProcess[bytes]) -> str:
    text = result.stderr.decode()
    assert "Traceback" not in text
    assert "Exception ignored" not in text
    return text


def test_a_pipe_through_the_commands() -> None:
    written = process(SPEC)
    assert (written.returncode, written.stderr) == (0, b"")
    checked = process(["validate", "-"], input=written.stdout)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"-: ok\n", b"")


@pytest.mark.parametrize("arguments", [SPEC, ("schema",), ("--help",), ("spec", "--help")])
def test_a_reader_that_has_gone_is_no_error(arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = process(arguments, stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (result.returncode, last_words(result)) == (0, "")


@pytest.mark.parametrize("arguments", [SPEC, ("schema",), ("--help",)])
def test_a_full_disk_is_said(arguments: tuple[str, ...]) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "wb") as full:
        result = process(arguments, stdout=full, stderr=subprocess.PIPE)
    assert result.returncode == 2
    assert last_words(result).startswith("error: standard output: found no space left on device")


def test_closed_streams_are_said() -> None:
    line = " ".join(f"'{part}'" for part in command("schema"))
    result = subprocess.run(["sh", "-c", f"{line} >&-"], env=environment(), capture_output=True, check=False)
    assert result.returncode == 2
    assert last_words(result).startswith("error: standard output: found a closed stream")
    line = " ".join(f"'{part}'" for part in command("validate", "-"))
    result = subprocess.run(["sh", "-c", f"{line} <&-"], env=environment(), capture_output=True, check=False)
    assert result.returncode == 2
    assert last_words(result).startswith("error: standard input: found a closed stream")
    result = subprocess.run(["sh", "-c", f"{line} <&- 2>&-"], env=environment(), capture_output=True, check=False)
    assert (result.returncode, result.stdout) == (2, b"")


def test_endless_input_is_refused() -> None:
    with open("/dev/zero", "rb") as zeros:
        result = process(["validate", "-"], stdin=zeros)
    assert result.returncode == 1
    assert last_words(result).startswith("error: standard input: found more than 4,194,304 bytes")


def test_an_interrupt_ends_quietly() -> None:
    # what a shell starts in the background ignores interrupts, and so would what that starts
    heeding = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code = heeding + "from critinit_cli.main import run; sys.exit(run(['validate', '-']))"
    running = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    time.sleep(3)  # it waits for its input now
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (130, b"", b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_poor_encoding_is_no_error(encoding: str, tmp_path: Path) -> None:
    env = environment(LANG="C", LC_ALL="C", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    for arguments in (("compare", "--cell", "lstm", "--T", "20"), ("spec", "--help"), ("schema",)):
        result = process(arguments, env=env)
        assert (result.returncode, last_words(result)) == (0, "")
    result = process([*SPEC, "--scheme", "\N{SNOWMAN}"], env=environment(PYTHONIOENCODING=encoding))
    assert result.returncode == 2
    assert "error: --scheme: found" in last_words(result)


def test_bytes_that_are_no_text_are_no_error(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\n.json"
    written = subprocess.run([*map(os.fsencode, command(*SPEC)), b"-o", name], env=environment(), check=False)
    assert written.returncode == 0
    for option in ([], [b"--json"]):
        result = subprocess.run(
            [*map(os.fsencode, command("validate")), name, b"\xfe", *option],
            env=environment(),
            capture_output=True,
            check=False,
        )
        assert result.returncode == 2
        assert last_words(result) == "error: \\udcfe: found no such file or folder; allowed: a file that can be read\n"
    assert b"\\udcff\\n.json" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        SPEC,
        (*SPEC, "--set", "T=40"),
        ("validate", "FILE"),
        ("predict", "FILE"),
        ("analyze", "FILE"),
        ("simulate", "FILE", "--width", "20", "--steps", "40"),
        ("compare", "--cell", "gru", "--T", "20"),
        ("materialize", "FILE", "--framework", "torch", "--input-size", "2", "--hidden-size", "4", "-o", os.devnull),
        ("check", "--help"),
        ("spec", "--help"),
        ("schema",),
        ("--help",),
    ],
)
def test_no_command_imports_a_framework(arguments: tuple[str, ...], spec_file: Path) -> None:
    if arguments[0] == "materialize":
        pytest.importorskip("safetensors")
    given = [str(spec_file) if part == "FILE" else part for part in arguments]
    code = (
        "import sys\n"
        "from critinit_cli.main import run\n"
        f"code = run({given!r})\n"
        f"print(code, *(name for name in {FRAMEWORKS!r} if name in sys.modules), file=sys.stderr)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=False)
    assert last_words(result).splitlines()[-1] in ("0", "3")


def test_the_core_imports_no_framework_and_no_command_line() -> None:
    names = (*FRAMEWORKS, "typer", "rich", "critinit_cli")
    code = f"import sys, critinit\nprint(*(name for name in {names!r} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"\n", b"")


def test_rich_is_imported_for_tables_alone(spec_file: Path) -> None:
    for arguments, wanted in ((["validate", str(spec_file)], "False"), (["analyze", str(spec_file)], "True")):
        code = f"import sys\nfrom critinit_cli.main import run\nrun({arguments!r})\nprint('rich' in sys.modules)"
        result = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=True)
        assert result.stdout.decode().splitlines()[-1] == wanted


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with an executable ``critinit``."""
    script = tmp_path / "bin" / "critinit"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom critinit_cli.main import run\nsys.exit(run())\n")
    script.chmod(0o755)
    return script.parent


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("critinit sp", {"spec"}),
        ("critinit spec --cell ", set(CELLS.names())),
        ("critinit spec --cell min", {"minimal_rnn"}),
        ("critinit compare --cell ls", {"lstm"}),
        ("critinit spec --scheme ", set(SCHEMES.names())),
        ("critinit analyze --weights u", {"untied"}),
        ("critinit check --framework ke", {"keras"}),
    ],
)
def test_bash_completes(installed: Path, words: str, offered: set[str]) -> None:
    """The script that --show-completion prints, sourced by bash, fills COMPREPLY."""
    shell = f"""
        export PATH={installed}:$PATH
        source <(critinit --show-completion)
        COMP_WORDS=({words} {"''" if words.endswith(" ") else ""})
        COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        COMP_LINE='{words}'; COMP_POINT=${{#COMP_LINE}}
        function=$(complete -p critinit | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
        $function critinit
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    result = subprocess.run(["bash", "-c", shell], env=environment(), capture_output=True, check=False, text=True)
    assert result.stderr == ""
    assert set(result.stdout.split()) == offered


def test_completion_installs_into_a_home(installed: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    env = environment(HOME=str(home), PATH=f"{installed}:{os.environ['PATH']}")
    result = subprocess.run(
        ["bash", "-c", "critinit --install-completion; echo $?"],
        env=env,
        capture_output=True,
        check=False,
        text=True,
    )
    assert "bash completion installed" in result.stdout
    assert result.stdout.split()[-1] == "0"
    assert any("critinit" in p.read_text() for p in home.rglob("*") if p.is_file())
