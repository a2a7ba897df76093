"""``critinit spec --data``: a spec for the inputs in a file."""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from critinit.inputs import InputStatistics, measure
from critinit.spec import parse
from tests.cli.conftest import Run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Sequences of 30 steps and 2 features, padded with zeros, one column on a scale of its own."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((20, 30, 2)) * (0.5, 40.0)
    for i, length in enumerate(rng.integers(10, 25, 20)):
        x[i, length:] = 0.0
    path = tmp_path / "x.npy"
    np.save(path, x)
    return path


def test_the_spec_is_for_the_inputs_measured(run: Run, data: Path) -> None:
    result = run("spec", "--cell", "gru", "--data", str(data))
    assert result.code == 0
    spec, found = parse(result.out), measure(data)
    source = spec.layers[0].input
    assert spec.T == 30
    assert (source.variance, source.correlation) == (found.input_variance, found.input_correlation)
    assert source.padding is not None
    assert (source.padding.variance, source.padding.constant) == (0.0, True)
    stated = run(
        *("spec", "--cell", "gru", "--T", "30", "--input-size", "2"),
        *("--padding-variance", "0", "--padding-constant"),
        *("--input-variance", str(found.input_variance), "--input-correlation", str(found.input_correlation)),
    )
    assert stated.out == result.out


def test_smooth_inputs_are_stated_as_such(run: Run, tmp_path: Path) -> None:
    x = np.cumsum(np.random.default_rng(0).standard_normal((10, 60)), axis=1)
    np.save(tmp_path / "smooth.npy", x)
    arguments = ("spec", "--cell", "gru", "--data", str(tmp_path / "smooth.npy"), "--layout", "NT")
    result = run(*arguments)
    found = measure(x, layout="NT").input_autocorrelation
    assert found is not None
    assert 0.9 < found < 1.0
    assert parse(result.out).layers[0].input.autocorrelation == found
    row = ["correlation", "in", "time,", "lag", "1", f"{found:.4g}", "input.autocorrelation", f"{found:g}"]
    assert row in [line.split() for line in result.err.splitlines()]
    waves = np.sin(2.0 * np.pi * (np.arange(64) / 8.0 + np.arange(10)[:, None] / 10.0))
    np.save(tmp_path / "smooth.npy", waves)
    assert "note: the correlation in time at lag 4 is -1; theory takes that at lag 1, 0.71, to its power" in (
        run(*arguments).err
    )
    stated = run(*arguments, "--input-autocorrelation", "0")
    assert parse(stated.out).layers[0].input.autocorrelation == 0.0
    assert "input.autocorrelation 0, as stated\n" in stated.err
    assert "the correlation in time at lag" not in stated.err


def test_the_angles_of_memory_follow_the_spectrum_of_the_data(run: Run, tmp_path: Path) -> None:
    x = np.cumsum(np.random.default_rng(0).standard_normal((10, 60, 2)), axis=1)
    np.save(tmp_path / "smooth.npy", x)
    arguments = ("spec", "--cell", "gru", "--data", str(tmp_path / "smooth.npy"), "--scheme", "memory")
    result, found = run(*arguments), measure(x)
    spec = parse(result.out)
    assert spec.generated is not None
    assert spec.generated.arguments["input_spectrum"] == found.input_spectrum
    assert "note: the angles of the memory group follow the spectrum of the data\n" in result.err
    stated = run(*arguments, "--input-autocorrelation", "0.5")
    assert "spectrum" not in stated.out + stated.err
    assert "spectrum" not in run(*arguments[:-1], "critical").out


@pytest.mark.parametrize(
    ("options", "read"),
    [
        ((), False),
        (("--scheme", "orthogonal"), False),
        (("--scheme", "memory"), True),
        (("--scheme", "memory", "--input-autocorrelation", "0.5"), False),
        (("--learning-rate", "0.0001"), True),
    ],
)
def test_a_spectrum_is_measured_where_the_scheme_reads_it(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], read: bool
) -> None:
    asked = []

    def watched(*args: Any, **named: Any) -> InputStatistics:
        asked.append(measure(*args, **named))
        return asked[-1]

    monkeypatch.setattr("critinit.inputs.measure", watched)
    arguments = ("spec", "--cell", "gru", "--data", str(data), "--input-correlation", "1")
    assert run(*arguments, *options).code == 0
    assert [found.spectrum is not None for found in asked] == [read]


PADDING = ["input.padding", "variance", "0"]


def test_what_was_measured_is_shown(run: Run, data: Path) -> None:
    words = run("spec", "--cell", "gru", "--data", str(data)).err
    assert "inputs in x.npy\n" in words
    rows = [line.split() for line in words.splitlines()]
    found = measure(data)
    assert ["steps", "30", "T", "30"] in rows
    assert ["second", "moment", f"{found.second_moment:.4g}", "input.variance", f"{found.input_variance:g}"] in rows
    assert ["silent", "padding", "behind", "sequences,", "second", "moment", "0", *PADDING] in rows
    assert "note: sequences end in long stretches of one value: padding, left out" in words
    warnings = [line for line in words.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "unscaled: column 1 (standard deviation 4" in warnings[0]


def test_what_is_said_goes_before_what_is_measured(run: Run, data: Path) -> None:
    result = run(
        *("spec", "--cell", "gru", "--data", str(data), "--T", "99", "--input-variance", "2"),
        *("--input-correlation", "1", "--input-autocorrelation", "0.25", "--padding-variance", "0.5"),
    )
    spec = parse(result.out)
    source = spec.layers[0].input
    assert source.padding is not None
    assert (spec.T, source.variance, source.correlation, source.autocorrelation) == (99, 2.0, 1.0, 0.25)
    assert (source.padding.variance, source.padding.constant) == (0.5, False)
    shown = [line.partition("  ")[2] for line in map(str.strip, result.err.splitlines()) if "as stated" in line]
    assert [" ".join(line.split()[1:]) for line in shown] == [
        "T 99, as stated",
        "input.variance 2, as stated",
        "input.correlation 1, as stated",
        "input.autocorrelation 0.25, as stated",
        "input.padding variance 0.5, as stated",
    ]


def test_zeros_are_told_from_a_single_sequence(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 5, 2)))
    result = run("spec", "--cell", "gru", "--data", str(tmp_path / "x.npy"))
    assert result.code == 0
    assert "note: zeros have no correlation: input.correlation is 1" in result.err
    assert "one sequence" not in result.err


def test_padding_that_is_measured_is_no_noise(run: Run, tmp_path: Path) -> None:
    """Padding of one value does not weaken the input kernels; padding that is stated does, unless it is constant."""
    x = np.random.default_rng(2).standard_normal((40, 30, 2))
    x[:, 20:] = 0.9
    path = tmp_path / "x.npy"
    np.save(path, x)
    arguments = ("spec", "--cell", "gru", "--data", str(path))
    stated = ("--padding-variance", "0.81")
    outputs = [run(*arguments, *more).out for more in ((), stated, (*stated, "--padding-constant"))]
    layers = [parse(output).layers[0] for output in outputs]
    variances = [layer.gates["update"].input.variance * layer.input.variance for layer in layers]
    padding = layers[0].input.padding
    assert padding is not None
    assert padding.variance == pytest.approx(0.81)
    assert variances[1] < 0.7
    assert [variances[0], variances[2]] == pytest.approx([2.0, 2.0], rel=1e-5)


def test_data_and_own_cells_are_never_written_over(run: Run, tmp_path: Path) -> None:
    """By their own name, by another path, through a link, and as the file of a class."""
    data, cell, link = (tmp_path / name for name in ("x.npy", "own.py", "link.npy"))
    np.save(data, np.random.default_rng(0).standard_normal((4, 30, 2)))
    cell.write_text("# mine")
    link.symlink_to(data)
    held = data.read_bytes()
    for output in (data, tmp_path / "." / "x.npy", link):
        result = run("spec", "--cell", "gru", "--data", str(data), "-o", str(output))
        assert (result.code, result.out) == (2, "")
        assert "which is read too; allowed: another file" in result.err
    for given in (str(cell), f"{cell}:Cell"):
        assert run("spec", "--cell", given, "--T", "9", "-o", str(cell)).code == 2
    assert (data.read_bytes(), cell.read_text()) == (held, "# mine")


def test_one_series_in_a_table(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "x.csv"
    x = np.random.default_rng(1).standard_normal((40, 3))
    np.savetxt(path, x, delimiter=",", header="a,b,c", comments="")
    result = run("spec", "--cell", "lstm", "--scheme", "isometry", "--data", str(path), "--columns", "a, c")
    source = parse(result.out).layers[0].input
    assert source.variance == pytest.approx(np.mean(x[:, [0, 2]] ** 2), rel=1e-5)
    assert (source.correlation, source.padding, source.padding_power) == (1.0, None, source.variance)
    assert "one sequence has none to be compared with" in result.err
    wide = run("spec", "--cell", "gru", "--data", str(path), "--layout", "NT")
    assert parse(wide.out).T == 3


def test_bad_data_is_one_line_code_1_and_nothing_written(run: Run, tmp_path: Path, data: Path) -> None:
    x = np.load(data)
    x[4, 5, 1] = np.nan
    np.save(data, x)
    output = tmp_path / "spec.json"
    result = run("spec", "--cell", "gru", "--data", str(data), "-o", str(output))
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        f"error: {data}: element [4, 5, 1] (sequence 4, step 5, feature 1): found no number (nan); "
        "allowed: finite numbers; "
        'missing="drop" (--missing drop) leaves such steps out; '
        "sequences of unequal lengths: pad with a constant such as 0, or pass a list of arrays\n"
    )
    assert not output.exists()
    dropped = run("spec", "--cell", "gru", "--data", str(data), "--missing", "drop")
    assert dropped.code == 0
    assert "note: 1 of 600 steps lack a number and were left out\n" in dropped.err
    found = measure(data, missing="drop")
    assert parse(dropped.out).layers[0].input.variance == found.input_variance


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "nowhere.npy"], "nowhere.npy: found no such file or folder"),
        (["--data", "x.json"], "--data: found a file name that ends in '.json'; allowed: .npy"),
        (["--data", "{}", "--layout", "NF"], "--layout: found 'NF'; allowed: "),
        (["--data", "{}", "--array", "a"], "--array: found 'a'; allowed: with an npz or safetensors file"),
        (["--data", "{}", "--columns", "a"], "--columns: found 'a'; allowed: in "),
        (["--data", "{}", "--group", "a"], "--group: found ['a']; allowed: with a table"),
        (["--data", "{}", "--csv", "thousands"], "--csv: found 'thousands'; allowed: OPTION=VALUE"),
        (["--T", "5", "--csv", "thousands=."], "--csv: found thousands=. without --data; allowed: with --data FILE"),
        (["--data", "{}", "--missing", "fill"], "--missing: found 'fill'; allowed: 'refuse' or 'drop'"),
        (["--T", "5", "--layout", "NTF"], "--layout: found NTF without --data; allowed: with --data FILE"),
        (["--T", "5", "--missing", "drop"], "--missing: found drop without --data; allowed: with --data FILE"),
        ([], "--T: found nothing; allowed: over how many steps"),
    ],
)
def test_wrong_usage_is_one_line(run: Run, data: Path, arguments: list[str], says: str) -> None:
    result = run("spec", "--cell", "gru", *(part.format(data) for part in arguments))
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert says in result.err


def test_settings_hold_for_measured_inputs_too(run: Run, data: Path) -> None:
    result = run("spec", "--cell", "gru", "--data", str(data), "--set", "layers.0.gates.update.bias.min_time=2")
    value = json.loads(result.out)
    assert value["scheme"] == "custom"
    assert value["layers"][0]["input"]["padding"] == {"variance": 0.0, "constant": True}


# ---- data as people have them ----------------------------------------------------------------------------


def table(path: Path, text: str) -> str:
    pytest.importorskip("pyarrow")
    path.write_text(text)
    return str(path)


def test_a_long_table_in_the_notation_of_its_country(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 20))
    cells = [(f"{t + 1:02}.03.2020", f"unit {n}", f"{x[n, t]:.6f}") for t in reversed(range(20)) for n in range(6)]
    text = "day;unit;speed\n" + "\n".join(f"{day};{unit};{speed.replace('.', ',')}" for day, unit, speed in cells)
    path = table(tmp_path / "x.csv", text)
    result = run(
        *("spec", "--cell", "gru", "--data", path, "--group", "unit", "--time", "day"),
        *("--csv", "decimal_point=,", "--csv", "timestamp_parsers=%d.%m.%Y"),
    )
    assert result.code == 0, result.err
    spec, found = parse(result.out), measure(np.round(x, 6), layout="NT")
    assert spec.T == 20
    assert spec.layers[0].input.variance == pytest.approx(found.input_variance, rel=1e-5)
    assert spec.layers[0].input.correlation == pytest.approx(found.input_correlation, rel=1e-4, abs=1e-9)
    again = run("spec", "--cell", "gru", "--data", path)
    assert (again.code, again.out) == (1, "")
    assert (
        "row 0, column day: found '20.03.2020'; allowed: a number; leave it out: columns=['-day', '-unit']" in again.err
    )


def test_following_the_hints_leads_to_a_spec(run: Run, tmp_path: Path) -> None:
    """Of a table with dates, names, a mark for missing numbers and a decimal comma, one hint after the other."""
    path = table(
        tmp_path / "x.csv", "day;city;x;y\n2020-01-02;Rome;1,5;-\n2020-01-03;Oslo;-0,5;2,5\n2020-01-04;Bonn;1,0;1,5\n"
    )
    options: list[str] = []
    for _ in range(6):
        result = run("spec", "--cell", "gru", "--data", path, *options)
        if result.code == 0:
            break
        hints = re.findall(r"\((--\w+ [^)]*)\)", result.err)
        assert hints, result.err
        options += shlex.split(hints[0])
    assert options == [
        "--columns",
        "-day,-city",
        "--csv",
        "decimal_point=,",
        "--csv",
        "null_values=-",
        "--missing",
        "drop",
    ]
    assert parse(result.out).layers[0].input.variance == pytest.approx(np.mean(np.square([0.5, 2.5, 1.0, 1.5])))


def test_ids_of_tokens_give_their_length_alone(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 900, (30, 40)))
    arguments = ("spec", "--cell", "gru", "--data", str(tmp_path / "x.npy"), "--layout", "NT")
    refused = run(*arguments)
    assert (refused.code, refused.out, len(refused.err.splitlines())) == (1, "", 1)
    assert "look like ids of tokens; allowed: the numbers that the network reads" in refused.err
    result = run(*arguments, "--input-variance", "0.5")
    spec = parse(result.out)
    source = spec.layers[0].input
    assert (spec.T, source.variance, source.correlation, source.padding) == (40, 0.5, 1.0, None)
    assert "which look like ids of tokens: the spec takes their length alone\n" in result.err
    assert "warning" not in result.err


def test_padding_before_sequences_is_no_part_of_them(run: Run, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((20, 30, 2))
    for n, row in enumerate(x):
        row[: 5 + n % 9] = 0.0
    np.save(tmp_path / "x.npy", x)
    result = run("spec", "--cell", "gru", "--data", str(tmp_path / "x.npy"))
    spec = parse(result.out)
    assert (spec.T, spec.layers[0].input.padding) == (25, None)
    rows = [line.split() for line in result.err.splitlines()]
    assert ["steps", "30"] in rows
    assert ["steps", "after", "the", "padding", "before", "25", "T", "25"] in rows
    assert "note: sequences begin with long stretches of one value: padding, left out of T" in result.err


def test_one_step_is_refused_unless_the_length_is_stated(run: Run, tmp_path: Path) -> None:
    path = table(tmp_path / "x.csv", "a,b\n1,2\n")
    result = run("spec", "--cell", "gru", "--data", path)
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        f"error: {path}: found one step; allowed: sequences of two steps or more; "
        "where a row is a sequence, layout='NT' (--layout NT) says so; or state the length with --T\n"
    )
    assert run("spec", "--cell", "gru", "--data", path, "--layout", "NT").code == 0
    assert run("spec", "--cell", "gru", "--data", path, "--T", "9").code == 0


def slowly(*args: Any, **options: Any) -> InputStatistics:
    """Measure, and take so long that this is said."""
    found = measure(*args, **options)
    time.sleep(1.0)
    return found


def test_progress_is_shown_of_what_takes_long(run: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("spec", "--cell", "gru", "--data", str(data))
    assert "numbers read" not in run(*arguments).err
    monkeypatch.setattr("critinit.inputs.measure", slowly)
    monkeypatch.setattr("critinit_cli.progress._FIRST", 0.1)
    monkeypatch.setenv("CRITINIT_PROGRESS", "on")
    assert run(*arguments).err.startswith("numbers read … 1,200\n")
