"""The site builds without a warning, holds every page, and its reference has what people call."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import critinit
from critinit.spec.model import ERROR_NAMES
from tests.cli.conftest import ROOT, environment

pytestmark = pytest.mark.slow

PAGES = sorted(path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md"))


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of the ``docs`` and ``mkdocs.yml`` in a folder, and the packages' docstrings."""
    for name in ("src", "adapters", "cli"):
        (folder / name).symlink_to(ROOT / name)
    return subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def test_every_page_is_there_and_in_the_navigation(site: Path) -> None:
    for page in PAGES:
        place = "" if page.name == "index.md" else page.with_suffix("")
        assert (site / place / "index.html").is_file()
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert sorted(listed(settings["nav"])) == sorted(map(str, PAGES))


def listed(entries: list[dict[str, Any]]) -> Iterator[str]:
    """The pages of a part of the navigation."""
    for entry in entries:
        for below in entry.values():
            yield from [below] if isinstance(below, str) else listed(below)


def test_the_reference_names_what_people_call(site: Path) -> None:
    names = set(re.findall(r'id="([\w.]+)"', (site / "reference" / "index.html").read_text()))
    shown = {name.rpartition(".")[2] for name in names}
    assert {name for name in critinit.__all__ if not name.startswith("_")} <= shown


def test_the_reference_shows_arguments_as_a_table(site: Path) -> None:
    text = (site / "reference" / "index.html").read_text()
    start = text.index('id="critinit.generate"')
    table = text[text.index("<table>", start) : text.index("</table>", start)]
    names = re.findall(r"<tr.*?<code>(\w+)</code>", table, re.DOTALL)
    assert names == list(inspect.signature(critinit.generate).parameters)


def test_the_glossary_has_every_number_of_a_prediction() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text()
    keys = {name.rpartition(".")[2] for name in ERROR_NAMES} - {"min", "median", "max"}
    assert [key for key in sorted(keys) if key not in text] == []


@pytest.mark.parametrize(
    ("text", "says"),
    [("", ""), ("[gone](nowhere.md)", "page does not exist"), ("::: critinit.nothing", "critinit.nothing")],
)
def test_a_broken_link_or_name_fails_the_build(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Start\n\n{text}\n")
    settings = (ROOT / "mkdocs.yml").read_text()
    (tmp_path / "mkdocs.yml").write_text(settings[: settings.index("nav:")])
    done = build(tmp_path)
    assert (done.returncode == 0) == (not text)
    assert says in done.stdout + done.stderr
