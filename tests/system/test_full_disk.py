"""The real program under a limit on the size of files: clients get every byte, and storing resumes with the room."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.fakes.index import Index
from tests.system.harness import IndexServer, Server

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform != "linux", reason="limits of another process can be set on Linux only"),
]

SIZE = 3_000_000
LIMIT = 1_000_000


def limit_files(server: Server, limit: int) -> None:
    """Let the program write no file that is longer than this; where it is beyond, the system sends it SIGXFSZ."""
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (limit, hard))


def wait_for(is_so: Callable[[], object], server: Server) -> None:
    """Wait until something holds, for 10 s at most, while the program runs."""
    for _ in range(200):
        if is_so():
            return
        with pytest.raises(subprocess.TimeoutExpired):  # a pause that ends early when the program does
            server.process.wait(0.05)
    pytest.fail(f"it does not come about\n{server.log}")


@pytest.mark.parametrize("use_tac", [False, True], ids=["plugin", "tac"])
def test_files_that_may_not_grow_are_a_full_disk(
    serve_index: Callable[..., IndexServer], start_server: Callable[..., Server], use_tac: bool
) -> None:
    """The program lives, the body is whole and right, health says why nothing is kept; without the limit it is kept."""
    index = Index()
    wheel = index.add_wheel("leaf", "1.0", size_bytes=SIZE)
    upstream = serve_index(index)
    server = start_server({"upstream": {"primary": {"name": "only", "url": upstream.url}}}, use_tac=use_tac)
    assert server.get("/simple/leaf/")[0] == 200
    wait_for(lambda: list(server.cache.glob("???/*.meta")), server)  # or its page, which is small, is stored later
    limit_files(server, LIMIT)
    for _ in range(2):
        status, fields, body = server.get(wheel.path)
        assert (status, fields["x-cache-status"]) == (200, "MISS")
        assert body == wheel.data
        assert server.get("/health")[0] == 200
        health = server.health()
        assert health["status"] == "degraded"
        assert "File too large" in str(health)
    assert list((server.cache / "tmp").iterdir()) == []
    limit_files(server, resource.RLIM_INFINITY)
    assert server.get(wheel.path)[2] == wheel.data
    assert server.get(wheel.path)[1]["x-cache-status"] == "HIT"
    wait_for(lambda: server.health()["status"] == "healthy", server)
