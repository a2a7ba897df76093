"""``critinit spec --data``: a spec for the inputs in a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from critinit.inputs import measure
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
    assert ["correlation", "in", "time,", "lag", "1", f"{found:.4g}", "input.autocorrelation"] in [
        line.split() for line in result.err.splitlines()
    ]
    waves = np.sin(2.0 * np.pi * (np.arange(64) / 8.0 + np.arange(10)[:, None] / 10.0))
    np.save(tmp_path / "smooth.npy", waves)
    assert "note: the correlation in time at lag 4 is -1; theory takes that at lag 1, 0.71, to its power" in (
        run(*arguments).err
    )
    assert parse(run(*arguments, "--input-autocorrelation", "0").out).layers[0].input.autocorrelation == 0.0


def test_what_was_measured_is_shown(run: Run, data: Path) -> None:
    words = run("spec", "--cell", "gru", "--data", str(data)).err
    assert "inputs in x.npy\n" in words
    rows = [line.split() for line in words.splitlines()]
    assert ["steps", "30", "T"] in rows
    assert ["second", "moment", f"{measure(data).second_moment:.4g}", "input.variance"] in rows
    assert ["padding,", "second", "moment", "0", "input.padding"] in rows
    assert "note: sequences end in long stretches of one value: padding, left out" in words
    warnings = [line for line in words.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "unscaled: column 1 (standard deviation 4" in warnings[0]


def test_what_is_said_goes_before_what_is_measured(run: Run, data: Path) -> None:
    result = run(
        *("spec", "--cell", "gru", "--data", str(data), "--T", "99", "--input-variance", "2"),
        *("--input-correlation", "1", "--padding-variance", "0.5"),
    )
    spec = parse(result.out)
    source = spec.layers[0].input
    assert source.padding is not None
    assert (spec.T, source.variance, source.correlation) == (99, 2.0, 1.0)
    assert (source.padding.variance, source.padding.constant) == (0.5, False)
    assert "input." not in result.err


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
        'missing="drop" (--missing drop) leaves such rows out; '
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
        (["--data", "{}", "--array", "a"], "--array: found 'a'; allowed: with an npz file"),
        (["--data", "{}", "--columns", "a"], "--columns: allowed: with a table"),
        (["--data", "{}", "--missing", "fill"], "--missing: found 'fill'; allowed: 'refuse' or 'drop'"),
        (["--T", "5", "--layout", "NTF"], "--layout: found NTF without --data; allowed: with --data FILE"),
        (["--T", "5", "--missing", "drop"], "--missing: found drop without --data; allowed: with --data FILE"),
        ([], "--T: found nothing; allowed: the sequence length"),
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
