"""The scan at start: what it finds, what it clears, and what it must not touch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipcache.edges.disk import DiskStore
from pipcache.edges.files import Files
from pipcache.edges.publication import NewVariant
from pipcache.edges.scan import ORPHAN_GRACE_SECONDS, ScannedEntry
from pipcache.rules.key import CacheKey
from tests.edges.storing import (
    CACHED_AT,
    KEY,
    LONG_AFTER,
    PAGE_KEY,
    clear,
    content_of,
    entry_files,
    named_files,
    new_store,
    publish,
    result_of,
)
from tests.fakes.files import tree

NOW = 1_800_000_000.0
STEM = "0" * 61
PART = "0123456789abcdef" * 2 + ".part"


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    """A store that is ready."""
    store = new_store(tmp_path / "cache")
    store.prepare()
    return store


def put(store: DiskStore, name: str, modified_at: float = 0.0, data: bytes = b"data") -> Path:
    """A file in the directory that was not published."""
    path = store.root / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (modified_at, modified_at))
    return path


def scan(store: DiskStore, *keys: CacheKey, now: float = NOW) -> set[ScannedEntry]:
    """What the scan says of the keys' folders."""
    return set(result_of(store.scan(tuple({key.folder for key in keys}), now)))


def test_there_are_4096_folders() -> None:
    """Three hex digits each, all of them, once."""
    assert tuple(DiskStore.folders()) == tuple(f"{number:03x}" for number in range(4096))


def test_entries_are_found_with_their_size_and_last_use(store: DiskStore) -> None:
    """Sizes are of body and variant, the last use is the meta's time; nothing of an entry is touched."""
    publish(store, KEY, b"12345")
    publish(store, PAGE_KEY, b"123", NewVariant("html", "1", b"12"))
    store.touch(KEY.digest, 1_700_000_001.0)
    store.touch(PAGE_KEY.digest, 1_700_000_002.0)
    before = tree(store.root)
    assert scan(new_store(store.root), KEY, PAGE_KEY, now=LONG_AFTER) == {
        ScannedEntry(KEY.digest, 5, 1_700_000_001.0),
        ScannedEntry(PAGE_KEY.digest, 5, 1_700_000_002.0),
    }
    assert tree(store.root) == before


def test_folders_that_are_not_there_are_empty(store: DiskStore) -> None:
    """Most of the 4096 do not exist; a file in a folder's place is no folder."""
    put(store, "fff")
    assert result_of(store.scan(("000", "fff"), NOW)) == ()
    assert (store.root / "fff").read_bytes() == b"data"


# -- orphans ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [f"{STEM}.body", f"{STEM}.01234567.body", f"{STEM}.89abcdef.html", f"{STEM}.html"])
@pytest.mark.parametrize(
    ("age", "stays"), [(0, True), (ORPHAN_GRACE_SECONDS, True), (ORPHAN_GRACE_SECONDS + 1, False), (1e6, False)]
)
def test_orphans_go_after_a_minute(store: DiskStore, name: str, age: float, stays: bool) -> None:
    """A body or variant that no meta names may belong to a publication, for a minute."""
    put(store, f"abc/{name}", NOW - age)
    assert result_of(store.scan(("abc",), NOW)) == ()
    assert entry_files(store) == ({f"abc/{name}"} if stays else set())


def test_orphans_beside_an_entry_go(store: DiskStore) -> None:
    """Earlier generations of an entry that is there are orphans too; the entry stays."""
    publish(store, KEY, b"data")
    put(store, f"{KEY.folder}/{KEY.stem}.01234567.body")
    put(store, f"{KEY.folder}/{KEY.stem}.01234567.html")
    assert len(scan(store, KEY)) == 1
    assert entry_files(store) == named_files(store, KEY)


def test_an_orphan_whose_writer_is_alive_stays(store: DiskStore) -> None:
    """A body may be renamed long after its last byte came; the lease says that its meta is being written."""
    path = put(store, f"abc/{STEM}.body")
    files = Files()
    writer = files.open(path)
    assert files.lease(writer)
    clear(store)
    assert path.exists()
    files.close(writer)
    clear(store)
    assert not path.exists()


# -- broken pairs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "break_it",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b"too long for the meta"),
        lambda path: path.write_bytes(b""),
    ],
)
@pytest.mark.parametrize("which", [0, 1])
def test_broken_pairs_are_dropped(store: DiskStore, break_it: Callable[[Path], object], which: int) -> None:
    """A meta goes at once when its body or variant is missing or of another size; what is left is an orphan."""
    stored = publish(store, PAGE_KEY, b"data", NewVariant("html", "1", b"page"))
    publish(store, KEY, b"data")
    break_it(store.root / PAGE_KEY.folder / stored.files[which])
    assert {entry.digest for entry in scan(store, KEY, PAGE_KEY, now=0)} == {KEY.digest}
    assert store.read(PAGE_KEY) is None
    clear(store)
    assert entry_files(store) == named_files(store, KEY)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"key": 1}', b'{"key": "GET-/"}'])
def test_metas_that_cannot_be_read_are_dropped(store: DiskStore, content: bytes) -> None:
    """A meta that is none is of no use to anybody, whatever its age."""
    put(store, f"abc/{STEM}.meta", NOW, content)
    assert result_of(store.scan(("abc",), NOW)) == ()
    assert entry_files(store) == set()


def test_a_meta_under_another_keys_name_is_dropped(store: DiskStore) -> None:
    """It would be served for what it is not; the entry that it was copied from stays."""
    publish(store, KEY, b"data")
    meta = (store.root / KEY.folder / f"{KEY.stem}.meta").read_bytes()
    put(store, f"{KEY.folder}/{STEM}.meta", data=meta)
    assert {entry.digest for entry in scan(store, KEY)} == {KEY.digest}
    assert entry_files(store) == named_files(store, KEY)


# -- what is not ours ------------------------------------------------------------------------------------------------


FOREIGN = [
    "notes.txt",
    "tmp/notes.txt",
    "tmp/a.part",
    f"tmp/{PART.upper()}",
    f"tmp/{PART}.bak",
    f"tmp/{STEM}.body",
    "abc/notes.txt",
    f"abc/{STEM}.bak",
    f"abc/{STEM}",
    f"abc/{STEM}x.body",
    f"abc/{STEM[1:]}.body",
    f"abc/{STEM[1:]}A.body",
    f"abc/{STEM}.0123456.body",
    f"abc/{STEM}.01234567.meta",
    f"abc/.{STEM}.body",
    f"abcd/{STEM}.body",
    f"{STEM}.body",
]


def test_foreign_files_are_never_touched(store: DiskStore) -> None:
    """Only names of exactly our own form, in the folders where they belong, are ever removed, however old."""
    for name in FOREIGN:
        put(store, name)
    (store.root / "abc" / f"{STEM}.body").mkdir()
    (store.root / "tmp" / PART).mkdir()
    before = tree(store.root)
    result_of(store.clear_parts(NOW, 0.0))
    assert result_of(store.scan(tuple(store.folders()), LONG_AFTER)) == ()
    assert tree(store.root) == before
    assert (store.root / "abc" / f"{STEM}.body").is_dir()
    assert (store.root / "tmp" / PART).is_dir()


def test_links_are_not_followed(store: DiskStore, tmp_path: Path) -> None:
    """A link under a name of ours leads to nothing that is removed, leased or counted; nor does a pipe hold us up."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"data")
    os.utime(outside, (0, 0))
    stored = publish(store, KEY, b"data")
    body = store.root / KEY.folder / stored.body
    body.unlink()
    body.symlink_to(outside)
    links = [store.root / "tmp" / PART, put(store, f"abc/{STEM}.body"), put(store, f"abc/{STEM}.meta")]
    for link in links:
        link.unlink(missing_ok=True)
        link.symlink_to(outside)
    os.mkfifo(store.root / "abc" / f"{'1' * 61}.body")
    assert result_of(store.clear_parts(NOW, 0.0)) == 0
    assert result_of(store.scan((KEY.folder, "abc"), LONG_AFTER)) == ()
    assert store.read(KEY) is None
    assert outside.read_bytes() == b"data"
    assert outside.stat().st_mtime == 0


# -- parts -----------------------------------------------------------------------------------------------------------


def test_parts_without_a_lease_go(store: DiskStore) -> None:
    """However young; a part that somebody writes stays, as long as its descriptor is open, also under another store."""
    put(store, f"tmp/{PART}", NOW)
    growing = store.grow()
    assert growing.part is not None
    other = new_store(store.root)
    assert result_of(other.clear_parts(LONG_AFTER, 0.0)) == 1
    assert entry_files(store) == {f"tmp/{Path(growing.part.path).name}"}
    growing.append(b"data")
    growing.close()
    assert result_of(other.clear_parts(LONG_AFTER, 0.0)) == 1
    assert entry_files(store) == set()


def test_a_lease_through_another_descriptor_counts(store: DiskStore) -> None:
    """Whoever holds it, a resumed download for instance: the part stays until it is given back."""
    path = put(store, f"tmp/{PART}")
    files = Files()
    holder = files.open(path)
    assert files.lease(holder)
    assert result_of(store.clear_parts(NOW, 0.0)) == 0
    assert path.exists()
    files.close(holder)
    assert result_of(store.clear_parts(NOW, 0.0)) == 1
    assert not path.exists()


def test_no_tmp_no_parts(store: DiskStore) -> None:
    """A directory without the folder of parts has none."""
    (store.root / "tmp").rmdir()
    assert result_of(store.clear_parts(NOW, 0.0)) == 0


def test_dropping_parts_gives_descriptors_back(store: DiskStore) -> None:
    """Those that are dropped, and those that are not."""
    growing = store.grow()
    put(store, f"tmp/{PART}")
    before = len(os.listdir("/proc/self/fd"))
    result_of(store.clear_parts(NOW, 0.0))
    assert len(os.listdir("/proc/self/fd")) == before
    growing.close()


def test_an_entry_survives_any_number_of_scans(store: DiskStore) -> None:
    """What is published stays, with all that it names, however often and however late it is scanned."""
    publish(store, PAGE_KEY, b"data", NewVariant("html", "1", b"page"), cached_at=CACHED_AT + 1)
    for now in (0.0, NOW, LONG_AFTER):
        clear(store, now)
    assert content_of(store, PAGE_KEY) == (b"data", b"page")
