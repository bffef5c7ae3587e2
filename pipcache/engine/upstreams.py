"""The upstreams together: in which order they are asked, and what their answers amount to.

Health is counted here and nowhere else. What an answer must be to be taken is the caller's to say (``use``): it raises
``UpstreamError`` for one that is no good, and the next upstream is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from attrs import define, field, frozen

from pipcache.engine.interfaces import Client, Clock, Events, UpstreamResponse
from pipcache.engine.waiters import Waiters
from pipcache.rules.errors import (
    DigestMismatch,
    NotServed,
    PipcacheError,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from pipcache.rules.selection import Answer, Failure, Health, is_failure, order, verdict
from pipcache.rules.sites import UpstreamRequest, UpstreamSite

T = TypeVar("T")


@frozen
class Candidate:
    """One place where a thing may be had.

    ``site`` is whose certificates and credentials apply, and who is named to clients. ``health_name`` is the upstream
    whose health its answers count for, None for a file host that is no upstream.
    """

    url: str
    site: UpstreamSite
    health_name: str | None


@frozen
class Asked:
    """A response that an upstream gave: whose, and when the request began (the clock's seconds)."""

    response: UpstreamResponse
    candidate: Candidate
    began_at: float


@frozen
class Manner:
    """How upstreams are asked: as in ``UpstreamRequest``; and which status codes are answers."""

    method: str = "GET"
    for_page: bool = False
    byte_range: str | None = None
    if_range: str | None = None
    accepted: frozenset[int] = frozenset({200})

    def request(self, candidate: Candidate, via: tuple[str, ...] = ()) -> UpstreamRequest:
        """The request to one place."""
        return UpstreamRequest(
            candidate.url, candidate.site, self.method, self.for_page, self.byte_range, self.if_range, via
        )


PLAINLY = Manner()


@define
class Attempt:
    """What one client's request has met so far; ``silent`` upstreams are asked last for the rest of it.

    ``via`` are the hops that it came through, which go upstream with all that is asked for it.
    """

    via: tuple[str, ...] = ()
    silent: set[str] = field(factory=set)


class Upstreams:
    """The configured upstreams and their health. Those that ``pip:`` stands for become known after the start."""

    def __init__(self, client: Client, clock: Clock, events: Events) -> None:
        self._client = client
        self._clock = clock
        self._events = events
        self._sites: tuple[UpstreamSite, ...] = ()
        self._known: Waiters[None] = Waiters()
        self.health: dict[str, Health] = {}

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
        by_name = {site.name: site for site in self._sites}
        names = order(tuple(by_name), self.health, self._clock.seconds())
        return tuple(by_name[name] for name in sorted(names, key=lambda name: name in attempt.silent))

    def is_last(self, name: str) -> bool:
        """Whether the upstream is put last now."""
        health = self.health.get(name)
        return health is not None and health.is_last(self._clock.seconds())

    def succeeded(self, name: str | None) -> None:
        """A complete 2xx or 304 came from this upstream."""
        if name is not None:
            self.health.pop(name, None)

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

        Args:
            candidates: in the order to ask.
            attempt: what the client's request has met so far; silence is noted in it.
            path: for messages.
            use: takes the response; owns it from then on; raises UpstreamError when it is no good after all.
            manner: how they are asked.

        Raises:
            NotServed: nobody gave it; its status is what the answers amount to.
        """
        answers: list[Answer] = []
        said: list[str] = []
        for candidate in candidates:
            began_at = self._clock.seconds()
            try:
                response = await self._client.send(manner.request(candidate, attempt.via))
                if response.status in manner.accepted:
                    return await use(Asked(response, candidate, began_at))
                response.abandon()
                answer: Answer = response.status
                said.append(f"{candidate.site.name}: {response.status}")
                if is_failure(answer):
                    self.failed(candidate.health_name, began_at)
                    self._events.upstream_failed(
                        candidate.site.name, path, UpstreamError(f"answered {response.status}")
                    )
            except PipcacheError as error:
                answer = _as_answer(error)
                said.append(f"{candidate.site.name}: {error}")
                if answer is Failure.TIMED_OUT:
                    attempt.silent.add(candidate.site.name)
                self.failed(candidate.health_name, began_at, error)
                self._events.upstream_failed(candidate.site.name, path, error)
            answers.append(answer)
        status = verdict(answers)
        found = "No upstream has this." if status == 404 else "No upstream could give this."
        raise NotServed(status, f"{found} ({'; '.join(said) or 'there is no upstream to ask'})")


def _as_answer(error: PipcacheError) -> Answer:
    if isinstance(error, UpstreamTimeout):
        return Failure.TIMED_OUT
    if isinstance(error, UpstreamUnavailable):
        return Failure.UNREACHABLE
    if isinstance(error, UpstreamError):
        return Failure.BROKEN
    return Failure.UNREACHABLE  # we cannot use it as it is set up
