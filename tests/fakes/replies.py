"""What the fake upstream answers: from a request and a `Reply` to the steps of a response.

Knows HTTP as bytes and every way to break it; knows no socket. A response is a generator of steps: bytes to
write, or one of the moves below, so that whoever drives it decides when the next step is taken.
"""

from __future__ import annotations

import enum
import gzip
from collections.abc import Callable, Iterator, Sequence

from attrs import Factory, define, field, frozen, validators

from tests.fakes.ranges import byte_range

_BLOCK_BYTES = 64 * 1024
_REASONS = {200: "OK", 206: "Partial Content", 304: "Not Modified", 404: "Not Found"}


class Move(enum.Enum):
    """What a response does when it does not write."""

    WAIT = "nothing, until the test releases, pushes or finishes"
    CLOSE = "close in an orderly way"
    RESET = "send a TCP reset"


@frozen
class Recorded:
    """One request as it arrived: field names in lower case, repeated fields joined by a comma."""

    method: str
    target: str
    headers: dict[str, str]
    at: float  # the reactor's seconds


@frozen(kw_only=True)
class Reply:
    """How to answer one request; the options may be combined.

    Counts of body bytes are those of the content as it is sent: compressed where `gzip` is set, the range
    where one is answered, without the framing of chunks. If-None-Match and If-Modified-Since get a 304 where
    the reply has the validator they name.
    """

    body: bytes = b""
    status: int = 200
    content_type: str = "application/octet-stream"
    headers: Sequence[tuple[str, str]] = ()
    etag: str | None = None  # with its quotes
    last_modified: str | None = None
    chunked: bool = False
    no_length: bool = False  # the end of the body is the end of the connection
    http10: bool = False
    gzip: bool = False  # whatever the client accepts
    ranges: bool = False  # honour Range and If-Range
    redirect_to: str | None = None  # with 302 where `status` is left at 200
    cut_after: int | None = None  # close in an orderly way after so many body bytes
    reset_after: int | None = None  # a TCP reset instead
    stall_after: int | None = None  # so many body bytes, then nothing until `release`
    stall_before_head: bool = False
    wrong_length: int = 0  # added to the Content-Length; the connection closes behind the body
    bad_chunk: bool = False  # a chunk without a size in the middle of the body
    pieces: Sequence[bytes] | None = None  # these, then what the test pushes, instead of `body`
    length: int | None = None  # the Content-Length of a reply in pieces; None: chunked
    raw: bytes | None = None  # these bytes instead of a response, then an orderly close

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be sent."""
        if self.http10 and (self.chunked or self.bad_chunk):
            raise ValueError("HTTP/1.0 knows no chunks")
        if self.pieces is not None and (self.body or self.gzip or self.ranges):
            raise ValueError("a reply in pieces has no body, gzip or ranges")

    @property
    def is_chunked(self) -> bool:
        """Whether the body is framed in chunks."""
        is_open = self.pieces is not None and self.length is None and not (self.http10 or self.no_length)
        return self.chunked or self.bad_chunk or is_open

    @property
    def ends_connection(self) -> bool:
        """Whether the connection closes behind this reply."""
        return self.no_length or self.http10 or self.wrong_length != 0 or self.bad_chunk


@define
class Route:
    """What a path answers: its replies, the last one for ever, and what the test let through so far.

    All replies of a path share one release and one stream of pieces.
    """

    replies: Sequence[Reply] = field(validator=validators.min_len(1))
    answered: int = 0
    is_released: bool = False
    is_finished: bool = False
    stream: bytearray = Factory(
        lambda self: bytearray(b"".join(piece for each in self.replies for piece in each.pieces or ())),
        takes_self=True,
    )

    def steps(self, request: Recorded, sent: Callable[[int], None]) -> Iterator[bytes | Move]:
        """Answer one request with the next reply; `sent` is told how many bytes of content each block has."""
        self.answered += 1
        reply = self.replies[min(self.answered, len(self.replies)) - 1]
        while reply.stall_before_head and not self.is_released:
            yield Move.WAIT
        if reply.raw is not None:
            if reply.raw:
                yield reply.raw
            yield Move.CLOSE
            return
        status, fields, content = _select(reply, request)
        yield _head(reply, status, fields, len(content) if reply.pieces is None else reply.length)
        if request.method != "HEAD" and status != 304:
            yield from self._body(reply, content, sent)
        if reply.ends_connection or request.headers.get("connection", "").lower() == "close":
            yield Move.CLOSE

    def _body(self, reply: Reply, content: bytes, sent: Callable[[int], None]) -> Iterator[bytes | Move]:
        """Send the body in blocks; hold it or break it where the reply says."""
        ends = [n for n in (reply.cut_after, reply.reset_after) if n is not None]
        done = 0
        while True:
            available = content if reply.pieces is None else self.stream
            holds = [] if self.is_released or reply.stall_after is None else [reply.stall_after]
            limit = min([len(available), done + _BLOCK_BYTES, *ends, *holds])
            if limit > done:
                yield _framed(reply, bytes(available[done:limit]))
                sent(limit - done)
                done = limit
            elif done in holds:
                yield Move.WAIT
            elif done in ends:
                yield Move.CLOSE if done == reply.cut_after else Move.RESET
                return
            elif reply.pieces is not None and not self.is_finished:
                yield Move.WAIT
            else:
                break
        if reply.is_chunked:
            yield b"0\r\n\r\n"


def _is_unchanged(reply: Reply, request: Recorded) -> bool:
    """Tell whether the client holds what the reply would send."""
    if (tags := request.headers.get("if-none-match")) is not None:
        return reply.etag is not None and reply.etag in [tag.strip() for tag in tags.split(",")]
    return reply.last_modified is not None and request.headers.get("if-modified-since") == reply.last_modified


def _select(reply: Reply, request: Recorded) -> tuple[int, list[tuple[str, str]], bytes]:
    """Choose the status, the header fields that go with it, and the content."""
    fields = [] if reply.redirect_to is None else [("Location", reply.redirect_to)]
    status = 302 if fields and reply.status == 200 else reply.status
    content = gzip.compress(reply.body, mtime=0) if reply.gzip else reply.body
    if status == 200 and _is_unchanged(reply, request):
        return 304, fields, b""
    if not reply.ranges or status != 200:
        return status, fields, content
    fields.append(("Accept-Ranges", "bytes"))
    span = byte_range(request.headers.get("range"), len(content))
    if span is None or request.headers.get("if-range") not in (None, reply.etag, reply.last_modified):
        return status, fields, content
    start, stop = span
    if start == stop:
        return 416, [*fields, ("Content-Range", f"bytes */{len(content)}")], b""
    return 206, [*fields, ("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")], content[start:stop]


def _head(reply: Reply, status: int, fields: list[tuple[str, str]], size: int | None) -> bytes:
    """Write the status line and the header fields; a size of None is not known."""
    version = "HTTP/1.0" if reply.http10 else "HTTP/1.1"
    lines = [f"{version} {status} {_REASONS.get(status, 'Status')}", f"Content-Type: {reply.content_type}"]
    lines += [f"{name}: {value}" for name, value in [*fields, *reply.headers]]
    lines += [f"ETag: {reply.etag}"] if reply.etag else []
    lines += [f"Last-Modified: {reply.last_modified}"] if reply.last_modified else []
    lines += ["Content-Encoding: gzip"] if reply.gzip else []
    if reply.is_chunked:
        lines.append("Transfer-Encoding: chunked")
    elif status != 304 and size is not None and not reply.no_length:
        lines.append(f"Content-Length: {size + reply.wrong_length}")
    lines += ["Connection: close"] if reply.ends_connection and not reply.http10 else []
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1")


def _framed(reply: Reply, block: bytes) -> bytes:
    """Wrap a block of the body in a chunk, or in two of which the second has no size."""
    if not reply.is_chunked:
        return block
    if not reply.bad_chunk:
        return b"%x\r\n%b\r\n" % (len(block), block)
    middle = len(block) // 2
    return b"%x\r\n%b\r\nno-size\r\n%b\r\n" % (middle, block[:middle], block[middle:])
