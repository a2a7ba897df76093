"""The site: every page is in it, no link leads nowhere, and the reference has every public name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import critinit
from critinit import errors

ROOT = Path(__file__).parents[2]


def test_the_site_is_built_without_a_warning(tmp_path):
    found = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "WARNING" not in found.stderr
    page = (tmp_path / "site" / "reference" / "index.html").read_text()
    assert "critinit.generate" in page
    assert "of a cell for sequences of" in page  # the docstring, not the name alone


def test_every_public_name_is_in_the_reference():
    listed = set(re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE))
    missing = [
        name
        for name in critinit.__all__
        if f"critinit.{name}" not in listed and not hasattr(errors, name)
    ]
    assert not missing
