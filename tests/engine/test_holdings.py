"""What is kept, and its books: found on disk, forgotten when gone, pinned while read, promised while it comes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipcache.engine.follower import CHUNK_BYTES, CHUNKS_A_TURN
from pipcache.engine.holdings import NOTE_USE_SECONDS
from pipcache.rules.catalog import Limits
from pipcache.rules.errors import TruncatedBody
from pipcache.rules.key import CacheKey
from tests.fakes.cache import EPOCH, Cached
from tests.fakes.engine import begin, result_of

PATH = "/other/thing"
KEY = CacheKey(f"GET-{PATH}")
BODY = b"0123456789" * 100


def used_on_disk(cached: Cached) -> float:
    """When the entry was last used, as its meta's time says."""
    (meta,) = cached.entries()
    return meta.stat().st_mtime


def test_what_the_catalog_does_not_know_is_found_on_disk(cached: Cached) -> None:
    """The first hit after a start needs no scan; the catalog learns of it."""
    cached.keep_file(PATH, BODY)
    again = Cached(cached.store.root)
    assert again.get(PATH).body == BODY
    assert again.catalog.total_bytes == cached.catalog.total_bytes >= len(BODY)
    again.check_books()


@pytest.mark.parametrize("gone", ["all", "meta", "body"])
def test_what_the_disk_lacks_is_forgotten(cached: Cached, gone: str) -> None:
    """A directory that was emptied under us is a cold cache, in the books too."""
    cached.keep_file(PATH, BODY)
    if gone == "all":
        shutil.rmtree(cached.store.root)
    else:
        next(cached.store.root.glob(f"???/*.{gone}")).unlink()
    assert cached.holdings.find_fresh(KEY) is None
    assert (len(cached.catalog), cached.catalog.total_bytes) == (0, 0)
    visit = cached.get(PATH)
    cached.client.answer_whole(BODY)
    assert (visit.said, cached.get(PATH).said) == ("MISS", "HIT")
    assert len(cached.catalog) == 1


def test_a_body_of_another_size_is_not_served(cached: Cached) -> None:
    """Somebody wrote to it."""
    cached.keep_file(PATH, BODY)
    next(cached.store.root.glob("???/*.body")).write_bytes(BODY[:-1])
    visit = cached.get(PATH)
    cached.client.answer_whole(BODY)
    assert (visit.said, visit.body) == ("MISS", BODY)


def test_a_body_that_becomes_short_while_it_is_read_breaks_its_client_off(cached: Cached) -> None:
    """What was sent does not look complete; what was open is closed, and its pin taken back."""
    content = BODY * (2 * CHUNKS_A_TURN * CHUNK_BYTES // len(BODY))
    cached.keep_file(PATH, content)
    visit = cached.get(PATH)
    sent = bytes(visit.sink.data)
    assert 0 < len(sent) < len(content)
    next(cached.store.root.glob("???/*.body")).write_bytes(b"")
    assert (visit.end, visit.body) == ("aborted", sent)


def test_an_entry_is_pinned_while_it_is_read_and_while_it_comes(cached: Cached) -> None:
    """So nothing evicts it; not a moment longer."""
    visit, response = cached.begin_file(PATH, len(BODY))
    assert cached.catalog.is_pinned(KEY.digest)
    response.give_all(BODY)
    assert visit.is_whole
    assert not cached.catalog.is_pinned(KEY.digest)
    kept = cached.holdings.find_fresh(KEY)
    assert kept is not None
    assert cached.catalog.is_pinned(KEY.digest)
    kept.body.close()
    kept.body.close()
    assert not cached.catalog.is_pinned(KEY.digest)


@pytest.mark.parametrize("end", ["whole", "cut"])
def test_a_known_length_is_promised_until_the_end(cached: Cached, end: str) -> None:
    """Whatever end that is; then it is an entry, or nothing."""
    _, response = cached.begin_file(PATH, len(BODY))
    assert cached.catalog.reserved_bytes == len(BODY)
    response.give(BODY[:-1])
    if end == "whole":
        response.give(BODY[-1:])
        response.end()
    else:
        response.fail(TruncatedBody("cut"))
    assert cached.catalog.reserved_bytes == 0
    assert len(cached.catalog) == (1 if end == "whole" else 0)


@pytest.mark.parametrize("length", [901, 1001])
def test_a_promise_over_the_high_mark_calls_for_room_but_one_too_big_to_keep_does_not(
    tmp_path: Path, length: int
) -> None:
    """What is passed on takes no room."""
    cached = Cached(tmp_path / "cache", Limits(max_bytes=2000, max_entries=100, high=0.45, low=0.3))
    visit, response = cached.begin_file(PATH, length)
    assert cached.nudges == (1 if length <= 1000 else 0)
    assert cached.catalog.reserved_bytes == (length if length <= 1000 else 0)
    response.give_all(bytes(length))
    assert visit.is_whole
    cached.check_books()


def test_a_publication_over_the_high_mark_calls_for_room(tmp_path: Path) -> None:
    """Entries count as well as bytes."""
    cached = Cached(tmp_path / "cache", Limits(max_bytes=1 << 20, max_entries=4, high=0.5, low=0.3))
    for number in range(3):
        cached.keep_file(f"/other/{number}", b"x")
        assert cached.nudges == (1 if number == 2 else 0)
    cached.check_books()


def test_a_use_is_noted_on_disk_once_an_hour(cached: Cached) -> None:
    """In memory at once."""
    cached.keep_file(PATH, BODY)
    written_at = used_on_disk(cached)
    cached.clock.advance(10)
    assert cached.get(PATH, method="HEAD").said == "HIT"
    entry = cached.catalog.get(KEY.digest)
    assert entry is not None
    assert (entry.used_at, used_on_disk(cached)) == (EPOCH + 10, written_at)


def test_a_use_an_hour_later_is_written(tmp_path: Path) -> None:
    """The mtime of the meta is what a restart goes by."""
    cached = Cached(tmp_path / "cache")
    path = "/packages/x.txt"
    cached.keep_file(path, BODY)
    cached.clock.advance(NOTE_USE_SECONDS)
    cached.get(path)
    assert used_on_disk(cached) == EPOCH + NOTE_USE_SECONDS
    cached.check_books()


def test_a_clean_stop_writes_the_newer_uses(tmp_path: Path) -> None:
    """Of all that were used since theirs was written, and of no others; what is gone is left alone."""
    cached = Cached(tmp_path / "cache")
    paths = [f"/packages/{name}.txt" for name in "abc"]
    for path in paths:
        cached.keep_file(path, BODY)
    digests = [CacheKey(f"GET-{path}").digest for path in paths]
    metas = [cached.store.root / digest[:3] / f"{digest[3:]}.meta" for digest in digests]
    before = metas[1].stat().st_mtime
    cached.clock.advance(100)
    cached.get(paths[0])
    cached.get(paths[2])
    metas[2].unlink()
    result_of(begin(cached.holdings.note_uses()))
    assert (metas[0].stat().st_mtime, metas[1].stat().st_mtime) == (EPOCH + 100, before)
    assert not metas[2].exists()
    cached.check_books()


def test_notes_of_what_is_gone_are_dropped(cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with all that ever was."""
    monkeypatch.setattr("pipcache.engine.holdings._SPARE_NOTES", 2)
    for number in range(20):
        cached.keep_file(f"/other/{number}", b"x")
        cached.catalog.discard(CacheKey(f"GET-/other/{number}").digest)
    assert len(cached.holdings._noted_at) <= 4


def test_a_clock_that_was_set_back_makes_what_is_kept_stale(cached: Cached) -> None:
    """It could seem fresh for as long as that."""
    cached.clock.advance(1000)
    cached.keep_file(PATH, BODY)
    cached.clock.rightNow -= 500
    visit = cached.get(PATH)
    cached.client.answer_whole(BODY)
    assert visit.said == "MISS"


def test_what_is_published_does_not_count_twice(tmp_path: Path) -> None:
    """The space that was promised to a body becomes its entry's: a cache under its mark evicts nothing."""
    cached = Cached(tmp_path / "cache", limits=Limits(max_bytes=1000, max_entries=100, high=0.9, low=0.7))
    body = b"x" * 450
    for number in (1, 2):
        cached.get(f"/other/{number}")
        cached.client.answer_whole(body)
    cached.check_books()
    assert (cached.catalog.total_bytes, cached.nudges) == (900, 0)
