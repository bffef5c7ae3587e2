"""The catalog: sums, recency, pins, reservations, and plans to evict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.catalog import Catalog, EvictionPlan, Limits

LIMITS = Limits(max_bytes=100, max_entries=10, high=0.9, low=0.7)


def catalog_of(*entries: tuple[str, int, float]) -> Catalog:
    """A catalog that a scan filled."""
    catalog = Catalog()
    catalog.load(entries)
    return catalog


def keys_by_use(catalog: Catalog) -> list[str]:
    """The keys in recency order."""
    return [key for key, _ in catalog.by_use()]


def test_sizes_add_up() -> None:
    """Adding, replacing and discarding keep the total; a size is never counted twice."""
    catalog = Catalog()
    catalog.add("a", 10, 1.0)
    catalog.add("b", 5, 2.0)
    catalog.add("a", 7, 3.0)
    assert (catalog.total_bytes, len(catalog)) == (12, 2)
    catalog.discard("a")
    catalog.discard("a")
    assert (catalog.total_bytes, len(catalog), "a" in catalog) == (5, 1, False)


def test_use_moves_an_entry_behind_all_others() -> None:
    """Least recently used first, not oldest first."""
    catalog = Catalog()
    for used_at, key in enumerate("abc"):
        catalog.add(key, 1, float(used_at))
    assert catalog.touch("a", 10.0)
    assert keys_by_use(catalog) == ["b", "c", "a"]
    catalog.add("b", 2, 11.0)
    assert keys_by_use(catalog) == ["c", "a", "b"]
    entry = catalog.get("a")
    assert entry is not None
    assert (entry.size_bytes, entry.used_at) == (1, 10.0)


def test_an_unknown_key_is_not_made_up_by_a_touch() -> None:
    """It may be on disk; who touches it hears that the catalog does not know it."""
    catalog = Catalog()
    assert not catalog.touch("a", 1.0)
    assert catalog.get("a") is None


def test_what_a_scan_finds_goes_where_its_last_use_puts_it() -> None:
    """Before what was used since the start, in the order of last use, in however many batches."""
    catalog = Catalog()
    catalog.add("new", 1, 100.0)
    catalog.load([("c", 1, 30.0), ("a", 1, 10.0)])
    catalog.load([("b", 1, 20.0), ("newest", 1, 200.0)])
    assert keys_by_use(catalog) == ["a", "b", "c", "new", "newest"]
    assert catalog.total_bytes == 5


def test_what_is_known_keeps_its_size_and_its_newer_use() -> None:
    """The scan read the disk before we replaced the entry."""
    catalog = Catalog()
    catalog.add("a", 7, 100.0)
    catalog.add("b", 7, 101.0)
    catalog.load([("a", 3, 50.0), ("b", 3, 300.0)])
    assert catalog.total_bytes == 14
    assert [(key, entry.used_at) for key, entry in catalog.by_use()] == [("a", 100.0), ("b", 300.0)]


@pytest.mark.parametrize(
    ("sizes", "is_over"),
    [([90], False), ([91], True), ([1] * 9, False), ([1] * 10, True)],
)
def test_the_high_mark_is_bytes_or_entries(sizes: list[int], is_over: bool) -> None:
    """At the mark is not over it."""
    catalog = catalog_of(*((str(number), size, 0.0) for number, size in enumerate(sizes)))
    assert catalog.is_over_high(LIMITS) is is_over
    assert (catalog.plan_eviction(LIMITS) != EvictionPlan()) is is_over


def test_space_promised_counts_until_it_is_released() -> None:
    """A body being received makes room before it is there; promising again replaces the promise."""
    catalog = catalog_of(("a", 60, 1.0))
    catalog.reserve("b", 20)
    catalog.reserve("b", 40)
    assert catalog.reserved_bytes == 40
    assert catalog.is_over_high(LIMITS)
    assert catalog.plan_eviction(LIMITS) == EvictionPlan(("a",), freed_bytes=60)
    catalog.release("b")
    catalog.release("b")
    assert catalog.reserved_bytes == 0
    assert not catalog.is_over_high(LIMITS)


def test_a_plan_goes_down_to_the_low_mark_oldest_use_first() -> None:
    """And not further."""
    catalog = catalog_of(("a", 20, 3.0), ("b", 20, 1.0), ("c", 20, 2.0), ("d", 40, 4.0))
    assert catalog.plan_eviction(LIMITS) == EvictionPlan(("b", "c"), freed_bytes=40)


def test_too_many_small_entries_are_evicted_too() -> None:
    """``max_entries`` is enforced down to its own low mark."""
    catalog = catalog_of(*((str(number), 1, float(number)) for number in range(10)))
    assert catalog.plan_eviction(LIMITS).keys == ("0", "1", "2")


def test_a_forced_plan_does_not_wait_for_the_high_mark() -> None:
    """For the operator, or a disk that is fuller than we are."""
    catalog = catalog_of(("a", 40, 1.0), ("b", 40, 2.0))
    assert catalog.plan_eviction(LIMITS) == EvictionPlan()
    assert catalog.plan_eviction(LIMITS, force=True) == EvictionPlan(("a",), freed_bytes=40)


def test_a_pinned_entry_is_passed_over_until_the_last_pin_goes() -> None:
    """Pins are counted, and may come before the entry."""
    catalog = Catalog()
    catalog.pin("a")
    catalog.pin("a")
    catalog.load([("a", 50, 1.0), ("b", 50, 2.0)])
    catalog.unpin("a")
    assert catalog.is_pinned("a")
    assert catalog.plan_eviction(LIMITS) == EvictionPlan(("b",), freed_bytes=50)
    catalog.unpin("a")
    assert not catalog.is_pinned("a")
    assert catalog.plan_eviction(LIMITS) == EvictionPlan(("a",), freed_bytes=50)
    with pytest.raises(KeyError):
        catalog.unpin("a")


def test_a_plan_says_how_far_it_falls_short() -> None:
    """When pins or promises hold what would have to go."""
    catalog = catalog_of(("a", 10, 1.0))
    catalog.reserve("big", 95)
    catalog.pin("a")
    assert catalog.plan_eviction(LIMITS) == EvictionPlan(short_bytes=35)
    many = catalog_of(*((str(number), 1, 0.0) for number in range(10)))
    for number in range(9):
        many.pin(str(number))
    assert many.plan_eviction(LIMITS) == EvictionPlan(("9",), freed_bytes=1, short_entries=2)


def test_a_plan_of_a_few_is_the_beginning_of_the_whole() -> None:
    """Removing a few at a time comes to the same end; what the cut left over is not called short."""
    entries = [(f"{number % 3}-{number}", 10, float(number)) for number in range(10)]
    whole = catalog_of(*entries).plan_eviction(LIMITS)
    catalog, keys = catalog_of(*entries), list[str]()
    while (plan := catalog.plan_eviction(LIMITS, force=True, at_most=2)).keys:
        assert (plan.short_bytes, plan.short_entries) == (0, 0)
        keys += plan.keys
        for key in plan.keys:
            catalog.discard(key)
    assert tuple(keys) == whole.keys == ("0-0", "1-1", "2-2")


def test_what_the_disk_would_not_remove_is_not_planned_again_nor_anything_in_its_place() -> None:
    """It counts as gone, or one that cannot be removed would cost all the others."""
    catalog = catalog_of(("a", 20, 1.0), ("b", 20, 2.0), ("c", 60, 3.0))
    assert catalog.plan_eviction(LIMITS).keys == ("a", "b")
    assert catalog.plan_eviction(LIMITS, force=True, given_up={"a"}).keys == ("b",)
    catalog.discard("b")
    assert catalog.plan_eviction(LIMITS, force=True, given_up={"a"}) == EvictionPlan()


def test_what_a_scan_of_its_folder_did_not_find_is_forgotten() -> None:
    """Not what is pinned, was used since the scan of the folder began, or lies in another folder."""
    catalog = catalog_of(*((key, 1, 1.0) for key in ("aaa1", "aaa2", "aaa3", "aaa4", "bbb1")))
    catalog.touch("aaa3", 10.0)
    catalog.pin("aaa4")
    catalog.forget_missing(("aaa", "ccc"), {"aaa1"}, 10.0)
    assert (keys_by_use(catalog), catalog.total_bytes) == (["aaa1", "aaa4", "bbb1", "aaa3"], 4)
    assert (catalog.in_folder("aaa"), catalog.in_folder("ccc")) == (("aaa1", "aaa4", "aaa3"), ())
    assert sorted(catalog.folders()) == ["aaa", "bbb"]


KEYS = st.sampled_from([f"{folder}{number}" for folder in ("aaa", "bbb", "ccc") for number in range(4)])
ENTRIES = st.dictionaries(KEYS, st.tuples(st.integers(0, 40), st.floats(0, 100)), max_size=12)


@given(ENTRIES, st.sets(KEYS), st.integers(0, 60), st.booleans())
def test_a_plan_frees_enough_or_says_that_it_is_short(
    entries: dict[str, tuple[int, float]], pinned: set[str], reserved: int, force: bool
) -> None:
    """Never a pin, in the order of last use, and nothing that need not go."""
    limits = Limits(max_bytes=100, max_entries=6, high=0.8, low=0.5)
    catalog = catalog_of(*((key, size, used_at) for key, (size, used_at) in entries.items()))
    catalog.reserve("body", reserved)
    for key in pinned:
        catalog.pin(key)
    plan = catalog.plan_eviction(limits, force=force)
    if not force and not catalog.is_over_high(limits):
        assert plan == EvictionPlan()
        return
    free = [key for key in keys_by_use(catalog) if key not in pinned]
    assert list(plan.keys) == free[: len(plan.keys)]
    uses = [entries[key][1] for key in free]
    assert uses == sorted(uses)
    assert plan.freed_bytes == sum(entries[key][0] for key in plan.keys)
    bytes_left = catalog.total_bytes + reserved - plan.freed_bytes
    entries_left = len(catalog) - len(plan.keys)
    assert plan.short_bytes == max(0, bytes_left - 50)
    assert plan.short_entries == max(0, entries_left - 3)
    if plan.short_bytes or plan.short_entries:
        assert len(plan.keys) == len(free)
    elif plan.keys:
        last_bytes = entries[plan.keys[-1]][0]
        assert bytes_left + last_bytes > 50 or entries_left + 1 > 3


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), KEYS, st.integers(0, 40)),
        st.tuples(st.sampled_from(["touch", "discard", "release"]), KEYS, st.just(0)),
        st.tuples(st.sampled_from(["reserve", "load"]), KEYS, st.integers(0, 40)),
    ),
    max_size=60,
)


@given(OPERATIONS)
def test_the_sums_and_the_order_hold_whatever_happens(operations: list[tuple[str, str, int]]) -> None:
    """The totals are the sums over entries and reservations; the order is that of last use."""
    catalog, promised = Catalog(), dict[str, int]()
    for now, (operation, key, size) in enumerate(operations):
        match operation:
            case "add":
                catalog.add(key, size, float(now))
            case "touch":
                catalog.touch(key, float(now))
            case "discard":
                catalog.discard(key)
            case "reserve":
                catalog.reserve(key, size)
                promised[key] = size
            case "release":
                catalog.release(key)
                promised.pop(key, None)
            case "load":
                catalog.load([(key, size, float(now % 7))])
    entries = [entry for _, entry in catalog.by_use()]
    assert catalog.total_bytes == sum(entry.size_bytes for entry in entries)
    assert len(catalog) == len(entries)
    assert catalog.reserved_bytes == sum(promised.values())
    uses = [entry.used_at for entry in entries]
    assert uses == sorted(uses)
