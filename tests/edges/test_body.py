"""Bodies: what was appended is read back, wherever it lies, and whatever the disk does meanwhile."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.edges.body import GrowingBody, Part, StoredBody
from pipcache.edges.files import Files
from pipcache.rules.errors import StorageError
from pipcache.rules.meta import Verified
from tests.fakes.files import FailingFiles, SmallDisk, SpyingFiles

SIX = Verified(inode=1, size=6, mtime_ns=1)
UNREADABLE = OSError(errno.EIO, os.strerror(errno.EIO))


def new_body(folder: Path, files: Files | None = None) -> GrowingBody:
    """A body with a part in ``folder``."""
    path = folder / "body.part"
    return GrowingBody(files or Files(), Part(path, Files().create(path)))


def whole(body: GrowingBody, start: int = 0, count: int = 1 << 20) -> bytes:
    """Everything from ``start`` on, read in pieces of at most ``count`` bytes."""
    read = b""
    while start + len(read) < body.size:
        piece = body.read_at(start + len(read), count)
        assert 0 < len(piece) <= count
        read += piece
    return read


def test_a_body_is_its_file(tmp_path: Path) -> None:
    """While the disk works all bytes are in the part, none in memory, and can be read at any offset."""
    body = new_body(tmp_path)
    assert (body.size, body.is_whole_on_disk, body.first_readable) == (0, True, 0)
    body.append(b"abc")
    body.append(b"defg")
    assert (tmp_path / "body.part").read_bytes() == b"abcdefg"
    assert (body.size, body.window_bytes, body.is_whole_on_disk, body.first_readable) == (7, 0, True, 0)
    assert body.read_at(2, 3) == b"cde"
    assert body.read_at(5, 100) == b"fg"
    assert whole(body, 0, 2) == b"abcdefg"
    assert body.failure is None
    body.close()


def test_a_window_is_memory_only() -> None:
    """Without a part all is held in memory, until it is let go."""
    body = GrowingBody(Files(), None)
    assert not body.is_whole_on_disk
    body.append(b"abc")
    body.append(b"defg")
    assert (body.size, body.window_bytes, body.first_readable) == (7, 7, 0)
    assert body.read_at(1, 3) == b"bcd"
    body.let_go(4)
    assert (body.size, body.window_bytes, body.first_readable) == (7, 3, 4)
    assert body.read_at(4, 100) == b"efg"
    body.let_go(2)  # less than was let go already: nothing
    assert body.first_readable == 4
    with pytest.raises(StorageError, match="no longer held"):
        body.read_at(3, 1)


@pytest.mark.parametrize("room", range(8))
def test_a_full_disk_moves_the_rest_to_the_window(tmp_path: Path, room: int) -> None:
    """What the disk took before it was full, a part of a chunk too, is in the file; the rest in memory; none twice."""
    body = new_body(tmp_path, SmallDisk(room))
    for chunk in (b"abc", b"defg", b"hi"):
        body.append(chunk)
    assert body.size == 9
    assert body.window_bytes == 9 - room
    assert not body.is_whole_on_disk
    assert str(body.failure) == f"cannot write to the cache directory: {os.strerror(errno.ENOSPC)}"
    assert body.first_readable == 0
    assert whole(body) == b"abcdefghi"
    assert whole(body, 0, 1) == b"abcdefghi"
    assert not (tmp_path / "body.part").exists()
    body.close()


def test_the_file_takes_nothing_after_a_failure(tmp_path: Path) -> None:
    """Room that comes back is not used: the file would have a hole."""
    disk = SmallDisk(2)
    body = new_body(tmp_path, disk)
    body.append(b"abc")
    disk.room = 100
    body.append(b"def")
    assert disk.room == 100
    assert whole(body) == b"abcdef"
    body.close()


def test_bytes_in_the_file_stay_readable_when_the_window_is_let_go(tmp_path: Path) -> None:
    """After a failure, letting go frees memory only; then nobody can start from the beginning any more."""
    body = new_body(tmp_path, SmallDisk(2))
    body.append(b"abcdef")
    body.let_go(1)
    assert (body.first_readable, body.window_bytes) == (0, 4)
    body.let_go(4)
    assert (body.first_readable, body.window_bytes) == (4, 2)
    assert body.read_at(0, 10) == b"ab"
    assert whole(body, 4) == b"ef"
    with pytest.raises(StorageError, match="no longer held"):
        body.read_at(2, 1)
    body.close()


def test_what_comes_after_a_discard_goes_to_the_window(tmp_path: Path) -> None:
    """A discarded body loses its name and is not to be published; its bytes, old and new, can be read."""
    body = new_body(tmp_path)
    body.append(b"abc")
    body.discard()
    assert not body.is_whole_on_disk
    assert list(tmp_path.iterdir()) == []
    body.append(b"def")
    assert (body.size, body.window_bytes, body.first_readable) == (6, 3, 0)
    assert whole(body) == b"abcdef"
    body.discard()  # harmless
    assert whole(body) == b"abcdef"
    body.close()


def test_a_discard_that_the_disk_refuses_is_a_discard(tmp_path: Path) -> None:
    """The name stays for the scan to clear; nothing is raised."""
    body = new_body(tmp_path, FailingFiles(0, only=("unlink",)))
    body.discard()
    assert not body.is_whole_on_disk
    assert (tmp_path / "body.part").exists()
    body.close()


def test_a_body_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """An error of the disk, and a file that somebody cut, are StorageErrors, never short data."""
    body = new_body(tmp_path, FailingFiles(0, UNREADABLE, only=("read_at",)))
    body.append(b"abc")
    with pytest.raises(StorageError, match="cannot read from the cache directory: Input/output error"):
        body.read_at(0, 3)
    os.truncate(tmp_path / "body.part", 1)
    assert body.read_at(0, 3) == b"a"
    with pytest.raises(StorageError, match="shorter than it was"):
        body.read_at(1, 2)
    body.close()


def test_close_gives_everything_back(tmp_path: Path) -> None:
    """The descriptor and the memory, once; a second close is harmless."""
    files = SpyingFiles()
    body = new_body(tmp_path, files)
    body.append(b"abc")
    body.close()
    body.close()
    assert files.names.count("close") == 1
    window = GrowingBody(Files(), None)
    window.append(b"abc")
    window.close()
    assert window.window_bytes == 0


STEPS = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=40),
        st.floats(0, 1),  # let go up to this ratio of what came
        st.just("discard"),
    ),
    max_size=30,
)


@given(steps=STEPS, room=st.one_of(st.none(), st.integers(0, 200)), count=st.integers(1, 50))
def test_any_sequence_reads_back_the_right_bytes(
    steps: list[bytes | float | str], room: int | None, count: int
) -> None:
    """However chunks, letting go, giving up and a disk that fills meet: what can be read is what was appended."""
    with tempfile.TemporaryDirectory() as folder:
        body = new_body(Path(folder), SmallDisk(1 << 20 if room is None else room))
        sent = b""
        for step in steps:
            if isinstance(step, bytes):
                body.append(step)
                sent += step
            elif isinstance(step, float):
                body.let_go(int(step * body.size))
            else:
                body.discard()
            assert body.size == len(sent)
            assert body.sha256 == hashlib.sha256(sent).hexdigest()
            start = body.first_readable
            assert whole(body, start, count) == sent[start:]
            if body.is_whole_on_disk:
                assert (Path(folder) / "body.part").read_bytes() == sent
                assert start == body.window_bytes == 0
        body.close()


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=20), max_size=8),
    nth=st.integers(0, 8),
)
def test_a_write_that_fails_at_any_point_loses_nothing(chunks: list[bytes], nth: int) -> None:
    """Whichever write fails, with whichever error, every byte can be read, from any offset."""
    with tempfile.TemporaryDirectory() as folder:
        files = FailingFiles(nth, OSError(errno.EROFS, "read-only"), only=("write",))
        body = new_body(Path(folder), files)
        for chunk in chunks:
            body.append(chunk)
        sent = b"".join(chunks)
        assert (body.failure is not None) == bool(files.failed) == (not body.is_whole_on_disk)
        for start in range(len(sent)):
            assert whole(body, start) == sent[start:]
        body.close()


def test_a_stored_body_is_read_and_closed(tmp_path: Path) -> None:
    """Any part of it, never beyond its length; closed once."""
    (tmp_path / "a").write_bytes(b"abcdef and more")
    files = SpyingFiles()
    body = StoredBody(files, files.open(tmp_path / "a"), SIX)
    assert body.read_at(0, 100) == b"abcdef"
    assert body.read_at(4, 1) == b"e"
    assert body.read_at(6, 1) == b""
    body.close()
    body.close()
    assert files.names.count("close") == 1


def test_a_stored_body_that_became_short_says_so(tmp_path: Path) -> None:
    """A file that was cut while it is open is an error, not an early end."""
    (tmp_path / "a").write_bytes(b"abcdef")
    files = Files()
    body = StoredBody(files, files.open(tmp_path / "a"), SIX)
    os.truncate(tmp_path / "a", 3)
    assert body.read_at(0, 6) == b"abc"
    with pytest.raises(StorageError, match="shorter than it was"):
        body.read_at(3, 3)
    body.close()


def test_an_unreadable_stored_body_says_so(tmp_path: Path) -> None:
    """An error of the disk is a StorageError in words."""
    (tmp_path / "a").write_bytes(b"abcdef")
    files = FailingFiles(0, UNREADABLE, only=("read_at",))
    body = StoredBody(files, files.open(tmp_path / "a"), SIX)
    with pytest.raises(StorageError, match="Input/output error"):
        body.read_at(0, 6)
    body.close()


@given(left=st.binary(max_size=100), more=st.lists(st.binary(min_size=1, max_size=20), max_size=5))
def test_a_body_that_was_left_is_as_if_it_had_gone_on(left: bytes, more: list[bytes]) -> None:
    """However many bytes were in the part: size, digest, file and every offset are those of a body in one go."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "body.part"
        path.write_bytes(left)
        body = GrowingBody.resumed(Files(), Part(path, Files().open_part(path)))
        for chunk in (b"", *more):
            body.append(chunk)
        sent = left + b"".join(more)
        assert (body.size, body.is_whole_on_disk, body.first_readable) == (len(sent), True, 0)
        assert body.sha256 == hashlib.sha256(sent).hexdigest()
        assert path.read_bytes() == sent
        for start in range(len(sent)):
            assert whole(body, start, 7) == sent[start:]
        body.close()


@given(left=st.binary(min_size=1, max_size=100), more=st.binary(min_size=1, max_size=50), room=st.integers(0, 49))
def test_a_body_that_was_left_survives_a_full_disk(left: bytes, more: bytes, room: int) -> None:
    """What the part does not take goes on in memory, and all can be read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "body.part"
        path.write_bytes(left)
        body = GrowingBody.resumed(SmallDisk(room), Part(path, Files().open_part(path)))
        body.append(more)
        sent = left + more
        assert (body.failure is None) == (room >= len(more)) == body.is_whole_on_disk
        assert body.size == len(sent)
        for start in range(len(sent)):
            assert whole(body, start) == sent[start:]
        body.close()


def test_a_part_that_cannot_be_read_is_not_gone_on_with(tmp_path: Path) -> None:
    """The error is the system's; the caller has the descriptor still."""
    path = tmp_path / "body.part"
    path.write_bytes(b"abc")
    files = FailingFiles(0, UNREADABLE, only=("read_at",))
    descriptor = files.open_part(path)
    with pytest.raises(OSError, match="Input/output error"):
        GrowingBody.resumed(files, Part(path, descriptor))
    files.close(descriptor)


@pytest.mark.parametrize("data", [b"", b"abc", bytes(range(256)) * 5000])
def test_the_digest_of_a_stored_body_is_of_all_of_it(tmp_path: Path, data: bytes) -> None:
    """Whatever its size; it can be read as before then."""
    (tmp_path / "a").write_bytes(data)
    files = Files()
    body = StoredBody(files, files.open(tmp_path / "a"), Verified(1, len(data), 1))
    assert body.sha256() == hashlib.sha256(data).hexdigest()
    assert body.read_at(0, 3) == data[:3]
    body.close()


def test_a_stored_body_that_became_short_has_no_digest(tmp_path: Path) -> None:
    """The digest of what is left would be that of another file."""
    (tmp_path / "a").write_bytes(b"abcdef")
    files = Files()
    body = StoredBody(files, files.open(tmp_path / "a"), SIX)
    os.truncate(tmp_path / "a", 3)
    with pytest.raises(StorageError, match="shorter than it was"):
        body.sha256()
    body.close()
