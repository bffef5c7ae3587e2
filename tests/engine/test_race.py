"""Slow starts: when a second upstream is asked beside one that does not begin to answer, and what becomes of both."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pipcache.engine.upstreams import PATIENCE_SECONDS, Asked, Attempt, Candidate, Manner, Upstreams
from pipcache.rules.errors import MalformedResponse, NotServed, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from pipcache.rules.sites import UpstreamRequest, UpstreamSite
from tests.fakes.engine import FakeClient, FakeResponse, RecordedEvents, Turns, begin, is_waiting, result_of

SITES = tuple(UpstreamSite.from_root(name, f"https://{name}.test") for name in ("a", "b", "c"))
PATH = "/packages/x-1.tar.gz"


class CancelledClient(FakeClient):
    """Notes whose requests were cancelled; with ``late`` set, those are answered with it in the same moment."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled: list[str] = []
        self.late: FakeResponse | None = None

    def send(self, request: UpstreamRequest) -> Deferred[Any]:
        """As a client whose requests can be cancelled."""
        answer = super().send(request)
        answer._canceller = lambda cancelled: self._cancel(request, cancelled)
        return answer

    def _cancel(self, request: UpstreamRequest, cancelled: Deferred[Any]) -> None:
        self.cancelled.append(request.site.name)
        if self.late is not None:
            cancelled.callback(self.late)


class Course:
    """Three upstreams, asked in this order, and what came of it."""

    def __init__(self) -> None:
        self.client = CancelledClient()
        self.clock = Turns()
        self.events = RecordedEvents()
        self.upstreams = Upstreams(self.client, self.clock, self.events)
        self.upstreams.now_known(SITES)
        self.attempt = Attempt()
        self.used: list[Asked] = []
        self.using: Deferred[None] | None = None

    async def use(self, asked: Asked) -> str:
        """Take the answer; where the test says so, only when it says so."""
        self.used.append(asked)
        if self.using is not None:
            using, self.using = self.using, None
            try:
                await using
            except UpstreamError:
                asked.response.abandon()
                raise
        return asked.candidate.site.name

    def ask(self, *names: str, manner: Manner | None = None) -> Deferred[str]:
        """Ask these, or all."""
        sites = [site for site in SITES if not names or site.name in names]
        candidates = [Candidate(f"{site.root}{PATH}", site, site.name) for site in sites]
        return begin(self.upstreams.ask(candidates, self.attempt, PATH, self.use, manner or Manner()))

    @property
    def asked(self) -> str:
        """The names of those that were sent a request, in order."""
        return "".join(sent.request.site.name for sent in self.client.sent)

    def answer(self, name: str, status: int = 200) -> FakeResponse:
        """Have this one answer."""
        return self.client.answer(status, url=f"https://{name}.test{PATH}")

    def refuse(self, name: str, error: Exception) -> None:
        """Have this one fail."""
        self.client.refuse(error, url=f"https://{name}.test{PATH}")

    def is_over(self) -> bool:
        """Whether no timer is left, and no response that neither ended nor was given up, but for the winner's."""
        lost = [
            response for response in self.client.responses if not self.used or response is not self.used[-1].response
        ]
        return not self.clock.getDelayedCalls() and not self.client.waiting and all(each.is_settled for each in lost)


@pytest.fixture
def course() -> Course:
    """A course of its own."""
    return Course()


def test_the_next_one_is_asked_beside_one_that_is_slow(course: Course) -> None:
    """After five seconds, not before; and no third one, however long both take."""
    answer = course.ask()
    course.clock.advance(PATIENCE_SECONDS - 0.1)
    assert course.asked == "a"
    course.clock.advance(0.1)
    assert course.asked == "ab"
    course.clock.advance(1000)
    assert course.asked == "ab"
    assert is_waiting(answer)
    course.answer("b")
    assert result_of(answer) == "b"
    assert course.is_over()


@pytest.mark.parametrize(("winner", "loser"), ["ab", "ba"])
def test_the_first_good_answer_wins(course: Course, winner: str, loser: str) -> None:
    """The other is cancelled; it has not failed, and is not called silent."""
    answer = course.ask()
    course.clock.advance(PATIENCE_SECONDS)
    course.answer(winner)
    assert result_of(answer) == winner
    assert course.client.cancelled == [loser]
    assert course.upstreams.health == {}
    assert course.attempt.silent == set()
    assert course.events.all == []
    assert course.is_over()


def test_one_that_answers_in_time_is_alone(course: Course) -> None:
    """No timer is left of the question whether to ask another."""
    answer = course.ask()
    course.clock.advance(PATIENCE_SECONDS - 0.1)
    course.answer("a")
    assert result_of(answer) == "a"
    course.clock.advance(100)
    assert course.asked == "a"
    assert course.is_over()


def test_where_there_is_no_other_nobody_else_is_asked(course: Course) -> None:
    """And no timer runs."""
    answer = course.ask("c")
    assert course.clock.getDelayedCalls() == []
    course.clock.advance(100)
    course.answer("c")
    assert result_of(answer) == "c"


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("trouble", [404, 500, 429, UpstreamUnavailable("down"), UpstreamTimeout("silence")])
def test_when_one_of_two_has_nothing_the_other_is_waited_for(
    course: Course, first: str, trouble: int | UpstreamError
) -> None:
    """The next one takes its place beside it when that has been slow; never are there three."""
    answer = course.ask()
    course.clock.advance(PATIENCE_SECONDS)
    if isinstance(trouble, int):
        course.answer(first, trouble)
    else:
        course.refuse(first, trouble)
    assert is_waiting(answer)
    assert course.asked == "ab"
    course.clock.advance(PATIENCE_SECONDS)
    assert course.asked == "abc"
    course.answer("b" if first == "a" else "a")
    assert result_of(answer) != first
    assert course.client.cancelled == ["c"]
    assert course.is_over()


def test_one_that_has_been_slow_already_is_not_waited_for_anew(course: Course) -> None:
    """When the second one has nothing, the third is asked beside the first at once."""
    answer = course.ask()
    course.clock.advance(PATIENCE_SECONDS)
    course.answer("b", 404)
    course.clock.advance(0)
    assert course.asked == "abc"
    course.answer("c")
    assert result_of(answer) == "c"


def test_all_have_nothing(course: Course) -> None:
    """Each is heard once, in whatever order."""
    answer = course.ask()
    course.clock.advance(PATIENCE_SECONDS)
    course.answer("b", 404)
    course.clock.advance(0)
    course.answer("c", 404)
    course.refuse("a", UpstreamTimeout("silence"))
    with pytest.raises(NotServed) as caught:
        result_of(answer)
    assert caught.value.status == 404
    assert course.attempt.silent == {"a"}
    assert course.is_over()


def test_while_an_answer_is_looked_at_the_other_goes_on(course: Course) -> None:
    """It is taken when that answer was no good after all; nobody else need be asked."""
    course.using = using = Deferred()
    answer = course.ask()
    course.clock.advance(PATIENCE_SECONDS)
    course.answer("b")
    assert course.client.cancelled == []
    course.answer("a")
    assert is_waiting(answer)
    using.errback(MalformedResponse("no simple page"))
    assert result_of(answer) == "a"
    assert course.asked == "ab"
    assert course.upstreams.health["b"].consecutive_failures == 1
    assert course.is_over()


def test_an_answer_that_was_no_good_leaves_the_other_to_come(course: Course) -> None:
    """Also where that is not there yet; and then the next one."""
    course.using = using = Deferred()
    answer = course.ask()
    course.clock.advance(PATIENCE_SECONDS)
    course.answer("b")
    using.errback(MalformedResponse("no simple page"))
    assert is_waiting(answer)
    course.refuse("a", UpstreamUnavailable("down"))
    course.answer("c")
    assert result_of(answer) == "c"
    assert course.is_over()


@pytest.mark.parametrize("status", [200, 404])
def test_an_answer_that_nobody_needs_any_more_is_given_up(course: Course, status: int) -> None:
    """It came while the better one was being looked at."""
    course.using = using = Deferred()
    answer = course.ask()
    course.clock.advance(PATIENCE_SECONDS)
    course.answer("b")
    late = course.answer("a", status)
    using.callback(None)
    assert result_of(answer) == "b"
    assert late.is_abandoned
    assert course.is_over()


def test_the_slow_one_fails_while_the_other_answer_is_looked_at(course: Course) -> None:
    """That changes nothing, and counts for nothing."""
    course.using = using = Deferred()
    answer = course.ask()
    course.clock.advance(PATIENCE_SECONDS)
    course.answer("b")
    course.refuse("a", UpstreamTimeout("silence"))
    using.callback(None)
    assert result_of(answer) == "b"
    assert course.upstreams.health == {}
    assert course.events.all == []


def test_an_answer_in_the_moment_of_the_cancellation_is_given_up(course: Course) -> None:
    """A connection does not stay open for it."""
    answer = course.ask()
    course.clock.advance(PATIENCE_SECONDS)
    course.client.late = FakeResponse()
    course.answer("b")
    assert result_of(answer) == "b"
    assert course.client.late.is_abandoned


def test_a_question_that_is_cancelled_ends_all_of_it(course: Course) -> None:
    """Both requests and the timer."""
    answer = course.ask()
    course.clock.advance(PATIENCE_SECONDS)
    answer.addErrback(lambda _: None)
    answer.cancel()
    assert sorted(course.client.cancelled) == ["a", "b"]
    assert course.is_over()
    other = course.ask()
    other.addErrback(lambda _: None)
    other.cancel()
    assert course.is_over()


def test_haste_is_paid_from_an_allowance(course: Course) -> None:
    """Three slow starts are covered, the fourth waits; twenty requests later there is one again."""
    for number in range(5):
        answer = course.ask()
        course.clock.advance(PATIENCE_SECONDS)
        assert len(course.client.waiting) == (2 if number < 3 else 1)
        course.answer("a")
        result_of(answer)
    for _ in range(15):
        answer = course.ask()
        course.answer("a")
        result_of(answer)
    answer = course.ask()
    course.clock.advance(PATIENCE_SECONDS)
    assert len(course.client.waiting) == 2
    course.answer("b")
    assert result_of(answer) == "b"


def test_a_bug_while_sending_reaches_the_caller(course: Course) -> None:
    """And the other one is ended."""
    answer = course.ask()
    course.clock.advance(PATIENCE_SECONDS)
    course.refuse("a", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        result_of(answer)
    assert course.client.cancelled == ["b"]
    assert course.is_over()


def test_the_time_to_the_head_is_measured(course: Course) -> None:
    """Of the winner; and the other has taken so long at least, which is no failure."""
    answer = course.ask()
    course.clock.advance(PATIENCE_SECONDS)
    course.clock.advance(1.5)
    course.answer("b")
    result_of(answer)
    found = {name: speed.first_byte and speed.first_byte.value for name, speed in course.upstreams.speeds.items()}
    assert found == {"a": 6.5, "b": 1.5}


def test_one_that_was_cancelled_early_is_not_measured(course: Course) -> None:
    """Nobody knows how long it would have taken."""
    answer = course.ask()
    course.clock.advance(PATIENCE_SECONDS)
    course.clock.advance(1.5)
    course.answer("a")
    result_of(answer)
    assert course.upstreams.speeds["b"].first_byte is None
