"""A little HTTP client that costs little itself: blocking sockets, one buffer, times of the first and the last byte.

Answers must say their length; whatever is not the expected answer is a ``ServerError``.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from attrs import frozen

from bench.processes import ServerError

_BUFFER_BYTES: Final = 1 << 18
_TIMEOUT: Final = 60.0


@frozen
class Address:
    """Where a server listens: on 127.0.0.1, with TLS where ``ca`` says whom to believe."""

    port: int
    ca: Path | None = None

    @property
    def url(self) -> str:
        """As a URL without a slash at its end."""
        return f"{'https' if self.ca else 'http'}://127.0.0.1:{self.port}"

    def context(self) -> ssl.SSLContext | None:
        """How to speak TLS with it, None where one does not."""
        return ssl.create_default_context(cafile=str(self.ca)) if self.ca else None


@frozen
class Answer:
    """One answer: ``size`` of the body in bytes; times in seconds, of ``time.time``, as logs have it."""

    status: int
    fields: Mapping[str, str]
    size: int
    asked_at: float
    first_byte_at: float
    done_at: float

    @property
    def seconds(self) -> float:
        """From the request to the last byte."""
        return self.done_at - self.asked_at

    @property
    def first_byte_seconds(self) -> float:
        """From the request to the first byte of the body, or of a head without one."""
        return self.first_byte_at - self.asked_at


def request_bytes(path: str, fields: Mapping[str, str] | None = None) -> bytes:
    """A GET request."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in (fields or {}).items())
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\n{lines}\r\n".encode()


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and fields (names in lower case) of a head, without its empty line.

    Raises:
        ServerError: it is none.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise ServerError(f"not an answer: {first[:80]!r}")
    pairs = (line.partition(":") for line in lines)
    return int(words[1]), {name.lower(): value.strip() for name, _, value in pairs}


class Connection:
    """One connection that is kept; a closed one is an error."""

    def __init__(self, address: Address, receive_bytes: int | None = None) -> None:
        """Connect; ``receive_bytes`` is how much the system may receive for us that we do not read."""
        self.socket: socket.socket = socket.socket()
        self.socket.settimeout(_TIMEOUT)
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.connect(("127.0.0.1", address.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = address.context()
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))

    def __enter__(self) -> Self:
        """Nothing more."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.socket.close()

    def send(self, path: str, fields: Mapping[str, str] | None = None) -> None:
        """Ask, and leave the answer where it is."""
        self.socket.sendall(request_bytes(path, fields))

    def get(self, path: str, fields: Mapping[str, str] | None = None, expect: int = 200) -> Answer:
        """Ask, and read the whole answer.

        Raises:
            ServerError: another status, no length, or an end before its time.
        """
        asked_at = time.time()
        self.send(path, fields)
        head = b""
        while b"\r\n\r\n" not in head:
            count = self.socket.recv_into(self._buffer)
            if not count:
                raise ServerError(f"{path}: closed before the end of the head")
            head += self._buffer[:count]
        head, _, body = head.partition(b"\r\n\r\n")
        status, answered = parse_head(head)
        size = 0 if status == 304 else _length(path, status, answered, expect)
        if status != expect:
            raise ServerError(f"{path}: {status} instead of {expect}")
        received = len(body)
        first_byte_at = time.time()
        if received == 0 and size:
            received = self._receive(path)
            first_byte_at = time.time()
        while received < size:
            received += self._receive(path)
        return Answer(status, answered, size, asked_at, first_byte_at, time.time())

    def _receive(self, path: str) -> int:
        count = self.socket.recv_into(self._buffer)
        if not count:
            raise ServerError(f"{path}: closed before the end of the body")
        return count


def _length(path: str, status: int, fields: Mapping[str, str], expect: int) -> int:
    if not fields.get("content-length", "").isdigit():
        raise ServerError(f"{path}: {status} (wanted {expect}) without a length")
    return int(fields["content-length"])


@frozen
class Whole:
    """An answer with its body in memory."""

    status: int
    fields: Mapping[str, str]
    body: bytes


def fetch(address: Address, path: str, fields: Mapping[str, str] | None = None) -> Whole:
    """Ask once, and keep the body, however it is framed."""
    context = address.context()
    connection = (
        HTTPSConnection("127.0.0.1", address.port, timeout=_TIMEOUT, context=context)
        if context
        else HTTPConnection("127.0.0.1", address.port, timeout=_TIMEOUT)
    )
    try:
        connection.request("GET", path, headers={"Accept-Encoding": "identity", **(fields or {})})
        response = connection.getresponse()
        answered = {name.lower(): value for name, value in response.getheaders()}
        return Whole(response.status, answered, response.read())
    finally:
        connection.close()


def check_same(address: Address, path: str, expected: Path) -> None:
    """Compare a file as the server gives it with a file on disk, byte for byte.

    Raises:
        ServerError: they differ.
    """
    got = fetch(address, path)
    if got.status != 200 or got.body != expected.read_bytes():
        raise ServerError(f"{path}: {got.status}, {bytes(got.body[:200])!r}, which is not {expected}")


class _Reader:
    """One of a crowd: its socket, and how far its answer has come."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.head = b""
        self.left: int | None = None
        self.size = 0
        self.asked_at = self.first_byte_at = self.done_at = 0.0

    def feed(self, data: memoryview) -> None:
        """Take what came."""
        now = time.time()
        count = len(data)
        if self.left is None:
            self.head += data
            if b"\r\n\r\n" not in self.head:
                return
            head, _, body = self.head.partition(b"\r\n\r\n")
            status, fields = parse_head(head)
            if status != 200:
                raise ServerError(f"one of the crowd got {status}")
            self.left = self.size = _length("crowd", status, fields, 200)
            count = len(body)
        if count and not self.first_byte_at:
            self.first_byte_at = now
        self.left -= count
        self.done_at = now


def crowd(address: Address, paths: Sequence[str], limit_seconds: float = 120) -> list[Answer]:
    """Ask for all paths at once, each on a connection of its own, and read as fast as the bytes come.

    Raises:
        ServerError: an answer is not 200, is cut, or not whole within the limit.
    """
    readers = [_Reader(Connection(address)) for _ in paths]
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    until = time.monotonic() + limit_seconds
    with selectors.DefaultSelector() as selector:
        try:
            for reader, path in zip(readers, paths, strict=True):
                reader.asked_at = time.time()
                reader.connection.send(path)
                reader.connection.socket.setblocking(False)
                selector.register(reader.connection.socket, selectors.EVENT_READ, reader)
            while selector.get_map():
                if time.monotonic() > until:
                    raise ServerError(f"a crowd of {len(paths)} was not served in {limit_seconds:g} s")
                for key, _ in selector.select(1.0):
                    _read_ready(selector, key.data, buffer)
        finally:
            for reader in readers:
                reader.connection.socket.close()
    return [Answer(200, {}, each.size, each.asked_at, each.first_byte_at, each.done_at) for each in readers]


def _read_ready(selector: selectors.BaseSelector, reader: _Reader, buffer: memoryview) -> None:
    try:
        count = reader.connection.socket.recv_into(buffer)
    except (BlockingIOError, ssl.SSLWantReadError):
        return
    if not count:
        raise ServerError("one of the crowd was cut")
    reader.feed(buffer[:count])
    if reader.left == 0:
        selector.unregister(reader.connection.socket)
