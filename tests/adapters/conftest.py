"""Keras' backend is fixed when Keras is imported, so it is chosen here; and packages that a test installs."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from critinit.tensors.application import ADAPTERS
from critinit.tensors.layouts import LAYOUTS

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if importlib.util.find_spec("tensorflow") is None:
    os.environ.setdefault("KERAS_BACKEND", "jax")

Install = Callable[..., None]


@pytest.fixture
def eager() -> Iterator[None]:
    """Run JAX without compiling: tiny models take longer to compile than to run."""
    import jax

    with jax.disable_jit():
        yield


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package for one test: ``install(group, {file: source}, name="module:attribute")``.

    It is found through its metadata, as any package is; what the registries learn of it is forgotten afterwards.
    """
    monkeypatch.syspath_prepend(tmp_path)
    for registry in (ADAPTERS, LAYOUTS):
        monkeypatch.setattr(registry, "_registered", dict(registry._registered))
        monkeypatch.setattr(registry, "_broken", dict(registry._broken))

    def installed(group: str, files: Mapping[str, str] = {}, **points: str) -> None:
        for name, source in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(source))
        info = tmp_path / f"package_{len(list(tmp_path.iterdir()))}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {info.stem}\nVersion: 1\n")
        lines = [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines))

    return installed
