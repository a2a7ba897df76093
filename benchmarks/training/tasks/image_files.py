"""MNIST and CIFAR-10 as people have them on disk: IDX (gzipped too), npz, and CIFAR's Python pickles.

Pickles are read with an unpickler that knows how to make an array, a string and the containers, and nothing else: a
file that asks for any other function is refused before it is called.
"""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from critinit.errors import FileError, Problem

__all__ = ["read"]

Arrays = tuple[np.ndarray, np.ndarray, int | None]
"""Pixels (n, pixels, channels), classes (n,), and how many at the end are held out (None: the files do not say)."""

_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_CIFAR_CHANNELS = 3


def read(files: Sequence[str]) -> Arrays:
    """The images and classes in these files, all of one kind.

    IDX: a file of images and one of classes, then, if there is one, the pair that is held out.  npz: arrays
    ``x_train``, ``y_train``, ``x_test``, ``y_test`` (as Keras has them) or ``images`` and ``labels``.  CIFAR pickles:
    any number of batches; those whose name begins with ``test`` are held out.  Raises ``FileError``.
    """
    contents = [_contents(file) for file in files]
    pairs: list[tuple[np.ndarray, np.ndarray, bool]] = []
    arrays: list[tuple[str, np.ndarray]] = []
    for file, data in zip(files, contents, strict=True):
        if data[:2] == b"PK":
            pairs += _npz(file, data)
        elif data[:2] == b"\0\0":
            arrays.append((file, _idx(file, data)))
        elif data[:1] == b"\x80":
            pairs.append(_cifar(file, data))
        else:
            raise _refusal(file, "neither IDX, npz nor a pickle", "one of these")
    if len(arrays) % 2:
        raise _refusal(arrays[-1][0], "an IDX file without its pair", "images, then classes")
    for number in range(0, len(arrays), 2):
        (file, images), (_, classes) = arrays[number : number + 2]
        pairs.append((*_pair(file, images, classes), number > 0))
    pairs.sort(key=lambda pair: pair[2])  # stable: what is held out comes last
    if len({images.shape[1:] for images, _, _ in pairs}) > 1:
        raise _refusal(files[0], "images of several shapes", "files of one data set")
    held = sum(len(classes) for _, classes, is_held in pairs if is_held)
    images, classes = (np.concatenate([pair[k] for pair in pairs]) for k in range(2))
    return images, classes, held or None


def _contents(file: str) -> bytes:
    try:
        data = Path(file).read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError) as error:
        raise _refusal(
            file, str(getattr(error, "strerror", None) or error).lower(), "a file that can be read"
        ) from None


def _refusal(file: str, found: str, allowed: str) -> FileError:
    return FileError(str(file), Problem("", found, f"allowed: {allowed}"))


def _pair(file: str, images: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, pixels, channels) float32 and (n,) int64; (n, H, W) has one channel, (n, H, W, C) has C."""
    classes = classes.reshape(-1)
    if images.ndim < 3 or len(images) != len(classes) or not len(images):
        found = f"images of shape {images.shape} and {len(classes)} classes"
        raise _refusal(file, found, "(n, height, width) or (n, height, width, channels), and n classes")
    if classes.dtype.kind not in "iu" or images.dtype.kind not in "iuf" or classes.min() < 0:
        raise _refusal(file, f"{images.dtype} images, {classes.dtype} classes", "numbers, classes from 0")
    channels = images.shape[3] if images.ndim == 4 else 1
    return images.reshape(len(images), -1, channels).astype(np.float32), classes.astype(np.int64)


def _idx(file: str, data: bytes) -> np.ndarray:
    kind, dimensions = data[2], data[3]
    start = 4 + 4 * dimensions
    if kind not in _IDX_TYPES or len(data) < start:
        raise _refusal(file, f"the IDX type {kind} with {dimensions} dimensions", "a whole IDX file")
    shape = tuple(np.frombuffer(data, ">u4", dimensions, 4).tolist())
    dtype = np.dtype(_IDX_TYPES[kind])
    wanted = dtype.itemsize
    for length in shape:
        wanted *= length
    if len(data) - start != wanted:
        raise _refusal(file, f"{len(data) - start} bytes of numbers", f"{wanted}, as its header says")
    return np.frombuffer(data, dtype, offset=start).reshape(shape)


def _npz(file: str, data: bytes) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise _refusal(file, str(error).splitlines()[0], "an npz file of plain arrays") from None
    names = (("x_train", "y_train", False), ("images", "labels", False), ("x_test", "y_test", True))
    found = [(*_pair(file, arrays[x], arrays[y]), held) for x, y, held in names if x in arrays and y in arrays]
    if not found or found[0][2]:
        raise _refusal(file, f"the arrays {', '.join(arrays) or '(none)'}", "x_train and y_train, or images and labels")
    return found


def _empty_array(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """What a pickled array starts from; the numbers follow, so a shape here could only ask for memory."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError("an array of an unknown kind")
    del code
    return np.empty(0, np.int8)


def _text(text: str, encoding: str) -> bytes:
    """Python 3 pickles bytes for old protocols as text in latin-1."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text in {encoding}")
    return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Makes arrays of plain numbers, strings and containers."""

    _known: Mapping[tuple[str, str], Any] = {
        ("numpy.core.multiarray", "_reconstruct"): _empty_array,
        ("numpy._core.multiarray", "_reconstruct"): _empty_array,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _text,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._known[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"a call of {module}.{name}") from None


def _cifar(file: str, data: bytes) -> tuple[np.ndarray, np.ndarray, bool]:
    try:
        batch = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a broken pickle can raise anything
        raise _refusal(file, str(error) or type(error).__name__, "a CIFAR batch: arrays, lists and strings") from None
    named = (
        {k.decode("latin1") if isinstance(k, bytes) else k: v for k, v in batch.items()}
        if isinstance(batch, dict)
        else {}
    )
    images, classes = named.get("data"), named.get("labels")
    if not isinstance(images, np.ndarray) or images.ndim != 2 or images.shape[1] % _CIFAR_CHANNELS:
        raise _refusal(file, "no array 'data' of 3 channels", "a CIFAR batch with 'data' and 'labels'")
    try:
        numbers = np.array(classes, dtype=np.int64)
    except (TypeError, ValueError):
        raise _refusal(file, "no numbers in 'labels'", "a CIFAR batch with 'data' and 'labels'") from None
    pixels = images.reshape(len(images), _CIFAR_CHANNELS, 1, -1).transpose(0, 2, 3, 1)  # channel by channel on disk
    return (*_pair(file, pixels, numbers), Path(file).name.startswith("test"))
