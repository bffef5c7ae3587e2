"""A stop waits for transfers in progress, as long as it was told to and no longer."""

from __future__ import annotations

import signal
import socket
import time

import pytest

from tests.fakes.index import Index
from tests.system.crowd import connected, is_closed_within, read_response, request
from tests.system.stalling import StallingIndex

pytestmark = pytest.mark.system


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_stop_waits_as_long_as_it_was_told_to(start_server, goes_on):
    """A transfer that goes on in time is whole; one that does not is cut, and the program ends cleanly all the same."""
    wheel = (index := Index()).add_wheel("leaf", "1.0", size_bytes=500_000)
    with StallingIndex(index) as upstream:
        upstream.stall(wheel.path, 1000)
        server = start_server(
            {
                "upstream": {"primary": {"name": "stalling", "url": upstream.url}},
                "server": {"drain_timeout": "60s" if goes_on else "1s"},
            }
        )
        with connected(server.port, 1) as (client,):
            client.sendall(request(wheel.path))
            assert client.recv(1, socket.MSG_PEEK) == b"H"  # the head is there
            server.process.terminate()
            began_at = time.monotonic()
            if goes_on:
                upstream.release()
                response = read_response(client)
                assert response is not None
                assert (response.is_whole, response.body) == (True, wheel.data)
            else:
                assert is_closed_within(client, 10)
            assert server.wait() in (0, -signal.SIGTERM)
        assert time.monotonic() - began_at < 15
        assert ("transfers still in progress after 1 s are cut" in server.log) is not goes_on
