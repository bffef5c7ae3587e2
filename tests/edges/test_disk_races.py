"""Two operations on one entry at the same time: every place where the second can come in between the first's calls.

The interleavings are made, not hoped for: the second operation runs in a thread of its own before the n-th call of the
first, until it ends or has to wait for the store's lock, for every n. What must hold does not depend on n: who reads, at
any moment, gets a whole entry or a miss, and afterwards nothing is left that no meta names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipcache.edges.disk import DiskStore
from pipcache.edges.files import Files
from pipcache.edges.publication import NewVariant
from pipcache.rules.errors import StorageError
from tests.edges.storing import (
    CACHED_AT,
    LONG_AFTER,
    PAGE_KEY,
    clear,
    content_of,
    entry_files,
    named_files,
    new_store,
    publish,
    response,
    result_of,
)
from tests.fakes.files import InterruptedFiles, SpyingFiles, TellingLock

OLD, NEW, NEWER = b"old bytes", b"new bytes", b"all bytes"  # of one length: sizes alone would not tell them apart
PAGE = NewVariant("html", "1", b"<page>")
OTHER_PAGE = NewVariant("html", "2", b"<other>")

Operation = Callable[[DiskStore], object]


def publish_new(store: DiskStore) -> object:
    """A newer body, with a page."""
    return publish(store, PAGE_KEY, NEW, PAGE, cached_at=CACHED_AT + 10)


def publish_newer(store: DiskStore) -> object:
    """One more."""
    return publish(store, PAGE_KEY, NEWER, PAGE, cached_at=CACHED_AT + 10)


def remove_old(store: DiskStore) -> object:
    """Evict what was there at first."""
    return result_of(store.remove((PAGE_KEY.digest,), CACHED_AT))


def scan(store: DiskStore) -> object:
    """Look at the entry's folder."""
    return result_of(store.scan((PAGE_KEY.folder,), CACHED_AT))


def scan_long_after(store: DiskStore) -> object:
    """The same where every grace is over."""
    return result_of(store.scan((PAGE_KEY.folder,), LONG_AFTER))


def drop_parts(store: DiskStore) -> object:
    """Remove what nobody has a lease on."""
    return result_of(store.clear_parts(LONG_AFTER, 0.0))


def render_again(store: DiskStore) -> object:
    """Give what is stored another page, unless it is replaced meanwhile."""
    before = store.read(PAGE_KEY)
    if before is None:
        return None
    return result_of(store.amend(PAGE_KEY, before, lambda stored: stored, [OTHER_PAGE]))


def verify_touched(store: DiskStore) -> object:
    """Read through a body that somebody touched, so that its meta is written anew."""
    stored = store.read(PAGE_KEY)
    if stored is None:
        return None
    with suppress(FileNotFoundError):
        os.utime(store.root / PAGE_KEY.folder / stored.body, (1.0, 1.0))
    return result_of(store.verify(PAGE_KEY, stored))


@pytest.fixture
def locks(monkeypatch: pytest.MonkeyPatch) -> list[TellingLock]:
    """The locks of the stores that are made, in order."""
    made: list[TellingLock] = []

    def new_lock() -> TellingLock:
        made.append(TellingLock())
        return made[-1]

    monkeypatch.setattr("pipcache.edges.disk.Lock", new_lock)
    return made


class ReadFiles(InterruptedFiles):
    """A client also reads the entry, before each step of both operations that it could see."""

    def __init__(self, nth: int, operation: Callable[[], object], root: Path) -> None:
        super().__init__(nth, operation, TellingLock())
        self._client = new_store(root)

    def before_call(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Read, then go on."""
        if name in ("rename", "unlink", "sync"):
            content_of(self._client, PAGE_KEY)  # which fails where it is not what its meta says
        super().before_call(name, arguments)


def interleavings(
    root: Path, locks: list[TellingLock], first: Operation, second: Operation, prepare: Operation
) -> Iterator[DiskStore]:
    """A store after each way in which ``second`` can come into ``first``; ``prepare`` makes what is there before."""
    nth = 0
    while True:
        folder = root / str(nth)
        new_store(folder).prepare()
        prepare(new_store(folder))
        store: DiskStore

        def come_in_between() -> None:
            second(store)  # noqa: B023

        files = ReadFiles(nth, come_in_between, folder)
        store = new_store(folder, files)
        files.lock = locks[-1]
        first(store)
        if not files.joined():
            assert nth > 0, "the first operation made too few calls to be interrupted"
            return
        yield new_store(folder)
        nth += 1


def nothing(store: DiskStore) -> None:
    """Nothing was there before."""


def old_entry(store: DiskStore) -> None:
    """An entry with a page."""
    publish(store, PAGE_KEY, OLD, PAGE)


def replaced_entry(store: DiskStore) -> None:
    """An entry that has replaced another, so that no body has the first name."""
    old_entry(store)
    old_entry(store)


def left_body(store: DiskStore) -> None:
    """A body that a crash left, under the name that the next one would have."""
    publish(store, PAGE_KEY, OLD)
    (store.root / PAGE_KEY.folder / f"{PAGE_KEY.stem}.meta").unlink()


def assert_nothing_is_left_over(store: DiskStore) -> None:
    """After the next start there are the files of the entry, and no others; what can be read stays."""
    found = content_of(store, PAGE_KEY)
    clear(store)
    assert content_of(store, PAGE_KEY) == found
    assert entry_files(store) == named_files(store, PAGE_KEY)


BEFORE = [nothing, old_entry, replaced_entry, left_body]
PUBLISHED = {(NEW, b"<page>"), (NEW, b"<other>"), (NEWER, b"<page>")}


@pytest.mark.parametrize("prepare", BEFORE)
@pytest.mark.parametrize("second", [publish_newer, remove_old, scan, drop_parts, render_again, verify_touched])
def test_a_publication_is_whole_whatever_comes_in_between(
    tmp_path: Path, locks: list[TellingLock], prepare: Operation, second: Operation
) -> None:
    """It succeeds, and what was published is there: bytes of this one or of the other, never of both."""
    for store in interleavings(tmp_path, locks, publish_new, second, prepare):
        assert content_of(store, PAGE_KEY) in PUBLISHED
        assert_nothing_is_left_over(store)


@pytest.mark.parametrize("prepare", BEFORE)
@pytest.mark.parametrize("first", [remove_old, scan, scan_long_after, drop_parts, render_again, verify_touched])
def test_a_publication_is_whole_whatever_it_comes_into(
    tmp_path: Path, locks: list[TellingLock], prepare: Operation, first: Operation
) -> None:
    """A publication between any two calls of another operation is there afterwards."""

    def with_parts(store: DiskStore) -> None:
        prepare(store)
        for number in range(8):
            (store.root / "tmp" / f"{number:032x}.part").write_bytes(b"")
            (store.root / PAGE_KEY.folder).mkdir(exist_ok=True)
            (store.root / PAGE_KEY.folder / f"{number:061x}.body").write_bytes(b"")
            (store.root / PAGE_KEY.folder / f"{number:061x}.meta").write_bytes(b"")

    for store in interleavings(tmp_path, locks, first, publish_new, with_parts):
        assert content_of(store, PAGE_KEY) in PUBLISHED
        assert_nothing_is_left_over(store)


def test_a_late_publication_survives_a_scan(tmp_path: Path, locks: list[TellingLock]) -> None:
    """A body whose last byte came long before it is renamed is no orphan while its meta is being written."""

    def publish_without_page(store: DiskStore) -> object:
        return publish(store, PAGE_KEY, NEW)

    for store in interleavings(tmp_path, locks, publish_without_page, scan_long_after, nothing):
        assert content_of(store, PAGE_KEY) == (NEW, None)
        assert_nothing_is_left_over(store)


@pytest.mark.parametrize("first", [remove_old, render_again, verify_touched])
@pytest.mark.parametrize("second", [remove_old, render_again, scan_long_after, drop_parts, verify_touched])
def test_an_old_entry_is_whole_or_gone(
    tmp_path: Path, locks: list[TellingLock], first: Operation, second: Operation
) -> None:
    """Removal and rendering with each other and with a scan: the entry with one of its pages, or a miss."""
    if first is render_again and second is scan_long_after:
        second = scan  # a page is protected by its grace
    for store in interleavings(tmp_path, locks, first, second, old_entry):
        found = content_of(store, PAGE_KEY)
        assert found in {(OLD, b"<page>"), (OLD, b"<other>"), None}
        if remove_old in (first, second):
            assert found is None
        assert_nothing_is_left_over(store)


def test_a_failed_publication_takes_only_its_own_files(tmp_path: Path, locks: list[TellingLock]) -> None:
    """Where two publish at once and one fails, the other's body stays: no two bodies ever share a name."""
    store = new_store(tmp_path)
    store.prepare()
    publish_new(store)
    body = store.grow()
    body.append(NEWER)
    assert body.part is not None
    os.unlink(body.part.path)
    with pytest.raises(StorageError):
        result_of(store.publish(PAGE_KEY, body, response(PAGE_KEY, NEWER)))
    body.close()
    assert content_of(store, PAGE_KEY) == (NEW, b"<page>")


class VanishingFiles(Files):
    """Removes a file between its being listed and its being looked at."""

    def __init__(self, name: str) -> None:
        self.name = name

    def entries(self, path: Path) -> Iterator:
        """As listed; the file is gone when the first is handed out."""
        found = list(super().entries(path))
        (path / self.name).unlink()
        yield from found


def test_a_file_that_vanishes_during_a_scan_hides_no_other(tmp_path: Path) -> None:
    """An entry of the same folder that is evicted or replaced meanwhile does not keep the others from being counted."""
    store = new_store(tmp_path)
    store.prepare()
    publish(store, PAGE_KEY, OLD)
    for first in "0f":  # whichever the system lists first
        orphan = f"{first * 61}.body"
        (tmp_path / PAGE_KEY.folder / orphan).write_bytes(b"")
        scanning = new_store(tmp_path, VanishingFiles(orphan))
        assert [entry.digest for entry in result_of(scanning.scan((PAGE_KEY.folder,), CACHED_AT))] == [PAGE_KEY.digest]


class GraspingFiles(SpyingFiles):
    """Somebody drops parts between the making of a new one and its lease, ``times`` times."""

    def __init__(self, call: str, times: int) -> None:
        super().__init__()
        self._call = call
        self._times = times

    def before_call(self, name: str, arguments: tuple) -> None:
        """Drop them, when it is time."""
        if name == self._call and self._times:
            self._times -= 1
            part = next(a for n, (a, *_) in reversed(self.calls) if n == "create")
            drop = new_store(Path(part).parent.parent)
            assert result_of(drop.clear_parts(LONG_AFTER, 0.0)) == 1


def test_a_part_that_is_dropped_before_it_is_leased_is_made_again(tmp_path: Path) -> None:
    """A body that begins to grow while a starting process drops parts can be published."""
    new_store(tmp_path).prepare()
    store = new_store(tmp_path, GraspingFiles("lease", 2))
    publish(store, PAGE_KEY, OLD)
    assert content_of(store, PAGE_KEY) == (OLD, None)
    assert_nothing_is_left_over(store)


def test_parts_that_are_dropped_again_and_again_are_given_up(tmp_path: Path) -> None:
    """Somebody who removes every new file leaves us without one: the body grows in memory, and says why."""
    new_store(tmp_path).prepare()
    body = new_store(tmp_path, GraspingFiles("lease", 100)).grow()
    assert str(body.failure) == "cannot create a file in the cache directory: new files are removed at once"
    body.close()


def test_a_part_whose_lease_another_has_is_not_used(tmp_path: Path) -> None:
    """Who drops parts may hold the lease for a moment; the part is theirs to remove then."""

    class Leased(SpyingFiles):
        times = 0

        def lease(self, descriptor: int) -> bool:
            self.times += 1
            return self.times > 1 and super().lease(descriptor)

    new_store(tmp_path).prepare()
    files = Leased()
    store = new_store(tmp_path, files)
    body = store.grow()
    assert body.part is not None
    assert files.names.count("create") == 2
    assert body.part.path == next(path for name, (path, *_) in reversed(files.calls) if name == "create")
    body.close()
