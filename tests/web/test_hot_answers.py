"""What a request that came before is answered with, and when that is no longer so."""

from __future__ import annotations

from typing import Any

import pytest

from pipcache.web import hot_answers
from pipcache.web.hot import LOOK_SECONDS, HotResponses
from pipcache.web.hot_answers import HotAnswers, Part
from tests.web.test_hot import NONE, Repeat, Wall


@pytest.fixture
def now() -> Wall:
    """A clock that the test moves."""
    return Wall()


@pytest.fixture
def answers(now: Wall) -> HotAnswers:
    """Answers to requests for /a, which is ready."""
    responses = HotResponses(1000, now)
    enter(responses, Repeat(now))
    return HotAnswers(responses)


def enter(responses: HotResponses, repeat: Repeat) -> None:
    """Have it ready."""
    responses.enter(b"/" + repeat.name.encode(), NONE, repeat)  # type: ignore[arg-type]


def asked(line: str = "GET /a HTTP/1.1", *fields: str) -> bytes:
    """A request."""
    return "".join(f"{each}\r\n" for each in (line, "Host: proxy.test", *fields, "")).encode()


@pytest.mark.parametrize(
    ("request_", "part", "status", "sent"),
    [
        (asked(), Part.WHOLE, 200, 10),
        (asked("HEAD /a HTTP/1.1"), Part.HEAD, 200, 0),
        (asked("GET /a HTTP/1.1", 'If-None-Match: "e"'), Part.NOT_MODIFIED, 304, 0),
        (asked("HEAD /a HTTP/1.1", 'If-None-Match: "e"'), Part.NOT_MODIFIED, 304, 0),
    ],
)
def test_the_same_request_has_the_same_answer(
    answers: HotAnswers, request_: bytes, part: Part, status: int, sent: int
) -> None:
    """It is worked out once."""
    answer = answers.to(request_)
    assert answer is not None
    assert (answer.part, answer.status, answer.sent) == (part, status, sent)
    assert answers.to(request_) is answer
    assert len(answers) == 1


@pytest.mark.parametrize(
    "request_",
    [
        asked("GET /b HTTP/1.1"),
        asked("POST /a HTTP/1.1"),
        asked("GET /a HTTP/1.1", 'If-None-Match: "other"'),
        asked("GET /a HTTP/1.1", "Range: bytes=0-1"),
        asked()[:-1],
        b"GET /a",
        asked("GET /" + "a" * 2000 + " HTTP/1.1"),
        b"",
    ],
)
def test_what_is_not_plain_or_not_ready_is_not_remembered(answers: HotAnswers, request_: bytes) -> None:
    """It has no answer here."""
    assert answers.to(request_) is None
    assert len(answers) == 0


@pytest.mark.parametrize("how", ["on disk", "by the catalog", "by time"])
def test_what_is_gone_is_no_answer(answers: HotAnswers, now: Wall, how: str) -> None:
    """A request that was answered before is not, once the response is forgotten; and is again when there is a new one."""
    responses = answers.responses
    repeat = Repeat(now, name="b")
    enter(responses, repeat)
    request = asked("GET /b HTTP/1.1")
    before = answers.to(request)
    if how == "on disk":
        repeat.on_disk = None
        now.at += 1.01 * LOOK_SECONDS
    elif how == "by the catalog":
        responses.drop(repeat.key.digest)
    else:
        now.at += 300
    assert answers.to(request) is None
    assert len(answers) == 0
    enter(responses, Repeat(now, name="b", on_disk="file 2"))
    after = answers.to(request)
    assert after is not None
    assert after is not before


def test_their_number_is_bounded(answers: HotAnswers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests in endless other words do not fill the memory."""
    monkeypatch.setattr(hot_answers, "MAX_REMEMBERED", 3)
    for number in range(10):
        assert answers.to(asked("GET /a HTTP/1.1", f"User-Agent: {number}")) is not None
        assert len(answers) <= 3


def test_a_renewed_response_answers_as_of_now(answers: HotAnswers, now: Wall) -> None:
    """The answer is remembered, the bytes are not."""
    request = asked()
    first: Any = answers.to(request)
    head = first.response.head
    now.at += 5
    second: Any = answers.to(request)
    assert second is first
    assert second.response.head != head
