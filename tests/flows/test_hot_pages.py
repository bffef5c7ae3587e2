"""A page that is ready is one for as long as it is fresh: past its time, validated, gone, and back again."""

from __future__ import annotations

import time

import pytest

from pipcache.engine import pages
from tests.fakes.upstream import FakeUpstream
from tests.flows.harness import PAGE_TYPE, Flow, Proxy, bounded, page
from tests.flows.hot_harness import PAGE, Talk, Ways, make_ready, request

OLD, NEW = page("/packages/aa/demo-1.0.tar.gz"), page("/packages/aa/demo-2.0.tar.gz")
TTL_SECONDS = 600.0


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    """Which way requests go; and any ``no-cache`` counts."""
    monkeypatch.setattr(pages, "VALIDATED_LATELY_SECONDS", 0.0)
    return Ways(monkeypatch)


def offer(upstream: FakeUpstream, content: bytes, **options: object) -> None:
    """Give this page, with an ETag of its own."""
    upstream.add(PAGE, content, content_type=PAGE_TYPE, etag=f'"{hash(content)}"', **options)


async def ready(flow: Flow, upstream: FakeUpstream, ways: Ways, **cache: float) -> Proxy:
    """A proxy that has the page ready."""
    offer(upstream, OLD)
    proxy = await flow.proxy(upstream, simple_ttl_seconds=TTL_SECONDS, **cache)
    await make_ready(proxy, [request(PAGE)])
    ways.short = 0
    return proxy


def set_clock(proxy: Proxy, seconds: float) -> None:
    """Let the page be of this age, within a second."""
    proxy.program.hot.now = proxy.program.holdings.now = lambda: time.time() + seconds


async def ask(proxy: Proxy, *fields: str) -> bytes:
    """The answer to a plain request for the page, or to one with these fields."""
    talk = await Talk.to(proxy)
    answer = await talk.say(request(PAGE, *fields))
    await talk.close()
    return answer


@pytest.mark.parametrize("grace_seconds", [0.0, 3600.0])
@bounded
async def test_it_is_ready_until_it_expires(flow: Flow, ways: Ways, grace_seconds: float) -> None:
    """However long it may be served stale: that is for the long way to decide, each time anew."""
    upstream = await flow.upstream()
    proxy = await ready(flow, upstream, ways, stale_while_revalidate_seconds=grace_seconds)
    set_clock(proxy, TTL_SECONDS - 30)
    assert b"X-Cache-Status: HIT\r\n" in await ask(proxy)
    assert ways.short == 1
    set_clock(proxy, TTL_SECONDS + 30)
    offer(upstream, NEW, stall_before_head=bool(grace_seconds))
    answers = [await ask(proxy) for _ in range(2)] if grace_seconds else []
    assert all(b"X-Cache-Status: STALE\r\n" in answer and b"demo-1.0" in answer for answer in answers)
    assert ways.short == 1
    await upstream.until(lambda: not grace_seconds or upstream.count(PAGE) == 2)
    upstream.release(PAGE)
    await proxy.settled(PAGE)
    assert b"demo-2.0" in await ask(proxy)
    assert b"demo-2.0" in await ask(proxy)


@bounded
async def test_one_that_was_validated_is_as_young_as_that(flow: Flow, ways: Ways) -> None:
    """A 304 from upstream changes no byte of the page, but its age and its time."""
    upstream = await flow.upstream()
    proxy = await ready(flow, upstream, ways)
    set_clock(proxy, 300)
    assert b"\r\nAge: 30" in await ask(proxy)
    assert ways.short == 1
    assert b"X-Cache-Status: REVALIDATED\r\n" in await ask(proxy, "Cache-Control: no-cache")
    await proxy.settled(PAGE)
    answers = [await ask(proxy) for _ in range(2)]
    assert [b"\r\nAge: 0\r\n" in answer or b"\r\nAge: 1\r\n" in answer for answer in answers] == [True, True]
    assert ways.short == 2
    set_clock(proxy, 300 + TTL_SECONDS - 30)
    assert b"X-Cache-Status: HIT\r\n" in await ask(proxy)
    assert ways.short == 3


@bounded
async def test_one_that_is_gone_is_gone_here_too(flow: Flow, ways: Ways) -> None:
    """Its absence is remembered, and it is ready again when it is back."""
    upstream = await flow.upstream()
    proxy = await ready(flow, upstream, ways, negative_ttl_seconds=60.0, stale_if_error_seconds=3600.0)
    set_clock(proxy, TTL_SECONDS + 30)
    upstream.add(PAGE, status=404)
    for status in (b"MISS", b"HIT"):
        answer = await ask(proxy)
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"X-Cache-Status: %s\r\n" % status in answer
    assert (ways.short, upstream.count(PAGE)) == (0, 2)
    assert PAGE.encode() not in proxy.program.hot.by_target
    offer(upstream, NEW)
    assert b"demo-2.0" in await ask(proxy, "Cache-Control: no-cache")
    await proxy.settled(PAGE)
    answers = [await ask(proxy) for _ in range(2)]
    assert all(b"demo-2.0" in answer for answer in answers)
    assert ways.short == 1
