"""A whole cache in memory but for its directory: the engine over the real store, its surroundings steered by the test.

`Visit` stands for one client at the door: it waits for the outcome, then follows it at once, or drops it when it has left
meanwhile. `check_books` says what must hold when all is over, whatever happened; every test that has a `Cached` asks it.
"""

from __future__ import annotations

import hashlib
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pipcache.edges.disk import DiskStore
from pipcache.engine.absences import Absences
from pipcache.engine.cache import Cache
from pipcache.engine.holdings import Holdings
from pipcache.engine.outcome import Outcome, Request
from pipcache.engine.upstreams import Upstreams
from pipcache.rules.catalog import Catalog, Limits
from pipcache.rules.fields import Fields, get
from pipcache.rules.freshness import Grace, Ttls
from pipcache.rules.routes import parse_target
from pipcache.rules.sites import UpstreamSite
from tests.fakes.disk import FullDisk, Threads
from tests.fakes.engine import FakeClient, FakeResponse, RecordedEvents, Sink, Turns, begin

ALPHA = UpstreamSite.from_root("alpha", "https://user:secret@alpha.test")
BETA = UpstreamSite.from_root("beta", "https://beta.test", "/pypi")
EPOCH = 1_700_000_000.0
LIMITS = Limits(max_bytes=8 << 20, max_entries=100, high=0.9, low=0.7)
TTLS = Ttls(simple_seconds=300, packages_seconds=1e6, default_seconds=60)
NO_GRACE = Grace(0.0, 0.0)


def page(*links: str, attributes: str = "") -> bytes:
    """A project's page with these links."""
    anchors = "".join(f'<a href="{link}"{attributes}>{link}</a>\n' for link in links)
    return f'<!DOCTYPE html><meta name="pypi:repository-version" content="1.0">{anchors}'.encode()


def promised(link: str, body: bytes, name: str = "sha256") -> str:
    """A link with the digest of what it leads to."""
    return f"{link}#{name}={hashlib.new(name, body).hexdigest()}"


class Visit:
    """One client's request and what came of it: an error, or a head and a body."""

    def __init__(self, cached: Cached, target: str, method: str, fields: Fields) -> None:
        self.sink = Sink()
        self.outcome: Outcome | None = None
        self.error: Exception | None = None
        self.has_left = False
        self._cached = cached
        request = Request(parse_target(target.encode()), method, fields)
        coming: Deferred[Outcome] = begin(cached.cache.respond(request))
        coming.addCallbacks(self._came, self._failed)

    @property
    def status(self) -> int:
        """The status of the answer that is there, an error's included."""
        if self.outcome is not None:
            return self.outcome.shape.status
        assert self.error is not None, "it is still waiting"
        return int(getattr(self.error, "status"))  # noqa: B009 - any other error has none, and fails the test

    @property
    def is_waiting(self) -> bool:
        """Whether there is no head yet."""
        return self.outcome is None and self.error is None

    @property
    def end(self) -> str | None:
        """How the answer ended: finished or aborted; None while it has not. All turns that are due are taken before."""
        self._cached.clock.advance(0)
        return self.sink.end

    @property
    def is_whole(self) -> bool:
        """Whether the answer came to its proper end."""
        return self.end == "finished"

    @property
    def body(self) -> bytes:
        """What came of the body, after all turns that are due."""
        self._cached.clock.advance(0)
        return bytes(self.sink.data)

    @property
    def said(self) -> str | None:
        """HIT or MISS."""
        return self.field("x-cache-status")

    def field(self, name: str) -> str | None:
        """A field of the head."""
        assert self.outcome is not None, self.error
        return get(self.outcome.shape.fields, name)

    def leave(self) -> None:
        """The client is gone, whether or not it has its head."""
        self.has_left = True
        if self.sink.follower is not None:
            self.sink.vanish()

    def _came(self, outcome: Outcome) -> None:
        self.outcome = outcome
        if self.has_left:
            outcome.drop()
        elif outcome.source is not None:
            self.sink.follow(outcome.source, self._cached.clock, outcome.shape.start, outcome.shape.stop)
        else:
            self.sink.finish()

    def _failed(self, failure: Failure) -> None:
        assert isinstance(failure.value, Exception)
        self.error = failure.value


class Cached:
    """The engine, its surroundings, and short words for what tests do with them."""

    def __init__(
        self,
        root: Path,
        limits: Limits = LIMITS,
        sites: tuple[UpstreamSite, ...] = (ALPHA, BETA),
        grace: Grace = NO_GRACE,
        negative_seconds: float = 0.0,
        ahead_bytes: int = 0,
    ) -> None:
        self.limits = limits
        self.clock = Turns()
        self.threads = Threads()
        self.events = RecordedEvents()
        self.client = FakeClient()
        self.files = FullDisk()
        self.catalog = Catalog()
        self.nudges = 0
        self.calls_for_room = 0
        self.visits: list[Visit] = []
        self._tokens = count(1)
        self.store = DiskStore(root, self.threads, 1 << 20, self.files, self.token)
        self.store.prepare()
        self.holdings = Holdings(
            self.store, self.catalog, limits, TTLS, grace, self.now, self.events, self._nudge, self.threads
        )
        self.upstreams = Upstreams(self.client, self.clock, self.events)
        self.upstreams.now_known(sites)
        self.absences = Absences(self.clock.seconds, TTLS, negative_seconds)
        self.cache = Cache.of(
            self.holdings,
            self.upstreams,
            self.absences,
            self.clock,
            self.threads,
            self.token,
            self.events,
            ahead_bytes,
        )

    def now(self) -> float:
        """The wall clock."""
        return EPOCH + self.clock.seconds()

    def token(self, byte_count: int) -> str:
        """Digits that come once."""
        return f"{next(self._tokens):0{2 * byte_count}x}"

    def get(self, target: str, *fields: tuple[str, str], method: str = "GET") -> Visit:
        """A client's request, begun."""
        self.visits.append(Visit(self, target, method, fields))
        return self.visits[-1]

    def head(self, target: str, *fields: tuple[str, str]) -> Visit:
        """A client's HEAD, begun."""
        return self.get(target, *fields, method="HEAD")

    def keep_page(self, project: str, content: bytes) -> Visit:
        """Have a project's page fetched from the first upstream, and kept."""
        visit = self.get(f"/simple/{project}/")
        self.client.answer_whole(content, (("content-type", "text/html"),))
        assert visit.is_whole
        return visit

    def keep_file(self, target: str, content: bytes) -> Visit:
        """Have a file fetched whose page is kept, and kept itself."""
        visit = self.get(target)
        self.client.answer_whole(content)
        assert visit.is_whole
        return visit

    def begin_file(self, target: str, length: int | None) -> tuple[Visit, FakeResponse]:
        """Have the head of a file come whose page is kept; the client has it when the test sends some body."""
        visit = self.get(target)
        return visit, self.client.answer(length=length)

    def parts(self) -> list[Path]:
        """The unfinished bodies on disk."""
        return list(self.store.root.glob("tmp/*"))

    def entries(self) -> list[Path]:
        """The metas on disk."""
        return list(self.store.root.glob("???/*.meta"))

    def check_books(self) -> None:
        """Nothing is promised, pinned, in progress or left open; no connection is held, no bug was caught."""
        self.clock.advance(0)
        assert not self.events.crashes, [failure.getTraceback() for failure in self.events.crashes]
        assert not self.client.waiting, "an upstream was asked and never answered"
        assert [response for response in self.client.responses if not response.is_settled] == []
        waiting = [visit for visit in self.visits if visit.is_waiting and not visit.has_left]
        assert waiting == [], "a client still waits for its head"
        open_ones = [visit for visit in self.visits if visit.outcome and not visit.has_left and visit.sink.end is None]
        assert open_ones == [], "a client still waits for its body"
        assert self.catalog.reserved_bytes == 0
        books: Any = self.catalog
        assert (dict(books._pins), books._reservations) == ({}, {})
        engine: Any = self.cache
        pages = engine.pages
        assert (pages._fetches._fetching, pages._renderings._making, engine.files._fetching) == ({}, {}, {})
        assert self.files.open_descriptors == set()
        if not self.files.broken:
            assert self.parts() == []
        assert self.catalog.total_bytes == sum(entry.size_bytes for _, entry in self.catalog.by_use())

    def _nudge(self, *, is_full: bool = False) -> None:
        self.nudges += 1
        self.calls_for_room += is_full
