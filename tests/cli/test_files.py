"""Files are written whole or not at all, and read up to a limit."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from critinit import files
from critinit.errors import FileError


def test_a_new_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    old = os.umask(0o027)
    try:
        files.write(path, b"data")
    finally:
        os.umask(old)
    assert path.read_bytes() == b"data"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_bytes(b"old")
    path.chmod(0o600)
    files.write(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o600)


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "spec.json"
    link = tmp_path / "link.json"
    link.symlink_to(target)
    files.write(link, b"through a dangling link")
    files.write(link, b"again")
    assert link.is_symlink()
    assert target.read_bytes() == b"again"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["link.json", "spec.json", "there"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, MemoryError])
@pytest.mark.parametrize("at", ["replace", "chmod"])
def test_an_error_midway_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], at: str
) -> None:
    path = tmp_path / "spec.json"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise error("midway")

    monkeypatch.setattr(os, "replace", fail)
    if at == "chmod":
        monkeypatch.setattr(Path, "chmod", fail)
    with pytest.raises(FileError if error is OSError else error):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["spec.json"]


def test_what_is_no_regular_file_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    files.write(pipe, b"through the pipe")
    reader.join(10)
    assert got == [b"through the pipe"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    files.write("/dev/null", b"data")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("", "the file's name: found nothing"),
        (".", "a directory"),
        ("no/such/folder", "no such file"),
        ("a\0b", "null byte"),
        ("n" * 300, "name too long"),
    ],
)
def test_what_cannot_be_written_or_read_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, found: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for attempt in (lambda: files.write(name, b"data"), lambda: files.read(name, 10)):
        with pytest.raises(FileError, match=found):
            attempt()
    assert list(tmp_path.iterdir()) == []


def test_no_permission_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For root everything is allowed: what the system would say is said in its place."""
    path = tmp_path / "spec.json"
    path.write_bytes(b"old")
    path.chmod(0)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(FileError, match="found no permission; allowed: a place that can be written"):
        files.write(path, b"new")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(FileError, match="found no permission; allowed: a file that can be read"):
        files.read(path, 10)


def test_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"12345")
    assert files.read(path, 5) == b"12345"
    with pytest.raises(files.TooLongError, match="found more than 4 bytes; allowed: at most 4 bytes"):
        files.read(path, 4)
    with pytest.raises(files.TooLongError, match="more than 100,000 bytes"):
        files.read("/dev/zero", 100_000)
