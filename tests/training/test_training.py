"""Runs are trained as torch would train them, side by side or alone; the command keeps, resumes and reports them."""

# ruff: noqa: E402 (what is imported below needs torch)

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="trains networks")
pytest.importorskip("sklearn", reason="trains on its digits")

import critinit
from benchmarks.__main__ import main
from benchmarks.training import generalization, grids, ranking, runner
from benchmarks.training.models import Model, outputs
from benchmarks.training.picture import draw_curves, draw_steps
from benchmarks.training.report import report, shown_curves
from benchmarks.training.run import DEFAULT, DIAGONAL, Rates, Result, Run, append, read
from benchmarks.training.runner import WorkerError, Workers, groups, measure, open_executor, reported
from benchmarks.training.starts import fingerprint, identity
from benchmarks.training.summary import best_rates, compare, geometric_mean
from benchmarks.training.tasks import TASKS
from benchmarks.training.train import train
from critinit.errors import ArgumentError, FileError
from critinit.spec.overrides import override

pytestmark = pytest.mark.frameworks

SMALL = Run("gru", "adding", 12, "critical", 1e-2, hidden=8, batch=4, steps=6, every=3)


def models_of(cell, layers, inputs_of="adding", schemes=("critical", DEFAULT)):
    data = TASKS[inputs_of].make(19, ())
    run = replace(SMALL, cell=cell, layers=layers, task=inputs_of)
    return [Model(replace(run, scheme=scheme, seed=k), data).double() for k, scheme in enumerate(schemes)]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("inputs", [1, 3])
def test_grus_side_by_side_are_torchs(layers, inputs):
    torch.manual_seed(0)
    models = models_of("gru", layers)
    for model in models:
        model.layer = torch.nn.GRU(inputs, 8, num_layers=layers, dtype=torch.float64)
    x = [torch.randn(19, 4, inputs, dtype=torch.float64, requires_grad=True) for _ in models]
    weights = [torch.randn(5, 4, 1, dtype=torch.float64) for _ in models]
    alone = [model.readout(model.layer(own)[0][-5:]) for model, own in zip(models, x, strict=True)]
    together = outputs(models, x, 5)
    leaves = [*x, *(p for model in models for p in model.parameters())]
    gradients = []
    for found in (alone, together):
        loss = sum((out * w).sum() for out, w in zip(found, weights, strict=True))
        gradients.append(torch.autograd.grad(loss, leaves))
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-13)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-11, atol=1e-12)
        assert a.abs().max() > 1e-6


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_runs_side_by_side_find_what_they_find_alone(cell):
    schemes = ("critical", "orthogonal", DEFAULT)
    runs = [
        replace(SMALL, cell=cell, scheme=s, seed=k % 2, learning_rate=3e-3 + k / 100) for k, s in enumerate(schemes)
    ]
    together = train(runs)
    for run, found in zip(runs, together, strict=True):
        (alone,) = train([run])
        assert found.run == alone.run == run
        assert found.steps == alone.steps == (0, 3, 6)
        assert found.loss == pytest.approx(alone.loss, rel=1e-4)
        assert found.training_loss[1:] == pytest.approx(alone.training_loss[1:], rel=1e-4)
    assert len({found.loss for found in together}) == len(runs)


@pytest.mark.parametrize(
    ("schedule", "factors"), [("constant", [1, 1, 1]), ("linear", [1, 2 / 3, 1 / 3]), ("cosine", [1, 0.75, 0.25])]
)
def test_a_run_is_torchs_own_loop(schedule, factors):
    """Adam, its falling rate, the clipped gradient and the batches of ``train`` against a loop of torch alone."""
    run = replace(SMALL, scheme=DEFAULT, clip=0.05, steps=3, every=1, learning_rate=0.1, schedule=schedule)
    data = TASKS["adding"].make(run.T, ())
    torch.manual_seed(run.seed)
    layer, readout = torch.nn.GRU(2, 8), torch.nn.Linear(8, 1)
    parameters = [*layer.parameters(), *readout.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=run.learning_rate)
    x, y = map(torch.from_numpy, (data.held_out.x, data.held_out.y))
    losses = []
    for step in range(run.steps + 1):
        with torch.no_grad():
            losses.append(float(((readout(layer(x)[0][-1])[:, 0] - y[0]) ** 2).mean()))
        batch = data.sample(np.random.default_rng([run.seed, step + 1]), run.batch)
        optimizer.zero_grad()
        out = readout(layer(torch.from_numpy(batch.x))[0][-1])[:, 0]
        ((out - torch.from_numpy(batch.y[0])) ** 2).mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, run.clip)
        assert norm > run.clip
        if step < run.steps:
            optimizer.param_groups[0]["lr"] = factors[step] * run.learning_rate
        optimizer.step()
    (found,) = train([run])
    assert found.loss == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_it_learns(optimizer):
    run = replace(SMALL, task="digits", T=64, hidden=16, batch=16, steps=40, every=20, optimizer=optimizer)
    rate = {"sgd": 0.3}.get(optimizer, 1e-2)
    (found,) = train([replace(run, learning_rate=rate)])
    assert found.loss[0] == pytest.approx(np.log(10), abs=0.3)  # nothing is known before the first step
    assert min(found.loss) < found.loss[0] - 0.05
    assert all(0 <= accuracy <= 1 for accuracy in found.metric)


def test_metrics_are_what_they_are_called():
    run = replace(SMALL, task="characters", steps=1, every=1)
    (characters,) = train([run])
    assert characters.metric == pytest.approx([loss / math.log(2) for loss in characters.loss])
    (adding,) = train([replace(run, task="adding")])
    assert adding.metric == adding.loss


def test_a_run_ends_at_its_target(monkeypatch):
    easy = replace(TASKS["adding"], target=100.0)
    monkeypatch.setitem(TASKS, "adding", easy)
    on, stopped = replace(SMALL, seed=1), replace(SMALL, stop_at_target=True)
    assert train([stopped])[0].steps == (0,)
    assert train([on])[0].steps == (0, 3, 6)
    assert train([stopped])[0].steps_to_target == 0


def test_a_run_that_breaks_off_leaves_the_others_alone():
    runs = [replace(SMALL, learning_rate=rate, optimizer="sgd", clip=1e30) for rate in (1e30, 1e-3)]
    broken, whole = train(runs)
    assert math.isnan(broken.loss[-1])
    assert broken.steps_to_target == math.inf
    assert broken.steps[-1] < 6
    assert whole.loss == pytest.approx(train(runs[1:])[0].loss, rel=1e-4)


def test_runs_of_several_rows_are_refused():
    with pytest.raises(ArgumentError, match="several rows"):
        train([SMALL, replace(SMALL, T=13)])


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("T", 0, "T: found 0"),
        ("learning_rate", math.nan, "learning_rate: found nan"),
        ("clip", math.inf, "clip: found inf"),
        ("task", "nonesuch", "task: found nonesuch; allowed: digits"),
        ("optimizer", "lbfgs", "optimizer: found lbfgs"),
        ("schedule", "steep", "schedule: found steep; allowed: constant, linear, cosine"),
    ],
)
def test_settings_out_of_range_are_refused(setting, value, message):
    with pytest.raises(ArgumentError, match=message):
        replace(SMALL, **{setting: value})


def result(scheme, seed, reached, rate=1e-2, last=None, run=SMALL, data="0", ratio=1.0):
    """A made-up run that reaches the adding problem's target after ``reached`` steps."""
    steps = (0, run.steps) if reached in (None, run.steps) else (0, reached, run.steps)
    metric = [0.2] * len(steps)
    if reached is not None:
        metric[steps.index(reached)] = 0.01
    if last is not None:
        metric[-1] = last
    run = replace(run, scheme=scheme, seed=seed, learning_rate=rate, readout_ratio=ratio)
    return Result(run, data, "", steps, tuple(metric), tuple(metric), (math.nan, *metric[1:]), 1.0)


BUDGET = replace(SMALL, steps=400, every=10)


def made(scheme, steps, rate=1e-2, **more):
    return [result(scheme, seed, s, rate, run=more.get("run", BUDGET)) for seed, s in enumerate(steps)]


def test_the_table_gives_back_what_was_kept(tmp_path):
    table = tmp_path / "deep" / "runs.jsonl"
    kept = [*made("critical", [30, None]), replace(result("chrono", 0, None), metric=(0.2, math.nan))]
    for each in kept:
        append([each], table)
    back = read(table)
    assert [r.run for r in back] == [r.run for r in kept]
    assert [r.steps_to_target for r in back] == [30, math.inf, math.inf]
    assert math.isnan(back[2].metric[1])
    lines = [json.loads(line) for line in table.read_text().splitlines()]
    assert [line["steps_to_target"] for line in lines] == [30, None, None]
    assert {line["used_to_fix"] for line in lines} == {False}
    assert "NaN" not in table.read_text()
    append([replace(kept[1], metric=(0.2, 0.0200000001))], table)  # rounded it would reach the target
    assert read(table)[-1].steps_to_target == math.inf


def test_an_interrupted_line_is_dropped_and_overwritten(tmp_path):
    table = tmp_path / "runs.jsonl"
    first, second = made("critical", [30, 40])
    append([first], table)
    whole = table.read_text()
    table.write_text(whole + whole[: len(whole) // 2])
    assert len(read(table)) == 1
    append([second], table)
    assert [r.run.seed for r in read(table)] == [0, 1]


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_whole_last_line_is_kept(tmp_path, end):
    table = tmp_path / "runs.jsonl"
    first, second = made("critical", [30, 40])
    append([first], table)
    table.write_text(table.read_text().rstrip("\n") + end)
    assert len(read(table)) == 1
    append([second], table)
    assert [r.run.seed for r in read(table)] == [0, 1]


def test_a_file_that_is_no_table_is_refused_and_stays(tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("an only copy")
    with pytest.raises(FileError, match=r"notes\.txt: line 1: "):
        read(notes)
    append(made("critical", [30]), notes)
    assert notes.read_text().startswith("an only copy\n{")


def test_two_may_write_one_table_at_once(tmp_path):
    table = tmp_path / "runs.jsonl"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: append([result("critical", seed, 30)], table), range(200)))
    assert sorted(r.run.seed for r in read(table)) == list(range(200))


@pytest.mark.parametrize("line", ["nonsense", "{}", "[1]", '{"cell": "gru"}'])
def test_a_line_that_is_no_run_is_refused_by_its_number(tmp_path, line):
    table = tmp_path / "runs.jsonl"
    append(made("critical", [30]), table)
    table.write_text(table.read_text() + line + "\n")
    with pytest.raises(FileError, match=r"runs\.jsonl: line 2: "):
        read(table)


def test_what_the_table_holds_is_found_again(tmp_path):
    table, told = tmp_path / "runs.jsonl", []
    wanted = [replace(SMALL, seed=seed) for seed in (0, 1, 1)]
    run, data, start = identity(SMALL)
    known = replace(result("critical", 0, None), data=data, start=start)
    stale = [replace(known, data="other"), replace(known, start="other"), replace(known, run=replace(run, hidden=9))]
    append([known, *stale, known], table)

    def stage(found):
        told.append(found)
        return wanted

    found = reported([stage, stage], table)
    assert (len(found.results), found.wanted) == (1, 2)
    assert told == [[], found.results]
    assert found.results[0].run == SMALL
    assert "from 1 runs in `t`; 1 of 2 that were asked for are not in it." in report(found.results, "t", found.wanted)


def test_starts_are_told_apart():
    _, data, start = identity(replace(SMALL, seed=3, learning_rate=1.0))
    assert (data, start) == identity(SMALL)[1:]
    assert identity(replace(SMALL, scheme=DEFAULT))[1:] == (data, "")
    others = [replace(SMALL, scheme="chrono"), replace(SMALL, T=13), replace(SMALL, layers=2)]
    assert len({start, *(identity(run)[2] for run in others)}) == 4
    made = Model(SMALL, TASKS["adding"].make(SMALL.T, ()))
    assert fingerprint(made.spec) == start


def test_the_published_table_is_of_todays_specs():
    """A changed spec or task would silently leave its runs out of the report."""
    like = replace(SMALL, hidden=64, batch=32, steps=600, every=20, stop_at_target=True)
    runs = grids.every(["gru", "lstm"], ["adding", "copy"], [100], grids.SCHEMES, [1e-2], [0], like)
    found = reported([lambda _: runs], Path(__file__).parents[2] / "docs" / "training.jsonl")
    assert (len(found.results), found.wanted) == (24, 24)


def test_a_start_does_not_depend_on_how_a_machine_rounds():
    spec = critinit.generate("gru", 12, scheme="uniform_gate")
    nearly = [f"layers.0.gates.candidate.bias.mean={1e-16}", f"layers.0.gates.reset.bias.mean={1.0 + 1e-12}"]
    exactly = ["layers.0.gates.candidate.bias.mean=0.0", "layers.0.gates.reset.bias.mean=1.0"]
    assert fingerprint(override(spec, nearly)) == fingerprint(override(spec, exactly)) != fingerprint(spec)


def test_a_spec_in_a_file_is_a_scheme(tmp_path, threads):
    file = tmp_path / "own.json"
    file.write_text(critinit.generate("gru", 12, scheme="isometry", hidden_size=8).to_json())
    own = replace(SMALL, scheme=str(file))
    first = measure([lambda _: [own]], tmp_path / "runs.jsonl", Workers(1), Told()).results
    assert first[0].run == own
    file.write_text(critinit.generate("gru", 12, scheme="chrono").to_json())
    told = Told()
    measure([lambda _: [own]], tmp_path / "runs.jsonl", Workers(1), told)
    assert told.totals == [1]  # what the file holds has changed
    with pytest.raises(ArgumentError, match=r"own.json: found gru of 1 layer\(s\); allowed: lstm of 1"):
        identity(replace(own, cell="lstm"))


def test_a_report_of_any_cell_and_scheme(tmp_path, threads, capsys):
    file = tmp_path / "own.json"
    file.write_text(critinit.generate("rnn", 12, scheme="keras").to_json())
    small = ["--T", "12", "--hidden", "8", "--batch", "4", "--steps", "2", "--every", "1", "--task", "adding"]
    schemes = [
        part for name in ("critical", "isometry", "orthogonal", DEFAULT, str(file)) for part in ("--scheme", name)
    ]
    assert main(["training", *small, "--cell", "rnn", "--workers", "1", *schemes]) == 0
    shown = capsys.readouterr().out
    assert "own.json" in shown
    assert "rank the schemes" not in shown  # no gate keeps anything


def test_groups_keep_to_a_row():
    runs = grids.every(["gru", "lstm"], ["adding"], [10], ["critical", "chrono"], [1e-2], [0, 1], SMALL)
    found = groups(runs, 3)
    assert [len(group) for group in found] == [3, 1, 3, 1]
    assert [run for group in found for run in group] == runs


class Told:
    def __init__(self):
        self.totals, self.ended = [], []

    def total(self, runs):
        self.totals.append(runs)

    def done(self, results):
        self.ended += results


@pytest.fixture
def threads(monkeypatch):
    """An executor in this process: what is tested is what is run, not where."""

    @contextmanager
    def opened(workers):
        with ThreadPoolExecutor(workers.count) as pool:
            yield pool

    monkeypatch.setattr(runner, "open_executor", opened)
    monkeypatch.setattr("benchmarks.training.train.prepare", lambda threads: None)


def test_stages_follow_one_another_and_resume(tmp_path, threads):
    table, told = tmp_path / "runs.jsonl", Told()
    second = lambda known: [replace(r.run, seed=1) for r in known]  # noqa: E731
    stages = (lambda _: [SMALL, replace(SMALL, scheme="chrono")], second)
    found = measure(stages, table, Workers(1), told)
    assert told.totals == [2, 2]
    assert [r.run.seed for r in found.results] == [0, 0, 1, 1]
    assert [r.run for r in read(table)] == [r.run for r in found.results] == [r.run for r in told.ended]
    before = table.read_bytes()
    measure(stages[:1], table, Workers(1), told)
    assert told.totals[2:] == [0]
    assert table.read_bytes() == before


def test_processes_find_the_same(tmp_path):
    (alone,) = train([SMALL])
    (found,) = measure([lambda _: [SMALL]], None, Workers(1), Told()).results
    assert found.loss == pytest.approx(alone.loss, rel=1e-4)


def test_the_paper_grid_goes_by_stages():
    first, second, third = grids.paper()
    runs = list(first([]))
    assert len(runs) == len(set(runs)) == 2 * 6 * 2 * 6 * 4
    assert {run.seed for run in runs} == {0}
    assert all(run.stop_at_target for run in runs)
    row = [run for run in runs if (run.cell, run.task, run.T, run.scheme) == ("lstm", "copy", 300, "chrono")]
    steps = {1e-3: None, 3e-3: 100, 1e-2: 200, 3e-2: None}
    known = [result("chrono", 0, steps[run.learning_rate], run.learning_rate, run=run, last=0.2) for run in row]
    known = [replace(r, metric=tuple(1 - m for m in r.metric)) for r in known]  # accuracy rises
    chosen = list(second(known))
    assert [run.seed for run in chosen] == [0, 1, 2, 3, 4]
    assert {run.learning_rate for run in chosen} == {3e-3}
    # the two best rates of ours and of the best peer, no other's
    ours, slow = ([replace(r, run=replace(r.run, scheme=scheme)) for r in known] for scheme in ("critical", "isometry"))
    slow = [replace(r, steps=tuple(2 * n for n in r.steps)) for r in slow]
    finals = list(third([*ours, *known, *slow]))
    assert {(run.scheme, run.learning_rate) for run in finals} == {
        (scheme, rate) for scheme in ("critical", "chrono") for rate in (3e-3, 1e-2)
    }
    assert len(finals) == len(set(finals)) == 2 * 2 * 5


def test_the_best_rate_is_chosen_among_those_with_the_most_seeds():
    fast = made("critical", [50, 300, 300], 1e-2)  # slower by its median, but not on seed 0
    slow = made("critical", [100], 1e-3)
    assert set(best_rates([*fast, *slow]).values()) == {Rates(1e-2, 1.0)}
    slow = made("critical", [100, 200, 200], 1e-3)
    assert set(best_rates([*fast, *slow]).values()) == {Rates(1e-3, 1.0)}
    tied = [result("critical", 0, None, rate, last=last, run=BUDGET) for rate, last in ((1e-3, 0.1), (1e-2, 0.15))]
    assert set(best_rates(tied).values()) == {Rates(1e-3, 1.0)}
    broken = replace(tied[0], metric=(0.2, math.nan))
    assert set(best_rates([broken, tied[1]]).values()) == {Rates(1e-2, 1.0)}


@pytest.mark.parametrize(
    ("rates", "edge"),
    [((1,), "the only one"), ((1, 2), "the least tried"), ((0.5, 1), "the largest tried"), ((0.5, 1, 2), "")],
)
def test_a_best_rate_at_the_edge_is_told(rates, edge):
    (row,) = compare([result("critical", 0, 50 if rate == 1 else 90, rate, run=BUDGET) for rate in rates])
    assert row.entries["critical"].edge == edge


def test_the_best_rates_are_a_pair_and_an_edge_is_of_its_ratio():
    tried = {(1e-3, 1.0): 90, (1e-2, 1.0): 80, (3e-2, 1.0): 90, (1e-3, 3.0): 60, (1e-2, 3.0): 70}
    (row,) = compare(
        [result("chrono", 0, steps, rate, ratio=ratio, run=BUDGET) for (rate, ratio), steps in tried.items()]
    )
    entry = row.entries["chrono"]
    assert entry.rates == Rates(1e-3, 3.0)
    assert str(entry.rates) == "0.001, readout 3 times"
    assert len(entry.tried) == 5
    assert entry.edge == "the least tried"


def test_neither_our_own_nor_other_architectures_are_peers():
    schemes = {"memory": 60, "critical": 30, "chrono": 90, "groups share=0.5": 20, DIAGONAL: 10}
    (row,) = compare([r for scheme, steps in schemes.items() for r in made(scheme, [steps])], ours="memory")
    assert [entry.scheme for entry in row.peers] == ["chrono"]
    assert (row.best_peer.scheme, row.ratio) == ("chrono", 1.5)
    page = report([r for scheme, steps in schemes.items() for r in made(scheme, [steps])], "", ours="memory")
    assert "| gru adding T = 12, 8 units | 60 | chrono 90 | 1.50 | 1, 1 |" in page
    assert "| **memory** |" in page


REAL = replace(SMALL, task="basic-motions", T=100, steps=60, every=10)


def curve(scheme, seed, *metric):
    """A run of a task without a target."""
    run = replace(REAL, scheme=scheme, seed=seed)
    loss = tuple(1 - m for m in metric)
    return Result(run, "0", "", tuple(range(0, 10 * len(metric), 10)), metric, loss, (math.nan, *loss[1:]), 1.0)


def test_without_a_target_the_best_peers_final_metric_is_the_goal():
    results = [
        curve("critical", 0, 0.1, 0.5, 0.9, 0.9, 0.9, 0.9, 0.9),
        curve("critical", 1, 0.1, 0.5, 0.5, 0.8, 0.92, 0.92, 0.92),
        curve("chrono", 0, 0.1, 0.2, 0.3, 0.4, 0.8, 0.85, 1.0),  # the last one is luck: the median of five is .8
        curve("chrono", 1, 0.1, 0.2, 0.3, 0.4, 0.8, 0.85, 1.0),
        curve("orthogonal", 0, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1),
    ]
    (row,) = compare(results)
    assert results[2].final == 0.8
    assert row.best_peer.scheme == "chrono"
    assert {entry.goal for entry in row.entries.values()} == {0.8}
    assert row.entries["critical"].steps == (20, 30)
    assert (row.best_peer.steps, row.ratio) == ((40, 40), 40 / 25)
    assert row.gain == pytest.approx(0.91 - 0.8)
    assert row.spread == pytest.approx(0.01)
    page = report(results, "")
    assert "below the best peer's by more than half the seeds' range: 0 of 1." in page
    assert (
        "| gru basic-motions T = 100, 8 units | 0.910 (0.900–0.920) | chrono 0.800 (0.800–0.800) | +0.110 | 0.010 |"
        in page
    )
    assert "## Summary" not in page
    worse = report(
        [
            replace(r, run=replace(r.run, scheme={"critical": "chrono", "chrono": "critical"}[r.run.scheme]))
            for r in results[:4]
        ],
        "",
    )
    assert "more than half the seeds' range: 1 of 1." in worse


def test_without_a_target_critical_is_a_peer_of_our_other_schemes():
    finals = {"memory": 0.7, "critical": 0.9, "chrono": 0.8, "groups share=0.5": 1.0, DIAGONAL: 1.0}
    results = [curve(scheme, 0, 0.1, *[final] * 6) for scheme, final in finals.items()]
    (row,) = compare(results, ours="memory")
    assert [entry.scheme for entry in row.peers] == ["critical", "chrono"]
    assert (row.best_peer.scheme, round(row.gain, 3)) == ("critical", -0.2)
    page = report(results, "", ours="memory")
    assert "`critical` included" in page
    assert "| 0.700 | critical 0.900 | -0.200 |" in page
    assert "`critical` included" not in report(results, "")
    longer = [replace(r, run=replace(r.run, steps=90)) for r in results]
    both = report([*results, *longer], "", ours="memory")
    assert all(f"| gru basic-motions T = 100, 8 units, {steps} steps | 0.700" in both for steps in (60, 90))


def test_without_a_target_the_best_rate_is_of_the_best_final_metric():
    slow, fast = curve("chrono", 0, 0.1, *[0.7] * 6), curve("chrono", 0, 0.6, *[0.6] * 6)
    found = [slow, replace(fast, run=replace(fast.run, learning_rate=0.1))]
    assert set(best_rates(found).values()) == {slow.run.rates}


def test_a_search_goes_beyond_the_edge_and_then_gives_readouts_their_own_rate():
    """Steps fall as the rate rises to .1; with a readout ratio of 3 they are fewer still."""
    first = [
        replace(BUDGET, scheme=scheme, learning_rate=rate) for scheme in ("critical", "chrono") for rate in (0.01, 0.03)
    ]
    known, asked = [], []
    for stage in grids._search(first, range(2)):
        runs = list(stage(known))
        asked.append({(r.scheme, *r.rates, r.seed) for r in runs})
        for run in runs:
            if run.key not in {r.run.key for r in known}:
                near = abs(math.log(run.learning_rate / 0.1))
                steps = round(100 + 50 * near + 10 * abs(run.readout_ratio - 3) + 200 * (run.scheme == "chrono"))
                known.append(
                    result(run.scheme, run.seed, min(steps, 399), run.learning_rate, run=run, ratio=run.readout_ratio)
                )
    edges = [{rate for _, rate, _, _ in runs} for runs in asked[1:4]]
    assert edges == [{0.1}, {0.3}, set()]
    assert asked[4] == {("critical", rate, ratio, 0) for rate in (0.1, 0.03) for ratio in (3.0, 10.0)}  # chrono is far
    assert asked[5] == {("critical", 0.3, 3.0, 0)}
    two = {("critical", 0.1, 3.0), ("critical", 0.1, 1.0), ("chrono", 0.1, 1.0), ("chrono", 0.03, 1.0)}
    assert asked[-1] == {(*best, seed) for best in two for seed in (0, 1)}


@pytest.mark.parametrize("name", grids.GRIDS)
def test_every_grid_has_runs(name):
    first, *rest = grids.real(REAL, ["isometry"]) if name == "real" else getattr(grids, name)()
    runs = list(first([]))
    assert len(runs) == len(set(runs)) > 100
    assert {run.seed for run in runs} == {0}
    assert rest


def test_ratios_count_unreached_runs_with_the_budget():
    (won,) = compare([*made("critical", [40, 50, 60]), *made("chrono", [100, 200, 150]), *made("isometry", [None] * 3)])
    assert won.best_peer.scheme == "chrono"
    assert (won.decided, won.lost, won.ratio) == (True, False, 3.0)
    (bound,) = compare([*made("critical", [50]), *made("chrono", [None])])
    assert (bound.lost, bound.ratio) == (False, 8.0)
    (lost,) = compare([*made("critical", [None]), *made("chrono", [100])])
    assert (lost.decided, lost.lost, lost.ratio) == (True, True, 0.25)
    (neither,) = compare([*made("critical", [None]), *made("chrono", [None])])
    assert not neither.decided
    assert geometric_mean([won.ratio, bound.ratio]) == pytest.approx(24**0.5)


@pytest.mark.parametrize(
    ("ours", "theirs", "ratio", "bound"),
    [
        ([20, 40, 60, None], [20, 40, 60, 80], 1.0, ""),  # the middle ones are known
        ([20, 40, None, None], [50, 50, 50, 50], 0.125, "≤ "),
        ([40, 40], [60, None], 10.0, "≥ "),
    ],
)
def test_medians_of_even_numbers_of_seeds(ours, theirs, ratio, bound):
    (row,) = compare([*made("critical", ours), *made("chrono", theirs)])
    assert (row.ratio, row.bound) == (ratio, bound)
    assert row.lost == (ratio < 1)


def test_other_data_is_another_row():
    found = compare([*made("critical", [50]), replace(made("chrono", [10])[0], data="1")])
    assert [len(row.entries) for row in found] == [1, 1]


def test_the_report_puts_lost_rows_first():
    other = replace(BUDGET, T=200)
    results = [
        *made("critical", [40, 50, 60]), *made("chrono", [100, None, 150]),
        *made("critical", [200], run=other), *made("chrono", [100], run=other),
    ]  # fmt: skip
    page = report(results, "runs.jsonl")
    assert page.index("gru adding T = 200, 8 units: mean squared error ≤ 0.02 (used to fix constants)") < page.index(
        "T = 12, 8 units:"
    )
    assert "Rows lost to a peer: 1 of 2, 1 of them beyond the seeds' range" in page
    assert "| **critical** | 0.01 (the only one) | 1 | 3 | 50 (40–60) |" in page
    assert "150 (100–>400)" in page
    assert "constant (1 rows): 3.00" in page
    assert f"ours): {math.sqrt(3 / 2):.2f}" in page
    assert "None: no peer" in report(results[:6], "runs.jsonl")
    assert "| critical | 2 of 2 |  |  |" in page
    assert f"| chrono | 2 of 2 | {math.sqrt(3 / 2):.2f} | 1 |" in page
    unreached = [*made("critical", [50]), *made("chrono", [None]), *made("isometry", [25])]
    assert "| chrono | 0 of 1 | ≥ 8.00 | 0 |" in report(unreached, "")
    assert "| critical | 0 of 1 |  |  |" in (failed := report([*made("critical", [None]), *made("chrono", [100])], ""))
    assert "| chrono | 1 of 1 | ≤ 0.25 | 1 |" in failed


def test_pictures_are_written_and_the_same_again(tmp_path):
    rows = compare([*made("critical", [40, 50]), *made("chrono", [100, None])])
    for draw, what in ((draw_steps, rows), (draw_curves, rows[0])):
        png, svg = draw(what, tmp_path / draw.__name__)
        assert png.read_bytes().startswith(b"\x89PNG")
        text = svg.read_text(encoding="utf-8")
        assert "<svg" in text
        assert draw(what, tmp_path / "again" / draw.__name__)[1].read_text(encoding="utf-8") == text
    with pytest.raises(ArgumentError, match="found no runs"):
        draw_steps([], tmp_path / "none")


def test_the_command(tmp_path, threads, capsys):
    table, page = tmp_path / "runs.jsonl", tmp_path / "made" / "page.md"
    small = {"T": 12, "hidden": 8, "batch": 4, "steps": 6, "every": 3, "task": "adding"}
    settings = [part for name, value in small.items() for part in (f"--{name}", str(value))]
    command = ["training", *settings, "--scheme", "critical", "--scheme", "chrono", "--table", str(table)]
    command += ["--workers", "1"]
    assert main([*command, "--report", str(page)]) == 0
    told = capsys.readouterr()
    assert "[2/2] gru adding T=12 chrono lr=0.01 seed=0: target not reached in 6" in told.err
    assert len(read(table)) == 2
    assert "### gru adding T = 12" in page.read_text(encoding="utf-8")
    assert main([*command, "--workers", "0"]) == 0
    assert "### gru adding T = 12, 8 units" in capsys.readouterr().out
    other = ["training", "--cell", "lstm", "--everything", "--ours", "chrono", "--table", str(table)]
    assert main(other) == 0  # whatever is asked
    told = capsys.readouterr().out
    assert "from 2 runs in `runs.jsonl`.\n" in told
    assert "| **chrono** |" in told


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--task", "nonesuch"], 2, "nonesuch"),
        (["--T", "0"], 2, "--T"),
        (["--clip", "0"], 1, "clip: found 0.0; allowed: a finite number above 0"),
        (["--T", "10", "--T", "20", "--curves", "file"], 1, "curves: found several rows"),
        (["--workers", "0"], 1, "workers: found 0 without a table"),
        (["--everything"], 1, "everything: found True without a table"),
        (["--workers", "0", "--table", "nonesuch.jsonl"], 1, "workers: found 0 and no table nonesuch.jsonl"),
        (["--device", "abacus"], 1, "device: found abacus ("),
        (["--seed", str(2**64)], 2, "--seed"),
        (["--report", "/dev/null/page.md"], 1, "page.md: found /dev/null, which is no folder"),
        (["--table", "same", "--report", "./same"], 1, "same: found it named twice; allowed: a file of its own"),
        (["--picture", "same", "--curves", "same"], 1, "same.png: found it named twice"),
        (["--picture", ""], 1, "found a folder; allowed: a file"),
        (["--cell", "gru", "--cell", "rnn", "--scheme", "chrono", "--T", "64"], 1, "chrono"),
        (["--scheme", "nonesuch.json", "--T", "64"], 1, "nonesuch.json: found no such file"),
        (["--task", "digits", "--T", "3", "--workers", "1"], 1, "T: found 3; allowed: 64"),
        (["--cell", "nonesuch", "--T", "64", "--workers", "1"], 1, "cell: found nonesuch"),
        (["--readout-ratio", "0"], 1, "readout_ratio: found 0.0; allowed: a finite number above 0"),
        (["--scheme", "groups share=2", "--T", "64"], 1, "share: found '2'"),
        (["--task", "mnist", "--stop-at-target"], 1, "stop_at_target: found mnist"),
    ],
)
def test_wrong_usage_is_one_plain_line(options, status, message, threads, capsys):
    assert main(["training", *options]) == status
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_dask_cluster_finds_the_same(monkeypatch):
    from distributed import LocalCluster

    monkeypatch.setattr("benchmarks.training.train.prepare", lambda threads: None)  # the worker is this process
    (alone,) = train([SMALL])
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        (found,) = measure([lambda _: [SMALL]], None, Workers(1, dask=cluster.scheduler_address), Told()).results
    assert found.loss == pytest.approx(alone.loss, rel=1e-4)


def test_a_worker_that_dies_is_one_plain_line():
    with pytest.raises(WorkerError, match="a worker process ended by itself"), open_executor(Workers(1)) as executor:
        executor.submit(os._exit, 3).result()


def test_an_error_in_a_worker_is_one_plain_line(threads, monkeypatch):
    def fail(*_):
        raise RuntimeError("no such kernel\nand more")

    monkeypatch.setattr("benchmarks.training.train.train", fail)
    with pytest.raises(WorkerError, match=r"^a worker failed: RuntimeError: no such kernel; the table"):
        measure([lambda _: [SMALL]], None, Workers(1), Told())


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_workers_end_with_the_process_that_started_them():
    code = (
        "import os\nfrom benchmarks.training.runner import Workers, open_executor\n"
        "if __name__ == '__main__':\n with open_executor(Workers(1)) as pool:\n"
        "  print(pool.submit(os.getpid).result(), flush=True)\n  os.kill(os.getpid(), 15)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=120, check=False)
    assert ended.returncode == -15  # and no timeout: stdout, which the worker has too, is closed
    assert int(ended.stdout) > 0


def test_a_number_that_orders_schemes_as_training_does_correlates_fully():
    row = replace(BUDGET, T=100, cell="lstm")
    steps = {"critical": 100, "chrono": 200, "orthogonal": 300, "isometry": 350}
    results = [result(scheme, 0, reached, run=row) for scheme, reached in steps.items()]
    numbers = {s: ranking.numbers_of(replace(row, scheme=s))[0] for s in steps}
    by_theory = sorted(steps, key=numbers.__getitem__, reverse=True)
    agreeing = [replace(r, run=replace(r.run, scheme=s)) for r, s in zip(results, by_theory, strict=True)]
    reversed_ = [replace(r, run=replace(r.run, scheme=s)) for r, s in zip(results, by_theory[::-1], strict=True)]
    assert ranking.correlations(compare(agreeing)[0])["early-input response"] == pytest.approx(1)
    assert ranking.correlations(compare(reversed_)[0])["early-input response"] == pytest.approx(-1)
    assert ranking.correlations(compare(results[:3])[0]) == {}
    assert "| **median** |" in ranking.table(compare(agreeing))


def test_schemes_alike_share_a_rank():
    row = replace(BUDGET, T=100, cell="lstm")
    results = [result(s, 0, 100, run=row) for s in ("critical", "chrono", "orthogonal")]
    results.append(result("isometry", 0, 300, run=row))
    forth, back = (ranking.correlations(compare(order)[0]) for order in (results, results[::-1]))
    assert forth == pytest.approx(back)
    assert "| critical, chrono, orthogonal |" in ranking.table(compare(results))
    assert ranking.table(compare([replace(r, metric=(0.2, 0.2, 0.2)) for r in results])) == ""


def test_a_shut_gate_has_the_last_rank(tmp_path):
    spec = critinit.generate("lstm", 100).to_dict()
    spec["scheme"] = "custom"
    spec["layers"][0]["gates"]["input"]["bias"] = {"distribution": "constant", "mean": -800.0}
    spec["layers"][0].pop("predicted"), spec.pop("target")
    (tmp_path / "shut.json").write_text(json.dumps(spec))
    assert ranking.numbers_of(replace(SMALL, cell="lstm", scheme=str(tmp_path / "shut.json")))[2] == -math.inf


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_run_that_broke_off_is_left_out(broken):
    ours = made("critical", [20, 40, 60])
    nan = (0.2, math.nan)
    ours[broken] = replace(ours[broken], steps=(0, 10), metric=nan, loss=nan, training_loss=(math.nan, math.nan))
    page = report([*ours, *made("chrono", [20, 40, 60])], "")
    assert "; 1 of 3 broke off |" in page
    assert "inf" not in page.split("equal training loss")[1].split("##")[0]
    assert "nan" not in shown_curves(compare(ours)[0])


def test_held_out_results_are_read_at_the_same_training_loss():
    def run(scheme, metric, training):
        full = replace(result(scheme, 0, 50), metric=metric, training_loss=training, steps=(0, 20, 40))
        return replace(full, loss=metric)

    ours = run("critical", (0.5, 0.1, 0.01), (math.nan, 0.4, 0.2))
    peer = run("chrono", (0.5, 0.05, 0.015), (math.nan, 0.3, 0.25))
    (row,) = compare([ours, peer])
    assert generalization.level_of(row.entries.values()) == 0.25
    assert [generalization.at_level(r, 0.25) for r in (ours, peer)] == [0.01, 0.015]
    assert math.isnan(generalization.at_level(peer, 0.1))
    assert "| 0.25 | 0.010 | chrono 0.015 |" in generalization.table([row])
    assert generalization.table(compare([ours])) == ""


def test_curves_are_shown_side_by_side():
    page = shown_curves(compare([*made("critical", [40]), *made("chrono", [None])])[0])
    lines = page.splitlines()
    assert lines[2].startswith("| steps | critical, 0.01 | chrono, 0.01 |")
    assert lines[4:] == ["| 0 | 0.200 | 0.200 |", "| 40 | 0.010 |  |", "| 400 | 0.200 | 0.200 |"]
