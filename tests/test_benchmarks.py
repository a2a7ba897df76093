"""The benchmarks measure what they say: small runs of each, and the command that lists them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest

from benchmarks import grid
from benchmarks.__main__ import QUICK, found, main
from critinit.errors import ArgumentError

ROOT = Path(__file__).parents[1]


def test_the_list_names_every_benchmark():
    paths = [str(ROOT / part) for part in ("src", "adapters", "cli")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "benchmarks", "--list"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    rows = [line.removeprefix("*").split(maxsplit=1) for line in done.stdout.splitlines()]
    assert [name for name, _ in rows] == list(found())
    assert {"digits", "grid"} <= found().keys()
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


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("torch", reason="the benchmark trains torch's layers")
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    from benchmarks import digits

    return digits


@pytest.fixture(scope="module")
def curves(digits):
    setting = digits.Setting(T=66, hidden=16, batch=16, steps=50, every=25)
    split = digits.digits(setting.T)
    return [digits.train(setting, scheme, seed, split) for scheme in ("critical", digits.DEFAULT) for seed in (0, 1)]


def test_digits_are_normalized_and_followed_by_silence(digits):
    x, y, x_held, y_held = digits.digits(100)
    assert x.shape == (100, len(y), 1)
    assert x_held.shape == (100, len(y_held), 1)
    assert len(y) + len(y_held) == 1797
    assert x[:64].mean() == pytest.approx(0.0, abs=1e-5)
    assert x[:64].var() == pytest.approx(1.0, abs=1e-4)
    assert not x[64:].any()
    assert not x_held[64:].any()
    assert set(y) == set(y_held) == set(range(10))
    with pytest.raises(ArgumentError, match="T: found 63; allowed: 64"):
        digits.digits(63)


def test_curves_are_measured(digits, curves):
    for curve in curves:
        assert curve.steps == (0, 25, 50)
        assert len(curve.accuracy) == len(curve.loss) == 3
        assert all(0 <= accuracy <= 1 for accuracy in curve.accuracy)
        assert curve.loss[0] == pytest.approx(np.log(10), abs=0.3)  # nothing is known before the first step
    assert len({curve.loss for curve in curves}) == len(curves)  # by scheme and by seed
    assert min(curves[0].loss) < curves[0].loss[0] - 0.1  # it learns


def test_a_seed_fixes_the_run(digits):
    setting = digits.Setting(T=66, hidden=8, batch=4, steps=3, every=3)
    once, again, other = (digits.train(setting, "chrono", seed, digits.digits(66)) for seed in (0, 0, 1))
    assert again.loss == pytest.approx(once.loss, rel=1e-4)
    assert other.loss != pytest.approx(once.loss, rel=1e-4)


def test_steps_to_the_goal(digits, curves):
    curve = replace(curves[0], steps=(0, 10, 20, 30), accuracy=(0.1, 0.89, 0.9, 0.5))
    assert digits.steps_to(curve) == 20
    assert digits.steps_to(curve, 0.95) == inf


def test_the_table_states_medians_and_what_was_missed(digits, curves):
    made = [
        replace(curves[0], seed=seed, steps=(0, 10), accuracy=(0.1, last))
        for seed, last in enumerate((0.95, 0.2, 0.93))
    ]
    rows = [line.split() for line in digits.table(made).splitlines()]
    assert rows[0] == ["step", "critical"]
    assert rows[2] == ["10", "0.930"]
    assert rows[3] == ["steps", "to", "90%", "10", "(10–>10)"]
    assert rows[4][-1] == "0.200–0.950"


def test_kept_runs_come_back_and_are_not_run_again(digits, curves, tmp_path, monkeypatch):
    file = tmp_path / "runs.jsonl"
    for curve in curves[:2]:
        digits._keep(curve, file)
    back = digits.read(file)
    assert [c.loss for c in back] == [pytest.approx(c.loss, rel=1e-5) for c in curves[:2]]

    def refuse(*_):
        raise RuntimeError("ran again")

    monkeypatch.setattr(digits, "train", refuse)
    assert digits._measure(curves[0].setting, ["critical"], [0, 1], file) == back
    with pytest.raises(RuntimeError, match="ran again"):  # another setting is another run
        digits._measure(replace(curves[0].setting, hidden=8), ["critical"], [0], file)


def test_the_picture_is_written(digits, curves, tmp_path):
    pytest.importorskip("matplotlib", reason="the picture needs it")
    png, svg = digits.plot(curves, tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text(encoding="utf-8")
    assert "<svg" in text
    again = digits.plot(curves, tmp_path / "again")[1].read_text(encoding="utf-8")
    assert again == text


@pytest.mark.slow
def test_check_rates_counts_alarms_and_misses(capsys):
    """A few models of every framework that is installed: every mistake that can be planted is found."""
    from benchmarks import check_rates

    check_rates.main(["--models", "6"])
    out = capsys.readouterr().out
    rows = {
        line[:38].strip(): line.split()[-2:] for line in out.splitlines() if line[:2] in {"1 ", "2 ", "3 ", "4 ", "5 "}
    }
    assert set(rows) == set(check_rates.FAULTS)
    assert all(missed == "0" for _, missed in rows.values()), out
    assert int(rows["4 one added to the keep gate"][0]) == 6
