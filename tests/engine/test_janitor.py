"""The janitor: carries plans out in batches, keeps what must be kept, and goes on living."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from pipcache.engine.janitor import REMOVALS_A_BATCH, Janitor
from pipcache.rules.catalog import Limits
from pipcache.rules.key import CacheKey
from tests.fakes.cache import Cached
from tests.fakes.engine import begin, result_of

LIMITS = Limits(max_bytes=10_000, max_entries=100, high=0.9, low=0.5)


def janitor_of(cached: Cached) -> Janitor:
    """A janitor of this cache."""
    return Janitor(cached.store, cached.catalog, cached.limits, cached.clock, cached.now, cached.events)


def fill(cached: Cached, count: int, size: int = 1000) -> list[str]:
    """Keep some entries, a second apart; returns their paths, oldest first."""
    paths = [f"/packages/{number}.txt" for number in range(count)]
    for path in paths:
        cached.keep_file(path, bytes(size))
        cached.clock.advance(1)
    return paths


def kept_paths(cached: Cached, paths: list[str]) -> list[int]:
    """Which of them are on disk, by number; the catalog must agree."""
    on_disk = [number for number, path in enumerate(paths) if cached.holdings.store.read(CacheKey(f"GET-{path}"))]
    assert on_disk == [number for number, path in enumerate(paths) if CacheKey(f"GET-{path}").digest in cached.catalog]
    return on_disk


@pytest.fixture
def crowded(tmp_path: Path) -> Cached:
    """A cache of ten entries that may hold nine and should hold five."""
    cached = Cached(tmp_path / "cache", LIMITS)
    fill(cached, 10)
    return cached


PATHS = [f"/packages/{number}.txt" for number in range(10)]


class HeldStore:
    """A store whose removals wait for the test, or fail; all else is the real one's."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.removals: list[tuple[tuple[str, ...], float, Deferred[tuple[str, ...]]]] = []
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def remove(self, digests: tuple[str, ...], before: float) -> Deferred[tuple[str, ...]]:
        """Note it, and wait."""
        if self.error is not None:
            return fail(self.error)
        self.removals.append((digests, before, Deferred()))
        return self.removals[-1][2]

    def carry_out(self) -> None:
        """Do what the oldest waiting removal wants."""
        digests, before, answer = self.removals.pop(0)
        answer.callback(result_of(begin(self._store.remove(digests, before))))


def held(cached: Cached) -> tuple[Janitor, HeldStore]:
    """A janitor whose removals are in the test's hands."""
    store = HeldStore(cached.store)
    janitor: Janitor = Janitor(store, cached.catalog, cached.limits, cached.clock, cached.now, cached.events)
    return janitor, store


def test_under_the_high_mark_nothing_is_done(tmp_path: Path) -> None:
    """Nor told."""
    cached = Cached(tmp_path / "cache", LIMITS)
    paths = fill(cached, 9)
    janitor_of(cached).nudge()
    assert kept_paths(cached, paths) == list(range(9))
    assert cached.events.of("evicted") == []


def test_over_the_high_mark_what_was_used_least_recently_goes_down_to_the_low_one(crowded: Cached) -> None:
    """Used, not stored; files, books and report agree."""
    assert crowded.get(PATHS[0]).said == "HIT"
    janitor_of(crowded).nudge()
    assert kept_paths(crowded, PATHS) == [0, 6, 7, 8, 9]
    assert crowded.catalog.total_bytes == 5000
    assert crowded.events.of("evicted") == [(5, 5000, 0)]
    assert len(list(crowded.store.root.glob("???/*.body"))) == 5
    crowded.check_books()


def test_too_many_entries_go_as_well(tmp_path: Path) -> None:
    """Their number has marks of its own."""
    cached = Cached(tmp_path / "cache", Limits(max_bytes=1 << 30, max_entries=8, high=0.9, low=0.5))
    paths = fill(cached, 8, size=1)
    janitor_of(cached).nudge()
    assert kept_paths(cached, paths) == [4, 5, 6, 7]


def test_what_is_being_read_stays_and_its_reader_gets_all(crowded: Cached) -> None:
    """Another one goes instead."""
    kept = crowded.holdings.find_fresh(CacheKey(f"GET-{PATHS[2]}"))
    assert kept is not None
    for path in PATHS[3:]:
        crowded.clock.advance(1)
        crowded.get(path)
    janitor_of(crowded).nudge()
    assert kept_paths(crowded, PATHS) == [2, 6, 7, 8, 9]
    assert kept.body.read_at(0, 2000) == bytes(1000)
    kept.body.close()
    crowded.check_books()


def test_what_is_pinned_after_the_plan_was_made_stays(tmp_path: Path) -> None:
    """Pins are looked at again when each batch begins."""
    cached = Cached(tmp_path / "cache", Limits(max_bytes=200, max_entries=10_000, high=0.9, low=0.1))
    names = [f"{number:064x}" for number in range(200)]
    cached.catalog.load((name, 1, float(number)) for number, name in enumerate(names))
    janitor, store = held(cached)
    janitor.nudge()
    cached.catalog.pin(names[REMOVALS_A_BATCH + 1])
    store.carry_out()
    assert store.removals[0][0] == tuple(
        name for name in names[REMOVALS_A_BATCH:180] if not cached.catalog.is_pinned(name)
    )
    store.carry_out()
    assert names[REMOVALS_A_BATCH + 1] in cached.catalog


def test_what_was_published_anew_meanwhile_stays(crowded: Cached) -> None:
    """On disk and in the books; its size counts once."""
    janitor, store = held(crowded)
    janitor.nudge()
    crowded.clock.advance(1)
    crowded.clock.rightNow += 1e6 + 10  # it has expired, so it is fetched again
    crowded.keep_file(PATHS[0], bytes(700))
    store.carry_out()
    assert kept_paths(crowded, PATHS) == [0, 5, 6, 7, 8, 9]
    assert crowded.catalog.total_bytes == 5 * 1000 + 700
    assert crowded.events.of("evicted") == [(4, 4000, 0)]


def test_what_was_used_while_it_was_being_removed_is_not_counted_twice(crowded: Cached) -> None:
    """A ghost in the books goes with the first one who looks for it."""
    janitor, store = held(crowded)
    janitor.nudge()
    crowded.clock.advance(1)
    assert crowded.get(PATHS[0]).said == "HIT"
    store.carry_out()
    visit = crowded.get(PATHS[0])
    crowded.client.answer_whole(bytes(1000))
    assert visit.said == "MISS"
    assert kept_paths(crowded, PATHS) == [0, 5, 6, 7, 8, 9]
    assert crowded.catalog.total_bytes == 6000


def test_what_the_disk_would_not_remove_stays_in_the_books(crowded: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is tried again with the next sweep."""

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    janitor = janitor_of(crowded)
    with monkeypatch.context() as patched:
        patched.setattr(crowded.files, "unlink", refuse)
        janitor.nudge()
    assert kept_paths(crowded, PATHS) == list(range(10))
    janitor.nudge()
    assert kept_paths(crowded, PATHS) == [5, 6, 7, 8, 9]


def test_how_far_pins_keep_it_over_the_mark_is_told(crowded: Cached) -> None:
    """Nothing else can be done about it."""
    for path in PATHS[2:]:
        crowded.catalog.pin(CacheKey(f"GET-{path}").digest)
    janitor_of(crowded).nudge()
    assert crowded.events.of("evicted") == [(2, 2000, 3000)]


def test_removals_come_in_batches_and_stop_between_them(tmp_path: Path) -> None:
    """So that other work on the disk gets its turn, and a stop need not wait for a long plan."""
    count = 3 * REMOVALS_A_BATCH
    cached = Cached(tmp_path / "cache", Limits(max_bytes=count, max_entries=10 * count, high=0.9, low=0.1))
    cached.catalog.load((f"{number:064x}", 1, float(number)) for number in range(count))
    janitor, store = held(cached)
    janitor.nudge()
    sizes = []
    for _ in range(2):
        assert len(store.removals) == 1
        sizes.append(len(store.removals[0][0]))
        store.carry_out()
    janitor.stop()
    store.carry_out()
    assert (sizes, store.removals) == ([REMOVALS_A_BATCH] * 2, [])
    janitor.nudge()
    assert store.removals == []


def test_a_stop_keeps_the_batches_that_have_not_begun(tmp_path: Path) -> None:
    """The one in progress is finished."""
    count = 3 * REMOVALS_A_BATCH
    cached = Cached(tmp_path / "cache", Limits(max_bytes=count, max_entries=10 * count, high=0.9, low=0.1))
    cached.catalog.load((f"{number:064x}", 1, float(number)) for number in range(count))
    janitor, store = held(cached)
    janitor.nudge()
    janitor.stop()
    store.carry_out()
    assert (store.removals, len(cached.catalog)) == ([], 2 * REMOVALS_A_BATCH)


def test_a_nudge_during_a_sweep_makes_one_more(crowded: Cached) -> None:
    """However many nudges there were; never two sweeps at a time."""
    janitor, store = held(crowded)
    for _ in range(3):
        janitor.nudge()
    assert len(store.removals) == 1
    for number in range(10, 16):
        crowded.keep_file(f"/packages/{number}.txt", bytes(1000))
    store.carry_out()
    assert len(store.removals) == 1
    store.carry_out()
    assert store.removals == []
    assert crowded.catalog.total_bytes == 5000


def test_an_error_is_logged_and_the_next_sweep_comes(crowded: Cached) -> None:
    """The janitor does not die of it."""
    janitor, store = held(crowded)
    store.error = ZeroDivisionError("a bug")
    janitor.nudge()
    assert crowded.events.of("crashed") == [("evicting from the cache directory",)]
    store.error = None
    janitor.nudge()
    store.carry_out()
    assert kept_paths(crowded, PATHS) == [5, 6, 7, 8, 9]


def test_a_full_disk_makes_room_whatever_the_limits_say(tmp_path: Path) -> None:
    """What is kept is then all that there is room for: the low mark is that share of it; once, not for ever."""
    cached = Cached(tmp_path / "cache", Limits(max_bytes=1 << 30, max_entries=100, high=0.9, low=0.5))
    paths = fill(cached, 10)
    janitor = janitor_of(cached)
    janitor.nudge()
    assert kept_paths(cached, paths) == list(range(10))
    janitor.nudge(is_full=True)
    assert kept_paths(cached, paths) == [5, 6, 7, 8, 9]
    janitor.nudge()
    assert kept_paths(cached, paths) == [5, 6, 7, 8, 9]
