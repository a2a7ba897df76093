"""Images read a pixel at a time: scikit-learn's digits with padding, and digits or files unrolled to the full length.

Pixels have mean 0 and variance 1 over the training images.  ``digits`` and ``digits-noise`` pad the 64 pixels of a
digit to T steps with silence, or with normal noise of power 1, drawn anew for every batch; ``pixels`` repeats every
pixel T/n times instead, so that nothing is padded.  The class is asked at the last step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks._errors import not_installed
from benchmarks.training.tasks._base import HELD_OUT, Batch, Data, Metric, Task, fingerprint
from benchmarks.training.tasks.image_files import read
from critinit.errors import ArgumentError
from critinit.spec import Padding

__all__ = ["TASKS", "Images", "digits", "normalized"]

NOISE_POWER = 1.0
_TRAINING_SHARE = 0.75
_SPLIT_SEED, _NOISE_SEED = 0, 1
_ACCURACY = Metric("accuracy", rises=True)

_Maker = Callable[[np.ndarray, np.ndarray, np.random.Generator], Batch]
"""From pixels, classes and a source of noise to sequences."""


@dataclass(frozen=True, eq=False)
class Images:
    """Training and held-out pixels (n, pixels, channels) float32, mean 0 and variance 1, and classes."""

    pixels: np.ndarray
    classes: np.ndarray
    held_pixels: np.ndarray
    held_classes: np.ndarray


def normalized(pixels: np.ndarray, classes: np.ndarray, held: int | None = None) -> Images:
    """``held`` images at the end are held out, in a random order as files are sorted at times; without it a quarter of
    all, drawn.  The seed is fixed."""
    count = len(pixels)
    rng = np.random.default_rng(_SPLIT_SEED)
    if held is None:
        order = rng.permutation(count)
        training, rest = np.split(order, [round(_TRAINING_SHARE * count)])
    else:
        training, rest = np.arange(count - held), count - held + rng.permutation(held)
    if not len(training) or not len(rest):
        found = f"{len(training)} to train on and {len(rest)} held out"
        raise ArgumentError("images", found=found, allowed="some of both")
    mean, deviation = pixels[training].mean(dtype=np.float64), pixels[training].std(dtype=np.float64)
    if not deviation > 0:
        raise ArgumentError("images", found="all pixels alike", allowed="images that differ")
    made = ((pixels - mean) / deviation).astype(np.float32)
    return Images(made[training], classes[training], made[rest], classes[rest])


def digits() -> Images:
    """scikit-learn's 1,797 handwritten digits of 8 by 8 pixels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise not_installed("scikit-learn") from None
    data = load_digits()
    return normalized(data.data[..., None].astype(np.float32), data.target.astype(np.int64))


def _padded(T: int, noise: float) -> Data:
    images = digits()
    length = images.pixels.shape[1]
    if length > T:
        raise ArgumentError("T", found=str(T), allowed=f"{length} (a digit's pixels) or more")

    def batch(pixels: np.ndarray, classes: np.ndarray, rng: np.random.Generator) -> Batch:
        x = np.zeros((T, len(pixels), 1), dtype=np.float32)
        x[:length] = pixels.transpose(1, 0, 2)
        if noise:
            x[length:] = np.sqrt(noise) * rng.standard_normal(x[length:].shape, dtype=np.float32)
        return Batch(x, classes[None])

    return _data(images, batch, Padding(variance=noise, constant=noise == 0.0))


def _unrolled(T: int, files: Sequence[str]) -> Data:
    images = normalized(*read(files)) if files else digits()
    length = images.pixels.shape[1]
    if T % length:
        raise ArgumentError("T", found=str(T), allowed=f"multiples of {length} (an image's pixels)")

    def batch(pixels: np.ndarray, classes: np.ndarray, rng: np.random.Generator) -> Batch:
        del rng
        return Batch(np.repeat(pixels.transpose(1, 0, 2), T // length, axis=0), classes[None])

    return _data(images, batch, padding=None)


def _data(images: Images, batch: _Maker, padding: Padding | None) -> Data:
    def sample(rng: np.random.Generator, n: int) -> Batch:
        chosen = rng.integers(len(images.classes), size=n)
        return batch(images.pixels[chosen], images.classes[chosen], rng)

    held = slice(HELD_OUT)
    return Data(
        inputs=images.pixels.shape[2],
        outputs=int(max(images.classes.max(), images.held_classes.max())) + 1,
        input_variance=1.0,
        padding=padding,
        sample=sample,
        held_out=batch(images.held_pixels[held], images.held_classes[held], np.random.default_rng(_NOISE_SEED)),
        fingerprint=fingerprint(images.pixels, images.classes, images.held_pixels, images.held_classes),
    )


def _no_files(name: str, files: Sequence[str]) -> None:
    if files:
        raise ArgumentError("file", found=f"{files[0]} for the task {name}", allowed="files for the task pixels")


def _silent(T: int, files: Sequence[str]) -> Data:
    _no_files("digits", files)
    return _padded(T, 0.0)


def _noisy(T: int, files: Sequence[str]) -> Data:
    _no_files("digits-noise", files)
    return _padded(T, NOISE_POWER)


TASKS = (
    Task("digits", "digits, then silence to step T", _ACCURACY, 0.9, _silent, frozenset({80, 100, 200, 256, 300, 500})),
    Task("digits-noise", "digits, then noise of power 1 to step T", _ACCURACY, 0.8, _noisy, frozenset({100, 200, 300})),
    Task(
        "pixels", "digits, MNIST or CIFAR-10 unrolled, a pixel T/n steps", _ACCURACY, 0.9, _unrolled, frozenset({128})
    ),
)
