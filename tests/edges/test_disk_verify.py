"""Stored bodies are what was verified: what touched them is noticed at open, what did not is found by reading them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipcache.edges.disk import DiskStore
from pipcache.edges.publication import NewVariant
from pipcache.rules.meta import StoredResponse
from tests.edges.storing import (
    CACHED_AT,
    KEY,
    PAGE_KEY,
    clear,
    content_of,
    entry_files,
    named_files,
    new_store,
    publish,
    result_of,
)
from tests.fakes.files import FailingFiles, InterruptedFiles, SpyingFiles, TellingLock, tree

DATA, NEW = b"right bytes", b"newer bytes"  # of one length: sizes alone would not tell them apart
PAGE = NewVariant("html", "1", b"<page>")


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    """A store that is ready."""
    store = new_store(tmp_path / "cache")
    store.prepare()
    return store


def body_path(store: DiskStore, stored: StoredResponse) -> Path:
    """Where a page's body lies."""
    return store.root / PAGE_KEY.folder / stored.body


def touch(path: Path) -> None:
    """Another mtime, the same bytes."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def copy_over(path: Path) -> None:
    """Another file of the same bytes and times, as a restored backup is."""
    status = path.stat()
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    copy.rename(path)


def flip(path: Path) -> None:
    """Another byte, as a bad disk gives it: the size and the times say nothing."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip_and_touch(path: Path) -> None:
    """Another byte, written by a program."""
    flip(path)
    touch(path)


def is_suspect(store: DiskStore, stored: StoredResponse) -> bool:
    """What opening the body says of it."""
    body = store.open_body(PAGE_KEY, stored)
    assert body is not None
    body.close()
    return body.is_suspect


def verify(store: DiskStore, stored: StoredResponse) -> StoredResponse | None:
    """Read it through, at once."""
    return result_of(store.verify(PAGE_KEY, stored))


# -- at open ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "is_noticed"),
    [(lambda path: path.read_bytes(), False), (touch, True), (copy_over, True), (flip_and_touch, True), (flip, False)],
)
def test_what_was_touched_is_suspect(store: DiskStore, change: Callable[[Path], object], is_noticed: bool) -> None:
    """Another inode or mtime, whatever the bytes: said at open, before one of them is read; a read changes nothing."""
    stored = publish(store, PAGE_KEY, DATA)
    assert not is_suspect(store, stored)
    change(body_path(store, stored))
    assert is_suspect(store, stored) is is_noticed
    assert is_suspect(new_store(store.root), stored) is is_noticed


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(DATA + b"."), lambda path: os.truncate(path, 3)])
def test_another_size_is_no_body(store: DiskStore, change: Callable[[Path], object]) -> None:
    """What is too short or too long need not be read to be wrong."""
    stored = publish(store, PAGE_KEY, DATA)
    change(body_path(store, stored))
    assert store.open_body(PAGE_KEY, stored) is None


def test_a_meta_that_does_not_say_what_was_verified_makes_its_body_suspect(store: DiskStore) -> None:
    """Of an earlier version, or edited: read once, and known from then on."""
    stored = publish(store, PAGE_KEY, DATA)
    meta = store.root / PAGE_KEY.folder / f"{PAGE_KEY.stem}.meta"
    document = json.loads(meta.read_bytes())
    del document["verified"]
    meta.write_text(json.dumps(document))
    bare = store.read(PAGE_KEY)
    assert bare is not None
    assert is_suspect(store, bare)
    assert verify(store, bare) == store.read(PAGE_KEY) == stored
    assert not is_suspect(store, stored)


@pytest.mark.parametrize("change", [touch, copy_over, flip_and_touch])
def test_a_variant_that_was_touched_is_not_opened(store: DiskStore, change: Callable[[Path], object]) -> None:
    """It is made again rather than read through; its descriptor is given back."""
    stored = publish(store, PAGE_KEY, DATA, PAGE)
    assert len(stored.variants) == 1
    change(store.root / PAGE_KEY.folder / stored.variants[0].file)
    before = len(os.listdir("/proc/self/fd"))
    assert store.open_variant(PAGE_KEY, stored.variants[0]) is None
    assert len(os.listdir("/proc/self/fd")) == before
    assert not is_suspect(store, stored)


# -- read through ----------------------------------------------------------------------------------------------------


def test_a_body_that_is_right_and_untouched_stays_as_it_is(tmp_path: Path) -> None:
    """It is read, and nothing is written."""
    files = SpyingFiles()
    store = new_store(tmp_path, files)
    store.prepare()
    stored = publish(store, PAGE_KEY, DATA, PAGE)
    before = tree(tmp_path)
    files.calls.clear()
    assert verify(store, stored) == stored
    assert tree(tmp_path) == before
    assert set(files.names) == {"open", "status", "read_at", "close"}


@pytest.mark.parametrize("change", [touch, copy_over])
def test_where_only_the_times_differ_the_meta_is_written_anew(
    store: DiskStore, change: Callable[[Path], object]
) -> None:
    """The bytes are right, so the next hit is not suspect; body, page, ETag and times stay those that they were."""
    stored = publish(store, PAGE_KEY, DATA, PAGE)
    path = body_path(store, stored)
    change(path)
    changed = verify(store, stored)
    assert changed is not None
    assert changed == store.read(PAGE_KEY)
    assert changed.verified != stored.verified
    assert (changed.body, changed.variants, changed.etag, changed.cached_at) == (
        *(stored.body, stored.variants, stored.etag, stored.cached_at),
    )
    assert not is_suspect(store, changed)
    assert content_of(store, PAGE_KEY) == (DATA, b"<page>")
    assert entry_files(store) == named_files(store, PAGE_KEY)


def test_where_the_meta_cannot_be_written_the_body_is_right_all_the_same(store: DiskStore) -> None:
    """On a full or read-only disk it is read through at each hit, and served."""
    stored = publish(store, PAGE_KEY, DATA)
    touch(body_path(store, stored))
    failing = new_store(store.root, FailingFiles(0, OSError(errno.EROFS, "read-only"), only=("create",)))
    assert verify(failing, stored) == stored
    assert is_suspect(store, stored)
    assert content_of(store, PAGE_KEY) == (DATA, None)


@pytest.mark.parametrize("change", [flip, flip_and_touch])
def test_a_flipped_byte_is_found_and_put_into_quarantine(store: DiskStore, change: Callable[[Path], object]) -> None:
    """The body moves there with a note, meta and page go, so that it is fetched again; others stay."""
    publish(store, KEY, DATA)
    stored = publish(store, PAGE_KEY, DATA, PAGE)
    change(body_path(store, stored))
    bad = body_path(store, stored).read_bytes()
    assert verify(store, stored) is None
    assert store.read(PAGE_KEY) is None
    found = {Path(name).suffix: store.root / name for name in entry_files(store) - named_files(store, KEY)}
    assert set(found) == {".body", ".json"}
    assert {path.parent.name for path in found.values()} == {"quarantine"}
    assert found[".body"].stem == found[".json"].stem
    assert found[".body"].read_bytes() == bad
    assert json.loads(found[".json"].read_bytes()) == {
        "key": PAGE_KEY.text,
        "upstream": "one",
        "found": "on disk",
        "wanted_sha256": hashlib.sha256(DATA).hexdigest(),
        "size": len(DATA),
    }
    publish(store, PAGE_KEY, DATA, PAGE)
    clear(store)
    assert content_of(store, PAGE_KEY) == (DATA, b"<page>")
    assert content_of(store, KEY) == (DATA, None)


@pytest.mark.parametrize("change", [Path.unlink, lambda path: os.truncate(path, 3)])
def test_a_body_that_is_gone_or_short_is_no_entry(store: DiskStore, change: Callable[[Path], object]) -> None:
    """Its meta goes at once, what is left is an orphan."""
    stored = publish(store, PAGE_KEY, DATA, PAGE)
    change(body_path(store, stored))
    assert verify(store, stored) is None
    assert store.read(PAGE_KEY) is None
    clear(store)
    assert entry_files(store) == set()


@pytest.mark.parametrize("damage", ["unreadable", "becomes short"])
def test_a_body_that_cannot_be_read_is_wrong(store: DiskStore, damage: str) -> None:
    """A disk that gives an error instead of bytes, or a file that is cut while it is read."""
    stored = publish(store, PAGE_KEY, DATA)

    class Cut(SpyingFiles):
        def before_call(self, name: str, arguments: tuple) -> None:
            if name == "read_at":
                os.truncate(body_path(store, stored), 0)

    failing = new_store(store.root, FailingFiles(0, only=("read_at",)) if damage == "unreadable" else Cut())
    before = len(os.listdir("/proc/self/fd"))
    assert verify(failing, stored) is None
    assert len(os.listdir("/proc/self/fd")) == before
    assert store.read(PAGE_KEY) is None


def test_what_the_disk_will_not_let_go_is_wrong_all_the_same(store: DiskStore) -> None:
    """On a disk that refuses to remove it the caller hears that it is wrong, each time."""
    stored = publish(store, PAGE_KEY, DATA)
    flip_and_touch(body_path(store, stored))
    for _ in range(2):
        files = FailingFiles(0, OSError(errno.EROFS, "read-only"), only=("unlink", "rename"), is_lasting=True)
        assert verify(new_store(store.root, files), stored) is None


# -- meanwhile -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [flip, touch, Path.unlink])
def test_what_has_replaced_it_is_left_alone(store: DiskStore, change: Callable[[Path], object]) -> None:
    """An entry that was published anew before its turn came is what is stored; the old one is nobody's business."""
    stored = publish(store, PAGE_KEY, DATA, PAGE)
    old = body_path(store, stored)
    kept = old.with_name("kept")
    os.link(old, kept)
    newer = publish(store, PAGE_KEY, NEW, PAGE)
    kept.rename(old)  # as if it had not been removed yet
    change(old)
    before = tree(store.root)
    assert verify(store, stored) == newer
    assert {name: data for name, data in before.items() if name != str(old.relative_to(store.root))}.items() <= (
        tree(store.root).items()
    )
    assert not list(store.root.glob("quarantine/*"))
    assert content_of(store, PAGE_KEY) == (NEW, b"<page>")


def test_what_was_evicted_meanwhile_stays_gone(store: DiskStore) -> None:
    """Nothing to verify: no entry, and none is made."""
    stored = publish(store, PAGE_KEY, DATA, PAGE)
    result_of(store.remove((PAGE_KEY.digest,), CACHED_AT))
    assert verify(store, stored) is None
    assert entry_files(store) == set()


@pytest.mark.parametrize("change", [flip, flip_and_touch])
def test_a_publication_survives_at_any_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    """Whenever it comes into the verifying of a wrong body: afterwards the new one is there, whole, and nothing else."""
    locks: list[TellingLock] = []

    def new_lock() -> TellingLock:
        locks.append(TellingLock())
        return locks[-1]

    monkeypatch.setattr("pipcache.edges.disk.Lock", new_lock)
    for nth in range(100):
        root = tmp_path / str(nth)
        new_store(root).prepare()
        stored = publish(new_store(root), PAGE_KEY, DATA, PAGE)
        change(root / PAGE_KEY.folder / stored.body)
        store: DiskStore

        def come_in_between() -> None:
            publish(store, PAGE_KEY, NEW, PAGE)  # noqa: B023

        files = InterruptedFiles(nth, come_in_between, TellingLock())
        store = new_store(root, files)
        files.lock = locks[-1]
        found = verify(store, stored)
        assert found is None or found == store.read(PAGE_KEY)
        if not files.joined():
            assert nth > 5
            return
        again = new_store(root)
        assert content_of(again, PAGE_KEY) == (NEW, b"<page>"), nth
        clear(again)
        rest = entry_files(again) - named_files(again, PAGE_KEY)
        assert {Path(name).parent.name for name in rest} <= {"quarantine"}
    raise AssertionError("it never came to an end")


# -- by digest -------------------------------------------------------------------------------------------------------


def test_an_entry_is_found_by_the_digest_of_its_key(store: DiskStore) -> None:
    """For those who know the catalog only."""
    stored = publish(store, PAGE_KEY, DATA)
    assert store.find(PAGE_KEY.digest) == (PAGE_KEY, stored)
    assert store.find(KEY.digest) is None
    meta = (store.root / PAGE_KEY.folder / f"{PAGE_KEY.stem}.meta").read_bytes()
    (store.root / KEY.folder).mkdir(exist_ok=True)
    (store.root / KEY.folder / f"{KEY.stem}.meta").write_bytes(meta)
    assert store.find(KEY.digest) is None
