"""What is ready follows what is stored: gone, replaced, evicted; and how a connection fares the short way."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from pipcache.engine import pages
from pipcache.rules.key import CacheKey
from pipcache.rules.routes import parse_target
from pipcache.web import mapping, transport
from pipcache.web.hot import LOOK_SECONDS, USE_SECONDS
from pipcache.web.mapping import WINDOW_BYTES
from tests.fakes.upstream import FakeUpstream
from tests.flows.harness import PAGE_TYPE, Flow, Proxy, bounded, eventually, hashed, page
from tests.flows.hot_harness import FIXTURES, LARGE, PAGE, SMALL, Talk, Ways, make_ready, offer, request

HUGE = "/packages/aa/bb/cc/demo-3.0.tar.gz"
HUGE_BODY = b"".join(number.to_bytes(4, "big") for number in range(1 << 22))


@pytest_twisted.async_fixture
async def ready(proxy: Proxy, upstream: FakeUpstream) -> Proxy:
    """A proxy that has all fixtures ready, and a file that no system takes at once."""
    offer(upstream)
    upstream.add("/simple/huge/", page(hashed(HUGE, HUGE_BODY)), content_type=PAGE_TYPE)
    upstream.add(HUGE, HUGE_BODY)
    await make_ready(proxy, [request(target, *fields) for target, fields in FIXTURES.values()])
    await make_ready(proxy, [request(HUGE)])
    return proxy


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    """Which way requests go."""
    return Ways(monkeypatch)


@pytest.mark.parametrize("target", [PAGE, SMALL, LARGE])
@bounded
async def test_an_emptied_directory_is_noticed_in_a_tenth_of_a_second(
    ready: Proxy, upstream: FakeUpstream, target: str
) -> None:
    """`rm -rf cache/*` makes the next request a miss, that is kept again."""
    asked = upstream.count(target)
    for folder in ready.cache_dir.glob("???"):
        shutil.rmtree(folder)
    ready.program.hot.now = lambda: time.time() + 1 + LOOK_SECONDS
    answer = await ready.get(target)
    assert (answer.status, answer["x-cache-status"]) == (200, "MISS")
    assert upstream.count(target) == asked + 1


@pytest.mark.parametrize("memory_bytes", [0, 1 << 20], ids=["read", "held"])
@pytest.mark.parametrize("kind", ["GET", "HEAD", "304"])
@bounded
async def test_a_body_that_is_gone_alone_is_noticed(flow: Flow, ways: Ways, memory_bytes: int, kind: str) -> None:
    """Whether or not it is held, and also where an answer needs none of it."""
    upstream = await flow.upstream()
    offer(upstream)
    proxy = await flow.proxy(upstream, hot_memory_bytes=memory_bytes)
    await make_ready(proxy, [request(SMALL)])
    etag = (await proxy.get(SMALL))["etag"]
    wanted = request(
        SMALL, *([f"If-None-Match: {etag}"] if kind == "304" else []), method="HEAD" if kind == "HEAD" else "GET"
    )
    said = []
    for _ in range(2):
        ways.short = 0
        talk = await Talk.to(proxy)
        said.append((b"X-Cache-Status: HIT" in await talk.say(wanted), ways.short))
        await talk.close()
        for body in proxy.cache_dir.glob("???/*.body"):
            body.unlink()
        proxy.program.hot.now = lambda: time.time() + LOOK_SECONDS
    assert said == [(True, 1), (False, 0)]


@bounded
async def test_a_page_that_is_replaced_is_shown_at_once(
    ready: Proxy, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked for it to be validated does not get the old one afterwards, nor does anybody else."""
    monkeypatch.setattr(pages, "VALIDATED_LATELY_SECONDS", 0.0)
    upstream.add(PAGE, page("/packages/aa/bb/cc/demo-9.9.tar.gz#sha256=" + "0" * 64), content_type=PAGE_TYPE)
    new = await ready.get(PAGE, "Cache-Control: no-cache")
    assert "demo-9.9" in new.text
    again = await ready.get(PAGE)
    assert again.body == new.body
    await ready.settled(PAGE)
    assert (await ready.get(PAGE)).body == new.body


@bounded
async def test_what_is_evicted_is_forgotten(ready: Proxy) -> None:
    """And its file closed, so that the disk has its room back."""
    hot = ready.program.hot
    assert LARGE.encode() in hot.by_target
    ready.program.holdings.catalog.discard(CacheKey.of(parse_target(LARGE.encode())).digest)
    assert LARGE.encode() not in hot.by_target


def _mappings(proxy: Proxy) -> int:
    """How many pieces of files in the cache directory this process has mapped."""
    return Path("/proc/self/maps").read_text().count(f"{proxy.cache_dir}/")


@bounded
async def test_what_is_evicted_is_mapped_no_more(ready: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a large file stay mapped while it is ready; else until it is sent."""
    monkeypatch.setattr(
        transport, "CALL_BYTES", 1 << 14
    )  # a piece for which there is room at once, whatever the system
    monkeypatch.setattr(mapping, "LEAST_BYTES", 1)
    monkeypatch.setattr(transport, "FAST_BYTES_PER_SECOND", 0)
    assert (await ready.get(HUGE)).body == HUGE_BODY
    assert _mappings(ready)
    ready.program.holdings.catalog.discard(CacheKey.of(parse_target(HUGE.encode())).digest)
    assert not _mappings(ready)
    answer = await ready.get(HUGE, "Range: bytes=1-")  # which goes the long way
    assert answer.body == HUGE_BODY[1:]
    await eventually(lambda: not _mappings(ready))


@pytest.mark.parametrize("piece_bytes", [1 << 14, transport.CALL_BYTES])
@pytest.mark.parametrize(
    ("first", "last"), [(0, 1), (1, WINDOW_BYTES), (WINDOW_BYTES - 1, 3 * WINDOW_BYTES), (5, len(HUGE_BODY) - 1)]
)
@bounded
async def test_a_part_of_a_large_file_is_that_part(
    ready: Proxy, first: int, last: int, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it begins and ends, beside the whole, and while others are being sent it."""
    monkeypatch.setattr(transport, "CALL_BYTES", piece_bytes)
    monkeypatch.setattr(mapping, "LEAST_BYTES", 1)
    monkeypatch.setattr(transport, "FAST_BYTES_PER_SECOND", 0)
    whole, part, other = [
        await ready.ask(HUGE, "Connection: close", *fields)
        for fields in ((), (f"Range: bytes={first}-{last}",), ("Range: bytes=7-",))
    ]
    assert (await part.ended()).body == HUGE_BODY[first : last + 1]
    assert (await whole.ended()).body == HUGE_BODY
    assert (await other.ended()).body == HUGE_BODY[7:]


@bounded
async def test_a_use_the_short_way_is_a_use(ready: Proxy, ways: Ways) -> None:
    """It keeps an entry from being the next to go."""
    catalog = ready.program.holdings.catalog
    digest = CacheKey.of(parse_target(SMALL.encode())).digest
    await ready.get(PAGE)
    ready.program.hot.now = lambda: time.time() + USE_SECONDS
    talk = await Talk.to(ready)
    await talk.say(request(SMALL))
    await talk.close()
    assert ways.short == 1
    assert list(catalog.by_use())[-1][0] == digest


async def _slow(ready: Proxy) -> tuple[Any, Any]:
    """A client that asked for the huge file and reads none of it, and its channel."""
    before = set(ready.program.site._channels)
    client = await ready.connect()
    client.pause()
    answer = client.ask(HUGE)
    await eventually(lambda: any(each._is_sending for each in ready.program.site._channels - before))
    (channel,) = ready.program.site._channels - before
    return (client, answer), channel


@bounded
async def test_requests_behind_a_file_on_its_way_wait_for_it(ready: Proxy) -> None:
    """What a client sends meanwhile is answered afterwards, in order."""
    (client, answer), channel = await _slow(ready)
    more = [client.ask(SMALL), client.ask("/favicon.ico"), client.ask(HUGE)]
    client.resume()
    await answer.ended()
    assert answer.body == HUGE_BODY
    for each in more:
        await each.ended()
        assert each.is_whole
    assert [each.status for each in more] == [200, 204, 200]
    assert more[2].body == HUGE_BODY
    assert not channel._is_sending
    await client.close()


@bounded
async def test_who_is_being_sent_a_file_is_not_idle(ready: Proxy) -> None:
    """The idle timeout ends a connection without a request, and none that takes its time."""
    (client, answer), channel = await _slow(ready)
    channel.timeoutConnection()
    client.resume()
    await answer.ended()
    assert answer.body == HUGE_BODY
    await eventually(lambda: not channel._is_sending)
    channel.timeoutConnection()
    await client.until(lambda: client.is_closed)


@bounded
async def test_a_request_the_short_way_puts_the_idle_timeout_off(ready: Proxy, ways: Ways) -> None:
    """A busy connection is never cut."""
    talk = await Talk.to(ready)
    resets: list[int] = []
    talk.channel.resetTimeout = lambda: resets.append(1)
    for seconds in range(3):
        ready.program.hot.now = lambda later=2 * seconds: time.time() + later
        await talk.say(request(SMALL))
    await talk.close()
    assert ways.short == 3
    assert len(resets) == 3


@bounded
async def test_a_stop_sends_the_rest_of_a_file(ready: Proxy) -> None:
    """Closing all connections is closing them behind what is being sent."""
    (client, answer), _ = await _slow(ready)
    closed = ready.program.site.close()
    client.resume()
    await answer.ended()
    assert answer.body == HUGE_BODY
    await closed


@bounded
async def test_a_client_that_leaves_a_file_gives_all_of_it_back(ready: Proxy) -> None:
    """Nothing stays pinned."""
    (client, _), channel = await _slow(ready)
    catalog = ready.program.holdings.catalog
    assert catalog.is_pinned(CacheKey.of(parse_target(HUGE.encode())).digest)
    client.vanish()
    await eventually(lambda: channel not in ready.program.site._channels)
    await eventually(lambda: not catalog.is_pinned(CacheKey.of(parse_target(HUGE.encode())).digest))


@bounded
async def test_who_takes_nothing_of_a_file_is_dropped(ready: Proxy) -> None:
    """Who takes some of it is not, though nothing but its pieces says so."""
    (client, answer), channel = await _slow(ready)
    site = ready.program.site
    site._looking.cancel()  # type: ignore[union-attr]  # the test looks itself
    now, stall_seconds = site.seconds(), site.limits.stall_seconds
    for turn in range(3):
        channel.look(now + turn * (stall_seconds + 1))
        before = channel.transport.moves
        client.resume()
        while channel.transport.moves == before:
            await deferLater(reactor, 0, lambda: None)  # no longer, or all of it would go
        client.pause()
        assert not answer.is_whole
    channel.look(now + 3 * (stall_seconds + 1))
    assert channel in site._channels
    channel.look(now + 5 * (stall_seconds + 1))
    await eventually(lambda: channel not in site._channels)
    client.resume()
    await answer.ended()
    assert not answer.is_whole


@bounded
async def test_a_head_has_its_time_after_an_answer_the_short_way(ready: Proxy, ways: Ways) -> None:
    """None while nothing is sent; its own from its first byte on."""
    talk = await Talk.to(ready)
    await talk.say(request(SMALL))
    assert ways.short == 1
    later = ready.program.site.seconds() + 2 * ready.program.site.limits.head_seconds
    talk.channel.look(later)
    await talk.say(b"GET /")
    assert not talk.is_closed
    talk.channel.look(later)
    assert (await talk.say()).startswith(b"HTTP/1.1 408 ")
    await talk.close()
