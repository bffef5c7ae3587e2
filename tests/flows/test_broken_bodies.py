"""Upstream breaks in the middle of a body: the client sees it break, nothing is kept, the next request heals it."""

from __future__ import annotations

import itertools

import pytest
from twisted.internet import reactor

from tests.fakes.client import End
from tests.flows.harness import PAGE_TYPE, bounded, eventually, hashed, page

FILE = "/packages/aa/bb/cc/demo-1.0-py3-none-any.whl"
BODY = bytes(range(256)) * 1000
CHUNKED = {"chunked": True}
SIZED: dict[str, bool] = {}
GZIP = {"gzip": True}
GZIP_CHUNKED = {"gzip": True, "chunked": True}
SILENCE = 0.3

BREAKS = {
    "cut": {"cut_after": 1000},
    "cut at the start": {"cut_after": 0},
    "reset": {"reset_after": 1000},
    "stall": {"stall_after": 1000},
}


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize(
    ("breaking", "framing"),
    [
        *itertools.product(BREAKS.values(), [SIZED, CHUNKED, GZIP_CHUNKED]),
        ({"cut_after": len(BODY) - 1}, SIZED),
        ({"cut_after": len(BODY)}, CHUNKED),
        ({"reset_after": len(BODY)}, CHUNKED),
        ({"bad_chunk": True}, CHUNKED),
        ({"wrong_length": 7}, SIZED),
        ({"wrong_length": 7}, GZIP),
        ({"stall_after": len(BODY)}, CHUNKED),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_promised", [True, False], ids=["digest", "no digest"])
@bounded
async def test_a_break_is_seen_and_heals(flow, breaking, framing, version, is_promised):
    """Whatever the framing on either side, half a body never looks whole, and is never kept."""
    upstream = await flow.upstream()
    if is_promised:
        upstream.add("/simple/demo/", page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY, **breaking, **framing)
    proxy = await flow.proxy(upstream, timeout=SILENCE if "stall_after" in breaking else 15.0)
    answer = await proxy.get(FILE, version=version)
    assert answer.end is End.BROKEN
    assert BODY.startswith(bytes(answer.body))
    await proxy.settled("/simple/demo/", FILE)
    assert FILE not in proxy.kept
    assert proxy.parts == []
    upstream.add(FILE, BODY, **framing)
    healed = await proxy.get(FILE)
    assert (healed.is_whole, healed["x-cache-status"], bytes(healed.body)) == (True, "MISS", BODY)
    assert (await proxy.get(FILE))["x-cache-status"] == "HIT"


@bounded
async def test_a_body_longer_than_it_says_is_what_it_says(proxy, upstream):
    """Bytes beyond Content-Length are no part of the body, nor of the next answer on that connection."""
    upstream.add(FILE, BODY, wrong_length=-10)
    upstream.add("/pypi/x", b"x")
    assert bytes((await proxy.get(FILE)).body) == BODY[:-10]
    assert (await proxy.get("/pypi/x")).text == "x"


@bounded
async def test_every_follower_is_broken_off(proxy, upstream):
    """Those who share a transfer share its break, the late and the slow too."""
    upstream.add(FILE, pieces=[BODY], length=2 * len(BODY), cut_after=len(BODY) + 10)
    answers = [await proxy.ask(FILE) for _ in range(5)]
    for answer in answers:
        await answer.received(len(BODY))
    answers.append(await proxy.ask(FILE))
    await answers[-1].received(len(BODY))
    upstream.push(FILE, bytes(100))
    for answer in answers:
        assert (await answer.ended()).end is End.BROKEN
    assert upstream.count(FILE) == 1


@bounded
async def test_a_whole_file_may_take_its_time(flow):
    """`timeout` is silence: a body that moves in shorter steps goes on for longer than that in all."""
    upstream = await flow.upstream()
    upstream.add(FILE, pieces=[b"0"], length=8)
    proxy = await flow.proxy(upstream, timeout=0.5)
    answer = await proxy.ask(FILE)
    for piece in b"1234567":
        await answer.received(piece - ord("0"))
        began = reactor.seconds()
        await eventually(lambda began=began: reactor.seconds() - began > 0.1)
        upstream.push(FILE, bytes([piece]))
    assert (await answer.ended()).is_whole
    assert answer.text == "01234567"


@bounded
async def test_a_whole_file_may_not_take_for_ever(flow):
    """`large_file_timeout` ends a body that moves and moves and does not end."""
    upstream = await flow.upstream()
    upstream.add(FILE, pieces=[b"0"], length=10_000)
    proxy = await flow.proxy(upstream, timeout=15.0, body_timeout=0.3)
    answer = await proxy.ask(FILE)
    count = 1
    while answer.end is None:
        await answer.received(count)
        if answer.end is None and count < 50:
            upstream.push(FILE, b".")
        count += 1
    assert answer.end is End.BROKEN
    assert proxy.kept == set()
