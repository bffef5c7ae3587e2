"""The health of upstreams, the order to ask them in, and what a client hears when none has an answer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.selection import (
    BUSY_SECONDS,
    MAX_PENALTY_SECONDS,
    Answer,
    Failure,
    Health,
    Selection,
    is_failure,
    is_lacking,
    not_now,
    order,
    verdict,
)
from pipcache.rules.speed import Speed

UNREACHABLE, TIMED_OUT, BROKEN = Failure.UNREACHABLE, Failure.TIMED_OUT, Failure.BROKEN
OTHER_BYTES = Failure.OTHER_BYTES


def put_last(now: float) -> Health:
    """An upstream that has failed three times in a row at one moment."""
    health = Health()
    for _ in range(3):
        health = health.failed(now, now)
    return health


def test_three_failures_in_a_row_put_it_last_for_two_seconds() -> None:
    """Two do not."""
    assert not Health().failed(10.0, 10.0).failed(10.0, 10.0).is_last(10.0)
    health = put_last(10.0)
    assert health.is_last(10.0)
    assert health.is_last(11.9)
    assert not health.is_last(12.0)


def test_a_success_between_them_resets_the_count() -> None:
    """Failures count in a row only."""
    health = Health().failed(1.0, 1.0).failed(1.0, 1.0).succeeded().failed(2.0, 2.0).failed(2.0, 2.0)
    assert not health.is_last(2.0)


def test_the_first_failure_after_that_time_doubles_it() -> None:
    """From two to four seconds, by one failure."""
    health = put_last(10.0).failed(12.0, 13.0)
    assert health.is_last(16.9)
    assert not health.is_last(17.0)


def test_the_penalty_ends_at_a_minute() -> None:
    """However long the outage, it is tried first again once a minute."""
    health, now = put_last(0.0), 0.0
    penalties = []
    for _ in range(8):
        now = health.last_until
        health = health.failed(now, now)
        penalties.append(health.last_until - now)
    assert penalties == [4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0]


@pytest.mark.parametrize(
    ("began_at", "now"),
    [(9.0, 11.0), (9.0, 40.0), (10.0, 11.0), (11.0, 11.5), (11.0, 41.0)],
)
def test_failures_begun_before_it_is_over_do_not_count(began_at: float, now: float) -> None:
    """Neither requests under way when it was put last, nor those made while it is last."""
    health = put_last(10.0)
    assert health.failed(began_at, now) == health


def test_an_outage_of_many_clients_counts_once() -> None:
    """Ten requests that fail together cost two seconds; ten probes that do, double them once."""
    health = Health()
    for _ in range(10):
        health = health.failed(5.0, 10.0)
    assert health.last_until == 12.0
    for _ in range(10):
        health = health.failed(12.0, 13.0)
    assert health.last_until == 17.0


def test_a_success_resets_all() -> None:
    """The next three failures cost two seconds again."""
    health = put_last(10.0).failed(12.0, 12.0).succeeded()
    assert health == Health()
    assert not health.is_last(12.5)


@pytest.mark.parametrize(
    ("now", "expected"),
    [(10.0, ("b", "c", "a")), (12.0, ("a", "b", "c"))],
)
def test_those_put_last_are_asked_after_the_others(now: float, expected: tuple[str, ...]) -> None:
    """And come back to their configured place."""
    assert order(["a", "b", "c"], {"a": put_last(10.0), "b": Health().failed(9.0, 9.0)}, now) == expected


def test_all_put_last_are_asked_as_configured() -> None:
    """A client never hears no because of health alone."""
    health = {name: put_last(10.0) for name in "abc"}
    assert order(["c", "a", "b"], health, 10.0) == ("c", "a", "b")


@pytest.mark.parametrize(
    ("answer", "counts"),
    [(200, False), (304, False), (403, False), (404, False), (429, False), (500, True), (503, True)]
    + [(failure, True) for failure in Failure],
)
def test_a_4xx_is_no_failure(answer: Answer, counts: bool) -> None:
    """A server error, nonsense and silence are."""
    assert is_failure(answer) is counts


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ((404, 404), 404),
        ((410,), 404),
        ((403, 404), 404),
        ((410, 403), 404),
        ((404, UNREACHABLE), 404),
        ((TIMED_OUT, 404), 404),
        ((404, TIMED_OUT), 404),
        ((403, 403), 502),
        ((403, UNREACHABLE), 502),
        ((404, 500), 502),
        ((404, BROKEN), 502),
        ((404, 429), 502),
        ((404, 401), 502),
        ((451, 404), 502),
        ((408, 404), 502),
        ((UNREACHABLE, UNREACHABLE), 502),
        ((TIMED_OUT, TIMED_OUT), 504),
        ((UNREACHABLE, TIMED_OUT), 504),
        ((TIMED_OUT, UNREACHABLE), 502),
        ((404, 503, TIMED_OUT), 504),
        ((403, TIMED_OUT), 504),
        ((BROKEN,), 502),
        ((), 502),
    ],
)
def test_what_a_client_hears(answers: Sequence[Answer], status: int) -> None:
    """404 only where nobody who answered leaves a doubt; else whether the last failure was silence."""
    assert verdict(answers) == status


ANSWERS = st.lists(st.one_of(st.sampled_from(list(Failure)), st.sampled_from([403, 404, 410, 429, 500])))


@given(ANSWERS)
def test_absence_is_never_made_up(answers: list[Answer]) -> None:
    """No 404 where nobody said so, nor where an upstream was in trouble of its own."""
    if verdict(answers) == 404:
        assert 404 in answers or 410 in answers
        assert not {429, 500, BROKEN} & set(answers)


@pytest.mark.parametrize(
    ("answers", "is_so"),
    [
        ([], False),
        ([UNREACHABLE, TIMED_OUT], False),
        ([404], True),
        ([403], True),
        ([410, 403, OTHER_BYTES], True),
        ([OTHER_BYTES, TIMED_OUT], True),
        ([404, 503], False),
        ([404, BROKEN], False),
        ([OTHER_BYTES, 429], False),
    ],
)
def test_nobody_has_the_right_thing_where_all_who_answer_say_or_show_it(answers: list[Answer], is_so: bool) -> None:
    """An upstream in trouble of its own may have it."""
    assert is_lacking(answers) is is_so


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10), st.floats(0, 10)), max_size=40))
def test_a_penalty_is_bounded_whatever_happens(events: list[tuple[bool, float, float]]) -> None:
    """No sequence of events puts an upstream last for longer than a minute."""
    health, now = Health(), 0.0
    for succeeds, wait, took in events:
        now += wait
        health = health.succeeded() if succeeds else health.failed(now - took, now)
        assert health.last_until - now <= MAX_PENALTY_SECONDS
        assert not (succeeds and health.is_last(now))


@pytest.mark.parametrize("before", [Health(), Health().failed(1.0, 1.0), put_last(99.0), put_last(1.0)])
def test_wrong_bytes_put_it_last_for_a_minute_at_once(before: Health) -> None:
    """One body that is not what the index promised is enough, whatever its health was."""
    health = before.distrusted(100.0)
    assert health.is_last(100.0)
    assert health.is_last(159.9)
    assert not health.is_last(160.0)
    assert health.consecutive_failures == before.consecutive_failures + 1


def test_distrust_is_put_on_anew_each_time() -> None:
    """From the last wrong body on, also where that came while it was last."""
    assert Health().distrusted(100.0).distrusted(130.0).last_until == 190.0


def test_a_failure_during_distrust_does_not_shorten_it() -> None:
    """Nor does one after it: the penalty stays at its most."""
    health = Health().distrusted(100.0)
    assert health.failed(110.0, 110.0) == health
    assert health.failed(161.0, 162.0).last_until == 222.0


def test_a_complete_answer_ends_distrust() -> None:
    """As it ends every penalty: each body is checked anyway."""
    assert Health().distrusted(100.0).succeeded() == Health()
    assert order(("a", "b"), {"a": Health().distrusted(100.0)}, 120.0) == ("b", "a")


NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("status", "retry_after", "seconds"),
    [
        (429, "7", 7.0),
        (503, "7", 7.0),
        (429, " 7 ", 7.0),
        (503, "0", 0.0),
        (503, "3600", 60.0),
        (503, "9" * 18, 60.0),
        (503, "Sun, 06 Nov 1994 08:49:57 GMT", 20.0),
        (503, "Sunday, 06-Nov-94 08:49:57 GMT", 20.0),
        (429, "Sun, 06 Nov 1994 10:00:00 GMT", 60.0),
        (503, "Sun, 06 Nov 1994 08:49:00 GMT", None),
        (503, "-7", None),
        (503, "7.5", None),
        (503, "\u0667", None),
        (503, "9" * 5000, None),
        (503, "soon", None),
        (503, "", None),
        (503, None, None),
        (429, None, BUSY_SECONDS),
        (429, "soon", BUSY_SECONDS),
        (429, "-7", BUSY_SECONDS),
        (200, "7", None),
        (404, "7", None),
        (500, "7", None),
    ],
)
def test_for_how_long_an_upstream_wants_to_be_left_alone(
    status: int, retry_after: str | None, seconds: float | None
) -> None:
    """As it says, a minute at most; a 429 says it also where it does not say for how long."""
    assert not_now(status, retry_after, NOW) == seconds


@given(st.sampled_from([429, 503]), st.text(max_size=30) | st.integers().map(str))
def test_no_retry_after_breaks_anything(status: int, retry_after: str) -> None:
    """Whatever a mirror sends there, it costs it a minute at most."""
    seconds = not_now(status, retry_after, NOW)
    assert seconds is None or 0 <= seconds <= MAX_PENALTY_SECONDS


def test_one_that_is_put_off_is_last_and_has_not_failed() -> None:
    """For so long and no longer, and a first complete answer ends it."""
    health = Health().put_off(10.0, 100.0)
    assert health.is_last(109.9)
    assert not health.is_last(110.0)
    assert health.consecutive_failures == 0
    assert health.succeeded() == Health()


def test_being_put_off_shortens_no_penalty() -> None:
    """Nor does a shorter time end a longer one."""
    assert Health().distrusted(100.0).put_off(10.0, 100.0).last_until == 160.0
    assert Health().put_off(30.0, 100.0).put_off(1.0, 110.0).last_until == 130.0
    assert Health().put_off(3600.0, 100.0).last_until == 160.0


def test_failures_while_it_is_put_off_do_not_count() -> None:
    """It was asked because nobody else had it; and afterwards it takes three in a row again."""
    health = Health().put_off(10.0, 100.0)
    assert health.failed(101.0, 102.0) == health
    assert not health.failed(110.0, 111.0).failed(112.0, 113.0).is_last(113.0)
    assert health.failed(110.0, 111.0).failed(112.0, 113.0).failed(114.0, 114.0).is_last(114.0)


@pytest.mark.parametrize(
    ("turn", "expected"), [(0, "abcd"), (1, "bcda"), (2, "cdab"), (3, "dabc"), (4, "abcd"), (401, "bcda")]
)
def test_each_request_begins_with_the_next_one(turn: int, expected: str) -> None:
    """And goes on from there."""
    assert "".join(order("abcd", {}, 0.0, Selection.ROUND_ROBIN, turn=turn)) == expected


def test_those_put_last_have_no_turn() -> None:
    """The others share the requests evenly."""
    health = {"b": put_last(10.0)}
    found = ["".join(order("abc", health, 10.0, Selection.ROUND_ROBIN, turn=turn)) for turn in range(4)]
    assert found == ["acb", "cab", "acb", "cab"]


def test_the_fastest_comes_first() -> None:
    """Unless it is put last; and only where that is what was selected."""
    speeds = {name: Speed().asked(0.0).answered(seconds, 0.0) for name, seconds in (("a", 0.9), ("b", 0.5), ("c", 0.1))}
    assert order("abc", {}, 1.0, Selection.FASTEST, speeds=speeds) == ("c", "b", "a")
    assert order("abc", {"c": put_last(0.0)}, 1.0, Selection.FASTEST, speeds=speeds) == ("b", "a", "c")
    assert order("abc", {}, 1.0, speeds=speeds) == ("a", "b", "c")


SPEEDS = st.builds(
    lambda asked, first_byte: asked if first_byte is None else asked.answered(first_byte, 0.0),
    st.none().map(lambda _: Speed()) | st.floats(0, 1000).map(Speed().asked),
    st.none() | st.floats(0, 30),
)


@given(
    st.lists(st.sampled_from("abcdef"), unique=True),
    st.sets(st.sampled_from("abcdef")),
    st.sampled_from(list(Selection)),
    st.integers(0, 1000),
    st.dictionaries(st.sampled_from("abcdef"), SPEEDS),
)
def test_an_order_has_all_and_those_put_last_at_its_end(
    names: list[str], last: set[str], selection: Selection, turn: int, speeds: dict[str, Speed]
) -> None:
    """Whatever is selected, each upstream is asked once, and those put last as configured."""
    health = {name: put_last(1000.0) for name in last}
    found = order(names, health, 1000.0, selection, turn=turn, speeds=speeds)
    assert sorted(found) == sorted(names)
    ends = [name for name in names if name in last]
    assert list(found[len(names) - len(ends) :]) == ends
