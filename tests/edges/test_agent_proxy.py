"""Connections to upstreams through pip's proxy: a tunnel for https, absolute targets for http, every refusal."""

from __future__ import annotations

from base64 import b64encode

import pytest
from attrs import evolve
from twisted.logger import globalLogPublisher

from pipcache.rules.errors import UpstreamTimeout, UpstreamUnavailable
from pipcache.rules.proxies import Proxies
from pipcache.rules.sites import UpstreamSite
from tests.edges.scene import Scene, bounded
from tests.fakes.proxy import FakeProxy
from tests.fakes.tls import NAME, self_signed
from tests.fakes.upstream import ANYTHING_ELSE, FakeUpstream

BODY = bytes(range(256)) * 1000


@pytest.fixture
def ca_file(tmp_path):
    """The file of certificates that makes the test's own server one to believe."""
    path = tmp_path / "ca.pem"
    path.write_bytes(self_signed().pem)
    return str(path)


def with_userinfo(url: str, userinfo: str) -> str:
    """The URL with a user and a password."""
    return url.replace("//", f"//{userinfo}@")


@bounded
async def test_https_goes_through_a_tunnel(ca_file):
    """The proxy is asked for the host by name, sees nothing of the request, and the tunnel is used again."""
    async with Scene() as scene:
        upstream = await scene.another(FakeUpstream(self_signed().options))
        proxy = await scene.another(FakeProxy())
        upstream.add("/a", BODY)
        url = f"https://{NAME}:{upstream.port}"
        site = UpstreamSite.from_index("pip", f"{url}/simple/", ca_file=ca_file, proxy=proxy.url)
        for _ in range(3):
            _, received = await scene.fetch(f"{url}/a", site)
            assert (received.body, received.error) == (BODY, None)
        assert [(each.method, each.target) for each in proxy.requests] == [("CONNECT", f"{NAME}:{upstream.port}")]
        assert proxy.requests[0].headers == {"host": f"{NAME}:{upstream.port}"}
        assert upstream.requests[0].target == "/a"


@pytest.mark.parametrize("userinfo", ["ali:open%20sesame", "ali:open sesame"])
@bounded
async def test_a_tunnel_with_credentials(ca_file, userinfo):
    """The proxy gets its credentials, the upstream its own, and neither those of the other."""
    async with Scene() as scene:
        upstream = await scene.another(FakeUpstream(self_signed().options))
        proxy = await scene.another(FakeProxy(credentials="ali:open sesame"))
        upstream.add("/a", BODY)
        url = f"https://{NAME}:{upstream.port}"
        site = UpstreamSite.from_index(
            "pip", f"{with_userinfo(url, 'me:mine')}/simple/", ca_file, with_userinfo(proxy.url, userinfo)
        )
        _, received = await scene.fetch(f"{url}/a", site)
        assert received.body == BODY
        assert proxy.requests[0].headers["proxy-authorization"] == proxy.authorization
        assert "authorization" not in proxy.requests[0].headers
        assert "proxy-authorization" not in upstream.requests[0].headers
        assert upstream.requests[0].headers["authorization"] == "Basic " + b64encode(b"me:mine").decode()


@pytest.mark.parametrize(
    ("proxy", "says"),
    [
        ({"credentials": "ali:secret"}, "407"),
        ({"answer": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"}, "403"),
        ({"answer": b"HTTP/1.0 502 Bad Gateway\r\n\r\nsorry", "hangs_up": True}, "502"),
        ({"answer": b"", "hangs_up": True}, "closed"),
        ({"answer": b"HTTP/1.1 200 OK\r\nVia: ", "hangs_up": True}, "closed"),
        ({"answer": b"220 mail.example ESMTP\r\n\r\n"}, "refused"),
        ({"answer": b"\x00\x1b[31m\xff\r\n\r\n"}, "refused"),
        ({"answer": b"\r\n\r\n"}, "refused"),
        ({"answer": b"HTTP/1.1\r\n\r\n"}, "refused"),
        ({"answer": b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000}, "refused"),
        ({"answer": b"x" * 100_000}, "refused"),
    ],
)
@bounded
async def test_a_proxy_that_gives_no_tunnel(ca_file, proxy, says):
    """Whatever the proxy says instead, the upstream cannot be reached; the message is one line and no secret."""
    async with Scene(silence=5) as scene:
        upstream = await scene.another(FakeUpstream(self_signed().options))
        proxy = await scene.another(FakeProxy(**proxy))
        site = UpstreamSite.from_index(
            "pip", f"{upstream.url}/simple/", ca_file, with_userinfo(proxy.url, "ali:sesame")
        )
        error = await scene.refused(f"{upstream.url}/a", site)
        assert (type(error), error.status) == (UpstreamUnavailable, 502)
        assert says in str(error)
        assert "sesame" not in str(error)
        assert str(error).isprintable()
        assert len(str(error)) < 250
        assert upstream.requests == []
        await proxy.until(lambda: proxy.client_connections == 0)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n"])
@bounded
async def test_a_proxy_that_says_nothing(ca_file, answer):
    """A tunnel that is not there in time is silence."""
    async with Scene(silence=0.3) as scene:
        upstream = await scene.another(FakeUpstream(self_signed().options))
        proxy = await scene.another(FakeProxy(answer=answer))
        site = UpstreamSite.from_index("pip", f"{upstream.url}/simple/", ca_file, proxy.url)
        error = await scene.refused(f"{upstream.url}/a", site)
        assert (type(error), error.status) == (UpstreamTimeout, 504)
        await proxy.until(lambda: proxy.client_connections == 0)


@pytest.mark.parametrize("scheme", ["http", "https"])
@bounded
async def test_a_proxy_that_is_not_there(ca_file, scheme):
    """A proxy that refuses the connection is an upstream that cannot be reached."""
    async with Scene() as scene:
        proxy = await scene.another()
        await proxy.pause()
        site = UpstreamSite.from_index("pip", f"{scheme}://{NAME}/simple/", ca_file, proxy.url)
        error = await scene.refused(f"{scheme}://{NAME}/a", site)
        assert (type(error), error.status) == (UpstreamUnavailable, 502)
        assert "refused" in str(error)


@pytest.mark.parametrize("userinfo", [None, "ali:open%20sesame"])
@bounded
async def test_http_goes_to_the_proxy_with_absolute_targets(userinfo):
    """Plain http is asked of the proxy itself, which gets its credentials; the connection is used again."""
    async with Scene() as scene:
        scene.upstream.add(ANYTHING_ELSE, BODY)
        proxy = with_userinfo(scene.upstream.url, userinfo) if userinfo else scene.upstream.url
        site = UpstreamSite.from_index("pip", "http://mirror.invalid/simple/", proxy=proxy)
        for _ in range(3):
            response, received = await scene.fetch("http://mirror.invalid/a?b=1", site)
            assert (response.url, received.body) == ("http://mirror.invalid/a", BODY)
        request = scene.upstream.requests[0]
        assert (request.target, request.headers["host"]) == ("http://mirror.invalid/a?b=1", "mirror.invalid")
        expected = "Basic " + b64encode(b"ali:open sesame").decode() if userinfo else None
        assert request.headers.get("proxy-authorization") == expected
        assert scene.upstream.connections_made == 1


@bounded
async def test_connecting_says_nothing_in_the_log(ca_file):
    """A line for every connection would hide what matters."""
    said: list[str] = []

    def observe(event: dict[str, object]) -> None:
        said.append(str(event.get("log_format")))

    async with Scene() as scene:
        upstream = await scene.another(FakeUpstream(self_signed().options))
        proxy = await scene.another(FakeProxy())
        site = UpstreamSite.from_index("pip", f"{upstream.url}/simple/", ca_file, proxy.url)
        globalLogPublisher.addObserver(observe)
        try:
            await scene.fetch(f"{upstream.url}/a", site)
        finally:
            globalLogPublisher.removeObserver(observe)
    assert [line for line in said if "factory" in line.lower()] == []


@bounded
async def test_a_site_without_a_proxy_goes_straight():
    """The proxy of one site is nobody else's, although both lie on one origin."""
    async with Scene() as scene:
        scene.upstream.add("/a", BODY)
        proxy = await scene.another()
        proxy.add(ANYTHING_ELSE, b"from the proxy")
        proxied = UpstreamSite.from_index("pip", f"{scene.upstream.url}/simple/", proxy=proxy.url)
        _, received = await scene.fetch("/a", proxied)
        assert received.body == b"from the proxy"
        _, received = await scene.fetch("/a")
        assert received.body == BODY


@bounded
async def test_the_environment_says_which_hosts_go_through_the_proxy(ca_file):
    """One site, two hosts: what `NO_PROXY` names is reached directly, the rest by the proxy of its scheme."""
    async with Scene(is_private=lambda address: False) as scene:
        upstream = await scene.another(FakeUpstream(self_signed().options))
        proxy = await scene.another(FakeProxy(credentials="ali:open sesame"))
        upstream.add("/a", BODY)
        scene.upstream.add("/a", BODY)
        environ = {
            "HTTPS_PROXY": with_userinfo(proxy.url, "ali:open%20sesame"),
            "HTTP_PROXY": "http://127.0.0.1:1",
            "NO_PROXY": "127.0.0.1",
        }
        site = evolve(
            UpstreamSite.from_index("main", f"https://{NAME}/simple/", ca_file),
            proxies=Proxies.from_environment(environ),
        )
        for url in (f"https://{NAME}:{upstream.port}/a", f"{upstream.url}/a", f"{scene.upstream.url}/a"):
            _, received = await scene.fetch(url, site)
            assert received.body == BODY
        assert [each.target for each in proxy.requests] == [f"{NAME}:{upstream.port}"]
        unreached = evolve(site, proxies=Proxies.from_environment({**environ, "NO_PROXY": ""}))
        assert "refused" in str(await scene.refused(f"{scene.upstream.url}/a", unreached))
