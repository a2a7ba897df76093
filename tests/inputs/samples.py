"""Sequences to measure, and when two measurements agree."""

from __future__ import annotations

import numpy as np
import pytest

from critinit.inputs import InputStatistics

__all__ = ["close", "padded", "sequences"]


def sequences(n: int = 12, steps: int = 40, features: int = 3) -> np.ndarray:
    """Sequences that share a part, are correlated in time, and have columns of their own mean and scale."""
    rng = np.random.default_rng(20)
    own, shared = rng.standard_normal((n, steps + 1, features)), rng.standard_normal((1, steps + 1, features))
    x = own + 0.7 * shared
    return (x[:, 1:] + 0.5 * x[:, :-1]) * np.arange(1.0, features + 1.0) + np.arange(features)


def padded(value: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Sequences that end in ``value``, and the length of each."""
    x = sequences()
    lengths = np.random.default_rng(21).integers(10, 30, len(x))
    for i, length in enumerate(lengths):
        x[i, length:] = value
    return x, lengths


def close(a: InputStatistics, b: InputStatistics) -> None:
    assert a.shape == b.shape
    assert a.second_moment == pytest.approx(b.second_moment, rel=1e-12)
    if b.correlation is None:
        assert a.correlation is None
    else:
        assert a.correlation == pytest.approx(b.correlation, rel=1e-10)
    assert a.autocorrelation == pytest.approx(b.autocorrelation, rel=1e-10)
    if b.spectrum is None:
        assert a.spectrum is None
    else:
        assert a.spectrum == pytest.approx(b.spectrum, rel=1e-7, abs=1e-9)
    assert a.columns.mean == pytest.approx(b.columns.mean, rel=1e-10, abs=1e-12)
    assert a.columns.variance == pytest.approx(b.columns.variance, rel=1e-10)
    assert np.array_equal(a.columns.constant, b.columns.constant)
    assert (a.endings is None) == (b.endings is None)
    if a.endings is not None and b.endings is not None:
        assert (a.endings.sequences, a.endings.share, a.endings.are_padding) == (
            b.endings.sequences,
            b.endings.share,
            b.endings.are_padding,
        )
        assert a.endings.power == pytest.approx(b.endings.power, rel=1e-12)
