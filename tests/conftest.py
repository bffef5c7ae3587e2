"""What every test shares: no test may leave a failed Deferred, a logged failure or a timer behind."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings
from twisted.internet import reactor
from twisted.logger import LogEvent, globalLogPublisher

# No time decides about a test. Where the result decides about a change, the examples are the same every time.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_collection_finish() -> None:
    """What is there before the first test is none of its leavings: looked through once, not behind each of thousands."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[list[LogEvent]]:
    """Fail the test when a failure was logged or a timer is left; a test that expects failures clears the list."""
    failures: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            failures.append(event)

    globalLogPublisher.addObserver(observe)
    before = set(reactor.getDelayedCalls())  # type: ignore[attr-defined]
    yield failures
    gc.collect()  # an unhandled error in a Deferred is logged when the Deferred is collected
    globalLogPublisher.removeObserver(observe)
    timers = [call for call in reactor.getDelayedCalls() if call not in before]  # type: ignore[attr-defined]
    for call in timers:
        call.cancel()
    assert not failures, [event["log_failure"].getTraceback() for event in failures]
    assert not timers, timers
