"""Proxies that ask each other in circles: noticed at the first turn, told to the client, and nobody hangs."""

from __future__ import annotations

import re

import pytest

from pipcache.rules.settings import Upstream
from pipcache.rules.sites import UpstreamSite
from tests.flows.harness import PAGE_TYPE, bounded, hashed, page

PAGE = "/simple/demo/"
FILE = "/packages/aa/bb/cc/demo-1.0.tar.gz"
BODY = b"a body " * 1000
NOWHERE = Upstream("nowhere", "http://127.0.0.1:9")


def asks(proxy, *others):
    """Let a proxy that runs ask these instead."""
    sites = [UpstreamSite.from_root(f"proxy-{other.port}", f"http://127.0.0.1:{other.port}") for other in others]
    proxy.program.upstreams.now_known(tuple(sites))


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("target", [PAGE, FILE, "/simple/", "/pypi/demo/json"])
@bounded
async def test_a_circle_ends_in_an_error(flow, size, target):
    """One that asks itself, or two or three that ask each other: an error at once, and all of them go on."""
    proxies = [await flow.proxy(NOWHERE) for _ in range(size)]
    for place, proxy in enumerate(proxies):
        asks(proxy, proxies[(place + 1) % size])
    for method in ("GET", "HEAD"):
        answer = await proxies[0].get(target, method=method)
        assert answer.status == 502
    assert (await proxies[0].get(target, "Range: bytes=0-1")).status == 502
    assert {proxy.program.root._in_progress for proxy in proxies} == {0}
    assert (await proxies[0].get("/health")).status == 200


@bounded
async def test_out_of_a_circle_there_is_a_way(flow, upstream):
    """Two that ask each other first and a mirror then both serve what the mirror has."""
    upstream.add(PAGE, page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY)
    one, two = await flow.proxy(NOWHERE), await flow.proxy(NOWHERE)
    mirror = UpstreamSite.from_root("mirror", upstream.url)
    for proxy, other in ((one, two), (two, one)):
        site = UpstreamSite.from_root("other", f"http://127.0.0.1:{other.port}")
        proxy.program.upstreams.now_known((site, mirror))
    for proxy in (one, two):
        answer = await proxy.get(FILE)
        assert (answer.status, bytes(answer.body)) == (200, BODY)


@bounded
async def test_a_request_that_has_been_here_is_refused(proxy, upstream):
    """508 with a sentence that says what to look at; nobody upstream is asked, whatever the route."""
    upstream.add(PAGE, page(FILE), content_type=PAGE_TYPE)
    await proxy.get(PAGE, "Via: 1.0 fred, HTTP/1.1 pipcache-00ff (a cache)", "Via: 1.1 gateway.corp.example:80")
    (seen,) = upstream.requests
    hops = seen.headers["via"]
    assert re.fullmatch("1.1 other, 1.1 pipcache-00ff, 1.1 other, 1.1 pipcache-[0-9a-f]{16}", hops)
    for target in (PAGE, FILE, "/health", "/"):
        answer = await proxy.get(target, f"Via: {hops}, 1.1 fred")
        assert answer.status == 508
        assert "upstream" in answer.text
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(("count", "status"), [(20, 200), (21, 508), (400, 508)])
@bounded
async def test_a_request_that_came_through_too_many_is_refused(proxy, upstream, count, status):
    """More than twenty proxies on the way are a circle of somebody's."""
    upstream.add(PAGE, page(FILE), content_type=PAGE_TYPE)
    answer = await proxy.get(PAGE, *["Via: 1.1 a"] * count)
    assert answer.status == status
    assert upstream.count(PAGE) == (status == 200)


@pytest.mark.parametrize("target", [PAGE, FILE, "/pypi/demo/json"])
@pytest.mark.parametrize("how", ["GET", "HEAD", "range"])
@bounded
async def test_every_request_upstream_names_its_hops(proxy, upstream, target, how):
    """Whatever a client's request makes us ask, page and file, part and head, carries its hops and ours behind them."""
    upstream.add(PAGE, page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY, ranges=True)
    upstream.add("/pypi/demo/json", BODY, ranges=True)
    fields = ["Range: bytes=0-1"] if how == "range" else []
    await proxy.get(target, "Via: 1.1 pipcache-77", *fields, method="HEAD" if how == "HEAD" else "GET")
    assert upstream.requests
    for request in upstream.requests:
        assert re.fullmatch("1.1 pipcache-77, 1.1 pipcache-[0-9a-f]{16}", request.headers["via"])


@bounded
async def test_each_process_has_a_name_of_its_own(flow, upstream):
    """So that a proxy which asks another one is not taken for itself."""
    upstream.add(PAGE, page(FILE), content_type=PAGE_TYPE)
    for _ in range(2):
        await (await flow.proxy(upstream)).get(PAGE)
    assert len({request.headers["via"] for request in upstream.requests}) == 2
