"""``materialize`` and ``check`` as commands: what they print, write and answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from critinit.spec import InitSpec, parse
from tests.adapters.specs import make_spec
from tests.cli.conftest import Run

safetensors = pytest.importorskip("safetensors.numpy")

SIZES = ("--input-size", "6", "--hidden-size", "64")


@pytest.fixture
def spec(tmp_path: Path) -> InitSpec:
    """A GRU's spec, also in the file spec.json."""
    made = make_spec("gru")
    (tmp_path / "spec.json").write_text(made.to_json())
    return made


@pytest.fixture
def weights(run: Run, spec: InitSpec, tmp_path: Path) -> Path:
    """Its weights as torch stores them."""
    path = tmp_path / "w.safetensors"
    result = run("materialize", str(tmp_path / "spec.json"), "--framework", "torch", *SIZES, "-o", str(path))
    assert (result.code, result.err) == (0, "")
    return path


def change(path: Path, **arrays: np.ndarray) -> None:
    safetensors.save_file(safetensors.load_file(path) | arrays, path)


def test_materialize_says_what_it_wrote(run: Run, spec: InitSpec, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    arguments = ("materialize", "-", "--framework", "keras", *SIZES, "--seed", "3", "--dtype", "float64")
    result = run(*arguments, "--bidirectional", "-o", str(path), stdin=spec.to_bytes())
    assert (result.code, result.err) == (0, "")
    found = safetensors.load_file(path)
    assert len(found) == 6
    for name, array in found.items():
        assert array.dtype == np.float64
        assert f"{name} " in result.out
        assert str(array.shape) in result.out
    assert "keras.Sequential" in result.out
    before = path.read_bytes()
    run(*arguments, "--bidirectional", "-o", str(path), stdin=spec.to_bytes())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if "tmp" in p.name] == []


def test_weights_that_match(run: Run, weights: Path, tmp_path: Path) -> None:
    result = run("check", str(tmp_path / "spec.json"), str(weights))
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert "torch nn.GRU, input 6, hidden 64" in lines[0]
    assert sum(line.split()[:1] in (["update"], ["reset"], ["candidate"]) for line in lines) == 10
    assert lines[-1].startswith("the weights match the spec: 10 parts (27 tests; a part differs where a test's p")
    assert "at most 0.001 of all files with right weights" in lines[-1]
    assert any(line.startswith("p: the probability that weights drawn from the spec") for line in lines)
    assert "DIFFERS" not in result.out


def test_weights_that_do_not(run: Run, weights: Path, tmp_path: Path) -> None:
    change(weights, bias_hh_l0=safetensors.load_file(weights)["bias_ih_l0"])
    result = run("check", str(tmp_path / "spec.json"), str(weights))
    assert result.code == 3
    differing = [line.split()[:2] for line in result.out.splitlines() if line.endswith("DIFFERS")]
    assert differing == [["update", "bias"], ["reset", "bias"], ["candidate", "inner"]]
    assert result.out.splitlines()[-1].startswith("the weights do not match the spec: 3 of 10 parts differ")
    assert "hint: the first bias vector alone is as asked" in result.err
    assert all(line.startswith("hint: ") for line in result.err.splitlines())


def test_json_says_the_same(run: Run, weights: Path, tmp_path: Path) -> None:
    change(weights, weight_hh_l0=np.full((192, 64), np.nan, np.float32))
    result = run("check", str(tmp_path / "spec.json"), str(weights), "--json", "--false-alarm-rate", "1e-4")
    assert (result.code, result.err) == (3, "")
    data = json.loads(result.out)
    assert (data["matches"], data["false_alarm_rate"]) == (False, 1e-4)
    assert data["threshold"] * data["tests"] == pytest.approx(1e-4)
    rows = {(row["gate"], row["part"]): row for row in data["rows"]}
    bad = rows["reset", "recurrent"]
    assert (bad["matches"], bad["mean"], bad["found"]) == (False, None, "4096 that are not finite")
    assert bad["tests"] == [{"name": "finite", "p": 0.0, "exact": True}]
    assert bad["tensors"] == ["weight_hh_l0"]
    assert rows["reset", "input"]["matches"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("check", "SPEC", "none"), 2, "none: found no such file or folder; allowed: a file of weights"),
        (("check", "none", "WEIGHTS"), 2, "none: found no such file or folder; allowed: a file that can be read"),
        (("check", "WEIGHTS", "WEIGHTS"), 1, "w.safetensors: found"),
        (("check", "SPEC", "SPEC"), 1, "spec.json: found JSON that is no such index"),
        (("check", "LSTM", "WEIGHTS"), 1, "cell: found gru at the top of the file (torch nn.GRU); allowed: lstm"),
        (("check", "SPEC", "WEIGHTS", "--module", "x"), 2, "--module: found 'x'; allowed: the top of the file"),
        (("check", "SPEC", "WEIGHTS", "--framework", "x"), 2, "--framework: found 'x'; allowed: "),
        (
            ("check", "SPEC", "WEIGHTS", "--false-alarm-rate", "0"),
            2,
            "--false-alarm-rate: found 0.0; allowed: a number between",
        ),
        (("check", "SPEC", "WEIGHTS", "--false-alarm-rate", "x"), 2, "--false-alarm-rate: found x; allowed: a finite"),
        (("check", "SPEC"), 2, "WEIGHTS: found nothing; allowed: safetensors, npz"),
        (("materialize", "SPEC", "--framework", "x", *SIZES, "-o", "OUT"), 2, "--framework: found 'x'; allowed:"),
        (
            ("materialize", "SPEC", "--framework", "haiku", *SIZES, "-o", "OUT"),
            2,
            "--framework: found haiku, which has no gru; allowed: ",
        ),
        (
            ("materialize", "SPEC", "--framework", "torch", *SIZES),
            2,
            "--output: found nothing; allowed: the safetensors file",
        ),
        (("materialize", "SPEC", "--framework", "torch", *SIZES, "-o", "-"), 2, "--output: found -; allowed: a file"),
        (
            ("materialize", "SPEC", "--framework", "keras", *SIZES, "--window", "3,3", "-o", "OUT"),
            2,
            "--window: found '3,3'",
        ),
        (("materialize", "SPEC", "--framework", "keras", *SIZES, "--window", "0x3", "-o", "OUT"), 2, "--window: found"),
        (
            ("materialize", "SPEC", "--framework", "torch", *SIZES, "--window", "3", "-o", "OUT"),
            2,
            "--window: found a window of 1 axis",
        ),
        (("materialize", "SPEC", "--framework", "torch", *SIZES, "--seed", "-1", "-o", "OUT"), 2, "--seed: found -1"),
        (("materialize", "SPEC", "--framework", "torch", *SIZES, "--seed", "x", "-o", "OUT"), 2, "--seed: "),
        (("materialize", "SPEC", "--framework", "torch", *SIZES, "--dtype", "int8", "-o", "OUT"), 2, "--dtype: found"),
        (
            ("materialize", "SPEC", "--framework", "torch", *SIZES, "--hidden-size", "0", "-o", "OUT"),
            2,
            "--hidden-size",
        ),
        (("materialize", "SPEC", "--framework", "torch", *SIZES, "-o", "none/w.safetensors"), 2, "none/w.safe"),
        (
            ("materialize", "SPEC", "--framework", "torch", *SIZES, "-o", "w.pt"),
            2,
            "--output: found 'w.pt'; allowed: for torch a name that",
        ),
        (("materialize", "SPEC", "--framework", "keras", *SIZES, "-o", "w.h5"), 2, ".safetensors or .weights.h5"),
        (
            ("materialize", "SPEC", "--framework", "torch", *SIZES, "--hidden-size", "1000000000", "-o", "OUT"),
            2,
            "--hidden-size: found 1000000000 for 6 coordinates; allowed: kernels of at most",
        ),
        (("materialize", "WEIGHTS", "--framework", "torch", *SIZES, "-o", "OUT"), 1, "w.safetensors: found"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_wrong_is_one_line(
    run: Run, weights: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "lstm.json").write_text(make_spec("lstm").to_json())
    names = {"SPEC": "spec.json", "WEIGHTS": "w.safetensors", "LSTM": "lstm.json", "OUT": "out.safetensors"}
    given = [str(tmp_path / names[a]) if a in names else a for a in arguments]
    result = run(*given)
    assert (result.code, result.out) == (code, "")
    assert len(result.err.splitlines()) == 1
    assert message in result.err
    assert not (tmp_path / "out.safetensors").exists()


def test_what_spec_writes_materialize_and_check_take(run: Run, tmp_path: Path) -> None:
    """From the first command to the last, through the pipe."""
    path = tmp_path / "w.safetensors"
    written = run("spec", "--cell", "lstm", "--T", "100", "--layers", "2")
    assert parse(written.out).cell == "lstm"
    made = run("materialize", "-", "--framework", "nnx", *SIZES, "-o", str(path), stdin=written.out.encode())
    assert made.code == 0
    assert run("check", "-", str(path), stdin=written.out.encode()).code == 0
