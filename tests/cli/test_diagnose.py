"""``critinit diagnose``: weights and data in files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from critinit_cli import codes

import critinit
from tests.cli.conftest import Run

T = 40
FEW = (
    "note: the model itself: predicted is for inputs of many features; critinit analyze --features 3 predicts for the "
    "3 features that are read\n"
)
"""What is said of networks of so few inputs."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec, its weights, weights that forget, and data."""
    place = tmp_path_factory.mktemp("diagnose")
    spec = critinit.generate("lstm", T=T)
    (place / "spec.json").write_text(spec.to_json())
    arrays = start(spec, 32)
    np.savez(place / "good.npz", **arrays)
    arrays["bias_ih_l0"] = np.zeros_like(arrays["bias_ih_l0"])
    np.savez(place / "lost.npz", **arrays)
    exchanged = {name: kept[np.r_[0:64, 96:128, 64:96]] for name, kept in start(spec, 32).items()}
    np.savez(place / "exchanged.npz", **exchanged)
    np.savez(place / "copy.npz", **start(spec, 32))
    np.savez(place / "small.npz", **start(spec, 16))
    np.savez(place / "part.npz", **{n: x for n, x in start(spec, 32).items() if n != "weight_hh_l0"})
    np.savez(place / "nan.npz", **{n: np.full_like(x, np.nan) for n, x in start(spec, 32).items()})
    gru = critinit.materialize(critinit.generate("gru", T=T), "torch", input_size=3, hidden_size=32, seed=0)
    np.savez(place / "gru.npz", **gru)
    rng = np.random.default_rng(0)
    np.save(place / "x.npy", rng.standard_normal((20, T + 1, 3)))
    rows = rng.standard_normal((2 * (T + 1), 3))
    names = np.repeat(["a", "b"], T + 1)
    lines = ["who,p,q,r", *(f"{who},{x[0]},{x[1]},{x[2]}" for who, x in zip(names, rows, strict=True))]
    (place / "x.csv").write_text("\n".join(lines))
    return place


def start(spec: critinit.InitSpec, units: int) -> dict[str, np.ndarray]:
    return dict(critinit.materialize(spec, "torch", input_size=3, hidden_size=units, seed=0))


def called(run: Run, folder: Path, *arguments: str) -> tuple[int, str, str]:
    return run("diagnose", *(str(folder / part) if (folder / part).exists() else part for part in arguments))


def test_good_weights_are_fine(run: Run, folder: Path) -> None:
    code, out, err = called(run, folder, "spec.json", "good.npz", "--data", "x.npy")
    assert (code, err) == (codes.GOOD, FEW)
    assert "verdict: fine\n" in out
    assert f"retention over {T} steps" in out


def test_a_lost_bias_is_found(run: Run, folder: Path) -> None:
    code, out, _ = called(run, folder, "spec.json", "lost.npz", "--data", "x.npy", "--json")
    assert code == codes.MISSED
    found = json.loads(out)
    kinds = [finding["kind"] for finding in found["layers"][0]["findings"]]
    assert kinds[0] == "forgets"
    assert "differs" in kinds
    assert not found["fine"]


@pytest.mark.parametrize(
    ("shape", "says"),
    [((4, T, 2), "layer 0 reads, .*: found 2 features; allowed: 3"), ((4, 2, 3), "found sequences of at most 2 steps")],
)
def test_data_that_do_not_fit_are_named(run: Run, folder: Path, tmp_path: Path, shape: Any, says: str) -> None:
    np.save(tmp_path / "other.npy", np.ones(shape))
    code, out, err = called(run, folder, "spec.json", "good.npz", "--data", str(tmp_path / "other.npy"))
    assert (code, out) == (codes.INVALID, "")
    assert re.fullmatch(rf"error: {re.escape(str(tmp_path / 'other.npy'))}: .*{says}.*\n", err)


def test_exchanged_gates_are_found_beside_an_earlier_file(run: Run, folder: Path) -> None:
    given = "spec.json", "exchanged.npz", "--data", "x.npy"
    assert "kernels of" not in called(run, folder, *given)[1]
    code, out, err = called(run, folder, *given, "--reference", "good.npz")
    assert (code, err) == (codes.MISSED, FEW)
    assert "gates look swapped: cell has the kernels of output, output has the kernels of cell" in " ".join(out.split())


def test_a_reference_with_the_same_weights_is_noted(run: Run, folder: Path) -> None:
    code, out, err = called(run, folder, "spec.json", "good.npz", "--data", "x.npy", "--reference", "copy.npz")
    assert code == codes.GOOD
    assert "verdict: fine" in out
    assert "note: the reference has the same weights" in err


def test_tables_and_pictures(run: Run, folder: Path, tmp_path: Any) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("matplotlib")
    picture = tmp_path / "course.svg"
    code, out, _ = called(
        run, folder, "spec.json", "good.npz", "--data", "x.csv", "--group", "who", "--picture", str(picture),
        "--sequences", "2", "--exponents", "2",
    )  # fmt: skip
    assert code == codes.GOOD
    assert "followed: 2 sequences of 41 steps" in out
    assert "Lyapunov exponent 3" not in out
    assert picture.read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("spec.json", "good.npz", "--data", "nothing.npy"), "nothing.npy"),
        (("spec.json", "good.npz", "--data", "x.csv"), "column who"),
        (("spec.json", "good.npz", "--data", "x.csv", "--columns", "p,q", "--group", "who"), "allowed: 3"),
        (("spec.json", "good.npz", "--data", "x.npy", "--picture", "course.pdf"), ".png or .svg"),
        (("spec.json", "good.npz", "--data", "x.npy", "--exponents", "0"), "an integer of at least 1"),
        *[
            (("spec.json", "good.npz", "--data", "x.npy", "--reference", name), words)
            for name, words in (
                ("nothing.npz", "nothing.npz"),
                ("good.npz", "--reference: found "),
                ("good.npz", "the file of the weights themselves"),
                ("small.npz", "--reference: found lstm of 16 units and 3 inputs in the model itself, layer 0"),
                ("part.npz", "part.npz"),
                ("nan.npz", "nan.npz: weight_ih_l0: found numbers that are not finite; allowed: finite numbers"),
                ("gru.npz", "gru.npz"),
                ("x.npy", "x.npy"),
            )
        ],
    ],
)
def test_what_is_wrong_is_one_line(run: Run, folder: Path, arguments: tuple[str, ...], words: str) -> None:
    pytest.importorskip("pyarrow")
    code, out, err = called(run, folder, *arguments)
    assert code in (codes.INVALID, codes.USAGE)
    assert out == ""
    assert words in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
