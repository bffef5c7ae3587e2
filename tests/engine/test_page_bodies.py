"""The bodies of pages on their way: to their file, at most so long, and back from it whole or not at all."""

from __future__ import annotations

import gzip
import os

import pytest

from pipcache.engine.page_fetches import MAX_PAGE_BYTES
from pipcache.rules.errors import UpstreamUnavailable
from tests.fakes.cache import Cached, page

TARGET = "/simple/x/"
PAGE = page("/packages/x-1.tar.gz", "https://files.test/x-2.tar.gz")
LARGE_PAGE = page(*(f"/packages/x-{number}.tar.gz" for number in range(30_000)))
"""Larger than what is parsed in the reactor, and than what is sent at once."""


def test_a_page_that_never_ends_is_refused(cached: Cached) -> None:
    """It would fill memory or disk; the next upstream is asked."""
    visit = cached.get(TARGET)
    endless = cached.client.answer(length=None)
    for _ in range(MAX_PAGE_BYTES >> 22):
        endless.give(bytes(1 << 22))
    endless.give(b"x")
    assert endless.is_abandoned
    cached.client.answer_whole(PAGE)
    assert visit.field("x-upstream") == "beta"


def test_a_page_that_is_announced_as_too_long_is_refused(cached: Cached) -> None:
    """Before a byte of it has come."""
    visit = cached.get(TARGET)
    assert cached.client.answer(length=MAX_PAGE_BYTES + 1).is_abandoned
    cached.client.answer_whole(PAGE)
    assert visit.field("x-upstream") == "beta"


@pytest.mark.parametrize("room_bytes", [None, 0, 1, len(LARGE_PAGE) // 2, len(LARGE_PAGE) - 1])
def test_a_page_is_whole_wherever_the_disk_gives_way(cached: Cached, room_bytes: int | None) -> None:
    """What it took is read back, the rest was held in memory; nothing of it is asked for twice."""
    cached.files.room_bytes = room_bytes
    visit = cached.get(TARGET)
    cached.client.answer_whole(LARGE_PAGE)
    assert visit.body.count(b"<a ") == LARGE_PAGE.count(b"<a ")
    assert len(cached.client.sent) == 1
    assert bool(cached.events.of("storage_failed")) is (room_bytes is not None)
    assert len(cached.entries()) == (room_bytes is None)


def test_a_large_page_is_not_held_in_memory_while_it_comes(cached: Cached) -> None:
    """It streams to its file; the window is for what has none."""
    visit = cached.get(TARGET)
    response = cached.client.answer(length=len(LARGE_PAGE))
    response.give(LARGE_PAGE[:-1])
    assert response.receiver is not None
    assert response.receiver.body.window_bytes == 0  # type: ignore[attr-defined]
    assert sum(part.stat().st_size for part in cached.parts()) == len(LARGE_PAGE) - 1
    response.give(LARGE_PAGE[-1:])
    response.end()
    assert visit.is_whole


@pytest.mark.parametrize("content", [PAGE, LARGE_PAGE])
def test_a_page_that_the_disk_does_not_give_back_is_asked_for_again(cached: Cached, content: bytes) -> None:
    """Into memory, of the same upstream, as it is not to blame; the disk's trouble is told."""
    cached.files.broken.add("read_at")
    visits = [cached.get(TARGET), cached.get(TARGET)]
    response = cached.client.answer(length=len(content))
    response.give_all(content, len(content) // 2)  # what came in one piece is at hand
    assert all(visit.is_waiting for visit in visits)
    cached.client.answer_whole(content)
    assert [visit.body.count(b"<a ") for visit in visits] == [content.count(b"<a ")] * 2
    assert [visit.field("x-upstream") for visit in visits] == ["alpha", "alpha"]
    assert cached.client.urls == ["https://alpha.test/simple/x/"] * 2
    assert (len(cached.events.of("storage_failed")), cached.events.of("upstream_failed")) == (1, [])
    assert (cached.upstreams.health, cached.entries()) == ({}, [])
    cached.files.broken.clear()
    cached.keep_page("x", content)
    assert cached.get(TARGET).said == "HIT"


def test_a_page_that_comes_only_once_and_is_lost_is_an_error(cached: Cached) -> None:
    """The disk does not give it back, and nobody has it any more: no half page, and nobody waits for ever."""
    cached.files.broken.add("read_at")
    visit = cached.get(TARGET)
    cached.client.answer_whole(LARGE_PAGE)
    cached.client.refuse(UpstreamUnavailable("down"))
    cached.client.refuse(UpstreamUnavailable("down"))
    assert visit.status == 502


def test_a_kept_page_that_became_shorter_is_fetched_anew(cached: Cached) -> None:
    """While it waits to be rendered for somebody: half of it would pass for a page."""
    cached.keep_page("x", LARGE_PAGE)
    cached.threads.is_held = True
    visit = cached.get(TARGET, ("accept", "application/vnd.pypi.simple.v1+html"), ("accept-encoding", "gzip"))
    (body,) = cached.store.root.glob("???/*.body")
    os.truncate(body, len(LARGE_PAGE) // 2)
    cached.threads.let_go()
    cached.client.answer_whole(LARGE_PAGE)
    assert gzip.decompress(visit.body).count(b"<a ") == LARGE_PAGE.count(b"<a ")
