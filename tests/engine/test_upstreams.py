"""The upstreams together: whom to ask, in which order, and what their answers amount to."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from pipcache.engine.upstreams import Asked, Attempt, Candidate, Manner, Upstreams
from pipcache.rules.errors import (
    ConfigError,
    MalformedResponse,
    NotServed,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from pipcache.rules.sites import UpstreamSite
from tests.fakes.engine import FakeClient, RecordedEvents, Turns, begin, is_waiting, result_of

SITES = tuple(UpstreamSite.from_root(name, f"https://user:secret@{name}.test") for name in ("a", "b", "c"))
PATH = "/packages/x-1.tar.gz"


class Question:
    """The upstreams and what was asked of them."""

    def __init__(self) -> None:
        self.client = FakeClient()
        self.clock = Turns()
        self.events = RecordedEvents()
        self.upstreams = Upstreams(self.client, self.clock, self.events)
        self.upstreams.now_known(SITES)
        self.refusal: UpstreamError | None = None

    async def use(self, asked: Asked) -> Asked:
        """Take the answer, or find that it is no good."""
        if self.refusal is not None:
            asked.response.abandon()
            refusal, self.refusal = self.refusal, None
            raise refusal
        return asked

    def ask(self, attempt: Attempt | None = None, manner: Manner | None = None) -> Deferred[Asked]:
        """Ask all of them, in the order of now."""
        attempt = attempt or Attempt()
        sites = self.upstreams.in_order(attempt)
        candidates = [Candidate(f"{site.root}{PATH}?token=hidden", site, site.name) for site in sites]
        return begin(self.upstreams.ask(candidates, attempt, PATH, self.use, manner or Manner()))

    def order(self) -> str:
        """The names in the order of now."""
        return "".join(site.name for site in self.upstreams.in_order(Attempt()))

    def fail(self, name: str, began_at: float | None = None) -> None:
        """A request to this one failed."""
        self.upstreams.failed(name, self.clock.seconds() if began_at is None else began_at)


def test_the_first_one_that_gives_it_is_taken() -> None:
    """The others are not asked."""
    question = Question()
    answer = question.ask()
    response = question.client.answer()
    assert result_of(answer).response is response
    assert len(question.client.sent) == 1


@pytest.mark.parametrize(
    "error", [UpstreamUnavailable("no connection"), UpstreamTimeout("silence"), MalformedResponse("bad redirect")]
)
def test_the_next_one_is_asked_when_one_fails(error: UpstreamError) -> None:
    """And the failure is told, and counted."""
    question = Question()
    answer = question.ask()
    question.client.refuse(error)
    question.client.answer()
    assert result_of(answer).candidate.site.name == "b"
    assert question.events.of("upstream_failed") == [("a", PATH, error)]
    assert question.upstreams.health["a"].consecutive_failures == 1


@pytest.mark.parametrize(("status", "failures"), [(500, 1), (503, 1), (404, 0), (403, 0), (429, 0), (304, 0)])
def test_a_status_that_is_no_answer_makes_the_next_be_asked(status: int, failures: int) -> None:
    """A 5xx is a failure; "a 4xx is neither failure nor success". Its body is not taken."""
    question = Question()
    answer = question.ask()
    refused = question.client.answer(status)
    question.client.answer()
    assert result_of(answer).candidate.site.name == "b"
    assert refused.is_abandoned
    assert len(question.events.of("upstream_failed")) == failures
    health = question.upstreams.health.get("a")
    assert (health.consecutive_failures if health else 0) == failures


def test_a_4xx_does_not_reset_the_failures() -> None:
    """Two failures, a 404 and a failure are three in a row."""
    question = Question()
    question.fail("a")
    question.fail("a")
    asked = question.ask()
    question.client.answer(404)
    question.client.answer()
    result_of(asked)
    assert question.order() == "abc"
    question.fail("a")
    assert question.order() == "bca"


def test_an_answer_that_turns_out_no_good_makes_the_next_be_asked() -> None:
    """What it must be is for ``use`` to say."""
    question = Question()
    question.refusal = MalformedResponse("no simple page")
    answer = question.ask()
    question.client.answer()
    question.client.answer()
    assert result_of(answer).candidate.site.name == "b"
    assert question.upstreams.health["a"].consecutive_failures == 1


def test_a_bug_in_use_is_no_upstream_s_failure() -> None:
    """It reaches the caller as it is."""
    question = Question()

    async def broken(asked: Asked) -> None:
        asked.response.abandon()
        raise ZeroDivisionError

    candidate = Candidate(f"{SITES[0].root}{PATH}", SITES[0], "a")
    answer = begin(question.upstreams.ask([candidate], Attempt(), PATH, broken))
    question.client.answer()
    with pytest.raises(ZeroDivisionError):
        result_of(answer)
    assert question.upstreams.health == {}


def test_which_codes_are_answers_is_the_manner_s_to_say() -> None:
    """As are the method and the range; all of it is sent."""
    question = Question()
    manner = Manner(method="GET", byte_range="bytes=1-", accepted=frozenset({206}))
    answer = question.ask(manner=manner)
    question.client.answer(200)
    question.client.answer(206)
    assert result_of(answer).candidate.site.name == "b"
    assert question.client.sent[0].request.byte_range == "bytes=1-"


def test_the_time_at_which_a_request_began_is_kept() -> None:
    """Its failure may count much later."""
    question = Question()
    question.clock.advance(7)
    answer = question.ask()
    question.clock.advance(5)
    question.client.answer()
    assert result_of(answer).began_at == 7


def test_three_failures_in_a_row_put_one_last_for_two_seconds() -> None:
    """Last, not out."""
    question = Question()
    for _ in range(2):
        question.fail("a")
    assert question.order() == "abc"
    question.fail("a")
    assert question.order() == "bca"
    assert question.upstreams.is_last("a")
    question.clock.advance(2)
    assert question.order() == "abc"
    assert not question.upstreams.is_last("a")


def test_the_time_doubles_up_to_a_minute() -> None:
    """With the first failure after each."""
    question = Question()
    for _ in range(3):
        question.fail("a")
    for seconds in (2, 4, 8, 16, 32, 60, 60):
        question.clock.advance(seconds - 0.5)
        assert question.order() == "bca"
        question.clock.advance(0.5)
        assert question.order() == "abc"
        question.fail("a")


def test_failures_of_requests_begun_earlier_do_not_count() -> None:
    """Nor those made while it is last: one outage is one."""
    question = Question()
    for _ in range(3):
        question.fail("a")
    question.clock.advance(1)
    question.fail("a")
    question.clock.advance(1)
    question.fail("a", began_at=0.5)
    assert question.order() == "abc"


def test_a_success_forgets_all_failures() -> None:
    """A mirror that came back is used at once."""
    question = Question()
    for _ in range(3):
        question.fail("a")
    question.upstreams.succeeded("a")
    assert question.order() == "abc"
    question.fail("a")
    assert question.order() == "abc"


def test_a_file_host_that_is_no_upstream_has_no_health() -> None:
    """Its failures and successes count for nobody."""
    question = Question()
    candidate = Candidate("https://files.test/x", SITES[0], None)
    answer = begin(question.upstreams.ask([candidate], Attempt(), PATH, question.use))
    question.client.refuse(UpstreamUnavailable("down"))
    question.upstreams.succeeded(None)
    with pytest.raises(NotServed):
        result_of(answer)
    assert question.upstreams.health == {}


def test_one_that_was_silent_is_asked_last_for_the_rest_of_the_request() -> None:
    """Also behind those that are put last; for other requests nothing changes."""
    question = Question()
    attempt = Attempt()
    answer = question.ask(attempt)
    question.client.refuse(UpstreamTimeout("silence"))
    question.client.answer()
    result_of(answer)
    for _ in range(3):
        question.fail("b")
    assert "".join(site.name for site in question.upstreams.in_order(attempt)) == "cba"
    assert question.order() == "acb"


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ((404, 404, 404), 404),
        ((404, 403, 410), 404),
        ((404, UpstreamTimeout("silence"), UpstreamUnavailable("down")), 404),
        ((404, 503, 404), 502),
        ((404, 429, 404), 502),
        ((403, 403, 403), 502),
        ((404, MalformedResponse("nonsense"), 404), 502),
        ((503, UpstreamUnavailable("down"), UpstreamTimeout("silence")), 504),
        ((UpstreamTimeout("silence"), UpstreamTimeout("silence"), 503), 502),
        ((404, ConfigError("no such certificate file"), 404), 404),
    ],
)
def test_what_a_client_hears_when_nobody_has_it(answers: tuple[int | Exception, ...], status: int) -> None:
    """404 needs one who says so and nobody who says anything else; else 504 after silence, 502."""
    question = Question()
    asked = question.ask()
    for answer in answers:
        if isinstance(answer, Exception):
            question.client.refuse(answer)
        else:
            question.client.answer(answer)
    with pytest.raises(NotServed) as caught:
        result_of(asked)
    assert caught.value.status == status
    message = str(caught.value)
    assert all(f"{site.name}: " in message for site in SITES)
    assert not any(secret in message for secret in ("secret", "token", "hidden", "https://"))


def test_without_any_upstream_it_says_so() -> None:
    """That is no absence."""
    question = Question()
    answer = begin(question.upstreams.ask([], Attempt(), PATH, question.use))
    with pytest.raises(NotServed, match="no upstream to ask") as caught:
        result_of(answer)
    assert caught.value.status == 502


def test_who_asks_before_it_is_known_whom_to_ask_waits() -> None:
    """What ``pip:`` stands for is found out after the start; pages may then be redirected among all of them."""
    client = FakeClient()
    upstreams = Upstreams(client, Turns(), RecordedEvents())
    waiting = [begin(upstreams.known()), begin(upstreams.known())]
    assert all(is_waiting(each) for each in waiting)
    upstreams.now_known(SITES[:1])
    for each in waiting:
        result_of(each)
    assert client.page_sites == upstreams.sites == SITES[:1]
    upstreams.now_known(SITES)
    assert client.page_sites == SITES
