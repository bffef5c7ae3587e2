"""What is refused, as bytes on a socket: cheaply, with a plain sentence, and with the connection.

Behind each of these stands a request that nobody may take for one: it must be neither answered nor sent upstream.
"""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest

from tests.fakes.client import Client
from tests.flows.harness import bounded, eventually

NEXT = b"GET /pypi/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
HOST = b"Host: x\r\n"


def get(*fields: bytes, target: bytes = b"/pypi/x", method: bytes = b"GET", version: bytes = b"HTTP/1.1") -> bytes:
    """A request's head."""
    return b"%b %b %b\r\n%b\r\n" % (
        method,
        target,
        version,
        b"".join(field + b"\r\n" for field in (b"Host: x", *fields)),
    )


FRAMING = {
    "length and chunks": get(b"Content-Length: 3", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "chunks and length": get(b"Transfer-Encoding: chunked", b"Content-Length: 3") + b"0\r\n\r\n",
    "two lengths": get(b"Content-Length: 0", b"Content-Length: 40"),
    "one length twice": get(b"Content-Length: 3", b"Content-Length: 3") + b"abc",
    "a list of lengths": get(b"Content-Length: 3, 3") + b"abc",
    "a signed length": get(b"Content-Length: +3") + b"abc",
    "a negative length": get(b"Content-Length: -1"),
    "an endless length": get(b"Content-Length: " + b"9" * 5000),
    "a length in hexadecimal": get(b"Content-Length: 0x10"),
    "an empty length": get(b"Content-Length:"),
    "chunks": get(b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n",
    "no chunk but the last": get(b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "a chunk of no size": get(b"Transfer-Encoding: chunked") + b"xyz\r\n\r\n",
    "a negative chunk": get(b"Transfer-Encoding: chunked") + b"-1\r\n\r\n",
    "a chunk that never ends": get(b"Transfer-Encoding: chunked") + b"ffffffffffffffff\r\n",
    "chunks by another name": get(b"Transfer-Encoding: xchunked"),
    "chunks twice": get(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "chunks in HTTP/1.0": get(b"Transfer-Encoding: chunked", version=b"HTTP/1.0") + b"0\r\n\r\n",
    "another coding": get(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
    "the coding that is none": get(b"Transfer-Encoding: identity"),
    "a body to read": get(b"Content-Length: 3") + b"abc",
    "a body without a byte of it": get(b"Content-Length: 1000000000000"),
    "a body after a hundred": get(b"Content-Length: 3", b"Expect: 100-continue"),
    "a folded field": get(b"X: a", b" folded: yes"),
    "a field folded by a tab": get(b"X: a", b"\tfolded: yes"),
    "a folded length": get(b"Content-Length:", b" 3") + b"abc",
    "a fold in front": b"GET /pypi/x HTTP/1.1\r\n folded: yes\r\n" + HOST + b"\r\n",
    "a space before the colon": get(b"Transfer-Encoding : chunked"),
    "a space in a name": get(b"Content Length: 3"),
    "a field without a colon": get(b"Content-Length"),
    "a field without a name": get(b": 3"),
    "a zero byte in a value": get(b"X: a\0b"),
    "a return in a value": get(b"X: a\rContent-Length: 3"),
    "two hosts": get(b"Host: y"),
}

REQUEST_LINES = {
    "HTTP/0.9": b"GET /pypi/x\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another version": get(version=b"HTTP/1.2"),
    "a version in lower case": get(version=b"http/1.1"),
    "two spaces": b"GET  /pypi/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "a tab": b"GET\t/pypi/x\tHTTP/1.1\r\n" + HOST + b"\r\n",
    "a word too many": b"GET /pypi/x HTTP/1.1 x\r\n" + HOST + b"\r\n",
    "a space in front": b" GET /pypi/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "no words": b"\r\n\r\n\r\n",
    "noise": bytes(range(256)) + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n",
    "a method that is none": get(method=b"G(E)T"),
    "a return in the target": get(target=b"/pypi/x\rX-Injected:yes"),
    "an absolute target": get(target=b"http://127.0.0.1:1/pypi/x"),
    "an absolute target of ours": get(target=b"http://x/simple/demo/"),
    "a host and a port": get(target=b"x:80", method=b"CONNECT"),
    "a host and a port to read": get(target=b"x:80"),
    "no path": get(target=b"*", method=b"OPTIONS"),
    "a star": get(target=b"*"),
    "a path without a slash": get(target=b"simple/"),
    "a backslash": get(target=b"/packages/..\\..\\etc"),
    "an encoded backslash": get(target=b"/packages/a%5c..%5cetc"),
    "a way up": get(target=b"/packages/../../etc/passwd"),
    "an encoded way up": get(target=b"/packages/%2e%2e/%2e%2e/etc/passwd"),
    "a way up behind an encoded slash": get(target=b"/packages/..%2f..%2fetc"),
    "a zero byte": get(target=b"/packages/a\0.whl"),
    "an encoded zero byte": get(target=b"/packages/a%00.whl"),
    "an encoded line": get(target=b"/packages/a%0d%0aX:%20y"),
    "markup": get(target=b"/packages/<script>alert(1)</script>%00"),
    "a long target": get(target=b"/pypi/" + b"x" * 8192),
    "a longer target": get(target=b"/pypi/" + b"x" * 16300),
    "a target without an end": b"GET /" + b"x" * 70000,
    "an unknown method": get(method=b"BREW"),
    "a method in lower case": get(method=b"get"),
    "a method to write": get(method=b"POST"),
}

SIZES = {
    "a large field": get(b"X: " + b"x" * 16384),
    "a field without an end": b"GET /pypi/x HTTP/1.1\r\nX: " + b"x" * 70000,
    "many fields": get(*(b"X%d: x" % number for number in range(501))),
    "large fields together": get(*(b"X%d: %b" % (number, b"x" * 1000) for number in range(17))),
    "a large name": get(b"X" * 17000 + b": x"),
}

ALL = FRAMING | REQUEST_LINES | SIZES


async def left_by(client: Client) -> None:
    """Wait until the server has closed the connection."""
    await client.until(lambda: client.is_closed)


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("raw", ALL.values(), ids=ALL)
@bounded
async def test_it_is_refused_with_its_connection(proxy, upstream, raw, pieces):
    """One answer and no other, nothing upstream, in one piece or several; the next client is served."""
    client = await proxy.connect()
    raw += NEXT
    size = -(-len(raw) // pieces)
    answer = client.send(raw[:size])
    for start in range(size, len(raw), size):
        client.send_more(raw[start : start + size])
    await answer.head()
    await left_by(client)
    assert answer.status in (400, 405, 431, 501)
    assert answer["content-type"] == "text/plain; charset=utf-8"
    assert answer["x-content-type-options"] == "nosniff"
    assert answer["connection"] == "close"
    assert answer.text.startswith(f"{answer.status} ")
    assert answer.text.count("\n") == 1
    assert len(answer.body) == int(answer["content-length"])
    assert client.unread == b""
    assert not any(each in answer.text for each in ("<", "Traceback", "passwd", "Injected"))
    assert upstream.requests == []
    assert (await proxy.get("/health")).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "BREW"])
@pytest.mark.parametrize(
    "field", ["Content-Length: 1000000", "Content-Length: 99999999999999", "Transfer-Encoding: chunked"]
)
@bounded
async def test_a_body_that_trickles_is_not_waited_for(proxy, upstream, method, field):
    """The answer is there with the first byte of the body, none of which is read; then the connection is closed."""
    client = await proxy.connect()
    answer = client.ask("/pypi/x", field, "Expect: 100-continue", method=method)
    assert (await answer.ended()).status == (501 if method == "BREW" else 405)
    assert answer["allow"] == (None if method == "BREW" else "GET, HEAD")
    await left_by(client)
    assert (client.unread, upstream.requests) == (b"", [])


@bounded
async def test_an_empty_body_is_none(proxy, upstream):
    """A length of nothing is as good as no length."""
    upstream.add("/pypi/x", b"right")
    client = await proxy.connect()
    for _ in range(2):
        assert (await client.ask("/pypi/x", "Content-Length: 0").ended()).text == "right"


@pytest.mark.parametrize("size", [8000, 8100])
@bounded
async def test_what_is_just_not_too_long_is_answered(proxy, upstream, size):
    """A target of almost 8 KiB and 400 fields are no reason to refuse."""
    target = "/pypi/" + "x" * size
    upstream.add(target, b"right")
    fields = [f"X{number}: x" for number in range(400)]
    assert (await proxy.get(target, *fields)).text == "right"


@bounded
async def test_a_refused_client_that_stays_is_dropped(proxy):
    """Our half is closed at once; one that keeps its own half open and sends on is cut after a moment."""
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.setblocking(False)
        client.sendall(b"BAD\r\n\r\n")
        received = b""

        def is_ended() -> bool:
            nonlocal received
            with suppress(BlockingIOError):
                more = client.recv(65536)
                received += more
                return not more
            return False

        def is_cut() -> bool:
            try:
                client.send(b"x")
            except OSError:
                return True
            return False

        await eventually(is_ended)
        assert received.startswith(b"HTTP/1.1 400 ")
        assert proxy.program.site.connections == 1
        await eventually(is_cut)
        assert proxy.program.site.connections == 0
