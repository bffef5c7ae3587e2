"""A server that is told to ask itself notices at start."""

from __future__ import annotations

import pytest

from tests.system.harness import Server

pytestmark = pytest.mark.system


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_server_that_only_asks_itself_does_not_start(tmp_path, host):
    """One line names the upstreams and what to set; nothing in the cache directory was made."""
    server = Server(tmp_path, {"server": {"host": host}})
    own = f"http://localhost:{server.port}"
    server.settings["upstream"] = {"primary": {"name": "me", "url": own}, "more": [{"index_url": f"{own}/simple"}]}
    server.launch()
    assert server.wait() == 1
    assert "Traceback" not in server.log
    (line,) = [line for line in server.log.splitlines() if "pipcache: " in line]
    assert "the address of every upstream (me, localhost" in line
    assert "set upstream.primary.url" in line
    assert not server.cache.exists()


def test_an_upstream_that_is_the_server_itself_is_left_out(tmp_path):
    """A warning says which one, and the others are asked."""
    server = Server(tmp_path, {})
    own = {"name": "me", "url": f"http://127.0.0.1:{server.port}"}
    server.settings["upstream"] = {"primary": own, "fallback": {"name": "other", "url": "http://127.0.0.1:9"}}
    with server:
        status, _, body = server.get("/simple/demo/")
        assert (status, b"other: no connection" in body, b"me: " in body) == (502, True, False)
        assert "upstream me is left out: its address is that of this server itself" in server.log
        assert "upstreams, in order: other" in server.log
        states = [(each["name"], each["state"]) for each in server.health()["upstreams"]]
        assert states == [("me", "unknown"), ("other", "failing")]
