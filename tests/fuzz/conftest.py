"""What a test over sockets is given: a place to start proxies in."""

from __future__ import annotations

from tests.flows.conftest import flow

__all__ = ["flow"]
