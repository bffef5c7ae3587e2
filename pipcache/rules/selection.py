"""In which order upstreams are asked, and what a client hears when none of them has an answer.

Must not know an upstream's address or a connection: upstreams are names, answers are values. How fast they are is in
``speed``. Sources: issues A and C, RFC 9110 section 10.2.3, RFC 6585 section 4.

Health changes only the order. An upstream that keeps failing is put last for a while, never out: it is still
asked before a client hears no. The while doubles as long as it goes on failing, so that a dead mirror costs
little, and the first complete answer forgets everything, so that one which came back is used at once. One
outage makes every request that is under way fail at the same time; those count as one, or ten waiting clients
would make a minute's penalty of a second's outage.

"Not now" is no failure: an upstream that says how long it wants to be left alone is put last for so long, a minute at
most. Nobody is left out for that either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TypeAlias

from attrs import evolve, frozen

from pipcache.rules.dates import parse_http_date
from pipcache.rules.speed import Speed, by_speed

FAILURES_TO_BE_LAST = 3
FIRST_PENALTY_SECONDS = 2.0
MAX_PENALTY_SECONDS = 60.0

BUSY_SECONDS = 5.0
"""How long an upstream is put last that says 429 and not for how long: the burst that was too much goes elsewhere, and
the upstream that is preferred is soon asked first again."""

_DELTA_SECONDS = re.compile(r"[0-9]{1,18}")


class Selection(Enum):
    """In which order upstreams that are well are asked; the value of ``upstream.selection``."""

    ORDERED = "ordered"
    """As configured."""
    ROUND_ROBIN = "round_robin"
    """Each request begins with the next one."""
    FASTEST = "fastest"
    """The one that answers soonest first, see ``speed.by_speed``."""


class Failure(Enum):
    """How an upstream can fail without an HTTP status that means something."""

    UNREACHABLE = "unreachable"
    """No connection, no name, no TLS, or it broke before an answer began: no HTTP answer at all."""
    TIMED_OUT = "timed_out"
    """Silence: no HTTP answer at all either."""
    BROKEN = "broken"
    """It answered what cannot be an answer: broken HTTP, a 200 that is no simple page, a bad redirect."""
    OTHER_BYTES = "other_bytes"
    """What it sent is not what the index promised."""


Answer: TypeAlias = int | Failure
"""What one upstream came to: its final status code, or how it failed."""

_NO_ANSWER = (Failure.UNREACHABLE, Failure.TIMED_OUT)
_ABSENT = (404, 410)
_ABSENT_OR_REFUSED = (403, 404, 410)


@frozen
class Health:
    """What an upstream's recent failures come to; ``Health()`` where there are none. Times are in seconds.

    Attributes:
        consecutive_failures: since the last success.
        penalty_seconds: how long it was put last the last time; 0 where it was not since the last success.
        last_until: until when it is asked last.
    """

    consecutive_failures: int = 0
    penalty_seconds: float = 0.0
    last_until: float = 0.0

    def failed(self, began_at: float, now: float) -> Health:
        """The health after a request failed; itself where that failure does not count.

        "Failures of requests begun earlier, or made while it is last, do not count": both began before
        ``last_until``.

        Args:
            began_at: when the request began.
            now: when it failed.
        """
        if began_at < self.last_until:
            return self
        if self.penalty_seconds:
            return self._put_last(min(2 * self.penalty_seconds, MAX_PENALTY_SECONDS), now)
        if self.consecutive_failures + 1 >= FAILURES_TO_BE_LAST:
            return self._put_last(FIRST_PENALTY_SECONDS, now)
        return evolve(self, consecutive_failures=self.consecutive_failures + 1)

    def distrusted(self, now: float) -> Health:
        """The health after the upstream sent bytes that were not what the index promised: last, for as long as can be."""
        return self._put_last(MAX_PENALTY_SECONDS, now)

    def put_off(self, seconds: float, now: float) -> Health:
        """The health after the upstream asked to be left alone for so long; a longer time than that stands."""
        return evolve(self, last_until=max(self.last_until, now + min(seconds, MAX_PENALTY_SECONDS)))

    def succeeded(self) -> Health:
        """The health after a complete 2xx or 304, which resets all."""
        return Health()

    def is_last(self, now: float) -> bool:
        """Whether the upstream is asked after the others now."""
        return now < self.last_until

    def _put_last(self, penalty_seconds: float, now: float) -> Health:
        return Health(self.consecutive_failures + 1, penalty_seconds, now + penalty_seconds)


def order(
    names: Sequence[str],
    health: Mapping[str, Health],
    now: float,
    selection: Selection = Selection.ORDERED,
    *,
    turn: int = 0,
    speeds: Mapping[str, Speed] | None = None,
) -> tuple[str, ...]:
    """All the upstreams in the order to ask them: those that are well as selected, then those put last, as configured.

    Args:
        names: in the configured order.
        health: by name; an upstream that is not in it is well.
        now: of the clock that the health was counted with.
        selection: how those that are well are ordered.
        turn: which request this is, for ``ROUND_ROBIN``; from 0.
        speeds: by name, for ``FASTEST``; of one that is not in it nothing is known.
    """
    well = [name for name in names if not health.get(name, Health()).is_last(now)]
    last = [name for name in names if name not in well]
    if selection is Selection.ROUND_ROBIN and well:
        first = turn % len(well)
        well = well[first:] + well[:first]
    elif selection is Selection.FASTEST:
        well = by_speed(well, speeds or {}, now)
    return (*well, *last)


def not_now(status: int, retry_after: str | None, now: float) -> float | None:
    """For how many seconds an upstream wants to be left alone; None where its answer says no such thing.

    RFC 9110 section 10.2.3: "The value of this field can be either an HTTP-date or a number of seconds". A time that
    is past, or no time at all, is as if it were not there.

    Args:
        status: of its answer. A 429 always says it, a 503 where it says for how long.
        retry_after: the value of its Retry-After.
        now: seconds since the epoch.

    Returns:
        0 to ``MAX_PENALTY_SECONDS``.
    """
    if status not in (429, 503):
        return None
    text = (retry_after or "").strip()
    if _DELTA_SECONDS.fullmatch(text):
        return min(float(text), MAX_PENALTY_SECONDS)
    date = parse_http_date(text)
    if date is not None and date >= now:
        return min(date - now, MAX_PENALTY_SECONDS)
    return BUSY_SECONDS if status == 429 else None


def is_failure(answer: Answer) -> bool:
    """Whether an answer counts against an upstream's health: "a 4xx is neither failure nor success"."""
    return isinstance(answer, Failure) or answer >= 500


def is_absent(answer: Answer) -> bool:
    """Whether an upstream said that the thing is not there."""
    return answer in _ABSENT


def is_absence(answers: Sequence[Answer]) -> bool:
    """Whether the answers may be remembered as absence: every upstream said so, or did not answer at all."""
    heard = [answer for answer in answers if answer not in _NO_ANSWER]
    return bool(heard) and all(is_absent(answer) for answer in heard)


def is_lacking(answers: Sequence[Answer]) -> bool:
    """Whether nobody has the right thing: whoever answered at all said so, refused it, or sent other bytes."""
    heard = [answer for answer in answers if answer not in _NO_ANSWER]
    return bool(heard) and all(answer in (*_ABSENT_OR_REFUSED, Failure.OTHER_BYTES) for answer in heard)


def verdict(answers: Sequence[Answer]) -> int:
    """The status that a client gets when no upstream gave what it wants.

    404 "where at least one said 404 or 410 and every other said 403, 404 or 410 or gave no HTTP answer at
    all; else 504 if the last failure was silence, else 502". A server error or nonsense of one upstream is no
    absence: the file may be there, and an installer that hears 404 stops looking.

    Args:
        answers: in the order they came. Empty, where no upstream could be asked, is a 502: nobody said it is
            absent.
    """
    heard = [answer for answer in answers if answer not in _NO_ANSWER]
    if any(answer in _ABSENT for answer in heard) and all(answer in _ABSENT_OR_REFUSED for answer in heard):
        return 404
    return 504 if answers and answers[-1] is Failure.TIMED_OUT else 502
