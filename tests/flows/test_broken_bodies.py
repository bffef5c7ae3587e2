"""Upstream breaks in the middle of a body: the client sees it break, nothing wrong is kept, the next request heals it.

What breaks before a client could see a byte is an error or another upstream's body. What is left of a promised one is for
the next request to go on with.
"""

from __future__ import annotations

import itertools
from hashlib import sha256

import pytest
from twisted.internet import reactor

from pipcache.edges.parts import WORTH_BYTES
from pipcache.rules.meta import promised_digest
from tests.fakes.client import End
from tests.fakes.upstream import Reply
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
    """Whatever the framing on either side, half a body never looks whole, and is never kept as the whole.

    Where its digest is known and enough of it came, it stays for the next request, which asks for the rest.
    """
    upstream = await flow.upstream()
    if is_promised:
        upstream.add("/simple/demo/", page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY, **breaking, **framing)
    proxy = await flow.proxy(upstream, timeout=SILENCE if "stall_after" in breaking else 15.0)
    answer = await proxy.get(FILE, version=version)
    if is_promised and (len(BODY) in breaking.values() or framing is GZIP):
        # every byte had come, and the digest says so; only the end was broken
        assert (answer.status, bytes(answer.body), answer.end is End.BROKEN) == (200, BODY, False)
        assert (await proxy.get(FILE))["x-cache-status"] == "HIT"
        return
    if breaking.get("cut_after") == 0:
        assert (answer.status, answer.end is End.BROKEN) == (502, False)
        assert b"could give this" in answer.body
    else:
        assert answer.end is End.BROKEN
        assert answer.status in (200, None)  # a connection that is aborted may take the head with it
        assert BODY.startswith(bytes(answer.body))
    await proxy.settled("/simple/demo/", FILE)
    assert FILE not in proxy.kept
    assert not list(proxy.cache_dir.glob("quarantine/*"))
    wanted_range = left_range(proxy, is_promised=is_promised)
    asked = upstream.count(FILE)
    upstream.add(FILE, BODY, ranges="gzip" not in framing, **framing)
    healed = await proxy.get(FILE)
    assert (healed.is_whole, healed["x-cache-status"], bytes(healed.body)) == (True, "MISS", BODY)
    assert (await upstream.wait_for_request(FILE, asked + 1)).headers.get("range") == wanted_range
    assert (await proxy.get(FILE))["x-cache-status"] == "HIT"
    await proxy.settled(FILE)
    assert proxy.parts == []


def left_range(proxy, *, is_promised):
    """What the next request must ask for, by the part that is left; fails where what is left is anything else."""
    if not proxy.parts:
        return None
    [part] = proxy.parts
    assert is_promised
    assert promised_digest(part.name) == sha256(BODY).hexdigest()
    data = part.read_bytes()
    assert len(data) >= WORTH_BYTES
    assert BODY.startswith(data)
    return f"bytes={len(data)}-"


@pytest.mark.parametrize(
    ("sent", "is_left"),
    [(WORTH_BYTES - 1, False), (WORTH_BYTES, True), (len(BODY) - 1, True)],
)
@pytest.mark.parametrize("is_restarted", [False, True], ids=["same program", "restarted"])
@bounded
async def test_what_came_is_not_fetched_again(flow, sent, is_left, is_restarted):
    """From 64 KiB on: by the next request, also after a restart, upstream is asked for the rest and sends no more."""
    upstream = await flow.upstream()
    upstream.add("/simple/demo/", page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY, cut_after=sent)
    proxy = await flow.proxy(upstream)
    assert (await proxy.get(FILE)).end is End.BROKEN
    await proxy.settled("/simple/demo/", FILE)
    assert len(proxy.parts) == (1 if is_left else 0)
    if is_restarted:
        await proxy.restart(scan=True)
    upstream.add(FILE, BODY, ranges=True)
    before, asked = upstream.bytes_sent, upstream.count(FILE)
    healed = await proxy.get(FILE)
    assert (healed.end, healed["content-length"], bytes(healed.body)) == (End.LENGTH, str(len(BODY)), BODY)
    assert upstream.bytes_sent - before == len(BODY) - (sent if is_left else 0)
    assert upstream.count(FILE) == asked + 1
    assert (await proxy.get(FILE))["x-cache-status"] == "HIT"
    await proxy.settled(FILE)
    assert proxy.parts == []


@pytest.mark.parametrize("status", [404, 500, 503])
@bounded
async def test_what_cannot_be_gone_on_with_is_fetched_anew(flow, status):
    """An upstream that refuses the rest, but gives the whole, is asked for the whole."""
    upstream = await flow.upstream()
    upstream.add("/simple/demo/", page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY, cut_after=len(BODY) - 1)
    proxy = await flow.proxy(upstream)
    assert (await proxy.get(FILE)).end is End.BROKEN
    await proxy.settled("/simple/demo/", FILE)
    upstream.add_sequence(FILE, [Reply(status=status), Reply(body=BODY)])
    healed = await proxy.get(FILE)
    assert (healed.end, bytes(healed.body)) == (End.LENGTH, BODY)
    assert [each.headers.get("range") for each in upstream.requests[-2:]] == [f"bytes={len(BODY) - 1}-", None]
    await proxy.settled(FILE)
    assert proxy.parts == []


@bounded
async def test_what_goes_on_wrong_is_put_into_quarantine(flow):
    """A rest that does not fit what was left completes nobody's body, and the part is not used again."""
    upstream = await flow.upstream()
    upstream.add("/simple/demo/", page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY, cut_after=len(BODY) // 2)
    proxy = await flow.proxy(upstream)
    assert (await proxy.get(FILE)).end is End.BROKEN
    await proxy.settled("/simple/demo/", FILE)
    upstream.add(FILE, bytes(len(BODY)), ranges=True)
    assert not (await proxy.get(FILE)).is_whole
    await proxy.settled(FILE)
    assert FILE not in proxy.kept
    assert proxy.parts == []
    assert {path.suffix for path in proxy.cache_dir.glob("quarantine/*")} == {".body", ".json"}
    upstream.add(FILE, BODY, ranges=True)
    healed = await proxy.get(FILE)
    assert (healed.end, bytes(healed.body)) == (End.LENGTH, BODY)
    assert "range" not in upstream.requests[-1].headers


@pytest.mark.parametrize(
    "breaking",
    [{"cut_after": 0}, {"reset_after": 0}, {"raw": b""}, {"raw": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"}],
    ids=str,
)
@pytest.mark.parametrize("is_promised", [True, False], ids=["digest", "no digest"])
@bounded
async def test_a_break_before_the_first_byte_is_not_seen(flow, breaking, is_promised):
    """Nobody has seen a byte yet, so the next upstream's body takes its place, digest or not."""
    first, second = await flow.upstream(), await flow.upstream()
    if is_promised:
        first.add("/simple/demo/", page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    first.add(FILE, BODY, **breaking)
    second.add(FILE, BODY)
    proxy = await flow.proxy(first, second)
    answer = await proxy.get(FILE)
    assert (answer.end, answer["x-upstream"], bytes(answer.body)) == (End.LENGTH, "two", BODY)
    assert first.count(FILE) >= 1
    assert second.count(FILE) == 1
    await proxy.settled("/simple/demo/", FILE)
    assert proxy.parts == []


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
