"""What is ready: for how long, within which bounds, and when it is forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field

from pipcache.rules.fields import Fields
from pipcache.rules.key import CacheKey
from pipcache.rules.response import CacheStatus, Representation, Shape, about_its_age, shape_response
from pipcache.web import hot
from pipcache.web.hot import LOOK_SECONDS, REST_SECONDS, USE_SECONDS, HotResponses

NONE = (None, None)


@define
class Body:
    """An open file of the fake."""

    length: int
    descriptor: int | None = 7
    is_suspect: bool = False
    is_closed: bool = False

    def read_at(self, offset: int, count: int) -> bytes:
        """Its bytes."""
        return b"x" * min(count, self.length - offset)

    def close(self) -> None:
        """Given back."""
        assert not self.is_closed
        self.is_closed = True


@define
class _Stored:
    cached_at: float
    expires_at: float
    etag: str = '"e"'


@define(eq=False)
class Repeat:
    """A hit as the engine gives it, with a disk that the test changes."""

    now: Any
    length: int = 10
    name: str = "a"
    varies: bool = False
    shown_as: str = ""
    on_disk: object = "file 1"
    is_there: bool = True
    stored: Any = None
    bodies: list[Body] = field(factory=list)
    looks: int = 0
    uses: int = 0
    pins: int = 0

    def __attrs_post_init__(self) -> None:
        self.stored = self.stored or _Stored(self.now() - 0.25, self.now() + 299.5)

    @property
    def key(self) -> CacheKey:
        """Its key."""
        return CacheKey(f"GET-/{self.name}")

    def seen(self) -> Look | None:
        """What is on disk."""
        return None if self.on_disk is None else Look(self, self.on_disk)

    def is_fresh(self, now: float) -> bool:
        """By time alone."""
        return now < self.stored.expires_at

    def used(self) -> None:
        """Counted."""
        self.uses += 1

    def shape(self, method: str = "GET", fields: Any = ()) -> Shape:
        """The response as of now."""
        return shape_response(method, fields, self.shown.at(*self.ages()))

    @property
    def shown(self) -> Representation:
        """How it is shown, but for its age."""
        return Representation(
            fields=(), length=self.length, etag=self.stored.etag, cache_status=CacheStatus.HIT, upstream="one"
        )

    def about_its_age(self) -> Fields:
        """The fields that change with it."""
        return about_its_age(self.shown, *self.ages())

    def ages(self) -> tuple[int, float]:
        """How old it is, and how much longer it is fresh."""
        return int(self.now() - self.stored.cached_at), self.stored.expires_at - self.now()

    def open(self) -> Body | None:
        """Opened anew."""
        if not self.is_there:
            return None
        self.bodies.append(Body(self.length))
        return self.bodies[-1]


@define
class Look:
    """What was on the fake's disk."""

    repeat: Repeat
    was: object

    def is_current(self) -> bool:
        """Whether it is there still."""
        self.repeat.looks += 1
        return self.repeat.on_disk == self.was

    def is_meta_current(self) -> bool:
        """Of the meta nothing else is told."""
        return self.is_current()

    def open(self) -> Body | None:
        """Opened anew."""
        return self.repeat.open()


class Wall:
    """The wall clock."""

    at = 1_700_000_000.5

    def __call__(self) -> float:
        """The time."""
        return self.at


@pytest.fixture
def now() -> Wall:
    """A clock that the test moves."""
    return Wall()


@pytest.fixture
def responses(now: Wall) -> HotResponses:
    """Room for three small bodies."""
    return HotResponses(30, now)


def enter(responses: HotResponses, now: Wall, name: str, **more: Any) -> Repeat:
    """Have something ready under its name."""
    repeat = Repeat(now, name=name, **more)
    responses.enter(f"/{name}".encode(), NONE, repeat)  # type: ignore[arg-type]
    return repeat


def test_it_is_used_without_a_look_for_a_tenth_of_a_second(responses: HotResponses, now: Wall) -> None:
    """Then the disk is looked at; a use is counted from time to time."""
    repeat = enter(responses, now, "a")
    looks, uses = repeat.looks, repeat.uses
    for _ in range(5):
        assert responses.find(b"/a", NONE) is not None
    assert repeat.looks == looks
    now.at += 1.01 * LOOK_SECONDS
    assert responses.find(b"/a", NONE) is not None
    assert (repeat.looks, repeat.uses) == (looks + 1, uses)
    now.at += USE_SECONDS
    assert responses.find(b"/a", NONE) is not None
    assert (repeat.looks, repeat.uses) == (looks + 2, uses)
    responses.count_uses()
    responses.count_uses()
    assert repeat.uses == uses + 1


@pytest.mark.parametrize("length", [10, 1 << 20])
def test_what_is_gone_from_disk_is_noticed_at_the_next_look(responses: HotResponses, now: Wall, length: int) -> None:
    """It is forgotten, and its file closed."""
    repeat = enter(responses, now, "a", length=length)
    repeat.on_disk = None
    now.at += 1.01 * LOOK_SECONDS
    assert responses.find(b"/a", NONE) is None
    assert len(responses) == responses.memory.taken == responses.files.taken == 0
    assert all(body.is_closed for body in repeat.bodies)
    assert not responses.by_target


def test_what_changed_while_it_was_served_is_not_entered(responses: HotResponses, now: Wall) -> None:
    """The engine says that what it served is no more what is stored."""
    enter(responses, now, "a", on_disk=None)
    assert responses.find(b"/a", NONE) is None


def test_it_is_not_used_past_its_time(responses: HotResponses, now: Wall) -> None:
    """Not a moment, whenever the last look was."""
    enter(responses, now, "a", stored=_Stored(now() - 10, now() + 0.05))
    now.at += 0.04
    assert responses.find(b"/a", NONE) is not None
    now.at += 0.02
    assert responses.find(b"/a", NONE) is None


def test_a_clock_that_went_back_is_no_excuse(responses: HotResponses, now: Wall) -> None:
    """The disk is looked at again at once."""
    repeat = enter(responses, now, "a")
    repeat.on_disk = None
    now.at -= 3600
    assert responses.find(b"/a", NONE) is None


def test_heads_say_the_time_as_it_is(responses: HotResponses, now: Wall) -> None:
    """Date, Age, and what is left of its time, at each moment of some seconds, are those of a head written now."""
    repeat = enter(responses, now, "a")
    for _ in range(500):
        now.at += 0.0101
        found = responses.find(b"/a", NONE)
        assert found is not None
        shape = repeat.shape()
        assert found.head == hot.written_head(shape.status, shape.fields, now())
        assert found.whole == found.head + b"x" * 10


def test_what_the_catalog_says_is_changed_is_forgotten(responses: HotResponses, now: Wall) -> None:
    """All that is stored under the key, and nothing else."""
    repeat = enter(responses, now, "a")
    enter(responses, now, "b")
    responses.enter(b"/other", NONE, Repeat(now, name="a", shown_as="gzip"))  # type: ignore[arg-type]
    responses.drop(repeat.key.digest)
    assert [responses.find(target, NONE) is None for target in (b"/a", b"/other", b"/b")] == [True, True, False]
    responses.drop(repeat.key.digest)


def test_what_accept_chose_is_for_that_accept(responses: HotResponses, now: Wall) -> None:
    """A page's rendering is found by the same values only."""
    asked = (b"text/html", b"gzip")
    responses.enter(b"/a", asked, Repeat(now, varies=True))  # type: ignore[arg-type]
    assert responses.find(b"/a", asked) is not None
    assert responses.find(b"/a", NONE) is None
    assert responses.find(b"/a", (b"text/html", None)) is None


def test_bodies_over_the_limit_are_not_held(responses: HotResponses, now: Wall) -> None:
    """The head is; and no body in use is pushed out by another, only one that rests."""
    for name in "abcd":
        enter(responses, now, name)
    held = {name: responses.find(f"/{name}".encode(), NONE) for name in "abcd"}
    assert [each is not None and each.whole is not None for each in held.values()] == [True, True, True, False]
    assert responses.memory.taken == 30
    now.at += REST_SECONDS
    for name in "bd":
        assert responses.find(f"/{name}".encode(), NONE) is not None
        responses.count_uses()
    assert [held[name].whole is not None for name in "abcd"] == [False, True, True, True]  # type: ignore[union-attr]
    assert responses.memory.taken == 30


def test_few_files_are_kept_open(now: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the descriptors that there may be, and never more than 1,024."""
    monkeypatch.setattr(hot.resource, "getrlimit", lambda _: (8, 8))
    responses = HotResponses(30, now)
    repeats = [enter(responses, now, name, length=1 << 20) for name in "abc"]
    assert [_open_bodies(repeat) for repeat in repeats] == [1, 1, 0]
    monkeypatch.setattr(hot.resource, "getrlimit", lambda _: (hot.resource.RLIM_INFINITY,) * 2)
    assert hot._file_limit() == 1024
    now.at += REST_SECONDS
    assert responses.find(b"/c", NONE) is not None
    responses.count_uses()
    assert _open_bodies(repeats[2]) == 1
    responses.clear()
    assert all(body.is_closed for repeat in repeats for body in repeat.bodies)


def _open_bodies(repeat: Repeat) -> int:
    return sum(not body.is_closed for body in repeat.bodies)


def test_a_file_is_closed_when_the_last_answer_is_through(responses: HotResponses, now: Wall) -> None:
    """One that is dropped while it is sent stays open for that."""
    repeat = enter(responses, now, "a", length=1 << 20)
    found = responses.find(b"/a", NONE)
    assert found is not None
    first, second = found.opened(), found.opened()
    assert first is not None
    assert second is not None
    responses.clear()
    first.let_go()
    assert _open_bodies(repeat) == 1
    second.let_go()
    assert _open_bodies(repeat) == 0


def test_a_body_that_is_gone_is_not_sent(responses: HotResponses, now: Wall) -> None:
    """The engine is asked then, which knows what to do; and one that was not there at first is not ready."""
    enter(responses, now, "a", is_there=False)
    assert responses.find(b"/a", NONE) is None
    repeat = enter(responses, now, "b", length=40)
    repeat.is_there = False
    found = responses.find(b"/b", NONE)
    assert found is not None
    assert found.whole is None
    assert found.read() is None
    assert found.opened() is None


def test_their_number_is_bounded(now: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one least recently asked for goes; so many names lead to one, and no more."""
    monkeypatch.setattr(hot, "MAX_RESPONSES", 3)
    monkeypatch.setattr(hot, "MAX_NAMES", 2)
    responses = HotResponses(30, now)
    for name in "abc":
        enter(responses, now, name)
    now.at += USE_SECONDS
    assert responses.find(b"/a", NONE) is not None
    responses.count_uses()
    enter(responses, now, "d")
    assert [responses.find(f"/{name}".encode(), NONE) is not None for name in "abcd"] == [True, False, True, True]
    for target in (b"/d2", b"/d3"):
        responses.enter(target, NONE, Repeat(now, name="d"))  # type: ignore[arg-type]
    assert responses.find(b"/d2", NONE) is not None
    assert responses.find(b"/d3", NONE) is None


def test_without_memory_no_body_is_held(now: Wall) -> None:
    """``cache.hot_memory: 0``."""
    responses = HotResponses(0, now)
    enter(responses, now, "a")
    found = responses.find(b"/a", NONE)
    assert found is not None
    assert found.whole is None
