"""Registries that forget what a test adds, and packages that publish members through entry points."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path

import pytest

from critinit.tensors.application import ADAPTERS
from tests.cli.conftest import run
from tests.conftest import REGISTRIES

__all__ = ["REGISTRIES", "Publish", "run"]

Publish = Callable[..., None]


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing counts as broken at first, and modules are as before when the test is over."""
    before = set(sys.modules)
    published = metadata.entry_points
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: _without_own_adapters(published(group=group)))
    for registry in REGISTRIES.values():
        monkeypatch.setattr(registry, "_broken", {})
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("critinit_own_", "published_")):
            del sys.modules[name]


def _without_own_adapters(points: metadata.EntryPoints) -> list[metadata.EntryPoint]:
    """The entry points without critinit's own adapters, which load only where every framework is installed."""
    return [point for point in points if not (point.group == ADAPTERS.group and "critinit_adapters" in point.module)]


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """``publish("published_x", code, {"critinit.cells": "x = published_x:X"})``: an installed package of one module."""

    def publish(module: str, code: str, points: Mapping[str, str]) -> None:
        folder = tmp_path / f"site_{module}"
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(code, encoding="utf-8")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n", encoding="utf-8")
        groups = "\n".join(f"[{group}]\n{lines}\n" for group, lines in points.items())
        (info / "entry_points.txt").write_text(groups, encoding="utf-8")
        monkeypatch.syspath_prepend(folder)

    return publish
