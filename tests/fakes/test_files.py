"""The misbehaving files do to a caller exactly what they were told to do."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.fakes.files import (
    DyingFiles,
    FailingFiles,
    InterruptedFiles,
    Killed,
    SmallDisk,
    SpyingFiles,
    TellingLock,
    tree,
)


def write_file(files: SpyingFiles | SmallDisk, path: Path, data: bytes) -> None:
    """Create, write and close."""
    descriptor = files.create(path)
    try:
        files.write(descriptor, data)
    finally:
        files.close(descriptor)


def test_calls_are_recorded_and_done(tmp_path: Path) -> None:
    """A spy writes down every call with its arguments, and the call is made."""
    files = SpyingFiles()
    write_file(files, tmp_path / "a", b"data")
    assert files.names == ["create", "write", "close"]
    assert files.calls[0] == ("create", (tmp_path / "a",))
    assert tree(tmp_path) == {"a": b"data"}


@pytest.mark.parametrize(("nth", "left"), [(0, {}), (1, {"a": b""}), (2, {"a": b"data"})])
def test_the_nth_call_fails_and_only_that(tmp_path: Path, nth: int, left: dict[str, bytes]) -> None:
    """The error is the one given, the call is not made, and later calls are."""
    files = FailingFiles(nth, OSError(errno.EROFS, "read-only"))
    if nth < 2:
        with pytest.raises(OSError, match="read-only"):
            write_file(files, tmp_path / "a", b"data")
    else:
        write_file(files, tmp_path / "a", b"data")  # a close is neither counted nor failed
    assert files.failed == ["create", "write"][nth : nth + 1]
    assert tree(tmp_path) == left
    if nth < 2:
        write_file(files, tmp_path / "b", b"later")
        assert (tmp_path / "b").read_bytes() == b"later"


def test_only_the_named_calls_are_counted_and_failure_may_last(tmp_path: Path) -> None:
    """``only`` leaves the others alone; a lasting failure is there for good."""
    files = FailingFiles(1, only=("write",), is_lasting=True)
    write_file(files, tmp_path / "a", b"a")
    for _ in range(2):
        descriptor = files.open(tmp_path / "a")
        with pytest.raises(OSError, match="Input/output"):
            files.write(descriptor, b"b")
        files.close(descriptor)


def test_a_dead_program_does_nothing_more(tmp_path: Path) -> None:
    """From the n-th call on nothing reaches the disk, and no handler of errors is woken."""
    files = DyingFiles(1)
    with pytest.raises(Killed):
        write_file(files, tmp_path / "a", b"a")
    with pytest.raises(Killed):
        files.unlink(tmp_path / "a")
    assert files.is_dead
    assert tree(tmp_path) == {"a": b""}


def test_a_dead_program_holds_no_lease(tmp_path: Path) -> None:
    """Whichever way a file was opened: its lease ends with the program."""
    (tmp_path / "a").write_bytes(b"a")
    for opening in ("create", "open", "open_part"):
        files = DyingFiles(2)
        path = tmp_path / ("b" if opening == "create" else "a")
        assert files.lease(getattr(files, opening)(path))
        after = SpyingFiles()
        descriptor = after.open(path)
        assert not after.lease(descriptor)
        with pytest.raises(Killed):
            files.unlink(path)
        assert after.lease(descriptor)
        after.close(descriptor)


def test_a_small_disk_takes_what_fits(tmp_path: Path) -> None:
    """The last write is partial, then there is no space left."""
    files = SmallDisk(5)
    descriptor = files.create(tmp_path / "a")
    assert files.write(descriptor, b"abc") == 3
    assert files.write(descriptor, memoryview(b"def")) == 2
    with pytest.raises(OSError, match="No space left"):
        files.write(descriptor, b"f")
    files.close(descriptor)
    assert tree(tmp_path) == {"a": b"abcde"}


def test_another_operation_comes_in_between(tmp_path: Path) -> None:
    """It runs to its end before the n-th call is made, and once."""
    lock = TellingLock()
    files = InterruptedFiles(1, lambda: files.rename(tmp_path / "a", tmp_path / "b"), lock)
    write_file(files, tmp_path / "a", b"data")
    assert files.joined()
    assert files.names == ["create", "rename", "write", "close"]
    assert tree(tmp_path) == {"b": b"data"}


def test_another_operation_waits_for_the_lock(tmp_path: Path) -> None:
    """It begins before the n-th call, waits while the lock is held, and ends before its holder goes on."""
    lock = TellingLock()
    order: list[str] = []

    def other() -> None:
        order.append("begun")
        with lock:
            order.append("ended")

    files = InterruptedFiles(0, other, lock)
    with lock:
        write_file(files, tmp_path / "a", b"data")
        order.append("written")
    order.append("released")
    assert files.joined()
    assert order == ["begun", "written", "ended", "released"]


def test_an_error_of_the_other_operation_is_told(tmp_path: Path) -> None:
    """It is raised where it is joined; an operation whose turn never came is told too."""
    lock = TellingLock()
    files = InterruptedFiles(0, lambda: 1 // 0, lock)
    files.make_folders(tmp_path / "a")
    with pytest.raises(ZeroDivisionError):
        files.joined()
    assert not InterruptedFiles(5, print, lock).joined()
