"""Files with one sequence in each row, or with steps last, are noticed; what lies as the layout says is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from critinit.inputs import measure
from critinit.inputs.sideways import sideways

RNG = np.random.default_rng(0)


def smooth(*shape: int, axis: int = -1) -> np.ndarray:
    """Noise that is correlated along an axis: a running mean of 8 numbers."""
    noise = RNG.standard_normal(shape)
    return sum(np.roll(noise, n, axis) for n in range(8))


def beats(sequences: int, steps: int) -> np.ndarray:
    """Curves of one form, of heights and delays of their own, as the beats of a heart."""
    t = np.arange(steps) / steps
    height, delay = RNG.uniform(0.5, 1.5, (2, sequences, 1))
    return height * np.sin(2 * np.pi * (3 * t + 0.1 * delay)) + 0.1 * RNG.standard_normal((sequences, steps))


ON_THEIR_SIDE = {
    "smooth noise": smooth(300, 100),
    "beats": beats(300, 100),
    "walks": np.cumsum(RNG.standard_normal((300, 100)), axis=1),
    "channels first": smooth(20, 3, 100),
}
AS_THEY_SAY = {
    "noise": RNG.standard_normal((300, 100)),
    "sensors": smooth(300, 100, axis=0),
    "a spectrogram": smooth(300, 100) + 3.0 * smooth(300, 100, axis=0),
    "a spectrogram of slow sounds": sum(np.roll(one, n, 0) for one in [smooth(300, 100)] for n in range(8)),
    "one market": RNG.standard_normal((300, 1)) + RNG.standard_normal((300, 100)),
    "a few columns": smooth(300, 10),
    "steps before features": smooth(20, 100, 30, axis=1),
    "a constant": np.ones((300, 100)),
}


@pytest.mark.parametrize("kind", ON_THEIR_SIDE)
def test_data_on_their_side_are_noticed(kind: str, tmp_path: Path) -> None:
    x = ON_THEIR_SIDE[kind]
    layout = "NT" if x.ndim == 2 else "NFT"
    np.save(tmp_path / "x.npy", x)
    for data in (x, tmp_path / "x.npy"):
        (note,) = [note for note in measure(data).notes if "side by side" in note]  # type: ignore[arg-type]
        assert note.endswith(f"then layout='{layout}' (--layout {layout}) says so")
    assert not any("side by side" in note for note in measure(x, layout=layout).notes)


@pytest.mark.parametrize("kind", AS_THEY_SAY)
def test_data_as_the_layout_says_are_not(kind: str) -> None:
    x = AS_THEY_SAY[kind]
    assert sideways(x if x.ndim == 3 else x[None]) == ""
    assert not any("side by side" in note for note in measure(x).notes)


@pytest.mark.parametrize("write", [lambda f, x: np.savetxt(f, x, delimiter=","), lambda f, x: np.savetxt(f, x)])
def test_tables_too(write: Callable[[Path, np.ndarray], None], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    labels = np.arange(300)[:, None] % 3
    write(tmp_path / "train.csv", np.concatenate([labels, beats(300, 100)], axis=1))
    assert any(note.startswith("each row may be a sequence") for note in measure(tmp_path / "train.csv").notes)
