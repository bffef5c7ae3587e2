"""Stopped, killed and started again: a transfer is whole or visibly broken, and so is what lies on disk."""

from __future__ import annotations

import hashlib
import http.client
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.index import Index, IndexedFile
from tests.system.harness import Server, pip_install
from tests.system.stalling import StallingIndex

pytestmark = pytest.mark.system

SIZE = 3_000_000

ENDED = -signal.SIGTERM  # twistd stops in order, then ends by the signal that it was stopped with


@pytest.fixture
def index() -> Index:
    """An index of two wheels that take more than one read."""
    index = Index()
    for name in ("leaf", "stone"):
        index.add_wheel(name, "1.0", size_bytes=SIZE)
    return index


@pytest.fixture
def upstream(index: Index) -> Iterator[StallingIndex]:
    """That index, served so that it can be made to stop."""
    with StallingIndex(index) as upstream:
        yield upstream


@pytest.fixture
def server(upstream: StallingIndex, start_server: Callable[..., Server]) -> Server:
    """The program in front of it, asking it alone."""
    return start_server({"upstream": {"primary": {"name": "only", "url": upstream.url}}})


class Transfer:
    """One request whose response is read bit by bit, over HTTP/1.1 or 1.0."""

    def __init__(self, server: Server, path: str, *, version: str = "HTTP/1.1", window: int | None = None) -> None:
        self.body = b""
        self._socket = socket.socket()
        if window is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self._socket.settimeout(30)
        self._socket.connect(("127.0.0.1", server.port))
        self._socket.sendall(f"GET {path} {version}\r\nHost: localhost\r\n\r\n".encode())
        self.response = http.client.HTTPResponse(self._socket)
        self.response.begin()

    def read(self, count: int) -> None:
        """Read so many bytes more, or fail the test."""
        end = len(self.body) + count
        while len(self.body) < end:
            part = self.response.read1(end - len(self.body))
            assert part, "the body ended"
            self.body += part

    def read_rest(self) -> bytes:
        """Read to the end, which must be an orderly one; return the whole body.

        Raises:
            http.client.IncompleteRead, ConnectionError: it is not.
        """
        self.body += self.response.read()
        return self.body

    def close(self) -> None:
        """Leave."""
        self.response.close()
        self._socket.close()


@pytest.fixture
def transfer() -> Iterator[Callable[..., Transfer]]:
    """Begin a `Transfer`; it is closed at the end of the test."""
    begun: list[Transfer] = []

    def begin(*arguments: object, **options: object) -> Transfer:
        begun.append(Transfer(*arguments, **options))  # type: ignore[arg-type]
        return begun[-1]

    yield begin
    for each in begun:
        each.close()


def wait_for(is_so: Callable[[], bool], server: Server) -> None:
    """Wait until something holds, for 10 s at most, while the program runs."""
    for _ in range(200):
        if is_so():
            return
        with pytest.raises(subprocess.TimeoutExpired):  # a pause that ends early when the program does
            server.process.wait(0.05)
    pytest.fail(f"it does not come about\n{server.log}")


def refuses(server: Server) -> bool:
    """Tell whether a new connection is refused."""
    try:
        socket.create_connection(("127.0.0.1", server.port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def parts(server: Server) -> list[Path]:
    """List the unfinished bodies in the cache."""
    return list((server.cache / "tmp").glob("*.part"))


def check_entries(cache: Path) -> list[str]:
    """Assert that every meta on disk names a body that is whole; return their keys."""
    keys = []
    for path in cache.glob("*/*.meta"):
        meta = json.loads(path.read_text())
        body = (path.parent / meta["body"]).read_bytes()
        assert (len(body), hashlib.sha256(body).hexdigest()) == (meta["body_size"], meta["sha256"])
        keys.append(meta["key"])
    return keys


# -- an orderly stop -------------------------------------------------------------------------------------------------


def test_an_idle_server_stops_at_once(server):
    """SIGTERM with nothing to do, and a client that keeps its connection open, is exit status 0 within seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/health")
    assert connection.getresponse().read()
    began_at = time.monotonic()
    assert server.terminate() == ENDED
    assert time.monotonic() - began_at < 5
    assert "Traceback" not in server.log
    connection.close()


def test_a_transfer_in_progress_is_completed(index, upstream, server, transfer):
    """SIGTERM refuses new connections; what is under way goes on, is whole, is kept, and then the program ends."""
    wheel = index.files[0]
    upstream.stall(wheel.path, 1_000_000)
    clients = [transfer(server, wheel.path) for _ in range(2)]
    for each in clients:
        each.read(900_000)
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: refuses(server), server)
    upstream.release()
    for each in clients:
        assert each.read_rest() == wheel.data
    assert server.wait(10) == ENDED
    assert f"GET-{wheel.path}" in check_entries(server.cache)
    assert not parts(server)
    assert "Traceback" not in server.log


def test_a_slow_client_gets_its_last_bytes(index, server, transfer):
    """Bytes that the program has handed over but the system has not yet taken are sent before the program ends."""
    wheel = index.files[0]
    assert server.get(wheel.path)[2] == wheel.data
    wait_for(lambda: f"GET-{wheel.path}" in check_entries(server.cache), server)
    slow = transfer(server, wheel.path, window=4096)
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: refuses(server), server)
    for _ in range(8):
        slow.read(SIZE // 10)
        try:
            server.process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    assert slow.read_rest() == wheel.data
    assert server.wait(10) == ENDED


def test_transfers_that_take_too_long_are_broken_visibly(index, upstream, server, transfer):
    """After 10 s the program ends by itself, within 15; no client can take what it has for the whole."""
    long, unknown = (each.path for each in index.files)
    upstream.stall(long, 1_000_000)
    upstream.stall(unknown, 1_000_000, chunked=True)
    clients = [transfer(server, long), transfer(server, unknown), transfer(server, unknown, version="HTTP/1.0")]
    for each in clients:
        each.read(900_000)
    began_at = time.monotonic()
    assert server.terminate(timeout=20) == ENDED
    assert 8 < time.monotonic() - began_at < 15
    for each in clients:
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            each.read_rest()
    assert not {f"GET-{long}", f"GET-{unknown}"} & set(check_entries(server.cache))
    assert "cut" in server.log
    assert "Traceback" not in server.log


# -- killed ----------------------------------------------------------------------------------------------------------


def test_killed_in_mid_write(index, upstream, server, transfer, bare_python, tmp_path):
    """What had come is not served as the file: it is the beginning of the next fetch, and the file installs."""
    wheel = index.files[0]
    upstream.stall(wheel.path, 1_000_000)
    client = transfer(server, wheel.path)
    client.read(900_000)
    left = parts(server)
    assert left
    server.kill()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        client.read_rest()
    assert parts(server) == left
    upstream.release()

    server.start()
    status, fields, body = server.get(wheel.path)
    assert (status, fields["x-cache-status"], body) == (200, "MISS", wheel.data)
    wait_for(lambda: not parts(server), server)
    assert server.get(wheel.path)[1]["x-cache-status"] == "HIT"
    done = pip_install(bare_python, server.index_url, tmp_path / "target", "leaf")
    assert done.returncode == 0, done.stdout + done.stderr


def test_killed_right_after_an_answer(upstream, index, server):
    """What a client has whole is kept whole or not at all, however soon the program dies; it is served either way."""
    answered: list[IndexedFile] = []
    for number in range(4):
        index.add_wheel(f"round{number}", "1.0", size_bytes=10 ** (number + 3))
        upstream.resources.update({path: (kind, data) for path, kind, data in index.resources()})
        wheel = index.files[-1]
        assert server.get(wheel.path)[2] == wheel.data
        server.kill()
        keys = check_entries(server.cache)
        answered.append(wheel)
        server.start()
        for each in answered:
            before = upstream.requests.count(each.path)
            status, fields, body = server.get(each.path)
            assert (status, body) == (200, each.data)
            is_hit = fields["x-cache-status"] == "HIT"
            assert upstream.requests.count(each.path) == before + (0 if is_hit else 1)
            assert is_hit or f"GET-{each.path}" not in keys


def test_a_clean_stop_keeps_everything(index, server, upstream, transfer):
    """After a stop and a start every entry is a HIT at once, and nothing is asked of anybody."""
    paths = ["/simple/leaf/", "/simple/stone/", *[each.path for each in index.files]]
    first = {path: server.get(path) for path in paths}
    assert server.terminate() == ENDED
    asked = list(upstream.requests)
    server.start()
    for path in paths:
        status, fields, body = server.get(path)
        assert (status, fields["x-cache-status"], body) == (200, "HIT", first[path][2])
        assert fields["etag"] == first[path][1]["etag"]
    assert upstream.requests == asked
    wait_for(lambda: server.health()["entries"] == len(paths), server)
