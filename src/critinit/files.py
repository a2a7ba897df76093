"""Reading files up to a limit, and writing them whole or not at all.

A file is written beside its place and then renamed onto it, so that no reader ever finds half of it and an
error, an interrupt or a full disk leaves what was there before.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from critinit.errors import FileError

__all__ = ["TooLongError", "make_folder", "read", "read_stream", "refusal", "widened", "writable", "write"]


class TooLongError(FileError):
    """A file has more bytes than are read of it.

    Attributes:
        start: Its first bytes.
    """

    start: bytes = b""


def read(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the bytes of a file of at most ``limit`` bytes; more are never read.

    Raises:
        FileError: The file cannot be read, or is longer.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb", buffering=0) as stream:
            return read_stream(stream, limit, name)
    except (OSError, ValueError) as error:
        raise refusal(name, error, "a file that can be read") from None


def read_stream(stream: BinaryIO, limit: int, name: str) -> bytes:
    """Return all of a binary stream; an endless one is left after ``limit`` bytes.

    Args:
        stream: The stream.
        limit: Most bytes that are read.
        name: Its name, for the message.

    Raises:
        TooLongError: It has more bytes.
    """
    chunks: list[bytes] = []
    size = 0
    while size <= limit:
        chunk = stream.read(min(2**16, limit + 1 - size))
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
        size += len(chunk)
    error = TooLongError(found=f"more than {limit:,} bytes", allowed=f"at most {limit:,} bytes", source=name)
    error.start = chunks[0]
    raise error


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all.

    Links are followed.  A new file has the permissions of the umask, a replaced one keeps its own.  What is no regular
    file (a device, a pipe) is written to directly.

    Raises:
        FileError: It cannot be written; it is untouched then.
    """
    name = os.fspath(path)
    try:
        _write(name, data)
    except (OSError, ValueError) as error:
        raise refusal(name, error, "a place that can be written") from None


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder, and those above it, where there is none.

    Raises:
        FileError: It cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise refusal(os.fspath(path), error, "a folder that can be written") from None


def writable(path: str | os.PathLike[str], *, folder: bool = False) -> None:
    """Raise the ``FileError`` that ``write`` would raise, before the work whose result is to be written.

    Args:
        path: The file.
        folder: Whether it is a folder, which is made where there is none.
    """
    name = os.fspath(path)
    place = Path(name)
    try:
        if not name:
            raise FileNotFoundError
        if folder:
            place = next(above for above in (place.absolute(), *place.absolute().parents) if above.exists())
            if not place.is_dir():
                raise FileExistsError(errno.EEXIST, "a file", name)
        elif name.endswith(("/", os.sep)) or place.is_dir():
            raise IsADirectoryError
        elif not place.exists():
            place = Path(os.path.realpath(place)).parent
            if not place.is_dir():
                raise FileNotFoundError
        if not os.access(place, os.W_OK):
            raise PermissionError
    except (OSError, ValueError) as error:
        raise refusal(name, error, f"a {'folder' if folder else 'place'} that can be written") from None


def _write(name: str, data: bytes) -> None:
    path = Path(name)
    if not name:  # Path takes it for the current folder
        raise FileNotFoundError
    if name.endswith(("/", os.sep)):  # Path takes it for the file
        raise IsADirectoryError
    try:
        mode: int | None = path.stat().st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and stat.S_ISDIR(mode):
        raise IsADirectoryError
    if mode is not None and not os.access(path, os.W_OK):  # a rename would not ask
        raise PermissionError
    if mode is not None and not stat.S_ISREG(mode):
        path.write_bytes(data)
        return
    target = Path(os.path.realpath(path))
    beside = target.parent / f".critinit-{os.urandom(8).hex()}.tmp"
    descriptor = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(data)
        if mode is not None:
            beside.chmod(stat.S_IMODE(mode))
        os.replace(beside, target)
    except BaseException:  # an interrupt too leaves nothing behind
        beside.unlink(missing_ok=True)
        raise


def refusal(name: str, error: Exception, allowed: str) -> FileError:
    """Return the ``FileError`` for an error of the system.

    Args:
        name: The file.
        error: What the system raised.
        allowed: What would be right, in words.
    """
    if isinstance(error, IsADirectoryError):
        found = "a directory"
    elif isinstance(error, FileNotFoundError):
        found = "no such file or folder"
    elif isinstance(error, PermissionError):
        found = "no permission"
    elif isinstance(error, OSError):
        found = (error.strerror or str(error).partition("\n")[0] or type(error).__name__).lower()
    else:
        found = str(error)
    return FileError(found=found if name else "nothing", allowed=allowed, source=name or "the file's name")


def widened(halves: NDArray[Any]) -> NDArray[np.float32]:
    """Return numbers of bfloat16, a type that NumPy does not have, as float32, exactly.

    Args:
        halves: The bits of each number as an unsigned integer: the upper half of those of the float32.

    Example:
        >>> import numpy as np
        >>> widened(np.array([0x3F80, 0xC020], dtype=np.uint16)).tolist()
        [1.0, -2.5]
    """
    return (halves.astype(np.uint32) << 16).view(np.float32)
