"""Which upstream is asked, and what a client hears when none of them gives it."""

from __future__ import annotations

import socket

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater

from pipcache.rules.settings import Upstream
from tests.fakes.upstream import Reply
from tests.flows.harness import PAGE_TYPE, bounded, page

FILE = "/packages/a/demo-1.0.zip"
PAGE = "/simple/demo/"
SILENCE = 0.3

PORTAL = {"body": b"<html><body>Please log in to use this network.</body></html>", "content_type": PAGE_TYPE}


def offer(upstream, target=None):
    """Give one of the two, or both."""
    if target in (None, PAGE):
        upstream.add(PAGE, page(FILE), content_type=PAGE_TYPE)
    if target in (None, FILE):
        upstream.add(FILE, b"the file")


@pytest.mark.parametrize(
    "options",
    [
        *({"status": status} for status in (403, 404, 410, 429, 500, 502, 503, 599)),
        {"stall_before_head": True},
        {"raw": b"SSH-2.0-surprise\r\n"},
        {"raw": b""},
        {"raw": b"HTTP/1.1 200 OK\r\nContent-Length: a lot\r\n\r\n"},
        {"raw": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000},
        {"redirect_to": "ftp://x.test/"},
    ],
)
@pytest.mark.parametrize("target", [PAGE, FILE])
@bounded
async def test_the_next_upstream_is_asked(flow, target, options):
    """A refusal, silence, or what is no HTTP: the client gets the thing from the fallback, and never knows."""
    first, second = await flow.upstream(), await flow.upstream()
    first.add(target, **options)
    offer(second, target)
    proxy = await flow.proxy(first, second, timeout=SILENCE)
    answer = await proxy.get(target)
    assert (answer.status, answer["x-upstream"], answer["x-cache-status"]) == (200, "two", "MISS")
    assert (await proxy.get(target))["x-cache-status"] == "HIT"
    assert first.count(target) >= 1


@pytest.mark.parametrize(
    "options",
    [
        PORTAL,
        {"body": b"", "content_type": PAGE_TYPE},
        {"body": b'{"name": "demo"}', "content_type": "application/json"},
        {"body": page(FILE), "content_type": PAGE_TYPE, "cut_after": 20},
        {"body": page(FILE), "content_type": PAGE_TYPE, "cut_after": 20, "chunked": True},
        {"body": page(FILE), "content_type": PAGE_TYPE, "reset_after": 20},
        {"body": page(FILE), "content_type": PAGE_TYPE, "stall_after": 20},
        {"body": page(FILE), "content_type": PAGE_TYPE, "bad_chunk": True},
        {"body": page(FILE), "content_type": PAGE_TYPE, "wrong_length": 5},
    ],
)
@bounded
async def test_a_page_that_is_none_is_a_failure(flow, options):
    """A captive portal's page, another type, half a page: the fallback's page is served, whole."""
    first, second = await flow.upstream(), await flow.upstream()
    first.add(PAGE, **options)
    offer(second)
    proxy = await flow.proxy(first, second, timeout=SILENCE)
    answer = await proxy.get(PAGE)
    assert (answer.status, answer["x-upstream"]) == (200, "two")
    assert "demo-1.0.zip" in answer.text
    assert (await proxy.health())["upstreams"][0]["consecutive_failures"] == 1


@bounded
async def test_a_refused_connection_goes_to_the_next(flow):
    """A server that is down costs nothing but a moment; when it is back it is asked again."""
    first, second = await flow.upstream(), await flow.upstream()
    offer(first)
    offer(second)
    await first.pause()
    proxy = await flow.proxy(first, second)
    assert (await proxy.get(PAGE))["x-upstream"] == "two"
    await first.resume()
    assert (await proxy.get(FILE))["x-upstream"] == "two"  # as its page was the second's
    first.add("/pypi/x", b"x")
    assert (await proxy.get("/pypi/x"))["x-upstream"] == "one"


REFUSED, SILENT, BROKEN = "refused", "silent", "broken"


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ([404], 404),
        ([410], 404),
        ([404, 403], 404),
        ([403, 410], 404),
        ([404, REFUSED], 404),
        ([SILENT, 404], 404),
        ([404, SILENT], 404),
        ([403], 502),
        ([403, 403], 502),
        ([404, 500], 502),
        ([404, 429], 502),
        ([500, 404], 502),
        ([404, BROKEN], 502),
        ([REFUSED], 502),
        ([SILENT, REFUSED], 502),
        ([SILENT], 504),
        ([500, SILENT], 504),
        ([REFUSED, SILENT], 504),
        ([404, 503, SILENT], 504),
        ([429], 503),
        ([429, 503], 502),
    ],
)
@pytest.mark.parametrize("target", [PAGE, "/packages/a/nameless", "/pypi/demo/json"])
@bounded
async def test_the_verdict(flow, answers, status, target):
    """404 only where somebody said so and nobody might know better; 503 where all say so; else 504 after silence, or 502."""
    upstreams = [await flow.upstream() for _ in answers]
    for upstream, answer in zip(upstreams, answers, strict=True):
        if answer == REFUSED:
            await upstream.pause()
        elif answer == SILENT:
            upstream.add(target, stall_before_head=True)
        elif answer == BROKEN:
            upstream.add(target, raw=b"nonsense\r\n\r\n")
        else:
            upstream.add(target, status=answer)
    # to believe that nobody listens takes Twisted 0.3 s
    timeout = 15.0 if SILENT not in answers else 3 * SILENCE if REFUSED in answers else SILENCE
    proxy = await flow.proxy(*upstreams, timeout=timeout)
    answer = await proxy.get(target)
    assert answer.status == status
    assert answer["content-type"].startswith("text/plain")
    assert "upstream" in answer.text
    assert answer.is_whole
    assert proxy.kept == set()


@pytest.fixture
def deaf():
    """An address that answers no attempt to connect: its backlog is full and nobody accepts."""
    with socket.socket() as listening, socket.socket() as waiting, socket.socket() as more:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for each in (waiting, more):
            each.setblocking(False)
            each.connect_ex(listening.getsockname())
        yield Upstream("deaf", f"http://127.0.0.1:{listening.getsockname()[1]}")


@bounded
async def test_connecting_without_an_answer_is_silence(flow, deaf):
    """A host that drops what is sent to it is met once, like one that accepts and says nothing, and alone is a 504."""
    second = await flow.upstream()
    offer(second, FILE)
    proxy = await flow.proxy(deaf, second, timeout=1.0)
    began = reactor.seconds()
    assert (await proxy.get(FILE)).body == b"the file"
    assert reactor.seconds() - began < 1.9
    assert (await proxy.get(PAGE)).status == 404
    alone = await flow.proxy(deaf, timeout=SILENCE)
    assert (await alone.get(PAGE)).status == 504


@bounded
async def test_an_absence_is_remembered_for_a_while(flow):
    """Nobody is asked again meanwhile; then what was not there is found."""
    upstream = await flow.upstream()
    proxy = await flow.proxy(upstream, negative_ttl_seconds=0.5)
    first, again = await proxy.get(PAGE), await proxy.get(PAGE)
    assert [(each.status, each["x-cache-status"]) for each in (first, again)] == [(404, "MISS"), (404, "HIT")]
    assert upstream.count(PAGE) == 1
    offer(upstream)
    await eventually_ok(proxy, PAGE)


async def eventually_ok(proxy, target):
    """Ask until the answer is a 200."""
    while (await proxy.get(target)).status != 200:
        await deferLater(reactor, 0.05, lambda: None)


@bounded
async def test_a_hanging_upstream_costs_the_timeout_once(flow):
    """Silent for the page, it is asked last for the file of the same request: one timeout in all."""
    first, second = await flow.upstream(), await flow.upstream()
    first.add(PAGE, stall_before_head=True)
    first.add(FILE, stall_before_head=True)
    second.add(FILE, b"the file")
    proxy = await flow.proxy(first, second, timeout=SILENCE)
    assert (await proxy.get(FILE)).body == b"the file"
    assert (first.count(PAGE), first.count(FILE)) == (1, 0)


@bounded
async def test_it_costs_once_whoever_fetched_the_page(flow):
    """A client that waited for a page which another one asked for has met the silence too."""
    first, second = await flow.upstream(), await flow.upstream()
    first.add(PAGE, stall_before_head=True)
    files = [f"/packages/a/demo-{number}.0.zip" for number in range(3)]
    for file in files:
        first.add(file, stall_before_head=True)
        second.add(file, file.encode())
    proxy = await flow.proxy(first, second, timeout=SILENCE)
    answers = [await proxy.ask(file) for file in files]
    for answer, file in zip(answers, files, strict=True):
        assert (await answer.ended()).text == file
    assert first.count(PAGE) == 1
    assert [first.count(file) for file in files] == [0, 0, 0]


@bounded
async def test_three_failures_put_an_upstream_last(flow):
    """It is asked after the others then, and still before a client hears no."""
    first, second = await flow.upstream(), await flow.upstream()
    for number in range(5):
        first.add(f"/pypi/{number}", status=500)
        second.add(f"/pypi/{number}", b"from two")
    first.add("/pypi/only", b"from one")
    second.add("/pypi/only", status=404)
    proxy = await flow.proxy(first, second)
    for number in range(5):
        assert (await proxy.get(f"/pypi/{number}"))["x-upstream"] == "two"
    assert [first.count(f"/pypi/{number}") for number in range(5)] == [1, 1, 1, 0, 0]
    assert [each["state"] for each in (await proxy.health())["upstreams"]] == ["last", "ok"]
    assert (await proxy.get("/pypi/only"))["x-upstream"] == "one"
    assert [each["state"] for each in (await proxy.health())["upstreams"]] == ["ok", "ok"]


@bounded
async def test_a_four_hundred_is_no_failure(flow):
    """An upstream that lacks things, however many, is asked first for the next one."""
    first, second = await flow.upstream(), await flow.upstream()
    for number in range(5):
        first.add_sequence(f"/pypi/{number}", [Reply(status=404), Reply(status=403)])
        second.add(f"/pypi/{number}", b"from two")
        await (proxy := flow.proxies[0] if flow.proxies else await flow.proxy(first, second)).get(f"/pypi/{number}")
    assert [first.count(f"/pypi/{number}") for number in range(5)] == [1] * 5
    first_one = (await proxy.health())["upstreams"][0]
    assert (first_one["state"], first_one["consecutive_failures"]) == ("ok", 0)


@bounded
async def test_a_success_forgets_the_failures(flow):
    """Two failures, a complete answer, two failures: it is still asked first."""
    first, second = await flow.upstream(), await flow.upstream()
    for number, status in enumerate([500, 500, 200, 500, 500, 200]):
        first.add(f"/pypi/{number}", b"x", status=status)
        second.add(f"/pypi/{number}", b"x")
    proxy = await flow.proxy(first, second)
    names = [(await proxy.get(f"/pypi/{number}"))["x-upstream"] for number in range(6)]
    assert names == ["two", "two", "one", "two", "two", "one"]


@bounded
async def test_a_body_that_breaks_off_is_a_failure(flow):
    """Three files that are cut put their upstream last, though each began with a 200."""
    first, second = await flow.upstream(), await flow.upstream()
    for number in range(4):
        first.add(f"/pypi/{number}", b"x" * 1000, cut_after=10)
        second.add(f"/pypi/{number}", b"whole")
    proxy = await flow.proxy(first, second)
    for number in range(3):
        assert not (await proxy.get(f"/pypi/{number}")).is_whole
    assert (await proxy.get("/pypi/3")).text == "whole"
