"""``critinit plot``: one picture, or the page with all."""

from __future__ import annotations

import builtins
import importlib.util
import re
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from critinit.theory.tied.solution import tied_with_courses
from tests.cli.conftest import Run

pytestmark = pytest.mark.slow

pytest.importorskip("matplotlib")

QUICK = ("--width", "40", "--networks", "2")


@pytest.fixture(autouse=True)
def _few_particles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tied theory takes most of the time, and is tested elsewhere."""
    quick = partial(tied_with_courses, particles=200, steps=60, tolerance=1.0)
    monkeypatch.setattr("critinit.plotting.study.tied_with_courses", quick)


@pytest.fixture(scope="module")
def spec_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from critinit_cli.main import execute

    path = tmp_path_factory.mktemp("specs") / "spec.json"
    assert execute(["spec", "--cell", "gru", "--T", "30", "--padding-variance", "0", "-o", str(path)]) == 0
    return path


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("phase", "a.png"),
        ("time-constants", "a.SVG"),
        ("compare", "a.svg"),
        ("distance", "a.svg"),
        ("singular-values", "a.png"),
    ],
)
def test_a_picture_is_written(run: Run, spec_file: Path, tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name
    options = ["--points", "4"] if kind == "phase" else []
    arguments = ["plot", str(spec_file), "--kind", kind, "-o", str(path), *QUICK, *options]
    assert run(*arguments) == (0, "", "")
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
    assert run(*arguments, "--dark").code == 0
    assert path.read_bytes() != data


def test_without_a_kind_the_spec_decides_and_axes_mean_a_phase_diagram(
    run: Run, spec_file: Path, tmp_path: Path
) -> None:
    pictures = {}
    for options in ((), ("--kind", "time-constants"), ("--points", "3"), ("--kind", "phase", "--points", "3")):
        path = tmp_path / "a.svg"
        assert run("plot", str(spec_file), "-o", str(path), *options).code == 0
        pictures[options] = path.read_bytes()
    default, times, points, phase = pictures.values()
    assert (default, points) == (times, phase)
    assert default != points


def test_any_two_hyperparameters_can_be_axes(run: Run, spec_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    result = run(
        *("plot", str(spec_file), "-o", str(path), "--points", "3"),
        *("--x", "layers.0.input.variance=0.1:4", "--y", "layers.0.gates.*.recurrent.variance=1e-4:2"),
    )
    assert result == (0, "", "")


class Page(HTMLParser):
    """What a page refers to, its headings, and whether its tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.headings: list[str] = []
        self.alternatives: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        found = dict(attrs)
        self.references += [value for key, value in attrs if key in ("src", "srcset", "href")]
        if tag == "img":
            self.alternatives.append(found["alt"])
        if tag not in ("meta", "img", "source", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def test_the_page_holds_every_picture_and_needs_nothing_else(run: Run, spec_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "report"
    arguments = ["plot", str(spec_file), "--all", "-o", str(folder), "--points", "4", *QUICK]
    result = run(*arguments)
    assert (result.code, result.out, result.err) == (0, f"{folder / 'index.html'}\n", "")
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    text = (folder / "index.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.headings[0] == "gru, scheme critical, T = 30"
    assert len(page.alternatives) == 5
    assert all(len(words) > 40 for words in page.alternatives)
    pictures = [r for r in page.references if not r.startswith("#")]
    assert len(pictures) == 10
    assert all(r.startswith("data:image/svg+xml;base64,") for r in pictures)
    assert len(set(pictures)) == 10
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"<script|@import|url\(", text)
    run(*arguments)
    assert (folder / "index.html").read_text() == text


def test_what_a_cell_has_not_is_left_out_of_the_page_and_said(run: Run, tmp_path: Path) -> None:
    written = run("spec", "--cell", "rnn", "--T", "20", "--scheme", "orthogonal").out
    written = written.replace('"orthogonal",\n  "T"', '"<b>&mine",\n  "T"')
    result = run(*("plot", "-", "--all", "-o", str(tmp_path), "--points", "4", *QUICK), stdin=written.encode())
    assert result.code == 0
    assert result.err == "note: Time constants of the units: left out; rnn has no gate that keeps the state.\n"
    page = Page((tmp_path / "index.html").read_text())
    assert len(page.alternatives) == 4
    assert page.headings[0] == "rnn, scheme <b>&mine, T = 20"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-o", "a.pdf"], "--output: found 'a.pdf'; allowed: a name that ends in .png or .svg"),
        (["-o", "a.png", "--kind", "pie"], "--kind: found 'pie'; allowed: time-constants, phase"),
        (
            ["-o", "a.png", "--kind", "compare", "--x", "T"],
            "--x: found T with --kind compare; allowed: with --kind phase",
        ),
        (["-o", "a.png", "--x", "layers.0.gates.update.bias.mean=1"], "--x: found '1'; allowed: LOW:HIGH"),
        (["-o", "a.png", "--x", "layers.9"], "--x: found 'layers.9', which has no '9'"),
        (["-o", "a.png", "--points", "1"], "--points: found 1; allowed: 2 to 400"),
        (["-o", "a.png", "--layer", "3"], "--layer: found 3; allowed: 0 to 0"),
        (["-o", "a.png", "--width", "1"], "--width: found 1; allowed: at least 5"),
        (["-o", "nowhere/a.png", "--kind", "time-constants"], "nowhere/a.png: found no such file or folder"),
        (["-o", "nowhere/a.png"], "nowhere/a.png: found no such file or folder; allowed: a place"),
        (["-o", "a.png", "--points", "0"], "--points: found 0; allowed: 2 to 400"),
        (["-o", "a", "--all", "--kind", "phase"], "--kind: found phase; allowed: without --all"),
        (["-o", __file__, "--all"], "test_plot.py: found a file; allowed: a folder that can be written"),
        (
            ["-o", "a.png", "--all"],
            "--output: found 'a.png'; allowed: the name of a folder, such as 'a'; --all writes a folder with a page",
        ),
        (["-o", "a.html", "--all"], "for a single picture leave out --all"),
        ([], "--output: found nothing; allowed: the picture, .png or .svg"),
    ],
)
def test_wrong_usage_is_one_line_and_writes_nothing(
    run: Run, spec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("plot", str(spec_file), *arguments)
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert says in result.err
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_command_that_installs_it_is_said(
    run: Run, spec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "matplotlib" else real(name, *rest)
    )
    result = run("plot", str(spec_file), "-o", str(tmp_path / "a.png"))
    assert result == (2, "", "error: matplotlib is not installed; install it with: pip install 'critinit[plot]'\n")
    imported = builtins.__import__

    def refuse(name: str, *rest: Any, **options: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return imported(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    from critinit import load, plotting
    from critinit.errors import MissingExtraError

    with pytest.raises(MissingExtraError, match="matplotlib is not installed"):
        plotting.time_constants(load(spec_file))


def test_a_kind_that_a_cell_has_not_names_the_kinds_that_work(run: Run, tmp_path: Path) -> None:
    """Every kind that the message names draws the spec."""
    written = run("spec", "--cell", "rnn", "--T", "20").out.encode()
    result = run("plot", "-", "--kind", "time-constants", "-o", str(tmp_path / "a.png"), stdin=written)
    assert result.code == 2
    assert "rnn has no gate that keeps the state; kinds that show this spec: " in result.err
    named = result.err.strip().rpartition(": ")[2].split(", ")
    assert named == ["phase", "singular-values", "distance", "compare"]
    for kind in named:
        more = ["--points", "3"] if kind == "phase" else QUICK
        assert run("plot", "-", "--kind", kind, "-o", str(tmp_path / "b.png"), *more, stdin=written).code == 0
    identity = run(
        *("spec", "--cell", "rnn", "--T", "20", "--set", "layers.0.gates.hidden.recurrent.distribution=identity")
    ).out.encode()
    result = run("plot", "-", "--kind", "phase", "-o", str(tmp_path / "a.png"), stdin=identity)
    assert "cannot describe an identity kernel" in result.err
    assert result.err.endswith("; kinds that show this spec: singular-values, distance, compare\n")


@pytest.mark.parametrize("cell", ["gru", "lstm", "mgu", "coupled_lstm"])
@pytest.mark.parametrize("scheme", ["uniform_gate", "chrono", "critical"])
def test_a_phase_diagram_has_axes_that_the_spec_can_vary(run: Run, tmp_path: Path, cell: str, scheme: str) -> None:
    written = run("spec", "--cell", cell, "--T", "20", "--scheme", scheme).out.encode()
    result = run("plot", "-", "--kind", "phase", "--points", "2", "-o", str(tmp_path / "a.svg"), stdin=written)
    assert (result.code, result.err) == (0, "")


def test_a_reservoir_has_a_phase_diagram_over_its_spectral_radius(run: Run, tmp_path: Path) -> None:
    recurrent = '{"distribution": "spectral_radius", "spectral_radius": 0.9, "density": 0.1}'
    setting = f"layers.0.gates.hidden.recurrent={recurrent}"
    written = run("spec", "--cell", "rnn", "--T", "20", "--scheme", "torch", "--set", setting).out.encode()
    path = tmp_path / "a.svg"
    assert run("plot", "-", "--kind", "phase", "--points", "3", "-o", str(path), stdin=written).code == 0
    assert "spectral radius" in path.read_text()
