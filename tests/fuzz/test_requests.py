"""Whatever a client sends: a well-formed answer or a closed connection, and nothing of it upstream but plain reads."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from pipcache.rules.errors import BadRequest
from pipcache.rules.routes import parse_target
from pipcache.web.hot import HotResponses
from pipcache.web.site import ConnectionLimits, PipcacheSite, Root
from tests.fakes.cache import Cached, page, promised

TARGET, BODY = "/packages/aa/bb/demo-1.0.whl", b"the bytes of a file" * 20
NAME = "pipcache-0123"
STATUSES = {200, 206, 301, 302, 304, 307, 308} | {400, 404, 405, 412, 414, 416, 417, 431, 501, 502, 505, 508}
CANARY = f"GET {TARGET} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()

METHODS = st.sampled_from(
    [b"GET"] * 4 + [b"HEAD", b"POST", b"PUT", b"CONNECT", b"OPTIONS", b"get", b"G\x00T", b"", b"PRI"]
)
TARGETS = st.one_of(
    st.sampled_from([TARGET.encode()] * 3 + [b"/simple/demo/", b"/simple/", b"/", b"/health", b"*", b"proxy.test:443"]),
    st.sampled_from([b"http://evil.test/simple/demo/", b"//evil.test/x.whl", b"/simple/../../etc/passwd", b"/a\\b"]),
    st.sampled_from(
        [b"/packages/%2e%2e/x.whl", b"/x%00", b"/packages/x%0d%0ay.whl", b"/x\xff", b"/" + b"a" * 9000, b"/a b"]
    ),
    st.binary(max_size=12).map(lambda tail: b"/packages/" + tail),
    st.binary(max_size=12),
)
VERSIONS = st.sampled_from(
    [b" HTTP/1.1"] * 5 + [b" HTTP/1.0", b"", b" HTTP/2.0", b" HTTP/1.1 x", b" http/1.1", b" HTTP/0.9"]
)
LINES = st.one_of(
    st.sampled_from(
        [b"Host: a", b"Connection: close", b"Connection: keep-alive", b"Range: bytes=0-3", b"Range: bytes=9999-"]
    ),
    st.sampled_from(
        [b"Range: bytes=-5,0-1", b"If-None-Match: *", b"If-Range: x", b"Expect: 100-continue", b"Accept: x/y;q=z"]
    ),
    st.sampled_from(
        [
            b"Content-Length: 5",
            b"Content-Length: 6",
            b"Content-Length: +5",
            b"Content-Length: 5, 5",
            b"Content-Length: -1",
        ]
    ),
    st.sampled_from(
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding : chunked"]
    ),
    st.sampled_from(
        [b"Transfer-Encoding:\x0bchunked", b" folded", b"\tfolded: x", b"no colon", b": x", b"X: a\rb", b"X: \x00"]
    ),
    st.sampled_from(
        [b"Upgrade: h2c", b"Authorization: Basic x", b"Cookie: a=b", b"X: " + b"a" * 20_000, b"Host: <script>"]
    ),
    st.sampled_from(
        [
            f"Via: 1.1 {NAME}".encode(),
            b"Via: 1.1 other",
            b"Via: 1.1 <script>",
            b"Via: \xff,,",
            b"Via: " + b"1.1 a," * 30,
        ]
    ),
    st.binary(max_size=12),
)
BODIES = st.one_of(
    st.just(b""),
    st.sampled_from(
        [
            b"5\r\nhello\r\n0\r\n\r\n",
            b"0\r\n\r\n",
            b"-1\r\n\r\n",
            b"zz\r\n",
            b"5\r\nhel",
            b"hello",
            b"5;x=\ny\r\nhello\r\n0\r\n\r\n",
        ]
    ),
    st.sampled_from([b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", b"ffffffffffffffffff\r\n", b"0\r\nX: y\r\n\r\n"]),
    st.binary(max_size=20),
)
ENDS = st.sampled_from([b"\r\n"] * 6 + [b"\n", b"\r", b"\r\n\r\n"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Nearly a request, with what may be its body; each second one has a single thing about it, or nothing."""
    if draw(st.booleans()):
        lines = draw(st.lists(LINES, max_size=1))
        return b"\r\n".join([b"GET " + draw(TARGETS) + b" HTTP/1.1", b"Host: a", *lines, b"", b""])
    end = draw(ENDS)
    first = draw(METHODS) + b" " + draw(TARGETS) + draw(VERSIONS)
    return end.join([first, *draw(st.lists(LINES, max_size=5)), b"", b""]) + draw(BODIES)


class Connection(StringTransport):
    """A client's end in memory; a connection that is broken off is closed."""

    def abortConnection(self) -> None:
        """Be closed."""
        self.disconnecting = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is delayed here."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Nor does anybody leave unheard."""


class Counting(Root):
    """The root, which notes the methods of what it was asked."""

    def __init__(self, cached: Cached) -> None:
        hot = HotResponses(0, cached.now)  # the short way has a test of its own that compares it with this one
        super().__init__(cached.cache, hot, cached.clock, cached.events, lambda: {"status": "healthy"}, NAME)
        self.methods: list[bytes] = []

    def getChild(self, path: bytes, request: Any) -> Any:
        """As the root."""
        self.methods.append(request.method)
        return super().getChild(path, request)


@pytest.fixture(scope="module")
def cached() -> Iterator[Cached]:
    """An engine that keeps a page and a file; every other thing is absent upstream."""
    with TemporaryDirectory() as folder:
        cached = Cached(Path(folder))
        cached.keep_page("demo", page(promised(TARGET, BODY)))
        cached.keep_file(TARGET, BODY)
        yield cached


def talk(cached: Cached, root: Root, segments: list[bytes]) -> tuple[bytes, bool]:
    """What comes back on a connection that these bytes are sent on, and whether it was closed."""
    channel = PipcacheSite(root, ConnectionLimits(1, 60.0), cached.clock, cached.events).buildProtocol(None)
    transport = Connection()
    channel.makeConnection(transport)
    try:
        for segment in segments:
            if transport.disconnecting:
                break
            channel.dataReceived(segment)
            have_answered(cached)
    finally:
        channel.connectionLost(Failure(ConnectionDone()))
        have_answered(cached)
    return transport.value(), transport.disconnecting


def have_answered(cached: Cached) -> None:
    """Let the upstreams say that what they are asked for is not there."""
    for _ in range(50):
        cached.clock.advance(0)
        if not cached.client.waiting:
            return
        cached.client.answer(404, 0)
    raise AssertionError(f"they are asked on and on: {cached.client.waiting}")


def answers(data: bytes, methods: list[bytes]) -> list[tuple[int, bytes]]:
    """The answers that these bytes are, each by status and body; fails where they are none, or something is left."""
    found: list[tuple[int, bytes]] = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, head
        first, *lines = head.split(b"\r\n")
        match = re.fullmatch(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) [ -~]*", first)
        assert match, first
        fields = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            assert re.fullmatch(rb"[A-Za-z0-9-]+", name), line
            assert colon, line
            assert re.fullmatch(rb"[ -~]*", value), line
            fields[name.lower()] = value.strip()
        status = int(match[1])
        if status == 100:
            continue
        if b"content-length" not in fields:  # of Twisted's parser, which closes behind it
            assert (status, data) in ((400, b""), (304, data)), (status, data)
        method = methods[len(found)] if len(found) < len(methods) else b"GET"
        length = 0 if method == b"HEAD" or status == 304 else int(fields.get(b"content-length", b"0"))
        assert len(data) >= length, "cut short"
        found.append((status, data[:length]))
        data = data[length:]
    return found


@given(st.lists(requests(), min_size=1, max_size=3), st.lists(st.integers(0, 400), max_size=4))
@settings(max_examples=500)
@example(
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"
    ],
    [],
)
@example([CANARY[:-2] + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"], [7])
def test_every_request_gets_an_answer_or_a_close(cached: Cached, several: list[bytes], cuts: list[int]) -> None:
    """However it is written and cut: answers that can be read, plain reads upstream, and the next client is served."""
    data = b"".join(several)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    root = Counting(cached)
    asked = len(cached.client.sent)
    said, _ = talk(cached, root, [data[start:end] for start, end in itertools.pairwise(edges)])
    for status, body in answers(said, root.methods):
        assert b"<script>" not in body
        assert b"Traceback" not in body
        assert status in STATUSES
    for sent in cached.client.sent[asked:]:
        there = urlsplit(sent.request.url)
        assert sent.request.method in ("GET", "HEAD")
        assert there.hostname in ("alpha.test", "beta.test")
        try:
            parse_target((there.path + ("?" + there.query if there.query else "")).encode())
        except BadRequest as error:
            raise AssertionError(sent.request.url) from error
    said, is_closed = talk(cached, root := Counting(cached), [CANARY])
    assert (answers(said, root.methods), is_closed) == ([(200, BODY)], True)
    assert not cached.events.crashes
