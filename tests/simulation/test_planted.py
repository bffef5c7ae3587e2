"""The simulation finds what it is there to find: two bugs, planted one at a time, within a few seeds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import succeed

from pipcache.engine.fetch import Fetch
from pipcache.engine.receiving import Receiving
from pipcache.rules.errors import DigestMismatch, TruncatedBody, UpstreamError
from tests.fakes.readers import Wrong
from tests.fakes.world import small_sizes
from tests.simulation.schedule import run_seed

SEEDS = range(8)


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    """Buffers as small as the simulated bodies."""
    with small_sizes():
        yield


def found_in(seeds: range) -> str:
    """What the first of these seeds finds that finds anything; empty where none does."""
    for seed in seeds:
        try:
            run_seed(seed)
        except Wrong as wrong:
            return str(wrong)
    return ""


def test_it_finds_a_publication_before_the_digest(
    monkeypatch: pytest.MonkeyPatch, nothing_left_behind: list[Any]
) -> None:
    """A body that is published before its digest is compared is found: it is kept, or served, with wrong bytes."""
    received = Receiving.to_its_end

    async def publishes_first(self: Receiving, route: Any, key: Any, plan: Any, incoming: Any, attempt: Any) -> None:
        error = await incoming.taking
        if isinstance(error, DigestMismatch):  # all bytes are there: what they come to is looked at too late
            incoming.fetch.is_verified = True
            stored = self._holdings.describe(key, route.kind, incoming.fetch, incoming.asked, incoming.etag)
            await self._holdings.publish(key, incoming.fetch, stored)
        await received(self, route, key, plan, evolve(incoming, taking=succeed(error)), attempt)

    monkeypatch.setattr(Receiving, "to_its_end", publishes_first)
    assert re.search("that are not right", found_in(SEEDS))
    nothing_left_behind.clear()


def test_it_finds_a_finish_on_a_cut(monkeypatch: pytest.MonkeyPatch, nothing_left_behind: list[Any]) -> None:
    """A response that is finished where upstream's connection breaks is found: by a short body, or one that never ends."""

    def finishes(self: Fetch, error: UpstreamError) -> None:
        if isinstance(error, TruncatedBody) and self.body.size:
            self.length = self.body.size
            self.ended(length_was_known=False)
        else:
            self._end(error)

    monkeypatch.setattr(Fetch, "failed", finishes)
    assert re.search("not right|were announced|clients hang", found_in(SEEDS))  # for the rest, for ever
    nothing_left_behind.clear()


def test_a_failure_names_its_seed(monkeypatch: pytest.MonkeyPatch, nothing_left_behind: list[Any]) -> None:
    """What is found is told with its seed, the step, and the line that runs that seed alone."""
    monkeypatch.setattr(Fetch, "failed", lambda self, error: None)
    found = found_in(SEEDS)
    seed = re.match(r"seed (\d+), step \d+: ", found)
    assert seed, found
    assert f"python -m tests.simulation.seed {seed[1]}\n" in found
    nothing_left_behind.clear()
