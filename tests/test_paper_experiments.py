"""The experiments in docs/paper.md, at a small size."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.paper import copies, trainability
from benchmarks.paper.lines import with_bias

pytestmark = pytest.mark.slow


def test_perturbed_copies_follow_their_own_theory():
    found = copies.follow(2.0, width=200, networks=3, steps=40)
    assert np.all(np.abs(found.fresh - found.untied) < 0.3)
    assert np.all(np.abs(found.kept - found.tied) < 0.6)
    assert found.tied[-1] - found.untied[-1] > 2.0  # the two theories are apart by more than that
    assert copies.table([copies.Courses(2.0, *(np.linspace(0, -1, 151),) * 5)]).count("\n") == 4


def test_along_the_line_only_the_tied_time_scale_grows():
    edge = trainability.boundary((0.0, 0.5))
    assert edge.untied[1] / edge.untied[0] < 1.05
    assert edge.tied[1] / edge.tied[0] > 4.0
    assert with_bias(3.0, 100).layers[0].gates["update"].bias.mean == 3.0


@pytest.mark.frameworks
def test_what_is_known_is_not_trained_again(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="trains networks")
    pytest.importorskip("sklearn", reason="trains on its digits")
    monkeypatch.setattr(trainability, "STEPS", 2)
    monkeypatch.setattr(trainability, "LENGTHS", (64, 70))
    monkeypatch.setattr(trainability, "ALPHAS", (0.0, 0.5))
    monkeypatch.setattr(trainability, "SEEDS", (0,))
    file = tmp_path / "t.jsonl"
    first = trainability.measured(file)
    assert first.shape == (1, 2, 2)
    assert [json.loads(line)["T"] for line in file.read_text().splitlines()] == [64, 70]
    monkeypatch.setattr(trainability, "train_line", None)
    np.testing.assert_array_equal(trainability.measured(file), first)
    edge = trainability.boundary((0.0, 0.5))
    assert edge.untied == pytest.approx([10.3, 10.5], abs=0.1)
    assert trainability.table(first, edge).count("\n") == 3
