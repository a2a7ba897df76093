"""Every command and every block of Python in the README and the docs runs, and prints what is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import blocks, run_page, same

ROOT = Path(__file__).parents[2]
OUTSIDE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md")
"""Pages outside of the site."""
PAGES = [*(ROOT / name for name in OUTSIDE), *sorted((ROOT / "docs").rglob("*.md"))]
# Keras' own way of reading a TensorFlow variable, and Lightning's of asking PyTorch for a tree's kind, are deprecated
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning"),
]


NEEDS = {"examples/reinforcement.md": "sb3_contrib"}
"""Pages for what is no framework of critinit's, by what must be installed to run them; the group test-all has it."""


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if needed := NEEDS.get(str(page.relative_to(ROOT / "docs")) if page.is_relative_to(ROOT / "docs") else ""):
        pytest.importorskip(needed)
    wanted = [b for b in blocks(page.read_text()) if b.language in ("python", "console", "bash") and not b.left_out]
    assert run_page(page, tmp_path) == len(wanted)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {re.sub(r"[\- ]+", "-", text).strip("-") for text in kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_a_heading_lead_to_one(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text()):
        if "://" not in target:
            found = page if not target else (page.parent / target).resolve()
            assert anchor in anchors(found), f"{target}#{anchor}"


def test_every_block_of_a_page_is_found_and_held(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- setup\nx = 2\n-->\n\n```python\ny = x + 1\nassert y == 3\n```\n\n<!-- exit: 3 -->\n```console\n"
        "$ echo 1.001 of \\\n  4\n1.000 of 4\n$ exit 3\n```\n\n<!-- not run: takes a day -->\n```bash\nfalse\n```\n"
    )
    assert [b.status for b in blocks(page.read_text())] == [0, 0, 3, 0]
    assert run_page(page, tmp_path) == 3
    page.write_text(page.read_text().replace("1.000 of", "1.1 of"))
    with pytest.raises(AssertionError, match=r"page.md:10: echo 1.001 of"):
        run_page(page, tmp_path)
    page.write_text("```python\nprint(1 + 1, 'two')\n```\n\n```text\n3 two\n```\n")
    with pytest.raises(AssertionError, match="2 two"):
        run_page(page, tmp_path)
    page.write_text("```bash\nexit 1\n```\n")
    with pytest.raises(AssertionError, match="exit 1"):
        run_page(page, tmp_path)


@pytest.mark.parametrize(
    ("shown", "printed", "alike"),
    [
        ("chi 0.98", "chi 0.981", True),
        ("chi 0.98", "chi 0.998", False),
        ("chi .98", "time scale .98", False),
        ("a ─── b", "a ────── b", True),
        ("p 1e-05", "p 1.001e-05", True),
        ("1,797 digits", "1797 digits", True),
    ],
)
def test_numbers_may_differ_by_rounding_words_not_at_all(shown, printed, alike):
    assert same(shown, printed) is alike
