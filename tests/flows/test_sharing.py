"""One transfer feeds everybody: late, slow and vanishing clients, from the first byte on."""

from __future__ import annotations

from hashlib import sha256
from random import Random

import pytest

from tests.fakes.client import End
from tests.fakes.upstream import Reply
from tests.flows.harness import PAGE_TYPE, bounded, hashed, page

FILE = "/packages/aa/bb/cc/demo-1.0-py3-none-any.whl"
PAGE = "/simple/demo/"
BODY = Random(1).randbytes(24 << 20)
DIGEST = sha256(BODY).hexdigest()
HALF = len(BODY) // 2
SMALL_BUFFER = 1 << 16


@bounded
async def test_thirty_clients_share_one_transfer(proxy, upstream):
    """One request reaches upstream; the late, those on HTTP/1.0 and the slow one get every byte."""
    upstream.add(PAGE, page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, pieces=[BODY[:HALF]], length=len(BODY))
    slow, vanishing = await proxy.connect(SMALL_BUFFER), await proxy.connect(SMALL_BUFFER)
    slow_answer, gone = slow.ask(FILE), vanishing.ask(FILE)
    early = [await proxy.ask(FILE, version=f"HTTP/1.{number % 2}") for number in range(20)]
    await slow_answer.received(1)
    slow.pause()
    await gone.received(1000)
    vanishing.vanish()
    await early[0].received(HALF)
    late = [await proxy.ask(FILE) for _ in range(8)]
    await late[-1].received(HALF)
    upstream.push(FILE, BODY[HALF:])
    for answer in (*early, *late):
        assert (await answer.ended()).end is End.LENGTH
        assert answer.sha256 == DIGEST
        answer.body.clear()
    assert len(slow_answer.body) < len(BODY)
    slow.resume()
    assert (await slow_answer.ended()).sha256 == DIGEST
    assert (upstream.count(FILE), upstream.count(PAGE)) == (1, 1)
    assert upstream.bytes_sent == len(BODY) + len(page(hashed(FILE, BODY)))
    assert (await proxy.get(FILE, method="HEAD"))["x-cache-status"] == "HIT"


@bounded
async def test_thirty_clients_share_one_page(proxy, upstream):
    """Clients that want a page that is on its way wait for that one."""
    upstream.add(PAGE, page(FILE), content_type=PAGE_TYPE, stall_after=10)
    answers = [await proxy.ask(PAGE) for _ in range(30)]
    await upstream.wait_for_request(PAGE)
    upstream.release(PAGE)
    bodies = {bytes((await answer.ended()).body) for answer in answers}
    assert len(bodies) == 1
    assert {answer["x-cache-status"] for answer in answers} == {"MISS"}
    assert upstream.count(PAGE) == 1
    assert sum("collapsed" in answer["cache-status"] for answer in answers) == 29


@pytest.mark.parametrize("length", [40, None], ids=["length", "chunked"])
@bounded
async def test_every_piece_is_passed_on_at_once(proxy, upstream, length):
    """The head comes with the first bytes, before upstream has sent the rest, and so does each piece."""
    upstream.add(FILE, pieces=[], length=length)
    answer, late = await proxy.ask(FILE), None
    for number in range(4):
        upstream.push(FILE, b"%010d" % number)
        if number < 3 or length is None:
            await answer.received(10 * (number + 1))
        assert answer["content-length"] == (None if length is None else str(length))
        if number == 1:
            late = await proxy.ask(FILE)
            await late.received(20)
            assert late.end is None
    if length is None:
        assert answer.end is None
        upstream.finish(FILE)
    for each in (answer, late):
        assert (await each.ended()).is_whole
        assert each.text == "".join(f"{number:010}" for number in range(4))


@bounded
async def test_a_transfer_goes_on_without_its_client(proxy, upstream):
    """A client that leaves does not end it: the next one finds the file whole."""
    upstream.add(FILE, pieces=[BODY[:1000]], length=2000)
    client = await proxy.connect()
    await client.ask(FILE).received(1000)
    await client.close()
    upstream.push(FILE, BODY[1000:2000])
    await proxy.settled(FILE)
    answer = await proxy.get(FILE)
    assert (answer["x-cache-status"], bytes(answer.body)) == ("HIT", BODY[:2000])
    assert upstream.count(FILE) == 1


@bounded
async def test_a_client_may_leave_before_the_head(proxy, upstream):
    """Gone while upstream is still thinking: the answer is kept for the next."""
    upstream.add(FILE, b"late", stall_before_head=True)
    client = await proxy.connect()
    client.ask(FILE)
    await upstream.wait_for_request(FILE)
    await client.close()
    upstream.release(FILE)
    answer = await proxy.get(FILE)
    assert answer.text == "late"
    assert upstream.count(FILE) == 1


@bounded
async def test_a_slow_client_of_a_hit_gets_all(proxy, upstream):
    """A stored file is read at the client's pace, and others are served meanwhile."""
    upstream.add(FILE, BODY)
    await proxy.get(FILE)
    client = await proxy.connect(SMALL_BUFFER)
    answer = client.ask(FILE)
    await answer.received(1)
    client.pause()
    assert (await proxy.get(FILE)).sha256 == DIGEST
    assert len(answer.body) < len(BODY)
    client.resume()
    assert (await answer.ended()).sha256 == DIGEST


@bounded
async def test_ranges_of_a_growing_file(proxy, upstream):
    """What begins at most 1 MiB ahead is served from the growing file; what is further is relayed, and not kept."""
    body = BODY[: 8 << 20]
    has, near, far = 2 << 20, 3 << 20, 7 << 20
    upstream.add_sequence(FILE, [Reply(pieces=[body[:has]], length=len(body)), Reply(body=body, ranges=True)])
    whole = await proxy.ask(FILE)
    await whole.received(has)
    behind = await proxy.get(FILE, "Range: bytes=100-199")
    assert (behind.status, bytes(behind.body)) == (206, body[100:200])
    assert behind["content-range"] == f"bytes 100-199/{len(body)}"
    ahead = await proxy.ask(FILE, f"Range: bytes={near}-{near + 99}")
    await ahead.head()
    assert (ahead.status, ahead.end, upstream.count(FILE)) == (206, None, 1)
    beyond = await proxy.get(FILE, f"Range: bytes={len(body)}-")
    assert (beyond.status, beyond["content-range"]) == (416, f"bytes */{len(body)}")
    relayed = await proxy.get(FILE, f"Range: bytes={far}-{far + 99}")
    assert (relayed.status, bytes(relayed.body)) == (206, body[far : far + 100])
    assert upstream.requests[-1].headers["range"] == f"bytes={far}-{far + 99}"
    assert relayed["etag"] is None
    upstream.push(FILE, body[has:])
    assert bytes((await ahead.ended()).body) == body[near : near + 100]
    assert (await whole.ended()).sha256 == sha256(body).hexdigest()
    assert whole["etag"] == behind["etag"] == ahead["etag"] == (await proxy.get(FILE))["etag"]
    assert upstream.count(FILE) == 2


@bounded
async def test_a_range_of_a_growing_file_of_unknown_length_is_relayed(proxy, upstream):
    """Nothing sure can be said of a range while the length is not known."""
    upstream.add_sequence(FILE, [Reply(pieces=[b"0123456789"]), Reply(body=b"0123456789abc", ranges=True)])
    whole = await proxy.ask(FILE)
    await whole.received(10)
    answer = await proxy.get(FILE, "Range: bytes=-3")
    assert (answer.status, answer.text) == (206, "abc")
    upstream.push(FILE, b"abc")
    upstream.finish(FILE)
    assert (await whole.ended()).text == "0123456789abc"


@bounded
async def test_head_of_a_growing_file(proxy, upstream):
    """HEAD while it grows says what GET says, and asks nobody."""
    upstream.add(FILE, pieces=[b"01234"], length=10)
    whole = await proxy.ask(FILE)
    await whole.received(5)
    head = await proxy.get(FILE, method="HEAD")
    assert (head.status, head["content-length"], head["etag"]) == (200, "10", whole["etag"])
    upstream.push(FILE, b"56789")
    assert (await whole.ended()).is_whole
    assert upstream.count(FILE) == 1
