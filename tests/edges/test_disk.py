"""The cache directory is made ready or refused, read strictly, and used as long as it can be."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipcache.edges.disk import DiskStore
from pipcache.edges.publication import NewVariant
from pipcache.rules.errors import ConfigError, StorageError
from pipcache.rules.key import CacheKey
from tests.edges.storing import (
    KEY,
    LONG_AFTER,
    PAGE_KEY,
    clear,
    content_of,
    entry_files,
    new_store,
    publish,
    result_of,
)
from tests.fakes.files import FailingFiles, SpyingFiles, tree


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    """A store that is ready."""
    store = new_store(tmp_path / "cache")
    store.prepare()
    return store


def meta_of(store: DiskStore, key: CacheKey = KEY) -> Path:
    """The path of a meta."""
    return store.root / key.folder / f"{key.stem}.meta"


# -- prepare ---------------------------------------------------------------------------------------------------------


def test_a_directory_is_made_ready(tmp_path: Path) -> None:
    """It is made, for its owner only, with the folder of parts and the layout's version; nothing else is left in it."""
    store = new_store(tmp_path / "cache")
    store.prepare()
    assert tree(tmp_path) == {"cache/VERSION": b"1\n"}
    assert [path.name for path in (tmp_path / "cache" / "tmp").iterdir()] == []
    for folder in (store.root, store.root / "tmp"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((store.root / "VERSION").stat().st_mode) == 0o600


def test_a_directory_is_made_ready_again(store: DiskStore) -> None:
    """A second start finds the version and keeps what is stored; one that lost its version gets it back."""
    publish(store, KEY, b"data")
    (store.root / "VERSION").unlink()
    for _ in range(2):
        again = new_store(store.root)
        again.prepare()
        assert (store.root / "VERSION").read_bytes() == b"1\n"
        assert content_of(again, KEY) == (b"data", None)


@pytest.mark.parametrize("version", [b"2\n", b"", b"1 1\n", b"\xff\xfe", b"one\n"])
def test_another_layout_is_refused_and_left_alone(store: DiskStore, version: bytes) -> None:
    """The error, which is the operator's to mend, says what was found and what to do; nothing is written or removed."""
    publish(store, KEY, b"data")
    (store.root / "tmp").rmdir()
    (store.root / "VERSION").write_bytes(version)
    before = sorted(store.root.rglob("*"))
    files = SpyingFiles()
    with pytest.raises(ConfigError, match=r"has layout version .*, this program knows 1; set cache\.dir to another"):
        new_store(store.root, files).prepare()
    assert sorted(store.root.rglob("*")) == before
    assert set(files.names) == {"exists", "read_whole"}


def test_a_directory_that_cannot_be_used_is_told_with_a_remedy(tmp_path: Path) -> None:
    """Whichever call fails while it is made ready, the operator reads the place, the reason and what to do."""
    files = SpyingFiles()
    new_store(tmp_path / "spied", files).prepare()
    for nth in range(len(files.names)):
        failing = FailingFiles(nth, OSError(errno.EACCES, os.strerror(errno.EACCES)))
        root = tmp_path / str(nth)
        said = ""
        try:
            said = " ".join(new_store(root, failing).prepare())
        except StorageError as error:
            said = str(error)
        assert bool(said) == bool(failing.failed)
        assert said in (
            "",
            f"the cache directory {root} cannot be listed: Permission denied",
            f"{root} cannot be made its owner's alone: Permission denied",
            f"{root / 'tmp'} cannot be made its owner's alone: Permission denied",
            f"the cache directory {root} cannot be used: Permission denied; "
            f"give user {os.getuid()} the right to write it, or set cache.dir to another",
        )
        new_store(root).prepare()
        clear(new_store(root))
        assert tree(root) == {"VERSION": b"1\n"}


def test_a_file_in_the_directorys_place_is_told(tmp_path: Path) -> None:
    """``cache.dir`` that is a file is an error in words, not a crash."""
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be used"):
        new_store(tmp_path / "cache").prepare()


# -- read ------------------------------------------------------------------------------------------------------------


def test_what_was_never_stored_is_absent(store: DiskStore) -> None:
    """A miss is None, before and after the directory exists."""
    assert store.read(KEY) is None
    assert new_store(store.root / "nowhere").read(KEY) is None


def with_value(name: str, value: Any) -> Callable[[bytes], bytes]:
    """A meta with another value."""
    return lambda content: json.dumps({**json.loads(content), name: value}).encode()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:-20],
        lambda content: b"[]",
        lambda content: b"\xff" + content,
        lambda content: b"[" * 100_000,
        with_value("key", PAGE_KEY.text),
        with_value("status_code", 404),
        with_value("headers", {"x-a": "1\r\nset-cookie: b"}),
        with_value("headers", {"content-length": "1"}),
        with_value("body", "../../VERSION"),
        with_value("body", "/etc/hostname"),
        with_value("body", f"{PAGE_KEY.stem}.body"),
        with_value("body", f"{KEY.stem}.meta"),
    ],
)
def test_a_meta_that_is_not_ours_is_absent(store: DiskStore, spoil: Callable[[bytes], bytes]) -> None:
    """Bad JSON, another key or status, fields that would harm a response, a body elsewhere: a miss, then replaced."""
    publish(store, KEY, b"old")
    meta = meta_of(store)
    meta.write_bytes(spoil(meta.read_bytes()))
    assert store.read(KEY) is None
    publish(store, KEY, b"new")
    assert content_of(store, KEY) == (b"new", None)
    clear(store)
    assert entry_files(store) == {f"{KEY.folder}/{name}" for name in os.listdir(store.root / KEY.folder)}
    assert len(entry_files(store)) == 2


@pytest.mark.parametrize("damage", ["missing", "short", "long", "link", "folder"])
@pytest.mark.parametrize("which", ["body", "variant"])
def test_a_body_that_is_not_what_was_published_is_not_opened(store: DiskStore, damage: str, which: str) -> None:
    """Missing, of another size, a link, or a folder: None, for a body and for a page's variant."""
    stored = publish(store, PAGE_KEY, b"upstream's", NewVariant("html", "1", b"ours page!"))
    assert len(stored.variants) == 1
    path = store.root / PAGE_KEY.folder / (stored.body if which == "body" else stored.variants[0].file)
    content = path.read_bytes()
    path.unlink()
    if damage == "short":
        path.write_bytes(content[:-1])
    elif damage == "long":
        path.write_bytes(content + b"!")
    elif damage == "link":
        (store.root / "elsewhere").write_bytes(content)
        path.symlink_to(store.root / "elsewhere")
    elif damage == "folder":
        path.mkdir()
    assert (store.open_body(PAGE_KEY, stored) is None) == (which == "body")
    assert (store.open_variant(PAGE_KEY, stored.variants[0]) is None) == (which == "variant")
    assert content_of(store, PAGE_KEY) is None


def test_a_meta_that_is_a_link_is_absent(store: DiskStore) -> None:
    """Even to a meta of ours that is right."""
    publish(store, KEY, b"data")
    meta_of(store).rename(store.root / "elsewhere")
    meta_of(store).symlink_to(store.root / "elsewhere")
    assert store.read(KEY) is None


def test_opened_bodies_give_their_descriptors_back(store: DiskStore) -> None:
    """Neither a body that was read nor one that was refused holds a descriptor."""
    before = len(os.listdir("/proc/self/fd"))
    stored = publish(store, KEY, b"data")
    assert content_of(store, KEY) == (b"data", None)
    (store.root / KEY.folder / stored.body).write_bytes(b"other size")
    assert store.open_body(KEY, stored) is None
    assert len(os.listdir("/proc/self/fd")) == before


# -- uses ------------------------------------------------------------------------------------------------------------


def test_a_use_is_the_time_of_the_meta(store: DiskStore) -> None:
    """It is what the next scan says; what is gone meanwhile, or cannot be written, is left alone."""
    stored = publish(store, KEY, b"data")
    store.touch(KEY.digest, 1_700_000_123.0)
    assert [(e.digest, e.size_bytes, e.used_at) for e in result_of(store.scan((KEY.folder,), LONG_AFTER))] == [
        (KEY.digest, 4, 1_700_000_123.0)
    ]
    assert store.read(KEY) == stored
    store.touch(PAGE_KEY.digest, 1.0)
    assert entry_files(store) == {f"{KEY.folder}/{KEY.stem}.meta", f"{KEY.folder}/{KEY.stem}.body"}


# -- parts -----------------------------------------------------------------------------------------------------------


def test_a_part_has_a_name_of_our_own_and_a_lease(store: DiskStore) -> None:
    """32 random hex digits, readable by its owner, leased until it is closed, made also where tmp was removed."""
    (store.root / "tmp").rmdir()
    body = store.grow()
    assert body.part is not None
    path = Path(body.part.path)
    assert path.parent == store.root / "tmp"
    assert len(path.stem) == 32
    assert int(path.stem, 16)
    assert path.suffix == ".part"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert result_of(store.clear_parts(LONG_AFTER, 0.0)) == 0
    body.close()
    assert result_of(store.clear_parts(LONG_AFTER, 0.0)) == 1


def test_a_window_needs_no_disk(tmp_path: Path) -> None:
    """A body that is never to be stored touches nothing."""
    body = new_store(tmp_path / "nowhere").window()
    body.append(b"data")
    assert body.failure is None
    assert not body.is_whole_on_disk
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["create", "lease", "status"])
def test_without_a_file_a_body_grows_in_memory(tmp_path: Path, call: str) -> None:
    """Whatever the disk refuses a new part: the body says why, and neither a name nor a descriptor is left."""
    new_store(tmp_path).prepare()
    before = len(os.listdir("/proc/self/fd"))
    store = new_store(tmp_path, FailingFiles(0, OSError(errno.ENOLCK, "No locks available"), only=(call,)))
    body = store.grow()
    body.append(b"data")
    assert str(body.failure) == "cannot create a file in the cache directory: No locks available"
    assert body.read_at(0, 4) == b"data"
    body.close()
    assert entry_files(store) == set()
    assert len(os.listdir("/proc/self/fd")) == before
