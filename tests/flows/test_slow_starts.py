"""An upstream that does not begin to answer: the next one is asked beside it, and nothing of it stays behind."""

from __future__ import annotations

import os

import pytest

from tests.fakes.upstream import Reply
from tests.flows.harness import PAGE_TYPE, bounded, hashed, page

PAGE = "/simple/demo/"
FILE = "/packages/a/demo-1.0.zip"
BODY = b"the file" * 1000
PATIENCE = 0.1
BURST = 3


@pytest.mark.parametrize("target", [PAGE, FILE, "/pypi/demo/json"])
@bounded
async def test_the_next_one_answers_for_one_that_hangs(flow, target):
    """Long before the timeout, told of the same hops. The one that hung has lost its connection, and has not failed."""
    first, second = await flow.upstream(), await flow.upstream()
    for upstream in (first, second):
        upstream.add(PAGE, page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
        upstream.add(FILE, BODY)
        upstream.add("/pypi/demo/json", b"{}")
    first.add(target, BODY, stall_before_head=True)
    proxy = await flow.proxy(first, second, patience=PATIENCE)
    answer = await proxy.get(target, "Via: 1.1 pipcache-77")
    assert (answer.status, answer["x-upstream"], answer.is_whole) == (200, "two", True)
    hops = [each.headers["via"] for upstream in (first, second) for each in upstream.requests if each.target == target]
    assert len(hops) == 2
    assert all(each.startswith("1.1 pipcache-77, 1.1 pipcache-") for each in hops)
    await first.until(lambda: first.open_connections == 0)
    health = (await proxy.health())["upstreams"][0]
    assert (health["state"], health["consecutive_failures"]) == ("ok", 0)
    assert health["time_to_first_byte_seconds"] > 0
    await proxy.settled(target)
    assert (await proxy.get(target))["x-cache-status"] == "HIT"


@pytest.mark.parametrize("target", [PAGE, FILE])
@bounded
async def test_the_slow_one_may_still_win(flow, target):
    """Then the other is let go; there is one answer, and it is whole."""
    first, second = await flow.upstream(), await flow.upstream()
    for upstream in (first, second):
        upstream.add(PAGE, page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
        upstream.add(FILE, BODY)
        upstream.add_sequence(target, [Reply(body=BODY, stall_before_head=True)])
    first.add(PAGE, page(hashed(FILE, BODY)), content_type=PAGE_TYPE, stall_before_head=target == PAGE)
    proxy = await flow.proxy(first, second, patience=PATIENCE)
    answer = await proxy.ask(target)
    await second.wait_for_request(target)
    first.release(target)
    await answer.ended()
    assert (answer.status, answer["x-upstream"], answer.is_whole) == (200, "one", True)
    await second.until(lambda: second.open_connections == 0)


@bounded
async def test_a_second_answer_that_is_no_page_leaves_the_first_to_come(flow):
    """The one that is slow is still being asked, and its page is taken."""
    first, second = await flow.upstream(), await flow.upstream()
    first.add(PAGE, page(FILE), content_type=PAGE_TYPE, stall_before_head=True)
    second.add(PAGE, b"<html><body>Please log in.</body></html>", content_type=PAGE_TYPE)
    proxy = await flow.proxy(first, second, patience=PATIENCE)
    answer = await proxy.ask(PAGE)
    await second.wait_for_request(PAGE)
    first.release(PAGE)
    await answer.ended()
    assert (answer.status, answer["x-upstream"]) == (200, "one")
    assert (first.count(PAGE), second.count(PAGE)) == (1, 1)


@bounded
async def test_only_so_many_are_asked_beside_another(flow):
    """Three slow starts are covered from the start, then one in twenty requests: a hanging mirror doubles no load."""
    first, second = await flow.upstream(), await flow.upstream()
    second.add("*", b"from two")
    first.add("*", b"from one", stall_before_head=True)
    proxy = await flow.proxy(first, second, patience=PATIENCE, timeout=5 * PATIENCE)
    answers = [await proxy.get(f"/pypi/{number}") for number in range(BURST + 1)]
    assert [answer["x-upstream"] for answer in answers] == ["two"] * (BURST + 1)
    assert (await proxy.health())["upstreams"][0]["consecutive_failures"] == 1  # the one that was waited for


@bounded
async def test_nothing_stays_behind(flow):
    """After many slow starts there are as many descriptors as after the first, and no connection to the slow one."""
    first, second = await flow.upstream(), await flow.upstream()
    first.add("*", b"from one")
    second.add("*", b"from two")
    proxy = await flow.proxy(first, second, patience=PATIENCE / 2)
    counts, names = [], []
    for number in range(6):
        target = f"/pypi/slow-{number}"
        first.add(target, b"from one", stall_before_head=True)
        names.append((await proxy.get(target))["x-upstream"])
        await first.until(lambda: first.open_connections == 0)
        await proxy.settled(target)
        counts.append(len(os.listdir("/proc/self/fd")))
        fast = [f"/pypi/fast-{number}-{each}" for each in range(20)]  # which earn the next second request
        for each in fast:
            await proxy.get(each)
        await proxy.settled(*fast)
    assert names == ["two"] * 6
    assert max(counts) <= counts[0] + 2
