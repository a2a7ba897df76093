"""The power spectrum of inputs: against exact ones, periodograms, and in whatever pieces."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate

from critinit.inputs import measure
from critinit.inputs.spectra import BINS, spectrum
from tests.inputs.samples import close, padded, sequences

EDGES = np.linspace(0.0, math.pi, BINS + 1)


def smooth(a: float, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Stationary sequences of power 1 whose correlation from step to step is a."""
    fresh = np.random.default_rng(seed).standard_normal(shape)
    x = fresh.copy()
    for t in range(1, shape[1]):
        x[:, t] = a * x[:, t - 1] + math.sqrt(1.0 - a * a) * fresh[:, t]
    return x


@pytest.mark.parametrize("a", [0.0, 0.5, -0.6])
def test_it_is_that_of_an_autoregressive_signal(a: float) -> None:
    """The exact spectrum (1 − a²)/(1 − 2a cos ω + a²), whose mean over a bin is found by quadrature."""
    exact = [
        integrate.quad(lambda w: (1 - a * a) / (1 - 2 * a * math.cos(w) + a * a), low, high)[0] * BINS / math.pi
        for low, high in pairwise(EDGES)
    ]
    assert spectrum({k: a**k for k in range(1, 257)}, 0.0) == pytest.approx(exact, rel=0.03)
    found = measure(smooth(a, (2000, 500, 2))).spectrum
    assert found == pytest.approx(exact, rel=0.06)  # 2,000,000 numbers, 256 lags: .9 % of each
    assert np.mean(found) == pytest.approx(1.0)


def test_it_is_the_mean_of_periodograms() -> None:
    """Of a signal with two lines and a floor, whose periodograms, whole sequences, know nothing of lags."""
    rng = np.random.default_rng(1)
    t = np.arange(512)
    waves = [np.cos(w * t + rng.uniform(0, 2 * math.pi, (100, 1))) for w in (0.45, 2.0)]
    x = (waves[0] + 0.5 * waves[1] + 0.3 * rng.standard_normal((100, 512)))[..., None]
    power = np.mean(np.abs(np.fft.rfft(x[..., 0], n=4096)) ** 2, axis=0)
    bins = np.minimum(np.arange(len(power)) * BINS // (len(power) - 1), BINS - 1)
    by_hand = np.array([power[bins == k].sum() for k in range(BINS)])
    found = np.array(measure(x).spectrum)
    for w in (0.45, 2.0):  # the window spreads a line over some bins around its own
        around = slice(int(w * BINS / math.pi) - 2, int(w * BINS / math.pi) + 3)
        assert found[around].sum() / found.sum() == pytest.approx(by_hand[around].sum() / by_hand.sum(), rel=0.05)
        assert np.argmax(found[around]) in (1, 2, 3)


def test_it_is_about_the_mean() -> None:
    x = smooth(0.7, (1000, 200, 2))
    assert measure(x + np.array([3.0, -50.0])).spectrum == pytest.approx(measure(x).spectrum, rel=0.02, abs=0.005)


@pytest.mark.parametrize("chunk_size", [7, 100, 10_000])
def test_it_does_not_depend_on_the_pieces_or_on_padding(chunk_size: int) -> None:
    x, lengths = padded(0.0)
    whole = measure(x)
    close(measure(x, chunk_size=chunk_size), whole)
    assert measure([row[:n] for row, n in zip(x, lengths, strict=True)]).spectrum == pytest.approx(whole.spectrum)
    assert measure(sequences()).spectrum != pytest.approx(whole.spectrum, rel=0.01)


def test_what_tells_nothing_has_none() -> None:
    rng = np.random.default_rng(2)
    assert measure(np.ones((5, 40, 1))).spectrum is None
    assert measure(np.zeros((5, 40, 1))).spectrum is None
    assert measure(rng.standard_normal((50, 3, 2))).spectrum is None
    short = measure(rng.standard_normal((500, 6, 2)))
    assert short.spectrum == pytest.approx(np.ones(BINS), abs=0.2)
    assert measure(rng.standard_normal((50, 3, 2))).input_spectrum is None
    stated = measure(smooth(0.5, (100, 100, 1))).input_spectrum
    assert stated is not None
    assert all(power == float(f"{power:.3g}") for power in stated)


def test_a_long_beginning_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    from critinit.inputs import moments

    x = smooth(0.8, (100, 300, 1))
    whole = measure(x).spectrum
    monkeypatch.setattr(moments, "_SAMPLED", 15_000)
    part = measure(x, chunk_size=3000).spectrum
    assert part == pytest.approx(measure(x[:50]).spectrum, rel=0.02)  # the mean is that of all sequences
    assert part != whole
