"""Settings become the values that the engine works with."""

from __future__ import annotations

import pytest

from pipcache.rules.settings import Upstream
from pipcache.service.assemble import site_of


@pytest.mark.parametrize(
    "upstream",
    [Upstream("one", "https://one.example/"), Upstream("one", index_url="https://one.example/team/simple/")],
    ids=["url", "index_url"],
)
@pytest.mark.parametrize("trusted", [True, False])
def test_an_upstream_is_trusted_as_it_is_set(upstream: Upstream, trusted: bool) -> None:
    """However its address is given; without a word it is."""
    assert site_of(upstream).is_trusted
    assert site_of(Upstream(upstream.name, upstream.url, index_url=upstream.index_url, trusted=trusted)).is_trusted is (
        trusted
    )
