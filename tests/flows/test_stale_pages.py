"""Pages past their time: an upstream that answers 304, goes away, comes back, or lags."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.flows.harness import PAGE_TYPE, bounded, eventually, page

PAGE = "/simple/demo/"
OLD, NEW = page("/packages/aa/demo-1.0.tar.gz"), page("/packages/aa/demo-2.0.tar.gz")
STALE_AT_ONCE = 0.000_001


def offer(upstream, content, etag=None, serial=None):
    """Give this page, with this ETag."""
    comment = f"<!--SERIAL {serial}-->".encode() if serial is not None else b""
    upstream.add(PAGE, content + comment, content_type=PAGE_TYPE, etag=etag)


@bounded
async def test_a_304_makes_a_page_fresh_again(flow):
    """The upstream sends nothing but a head; the client gets the same bytes and ETag, or a 304 of its own."""
    upstream = await flow.upstream()
    offer(upstream, OLD, etag='"v1"')
    proxy = await flow.proxy(upstream, simple_ttl_seconds=STALE_AT_ONCE)
    miss = await proxy.get(PAGE)
    await proxy.settled(PAGE)
    sent = upstream.bytes_sent
    again = await proxy.get(PAGE)
    assert (again["x-cache-status"], again.body, again["etag"]) == ("REVALIDATED", miss.body, miss["etag"])
    assert upstream.requests[-1].headers["if-none-match"] == '"v1"'
    assert upstream.bytes_sent == sent
    assert (await proxy.get(PAGE, f"If-None-Match: {miss['etag']}")).status == 304
    offer(upstream, NEW, etag='"v2"')
    changed = await proxy.get(PAGE)
    assert (changed["x-cache-status"], b"demo-2.0" in changed.body) == ("MISS", True)


@bounded
async def test_a_page_is_served_while_it_is_validated(flow):
    """Nobody waits for an upstream that takes its time."""
    upstream = await flow.upstream()
    offer(upstream, OLD)
    proxy = await flow.proxy(upstream, simple_ttl_seconds=STALE_AT_ONCE, stale_while_revalidate_seconds=60.0)
    await proxy.get(PAGE)
    await proxy.settled(PAGE)
    upstream.add(PAGE, NEW, content_type=PAGE_TYPE, stall_before_head=True)
    answers = [await proxy.get(PAGE) for _ in range(3)]
    assert [answer["x-cache-status"] for answer in answers] == ["STALE"] * 3
    assert all(b"demo-1.0" in answer.body for answer in answers)
    await upstream.until(lambda: upstream.count(PAGE) == 2)
    upstream.release(PAGE)
    await proxy.settled(PAGE)
    assert b"demo-2.0" in (await proxy.get(PAGE)).body


@bounded
async def test_an_upstream_that_goes_away_and_comes_back(flow):
    """Meanwhile its stale page is the answer, also after a restart; then the new one."""
    upstream = await flow.upstream()
    offer(upstream, OLD)
    proxy = await flow.proxy(upstream, simple_ttl_seconds=STALE_AT_ONCE)
    await proxy.get(PAGE)
    await proxy.settled(PAGE)
    await upstream.pause()
    stale = await proxy.get(PAGE)
    assert (stale.status, stale["x-cache-status"], stale["age"]) == (200, "STALE", "0")
    assert stale["cache-status"].startswith("pipcache; hit; ttl=")
    await proxy.restart()
    assert (await proxy.get(PAGE))["x-cache-status"] == "STALE"
    assert (await proxy.get("/simple/other/")).status == 502
    await upstream.resume()
    offer(upstream, NEW)
    fresh = await proxy.get(PAGE, "Cache-Control: no-cache")
    while fresh["x-cache-status"] == "STALE":  # no-cache counts once in two seconds
        await deferLater(reactor, 0.1, lambda: None)
        fresh = await proxy.get(PAGE, "Cache-Control: no-cache")
    assert b"demo-2.0" in fresh.body


@bounded
async def test_a_mirror_that_lags_does_not_take_a_release_back(flow):
    """Its page has a lower serial than the one that is kept of the other, which is down."""
    first, second = await flow.upstream(), await flow.upstream()
    offer(first, NEW, serial=18)
    offer(second, OLD, serial=17)
    proxy = await flow.proxy(first, second, simple_ttl_seconds=STALE_AT_ONCE)
    await proxy.get(PAGE)
    await proxy.settled(PAGE)
    await first.pause()
    answer = await proxy.get(PAGE)
    assert (answer["x-cache-status"], b"demo-2.0" in answer.body) == ("STALE", True)
    assert second.count(PAGE) == 1
    health = {each["name"]: each for each in (await proxy.health())["upstreams"]}
    assert health["two"]["consecutive_failures"] == 0


@bounded
async def test_only_if_cached_is_answered_from_what_is_here(flow):
    """504 where it is not."""
    upstream = await flow.upstream()
    offer(upstream, OLD)
    proxy = await flow.proxy(upstream)
    assert (await proxy.get(PAGE, "Cache-Control: only-if-cached")).status == 504
    assert upstream.requests == []
    await proxy.get(PAGE)
    assert (await proxy.get(PAGE, "Cache-Control: only-if-cached"))["x-cache-status"] == "HIT"


@bounded
async def test_a_project_that_is_gone_is_not_served_from_the_past(flow):
    """Quarantined or deleted where it came from: then it is gone here too."""
    upstream = await flow.upstream()
    offer(upstream, OLD)
    proxy = await flow.proxy(upstream, simple_ttl_seconds=STALE_AT_ONCE)
    await proxy.get(PAGE)
    await proxy.settled(PAGE)
    upstream.add(PAGE, b"gone", status=404)
    assert (await proxy.get(PAGE)).status == 404
    await eventually(lambda: not proxy.kept)
