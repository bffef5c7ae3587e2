"""A part whose name says its digest is gone on with by whoever fetches that body next; of two who want it, by one."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipcache.edges.disk import DiskStore
from pipcache.edges.files import Files, Found
from pipcache.edges.parts import WORTH_BYTES
from tests.edges.left_parts import DATA, HALF, NOW, PROMISED, SHA256, TOKEN, clear, parts, put, resume, resumed
from tests.edges.storing import KEY, content_of, new_store, publish, response, result_of
from tests.fakes.files import FailingFiles, SpyingFiles


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    """A store that is ready."""
    store = new_store(tmp_path / "cache")
    store.prepare()
    return store


# -- resuming --------------------------------------------------------------------------------------------------------


def test_a_part_that_was_left_is_gone_on_with(store: DiskStore) -> None:
    """What is in it counts as received: its size, its digest, its bytes; what comes next is appended, and published."""
    put(store)
    assert clear(store) == 0
    body = resumed(store)
    assert (body.size, body.is_whole_on_disk, body.first_readable, body.window_bytes) == (HALF, True, 0, 0)
    assert body.sha256 == hashlib.sha256(DATA[:HALF]).hexdigest()
    assert body.read_at(HALF - 10, 100) == DATA[HALF - 10 : HALF]
    body.append(DATA[HALF:])
    assert (body.size, body.sha256) == (len(DATA), SHA256)
    assert body.read_at(HALF - 10, 20) == DATA[HALF - 10 : HALF + 10]
    result_of(store.publish(KEY, body, response(KEY, DATA)))
    body.close()
    assert content_of(store, KEY) == (DATA, None)
    assert parts(store) == set()


def test_a_body_larger_than_one_read_is_read_whole(store: DiskStore) -> None:
    """The digest of what was left is of all of it."""
    data = os.urandom((2 << 20) + 17)
    sha256 = hashlib.sha256(data).hexdigest()
    put(store, f"{TOKEN}.{sha256}.part", data)
    clear(store)
    body = resumed(store, sha256)
    assert (body.size, body.sha256) == (len(data), sha256)
    body.close()


def test_nothing_is_resumed_that_was_not_looked_for(store: DiskStore) -> None:
    """A part of another digest, or of none, and one that no scan has found yet, are not taken."""
    put(store)
    assert resume(store) is None
    clear(store)
    assert resume(store, "0" * 64) is None
    resumed(store).close()


def test_asking_for_what_was_not_left_costs_no_call(tmp_path: Path) -> None:
    """Every miss asks; only where there is something to resume the disk is."""
    files = SpyingFiles()
    store = new_store(tmp_path, files)
    store.prepare()
    files.calls.clear()
    assert resume(store) is None
    assert files.calls == []


def test_of_two_who_want_it_one_gets_it(store: DiskStore) -> None:
    """In this process or in another: the second makes a part of its own; the first's is not touched."""
    put(store)
    other = new_store(store.root)
    clear(store)
    clear(other)
    body = resumed(store)
    assert resume(store) is None
    assert resume(other) is None
    assert clear(other) == 0
    assert parts(store) == {PROMISED}
    body.append(DATA[HALF:])
    result_of(store.publish(KEY, body, response(KEY, DATA)))
    body.close()
    assert resume(other) is None
    assert content_of(store, KEY) == (DATA, None)


def test_who_was_too_late_may_try_again(store: DiskStore) -> None:
    """The other one is killed too, with more in the part: then it is free, and is taken as it is."""
    put(store)
    other = new_store(store.root)
    clear(store)
    clear(other)
    first = resumed(store)
    assert resume(other) is None
    first.append(DATA[HALF : HALF + 7])
    first.close()
    second = resumed(other)
    assert second.size == HALF + 7
    second.close()


def test_a_part_that_is_gone_meanwhile_is_no_part(store: DiskStore) -> None:
    """Somebody emptied the folder: nothing to resume, and that is found once."""
    path = put(store)
    clear(store)
    path.unlink()
    assert resume(store) is None
    assert resume(store) is None


@pytest.mark.parametrize("call", ["open_part", "lease", "read_at"])
def test_a_part_that_the_disk_refuses_is_no_part(store: DiskStore, call: str) -> None:
    """Whoever wanted it begins anew; no descriptor and no lease is lost."""
    put(store)
    files = FailingFiles(1 if call == "lease" else 0, OSError(errno.EIO, "broken"), only=(call,))
    failing = new_store(store.root, files)
    clear(failing)  # which takes a lease itself
    before = len(os.listdir("/proc/self/fd"))
    assert resume(failing) is None
    assert files.failed == [call]
    assert len(os.listdir("/proc/self/fd")) == before
    clear(store)
    resumed(store).close()


# -- leaving ---------------------------------------------------------------------------------------------------------


def left(store: DiskStore, size: int, sha256: str | None = SHA256) -> None:
    """Grow a body, leave it half done, and give its descriptor back."""
    body = store.grow(sha256)
    body.append(DATA[:size])
    store.leave(body)
    assert not body.is_whole_on_disk
    assert body.read_at(0, 10) == DATA[:10][:size]
    body.close()


def test_what_is_left_is_resumed_by_the_next(store: DiskStore) -> None:
    """At once, without a scan in between; also after a restart, which finds it by its name."""
    left(store, HALF)
    assert len(parts(store)) == 1
    body = resumed(store)
    assert body.size == HALF
    store.leave(body)
    body.close()
    [name] = parts(store)
    os.utime(store.root / "tmp" / name, (NOW, NOW))
    again = new_store(store.root)
    assert clear(again) == 0
    after = resumed(again)
    assert after.read_at(0, len(DATA)) == DATA[:HALF]
    after.close()


@pytest.mark.parametrize(
    ("size", "sha256", "stays"),
    [
        (WORTH_BYTES, SHA256, True),
        (WORTH_BYTES - 1, SHA256, False),
        (0, SHA256, False),
        (len(DATA), None, False),
    ],
)
def test_what_nobody_could_or_would_resume_goes_at_once(
    store: DiskStore, size: int, sha256: str | None, stays: bool
) -> None:
    """Less than 64 KiB, or a body whose digest nobody knows, leaves nothing."""
    left(store, size, sha256)
    assert len(parts(store)) == (1 if stays else 0)
    body = resume(store)
    assert (body is not None) == stays
    if body is not None:
        body.close()


def test_what_is_left_is_free_when_its_last_reader_is_gone(store: DiskStore) -> None:
    """Somebody who still reads it holds its lease: until then the next one begins anew, and nothing is appended twice."""
    body = store.grow(SHA256)
    body.append(DATA[:HALF])
    store.leave(body)
    assert resume(store) is None
    body.append(b"late")
    assert body.read_at(HALF - 1, 1) + body.read_at(HALF, 10) == DATA[HALF - 1 : HALF] + b"late"
    body.close()
    again = resumed(store)
    assert again.size == HALF
    again.close()


def test_a_window_leaves_nothing(store: DiskStore) -> None:
    """What has no file cannot be left; saying so does no harm."""
    body = store.window()
    body.append(DATA)
    store.leave(body)
    assert body.read_at(0, 10) == DATA[:10]
    body.close()
    assert parts(store) == set()


def test_a_body_that_the_disk_would_not_take_leaves_nothing(tmp_path: Path) -> None:
    """Its part went when the write failed; to leave it changes nothing, and there is nothing to resume."""
    store = new_store(tmp_path, FailingFiles(2, only=("write",)))
    store.prepare()
    body = store.grow(SHA256)
    body.append(DATA[:HALF])
    body.append(DATA[HALF:])
    assert body.failure is not None
    store.leave(body)
    assert body.read_at(HALF, 10) == DATA[HALF : HALF + 10]
    body.close()
    assert resume(store) is None
    assert parts(store) == set()


def test_a_published_body_is_not_left(store: DiskStore) -> None:
    """An entry's file is never taken for a part."""
    publish(store, KEY, DATA)
    clear(store)
    assert resume(store) is None
    assert content_of(store, KEY) == (DATA, None)


def test_what_is_left_while_parts_are_cleared_is_not_forgotten(store: DiskStore) -> None:
    """Whoever clears saw it while it had its writer; the next one goes on with it all the same."""

    class Slow(Files):
        def entries(self, path: Path) -> Iterator[Found]:
            found = list(super().entries(path))
            yield from found
            if found:
                clearing.leave(body)
                body.close()

    clearing = new_store(store.root, Slow())
    body = clearing.grow(SHA256)
    body.append(DATA[:HALF])
    assert clear(clearing) == 0
    again = resumed(clearing)
    assert again.size == HALF
    again.close()


def test_what_was_too_old_to_resume_is_no_part(store: DiskStore) -> None:
    """It was found, then it was cleared: whoever wants it begins anew."""
    path = put(store)
    clear(store)
    os.utime(path, (0, 0))
    assert clear(store) == 1
    assert resume(store) is None
    assert parts(store) == set()
