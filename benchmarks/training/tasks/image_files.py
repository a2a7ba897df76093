"""MNIST and CIFAR-10 as people have them on disk: IDX (gzipped too), npz, and CIFAR's Python pickles.

Pickles are read with an unpickler that knows how to make an array of plain numbers, a string and the containers, and
nothing else: a file that asks for any other function is refused before it is called, and none of NumPy's own functions
is within its reach, for they trust what a file says of memory.
"""

from __future__ import annotations

import gzip
import io
import math
import pickle
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from critinit.errors import FileError

__all__ = ["read"]

Arrays = tuple[np.ndarray, np.ndarray, int | None]
"""Pixels (n, pixels, channels), classes (n,), and how many at the end are held out (None: the files do not say)."""

_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_IDX_DIMENSIONS = 4
_CIFAR_CHANNELS = 3
_MOST_CLASSES = 100_000
_NPZ = (("x_train", "y_train", False), ("images", "labels", False), ("x_test", "y_test", True))


def read(files: Sequence[str]) -> Arrays:
    """Return the images and classes in these files, all of one kind.

    IDX: a file of images and one of classes, then, if there is one, the pair that is held out.  npz: arrays
    ``x_train``, ``y_train``, ``x_test``, ``y_test`` (as Keras has them) or ``images`` and ``labels``.  CIFAR pickles:
    any number of batches; those whose name begins with ``test`` are held out.

    Raises:
        FileError: A file cannot be read, or holds something else.
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
    if all(is_held for _, _, is_held in pairs):
        raise _refusal(files[0], "only images that are held out", "some to train on too")
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
    except (OSError, EOFError, zlib.error) as error:
        raise _refusal(
            file, str(getattr(error, "strerror", None) or error).lower(), "a file that can be read"
        ) from None


def _refusal(file: str, found: str, allowed: str) -> FileError:
    return FileError(found=found, allowed=allowed, source=str(file))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _pair(file: str, images: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, pixels, channels) float32 and (n,) int64; (n, H, W) has one channel, (n, H, W, C) has C."""
    classes = classes.reshape(-1)
    if images.ndim not in (3, 4) or len(images) != len(classes) or not images.size:
        found = f"images of shape {images.shape} and {len(classes)} classes"
        raise _refusal(file, found, "(n, height, width) or (n, height, width, channels), and n classes")
    if classes.dtype.kind not in "iu" or images.dtype.kind not in "iuf":
        raise _refusal(file, f"{images.dtype} images, {classes.dtype} classes", "numbers, classes that are integers")
    if not 0 <= classes.min() <= classes.max() < _MOST_CLASSES:
        raise _refusal(file, f"classes {classes.min()} to {classes.max()}", f"from 0 to {_MOST_CLASSES - 1}")
    with np.errstate(over="ignore"):
        pixels = images.astype(np.float32)
    if not np.isfinite(pixels).all():
        raise _refusal(file, "pixels that are no finite numbers (float32)", "finite ones")
    channels = images.shape[3] if images.ndim == 4 else 1
    return pixels.reshape(len(images), -1, channels), classes.astype(np.int64)


def _idx(file: str, data: bytes) -> np.ndarray:
    kind, dimensions = [*data[2:4], 0, 0][:2]
    start = 4 + 4 * dimensions
    if kind not in _IDX_TYPES or not 0 < dimensions <= _IDX_DIMENSIONS or len(data) < start:
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
            names = list(stored.files)
            arrays = {name: stored[name] for pair in _NPZ for name in pair[:2] if name in names}
    except Exception as error:  # a damaged archive can raise anything
        raise _refusal(file, _first_line(error), "an npz file of plain arrays") from None
    whole = [(x, y, held) for x, y, held in _NPZ if x in arrays and y in arrays]
    if not whole or whole[0][2] or len(arrays) != 2 * len(whole):
        found = f"the arrays {', '.join(names) or '(none)'}"
        raise _refusal(file, found, "x_train and y_train, or images and labels; x_test and y_test, or neither")
    return [(*_pair(file, arrays[x], arrays[y]), held) for x, y, held in whole]


class _Number:
    """The type of a pickled array's numbers, in place of ``numpy.dtype``: a plain number, and then its byte order."""

    __slots__ = ("dtype",)
    _codes = frozenset(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)) | {"f4", "f8"}

    def __init__(self, code: str | bytes, align: object = False, copy: object = True) -> None:
        del align, copy
        name = code.decode("latin1") if isinstance(code, bytes) else code
        if name not in self._codes:
            raise pickle.UnpicklingError(f"an array of {name!r}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, *structure = state
        order = order.decode("latin1") if isinstance(order, bytes) else order
        if order not in ("|", "<", ">", "=") or any(part is not None for part in structure[:3]):
            raise pickle.UnpicklingError("an array of structures")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """A pickled array, in place of NumPy's: its numbers follow as bytes, and have to be as many as its shape says."""

    __slots__ = ("numbers",)
    numbers: np.ndarray

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_column, raw = state
        if not isinstance(kind, _Number) or not isinstance(raw, bytes) or not all(type(n) is int for n in shape):
            raise pickle.UnpicklingError("an array of an unknown kind")
        if min(shape, default=0) < 0 or math.prod(shape) * kind.dtype.itemsize != len(raw):
            raise pickle.UnpicklingError(f"an array of shape {shape} with {len(raw)} bytes")
        self.numbers = np.frombuffer(raw, kind.dtype).reshape(shape, order="F" if by_column else "C")


class _Function:
    """What a pickle may call; it cannot change it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a change of a function")


def _empty_array(kind: object, shape: object, code: object) -> _Array:
    """What a pickled array starts from; shape and type follow."""
    del kind, shape, code
    return _Array()


def _text(text: str, encoding: str) -> bytes:
    """Python 3 pickles bytes for old protocols as text in latin-1."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text in {encoding}")
    return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Makes ``_Array``, strings and containers."""

    _known: Mapping[tuple[str, str], object] = {
        ("numpy.core.multiarray", "_reconstruct"): _Function(_empty_array),
        ("numpy._core.multiarray", "_reconstruct"): _Function(_empty_array),
        ("numpy", "ndarray"): "ndarray",  # an argument of _reconstruct, never called
        ("numpy", "dtype"): _Function(_Number),
        ("_codecs", "encode"): _Function(_text),
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
        raise _refusal(file, _first_line(error), "a CIFAR batch: arrays, lists and strings") from None
    named = (
        {k.decode("latin1") if isinstance(k, bytes) else k: v for k, v in batch.items()}
        if isinstance(batch, dict)
        else {}
    )
    images, classes = (getattr(found := named.get(name), "numbers", found) for name in ("data", "labels"))
    if not isinstance(images, np.ndarray) or images.ndim != 2 or images.shape[1] % _CIFAR_CHANNELS:
        raise _refusal(file, "no array 'data' of 3 channels", "a CIFAR batch with 'data' and 'labels'")
    if isinstance(classes, list) and all(type(label) is int and abs(label) < 2**63 for label in classes):
        classes = np.array(classes, dtype=np.int64)
    if not isinstance(classes, np.ndarray):
        raise _refusal(file, "no integers in 'labels'", "a CIFAR batch with 'data' and 'labels'")
    pixels = images.reshape(len(images), _CIFAR_CHANNELS, 1, -1).transpose(0, 2, 3, 1)  # channel by channel on disk
    return (*_pair(file, pixels, classes), Path(file).name.startswith("test"))
