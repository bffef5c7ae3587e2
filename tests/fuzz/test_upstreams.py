"""Whatever an upstream answers, down to the byte: right bytes or a visible failure, nothing wrong kept, and healed after."""

from __future__ import annotations

import gzip
import re
from random import Random
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

from pipcache.rules.settings import Upstream
from tests.fakes.client import Answer
from tests.flows.harness import Flow, Proxy, bounded, hashed, page

ROUNDS = 25
BODY = Random(1).randbytes(3000)

STATUS_LINES = [b"HTTP/1.1 200 OK"] * 12 + [
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 200",
    b"HTTP/1.1 206 Partial Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
    b"HTTP/1.1 103 Early Hints\r\nLink: x",
    b"HTTP/1.1 302 Found\r\nLocation: http://[",
    b"HTTP/1.1 302 Found\r\nLocation: \xff\x00",
    b"HTTP/1.1 999 ?",
    b"HTTP/1.1 -1 No",
    b"HTTP/1.1 \xb2\xb2\xb2 OK",
    b"HTTP/9.9 200 OK",
    b"ICY 200 OK",
    b"",
    b"\x16\x03\x01\x02\x00\x01",
]
FIELDS = [
    b"Content-Type: text/html",
    b"Content-Type: text/html; charset=zlib",
    b"Content-Type: \xff; charset=\x00",
    b'ETag: "a"',
    b"ETag: a\rb",
    b"Set-Cookie: a=b",
    b"X: " + b"a" * 3000,
    b"no colon",
    b" folded",
    b": empty",
    b"Connection: close, etag",
    b"Content-Range: bytes 0-1/x",
    b"Content-Range: bytes 5-9/10",
    b"Date: yesterday",
    b"Age: -1",
    b"Cache-Control: max-age=\xb2, ===",
    b"Warning: \xf0\x9f\x92\xa9",
]


def coded(random: Random, body: bytes) -> tuple[bytes, list[bytes]]:
    """A body and its content-coding, which may lie."""
    squeezed = gzip.compress(body, mtime=0)
    return random.choice(
        [(body, [])] * 6
        + [
            (squeezed, [b"Content-Encoding: gzip"]),
            (squeezed[:-5], [b"Content-Encoding: gzip"]),
            (squeezed + b"more", [b"Content-Encoding: gzip"]),
            (squeezed[:50] + b"\xff\xff" + squeezed[52:], [b"Content-Encoding: gzip"]),
            (body, [b"Content-Encoding: gzip"]),
            (squeezed, [b"Content-Encoding: gzip, gzip"]),
            (body, [b"Content-Encoding: br"]),
            (body, [b"Content-Encoding: \xff"]),
            (squeezed, []),
        ]
    )


def framed(random: Random, body: bytes) -> tuple[bytes, list[bytes]]:
    """A body as it is sent, and what is said of its length, which may lie."""
    cut = random.randrange(len(body))
    size = len(body)
    chunks = b"%x\r\n%s\r\n%x\r\n%s\r\n" % (cut or 1, body[: cut or 1], size - (cut or 1), body[cut or 1 :])
    chunked = b"Transfer-Encoding: chunked"
    return random.choice(
        [(body, [b"Content-Length: %d" % size])] * 3
        + [(chunks + b"0\r\n\r\n", [chunked])] * 3
        + [
            (body, []),
            (body[:cut], []),
            (body[:cut], [b"Content-Length: %d" % size]),
            (body, [b"Content-Length: %d" % cut]),
            (body, [b"Content-Length: %d" % size, b"Content-Length: %d" % cut]),
            (body, [b"Content-Length: -1"]),
            (body, [b"Content-Length: 1e3"]),
            (body, [b"Content-Length: " + b"9" * 5000]),
            (chunks, [chunked]),
            (chunks[: len(chunks) // 2], [chunked]),
            (chunks + b"0\r\n\r\n", [chunked, b"Content-Length: %d" % cut]),
            (chunks + b"0\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", [chunked]),
            (b"-1\r\n" + body, [chunked]),
            (b"zz\r\n" + body, [chunked]),
            (b"f" * 40 + b"\r\n" + body, [chunked]),
            (b"5;" + b"x" * 3000 + b"\r\n" + body, [chunked]),
            (body, [chunked]),
        ]
    )


def soup(random: Random, body: bytes) -> bytes:
    """Nearly a response with this body; most often with one or two things wrong about it, or a byte."""
    content, coding = coded(random, body)
    sent, length = framed(random, content)
    fields = [*random.choices(FIELDS, k=random.choice([0, 0, 1, 3])), *coding, *length]
    random.shuffle(fields)
    data = b"\r\n".join([random.choice(STATUS_LINES), *fields, b"", b""]) + sent
    change = random.randrange(6)
    if change == 0:
        return data[: random.randrange(len(data))]
    if change == 1:
        place = random.randrange(len(data))
        return data[:place] + random.randbytes(random.randrange(4)) + data[place + 1 :]
    return data


def right(body: bytes, kind: bytes) -> bytes:
    """A response as it should be."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (kind, len(body), body)


class RawUpstream:
    """Sends bytes as they are in answer to a path, and closes."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        factory = Factory.forProtocol(lambda: _Raw(self))
        factory.noisy = False
        self._listening: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._listening.getHost().port}"

    async def stop(self) -> None:
        """Listen no more."""
        await self._listening.stopListening()


class _Raw(Protocol):
    def __init__(self, upstream: RawUpstream) -> None:
        self._upstream = upstream
        self._head = b""

    def dataReceived(self, data: bytes) -> None:
        """Answer when the request is whole."""
        self._head += data
        if b"\r\n\r\n" in self._head and self.transport is not None:
            self.transport.write(self._upstream.answers[self._head.split(b" ")[1].decode()])
            self.transport.loseConnection()


async def served(proxy: Proxy, target: str) -> Answer:
    """The answer, when all that it set going has come to its end."""
    answer = await proxy.get(target)
    assert answer.end is not None
    await proxy.settled(target)
    return answer


@pytest.mark.parametrize("seed", range(6))
@bounded
async def test_a_file_is_right_or_visibly_broken(flow: Flow, seed: int) -> None:
    """Whoever gets a whole 200 has the bytes that the page promised; whatever came before, a right answer heals."""
    random = Random(seed)
    upstream = RawUpstream()
    files = [f"/packages/aa/bb/demo-{number}.tar.gz" for number in range(ROUNDS)]
    links = page(*(hashed(file, BODY) for file in files))
    try:
        upstream.answers["/simple/demo/"] = right(links, b"text/html")
        proxy = await flow.proxy(Upstream("one", upstream.url))
        assert (await served(proxy, "/simple/demo/")).status == 200
        for file in files:
            upstream.answers[file] = data = soup(random, BODY)
            answer = await served(proxy, file)
            if answer.is_whole and answer.status == 200:
                assert answer.body == BODY, data
            else:
                assert answer.status in (None, 200, 404, 502, 504), (answer, data)
                assert answer.is_whole == (answer.status in (404, 502, 504)), (answer, data)
                assert file not in proxy.kept, data
            upstream.answers[file] = right(BODY, b"application/octet-stream")
            if answer.status != 404:  # which is remembered for a while
                assert (await served(proxy, file)).body == BODY, data
    finally:
        await upstream.stop()


@pytest.mark.parametrize("seed", range(6))
@bounded
async def test_a_page_is_ours_or_visibly_broken(flow: Flow, seed: int) -> None:
    """A 200 is a whole page that links to nothing but what was sent; a failure keeps nothing, and is healed."""
    random = Random(100 + seed)
    upstream = RawUpstream()
    try:
        proxy = await flow.proxy(Upstream("one", upstream.url))
        for number in range(ROUNDS):
            target = f"/simple/demo{number}/"
            links = page(*(hashed(f"/packages/aa/bb/demo-{number}.{each}.tar.gz", BODY) for each in range(40)))
            upstream.answers[target] = data = soup(random, links)
            answer = await served(proxy, target)
            assert answer.is_whole, data
            if answer.status == 200:
                assert re.search(r'<a href="\.\./\.\./packages/', answer.text), data
                continue
            assert answer.status in (404, 502, 504), (answer, data)
            assert target not in proxy.kept, data
            upstream.answers[target] = right(links, b"text/html")
            if answer.status != 404:
                healed = await served(proxy, target)
                assert (healed.status, healed.text.count("<a href")) == (200, 40), data
    finally:
        await upstream.stop()
