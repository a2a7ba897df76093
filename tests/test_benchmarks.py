"""The benchmarks measure what they say: small runs of each, and the command that lists them."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import critinit
from benchmarks import gpu, grid, prune, refine, reinforcement, tied_cost, validation
from benchmarks.__main__ import QUICK, found, main
from benchmarks._tables import records
from benchmarks.validation import page
from critinit.theory.tied.solution import tied

pytestmark = pytest.mark.slow

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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["grid", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["spectrum", "--width", "0"], "argument --width: found 0; allowed: an integer from 1"),
        (["check_rates", "--models", "few"], "argument --models: found few; allowed: an integer from 1"),
    ],
)
def test_a_wrong_option_is_a_usage_error_before_anything_runs(capsys, arguments, said):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


GRIDS = [grid.gru_grid(3), grid.gru_grid(3, "gru_reset_before"), grid.lstm_grid(2)]


@pytest.mark.parametrize("parameters", GRIDS, ids=["gru", "gru_reset_before", "lstm"])
def test_grids_are_solved_at_every_point(parameters):
    solved, wall, processor = grid.timed(parameters)
    assert solved.chi.shape == parameters.batch
    assert np.all(solved.converged)
    assert np.unique(solved.chi).size == solved.chi.size  # every point is another network
    assert np.all(np.diff(solved.unit_time_constants[:, 0, 1]) > 0)  # the first axis is the keep gate's bias
    assert wall > 0
    assert processor > 0


def test_tied_theory_and_network_are_timed_side_by_side():
    spec = tied_cost.specs()["peephole_lstm"]
    seconds, scaled, numbers = tied_cost.cost(lambda: tied(spec, steps=40, particles=200, tolerance=1.0)[0])
    assert seconds > 0
    assert numbers.standard_error is not None
    error = numbers.standard_error["chi"] / numbers.chi
    assert scaled == pytest.approx(seconds * (error / tied_cost.TARGET) ** 2)


def test_the_validation_page_is_that_of_the_stored_points():
    """Three points with the theories computed now: their lines are those of the page."""
    text = (validation.DOCS / "validation.md").read_text(encoding="utf-8")
    rows = {row["point"]: row for row in validation.stored()}
    assert all(f"\n| {point} |" in text for point in rows)
    for point in (60, 67, 73):
        line = page.line(page.judge(rows[point]))
        written = next(x for x in text.splitlines() if x.startswith(f"| {point} |"))
        assert written.split("|")[1:6] == line.split("|")[1:6]  # networks; the theories to rounding
        assert written.split("|")[11:13] == line.split("|")[11:13]  # the verdicts
    assert ". ?" not in text  # every miss has its reason


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


@pytest.mark.frameworks
def test_the_first_steps_move_a_coupled_memory_less_than_an_uncoupled_one():
    """An LSTM that keeps with 1 − 1/T but writes with a half-open gate (``isometry``) drifts further."""
    pytest.importorskip("torch", reason="trains networks")
    pytest.importorskip("sklearn", reason="the tasks are loaded together with its digits")
    from benchmarks import response

    ours, open_gate = (
        response.response("lstm", "adding", 40, scheme, [1e-3])[0] for scheme in ("critical", "isometry")
    )
    assert 0 < ours < open_gate
    still = response.response("lstm", "adding", 40, "critical", [1e-9])[0]
    assert still < 1e-4


def test_embeddings_start_as_their_way_says_and_are_trained(capsys):
    from benchmarks import embeddings

    for way, power, stated in (("true", 1 / 1200, 1 / 1200), ("bound", 1 / 1200, 1 / 8), ("unit", 1 / 8, 1 / 8)):
        rows = embeddings.table("keras", way, 8, seed=0)
        assert rows.shape == (embeddings.TOKENS, 8)
        assert np.mean(rows**2) == pytest.approx(power, rel=0.1)
        assert embeddings.stated(way, 1 / 1200, 8) == stated
    tokens, answers = embeddings.batch(np.random.default_rng(0), 50)
    assert np.array_equal(tokens[:, 0], answers)
    assert tokens[:, 1:].min() == embeddings.CLASSES
    pytest.importorskip("torch")
    embeddings.main(["--steps", "2", "--seeds", "1", "--cells", "gru", "--rates", ".01", "--ways", "bound", "default"])
    runs = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [run["way"] for run in runs] == ["bound", "default"]
    assert all(0 <= run["accuracy"] <= 1 for run in runs)


def refined(method: str, rate: float, steps: int | None, metric: float, seconds: float) -> dict[str, object]:
    """A record of the benchmark ``refine``."""
    place = {"cell": "gru", "task": "digits", "T": 100, "seed": 0, "start": "critical", "steps": 400}
    found = {"steps_to_target": steps, "metric": metric, "refine_seconds": seconds, "train_seconds": 4.0}
    return {**place, "method": method, "learning_rate": rate, **found, "changed": True}


def test_refine_reports_the_best_rate_with_its_cost(tmp_path, capsys):
    rows = [
        refined("plain", 1e-2, 260, 0.91, 0.0),
        refined("plain", 1e-3, None, 0.42, 0.0),
        refined("flossing", 1e-2, None, 0.38, 31.7),
        refined("flossing", 3e-3, None, 0.57, 31.7),
    ]
    table = tmp_path / "table.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"cell": "gr')
    assert records(table) == rows
    assert main(["refine", "--table", str(table), "--report"]) == 0
    assert "| gru | digits | 100 | critical | 260 (4 s) | 32 s + >400, 0.57 (4 s) |  |" in capsys.readouterr().out


def test_refine_trains_one_start_at_every_rate():
    found = list(refine.measured("rnn", "adding", 20, refine.CHAOTIC, "plain", 0, steps=2, rates=(1e-2, 1e-3)))
    assert [record["learning_rate"] for record in found] == [1e-2, 1e-3]
    assert all(record["metric"] is not None and not record["changed"] for record in found)


def test_prune_reports_by_sparsity():
    found = prune.measured("digits", "random", 0.9, 0, steps=2)
    assert found["sparsity"] == pytest.approx(0.9, abs=1e-3)
    assert found["fewest kept"] > 0.0
    dense = {**found, "method": "jacobian", "asked": 0.0, "best": 0.85}
    report = prune.report([found, dense])
    assert "| 0 | 0.85 | | | |" in report
    assert f"| 0.9 |  |  |  | {found['best']:.2f} |" in report


@pytest.fixture
def few(monkeypatch):
    """The benchmark ``gpu`` with two of its specs and one of its trainings."""
    pytest.importorskip("torch", reason="trains networks")
    pytest.importorskip("sklearn", reason="the tasks are loaded together with its digits")
    monkeypatch.setattr(gpu, "SPECS", gpu.SPECS[2:4])
    monkeypatch.setattr(gpu, "TRAINED", gpu.TRAINED[1:2])


@pytest.mark.frameworks
def test_the_gpu_report_is_made_of_all_its_parts(few, tmp_path, capsys):
    assert main(["gpu", "--device", "cpu", "--small", "--report", str(tmp_path / "gpu.md")]) == 0
    report = (tmp_path / "gpu.md").read_text()
    assert report in capsys.readouterr().out
    parts = (
        "PyTorch: the same weights",
        "PyTorch: native",
        "Time and memory of apply",
        "Training 8 units",
        "The same on",
    )
    assert all(f"\n## {part}" in report for part in parts)
    assert report.count("same bits") >= 6
    assert report.endswith("Wrong: nothing.\n")


@pytest.mark.frameworks
def test_the_gpu_report_says_what_is_wrong_and_what_it_left_out(few, monkeypatch, capsys):
    right, seeds = critinit.apply, itertools.count()
    monkeypatch.setattr(
        critinit, "apply", lambda spec, model, seed, **more: right(spec, model, seed=next(seeds), **more)
    )
    monkeypatch.setattr(gpu, "_apply", lambda *_: None)
    monkeypatch.setattr(gpu, "_jax", lambda *_: time.sleep(0.6))
    assert main(["gpu", "--device", "cpu", "--small", "--minutes", "0.01"]) == 1
    out = capsys.readouterr().out
    assert "other bits" in out
    assert "Wrong: lstm, critical, 1 layer(s)" in out
    assert "No time was left for native." in out
    assert "No time was left for gru, memory" in out


@pytest.mark.frameworks
def test_a_device_that_is_not_there_is_one_plain_line(capsys):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("it is there")
    assert main(["gpu"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("gpu: device: found cuda (")
    assert "--device cpu --small" in said


@pytest.mark.frameworks
def test_a_policy_learns_by_reinforcement_from_each_start(tmp_path, capsys):
    pytest.importorskip("sb3_contrib")
    table = tmp_path / "runs.jsonl"
    small = ["--T", "12", "--hidden", "8", "--steps", "960", "--rate", ".01", "--table", str(table)]
    assert main(["reinforcement", *small]) == 0
    assert main(["reinforcement", *small, "--report"]) == 0
    found = [json.loads(line) for line in table.read_text().splitlines()]
    assert [record["start"] for record in found] == list(reinforcement.STARTS)
    assert len({tuple(record["curve"]) for record in found}) == len(found)
    assert all(len(record["curve"]) == 5 for record in found)  # 16 episodes of 12 steps, five times
    assert capsys.readouterr().out.count("| 12 | 8 | memory | 0.01 | 0 | more than 80 |") == 2


def test_recall_rewards_the_answers_that_belong_to_the_cue():
    pytest.importorskip("gymnasium")
    task = reinforcement.recall(12)()
    first, _ = task.reset(seed=1)
    cue = int(first[:2].argmax())
    assert sorted(first[:2]) == [0, 1]
    seen = [task.step(cue) for _ in range(12)]
    assert not np.any([observation[:2] for observation, *_ in seen])
    assert sum(reward for _, reward, *_ in seen) == pytest.approx(1.0)
    assert [reward > 0 for _, reward, *_ in seen] == [False] * 2 + [True] * 10
    assert [over for _, _, over, *_ in seen] == [False] * 11 + [True]
    task.reset(seed=1)
    assert sum(task.step(1 - cue)[1] for _ in range(12)) == 0.0


def test_reinforcement_reports_episodes_to_the_goal():
    like = {"T": 12, "hidden": 8, "start": "memory", "learning_rate": 0.1}
    report = reinforcement.report(
        [{**like, "seed": 1, "curve": [0.5, 0.6]}, {**like, "seed": 0, "curve": [0.5, 0.9, 0.8]}]
    )
    assert "| 12 | 8 | memory | 0.1 | 0, 1 | 32, more than 48 | 0.80, 0.60 |" in report
