"""Whom to ask first: what was measured, whose turn it is, and who wants to be left alone."""

from __future__ import annotations

import pytest

from tests.flows.harness import PAGE_TYPE, bounded, hashed, page

PAGE = "/simple/demo/"
LARGE = b"0123456789abcdef" * (1 << 16)


async def asked(proxy, *numbers):
    """Who answered each of these requests."""
    return [(await proxy.get(f"/pypi/{number}"))["x-upstream"] for number in numbers]


@bounded
async def test_health_says_how_fast_each_upstream_is(flow):
    """Time to first byte and throughput, each null until it was measured."""
    first, second = await flow.upstream(), await flow.upstream()
    first.add("/pypi/large", LARGE)
    first.add("/pypi/small", b"x")
    proxy = await flow.proxy(first, second)
    nothing = {"time_to_first_byte_seconds": None, "throughput_bytes_per_second": None}
    at_first = (await proxy.health())["upstreams"]
    assert at_first == [{"name": name, "state": "ok", "consecutive_failures": 0, **nothing} for name in ("one", "two")]
    await proxy.get("/pypi/small")
    small = (await proxy.health())["upstreams"][0]
    assert 0 <= small["time_to_first_byte_seconds"] < 5
    assert small["throughput_bytes_per_second"] is None
    await proxy.get("/pypi/large")
    await proxy.settled("/pypi/large")
    upstreams = (await proxy.health())["upstreams"]
    assert upstreams[0]["throughput_bytes_per_second"] > 0
    assert upstreams[1] == at_first[1]


@pytest.mark.parametrize(
    ("status", "headers", "failures"),
    [(429, [("Retry-After", "30")], 0), (429, [], 0), (503, [("Retry-After", "30")], 1)],
)
@bounded
async def test_one_that_says_not_now_is_asked_last(flow, status, headers, failures):
    """Its next requests go to the other one; where nobody else has the thing it is asked all the same."""
    first, second = await flow.upstream(), await flow.upstream()
    first.add("*", b"x")
    second.add("*", b"x")
    first.add("/pypi/0", b"", status=status, headers=headers)
    second.add("/pypi/only", b"", status=404)
    proxy = await flow.proxy(first, second)
    assert await asked(proxy, 0, 1, 2) == ["two", "two", "two"]
    health = (await proxy.health())["upstreams"][0]
    assert (health["state"], health["consecutive_failures"]) == ("last", failures)
    assert await asked(proxy, "only", 3) == ["one", "one"]
    assert (await proxy.health())["upstreams"][0]["state"] == "ok"


@bounded
async def test_a_client_is_told_when_to_come_back(flow):
    """Where every upstream says "not now": 503, and the shortest of their times; none of it is kept."""
    first, second = await flow.upstream(), await flow.upstream()
    first.add(PAGE, b"", status=429, headers=[("Retry-After", "30")])
    second.add(PAGE, b"", status=503, headers=[("Retry-After", "20")])
    proxy = await flow.proxy(first, second)
    answer = await proxy.get(PAGE)
    assert (answer.status, answer["retry-after"]) == (503, "20")
    assert "one: 429; two: 503" in answer.text
    first.add(PAGE, b"", status=404)
    answer = await proxy.get(PAGE)
    assert (answer.status, answer["retry-after"]) == (502, None)


@bounded
async def test_upstreams_take_turns(flow):
    """With `round_robin`; one that is put last has none."""
    upstreams = [await flow.upstream() for _ in range(3)]
    for upstream in upstreams:
        upstream.add("*", b"x")
    proxy = await flow.proxy(*upstreams, selection="round_robin")
    assert await asked(proxy, *range(6)) == ["one", "two", "three"] * 2
    upstreams[0].add("/pypi/busy", b"", status=429)
    assert await asked(proxy, "busy") == ["two"]
    assert sorted(await asked(proxy, *range(6, 10))) == ["three", "three", "two", "two"]


@bounded
async def test_files_take_turns_too(flow):
    """Where the page says a digest, whose page it is does not matter; the files of one page come from all."""
    first, second = await flow.upstream(), await flow.upstream()
    files = [f"/packages/a/demo-{number}.zip" for number in range(4)]
    for upstream in (first, second):
        upstream.add(PAGE, page(*(hashed(file, b"x") for file in files)), content_type=PAGE_TYPE)
        upstream.add("*", b"x")
    proxy = await flow.proxy(first, second, selection="round_robin")
    await proxy.get(PAGE)
    await proxy.settled(PAGE)
    names = [(await proxy.get(file))["x-upstream"] for file in files]
    assert sorted(names) == ["one", "one", "two", "two"]


@bounded
async def test_files_without_a_digest_come_from_where_their_page_is(flow):
    """Nothing else says that the other one's bytes are the same."""
    first, second = await flow.upstream(), await flow.upstream()
    files = [f"/packages/a/demo-{number}.zip" for number in range(4)]
    for upstream in (first, second):
        upstream.add(PAGE, page(*files), content_type=PAGE_TYPE)
        upstream.add("*", b"x")
    proxy = await flow.proxy(first, second, selection="round_robin")
    name = (await proxy.get(PAGE))["x-upstream"]
    await proxy.settled(PAGE)
    assert {(await proxy.get(file))["x-upstream"] for file in files} == {name}


@bounded
async def test_the_fastest_is_asked(flow):
    """Each is tried once, then the one that begins to answer soonest."""
    first, second = await flow.upstream(), await flow.upstream()
    first.add("*", b"x")
    first.add("/pypi/0", b"x", stall_before_head=True)
    second.add("*", b"x")
    proxy = await flow.proxy(first, second, selection="fastest")
    slow = await proxy.ask("/pypi/0")
    await first.wait_for_request("/pypi/0")
    assert await asked(proxy, 1) == ["two"]
    first.release("/pypi/0")
    assert (await slow.ended())["x-upstream"] == "one"
    assert await asked(proxy, *range(2, 6)) == ["two"] * 4
