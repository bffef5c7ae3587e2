"""What the janitor learns at the start, and clears on the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipcache.engine.janitor import FOLDERS_A_BATCH, Janitor
from pipcache.rules.catalog import Limits
from pipcache.rules.key import CacheKey
from tests.fakes.cache import EPOCH, Cached
from tests.fakes.engine import begin, is_waiting, result_of

PATHS = [f"/packages/{number}.txt" for number in range(10)]


def janitor_of(cached: Cached) -> Janitor:
    """A janitor of this cache."""
    return Janitor(cached.store, cached.catalog, cached.limits, cached.clock, cached.now, cached.events)


@pytest.fixture
def crowded(tmp_path: Path) -> Cached:
    """A cache of ten entries that may hold nine and should hold five."""
    cached = Cached(tmp_path / "cache", Limits(max_bytes=10_000, max_entries=100, high=0.9, low=0.5))
    for path in PATHS:
        cached.keep_file(path, bytes(1000))
        cached.clock.advance(1)
    return cached


def test_a_scan_learns_sizes_and_the_order_of_use(crowded: Cached) -> None:
    """A restart evicts what it would have evicted before."""
    result_of(begin(crowded.holdings.note_uses()))
    for number, meta in enumerate(CacheKey(f"GET-{path}").digest for path in PATHS):
        used_at = EPOCH + (50 if number == 0 else number)
        os.utime(crowded.store.root / meta[:3] / f"{meta[3:]}.meta", (used_at, used_at))
    again = Cached(crowded.store.root, crowded.limits)
    again.clock.advance(100)
    janitor = janitor_of(again)
    assert not janitor.has_scanned
    result_of(begin(janitor.scan()))
    assert janitor.has_scanned
    assert (len(again.catalog), again.catalog.total_bytes) == (10, crowded.catalog.total_bytes)
    assert again.events.of("scanned") == [(10, 10_000, 0.0)]
    janitor.nudge()
    kept = [number for number, path in enumerate(PATHS) if CacheKey(f"GET-{path}").digest in again.catalog]
    assert kept == [0, 6, 7, 8, 9]
    assert len(again.entries()) == 5


def test_a_use_in_the_future_counts_as_now(crowded: Cached) -> None:
    """Else it would never be evicted."""
    digest = CacheKey(f"GET-{PATHS[0]}").digest
    os.utime(crowded.store.root / digest[:3] / f"{digest[3:]}.meta", (EPOCH + 1e9, EPOCH + 1e9))
    again = Cached(crowded.store.root, crowded.limits)
    again.clock.advance(100)
    result_of(begin(janitor_of(again).scan()))
    entry = again.catalog.get(digest)
    assert entry is not None
    assert entry.used_at == EPOCH + 100


def test_a_scan_goes_in_batches_and_stops_between_them(crowded: Cached) -> None:
    """One that was stopped has not scanned, and says nothing."""
    again = Cached(crowded.store.root, crowded.limits)
    again.threads.is_held = True
    janitor = janitor_of(again)
    scan = begin(janitor.scan())
    janitor.stop()
    again.threads.let_go()
    result_of(scan)
    assert (janitor.has_scanned, again.events.all, len(again.catalog)) == (False, [], 0)
    calls = again.threads.calls
    result_of(begin(janitor_of(again).scan()))
    assert again.threads.calls - calls == 1 + 4096 // FOLDERS_A_BATCH


def test_what_is_fetched_during_a_scan_is_counted_once(crowded: Cached) -> None:
    """The scan may have read the disk before or after."""
    again = Cached(crowded.store.root, crowded.limits)
    again.threads.is_held = True
    scan = begin(janitor_of(again).scan())
    visit = again.get("/packages/new.txt")
    again.client.answer_whole(bytes(500))
    assert visit.is_whole
    assert is_waiting(scan)
    again.threads.let_go()
    result_of(scan)
    assert (len(again.catalog), again.catalog.total_bytes) == (11, 10_500)
    again.check_books()


def test_a_scan_that_fails_is_logged_and_over(crowded: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it found until then is known; serving does not depend on it."""
    janitor = janitor_of(crowded)
    monkeypatch.setattr(crowded.store, "scan", lambda *_: 1 // 0)
    result_of(begin(janitor.scan()))
    assert janitor.has_scanned
    assert crowded.events.of("crashed") == [("scanning the cache directory",)]


def test_a_scan_clears_the_parts_that_nobody_writes(crowded: Cached) -> None:
    """One that is being written is left alone."""
    stale = crowded.store.root / "tmp" / f"{'a' * 32}.part"
    stale.write_bytes(b"half")
    visit, response = crowded.begin_file("/packages/growing.txt", 4)
    result_of(begin(janitor_of(crowded).scan()))
    assert (stale.exists(), len(crowded.parts())) == (False, 1)
    response.give_all(b"data")
    assert visit.is_whole
