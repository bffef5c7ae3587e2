"""The scrub: finds what the file system does not tell of, takes its time, and ends when it is told to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipcache.engine import scrub as scrubbing
from pipcache.engine.scrub import PAUSE_SECONDS, Scrub
from pipcache.rules.key import CacheKey
from tests.fakes.cache import Cached
from tests.fakes.rest import notes, quarantined

INTERVAL = 1000.0
PATHS = [f"/packages/{number}.txt" for number in range(8)]
SIZE = 1000


def body_of(cached: Cached, path: str) -> Path:
    """The body file of a kept path."""
    key = CacheKey(f"GET-{path}")
    return cached.store.root / key.folder / f"{key.stem}.body"


def flip(path: Path) -> None:
    """Change one byte as a disk does: behind the file system's back."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def scrub_of(cached: Cached, interval: float = INTERVAL) -> Scrub:
    """A scrub of this cache."""
    return Scrub(cached.store, cached.catalog, cached.clock, cached.events, interval)


def run(cached: Cached, seconds: float, step: float = 0.25) -> int:
    """Let time pass; how many entries were read meanwhile."""
    before = cached.threads.calls
    for _ in range(round(seconds / step)):
        cached.clock.advance(step)
    return cached.threads.calls - before


@pytest.fixture
def kept(cached: Cached) -> Cached:
    """A cache of some entries; nothing of a scrub is left when the test is over."""
    for path in PATHS:
        cached.keep_file(path, bytes(SIZE))
    return cached


def test_a_flipped_bit_is_found_within_the_interval(kept: Cached) -> None:
    """No hit sees it; the scrub quarantines the body and forgets the entry, so that it is fetched again."""
    flip(body_of(kept, PATHS[3]))
    assert kept.get(PATHS[3]).said == "HIT"
    scrub = scrub_of(kept)
    scrub.start()
    run(kept, INTERVAL)
    scrub.stop()
    assert kept.events.of("found_wrong") == [(f"GET-{PATHS[3]}",)]
    assert ([note["found"] for note in notes(kept)], [len(body) for body in quarantined(kept)]) == (["on disk"], [SIZE])
    assert (len(kept.catalog), kept.catalog.total_bytes) == (len(PATHS) - 1, SIZE * (len(PATHS) - 1))
    visit = kept.get(PATHS[3])
    kept.client.answer_whole(bytes(SIZE))
    assert (visit.said, kept.get(PATHS[3]).said) == ("MISS", "HIT")


def test_each_entry_is_read_once_an_interval(kept: Cached) -> None:
    """Within its first half; then nothing, until the next one begins."""
    scrub = scrub_of(kept)
    scrub.start()
    assert 1 + run(kept, INTERVAL / 2) == len(PATHS)
    assert run(kept, INTERVAL / 2 - 1) == 0
    assert run(kept, 1 + INTERVAL / 2) == len(PATHS)
    scrub.stop()


def test_it_never_reads_faster_than_it_may(kept: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the interval and full the cache."""
    monkeypatch.setattr(scrubbing, "MAX_BYTES_A_SECOND", SIZE // 2)
    scrub = scrub_of(kept, 1.0)
    scrub.start()
    found = [run(kept, 10) for _ in range(3)]
    scrub.stop()
    assert max(found) <= 5
    assert sum(found) >= 12


def test_small_files_are_not_read_in_a_rush(kept: Cached) -> None:
    """There is a pause after each, but where the interval leaves no time for it."""
    scrub = scrub_of(kept, 1.0)
    scrub.start()
    assert run(kept, 0.3, 0.01) <= 0.3 / PAUSE_SECONDS
    scrub.stop()


def test_it_ends_where_it_is_told_to(kept: Cached) -> None:
    """Between two entries; nothing is due any more. One that never began ends too."""
    scrub = scrub_of(kept)
    scrub.stop()
    scrub.start()
    run(kept, 100)
    scrub.stop()
    assert (run(kept, 2 * INTERVAL), kept.clock.getDelayedCalls()) == (0, [])


def test_told_to_end_while_it_reads_it_reads_no_further(kept: Cached) -> None:
    """The thread comes to its own end; what it found is on disk, and nothing is logged."""
    flip(body_of(kept, PATHS[0]))
    scrub = scrub_of(kept)
    kept.threads.is_held = True
    scrub.start()
    scrub.stop()
    kept.threads.let_go()
    assert (run(kept, INTERVAL), kept.clock.getDelayedCalls()) == (0, [])


def test_what_comes_and_goes_meanwhile_does_not_disturb_it(kept: Cached) -> None:
    """An entry that is gone is forgotten; one that came is read in the next round; all may be gone."""
    scrub = scrub_of(kept)
    scrub.start()
    kept.clock.advance(1)
    for meta in kept.entries():
        meta.unlink()
    kept.keep_file("/packages/new.txt", b"new")
    kept.threads.calls = 0
    assert run(kept, INTERVAL - 2) == 0
    assert len(kept.catalog) == 2  # the one that was read before, and the new one
    assert run(kept, INTERVAL / 2) == 1
    assert len(kept.catalog) == 1
    for meta in kept.entries():
        meta.unlink()
    kept.catalog.discard(CacheKey("GET-/packages/new.txt").digest)
    assert run(kept, 2 * INTERVAL) == 0
    scrub.stop()
    assert kept.events.of("found_wrong") == []


def test_a_bug_does_not_end_it(kept: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged, and the next entry is read."""
    scrub = scrub_of(kept)
    with monkeypatch.context() as patched:
        patched.setattr(kept.store, "verify", lambda *_: 1 // 0)
        scrub.start()
    assert len(kept.events.of("crashed")) == 1
    kept.events.crashes.clear()
    assert run(kept, INTERVAL / 2) == len(PATHS) - 1
    scrub.stop()


def test_one_that_is_being_read_by_a_client_is_checked_as_well(kept: Cached) -> None:
    """The client keeps the file it has open; whoever comes next gets another."""
    key = CacheKey(f"GET-{PATHS[0]}")
    held = kept.holdings.find_fresh(key)
    assert held is not None
    flip(body_of(kept, PATHS[0]))
    scrub = scrub_of(kept)
    scrub.start()
    run(kept, INTERVAL / 2)
    scrub.stop()
    assert kept.events.of("found_wrong") == [(key.text,)]
    assert len(held.body.read_at(0, SIZE)) == SIZE
    held.body.close()
