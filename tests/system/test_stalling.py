"""The index that stops in mid-body does so, with and without a length, and goes on when it is told."""

from __future__ import annotations

import http.client

import pytest

from tests.fakes.index import Index
from tests.system.stalling import StallingIndex


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_stops_and_goes_on(chunked):
    """The first bytes come, the others only after `release`; who asks then gets all at once."""
    wheel = (index := Index()).add_wheel("leaf", "1.0", size_bytes=5000)
    with StallingIndex(index) as upstream:
        upstream.stall(wheel.path, 1000, chunked=chunked)
        connection = http.client.HTTPConnection("127.0.0.1", int(upstream.url.rpartition(":")[2]), timeout=10)
        connection.request("GET", wheel.path)
        response = connection.getresponse()
        assert response.length == (None if chunked else len(wheel.data))
        assert response.read(1000) == wheel.data[:1000]
        connection.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            response.read(1)
        connection.close()
        upstream.release()
        connection.timeout = 10
        for path, status, body in ((wheel.path, 200, wheel.data), ("/nothing", 404, b"")):
            connection.request("GET", path)
            response = connection.getresponse()
            assert (response.status, response.read()) == (status, body)
        connection.close()
    assert upstream.requests == [wheel.path, wheel.path, "/nothing"]
