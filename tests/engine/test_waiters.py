"""One result for many who wait, each with a Deferred of its own."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred

from pipcache.engine.waiters import Waiters
from tests.fakes.engine import is_waiting, result_of


def test_each_waiter_has_a_deferred_of_its_own() -> None:
    """What one makes of the result is not what another gets."""
    waiters: Waiters[int] = Waiters()
    first, second = waiters.wait(), waiters.wait()
    first.addCallback(lambda number: number + 1)
    waiters.fire(1)
    assert (result_of(first), result_of(second)) == (2, 1)


def test_who_comes_late_gets_the_result_at_once() -> None:
    """A result that is there stays there."""
    waiters: Waiters[int] = Waiters()
    assert (waiters.is_decided, waiters.result) == (False, None)
    waiters.fire(1)
    assert (waiters.is_decided, waiters.result) == (True, 1)
    assert result_of(waiters.wait()) == 1


def test_an_error_goes_to_all_and_counts_as_decided() -> None:
    """Those who waited and those who come late hear of it; there is no result."""
    waiters: Waiters[int] = Waiters()
    early = waiters.wait()
    waiters.fail(KeyError("gone"))
    assert (waiters.is_decided, waiters.result) == (True, None)
    for waiter in (early, waiters.wait()):
        with pytest.raises(KeyError):
            result_of(waiter)


def test_an_error_that_nobody_waits_for_is_not_logged() -> None:
    """No Deferred is made for it, so there is none that could be left unhandled."""
    Waiters[int]().fail(KeyError("gone"))


def test_cancelling_one_takes_nothing_from_the_others() -> None:
    """The one that was cancelled hears so; the result comes to the rest, and does not stumble over it."""
    waiters: Waiters[int] = Waiters()
    first, second, third = waiters.wait(), waiters.wait(), waiters.wait()
    second.cancel()
    waiters.fire(1)
    assert (result_of(first), result_of(third)) == (1, 1)
    with pytest.raises(CancelledError):
        result_of(second)


@pytest.mark.parametrize("is_success", [True, False])
def test_a_waiter_cancelled_by_another_s_callback_stops_nobody(is_success: bool) -> None:
    """The one that was to be told next may be cancelled by the one that is being told."""
    waiters: Waiters[int] = Waiters()
    first, second, third = waiters.wait(), waiters.wait(), waiters.wait()
    first.addBoth(lambda _: second.cancel())
    if is_success:
        waiters.fire(1)
    else:
        waiters.fail(KeyError("gone"))
    with pytest.raises(CancelledError):
        result_of(second)
    if is_success:
        assert result_of(third) == 1
    else:
        with pytest.raises(KeyError):
            result_of(third)


def test_who_begins_to_wait_inside_a_callback_is_told_too() -> None:
    """The result is there before the first one hears of it."""
    waiters: Waiters[int] = Waiters()
    nested: list[Deferred[int]] = []
    waiters.wait().addCallback(lambda _: nested.append(waiters.wait()))
    late = waiters.wait()
    waiters.fire(1)
    assert not is_waiting(late)
    assert [result_of(waiter) for waiter in nested] == [1]
