"""A disk, or a processor, that is too slow for the reactor: bodies are appended in real threads meanwhile."""

from __future__ import annotations

import os
from hashlib import sha256
from random import Random
from unittest.mock import patch

import pytest

from tests.fakes.client import End
from tests.flows.harness import PAGE_TYPE, bounded, hashed, page

FILE = "/packages/aa/bb/cc/demo-1.0-py3-none-any.whl"
BODY = Random(3).randbytes(6 << 20)


@pytest.mark.parametrize("promised", [BODY, BODY + b"!"])
@bounded
async def test_bodies_are_right_while_the_disk_is_slow(flow, upstream, promised):
    """Three clients, one fetch, every byte, and a digest that is held to; kept where it is right."""
    upstream.add("/simple/demo/", page(hashed(FILE, promised)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY)
    proxy = await flow.proxy(upstream)
    proxy.program.holdings.appending.pace.average_seconds = 1e9
    proxy.program.holdings.appending.pace.is_slow = True
    answers = [await proxy.ask(FILE) for _ in range(3)]
    for answer in answers:
        await answer.ended()
    await proxy.settled(FILE)
    is_right = promised == BODY
    assert {answer.end for answer in answers} == {End.LENGTH if is_right else End.BROKEN}
    assert (FILE in proxy.kept) == is_right
    if is_right:
        assert {answer.sha256 for answer in answers} == {sha256(BODY).hexdigest()}
        assert upstream.count(FILE) == 1
    assert (await proxy.health())["appending"]["is_in_thread"] is True


@bounded
async def test_health_says_how_long_appending_takes(flow, upstream):
    """And how late the reactor is; a disk that is well is written to in the reactor."""
    upstream.add("/pypi/large", BODY)
    proxy = await flow.proxy(upstream)
    at_first = await proxy.health()
    assert at_first["loop"] == {"lag_seconds": 0, "worst_lag_seconds": 0}  # nobody has looked yet
    assert at_first["appending"] == {"seconds_per_chunk": 0, "is_in_thread": False}
    await proxy.get("/pypi/large")
    assert (await proxy.health())["appending"]["seconds_per_chunk"] > 0


@bounded
async def test_writes_that_take_long_go_to_a_thread(flow, upstream):
    """Measured, not told: each takes the disk five milliseconds."""
    upstream.add("/pypi/large", BODY)
    proxy = await flow.proxy(upstream)
    clock = [0.0]
    proxy.program.holdings.appending.seconds = lambda: clock[0]
    write = os.write

    def takes_long(descriptor: int, data: bytes) -> int:
        clock[0] += 0.005
        return write(descriptor, data)

    with patch("os.write", takes_long):
        answer = await proxy.get("/pypi/large")
    assert answer.body == BODY
    assert (await proxy.health())["appending"]["is_in_thread"] is True
