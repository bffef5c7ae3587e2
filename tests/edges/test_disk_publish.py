"""Publishing: the layout and its order of writes, what a crash or an error at any step leaves, and removal."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from pathlib import Path

import pytest

from pipcache.edges.disk import DiskStore
from pipcache.edges.publication import NewVariant
from pipcache.rules.errors import StorageError
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
    response,
    result_of,
)
from tests.fakes.files import DyingFiles, FailingFiles, Killed, SpyingFiles, tree

OLD, NEW = b"old bytes", b"new bytes"  # of one length: sizes alone would not tell them apart
OLD_PAGE, NEW_PAGE = NewVariant("html", "1", b"<old>"), NewVariant("html", "1", b"<new>")
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    """A store that is ready."""
    store = new_store(tmp_path / "cache")
    store.prepare()
    return store


# -- the layout ------------------------------------------------------------------------------------------------------


def test_the_layout_is_the_promised_one(store: DiskStore) -> None:
    """Names are the SHA-256 of the key's text, 3 + 61 digits; the meta is JSON that says all of the entry."""
    publish(store, KEY, b"data")
    digest = hashlib.sha256(b"GET-/packages/aa/bb/a-1.whl").hexdigest()
    assert set(tree(store.root)) == {
        "VERSION",
        f"{digest[:3]}/{digest[3:]}.body",
        f"{digest[:3]}/{digest[3:]}.meta",
    }
    body = store.root / digest[:3] / f"{digest[3:]}.body"
    assert body.read_bytes() == b"data"
    status = body.stat()
    assert json.loads(body.with_suffix(".meta").read_bytes()) == {
        "key": "GET-/packages/aa/bb/a-1.whl",
        "status_code": 200,
        "headers": {"content-type": "text/plain", "x-one": ["1", "2"]},
        "cached_at": "2023-11-14T22:13:20.250000Z",
        "expires_at": "2023-11-14T22:18:20.250000Z",
        "body": body.name,
        "body_size": 4,
        "sha256": hashlib.sha256(b"data").hexdigest(),
        "etag": f'"{hashlib.md5(b"data").hexdigest()}"',
        "upstream": "one",
        "url": "https://one.example/a",
        "upstream_root": "https://one.example",
        "upstream_etag": 'W/"theirs"',
        "verified": {"inode": status.st_ino, "size": 4, "mtime_ns": status.st_mtime_ns},
    }


def test_an_entry_is_its_owners(store: DiskStore) -> None:
    """Folders are 0700, files 0600."""
    publish(store, PAGE_KEY, OLD, OLD_PAGE)
    folder = store.root / PAGE_KEY.folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_publish_says_what_the_meta_says(store: DiskStore) -> None:
    """What it returns is what is read back, variant included."""
    stored = publish(store, PAGE_KEY, OLD, OLD_PAGE)
    assert store.read(PAGE_KEY) == stored
    assert len(stored.variants) == 1
    assert (stored.variants[0].size, stored.variants[0].shape) == (5, "1")
    assert re.fullmatch(rf"{PAGE_KEY.stem}\.[0-9a-f]{{8}}\.html", stored.variants[0].file)
    assert content_of(store, PAGE_KEY) == (OLD, b"<old>")


def test_a_replacement_has_a_generation_and_the_replaced_goes(store: DiskStore) -> None:
    """A second body gets eight random digits, and the first and its variant are removed at once."""
    publish(store, PAGE_KEY, OLD, OLD_PAGE)
    generations = set()
    for _ in range(3):
        stored = publish(store, PAGE_KEY, NEW, NEW_PAGE)
        assert content_of(store, PAGE_KEY) == (NEW, b"<new>")
        assert entry_files(store) == named_files(store, PAGE_KEY)
        match = re.fullmatch(rf"{PAGE_KEY.stem}\.([0-9a-f]{{8}})\.body", stored.body)
        assert match
        generations.add(match[1])
    assert len(generations) == 3


def test_an_open_reader_keeps_the_whole_body(store: DiskStore) -> None:
    """A body that is replaced, then removed, is still read by who has it open."""
    readers = []
    for data in (OLD, NEW):
        stored = publish(store, KEY, data)
        body = store.open_body(KEY, stored)
        assert body is not None
        readers.append((body, data))
    assert result_of(store.remove((KEY.digest,), CACHED_AT)) == (KEY.digest,)
    assert entry_files(store) == set()
    for body, data in readers:
        assert body.read_at(0, 100) == data
        body.close()


def test_a_growing_body_is_still_read_when_it_is_published(store: DiskStore) -> None:
    """Followers go on reading through the descriptor; a discard afterwards takes nothing away."""
    body = store.grow()
    body.append(OLD)
    result_of(store.publish(KEY, body, response(KEY, OLD)))
    assert body.read_at(4, 100) == OLD[4:]
    body.discard()
    body.close()
    assert content_of(store, KEY) == (OLD, None)


def test_the_order_of_writes(tmp_path: Path) -> None:
    """Body: sync, rename. Then the meta: write, sync, rename. Only then the replaced files go."""
    files = SpyingFiles()
    store = new_store(tmp_path, files)
    store.prepare()
    publish(store, PAGE_KEY, OLD, OLD_PAGE)
    before = store.read(PAGE_KEY)
    assert before is not None
    body = store.grow()
    body.append(NEW)
    assert body.part is not None
    files.calls.clear()
    stored = result_of(store.publish(PAGE_KEY, body, response(PAGE_KEY, NEW), [NEW_PAGE]))
    writes = [call for call in files.calls if call[0] in ("write", "sync", "rename", "unlink")]
    targets = [os.path.basename(arguments[-1]) for name, arguments in writes if name in ("rename", "unlink")]
    assert [name for name, _ in writes] == [
        *("sync", "rename"),  # the body
        *("write", "sync", "rename"),  # the variant
        *("write", "sync", "rename"),  # the meta
        *("unlink", "unlink"),
    ]
    assert writes[0] == ("sync", (body.part.descriptor,))
    assert targets == [*stored.files, f"{PAGE_KEY.stem}.meta", *before.files]
    body.close()


# -- at every step ---------------------------------------------------------------------------------------------------


def most_steps(root: Path) -> int:
    """How many calls it takes at most to grow and publish a page, the first one or over another."""
    files = SpyingFiles()
    store = new_store(root, files)
    store.prepare()
    steps = []
    for data, page in ((OLD, OLD_PAGE), (NEW, NEW_PAGE)):
        files.calls.clear()
        publish(store, PAGE_KEY, data, page)
        steps.append(len([name for name in files.names if name != "close"]))
    return max(steps)


@pytest.mark.parametrize("has_old", [True, False])
def test_a_crash_at_any_step_leaves_the_old_or_the_new(tmp_path: Path, has_old: bool) -> None:
    """Whichever call is the last before the program dies: whole entries only, and the next start clears the rest."""
    old = (OLD, b"<old>") if has_old else None
    outcomes = set()
    for nth in range(most_steps(tmp_path / "spied") + 1):
        root = tmp_path / str(nth)
        new_store(root).prepare()
        if has_old:
            publish(new_store(root), PAGE_KEY, OLD, OLD_PAGE)
        files = DyingFiles(nth)
        try:
            publish(new_store(root, files), PAGE_KEY, NEW, NEW_PAGE)
        except Killed:
            pass
        else:
            assert not files.is_dead
        again = new_store(root)
        again.prepare()
        found = content_of(again, PAGE_KEY)
        assert found in (old, (NEW, b"<new>")), nth
        outcomes.add(found)
        clear(again)
        assert content_of(again, PAGE_KEY) == found
        assert entry_files(again) == named_files(again, PAGE_KEY), nth
        publish(again, PAGE_KEY, NEW, NEW_PAGE)
        assert content_of(again, PAGE_KEY) == (NEW, b"<new>")
    assert outcomes == {old, (NEW, b"<new>")}


@pytest.mark.parametrize("has_old", [True, False])
@pytest.mark.parametrize("is_lasting", [False, True])
def test_an_error_at_any_step_leaves_the_old_or_the_new(tmp_path: Path, has_old: bool, is_lasting: bool) -> None:
    """One call that fails, or all from then on: publish raises and the old stays, or it does not and the new is there.

    A single failure leaves nothing behind, but where the old meta could not be read or a file not be removed: that the
    next start clears.
    """
    old = (OLD, b"<old>") if has_old else None
    outcomes = set()
    for nth in range(most_steps(tmp_path / "spied") + 1):
        root = tmp_path / str(nth)
        new_store(root).prepare()
        if has_old:
            publish(new_store(root), PAGE_KEY, OLD, OLD_PAGE)
        files = FailingFiles(nth, FULL, is_lasting=is_lasting)
        store = new_store(root, files)
        body = store.grow()
        body.append(NEW)
        expected = old
        if body.is_whole_on_disk:
            try:
                result_of(store.publish(PAGE_KEY, body, response(PAGE_KEY, NEW), [NEW_PAGE]))
                expected = (NEW, b"<new>")
            except StorageError:
                body.discard()
        body.close()
        again = new_store(root)
        assert content_of(again, PAGE_KEY) == expected, nth
        outcomes.add(expected)
        if not is_lasting and files.failed not in (["unlink"], ["identity"], ["read_whole"], ["open"]):
            assert entry_files(again) == named_files(again, PAGE_KEY), (nth, files.failed)
        clear(again)
        assert content_of(again, PAGE_KEY) == expected
        assert entry_files(again) == named_files(again, PAGE_KEY), nth
    assert outcomes == {old, (NEW, b"<new>")}


def test_an_error_is_told_in_words(tmp_path: Path) -> None:
    """What was being done, and what the system said."""
    with pytest.raises(StorageError, match=r"^cannot publish in the cache directory: No space left on device$"):
        publish(new_store(tmp_path, FailingFiles(0, FULL, only=("sync",))), KEY, NEW)


def test_a_directory_that_was_emptied_under_us_is_a_cold_cache(store: DiskStore) -> None:
    """``rm -rf`` of everything inside: a miss, and the next publication makes what it needs."""
    publish(store, KEY, OLD)
    for path in sorted(store.root.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert store.read(KEY) is None
    publish(store, KEY, NEW)
    assert content_of(store, KEY) == (NEW, None)


# -- what is found out or made later ---------------------------------------------------------------------------------


def unchanged(stored: StoredResponse) -> StoredResponse:
    """The meta as it is."""
    return stored


def test_a_page_gets_another_rendering(store: DiskStore) -> None:
    """The body stays, one of another shape takes the old one's place, one of another kind stands beside it."""
    before = publish(store, PAGE_KEY, OLD, OLD_PAGE)
    assert result_of(store.amend(PAGE_KEY, before, unchanged, [NewVariant("html", "2", b"<other>")])) is not None
    changed = result_of(store.amend(PAGE_KEY, before, unchanged, [NewVariant("json.gz", "2", b"{}")]))
    assert changed is not None
    assert store.read(PAGE_KEY) == changed
    assert [(variant.kind, variant.shape, variant.size) for variant in changed.variants] == [
        ("html", "2", 7),
        ("json.gz", "2", 2),
    ]
    assert changed.body == before.body
    assert content_of(store, PAGE_KEY) == (OLD, b"<other>")
    assert entry_files(store) == named_files(store, PAGE_KEY)


def test_a_rendering_may_be_a_body_of_its_own(store: DiskStore) -> None:
    """A long one grows on disk: it gets its name without being copied."""
    before = publish(store, PAGE_KEY, OLD, OLD_PAGE)
    rendering = store.grow()
    rendering.append(b"long")
    changed = result_of(store.amend(PAGE_KEY, before, unchanged, [NewVariant("json", "1", rendering)]))
    rendering.close()
    assert changed is not None
    opened = store.open_variant(PAGE_KEY, changed.variants[1])
    assert opened is not None
    assert opened.read_at(0, 9) == b"long"
    opened.close()
    assert entry_files(store) == named_files(store, PAGE_KEY)


def test_a_validated_page_keeps_its_renderings(store: DiskStore) -> None:
    """New times in the meta, and nothing else is written; what was added meanwhile stays."""
    before = publish(store, PAGE_KEY, OLD, OLD_PAGE)
    result_of(store.amend(PAGE_KEY, before, unchanged, [NewVariant("json", "1", b"{}")]))
    changed = result_of(store.amend(PAGE_KEY, before, lambda stored: stored.freshened(5.0, 9.0)))
    assert changed is not None
    assert (changed.cached_at, changed.expires_at, len(changed.variants)) == (5.0, 9.0, 2)
    assert store.read(PAGE_KEY) == changed
    assert entry_files(store) == named_files(store, PAGE_KEY)


@pytest.mark.parametrize("meanwhile", ["replaced", "removed"])
def test_what_is_no_longer_stored_is_not_amended(store: DiskStore, meanwhile: str) -> None:
    """A page that was replaced or evicted while it was rendered: what is stored now stays, and nothing is left over."""
    before = publish(store, PAGE_KEY, OLD, OLD_PAGE)
    if meanwhile == "replaced":
        publish(store, PAGE_KEY, NEW, NEW_PAGE, etag='"new"')
    else:
        result_of(store.remove((PAGE_KEY.digest,), CACHED_AT))
    files = tree(store.root)
    assert result_of(store.amend(PAGE_KEY, before, unchanged, [OLD_PAGE])) is None
    assert tree(store.root) == files


# -- remove ----------------------------------------------------------------------------------------------------------


def test_removal_takes_entries_and_says_which_are_gone(store: DiskStore) -> None:
    """Meta, body and variant go; an entry that was gone already is gone; others stay."""
    publish(store, KEY, OLD)
    publish(store, PAGE_KEY, OLD, OLD_PAGE)
    absent = "0" * 64
    assert result_of(store.remove((PAGE_KEY.digest, absent), CACHED_AT)) == (PAGE_KEY.digest, absent)
    assert entry_files(store) == named_files(store, KEY) != set()


@pytest.mark.parametrize(("before", "is_gone"), [(CACHED_AT - 0.001, False), (CACHED_AT, True), (CACHED_AT + 1, True)])
def test_removal_spares_what_was_cached_later(store: DiskStore, before: float, is_gone: bool) -> None:
    """An entry that was published anew since the eviction was planned is not the one that was meant."""
    publish(store, KEY, NEW)
    assert result_of(store.remove((KEY.digest,), before)) == ((KEY.digest,) if is_gone else ())
    assert (content_of(store, KEY) is None) == is_gone


def test_a_meta_that_cannot_be_read_is_removed(store: DiskStore) -> None:
    """Nobody can be served from it; its body is an orphan from then on."""
    publish(store, KEY, OLD)
    (store.root / KEY.folder / f"{KEY.stem}.meta").write_bytes(b"{")
    assert result_of(store.remove((KEY.digest,), 0)) == (KEY.digest,)
    clear(store)
    assert entry_files(store) == set()


def test_a_removal_that_the_disk_refuses(store: DiskStore) -> None:
    """A meta that stays is not reported gone; a body that stays is cleared by the next start."""
    publish(store, KEY, OLD)
    assert result_of(new_store(store.root, FailingFiles(0, only=("unlink",))).remove((KEY.digest,), CACHED_AT)) == ()
    assert content_of(store, KEY) == (OLD, None)
    assert result_of(new_store(store.root, FailingFiles(1, only=("unlink",))).remove((KEY.digest,), CACHED_AT)) == (
        KEY.digest,
    )
    assert store.read(KEY) is None
    clear(store)
    assert entry_files(store) == set()
