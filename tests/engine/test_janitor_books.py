"""A scan in batches, with publications, uses and removals in between: the books are those of a scan at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from attrs import define, field, frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from pipcache.engine.janitor import FOLDERS_A_BATCH, Janitor
from pipcache.rules.catalog import Catalog, Entry, Limits
from tests.fakes.engine import RecordedEvents, begin, result_of

FOLDERS = tuple(f"{number:03x}" for number in range(3 * FOLDERS_A_BATCH))
LIMITS = Limits(max_bytes=1 << 30, max_entries=4, high=0.8, low=0.5)


@frozen
class Found:
    """What a scan tells of an entry."""

    digest: str
    size_bytes: int
    used_at: float


@define
class World:
    """A directory that is a dictionary, and a janitor at work on it; each step takes a second.

    ``disk`` has the sizes, ``used_at`` the last uses as ours or the directory's.
    """

    disk: dict[str, int]
    used_at: dict[str, float]
    seconds: float = 1000.0
    catalog: Catalog = field(factory=Catalog)
    waiting: list[tuple[tuple[str, ...], Deferred[Any]]] = field(factory=list)
    seen: list[Found] | None = None
    janitor: Janitor = field(init=False)

    def __attrs_post_init__(self) -> None:
        store: Any = self
        self.janitor = Janitor(store, self.catalog, LIMITS, Clock(), lambda: self.seconds, RecordedEvents())

    # -- the store ---------------------------------------------------------------------------------------------------

    def folders(self) -> Iterator[str]:
        """All of them."""
        return iter(FOLDERS)

    def clear_parts(self, now: float, grace_seconds: float) -> Deferred[int]:
        """There are none."""
        return succeed(0)

    def scan(self, folders: tuple[str, ...], now: float) -> Deferred[Any]:
        """Wait until the test has looked, and answers."""
        self.waiting.append((folders, Deferred()))
        return self.waiting[-1][1]

    def remove(self, digests: Iterable[str], before: float) -> Deferred[tuple[str, ...]]:
        """Done at once."""
        return succeed(tuple(digest for digest in digests if (self.disk.pop(digest, 0), True)[1]))

    # -- what happens ------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """The thread reads the folders that were asked for, for the first time or again."""
        if self.waiting:
            folders = self.waiting[0][0]
            self.seen = [Found(key, size, self.noted(key)) for key, size in self.disk.items() if key[:3] in folders]

    def noted(self, key: str) -> float:
        """The time on disk, which is behind what is known here by up to an hour."""
        return min(self.used_at[key], 1000.0)

    def answer(self) -> None:
        """The reactor hears what was read."""
        if self.waiting:
            if self.seen is None:
                self.look()
            seen, self.seen = self.seen, None
            self.waiting.pop(0)[1].callback(tuple(seen or ()))

    def publish(self, key: str, size: int) -> None:
        """An entry comes, or is replaced."""
        self.disk[key] = size
        self.used_at[key] = self.seconds
        self.catalog.add(key, size, self.seconds)

    def use(self, key: str) -> None:
        """A hit, where it is there; else it is forgotten."""
        if key not in self.disk:
            self.catalog.discard(key)
            return
        self.used_at[key] = self.seconds
        if not self.catalog.touch(key, self.seconds):
            self.catalog.add(key, self.disk[key], self.seconds)


KEYS = st.sampled_from([f"{folder}{number}" for folder in FOLDERS[:: FOLDERS_A_BATCH // 2] for number in range(2)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), KEYS, st.integers(0, 99)),
        st.tuples(st.just("use"), KEYS),
        st.sampled_from([("look",), ("answer",), ("evict",)]),
    ),
    max_size=40,
)


@given(st.dictionaries(KEYS, st.tuples(st.integers(0, 99), st.floats(0, 999))), STEPS)
def test_the_books_are_those_of_a_scan_at_once(
    kept: dict[str, tuple[int, float]], steps: list[tuple[Any, ...]]
) -> None:
    """Whatever is published, used or evicted while a batch is looked at: nothing is forgotten, or known that is gone."""
    world = World({key: size for key, (size, _) in kept.items()}, {key: used_at for key, (_, used_at) in kept.items()})
    scan = begin(world.janitor.scan())
    for step, *arguments in steps:
        world.seconds += 1
        if step == "evict":
            world.janitor.nudge()
        else:
            getattr(world, step)(*arguments)
    while world.waiting:
        world.answer()
    result_of(scan)
    books = dict(world.catalog.by_use())
    assert books == {key: Entry(size, world.used_at[key]) for key, size in world.disk.items()}
    assert world.catalog.total_bytes == sum(world.disk.values())
    uses = [entry.used_at for entry in books.values()]
    assert uses == sorted(uses)


@given(st.sets(KEYS), st.sets(KEYS))
def test_what_others_removed_is_forgotten_with_the_next_scan(there: set[str], removed: set[str]) -> None:
    """But for what was used while its folder was looked at: a first look for it forgets it."""
    world = World(dict.fromkeys(there, 1), dict.fromkeys(there, 1.0))
    for _ in range(2):
        scan = begin(world.janitor.scan())
        while world.waiting:
            world.answer()
        result_of(scan)
        for key in removed:
            world.disk.pop(key, None)
    assert set(dict(world.catalog.by_use())) == there - removed


def test_what_is_evicted_after_its_folder_was_looked_at_does_not_come_back() -> None:
    """The answer still tells of it; the books would hold it until the next scan."""
    world = World({}, {})
    scan = begin(world.janitor.scan())
    for number in range(4):
        world.seconds += 1
        world.publish(f"{FOLDERS[0]}{number}", 1)
    world.look()
    world.janitor.nudge()
    assert len(world.disk) == 2
    while world.waiting:
        world.answer()
    result_of(scan)
    assert set(dict(world.catalog.by_use())) == set(world.disk)
