"""What a fetched page is turned into: read once, then rendered in the dialects and codings that clients take.

The page of each kind of route is read by a pure function of ``simple``; here is decided which one, and where: a small page
in the reactor, a larger one in a thread, as that takes too long.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol, TypeVar

from attrs import frozen

from pipcache.engine.interfaces import GrowingBody, InThread
from pipcache.engine.waiters import Waiters
from pipcache.rules.errors import NotAcceptable
from pipcache.rules.fields import Fields, get, get_all
from pipcache.rules.meta import StoredResponse
from pipcache.rules.negotiation import Dialect, choose, choose_coding
from pipcache.rules.routes import Route, RouteKind
from pipcache.simple.legacy import form_legacy_json
from pipcache.simple.model import DistributionFile
from pipcache.simple.pages import FormedPage, form_page

T = TypeVar("T")

SHAPE = FormedPage.SHAPE

ReadAt = Callable[[int, int], bytes]
"""The bytes of a body from an offset on, at most so many and at least one; a StorageError where they cannot be had."""

FORMED_HERE_BYTES = 1 << 15
"""A page up to this size is read and rendered in the reactor."""

GZIP_LEVEL = 6
_GZIP_SUFFIX = ".gz"


@frozen
class Wanted:
    """The rendering that a client gets: its kind (one of ``meta.VARIANT_KINDS``) and its Content-Type."""

    kind: str
    content_type: str

    @property
    def is_gzipped(self) -> bool:
        """Whether it is sent with a content-coding."""
        return self.kind.endswith(_GZIP_SUFFIX)


@frozen
class Rendering:
    """A page as clients get it, to be kept beside its body: in memory, or a body that is whole on disk."""

    kind: str
    content: bytes | GrowingBody
    shape: str = SHAPE


class Formed(Protocol):
    """A page that was read."""

    @property
    def files(self) -> Mapping[str, DistributionFile]:
        """The files that it names, by our own path."""
        ...

    @property
    def last_serial(self) -> int | None:
        """Its version, where it says one."""
        ...

    def render(self, dialect: Dialect) -> bytes:
        """The page in a dialect."""
        ...


def wanted_of(route: Route, fields: Fields) -> Wanted:
    """The rendering that a request asks for.

    Raises:
        NotAcceptable: there is none that it takes.
    """
    if route.kind is RouteKind.PROJECT_JSON:
        dialect, content_type = Dialect.JSON, "application/json"
    else:
        chosen = choose(get_all(fields, "accept"), route.page_format)
        if chosen is None:
            raise NotAcceptable(
                "Pages are there as text/html, application/vnd.pypi.simple.v1+html and "
                "application/vnd.pypi.simple.v1+json."
            )
        dialect, content_type = chosen.dialect, chosen.content_type
    is_gzipped = choose_coding(get_all(fields, "accept-encoding")) == "gzip"
    return Wanted(dialect.value + (_GZIP_SUFFIX if is_gzipped else ""), content_type)


def variant_etag(etag: str, kind: str) -> str:
    """The ETag of a page's rendering: the page's own, and what was made of it."""
    return f'{etag[:-1]}-{SHAPE}-{kind}"'


def rendered(formed: Formed, kind: str) -> bytes:
    """A page as one of ``meta.VARIANT_KINDS``; equal for equal pages."""
    content = formed.render(Dialect(kind.removesuffix(_GZIP_SUFFIX)))
    return gzip.compress(content, GZIP_LEVEL, mtime=0) if kind.endswith(_GZIP_SUFFIX) else content


def read_page(route: Route, stored: StoredResponse, read_at: ReadAt) -> Formed:
    """A page that was fetched or kept, read; not for the project list, which is converted as it comes (``lists``).

    Raises:
        MalformedResponse: it is no such page.
        StorageError: the disk does not give it back.
    """
    content = _whole(read_at, stored.body_size)
    content_type = get(stored.headers, "content-type")
    assert route.project is not None
    if route.kind is RouteKind.PROJECT_JSON:
        document = form_legacy_json(content, stored.url, route.path, route.project, stored.upstream_root)
        return FormedPage(lambda _: document, {}, None)
    return form_page(content, content_type, stored.url, route.project, stored.upstream_root)


def _whole(read_at: ReadAt, size: int) -> bytes:
    """All bytes of a body, in as few reads as it takes: one, where it is all in its file or all in memory."""
    pieces: list[bytes] = []
    position = 0
    while position < size:
        pieces.append(read_at(position, size - position))
        position += len(pieces[-1])
    return b"".join(pieces)


class PageVersion:
    """One version of a page that has just come, rendered once a kind for all who want it.

    ``stored`` is its meta; it need not be on disk yet.
    """

    def __init__(self, stored: StoredResponse, formed: Formed, in_thread: InThread) -> None:
        self.stored = stored
        self.formed = formed
        self.contents: dict[str, bytes] = {}
        self._in_thread = in_thread
        self._rendering: dict[str, Waiters[bytes]] = {}

    async def content(self, kind: str) -> bytes:
        """Its rendering of that kind."""
        if kind in self.contents:
            return self.contents[kind]
        waiters = self._rendering.get(kind)
        if waiters is not None:
            return await waiters.wait()
        waiters = self._rendering[kind] = Waiters()
        try:
            made = await here_or_in_thread(self.stored.body_size, self._in_thread, partial(rendered, self.formed, kind))
        except Exception as error:
            waiters.fail(error)
            raise
        finally:
            del self._rendering[kind]
        self.contents[kind] = made
        waiters.fire(made)
        return made


async def here_or_in_thread(size_bytes: int, in_thread: InThread, function: Callable[[], T]) -> T:
    """What the function gives: called here for a small page, in a thread for a larger one."""
    return function() if size_bytes <= FORMED_HERE_BYTES else await in_thread(function)
