"""What becomes of a request: the shape of the response, and the body to follow for it."""

from __future__ import annotations

from attrs import field, frozen

from pipcache.engine.interfaces import BodySource, StoredBody
from pipcache.engine.repeats import Repeat
from pipcache.rules.fields import Fields
from pipcache.rules.response import Representation, Shape, shape_response
from pipcache.rules.routes import Route


@frozen
class Request:
    """A client's request, decoded.

    ``method`` is GET or HEAD; ``fields`` are what the client sent, ``via`` the hops it came through.
    """

    route: Route
    method: str = "GET"
    fields: Fields = ()
    via: tuple[str, ...] = ()


@frozen
class Outcome:
    """A response to be sent. Where ``source`` is not None the caller follows it, or calls ``drop``."""

    shape: Shape
    source: BodySource | None = None
    repeat: Repeat | None = None
    """Where it is a hit, and the same request may be answered the same."""

    def drop(self) -> None:
        """Nobody will read the body."""
        if self.source is not None:
            self.source.unwanted()


class StoredSource:
    """A stored body as something to follow; closed when its follower leaves."""

    def __init__(self, body: StoredBody) -> None:
        self._body = body
        self.available = body.length
        self.is_whole = True

    @property
    def descriptor(self) -> int | None:
        """Of its file, for who has the system send it; None where it is in memory."""
        return self._body.descriptor

    def read_at(self, offset: int, count: int) -> bytes:
        """As in ``BodySource``."""
        return self._body.read_at(offset, count)

    def follow(self, follower: object) -> None:
        """Nothing will happen to a body that is whole."""

    def unwanted(self) -> None:
        """Nobody will read it."""
        self._body.close()

    def leave(self, follower: object) -> None:
        """The one who read it is through."""
        self._body.close()

    def taken(self) -> None:
        """Nothing is held."""


@frozen
class BytesBody:
    """A whole body in memory, as a ``StoredBody``."""

    content: bytes
    is_suspect: bool = False
    descriptor: int | None = None
    length: int = field(init=False)

    @length.default
    def _content_length(self) -> int:
        return len(self.content)

    def read_at(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes at ``offset``."""
        return self.content[offset : offset + count]

    def close(self) -> None:
        """Nothing to give back."""


def outcome_of_stored(
    request: Request, known: Representation, body: StoredBody, repeat: Repeat | None = None
) -> Outcome:
    """Answer from a whole body; it is closed here where the response needs none of it."""
    shape = shape_response(request.method, request.fields, known)
    if not shape.has_body or request.method == "HEAD":
        body.close()
        return Outcome(shape, repeat=repeat)
    return Outcome(shape, StoredSource(body), repeat)
