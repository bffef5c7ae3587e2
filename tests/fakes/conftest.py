"""What the tests of the fake upstream share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_twisted

from tests.fakes.upstream import FakeUpstream


@pytest_twisted.async_yield_fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """A fake upstream, stopped after the test."""
    async with FakeUpstream() as it:
        yield it
