"""Where a client's request may make us go: to upstreams, to files that their pages link to, and nowhere inside."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest
from attrs import evolve

from pipcache.rules.proxies import Proxies
from pipcache.rules.sites import UpstreamSite
from tests.flows.harness import PAGE_TYPE, bounded, hashed, page

MIRROR = "http://mirror.example"
PAGE = "/simple/demo/"
FILE = "demo-1.0.tar.gz"
BODY = b"secret of this network " * 100


def public(proxy, upstream, *redirect_hosts: str) -> None:
    """Let the proxy ask a mirror of the internet, through an HTTP proxy that is `upstream`."""
    proxies = Proxies.from_environment({"http_proxy": upstream.url})
    site = evolve(UpstreamSite.from_root("mirror", MIRROR), proxies=proxies, redirect_hosts=redirect_hosts)
    proxy.program.upstreams.now_known((site,))


def linked(answer) -> list[str]:
    """The paths of ours that a page leads to."""
    return [urljoin(PAGE, each.partition('"')[0].partition("#")[0]) for each in answer.text.split('href="')[1:]]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("way", ["link", "redirect"])
@bounded
async def test_a_public_mirror_leads_nowhere_inside(flow, host, way):
    """Neither a page's link nor a redirect of a file makes us ask a server of this machine; the client gets an error."""
    upstream, inside = await flow.upstream(), await flow.upstream()
    inside.add(f"/{FILE}", BODY)
    target = f"http://{host}:{inside.port}/{FILE}"
    upstream.add(f"{MIRROR}/there/{FILE}", redirect_to=target)
    link = target if way == "link" else f"{MIRROR}/there/{FILE}"
    upstream.add(f"{MIRROR}{PAGE}", page(hashed(link, BODY)), content_type=PAGE_TYPE)
    proxy = await flow.proxy(upstream)
    public(proxy, upstream)
    (path,) = linked(await proxy.get(PAGE))
    for method, fields in (("GET", []), ("HEAD", []), ("GET", ["Range: bytes=0-1"])):
        answer = await proxy.get(path, *fields, method=method)
        assert answer.status == 502
        assert b"secret" not in answer.body
    assert inside.connections_made == 0
    assert not any(str(inside.port) in request.target for request in upstream.requests)
    await proxy.settled(PAGE, path)
    assert proxy.kept == {PAGE}


@bounded
async def test_what_is_listed_is_reached(flow):
    """With the place in `redirect_hosts` the same link is followed; the HTTP proxy is asked for it."""
    upstream = await flow.upstream()
    target = f"http://127.0.0.1:81/{FILE}"
    upstream.add(target, BODY)
    upstream.add(f"{MIRROR}{PAGE}", page(hashed(target, BODY)), content_type=PAGE_TYPE)
    proxy = await flow.proxy(upstream)
    public(proxy, upstream, "127.0.0.1:81")
    (path,) = linked(await proxy.get(PAGE))
    assert bytes((await proxy.get(path)).body) == BODY


@pytest.mark.parametrize(
    "link",
    [
        "file:///etc/passwd#.whl",
        "file:///tmp/demo-1.0.whl",
        "ftp://127.0.0.1:PORT/demo-1.0.whl",
        "gopher://127.0.0.1:PORT/demo-1.0.whl",
        "http://127.0.0.1:PORT/admin",
        "http://127.0.0.1:PORT/admin?demo-1.0.whl",
        "http://127.0.0.1:PORT/admin#demo-1.0.whl",
        "http://127.0.0.1:PORT/demo-1.0.whl/admin",
    ],
)
@bounded
async def test_a_link_to_what_is_no_file_is_not_followed(flow, link):
    """Also from an upstream that may lead inside: the path of the link must be that of a distribution file."""
    upstream, inside = await flow.upstream(), await flow.upstream()
    upstream.add(PAGE, page(link.replace("PORT", str(inside.port))), content_type=PAGE_TYPE)
    proxy = await flow.proxy(upstream)
    answer = await proxy.get(PAGE)
    assert answer.status == 200
    for path in linked(answer):
        await proxy.get(path)
    for path in ("/packages/demo-1.0.whl", "/packages/admin", "/+files/demo/demo-1.0.whl"):
        await proxy.get(path)
    assert inside.connections_made == 0


@pytest.mark.parametrize("way", ["page", "file"])
@bounded
async def test_other_schemes_are_never_followed(flow, way):
    """A redirect to a local file or another protocol is a failure of the upstream."""
    upstream = await flow.upstream()
    target = PAGE if way == "page" else "/pypi/demo/json"
    for location in ("file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/html,x", "unix:/run/x", "//", "http:"):
        upstream.add(target, redirect_to=location)
        proxy = await flow.proxy(upstream)
        answer = await proxy.get(target)
        assert answer.status == 502
        assert b"root:" not in answer.body
