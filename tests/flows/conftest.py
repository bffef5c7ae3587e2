"""What a flow test is given: a place to start upstreams and proxies in, or one of each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.fakes.upstream import FakeUpstream
from tests.flows.harness import BOUND_SECONDS, Flow, Proxy


@pytest_twisted.async_yield_fixture
async def flow(tmp_path: Path) -> AsyncIterator[Flow]:
    """Starts what the test asks for, and ends it."""
    it = Flow(tmp_path)
    yield it
    await Deferred.fromCoroutine(it.end()).addTimeout(BOUND_SECONDS, reactor)


@pytest_twisted.async_fixture
async def upstream(flow: Flow) -> FakeUpstream:
    """An upstream that has nothing yet."""
    return await flow.upstream()


@pytest_twisted.async_fixture
async def proxy(flow: Flow, upstream: FakeUpstream) -> Proxy:
    """A proxy with the default settings, which asks that upstream alone."""
    return await flow.proxy(upstream)
