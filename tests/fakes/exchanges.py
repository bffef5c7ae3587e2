"""Simulated upstreams: a ``Client`` of the engine whose answers, and how they end, are drawn at random.

Nothing happens by itself: an exchange moves when it is told to ``advance``, one head, chunk or end at a time, so that
the schedule is the simulation's. What was said is written down, as it is what clients may be given at most.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from random import Random
from typing import Any
from urllib.parse import urlsplit

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pipcache.rules.errors import (
    MalformedResponse,
    TruncatedBody,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from pipcache.rules.sites import BodyReceiver, UpstreamRequest, UpstreamSite
from tests.fakes.truth import FILE_HOST, SITES, TRUTH

SILENCE_SECONDS = 30.0
MOST_CHUNK_BYTES = 1 << 15
_BEFORE_HEAD = ("refuse", "silent", "malformed", "404", "403", "429", "500", "503")
_IN_BODY = ("cut", "stall", "wrong", "closed", "cut", "stall")


@define
class Character:
    """How one upstream, or the file host, behaves: ratios in [0, 1]."""

    trouble: float = 0.0
    lying: float = 0.0
    lagging: float = 0.0
    refuses_range: float = 0.0
    chunked: float = 0.2
    etag: str = "strong"
    is_down: bool = False

    @classmethod
    def drawn(cls, random: Random, *, is_liar: bool) -> Character:
        """One at random; only a liar gives wrong bytes often."""
        return cls(
            trouble=random.choice((0.0, 0.1, 0.3, 0.6)),
            lying=random.choice((0.3, 0.9)) if is_liar else random.choice((0.0, 0.05)),
            lagging=random.choice((0.0, 0.3)),
            refuses_range=random.choice((0.0, 0.2, 1.0)),
            chunked=random.choice((0.1, 0.5)),
            etag=random.choice(("strong", "strong", "weak", "none")),
        )


@define
class Said:
    """What responses were, by our path: ``whole`` bodies, ``parts`` of them, and ``closed`` ones that may be short."""

    whole: dict[str, set[bytes]] = field(factory=dict)
    parts: dict[str, set[bytes]] = field(factory=dict)
    closed: dict[str, set[bytes]] = field(factory=dict)
    pages: dict[str, set[tuple[bytes, UpstreamSite]]] = field(factory=dict)
    closed_pages: dict[str, set[tuple[bytes, UpstreamSite]]] = field(factory=dict)


class SimulatedClient:
    """The engine's ``Client``; ``open`` are the exchanges that are not over."""

    def __init__(self, random: Random, clock: Clock, characters: dict[str, Character], said: Said) -> None:
        self.random = random
        self.clock = clock
        self.characters = characters
        self.said = said
        self.open: list[Exchange] = []
        self.trusted: set[str] = set()
        self.upstreams: set[str] = set()

    def send(self, request: UpstreamRequest) -> Deferred[Any]:
        """The response, some time."""
        exchange = Exchange(self, request)
        self.open.append(exchange)
        return exchange.answer

    def allow_pages_from(self, sites: tuple[UpstreamSite, ...]) -> None:
        """Which upstreams there are."""
        self.trusted = {site.name for site in sites if site.is_trusted}
        self.upstreams = {site.name for site in sites}


class Exchange:
    """One request, and the ``UpstreamResponse`` to it."""

    def __init__(self, client: SimulatedClient, request: UpstreamRequest) -> None:
        self.answer: Deferred[Any] = Deferred(lambda _: self._over())  # who cancels it wants none any more
        self.request = request
        self.url = request.url
        self.status = 200
        self.length: int | None = None
        self.fields: tuple[tuple[str, str], ...] = ()
        self.is_over = False
        self.is_taken = False
        self._client = client
        self._error: UpstreamError | None = None
        self._payload = b""
        self._sent = 0
        self._end = "whole"
        self._end_at = 0
        self._chunk_bytes = 1
        self._receiver: BodyReceiver | None = None
        self._is_paused = False
        self._is_silent = False
        self._is_answered = False
        self._timer: Any = None
        self._decide()

    # -- what it will be ---------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        random, request = self._client.random, self.request
        host, path = _place(request)
        character = self._client.characters[host]
        fate = ""
        if character.is_down:
            fate = random.choice(("refuse", "refuse", "silent"))
        elif random.random() < character.trouble:
            fate = random.choice(_BEFORE_HEAD + _IN_BODY)
        if fate == "refuse":
            self._error = UpstreamUnavailable("no connection")
        elif fate == "malformed":
            self._error = MalformedResponse("no HTTP")
        elif fate == "silent":
            self._is_silent = True
            self._start_timer()
        elif fate.isdigit():
            self.status = int(fate)
            self.length = 0
        else:
            self._decide_content(path, character, fate)

    def _is_believed(self) -> bool:
        """Whether its host is one whose bytes may go out where no digest is known: a trusted upstream, or a file host."""
        host = _place(self.request)[0]
        return host in self._client.trusted or host not in self._client.upstreams

    def _decide_content(self, path: str, character: Character, fate: str) -> None:
        random, request, said = self._client.random, self.request, self._client.said
        project = path.split("/")[2] if path.startswith("/simple/") else None
        if project is not None:
            assert request.site.name in self._client.trusted, f"a page was asked of {request.site.name}"
            content = TRUTH.page(project, random.random() < character.lagging)
            if content is not None and fate == "wrong":
                content = b"<html>please sign in"
            elif content is not None:
                said.pages.setdefault(project, set()).add((content, request.site))
        else:
            content = TRUTH.contents.get(path)
            if content and (random.random() < character.lying or fate == "wrong"):
                content = _altered(content, random.randrange(4))
        if content is None:
            self.status = 404
            self.length = 0
            return
        if not self._is_believed():
            said = Said()  # what those say whom nobody vouches for excuses nothing
        said.whole.setdefault(path, set()).add(content)
        self._payload = content
        etag = f'"{sha256(content).hexdigest()[:16]}"'
        self.fields = (("content-type", "text/html" if project else "application/octet-stream"),)
        if character.etag != "none":
            self.fields += (("etag", etag if character.etag == "strong" else f"W/{etag}"),)
        if request.byte_range and random.random() >= character.refuses_range:
            self._cut_range(content, etag)
        said.parts.setdefault(path, set()).add(self._payload)
        size = len(self._payload)
        if fate == "closed":
            self._end, self._end_at = "closed", random.choice((size, random.randint(0, size)))
            ended = self._payload[: self._end_at]
            said.closed.setdefault(path, set()).add(ended)
            if project is not None:
                said.closed_pages.setdefault(project, set()).add((ended, request.site))
        else:
            self.length = None if random.random() < character.chunked else size
            is_broken = fate in ("cut", "stall") and (size > 0 or self.length is None)
            self._end, self._end_at = (fate, random.randint(0, max(size - 1, 0))) if is_broken else ("whole", size)
        self._chunk_bytes = min(max(1, -(-self._end_at // random.choice((1, 2, 3, 5, 8)))), MOST_CHUNK_BYTES)

    def _cut_range(self, content: bytes, etag: str) -> None:
        random, total = self._client.random, len(content)
        assert self.request.byte_range is not None
        if self.request.if_range not in (None, etag):
            return
        first, _, last = self.request.byte_range.removeprefix("bytes=").partition("-")
        if "," in last:
            return
        start = int(first) if first else max(0, total - int(last))
        stop = min(total, int(last) + 1) if first and last else total
        if start >= stop:
            self.status, self._payload = 416, b""
            self.fields = (("content-range", f"bytes */{total}"),)
            return
        if random.random() < 0.03 and start:
            start -= 1  # not the range that was asked for
        shown_total = "*" if random.random() < 0.05 else total + (random.random() < 0.03)
        self.status, self._payload = 206, content[start:stop]
        self.fields += (("content-range", f"bytes {start}-{stop - 1}/{shown_total}"),)

    # -- what it does ------------------------------------------------------------------------------------------------

    @property
    def can_advance(self) -> bool:
        """Whether anything would happen now."""
        if self.is_over or self._is_silent:
            return False
        return not self._is_answered or (self._receiver is not None and not self._is_paused)

    @property
    def is_lost(self) -> bool:
        """Whether it was answered, and nobody ever took or abandoned it."""
        return self._is_answered and not self.is_over and self._receiver is None

    def advance(self) -> None:
        """Answer, send the next chunk, or end."""
        if not self.can_advance:
            return
        if not self._is_answered:
            self._is_answered = True
            if self._error is not None:
                self._over()
                self.answer.errback(self._error)
            else:
                self.answer.callback(self)
            return
        assert self._receiver is not None
        if self._sent < self._end_at:
            start, self._sent = self._sent, min(self._sent + self._chunk_bytes, self._end_at)
            self._receiver.received(self._payload[start : self._sent])
            is_counted = self.length is not None and self._end == "whole"
            if self._sent < self._end_at or not is_counted or self.is_over:
                return
        self._finish()

    def _finish(self) -> None:
        receiver = self._receiver
        assert receiver is not None
        if self._end == "stall":
            self._is_silent = True
            self._start_timer()
            return
        self._over()
        if self._end == "cut":
            receiver.failed(TruncatedBody("the connection broke before the body was whole"))
        else:
            receiver.ended(length_was_known=self._end != "closed")

    def deliver(self, receiver: BodyReceiver) -> None:
        """Begin to send; what is short is there at once, as where it came with the head."""
        assert not self.is_taken, "a body is delivered once"
        self.is_taken = True
        self._receiver = receiver
        if not self._is_paused and self._end == "whole" and self._end_at < 3000 and self._client.random.random() < 0.3:
            self._chunk_bytes = max(self._end_at, 1)
            while self.can_advance:
                self.advance()

    def pause(self) -> None:
        """No more for now; the time of silence stands still."""
        self._is_paused = True
        self._stop_timer()

    def resume(self) -> None:
        """Go on."""
        self._is_paused = False
        if self._is_silent and not self.is_over:
            self._start_timer()

    def abandon(self) -> None:
        """Nobody wants it."""
        self._over()

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self._client.clock.callLater(SILENCE_SECONDS, self._timed_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _timed_out(self) -> None:
        self._timer = None
        receiver = self._receiver
        self._over()
        if receiver is None:
            self.answer.errback(UpstreamTimeout("no answer in time"))
        else:
            receiver.failed(UpstreamTimeout("no byte in time"))

    def _over(self) -> None:
        self._stop_timer()
        if not self.is_over:
            self.is_over = True
            self._client.open.remove(self)


@lru_cache(None)
def _altered(content: bytes, how: int) -> bytes:
    """Content that is not what it should be: another byte in the middle or at the end, shorter, or longer."""
    middle = len(content) // 2
    if how == 0:
        return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    if how == 1:
        return content[:-1] + bytes([content[-1] ^ 128])
    return content[:-1] if how == 2 else content + b"!"


def _place(request: UpstreamRequest) -> tuple[str, str]:
    """Who is asked, and for which path of ours."""
    if request.url.startswith(FILE_HOST):
        return "files", TRUTH.at_file_host[urlsplit(request.url).path]
    for site in SITES:
        root = site.root
        if root is not None and request.url.startswith(f"{root}/"):
            return site.name, request.url.removeprefix(root)
    raise AssertionError(f"nobody should be asked for {request.url}")
