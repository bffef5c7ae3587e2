"""A request that is cancelled: its connection is closed, its place given back, wherever it stood."""

from __future__ import annotations

import socket

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from pipcache.edges.agent import OPEN_PER_ORIGIN
from pipcache.rules.errors import PipcacheError
from pipcache.rules.sites import UpstreamSite
from tests.edges.scene import Scene, bounded, turn
from tests.fakes.upstream import FakeUpstream


def begun(scene, where, site=None):
    """A request under way."""
    return Deferred.fromCoroutine(scene.send(where, site))


def cancel(sending):
    """Cancel it; what it fails with is nobody's affair."""
    sending.addErrback(lambda failure: failure.trap(CancelledError, PipcacheError))
    sending.cancel()
    assert sending.called


@bounded
async def test_while_it_waits_for_the_head():
    """The connection is closed, not kept for others; far more requests than there are places can be cancelled."""
    async with Scene() as scene:
        scene.upstream.add("/a", b"x", stall_before_head=True)
        scene.upstream.add("/b", b"x")
        for number in range(OPEN_PER_ORIGIN + 10):
            sending = begun(scene, "/a")
            await scene.upstream.wait_for_request("/a", number + 1)
            cancel(sending)
        await scene.upstream.until(lambda: scene.upstream.open_connections == 0)
        _, receiver = await scene.fetch("/b")
        assert receiver.body == b"x"


@bounded
async def test_while_it_waits_for_a_place():
    """It is never sent, and nobody behind it waits for its sake."""
    async with Scene() as scene:
        scene.upstream.add("/a", b"x", stall_before_head=True)
        scene.upstream.add("/b", b"x")
        scene.upstream.add("/c", b"x")
        sendings = [begun(scene, "/a") for _ in range(OPEN_PER_ORIGIN)]
        await scene.upstream.wait_for_request("/a", OPEN_PER_ORIGIN)
        waiting, behind = begun(scene, "/b"), begun(scene, "/c")
        cancel(waiting)
        cancel(sendings[0])
        (await behind).abandon()
        assert scene.upstream.count("/b") == 0
        for sending in sendings[1:]:
            cancel(sending)
        await scene.upstream.until(lambda: scene.upstream.open_connections <= 1)


@bounded
async def test_while_it_connects():
    """No socket is left that would go on connecting."""
    async with Scene() as scene:
        full = socket.socket()
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        site = UpstreamSite.from_root("full", f"http://127.0.0.1:{full.getsockname()[1]}")
        others = []
        for _ in range(3):  # who comes after these finds the queue full, and waits
            others.append(socket.socket())
            others[-1].setblocking(False)
            others[-1].connect_ex(full.getsockname())
        before = set(reactor.getWriters())
        try:
            for _ in range(OPEN_PER_ORIGIN + 10):
                sending = begun(scene, f"{site.root}/a", site)
                while set(reactor.getWriters()) == before:
                    await turn()
                cancel(sending)
                assert set(reactor.getWriters()) == before
        finally:
            for each in (full, *others):
                each.close()


@bounded
async def test_while_a_proxy_makes_a_tunnel():
    """The connection to the proxy is closed."""
    async with Scene() as scene:
        proxy = await scene.another(FakeUpstream())
        proxy.add("*", stall_before_head=True)
        site = UpstreamSite.from_index("far", "https://far.test/simple/", proxy=proxy.url)
        for number in range(3):
            sending = begun(scene, "https://far.test/a", site)
            await proxy.wait_for_request("far.test:443", number + 1)
            cancel(sending)
            await proxy.until(lambda: proxy.open_connections == 0)


@bounded
async def test_while_it_follows_a_redirect():
    """The hop that was under way is closed."""
    async with Scene() as scene:
        scene.upstream.add("/a", redirect_to="/b")
        scene.upstream.add("/b", b"x", stall_before_head=True)
        sending = begun(scene, "/a")
        await scene.upstream.wait_for_request("/b")
        cancel(sending)
        await scene.upstream.until(lambda: scene.upstream.open_connections <= 1)
        scene.upstream.release("/b")
        await scene.fetch("/b")
