"""The log: what the engine tells, as lines for an operator, from the configured level on.

``twistd`` has no level of its own, so ours are filtered before they reach its log; Twisted's own messages are not.
Messages are templates with their values as fields. None carries a query, a credential or a token.

What is told with each thing that is fetched would cost more than to keep it: the first is told at once, and those that come
within ``TOGETHER_SECONDS`` of it in one event, a line each.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.logger import (
    FilteringLogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogPublisher,
)

from pipcache.rules.errors import DigestMismatch, PipcacheError
from pipcache.rules.units import approximate_size

CROWDED_SECONDS = 60.0
TOGETHER_SECONDS = 0.2

CallLater = Callable[[float, Callable[[], None]], Any]
"""Calls a function after so many seconds; the result can be cancelled."""


def new_logger(level: str) -> Logger:
    """A logger of messages from ``level`` on: debug, info, warn or error."""
    predicate = LogLevelFilterPredicate(LogLevel.levelWithName(level))
    return Logger("pipcache", observer=FilteringLogObserver(globalLogPublisher, [predicate]))


class LoggedEvents:
    """``Events`` as log lines; ``trouble`` is what the disk is failing with now, None when it works.

    Args:
        log: where they go.
        seconds: tells the time.
        call_later: where what comes together is told together; None: each is told at once.
    """

    def __init__(
        self, log: Logger, seconds: Callable[[], float] = time.monotonic, call_later: CallLater | None = None
    ) -> None:
        self.trouble: str | None = None
        self._log = log
        self._seconds = seconds
        self._call_later = call_later
        self._fetched: list[str] = []
        self._due: Any = None
        self._crowded_at = -CROWDED_SECONDS

    def fetched(self, path: str, upstream: str, size_bytes: int, seconds: float) -> None:
        """A body came whole."""
        self._fetched.append(f"fetched {path} from {upstream}: {approximate_size(size_bytes)} in {seconds:.2f} s")
        if self._due is None:
            self._tell_fetched()

    def close(self) -> None:
        """Tell what was to be told together, and from now on everything at once."""
        self._call_later = None
        if self._due is not None:
            self._due.cancel()
            self._tell_fetched()

    def _tell_fetched(self) -> None:
        """Tell what has come, and wait for more; as long as there is any."""
        self._due = None
        if self._fetched:
            lines, self._fetched = "\n".join(self._fetched), []
            self._log.info("{lines}", lines=lines)
            if self._call_later is not None:
                self._due = self._call_later(TOGETHER_SECONDS, self._tell_fetched)

    def validated(self, path: str, upstream: str) -> None:
        """What is kept is still right."""
        self._log.debug("{path} is still what {upstream} has", path=path, upstream=upstream)

    def upstream_failed(self, upstream: str, path: str, error: PipcacheError) -> None:
        """An upstream did not give what it was asked for."""
        self._log.warn("{upstream} did not give {path}: {error}", upstream=upstream, path=path, error=str(error))

    def fetch_broke(self, path: str, upstream: str, error: PipcacheError) -> None:
        """A body broke off."""
        say = self._log.error if isinstance(error, DigestMismatch) else self._log.warn
        say("{path} from {upstream} broke off: {error}", path=path, upstream=upstream, error=str(error))

    def storage_failed(self, error: PipcacheError) -> None:
        """The disk did not do what it was asked; said once until it works again."""
        if self.trouble is None:
            self._log.warn("{error}; clients are served from upstream meanwhile", error=str(error))
        self.trouble = str(error)

    def storage_works(self) -> None:
        """The disk did what it was asked."""
        if self.trouble is not None:
            self._log.info("the cache directory works again")
        self.trouble = None

    def found_wrong(self, key: str) -> None:
        """A stored body was touched and is wrong."""
        self._log.error("{key} was not what was verified; it is in quarantine and is fetched again", key=key)

    def evicted(self, entries: int, freed_bytes: int, short_bytes: int) -> None:
        """The janitor made room."""
        self._log.info("evicted {entries} entries, {freed}", entries=entries, freed=approximate_size(freed_bytes))
        if short_bytes:
            self._log.warn(
                "what is in use keeps the cache {short} over its low mark", short=approximate_size(short_bytes)
            )

    def scanned(self, entries: int, size_bytes: int, seconds: float) -> None:
        """The scan at start is through."""
        self._log.info(
            "the cache holds {entries} entries, {size} (counted in {seconds:.2f} s)",
            entries=entries,
            size=approximate_size(size_bytes),
            seconds=seconds,
        )

    def crowded(self, limit: int) -> None:
        """A client was sent away; said once a minute, for it is one of many."""
        now = self._seconds()
        if now - self._crowded_at >= CROWDED_SECONDS:
            self._crowded_at = now
            self._log.warn("{limit} clients are connected, so others are sent away with a 503", limit=limit)

    def access_log_failed(self, what: str) -> None:
        """Lines of the access log are lost."""
        self._log.warn("{what}", what=what)

    def crashed(self, doing: str) -> None:
        """A bug of ours."""
        self._log.failure("an error of pipcache while {doing}", doing=doing)
