"""The benchmarks measure what they say: small runs of each, and the command that lists them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import grid
from benchmarks.__main__ import QUICK, found, main

ROOT = Path(__file__).parents[1]


def test_the_list_names_every_benchmark():
    paths = [str(ROOT / part) for part in ("src", "adapters", "cli")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "benchmarks", "--list"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    rows = [line.removeprefix("*").split(maxsplit=1) for line in done.stdout.splitlines()]
    assert [name for name, _ in rows] == list(found())
    assert {"training", "grid"} <= found().keys()
    assert all(len(summary) > 20 for _, summary in rows)
    starred = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("*")}
    assert starred == set(QUICK) & found().keys()


def test_an_unknown_name_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["grid", "nonesuch"])
    assert stopped.value.code == 2
    assert "found nonesuch; allowed:" in capsys.readouterr().err


@pytest.mark.parametrize("law", [grid.gru_grid(3), grid.gru_grid(3, "before"), grid.lstm_grid(2)])
def test_grids_are_solved_at_every_point(law):
    solved, wall, processor = grid.timed(law)
    assert solved.chi.shape == law.batch
    assert np.all(solved.converged)
    assert np.unique(solved.chi).size == solved.chi.size  # every point is another network
    assert np.all(np.diff(solved.keep_times[:, 0, 1]) > 0)  # the first axis is the keep gate's bias
    assert wall > 0
    assert processor > 0
