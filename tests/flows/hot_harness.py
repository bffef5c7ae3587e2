"""Ask the same the short way and the long one, byte for byte as the test likes to send it.

What a client sends is given to its channel piece by piece, without a socket between, so that the test says where one
segment ends and the next begins; what the channel answers comes over a real connection.
"""

from __future__ import annotations

import fcntl
import re
import struct
import termios
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure

from pipcache.web.hot_answers import HotAnswer
from pipcache.web.hot_channel import HotChannel
from tests.fakes.tls import self_signed
from tests.flows.harness import PAGE_TYPE, Proxy, eventually, page

METADATA = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
BODIES = {
    "/packages/aa/bb/cc/demo-1.0-py3-none-any.whl": b"small " * 1000,
    "/packages/aa/bb/cc/demo-1.1-py3-none-any.whl": bytes(range(256)) * 1000,
    "/packages/aa/bb/cc/demo-1.0-py3-none-any.whl.metadata": METADATA,
    "/packages/aa/bb/cc/demo-1.2.tar.gz": b"",
}
SMALL, LARGE, META, EMPTY = BODIES
PAGE = "/simple/demo/"
JSON = "Accept: application/vnd.pypi.simple.v1+json"
GZIP = "Accept-Encoding: gzip"

FIXTURES = {
    "page": (PAGE, ()),
    "page in JSON": (PAGE, (JSON,)),
    "page gzipped": (PAGE, (GZIP,)),
    "page in JSON gzipped": (PAGE, (JSON, GZIP)),
    "small wheel": (SMALL, ()),
    "large wheel": (LARGE, ()),
    "metadata": (META, ()),
    "empty file": (EMPTY, ()),
}

_TIMES = re.compile(rb"(Date: |Age: |max-age=|ttl=)(?:[0-9]+|[A-Z][a-z]{2}, [^\r]+)")


def offer(upstream: Any) -> None:
    """All of it."""
    links = "".join(
        f'<a href="{path}#sha256={sha256(body).hexdigest()}"'
        + (f' data-core-metadata="sha256={sha256(METADATA).hexdigest()}"' if path == SMALL else "")
        + f">{path.rpartition('/')[2]}</a>\n"
        for path, body in BODIES.items()
        if path != META
    )
    upstream.add(PAGE, page().replace(b"</body>", links.encode() + b"</body>"), content_type=PAGE_TYPE)
    for path, body in BODIES.items():
        upstream.add(path, body, content_type="binary/octet-stream", last_modified="Tue, 01 Jul 2025 10:00:00 GMT")


def request(target: str, *fields: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    """A request as installers send it."""
    return "\r\n".join((f"{method} {target} {version}", "Host: proxy.test", *fields, "\r\n")).encode("latin-1")


class Talk(Protocol):
    """One connection whose server side is given what the test says."""

    def __init__(self, proxy: Proxy) -> None:
        self.received = b""
        self.is_closed = False
        self.channel: Any = None
        self._proxy = proxy

    @classmethod
    async def to(cls, proxy: Proxy) -> Talk:
        """Connect, with TLS where it listens with that, and have the handshake behind you."""
        before = set(proxy.program.site._channels)
        endpoint: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", proxy.tls_port or proxy.port)
        if proxy.tls_port:
            trusted = trustRootFromCertificates([Certificate.loadPEM(self_signed().pem)])
            endpoint = wrapClientTLS(optionsForClientTLS("127.0.0.1", trustRoot=trusted), endpoint)
        talk = await connectProtocol(endpoint, cls(proxy))
        await eventually(lambda: bool(proxy.program.site._channels - before))
        (talk.channel,) = proxy.program.site._channels - before
        if proxy.tls_port:
            tls = talk.channel.transport.getHandle()
            await eventually(lambda: b"finished" in tls.get_state_string())
        return talk

    def dataReceived(self, data: bytes) -> None:
        """Collect."""
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        self.is_closed = True

    async def say(self, *pieces: bytes) -> bytes:
        """Give the channel these pieces, one after the other; returns what came until it was quiet again."""
        self.received = b""
        for piece in pieces:
            if self.channel.transport.connected:
                self.channel.dataReceived(piece)
        await eventually(self._is_quiet)
        return self.received

    async def close(self) -> None:
        """End it."""
        if not self.is_closed:
            self.transport.abortConnection()  # type: ignore[union-attr]
        await eventually(lambda: self.is_closed and self.channel not in self._proxy.program.site._channels)

    def _is_quiet(self) -> bool:
        """Whether nothing is on its way: not in the program, not in the system."""
        if self.is_closed:
            return True
        channel = self.channel
        is_waiting = channel.transport in reactor.getWriters()  # type: ignore[attr-defined]
        is_busy = channel._handlingRequest or channel._is_sending or is_waiting
        is_ending = channel.is_refused or channel.transport.disconnecting or channel.transport.disconnected
        return not (is_busy or is_ending or self._unread)

    @property
    def _unread(self) -> int:
        handle = getattr(self.transport, "transport", self.transport).getHandle()
        return int(struct.unpack("i", fcntl.ioctl(handle.fileno(), termios.FIONREAD, bytes(4)))[0])


def timeless(response: bytes) -> bytes:
    """A response without what the time makes of it."""
    return _TIMES.sub(rb"\1*", response)


class Lines:
    """What the access log was told."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def note(self, *line: Any) -> None:
        """One request."""
        self.lines.append(line)

    def said(self, *said: Any) -> tuple[Any, ...]:
        """What a line says beyond whose request it was."""
        return said

    def repeat(self, client: str, said: tuple[Any, ...]) -> None:
        """One request."""
        self.note(client, *said)


class Ways:
    """Which way each request went; ``is_short_open`` False sends all the long way."""

    def __init__(self, monkeypatch: Any) -> None:
        self.is_short_open = True
        self.short = 0
        stands, gave = HotChannel._stands_at_request, HotChannel._gave

        def watched(channel: HotChannel, answer: HotAnswer) -> bool:
            was_given = gave(channel, answer)
            self.short += was_given
            return was_given

        monkeypatch.setattr(HotChannel, "_stands_at_request", lambda each: self.is_short_open and stands(each))
        monkeypatch.setattr(HotChannel, "_gave", watched)

    async def both(self, proxy: Proxy, *pieces: bytes) -> tuple[bytes, bytes, int]:
        """What came the way that the program takes, what came the long way, and how many went the short one.

        Both ways log the same, and leave connection and catalog alike.
        """
        answers, rest = [], []
        self.short = 0
        for self.is_short_open in (True, False):
            log = proxy.program.site.access_log = Lines()  # type: ignore[assignment]
            talk = await Talk.to(proxy)
            answers.append(timeless(await talk.say(*pieces)))
            rest.append((talk.is_closed, log.lines, sorted(proxy.program.holdings.catalog._pins)))
            await talk.close()
        self.is_short_open = True
        assert rest[0] == rest[1]
        return answers[0], answers[1], self.short


async def make_ready(proxy: Proxy, pieces: Sequence[bytes]) -> None:
    """Ask until each of these requests is answered from what is ready; what is rendered anew changes its page."""
    for _ in range(3):
        for each in pieces:
            talk = await Talk.to(proxy)
            await talk.say(each)
            await proxy.settled(each.split(b" ")[1].decode())
            await talk.close()
