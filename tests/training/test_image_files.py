"""MNIST and CIFAR-10 files: small ones, written here as those data sets write theirs."""

from __future__ import annotations

import gzip
import io
import pickle
import struct

import numpy as np
import pytest

from benchmarks.training.tasks import TASKS
from benchmarks.training.tasks.image_files import read
from critinit.errors import FileError

COUNT, SIDE = 12, 4


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(COUNT, SIDE, SIDE), dtype=np.uint8), np.arange(COUNT, dtype=np.uint8) % 10


def idx(array, code=8):
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def cifar(images, protocol=2, labels=None):
    """A batch with its keys and classes as Python 2 wrote them: byte strings and a list."""
    flat = np.stack([images, images // 2, 255 - images], 1).reshape(len(images), -1)
    named = {b"data": flat, b"labels": labels if labels is not None else [int(k) % 10 for k in range(len(images))]}
    return pickle.dumps(named, protocol)


@pytest.mark.parametrize("packed", [False, True])
def test_idx(tmp_path, images, packed):
    files = [tmp_path / name for name in ("images", "classes", "held-images", "held-classes")]
    for file, array in zip(files, [images[0][:8], images[1][:8], images[0][8:], images[1][8:]], strict=True):
        file.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    pixels, classes, held = read([str(file) for file in files])
    np.testing.assert_array_equal(pixels[..., 0], images[0].reshape(COUNT, -1))
    np.testing.assert_array_equal(classes, images[1])
    assert held == 4
    assert read([str(file) for file in files[:2]])[2] is None


@pytest.mark.parametrize("names", [("images", "labels"), ("x_train", "y_train")])
def test_npz(tmp_path, images, names):
    file = tmp_path / "set.npz"
    held = {"x_test": images[0][8:], "y_test": images[1][8:]} if names[0] == "x_train" else {}
    np.savez(file, **dict(zip(names, images, strict=True)), **held)
    pixels, classes, count = read([str(file)])
    assert pixels.shape == (COUNT + (4 if held else 0), SIDE * SIDE, 1)
    np.testing.assert_array_equal(classes[:COUNT], images[1])
    assert count == (4 if held else None)


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar(tmp_path, images, protocol):
    batches = {"test_batch": images[0][8:], "data_batch_1": images[0][:8]}  # what is held out is moved to the end
    for name, part in batches.items():
        (tmp_path / name).write_bytes(cifar(part, protocol))
    pixels, classes, held = read([str(tmp_path / name) for name in batches])
    assert held == 4
    flat = images[0].reshape(COUNT, -1)
    np.testing.assert_array_equal(pixels, np.stack([flat, flat // 2, 255 - flat], -1))
    assert classes.tolist() == [*range(8), *range(4)]


def test_unrolled_files_are_a_task(tmp_path, images):
    file = tmp_path / "data_batch_1"
    file.write_bytes(cifar(images[0]))
    data = TASKS["pixels"].make(2 * SIDE * SIDE, (str(file),))
    x = data.sample(np.random.default_rng(0), 300).x
    assert x.shape == (2 * SIDE * SIDE, 300, 3)
    assert np.mean(x.astype(np.float64) ** 2) == pytest.approx(1.0, rel=0.05)
    assert data.outputs == 10
    assert data.held_out.x.shape[1] == 3


class Calls:
    """What a hostile pickle asks for."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def test_a_pickle_cannot_call_anything(tmp_path):
    marker, file = tmp_path / "called", tmp_path / "data_batch_1"
    file.write_bytes(pickle.dumps({b"data": Calls(marker), b"labels": []}, 2))
    with pytest.raises(FileError, match=r"a call of _?io\.open"):
        read([str(file)])
    assert not marker.exists()


def test_a_pickle_cannot_ask_for_memory(tmp_path):
    file = tmp_path / "data_batch_1"
    reconstruct, (kind, _, code), *_ = np.empty(0).__reduce__()

    class Huge:
        def __reduce__(self):
            return (reconstruct, (kind, (10**12,), code))

    file.write_bytes(pickle.dumps({b"data": Huge(), b"labels": []}, 2))
    with pytest.raises(FileError, match="no array 'data'"):
        read([str(file)])


class Made:
    """A call and a state, as a pickle holds them."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


def array(kind, raw, shape=(COUNT,), **more):
    """An array of that type over those bytes, whatever their number."""
    reconstruct, start, _ = np.empty(0).__reduce__()
    dtype = (
        kind if isinstance(kind, Made) else Made(np.dtype, (kind, False, True), (3, "|", None, None, None, -1, -1, 0))
    )
    return Made(reconstruct, start, (1, shape, dtype, False, raw))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Made(np.ndarray, ((COUNT,), "O", b"A" * 8 * COUNT)), "not callable"),  # objects at addresses of one's choice
        (array("O", b"A" * 8 * COUNT), "an array of 'O'"),
        (array("V8", b"A" * 8 * COUNT), "an array of 'V8'"),
        (array("i8", b"A" * 8), r"shape \(12,\) with 8 bytes"),
        (array("i8", b"", (-1, 0)), "with 0 bytes"),
        (
            array(Made(np.dtype, ("i8",), (3, "<", None, ("a",), {"a": (np.dtype("i8"), 10**9)}, 8, 1, 0)), b""),
            "structures",
        ),
        (Made(np.dtype, ("i8",), (3, "<", (np.dtype("i8"), (10**6,)), None, None, 8, 1, 0)), "structures"),
    ],
)
def test_a_pickle_cannot_make_arrays_over_other_memory(tmp_path, images, labels, message):
    file = tmp_path / "data_batch_1"
    file.write_bytes(pickle.dumps({b"data": np.zeros((COUNT, 3), np.uint8), b"labels": labels}, 3))
    with pytest.raises(FileError, match=message):
        read([str(file)])


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def broken_files(tmp_path, images):
    pixels, classes = images
    whole = idx(pixels)
    made = {
        "absent": (None, "no such file"),
        "words": (b"hello", "neither IDX, npz nor a pickle"),
        "alone": (whole, "an IDX file without its pair"),
        "cut": (whole[:-1], "bytes of numbers"),
        "kind": (idx(pixels, 7), "the IDX type 7"),
        "zip": (b"PK\3\4nothing", "allowed: an npz file"),
        "pickled": (pickle.dumps([1, 2]), "no array 'data'"),
        "classless": (cifar(pixels, labels=["a"] * COUNT), "no integers in 'labels'"),
        "fractions": (cifar(pixels, labels=[0.5] * COUNT), "no integers in 'labels'"),
        "large": (cifar(pixels, labels=[10**30] * COUNT), "no integers in 'labels'"),
        "many": (cifar(pixels, labels=[10**6] * COUNT), "classes 1000000 to 1000000; allowed: from 0 to 99999"),
        "negative": (cifar(pixels, labels=[-1] * COUNT), "classes -1 to -1"),
        "short": (b"\0\0", "a whole IDX file"),
        "deep": (b"\0\0\x08" + bytes([70]) + b"\0\0\0\1" * 70 + b"x", "with 70 dimensions"),
        "squeezed": (gzip.compress(whole)[:30] + b"\xff" * 40, "allowed: a file that can be read"),
        "half": (npz(x_train=pixels, y_train=classes, x_test=pixels), "x_test and y_test, or neither"),
        "flat": (npz(images=pixels.reshape(COUNT, -1), labels=classes), "images of shape"),
        "broad": (npz(images=pixels.reshape(COUNT, 2, 2, -1, 1), labels=classes), "images of shape"),
        "endless": (npz(images=np.where(pixels, np.inf, 0.0), labels=classes), "no finite numbers"),
        "few": (cifar(pixels, labels=[1]), "1 classes"),
        "packed": (gzip.compress(whole)[:20], "allowed: a file that can be read"),
    }
    for name, (data, _) in made.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
    return made


def test_broken_files_are_refused_by_name(tmp_path, images):
    for name, (_, message) in broken_files(tmp_path, images).items():
        with pytest.raises(FileError, match=message) as refused:
            read([str(tmp_path / name)])
        assert name in str(refused.value)
        assert "\n" not in str(refused.value)


def test_objects_in_an_npz_are_refused(tmp_path):
    file = tmp_path / "set.npz"
    np.savez(file, images=np.array([{}], dtype=object), labels=np.zeros(1))
    with pytest.raises(FileError, match="allowed: an npz file of plain arrays"):
        read([str(file)])
