"""What is larger than half of the cache is passed through: at the client's pace, in little memory, and not kept."""

from __future__ import annotations

from hashlib import sha256
from random import Random

import pytest

from tests.fakes.client import End
from tests.flows.harness import PAGE_TYPE, bounded, hashed, page

FILE = "/packages/aa/bb/cc/demo-1.0-py3-none-any.whl"
MIB = 1 << 20
BIG = Random(2).randbytes(48 * MIB)
SMALL_BUFFER = 1 << 16
SOCKET_BUFFERS = 20 * MIB
"""More than the system holds between upstream and proxy, and between proxy and client, on their way."""


@bounded
async def test_a_file_too_big_to_keep_is_passed_through(flow, upstream):
    """It arrives whole, held to its digest; nothing of it is on disk, before or after, and the next is a MISS."""
    upstream.add("/simple/demo/", page(hashed(FILE, BIG)), content_type=PAGE_TYPE)
    upstream.add(FILE, BIG)
    proxy = await flow.proxy(upstream, max_size_bytes=64 * MIB)
    await proxy.get("/simple/demo/")
    await proxy.settled("/simple/demo/")
    for _ in range(2):
        answer = await proxy.ask(FILE)
        await answer.received(MIB)
        assert proxy.parts == []
        assert (await answer.ended()).end is End.LENGTH
        assert answer.sha256 == sha256(BIG).hexdigest()
        assert answer["x-cache-status"] == "MISS"
        await proxy.settled(FILE)
    assert proxy.kept == {"/simple/demo/"}


@bounded
async def test_its_wrong_digest_is_broken_off(flow, upstream):
    """The last bytes are withheld until they are known to be right."""
    body = BIG[: 2 * MIB]
    upstream.add("/simple/demo/", page(hashed(FILE, body + b"!")), content_type=PAGE_TYPE)
    upstream.add(FILE, body)
    proxy = await flow.proxy(upstream, max_size_bytes=MIB)
    answer = await proxy.get(FILE)
    assert answer.end is End.BROKEN
    assert len(answer.body) < len(body)


@bounded
async def test_a_client_that_does_not_read_stops_upstream(flow, upstream):
    """No more than a window is in the proxy: upstream sends as fast as the client reads, and in the end all of it."""
    upstream.add(FILE, BIG)
    upstream.add("/pypi/x", b"x")
    proxy = await flow.proxy(upstream, max_size_bytes=64 * MIB)
    client = await proxy.connect(SMALL_BUFFER)
    answer = client.ask(FILE)
    await answer.received(1)
    client.pause()
    sent = -1
    while sent != upstream.bytes_sent:
        sent = upstream.bytes_sent
        for _ in range(5):
            await proxy.get("/health")
    assert sent < SOCKET_BUFFERS
    assert (await proxy.get("/pypi/x")).text == "x"
    client.resume()
    assert (await answer.ended()).sha256 == sha256(BIG).hexdigest()


@bounded
async def test_time_that_a_client_does_not_read_is_no_silence(flow, upstream):
    """Upstream is not blamed for being paused: the transfer outlives the timeout."""
    upstream.add(FILE, BIG)
    upstream.add("/pypi/silent", stall_before_head=True)
    proxy = await flow.proxy(upstream, max_size_bytes=64 * MIB, timeout=0.4)
    client = await proxy.connect(SMALL_BUFFER)
    answer = client.ask(FILE)
    await answer.received(1)
    client.pause()
    for number in range(2):  # each costs a timeout
        assert (await proxy.get(f"/pypi/silent?{number}")).status == 504
    client.resume()
    assert (await answer.ended()).sha256 == sha256(BIG).hexdigest()


@bounded
async def test_the_last_client_to_leave_ends_it(flow, upstream):
    """What is not kept is fetched for nobody: upstream's connection is closed."""
    upstream.add("/pypi/x", pieces=[BIG[:1000]], length=2 * MIB)
    proxy = await flow.proxy(upstream, max_size_bytes=2 * MIB)
    client = await proxy.connect()
    await client.ask("/pypi/x").received(1000)
    client.vanish()
    await upstream.until(lambda: upstream.open_connections == 0)
    await proxy.settled("/pypi/x")


@bounded
async def test_a_client_that_leaves_before_the_head_ends_it_too(flow, upstream):
    """Nobody is there when the big body begins: its connection to upstream is given back all the same."""
    upstream.add("/pypi/x", pieces=[BIG[:1000]], length=2 * MIB, stall_before_head=True)
    proxy = await flow.proxy(upstream, max_size_bytes=2 * MIB)
    client = await proxy.connect()
    client.ask("/pypi/x")
    await upstream.wait_for_request("/pypi/x")
    await client.close()
    await proxy.get("/health")  # by now the proxy knows that the client is gone
    upstream.release("/pypi/x")
    await proxy.settled("/pypi/x")
    upstream.push("/pypi/x", BIG[1000:MIB])
    await upstream.until(lambda: upstream.open_connections == 0)


@bounded
async def test_a_client_that_leaves_is_no_failure_of_upstream(flow):
    """However many break off what is not kept, a big file or a relayed part, their upstream is asked first again."""
    first, second = await flow.upstream(), await flow.upstream()
    proxy = await flow.proxy(first, second, max_size_bytes=2 * MIB)
    for number in range(4):
        target, fields = f"/pypi/{number}", ["Range: bytes=0-"] if number % 2 else []
        first.add(target, pieces=[BIG[:1000]], length=2 * MIB)
        client = await proxy.connect()
        await client.ask(target, *fields).received(1000)
        client.vanish()
        await first.until(lambda: first.open_connections == 0)
    first_one = (await proxy.health())["upstreams"][0]
    assert (first_one["state"], first_one["consecutive_failures"]) == ("ok", 0)


@bounded
async def test_two_clients_of_a_big_file_both_get_it(flow, upstream):
    """One who comes while the bytes before are gone gets a transfer of its own."""
    body = BIG[: 8 * MIB]
    upstream.add(FILE, body)
    proxy = await flow.proxy(upstream, max_size_bytes=MIB)
    first = await proxy.ask(FILE)
    await first.received(2 * MIB)
    second = await proxy.ask(FILE)
    for answer in (first, second):
        assert (await answer.ended()).is_whole
        assert answer.sha256 == sha256(body).hexdigest()
    assert upstream.count(FILE) == 2
    assert proxy.kept == set()


@pytest.mark.parametrize("options", [{"chunked": True}, {"gzip": True}], ids=str)
@bounded
async def test_a_body_that_outgrows_the_cache_goes_on_unkept(flow, upstream, options):
    """A length that nobody knew turns out too big: all get it, others stay, and it is not published."""
    upstream.add("/pypi/small", b"small")
    upstream.add(FILE, BIG[: 4 * MIB], **options)
    proxy = await flow.proxy(upstream, max_size_bytes=4 * MIB)
    await proxy.get("/pypi/small")
    answers = [await proxy.ask(FILE) for _ in range(3)]
    for answer in answers:
        assert (await answer.ended()).end is End.CHUNKS
        assert answer.sha256 == sha256(BIG[: 4 * MIB]).hexdigest()
    await proxy.settled(FILE, "/pypi/small")
    assert proxy.kept == {"/pypi/small"}
    assert proxy.parts == []
    assert (await proxy.health())["cache_size"] == 5


@bounded
async def test_one_that_outgrew_is_joined_from_its_start(flow, upstream):
    """It goes on in its part, so who comes late reads from the first byte and upstream is asked once."""
    upstream.add(FILE, pieces=[BIG[: 3 * MIB]])
    proxy = await flow.proxy(upstream, max_size_bytes=4 * MIB)
    first = await proxy.ask(FILE)
    await first.received(3 * MIB)
    late = await proxy.ask(FILE)
    await late.received(3 * MIB)
    upstream.push(FILE, BIG[3 * MIB : 4 * MIB])
    upstream.finish(FILE)
    for answer in (first, late):
        assert (await answer.ended()).is_whole
        assert answer.sha256 == sha256(BIG[: 4 * MIB]).hexdigest()
    assert upstream.count(FILE) == 1
    await proxy.settled(FILE)
    assert (proxy.kept, proxy.parts) == (set(), [])


@bounded
async def test_a_page_too_big_to_keep_is_served(flow, upstream):
    """A page needs no room on disk to be parsed, rewritten and sent."""
    upstream.add("/simple/demo/", page(*(f"/packages/a/demo-{n}.0.zip" for n in range(2000))), content_type=PAGE_TYPE)
    proxy = await flow.proxy(upstream, max_size_bytes=10_000)
    for _ in range(2):
        answer = await proxy.get("/simple/demo/")
        assert answer.text.count("<a ") == 2000
        await proxy.settled("/simple/demo/")
    assert proxy.kept == set()
