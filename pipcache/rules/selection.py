"""In which order upstreams are asked, and what a client hears when none of them has an answer.

Must not know an upstream's address or a connection: upstreams are names, answers are values. Source: issue A.

Health changes only the order. An upstream that keeps failing is put last for a while, never out: it is still
asked before a client hears no. The while doubles as long as it goes on failing, so that a dead mirror costs
little, and the first complete answer forgets everything, so that one which came back is used at once. One
outage makes every request that is under way fail at the same time; those count as one, or ten waiting clients
would make a minute's penalty of a second's outage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TypeAlias

from attrs import evolve, frozen

FAILURES_TO_BE_LAST = 3
FIRST_PENALTY_SECONDS = 2.0
MAX_PENALTY_SECONDS = 60.0


class Failure(Enum):
    """How an upstream can fail without an HTTP status that means something."""

    UNREACHABLE = "unreachable"
    """No connection, no name, no TLS, or it broke before an answer began: no HTTP answer at all."""
    TIMED_OUT = "timed_out"
    """Silence: no HTTP answer at all either."""
    BROKEN = "broken"
    """It answered what cannot be an answer: broken HTTP, a 200 that is no simple page, a bad redirect."""


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
        if self.penalty_seconds:
            if began_at < self.last_until:
                return self
            return self._put_last(min(2 * self.penalty_seconds, MAX_PENALTY_SECONDS), now)
        if self.consecutive_failures + 1 >= FAILURES_TO_BE_LAST:
            return self._put_last(FIRST_PENALTY_SECONDS, now)
        return evolve(self, consecutive_failures=self.consecutive_failures + 1)

    def distrusted(self, now: float) -> Health:
        """The health after the upstream sent bytes that were not what the index promised: last, for as long as can be."""
        return self._put_last(MAX_PENALTY_SECONDS, now)

    def succeeded(self) -> Health:
        """The health after a complete 2xx or 304, which resets all."""
        return Health()

    def is_last(self, now: float) -> bool:
        """Whether the upstream is asked after the others now."""
        return now < self.last_until

    def _put_last(self, penalty_seconds: float, now: float) -> Health:
        return Health(self.consecutive_failures + 1, penalty_seconds, now + penalty_seconds)


def order(names: Sequence[str], health: Mapping[str, Health], now: float) -> tuple[str, ...]:
    """All the upstreams in the order to ask them: as configured, those put last after the others.

    Args:
        names: in the configured order.
        health: by name; an upstream that is not in it is well.
        now: of the clock that the health was counted with.
    """
    well = Health()
    return tuple(sorted(names, key=lambda name: health.get(name, well).is_last(now)))  # sorting is stable


def is_failure(answer: Answer) -> bool:
    """Whether an answer counts against an upstream's health: "a 4xx is neither failure nor success"."""
    return isinstance(answer, Failure) or answer >= 500


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
