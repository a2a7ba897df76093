"""What holds for every test: nothing leaves this machine, and nothing that a test registers outlives it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from critinit.cells import CELLS
from critinit.distributions import BIASES, KERNELS
from critinit.schemes import SCHEMES
from critinit.tensors.application import ADAPTERS
from critinit.tensors.layouts import LAYOUTS

# before anything imports it: transformers asks its hub only where it may
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

REGISTRIES = {
    "cell": CELLS,
    "scheme": SCHEMES,
    "kernel": KERNELS,
    "bias": BIASES,
    "adapter": ADAPTERS,
    "layout": LAYOUTS,
}


@pytest.fixture(autouse=True)
def _registries_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every registry forgets what a test registers, loads or finds broken."""
    for registry in REGISTRIES.values():
        monkeypatch.setattr(registry, "_registered", dict(registry._registered))
        monkeypatch.setattr(registry, "_broken", dict(registry._broken))


@pytest.fixture(autouse=True)
def _denormal_numbers_as_before() -> Iterator[None]:
    """Numbers near 0 are numbers again after a test that trained, as benchmarks take them for 0 in their processes."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)
