"""The log: which levels reach it, what each event says, and that trouble with the disk is said once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from pipcache.edges.logs import TOGETHER_SECONDS, LoggedEvents, new_logger
from pipcache.rules.errors import DigestMismatch, StorageError, TruncatedBody, UpstreamUnavailable

MIB = 1 << 20


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """What reaches Twisted's log from the test on."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def said(logged: list[LogEvent]) -> list[tuple[str, str]]:
    """Level and text of what was logged by pipcache."""
    return [(event["log_level"].name, formatEvent(event)) for event in logged if event["log_namespace"] == "pipcache"]


@pytest.mark.parametrize(
    ("level", "reach"),
    [
        ("debug", ["debug", "info", "warn", "error"]),
        ("info", ["info", "warn", "error"]),
        ("warn", ["warn", "error"]),
        ("error", ["error"]),
    ],
)
def test_messages_below_the_level_are_left_out(logged: list[LogEvent], level: str, reach: list[str]) -> None:
    """The configured level and those above it reach the log, and no others."""
    log = new_logger(level)
    for name in ("debug", "info", "warn", "error"):
        getattr(log, name)("said")
    assert said(logged) == [(name, "said") for name in reach]


@pytest.mark.parametrize(
    ("tell", "level", "text"),
    [
        (
            lambda events: events.fetched("/simple/a/", "one", 3 * MIB // 2, 0.123),
            "info",
            "fetched /simple/a/ from one: 1.5 MiB in 0.12 s",
        ),
        (
            lambda events: events.upstream_failed("one", "/simple/a/", UpstreamUnavailable("refused")),
            "warn",
            "one did not give /simple/a/: refused",
        ),
        (
            lambda events: events.fetch_broke("/a.whl", "one", TruncatedBody("5 bytes came of 9")),
            "warn",
            "/a.whl from one broke off: 5 bytes came of 9",
        ),
        (
            lambda events: events.fetch_broke("/a.whl", "one", DigestMismatch("another sha256")),
            "error",
            "/a.whl from one broke off: another sha256",
        ),
        (lambda events: events.evicted(3, 2 * MIB, 0), "info", "evicted 3 entries, 2 MiB"),
        (
            lambda events: events.scanned(12, 5 * MIB, 1.5),
            "info",
            "the cache holds 12 entries, 5 MiB (counted in 1.50 s)",
        ),
    ],
)
def test_each_event_is_one_line(logged: list[LogEvent], tell, level: str, text: str) -> None:
    """The level says how bad it is, the text what happened to what."""
    tell(LoggedEvents(new_logger("debug")))
    assert said(logged) == [(level, text)]


def test_values_are_never_templates(logged: list[LogEvent]) -> None:
    """Braces in a path or an error are shown as they are."""
    events = LoggedEvents(new_logger("debug"))
    events.fetch_broke("/{path}", "one", TruncatedBody("{error} {0}"))
    assert said(logged) == [("warn", "/{path} from one broke off: {error} {0}")]


def test_what_is_fetched_together_is_told_together(logged: list[LogEvent]) -> None:
    """The first at once, the next ones a line each in one message; who comes when all is told is the first again."""
    clock = Clock()
    events = LoggedEvents(new_logger("info"), clock.seconds, clock.callLater)
    for path in ("/a", "/{b}", "/c"):
        events.fetched(path, "one", 1, 0.0)
    assert said(logged) == [("info", "fetched /a from one: 1 B in 0.00 s")]
    clock.advance(TOGETHER_SECONDS)
    events.fetched("/d", "one", 1, 0.0)
    assert said(logged)[1:] == [("info", "fetched /{b} from one: 1 B in 0.00 s\nfetched /c from one: 1 B in 0.00 s")]
    for _ in range(2):
        clock.advance(TOGETHER_SECONDS)
    assert (said(logged)[2:], clock.getDelayedCalls()) == ([("info", "fetched /d from one: 1 B in 0.00 s")], [])
    events.fetched("/e", "one", 1, 0.0)
    assert said(logged)[3:] == [("info", "fetched /e from one: 1 B in 0.00 s")]


def test_at_the_end_all_is_told(logged: list[LogEvent]) -> None:
    """What waited is told when the log is closed, what comes later at once; no timer is left."""
    clock = Clock()
    events = LoggedEvents(new_logger("info"), clock.seconds, clock.callLater)
    events.close()
    events = LoggedEvents(new_logger("info"), clock.seconds, clock.callLater)
    events.fetched("/a", "one", 1, 0.0)
    events.fetched("/b", "one", 1, 0.0)
    events.close()
    events.fetched("/c", "one", 1, 0.0)
    assert [text.split()[1] for _, text in said(logged)] == ["/a", "/b", "/c"]
    assert clock.getDelayedCalls() == []


def test_what_cannot_be_evicted_is_a_warning(logged: list[LogEvent]) -> None:
    """An operator whose cache stays too full is told by how much."""
    LoggedEvents(new_logger("debug")).evicted(0, 0, MIB)
    assert said(logged) == [
        ("info", "evicted 0 entries, 0 B"),
        ("warn", "what is in use keeps the cache 1 MiB over its low mark"),
    ]


def test_trouble_with_the_disk_is_said_once(logged: list[LogEvent]) -> None:
    """Once when it begins and once when it ends; ``trouble`` is the latest reason, for the health report."""
    events = LoggedEvents(new_logger("debug"))
    assert events.trouble is None
    events.storage_works()
    assert said(logged) == []
    events.storage_failed(StorageError("no space"))
    events.storage_failed(StorageError("read-only"))
    assert events.trouble == "read-only"
    events.storage_works()
    events.storage_works()
    assert events.trouble is None
    events.storage_failed(StorageError("no space again"))
    assert said(logged) == [
        ("warn", "no space; clients are served from upstream meanwhile"),
        ("info", "the cache directory works again"),
        ("warn", "no space again; clients are served from upstream meanwhile"),
    ]


def test_a_bug_is_logged_with_its_traceback(logged: list[LogEvent], nothing_left_behind: list[LogEvent]) -> None:
    """The exception being handled, and what was being done."""
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        LoggedEvents(new_logger("error")).crashed("counting")
    assert said(logged) == [("critical", "an error of pipcache while counting")]
    assert nothing_left_behind.pop()["log_failure"].check(ZeroDivisionError)


def test_a_crowd_is_told_of_once_a_minute(logged: list[LogEvent]) -> None:
    """Whoever is sent away is one of very many."""
    now = [0.0]
    events = LoggedEvents(new_logger("info"), lambda: now[0])
    for now[0] in (0.0, 1.0, 59.0, 60.0, 61.0):
        events.crowded(7)
    assert said(logged) == [("warn", "7 clients are connected, so others are sent away with a 503")] * 2
