"""Connections to upstreams over TLS: whom they believe, and that a peer that hangs cannot hold them."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, gatherResults

from pipcache.edges.agent import OPEN_PER_ORIGIN
from pipcache.rules.errors import ConfigError, UpstreamTimeout, UpstreamUnavailable
from pipcache.rules.sites import UpstreamSite
from tests.edges.scene import ClockReactor, Receiver, Scene, bounded, turns
from tests.fakes.proxy import FakeProxy
from tests.fakes.tls import NAME, self_signed
from tests.fakes.upstream import FakeUpstream

BODY = bytes(range(256)) * 1000


@pytest.fixture
def ca_file(tmp_path):
    """The file of certificates that makes the test's own server one to believe."""
    path = tmp_path / "ca.pem"
    path.write_bytes(b"some words before\n" + self_signed().pem + b"and after\n")
    return str(path)


async def secure(scene: Scene) -> FakeUpstream:
    """An upstream that speaks TLS."""
    upstream: FakeUpstream = await scene.another(FakeUpstream(self_signed().options))
    upstream.add("/a", BODY)
    return upstream


@pytest.mark.parametrize("options", [{}, {"chunked": True}, {"no_length": True}, {"gzip": True}])
@bounded
async def test_a_certificate_that_the_site_trusts(ca_file, options):
    """Whole bodies come over TLS from a server that the site's file of certificates vouches for."""
    async with Scene() as scene:
        upstream = await secure(scene)
        upstream.add("/a", BODY, **options)
        site = UpstreamSite.from_index("pip", f"{upstream.url}/simple/", ca_file=ca_file)
        for _ in range(3):
            _, received = await scene.fetch(f"{upstream.url}/a", site)
            assert (received.body, received.error) == (BODY, None)
        assert upstream.connections_made == (3 if "no_length" in options else 1)


@bounded
async def test_a_certificate_that_nobody_trusts():
    """A server that only vouches for itself is not asked."""
    async with Scene() as scene:
        upstream = await secure(scene)
        error = await scene.refused(f"{upstream.url}/a", UpstreamSite.from_root("main", upstream.url))
        assert (type(error), error.status) == (UpstreamUnavailable, 502)
        assert "certificate" in str(error)
        assert upstream.requests == []


@bounded
async def test_a_certificate_of_another_name(ca_file):
    """A certificate that does not name the host is no proof, however much it is trusted."""
    async with Scene() as scene:
        upstream = await secure(scene)
        url = f"https://localhost:{upstream.port}"
        error = await scene.refused(f"{url}/a", UpstreamSite.from_index("pip", f"{url}/simple/", ca_file=ca_file))
        assert (type(error), error.status) == (UpstreamUnavailable, 502)
        assert upstream.requests == []


@bounded
async def test_a_server_without_tls(ca_file):
    """A server that answers TLS in plain words is an upstream that is not there."""
    async with Scene() as scene:
        proxy = await scene.another(FakeProxy(answer=b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 400 Bad Request\r\n\r\n"))
        site = UpstreamSite.from_index("pip", f"https://{NAME}/simple/", ca_file=ca_file, proxy=proxy.url)
        error = await scene.refused(f"https://{NAME}/a", site)
        assert (type(error), error.status) == (UpstreamUnavailable, 502)


@pytest.mark.parametrize(
    "text",
    [
        None,
        b"",
        b"no certificate in here",
        b"-----BEGIN CERTIFICATE-----\nx",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
)
@bounded
async def test_a_file_without_certificates(tmp_path, text):
    """A file of certificates that cannot be used is named, and nothing is asked."""
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_bytes(text)
    async with Scene() as scene:
        site = UpstreamSite.from_index("pip", "https://127.0.0.1:1/simple/", ca_file=str(path))
        with pytest.raises(ConfigError, match=r"ca\.pem"):
            await scene.send("https://127.0.0.1:1/a", site)


@bounded
async def test_a_body_cut_below_tls_is_not_whole(ca_file):
    """An end without TLS's farewell is no end: whoever cuts the line cannot shorten a body without a length."""
    async with Scene() as scene:
        upstream = await secure(scene)
        proxy = await scene.another(FakeProxy())
        upstream.add("/a", pieces=[b"half"], no_length=True)
        site = UpstreamSite.from_index("pip", f"{upstream.url}/simple/", ca_file=ca_file, proxy=proxy.url)
        response = await scene.send(f"{upstream.url}/a", site)
        receiver = Receiver()
        response.deliver(receiver)
        await receiver.until(lambda: receiver.body == b"half")
        proxy.hang_up()
        await receiver.end()
        assert receiver.error is not None


async def hanging(scene: Scene, ca_file: str, stall: dict[str, object]) -> tuple[FakeProxy, UpstreamSite, str]:
    """A TLS server behind something that will fall silent below TLS, so that no farewell is ever answered."""
    upstream = await secure(scene)
    upstream.add("/stalls", BODY, **stall)
    proxy = await scene.another(FakeProxy())
    site = UpstreamSite.from_index("pip", f"https://{NAME}:{upstream.port}/simple/", ca_file=ca_file, proxy=proxy.url)
    return proxy, site, f"https://{NAME}:{upstream.port}"


@bounded
async def test_a_peer_that_hangs_in_mid_body_is_let_go(ca_file):
    """Silence ends the body, closes the connection, and gives the place back, whether or not the peer says goodbye."""
    reactor = ClockReactor()
    async with Scene(silence=30, reactor=reactor) as scene:
        proxy, site, url = await hanging(scene, ca_file, {"stall_after": 1000})
        receivers = [Receiver() for _ in range(OPEN_PER_ORIGIN)]
        asked = gatherResults([Deferred.fromCoroutine(scene.send(f"{url}/stalls", site)) for _ in receivers])
        for response, receiver in zip(await asked, receivers, strict=True):
            response.deliver(receiver)
        for receiver in receivers:
            await receiver.until(lambda it=receiver: len(it.body) == 1000)
        proxy.is_deaf = True
        reactor.clock.advance(31)
        for receiver in receivers:
            await receiver.end()
            assert type(receiver.error) is UpstreamTimeout
        await proxy.until(lambda: proxy.client_connections == 0)
        proxy.is_deaf = False
        _, received = await scene.fetch(f"{url}/a", site)
        assert received.body == BODY


@pytest.mark.parametrize("is_delivered", [False, True])
@bounded
async def test_giving_up_a_peer_that_hangs_closes_the_connection(ca_file, is_delivered):
    """Giving up a body waits for no answer."""
    reactor = ClockReactor()
    async with Scene(silence=30, reactor=reactor) as scene:
        proxy, site, url = await hanging(scene, ca_file, {"stall_after": 1000})
        response = await scene.send(f"{url}/stalls", site)
        if is_delivered:
            response.deliver(Receiver())
        await turns()
        proxy.is_deaf = True
        response.abandon()
        if not is_delivered:  # it is being read off, which silence ends
            await turns()
            reactor.clock.advance(31)
        await proxy.until(lambda: proxy.client_connections == 0)
        assert reactor.clock.getDelayedCalls() == []


@bounded
async def test_a_peer_that_hangs_before_the_head_is_let_go(ca_file):
    """Silence before an answer closes the connection too."""
    async with Scene(silence=0.3) as scene:
        proxy, site, url = await hanging(scene, ca_file, {"stall_before_head": True})
        error = await scene.refused(f"{url}/stalls", site)
        assert type(error) is UpstreamTimeout
        proxy.is_deaf = True
        await proxy.until(lambda: proxy.client_connections == 0)


@bounded
async def test_an_idle_peer_that_hangs_is_let_go(ca_file):
    """An idle connection is closed in time although nobody answers the farewell."""
    reactor = ClockReactor()
    async with Scene(reactor=reactor) as scene:
        proxy, site, url = await hanging(scene, ca_file, {})
        await scene.fetch(f"{url}/a", site)
        proxy.is_deaf = True
        reactor.clock.advance(91)
        await proxy.until(lambda: proxy.client_connections == 0)


@bounded
async def test_a_peer_that_hangs_does_not_hold_up_the_stop(ca_file):
    """Closing the client waits for no farewell."""
    async with Scene() as scene:
        proxy, site, url = await hanging(scene, ca_file, {})
        await scene.fetch(f"{url}/a", site)
        proxy.is_deaf = True
        await scene.client.close()
        await proxy.until(lambda: proxy.client_connections == 0)


@bounded
async def test_a_handshake_that_hangs_is_silence(ca_file):
    """A server that accepts and then says nothing is given up like one that does not answer."""
    async with Scene(silence=0.3) as scene:
        upstream = await secure(scene)
        proxy = await scene.another(FakeProxy(answer=b"HTTP/1.1 200 OK\r\n\r\n"))
        site = UpstreamSite.from_index("pip", f"{upstream.url}/simple/", ca_file=ca_file, proxy=proxy.url)
        error = await scene.refused(f"{upstream.url}/a", site)
        assert (type(error), error.status) == (UpstreamTimeout, 504)
        await proxy.until(lambda: proxy.client_connections == 0)
