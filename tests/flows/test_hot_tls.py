"""Hits, refusals and limits over TLS: all is as it is in the clear."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from pipcache.web.site import HEAD_SECONDS
from pipcache.web.tls import SecureServer
from tests.fakes.tls import self_signed
from tests.fakes.upstream import FakeUpstream
from tests.flows.harness import Proxy, bounded, eventually
from tests.flows.hot_harness import BODIES, FIXTURES, LARGE, Talk, Ways, make_ready, offer, request, timeless

BIG = "/packages/aa/bb/cc/demo-2.0.tar.gz"
RANGES = ("bytes=0-0", "bytes=100-70000", "bytes=-5", "bytes=999999999-")


@pytest_twisted.async_fixture
async def ready(proxy: Proxy, upstream: FakeUpstream) -> Proxy:
    """A proxy that has all fixtures ready, and listens with TLS."""
    offer(upstream)
    proxy.listen_with_tls()
    await make_ready(proxy, [request(target, *fields) for target, fields in FIXTURES.values()])
    return proxy


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    """Which way requests go."""
    return Ways(monkeypatch)


@bounded
async def test_plain_requests_are_answered_the_short_way(ready: Proxy, ways: Ways) -> None:
    """Pages, files in memory and files on disk; and as the long way does."""
    for name, (target, fields) in FIXTURES.items():
        for method in ("GET", "HEAD"):
            mine, theirs, short = await ways.both(ready, request(target, *fields, method=method))
            assert (name, mine) == (name, theirs)
            assert mine.startswith(b"HTTP/1.1 200 ")
            assert (name, short) == (name, 1)
            assert method == "HEAD" or target not in BODIES or mine.endswith(b"\r\n\r\n" + BODIES[target])


@bounded
async def test_requests_in_pieces_and_behind_each_other(ready: Proxy, ways: Ways) -> None:
    """No head is read where none begins, and none is left out."""
    data = request(LARGE)
    whole = (await ways.both(ready, data))[1]
    begun = b"GET /favicon.ico HTTP/1.1\r\nHost: proxy.test\r\n"
    for pieces in ((begun, data), (b"GET /fav", data), (b"\r\n", data), (data[:20], data[20:]), (data + data,)):
        mine, theirs, short = await ways.both(ready, *pieces)
        assert mine == theirs
        assert short == 0
    assert mine == whole + whole
    mine, theirs, _ = await ways.both(ready, data, data, request("/favicon.ico"), data)
    assert mine == theirs
    assert mine.count(whole) == 3


@pytest.mark.parametrize("wanted", RANGES)
@bounded
async def test_parts_of_a_file(ready: Proxy, wanted: str) -> None:
    """As in the clear, byte for byte."""
    answers = []
    for port in (ready.tls_port, 0):
        ready.tls_port = port
        talk = await Talk.to(ready)
        answers.append(timeless(await talk.say(request(LARGE, f"Range: {wanted}"))))
        assert isinstance(talk.channel.transport, SecureServer) == bool(port)
        await talk.close()
    assert answers[0][9:12] in (b"206", b"416")
    assert answers[0] == answers[1]


def _connect(port: int) -> ssl.SSLSocket:
    context = ssl.create_default_context(cadata=self_signed().pem.decode())
    plain = socket.create_connection(("127.0.0.1", port), 10)
    return context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False)


@bounded
async def test_a_refusal_arrives_whatever_is_sent_behind_the_head(ready: Proxy) -> None:
    """Our side is closed behind it, with a farewell, and the rest is read: so the system takes nothing back."""

    def post() -> bytes:
        with _connect(ready.tls_port) as client:
            client.sendall(request("/simple/", "Content-Length: 1000000", method="POST") + bytes(1_000_000))
            received = b""
            while piece := client.recv(1 << 16):
                received += piece
            return received

    answer = await deferToThread(post)
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.endswith(b"publish a package, upload it to the index itself.\n")


@pytest.mark.parametrize("shakes_hands", [False, True])
@bounded
async def test_who_says_nothing_is_sent_away(ready: Proxy, shakes_hands: bool) -> None:
    """The time for a head runs from the connection on, the handshake's included."""
    site = ready.program.site
    before = set(site._channels)

    def connect() -> Any:
        return _connect(ready.tls_port) if shakes_hands else socket.create_connection(("127.0.0.1", ready.tls_port), 10)

    client = await deferToThread(connect)
    await eventually(lambda: bool(site._channels - before))
    (channel,) = site._channels - before
    channel.look(site.seconds() + HEAD_SECONDS - 1)
    assert channel in site._channels
    channel.look(site.seconds() + HEAD_SECONDS + 1)
    await eventually(lambda: channel not in site._channels)
    assert await deferToThread(client.recv, 1) == b""
    client.close()


@bounded
async def test_who_takes_nothing_is_cut_in_time(proxy: Proxy, upstream: FakeUpstream) -> None:
    """What the system holds for a client tells whether it takes any, as in the clear."""
    upstream.add(BIG, bytes(1 << 25), content_type="binary/octet-stream")
    await proxy.get(BIG)
    await proxy.settled(BIG)
    proxy.listen_with_tls()
    site = proxy.program.site
    before = set(site._channels)
    client = await deferToThread(_connect, proxy.tls_port)
    await deferToThread(client.sendall, request(BIG))
    await eventually(lambda: bool(site._channels - before))
    (channel,) = site._channels - before
    moves = -1

    def is_stalled() -> bool:
        nonlocal moves
        last, moves = moves, channel._moves()
        return last == moves and channel._unsent() > 1

    await eventually(is_stalled)
    now = site.seconds()
    channel.look(now)
    channel.look(now + site.limits.stall_seconds - 1)
    assert not channel.transport.disconnected
    channel.look(now + site.limits.stall_seconds)
    await eventually(lambda: channel not in site._channels)
    client.close()
