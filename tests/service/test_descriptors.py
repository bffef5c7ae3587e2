"""How many clients there are descriptors for."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from pipcache.service.descriptors import connections_with, descriptors_for, raised_descriptor_limit


@pytest.fixture(autouse=True)
def same_limit() -> Iterator[None]:
    """The process has the limit afterwards that it had before."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("limit", "connections"), [(256, 53), (1024, 245), (8043, 2000), (16, 1)])
def test_clients_under_a_limit(limit: int, connections: int) -> None:
    """Three for each, some for the program, a quarter for what has no client; never nobody."""
    assert connections_with(limit) == connections


@pytest.mark.parametrize("connections", [1, 2, 3, 53, 1999, 2000, 10**6])
def test_a_limit_for_clients_lets_in_as_many(connections: int) -> None:
    """What is asked for is enough, and not much more."""
    needed = descriptors_for(connections)
    assert connections_with(needed) == connections
    assert connections_with(needed - 5) < connections or connections == 1


def test_the_soft_limit_is_raised_as_far_as_needed() -> None:
    """Not further, and never lowered."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    assert raised_descriptor_limit(100) == 200
    assert raised_descriptor_limit(300) == 300
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (300, hard)


def test_the_hard_limit_holds() -> None:
    """The system's administrator has the last word."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("there is no hard limit here")
    assert raised_descriptor_limit(hard + 1) == hard
