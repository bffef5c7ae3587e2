"""Many clients of one server at once, on plain sockets, and what the server's process has in use meanwhile."""

from __future__ import annotations

import os
import re
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen


@frozen
class Response:
    """A response as it came; ``is_whole`` where its body is as long as it says."""

    status: int
    fields: dict[str, str]
    body: bytes
    is_whole: bool


@contextmanager
def room_for(descriptors: int) -> Iterator[None]:
    """Let the test's own process open so many files, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(descriptors, hard)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def connected(port: int, count: int, receive_buffer_bytes: int | None = None) -> Iterator[list[socket.socket]]:
    """So many connections, closed at the end; a small buffer lets one that does not read be felt soon."""
    clients: list[socket.socket] = []
    try:
        for _ in range(count):
            client = socket.socket()
            clients.append(client)
            client.settimeout(30)
            if receive_buffer_bytes is not None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            client.connect(("127.0.0.1", port))
        yield clients
    finally:
        for client in clients:
            client.close()


def request(path: str, *fields: str) -> bytes:
    """The bytes of a request."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


def read_response(client: socket.socket) -> Response | None:
    """The response that comes on a connection; None where it is closed, or reset, without one."""
    received = b""
    with_head = re.compile(rb"\A(.*?)\r\n\r\n", re.DOTALL)
    while not (match := with_head.match(received)):
        if not (data := _received(client)):
            return None
        received += data
    first, *lines = match[1].decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = received[match.end() :]
    length = int(fields.get("content-length", "0"))
    while len(body) < length and (data := _received(client)):
        body += data
    return Response(int(first.split(" ")[1]), fields, body, len(body) == length)


def _received(client: socket.socket) -> bytes:
    try:
        return client.recv(1 << 16)
    except ConnectionError:
        return b""


def is_closed_within(client: socket.socket, seconds: float) -> bool:
    """Whether the server ends a connection; what it sends before that is read."""
    client.settimeout(seconds)
    try:
        while client.recv(1 << 20):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def seconds_of(port: int, path: str, count: int) -> list[float]:
    """How long each of so many requests took, each on a connection of its own; all must be answered with 200."""
    taken = []
    for _ in range(count):
        began_at = time.monotonic()
        with connected(port, 1) as (client,):
            client.sendall(request(path, "Connection: close"))
            response = read_response(client)
        taken.append(time.monotonic() - began_at)
        assert response is not None
        assert (response.status, response.is_whole) == (200, True)
    return sorted(taken)


def open_files(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory_kib(pid: int, field: str = "VmRSS") -> int:
    """What a process has resident; with `VmHWM`, the most that it ever had."""
    match = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1])


def eventually(is_so: object, seconds: float) -> bool:
    """Whether something becomes so in time; asked every few milliseconds."""
    assert callable(is_so)
    ends_at = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.02)
    return True
