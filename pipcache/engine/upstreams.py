"""The upstreams together: in which order they are asked, and what their answers amount to.

Health and speed are counted here and nowhere else. What an answer must be to be taken is the caller's to say (``use``): it
raises ``UpstreamError`` for one that is no good, and the next upstream is asked.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from math import ceil
from typing import Final, TypeVar

from attrs import define, field, frozen

from pipcache.engine.interfaces import Client, Clock, Events, UpstreamResponse
from pipcache.engine.race import Entrant, Race
from pipcache.engine.waiters import Waiters
from pipcache.rules.errors import (
    DigestMismatch,
    NotServed,
    Outdated,
    PipcacheError,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from pipcache.rules.fields import Fields, get
from pipcache.rules.selection import (
    Answer,
    Failure,
    Health,
    Selection,
    is_absence,
    is_absent,
    is_failure,
    is_lacking,
    not_now,
    order,
    verdict,
)
from pipcache.rules.sites import UpstreamRequest, UpstreamSite
from pipcache.rules.speed import Allowance, Speed

T = TypeVar("T")

PATIENCE_SECONDS: Final = 5.0
"""How long an upstream may take to begin its answer before the next one is asked beside it."""


@frozen
class Candidate:
    """One place where a thing may be had.

    ``site`` is whose certificates and credentials apply, and who is named to clients. ``health_name`` is the upstream
    whose health its answers count for, None for a file host that is no upstream. ``validators`` are the fields that make
    a request to it conditional; then a 304 is an answer too.
    """

    url: str
    site: UpstreamSite
    health_name: str | None
    validators: Fields = ()


@frozen
class Asked:
    """A response that an upstream gave: whose, when the request began and when its head came (the clock's seconds)."""

    response: UpstreamResponse
    candidate: Candidate
    began_at: float
    head_at: float


@frozen
class Manner:
    """How upstreams are asked: as in ``UpstreamRequest``; and which status codes are answers."""

    method: str = "GET"
    for_page: bool = False
    byte_range: str | None = None
    if_range: str | None = None
    accepted: frozenset[int] = frozenset({200})
    accept: str = "*/*"

    def takes(self, candidate: Candidate, status: int) -> bool:
        """Whether a status code of this place is an answer."""
        return status in self.accepted or (status == 304 and bool(candidate.validators))

    def request(self, candidate: Candidate, via: tuple[str, ...] = ()) -> UpstreamRequest:
        """The request to one place."""
        return UpstreamRequest(
            candidate.url,
            candidate.site,
            self.method,
            self.for_page,
            self.byte_range,
            self.if_range,
            via,
            candidate.validators,
            self.accept,
        )


PLAINLY = Manner()


@define
class Attempt:
    """What one client's request has met so far; ``silent`` upstreams are asked last for the rest of it.

    ``via`` are the hops that it came through, which go upstream with all that is asked for it. ``turn``: which request
    this is, of those that have asked for an order; None: it has not yet.
    """

    via: tuple[str, ...] = ()
    silent: set[str] = field(factory=set)
    turn: int | None = None


class Upstreams:
    """The configured upstreams, their health and speed. Those that ``pip:`` stands for become known after the start."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        events: Events,
        selection: Selection = Selection.ORDERED,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        epoch_seconds: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._clock = clock
        self._events = events
        self._selection = selection
        self._patience_seconds = patience_seconds
        self._epoch_seconds = epoch_seconds
        self._allowance = Allowance()
        self._turns = 0
        self._sites: tuple[UpstreamSite, ...] = ()
        self._known: Waiters[None] = Waiters()
        self.health: dict[str, Health] = {}
        self.speeds: dict[str, Speed] = {}

    @property
    def is_ordered(self) -> bool:
        """Whether the configured order is the one to ask in."""
        return self._selection is Selection.ORDERED

    @property
    def sites(self) -> tuple[UpstreamSite, ...]:
        """All upstreams in the configured order."""
        return self._sites

    def now_known(self, sites: tuple[UpstreamSite, ...]) -> None:
        """Say which upstreams there are; whoever waited to ask them goes on."""
        self._sites = sites
        self._client.allow_pages_from(tuple(site for site in sites if site.is_trusted))
        if not self._known.is_decided:
            self._known.fire(None)

    async def known(self) -> None:
        """Return when it is known which upstreams there are."""
        await self._known.wait()

    def in_order(self, attempt: Attempt) -> tuple[UpstreamSite, ...]:
        """All upstreams in the order to ask them now."""
        if attempt.turn is None:
            attempt.turn, self._turns = self._turns, self._turns + 1
        by_name = {site.name: site for site in self._sites}
        now = self._clock.seconds()
        names = order(tuple(by_name), self.health, now, self._selection, turn=attempt.turn, speeds=self.speeds)
        return tuple(by_name[name] for name in sorted(names, key=lambda name: name in attempt.silent))

    def is_last(self, name: str) -> bool:
        """Whether the upstream is put last now."""
        health = self.health.get(name)
        return health is not None and health.is_last(self._clock.seconds())

    def succeeded(self, name: str | None, size_bytes: int = 0, since: float = 0.0) -> None:
        """A complete 2xx or 304 came from this upstream: its body, of so many bytes, since then until now."""
        if name is None:
            return
        self.health.pop(name, None)
        now = self._clock.seconds()
        self.speeds[name] = self._speed(name).brought(size_bytes, now - since, now)

    def failed(self, name: str | None, began_at: float, error: PipcacheError | None = None) -> None:
        """A request that began then failed at this upstream; one that sent wrong bytes is not asked again soon."""
        if name is None:
            return
        health, now = self.health.get(name, Health()), self._clock.seconds()
        is_liar = isinstance(error, DigestMismatch)
        self.health[name] = health.distrusted(now) if is_liar else health.failed(began_at, now)

    async def ask(
        self,
        candidates: Sequence[Candidate],
        attempt: Attempt,
        path: str,
        use: Callable[[Asked], Awaitable[T]],
        manner: Manner = PLAINLY,
    ) -> T:
        """What ``use`` makes of the first answer that is any good.

        The next one is asked when one has failed, or beside one that does not begin to answer; see ``Race``. Whoever is
        still being asked when an answer was good has neither failed nor succeeded.

        Args:
            candidates: in the order to ask.
            attempt: what the client's request has met so far; silence is noted in it.
            path: for messages.
            use: takes the response; owns it from then on; raises UpstreamError when it is no good after all.
            manner: how they are asked.

        Raises:
            NotServed: nobody gave it; its status is what the answers amount to.
        """

        def send(candidate: Candidate) -> Awaitable[UpstreamResponse]:
            self._note_asked(candidate.health_name)
            return self._client.send(manner.request(candidate, attempt.via))

        race = Race(candidates, send, self._clock, self._patience_seconds, self._allowance)
        try:
            found = await self._first_good(race, attempt, path, use, manner)
        except Exception:  # not what ends a coroutine that nobody will ever go on with: there is no order in that
            self._close(race)
            raise
        self._close(race)
        return found

    async def _first_good(
        self,
        race: Race[Candidate],
        attempt: Attempt,
        path: str,
        use: Callable[[Asked], Awaitable[T]],
        manner: Manner,
    ) -> T:
        """As ``ask``, but for what is still under way."""
        heard = _Heard()
        while (entrant := await race.next()) is not None:
            self._measure(entrant)
            candidate, began_at = entrant.place, entrant.began_at
            try:
                response = entrant.taken()
                if manner.takes(candidate, response.status):
                    return await use(Asked(response, candidate, began_at, entrant.ended_at or began_at))
                response.abandon()
                self._declined(candidate, began_at, response, path, heard)
            except PipcacheError as error:
                answer = _as_answer(error)
                heard.add(candidate.site.name, answer, str(error))
                if answer is Failure.TIMED_OUT:
                    attempt.silent.add(candidate.site.name)
                if not isinstance(error, Outdated):
                    self.failed(candidate.health_name, began_at, error)
                self._events.upstream_failed(candidate.site.name, path, error)
        raise heard.as_error()

    def _close(self, race: Race[Candidate]) -> None:
        for unheard in race.close():
            self._measure(unheard)

    def _declined(
        self, candidate: Candidate, began_at: float, response: UpstreamResponse, path: str, heard: _Heard
    ) -> None:
        """Count a status that is no answer."""
        status, name = response.status, candidate.health_name
        wait_seconds = not_now(status, get(response.fields, "retry-after"), self._epoch_seconds())
        heard.add(candidate.site.name, status, str(status), wait_seconds)
        if is_failure(status):
            self.failed(name, began_at)
            self._events.upstream_failed(candidate.site.name, path, UpstreamError(f"answered {status}"))
        if wait_seconds is not None and name is not None:
            health = self.health.get(name, Health())
            self.health[name] = health.put_off(wait_seconds, self._clock.seconds())

    def _speed(self, name: str) -> Speed:
        return self.speeds.get(name, Speed())

    def _note_asked(self, name: str | None) -> None:
        if name is not None:
            self.speeds[name] = self._speed(name).asked(self._clock.seconds())

    def _measure(self, entrant: Entrant[Candidate]) -> None:
        """Note how long it took to begin its answer, or for how long it did not."""
        name, now = entrant.place.health_name, self._clock.seconds()
        if name is None:
            return
        seconds = (now if entrant.ended_at is None else entrant.ended_at) - entrant.began_at
        if entrant.response is not None:
            if entrant.response.status < 300 or entrant.response.status == 304:
                self.speeds[name] = self._speed(name).answered(seconds, now)
        elif seconds >= self._patience_seconds or (entrant.failure and entrant.failure.check(UpstreamTimeout)):
            self.speeds[name] = self._speed(name).silent(seconds, now)


@define
class _Heard:
    """What the upstreams said to one question; ``wait_seconds`` is None for an answer that is no "not now"."""

    answers: list[Answer] = field(factory=list)
    said: list[str] = field(factory=list)
    waits_seconds: list[float | None] = field(factory=list)
    absent_at: set[str] = field(factory=set)

    def add(self, name: str, answer: Answer, said: str, wait_seconds: float | None = None) -> None:
        """One more answer, of the upstream of this name."""
        self.answers.append(answer)
        self.said.append(f"{name}: {said}")
        self.waits_seconds.append(wait_seconds)
        if is_absent(answer):
            self.absent_at.add(name)

    def as_error(self) -> NotServed:
        """What the client hears.

        Where all say "not now", so do we: RFC 9110 section 15.6.4, "currently unable to handle the request due to a
        temporary overload ..., which will likely be alleviated after some delay". Not 429, as it was not this client who
        asked too much; not 502, as the answers are valid and installers should come back when they are told to.
        """
        said = "; ".join(self.said) or "there is no upstream to ask"
        waits = [wait for wait in self.waits_seconds if wait is not None]
        if waits and len(waits) == len(self.answers):
            seconds = max(1, ceil(min(waits)))
            return NotServed(503, f"No upstream wants to be asked now. ({said})", retry_after_seconds=seconds)
        status = verdict(self.answers)
        found = "No upstream has this." if status == 404 else "No upstream could give this."
        absent_at = frozenset(self.absent_at)
        return NotServed(
            status,
            f"{found} ({said})",
            absent_at=absent_at,
            is_absence=is_absence(self.answers),
            is_lacking=is_lacking(self.answers),
        )


def _as_answer(error: PipcacheError) -> Answer:
    if isinstance(error, UpstreamTimeout):
        return Failure.TIMED_OUT
    if isinstance(error, UpstreamUnavailable):
        return Failure.UNREACHABLE
    if isinstance(error, DigestMismatch):
        return Failure.OTHER_BYTES
    if isinstance(error, UpstreamError):
        return Failure.BROKEN
    return Failure.UNREACHABLE  # we cannot use it as it is set up
