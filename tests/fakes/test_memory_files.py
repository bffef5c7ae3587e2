"""The disk in memory behaves as a real one does, and fails as it is told to."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pipcache.edges.files import Files
from tests.fakes.memory_files import MemoryDisk, MemoryFiles


@pytest.fixture(params=["memory", "real"])
def files_in(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Files, Path]:
    """Calls, and a folder to make them in; in memory and on a real disk."""
    if request.param == "real":
        return Files(), tmp_path / "cache"
    return MemoryFiles(MemoryDisk(lambda: 1000.0)), Path("/cache")


def made(files: Files, path: Path, content: bytes) -> int:
    """A new file; its descriptor."""
    files.make_folders(path.parent)
    descriptor = files.create(path)
    assert files.write(descriptor, content) == len(content)
    return descriptor


def test_a_file_lives_as_on_a_real_disk(files_in: tuple[Files, Path]) -> None:
    """Written, read, renamed over another, kept for who has it open, and gone by name."""
    files, root = files_in
    old, new = root / "a" / "old", root / "a" / "new"
    before = made(files, new, b"before")
    descriptor = made(files, old, b"hello")
    files.sync(descriptor)
    files.rename(old, new)
    assert files.read_whole(new) == b"hello"
    assert files.read_at(descriptor, 1, 3) == b"ell"
    assert files.read_at(before, 0, 99) == b"before"
    assert files.status(descriptor).st_ino == files.status_of(new).st_ino
    assert not files.exists(old)
    assert [entry.name for entry in files.entries(root / "a")] == ["new"]
    files.set_modified(new, 77.0)
    assert files.status_of(new).st_mtime == 77.0
    files.unlink(new)
    assert files.read_at(descriptor, 0, 99) == b"hello"
    files.close(before)
    files.close(descriptor)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda files, root: files.open(root / "gone"), FileNotFoundError),
        (lambda files, root: files.create(root / "none" / "x"), FileNotFoundError),
        (lambda files, root: files.create(root / "there"), FileExistsError),
        (lambda files, root: files.rename(root / "gone", root / "x"), FileNotFoundError),
        (lambda files, root: files.unlink(root / "gone"), FileNotFoundError),
        (lambda files, root: files.status_of(root / "gone"), FileNotFoundError),
        (lambda files, root: list(files.entries(root / "none")), FileNotFoundError),
    ],
)
def test_it_refuses_what_a_real_disk_refuses(
    files_in: tuple[Files, Path], call: Callable[[Files, Path], Any], error: type[OSError]
) -> None:
    """What is not there, or is there already, raises the same error."""
    files, root = files_in
    files.close(made(files, root / "there", b""))
    with pytest.raises(error):
        call(files, root)


def test_a_part_is_appended_to_and_leased_once(files_in: tuple[Files, Path]) -> None:
    """A lease is one open description's until that is closed; who opens a part again appends."""
    files, root = files_in
    first = made(files, root / "part", b"one")
    second = files.open_part(root / "part")
    assert files.lease(first)
    assert not files.lease(second)
    files.close(first)
    assert files.lease(second)
    files.write(second, b"two")
    assert files.read_at(second, 0, 99) == b"onetwo"
    files.close(second)


def test_a_full_disk_takes_some_bytes_first() -> None:
    """The write that meets a full disk is short; the next one raises."""
    files = MemoryFiles(MemoryDisk(lambda: 0.0))
    descriptor = made(files, Path("/cache/x"), b"")
    files.disk.trouble = lambda kind, count: errno.ENOSPC if kind == "write" else None
    assert files.write(descriptor, b"12345678") == 4
    with pytest.raises(OSError, match="No space"):
        files.write(descriptor, b"5678")
    assert files.read_at(descriptor, 0, 99) == b"1234"


def test_a_killed_process_lets_go_and_can_do_no_more() -> None:
    """After a kill its leases are free, its bytes all there, and every call of what is left of it fails."""
    disk = MemoryDisk(lambda: 0.0)
    files, other = MemoryFiles(disk), MemoryFiles(disk)
    descriptor = made(files, Path("/cache/part"), b"bytes")
    assert files.lease(descriptor)
    files.kill()
    with pytest.raises(OSError, match="Bad file"):
        files.unlink(Path("/cache/part"))
    files.close(descriptor)
    assert other.read_whole(Path("/cache/part")) == b"bytes"
    assert other.lease(other.open(Path("/cache/part")))


@pytest.mark.parametrize("seed", range(10))
def test_power_takes_only_what_was_not_synced(seed: int) -> None:
    """What was synced is there to the last byte; what came later is cut off, or zero from some place on."""
    files = MemoryFiles(MemoryDisk(lambda: 0.0))
    descriptor = made(files, Path("/cache/x"), b"synced")
    files.sync(descriptor)
    files.write(descriptor, b"unsynced")
    files.disk.lose_power(Random(seed))
    left = MemoryFiles(files.disk).read_whole(Path("/cache/x"))
    assert left.startswith(b"synced")
    assert b"syncedunsynced".startswith(left.rstrip(b"\0"))


def test_the_nth_call_of_a_kind_can_be_told_to_fail() -> None:
    """The calls of each kind are counted from one; only the one that is meant fails."""
    files = MemoryFiles(MemoryDisk(lambda: 0.0))
    files.disk.trouble = lambda kind, count: errno.EIO if (kind, count) == ("create", 2) else None
    files.make_folders(Path("/cache"))
    files.create(Path("/cache/1"))
    with pytest.raises(OSError, match="Input/output"):
        files.create(Path("/cache/2"))
    files.create(Path("/cache/2"))
    assert files.disk.calls["create"] == 3
