"""Numbers that are no amounts: ids of tokens are refused, amounts of any kind never are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from critinit.errors import DataError
from critinit.inputs import measure

RNG = np.random.default_rng(4)
ZIPF = np.minimum(RNG.zipf(1.3, (60, 80)), 30_000)
LENGTHS = RNG.integers(20, 80, 60)


def after(ids: np.ndarray, filler: int) -> np.ndarray:
    return np.where(np.arange(80) < LENGTHS[:, None], ids, filler)


IDS = {
    "uniform": RNG.integers(0, 5000, (60, 80)),
    "as words are": ZIPF,
    "padded with 0 behind": after(1 + ZIPF, 0),
    "padded with -1 behind": after(ZIPF, -1),
    "padded before": after(1 + ZIPF, 0)[:, ::-1],
    "letters": RNG.integers(0, 27, (60, 80)),
    "amino acids": RNG.integers(0, 20, (60, 80)),
    "few": RNG.integers(0, 1000, (2, 20)),
}


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint16", "float32", "float64"])
@pytest.mark.parametrize("kind", IDS)
def test_ids_of_tokens_are_refused_with_the_way_out(kind: str, dtype: str) -> None:
    x = IDS[kind]
    if dtype == "uint16" and x.min() < 0:
        x = x + 1
    x = x.astype(dtype)
    for options in ({}, {"layout": "NT"}, {"layout": "NT", "chunk_size": 100}):
        with pytest.raises(DataError, match="which look like ids of tokens") as error:
            measure(x, **options)
        assert "critinit.measure(model, batch)" in error.value.hint
        assert 'tokens="length" (--input-variance R)' in error.value.hint
        assert ("layout='NT'" in error.value.hint) == (not options)
    found = measure(x, layout="NT", tokens="length")
    assert found.ids.startswith(f"whole numbers from {x.min():.0f} to {x.max():,.0f} without order")
    assert found.shape == (*x.shape, 1)
    with pytest.raises(DataError, match="look like ids of tokens"):
        measure(list(x))
    with pytest.raises(DataError, match="look like ids of tokens"):
        measure(x[0])


AMOUNTS = {
    "noise": RNG.standard_normal((20, 60)),
    "images of bytes": RNG.integers(0, 256, (20, 60)).astype(np.uint8),
    "scaled to bytes": np.concatenate([RNG.integers(0, 256, (20, 60)), np.full((20, 1), 255)], axis=1),
    "sound": RNG.integers(-3000, 3000, (20, 60)).astype(np.int16),
    "a walk": np.abs(RNG.integers(-3, 4, (20, 60)).cumsum(axis=1)),
    "slow counts": np.round(200 + 50 * np.sin(np.arange(60) / 5 + RNG.random((20, 1)))),
    "ones and zeros": RNG.integers(0, 2, (20, 60)),
    "signs": 2 * RNG.integers(0, 2, (20, 60)) - 1,
    "grades": RNG.integers(1, 6, (20, 60)),
    "truth": RNG.random((20, 60)) < 0.5,
    "halves": RNG.integers(0, 50, (20, 60)) / 2,
    "features": RNG.integers(0, 50, (20, 60, 3)),
}


@pytest.mark.parametrize("kind", AMOUNTS)
def test_amounts_are_measured(kind: str) -> None:
    x = AMOUNTS[kind]
    layout = "NTF"[: x.ndim]
    found = measure(x, layout=layout)
    assert found.ids == ""
    assert found.second_moment == pytest.approx(np.mean(x.astype(float) ** 2))
    whole = "all numbers are whole: if they are ids or classes that an embedding reads, state --input-variance"
    assert (whole in found.notes) == (kind in ("scaled to bytes", "a walk", "slow counts", "grades"))


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("chunk_size", [10, 10_000])
def test_a_column_that_grows_is_warned_of(first: int, chunk_size: int) -> None:
    x = RNG.standard_normal((6, 30, 3))
    for column in (
        first + np.arange(30),
        1.6e9 + 0.1 * np.arange(30),
        np.cumsum(RNG.random(30)),
        np.repeat(np.arange(3), 10),
    ):
        x[:, :, 1] = column
        (said, *_) = measure(x, chunk_size=chunk_size).warnings()
        assert said.startswith(
            "growing: column 1; a time, a row number or the name of a sequence is no input: "
            "leave it out: columns=['-1'] (--columns -1)"
        )
        assert measure(x, chunk_size=chunk_size, columns=["-1"]).warnings() == ()
        assert measure(x[:, :, 1:2]).columns.growing.tolist() == [False]
    x[:, :, 1] = RNG.standard_normal((6, 30)).cumsum(axis=1)
    assert measure(x, chunk_size=chunk_size).columns.growing.tolist() == [False] * 3


def test_a_column_of_ids_beside_others_is_warned_of(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    x = RNG.standard_normal((300, 3))
    x[:, 1] = RNG.integers(0, 400, 300)
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", header="a,product,c", comments="")
    (said, *_) = measure(tmp_path / "x.csv").warnings()
    assert said.startswith("ids: column product; whole numbers without order look like ids or classes")
    assert "--columns -product" in said
    x[:, 1] = RNG.integers(0, 5, 300)
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", header="a,grade,c", comments="")
    assert measure(tmp_path / "x.csv").warnings() == ()
