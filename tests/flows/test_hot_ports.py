"""The short way on ports of other kinds: with TLS, of the file system, behind HAProxy; and where nobody can go it."""

from __future__ import annotations

import http.client
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import deferToThread

from pipcache.service import assemble
from pipcache.web import hot_channel
from pipcache.web.channel import Channel
from pipcache.web.tls import SecureReactor
from pipcache.web.transport import make_prompt
from tests.fakes.tls import self_signed
from tests.fakes.upstream import FakeUpstream
from tests.flows.harness import Flow, Proxy, bounded
from tests.flows.hot_harness import BODIES, LARGE, PAGE, SMALL, Lines, Ways, make_ready, offer, request

TARGETS = (PAGE, SMALL, LARGE, PAGE)


@pytest_twisted.async_fixture
async def ready(proxy: Proxy, upstream: FakeUpstream) -> Proxy:
    """A proxy that has these targets ready."""
    offer(upstream)
    await make_ready(proxy, [request(target) for target in TARGETS])
    return proxy


def _tls(port: Any, _: Path) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port.getHost().port), 10)
    return ssl.create_default_context(cadata=self_signed().pem.decode()).wrap_socket(plain, server_hostname="127.0.0.1")


def _unix(_: Any, folder: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(folder / "s"))
    return connection


def _haproxy(port: Any, _: Path) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port.getHost().port), 10)
    connection.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 4000 80\r\n")
    return connection


TLS = "ssl:0:interface=127.0.0.1:privateKey={folder}/pem:certKey={folder}/pem"
PORTS = {
    "tls": (TLS, _tls, "127.0.0.1"),
    "tls of Twisted's": (TLS, _tls, "127.0.0.1"),
    "unix": ("unix:{folder}/s", _unix, "-"),
    "haproxy": ("haproxy:tcp:0:interface=127.0.0.1", _haproxy, "192.0.2.7"),
}


@pytest.mark.parametrize("kind", PORTS)
@bounded
async def test_hits_on_other_ports(ready: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    """What is in memory goes the short way, on one connection; the log knows whose it is. A file does on sockets of ours."""
    endpoint, connect, client = PORTS[kind]
    (tmp_path / "pem").write_bytes(self_signed().identity)
    secure = SecureReactor(reactor, ready.program.in_thread)
    listening = serverFromString(secure if kind == "tls" else reactor, endpoint.format(folder=tmp_path))
    port = await listening.listen(ready.program.site)
    make_prompt(port, ready.program.in_thread)
    ways = Ways(monkeypatch)
    lines = ready.program.site.access_log = Lines()

    def ask_all() -> list[tuple[int, bytes]]:
        connection = http.client.HTTPConnection("localhost", timeout=10)
        connection.sock = connect(port, tmp_path)
        answers = []
        for target in TARGETS:
            connection.request("GET", target, headers={"Accept-Encoding": "identity"})
            response = connection.getresponse()
            answers.append((response.status, response.read()))
        connection.close()
        return answers

    await make_ready(ready, [request(PAGE, "Accept-Encoding: identity")])
    lines.lines.clear()
    ways.short = 0
    try:
        answers = await deferToThread(ask_all)
    finally:
        await port.stopListening()
    assert [status for status, _ in answers] == [200] * 4
    assert (answers[1][1], answers[2][1]) == (BODIES[SMALL], BODIES[LARGE])
    assert answers[0][1] == answers[3][1]
    assert b"demo-1.2.tar.gz" in answers[0][1]
    assert ways.short == (4 if kind == "tls" else 3)
    assert [(line[0], line[2].decode(), line[4]) for line in lines.lines] == [
        (client, target, 200) for target in TARGETS
    ]


@bounded
async def test_where_nobody_can_tell_all_go_the_long_way(
    flow: Flow, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Twisted that hides where its parser stands costs time, and nothing else."""
    monkeypatch.setattr(assemble, "can_tell", lambda: False)
    proxy = await flow.proxy(upstream)
    offer(upstream)
    assert proxy.program.site.protocol is Channel
    for target in (*TARGETS, *TARGETS):
        answer = await proxy.get(target)
        await proxy.settled(target)
        assert answer.status == 200
    assert answer["x-cache-status"] == "HIT"


@pytest.mark.parametrize("name", ["_HTTPChannel__first_line", "_buffer", "_dataBuffer", "persistent"])
def test_a_parser_that_hides_where_it_stands_is_noticed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each of Twisted's names that the short way reads is looked at."""

    class Changed:
        _HTTPChannel__first_line = 1
        _buffer = b""
        _dataBuffer = ()
        persistent = 1

        def __init__(self) -> None:
            self.requests: list[object] = []
            self._dataBuffer: list[bytes] = []
            if name == "_dataBuffer":
                del self._dataBuffer
            elif name == "persistent":
                self.persistent = 0
            else:
                setattr(self, name, None)

    monkeypatch.setattr(hot_channel, "HTTPChannel", Changed)
    assert not hot_channel.can_tell()
