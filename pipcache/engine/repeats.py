"""A hit that can be given again to whoever asks the same, without finding it anew: what a faster path needs to know.

The directory stays the truth: a ``Repeat`` is good only while meta and body on disk are the very files that were read,
which costs one look at each, and while it is fresh. Whoever keeps one asks what it has ``seen`` whether that is current as
often as it wants to be sure, and counts uses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from attrs import frozen

from pipcache.engine.holdings import Holdings
from pipcache.engine.interfaces import Seen, StoredBody
from pipcache.rules.fields import Fields
from pipcache.rules.freshness import Freshness, age_seconds, decide
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import StoredResponse, Variant
from pipcache.rules.response import Representation, Shape, about_its_age, shape_response
from pipcache.rules.routes import RouteKind


@frozen(eq=False)
class Repeat:
    """A stored response as it was shown to one client.

    Attributes:
        variant: the page's rendering that was sent; None: the body itself.
        show: what becomes of the stored response's description before it is sent.
        varies: whether the request's Accept and Accept-Encoding chose it.
        shown_as: tells it from others of the same stored response.
    """

    key: CacheKey
    stored: StoredResponse
    length: int
    varies: bool
    shown_as: str
    _holdings: Holdings
    _kind: RouteKind
    _variant: Variant | None = None
    _show: Callable[[Representation], Representation] = lambda known: known

    def seen(self) -> Seen | None:
        """The files that it is made of, as they are now; None where that is not what was served."""
        name = self.stored.body if self._variant is None else self._variant.file
        seen = self._holdings.store.seen(self.key.digest, name)  # before it is read: what replaces it is another file
        return seen if seen is not None and self._holdings.store.read(self.key) == self.stored else None

    def is_fresh(self, now: float) -> bool:
        """Whether it may be served without asking anybody; epoch seconds."""
        return decide(self.stored.cached_at, self.stored.expires_at, now) is Freshness.FRESH

    def used(self) -> None:
        """Count a use."""
        self._holdings.used(self.key, self.stored)

    def shape(self, method: str = "GET", fields: Fields = ()) -> Shape:
        """The response to a request as of now."""
        return shape_response(method, fields, self.shown.at(*self._ages()))

    @cached_property
    def shown(self) -> Representation:
        """How it is shown, but for its age."""
        return self._show(self._holdings.as_stored(self.stored, self._kind, self.length))

    def about_its_age(self) -> Fields:
        """The fields that change with its age, as of now."""
        return about_its_age(self.shown, *self._ages())

    def _ages(self) -> tuple[int, float]:
        now = self._holdings.now()
        return age_seconds(self.stored.cached_at, now), self.stored.expires_at - now

    def open(self) -> StoredBody | None:
        """Its body; None where it is gone, or somebody touched it."""
        store = self._holdings.store
        if self._variant is not None:
            return store.open_variant(self.key, self._variant)
        body = store.open_body(self.key, self.stored)
        if body is not None and body.is_suspect:
            body.close()
            return None
        return body

    def pin(self) -> None:
        """It is being read: keep it from being evicted, until as many ``unpin``."""
        self._holdings.catalog.pin(self.key.digest)

    def unpin(self) -> None:
        """Take back one ``pin``."""
        self._holdings.catalog.unpin(self.key.digest)
