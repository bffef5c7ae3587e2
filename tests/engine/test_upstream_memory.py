"""What is remembered of upstreams: how fast they were, whose turn it is, who wants to be left alone."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from pipcache.engine.upstreams import Asked, Attempt, Candidate, Manner, Upstreams
from pipcache.rules.errors import NotServed, UpstreamTimeout, UpstreamUnavailable
from pipcache.rules.fields import Fields
from pipcache.rules.selection import Selection
from pipcache.rules.sites import UpstreamSite
from pipcache.rules.speed import PROBE_SECONDS
from tests.fakes.engine import FakeClient, RecordedEvents, Turns, begin, result_of

SITES = tuple(UpstreamSite.from_root(name, f"https://{name}.test") for name in ("a", "b", "c"))
PATH = "/packages/x-1.tar.gz"
EPOCH = 784_111_777  # Sun, 06 Nov 1994 08:49:37 GMT


class Memory:
    """The upstreams, and short words for what happens to them."""

    def __init__(self, selection: Selection = Selection.ORDERED) -> None:
        self.client = FakeClient()
        self.clock = Turns()
        self.events = RecordedEvents()
        self.upstreams = Upstreams(
            self.client, self.clock, self.events, selection, epoch_seconds=lambda: EPOCH + self.clock.seconds()
        )
        self.upstreams.now_known(SITES)

    async def use(self, asked: Asked) -> Asked:
        """Take it."""
        return asked

    def ask(self, manner: Manner | None = None) -> Deferred[Asked]:
        """Ask all in the order of now."""
        attempt = Attempt()
        sites = self.upstreams.in_order(attempt)
        candidates = [Candidate(f"{site.root}{PATH}", site, site.name) for site in sites]
        return begin(self.upstreams.ask(candidates, attempt, PATH, self.use, manner or Manner()))

    def request(self, seconds: dict[str, float]) -> str:
        """One request, that is answered by whoever is asked, after so long; gives who that was."""
        asked = self.ask()
        name = self.client.sent[-1].request.site.name
        self.clock.advance(seconds[name])
        self.client.answer()
        assert result_of(asked).candidate.site.name == name
        return name

    def decline(self, status: int, fields: Fields = ()) -> None:
        """Have the first one say no, and the next one answer."""
        asked = self.ask()
        self.client.answer(status, fields=fields)
        self.client.answer()
        result_of(asked)

    def order(self) -> str:
        """The names in the order of now."""
        return "".join(site.name for site in self.upstreams.in_order(Attempt()))

    def first_byte(self, name: str) -> float | None:
        """What is known of it."""
        speed = self.upstreams.speeds[name]
        return speed.first_byte and speed.first_byte.value


@pytest.mark.parametrize("status", [200, 206, 304])
def test_an_answer_says_how_soon_it_came(status: int) -> None:
    """From the beginning of the request to its head."""
    memory = Memory()
    asked = memory.ask(Manner(accepted=frozenset({status})))
    memory.clock.advance(0.25)
    memory.client.answer(status)
    taken = result_of(asked)
    assert (taken.began_at, taken.head_at, memory.first_byte("a")) == (0.0, 0.25, 0.25)


@pytest.mark.parametrize("status", [404, 500, 416])
def test_what_is_no_success_says_nothing(status: int) -> None:
    """A mirror is not fast because it is quick to say no."""
    memory = Memory()
    asked = memory.ask(Manner(accepted=frozenset({416, 200})))
    memory.clock.advance(0.25)
    memory.client.answer(status)
    if status != 416:
        memory.client.answer()
    result_of(asked)
    assert memory.first_byte("a") is None


def test_silence_says_that_it_is_slow() -> None:
    """One that could not be reached says nothing."""
    memory = Memory()
    asked = memory.ask()
    memory.clock.advance(2)
    memory.client.refuse(UpstreamTimeout("silence"))
    memory.client.refuse(UpstreamUnavailable("down"))
    memory.client.answer()
    result_of(asked)
    assert [memory.first_byte(name) for name in "abc"] == [2.0, None, 0.0]


def test_a_whole_body_says_how_many_bytes_a_second() -> None:
    """Also where its upstream had failed before, which is forgotten; how fast it was is not."""
    memory = Memory()
    memory.upstreams.failed("a", 0.0)
    memory.clock.advance(3)
    memory.upstreams.succeeded("a", 200_000, since=1.0)
    memory.upstreams.succeeded("a")
    assert memory.upstreams.health == {}
    throughput = memory.upstreams.speeds["a"].throughput
    assert throughput is not None
    assert throughput.value == 100_000


def test_a_file_host_that_is_no_upstream_is_not_remembered() -> None:
    """Nothing grows with the hosts that pages link to."""
    memory = Memory()
    candidate = Candidate("https://files.test/x", SITES[0], None)
    asked = begin(memory.upstreams.ask([candidate], Attempt(), PATH, memory.use))
    memory.client.answer()
    result_of(asked)
    memory.upstreams.succeeded(None, 1 << 20, 0.0)
    assert memory.upstreams.speeds == {}


@pytest.mark.parametrize(
    ("status", "fields", "seconds", "failures"),
    [
        (429, (("retry-after", "20"),), 20, 0),
        (503, (("retry-after", "20"),), 20, 1),
        (503, (("retry-after", "Sun, 06 Nov 1994 08:49:57 GMT"),), 20, 1),
        (503, (("retry-after", "100000"),), 60, 1),
        (429, (), 5, 0),
        (429, (("retry-after", "-1"),), 5, 0),
    ],
)
def test_one_that_says_not_now_is_put_last_for_so_long(
    status: int, fields: Fields, seconds: float, failures: int
) -> None:
    """A minute at most. That alone is no failure; a 503 is, as before."""
    memory = Memory()
    memory.decline(status, fields)
    assert memory.order() == "bca"
    assert memory.upstreams.is_last("a")
    assert memory.upstreams.health["a"].consecutive_failures == failures
    memory.clock.advance(seconds - 0.5)
    assert memory.order() == "bca"
    memory.clock.advance(0.5)
    assert memory.order() == "abc"


def test_a_503_that_does_not_say_for_how_long_is_a_failure_only() -> None:
    """Three of them put it last."""
    memory = Memory()
    memory.decline(503)
    assert memory.order() == "abc"


def test_a_complete_answer_ends_it() -> None:
    """It is well again, whatever it said before."""
    memory = Memory()
    memory.decline(429, (("retry-after", "60"),))
    memory.upstreams.succeeded("a")
    assert memory.order() == "abc"


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (((429, "30"), (429, "20"), (503, "40")), (503, 20)),
        (((429, None), (429, "20"), (503, "40")), (503, 5)),
        (((429, "0"), (429, "20"), (503, "40")), (503, 1)),
        (((429, "3600"), (429, "3600"), (503, "3600")), (503, 60)),
        (((429, "30"), (404, None), (503, "40")), (502, None)),
        (((429, "30"), (429, "30"), (503, None)), (502, None)),
        (((429, "30"), (429, "30"), (500, "30")), (502, None)),
    ],
)
def test_where_all_say_not_now_so_do_we(
    answers: tuple[tuple[int, str | None], ...], expected: tuple[int, int | None]
) -> None:
    """A 503, and when to ask again: when the first of them may be asked. Of an absence that says nothing."""
    memory = Memory()
    asked = memory.ask()
    for status, seconds in answers:
        memory.client.answer(status, fields=(("retry-after", seconds),) if seconds else ())
    with pytest.raises(NotServed) as caught:
        result_of(asked)
    assert (caught.value.status, caught.value.retry_after_seconds) == expected


def test_requests_take_turns() -> None:
    """Each begins with the next one; a request that asks for an order twice has one turn."""
    memory = Memory(Selection.ROUND_ROBIN)
    attempt = Attempt()
    assert [site.name for site in memory.upstreams.in_order(attempt)] == ["a", "b", "c"]
    assert [site.name for site in memory.upstreams.in_order(attempt)] == ["a", "b", "c"]
    assert [memory.order() for _ in range(4)] == ["bca", "cab", "abc", "bca"]


def test_one_that_was_silent_is_last_in_every_selection() -> None:
    """For the rest of its request."""
    for selection in Selection:
        attempt = Attempt(silent={"a"})
        assert Memory(selection).upstreams.in_order(attempt)[-1].name == "a"


def test_the_fastest_is_found_and_kept_to() -> None:
    """Each is asked once; then the one that answered soonest, until five minutes later each is tried once again."""
    memory = Memory(Selection.FASTEST)
    seconds = {"a": 0.5, "b": 0.1, "c": 0.3}
    assert [memory.request(seconds) for _ in range(6)] == ["a", "b", "c", "b", "b", "b"]
    memory.clock.advance(PROBE_SECONDS - 60)
    assert memory.request(seconds) == "b"
    memory.clock.advance(60)
    assert [memory.request(seconds) for _ in range(4)] == ["a", "c", "b", "b"]


def test_one_that_recovered_is_found() -> None:
    """By the one request in five minutes that tries it."""
    memory = Memory(Selection.FASTEST)
    seconds = {"a": 3.0, "b": 0.4, "c": 0.5}
    assert [memory.request(seconds) for _ in range(4)] == ["a", "b", "c", "b"]
    seconds["a"] = 0.1
    memory.clock.advance(PROBE_SECONDS)
    assert [memory.request(seconds) for _ in range(4)] == ["a", "c", "b", "a"]


def test_one_that_becomes_slow_is_left() -> None:
    """After a few requests, not after one."""
    memory = Memory(Selection.FASTEST)
    seconds = {"a": 0.1, "b": 0.3, "c": 0.4}
    for _ in range(3):
        memory.request(seconds)
    seconds["a"] = 0.6
    assert [memory.request(seconds) for _ in range(4)] == ["a", "a", "b", "b"]
