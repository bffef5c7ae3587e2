"""The harness installs with real pip and uv from an index of its own, and ends what it starts."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from contextlib import nullcontext as does_not_raise
from pathlib import Path

import pytest

from tests.fakes.index import Index
from tests.system.harness import (
    Process,
    Server,
    free_port,
    pip_install,
    run_pip,
    run_uv,
    scrubbed_environment,
    uv_install,
)
from tests.system.installers import Unavailable, provide

pytestmark = pytest.mark.system


@pytest.fixture
def index() -> Index:
    """An index of two wheels, one needing the other, and a source distribution."""
    index = Index()
    index.add_wheel("leaf", "1.0", size_bytes=100_000)
    index.add_wheel("tree", "2.0", requires=["leaf>=1"], python_requires=">=3.8")
    index.add_sdist("source", "3.0")
    return index


def installed(target: Path, name: str) -> str:
    """Ask a fresh interpreter for the version of what was installed."""
    code = f"import {name}; print({name}.__version__)"
    environment = scrubbed_environment(PYTHONPATH=str(target))
    return subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip()


def test_pip_installs_wheels_and_sdists(index, serve_index, bare_python, tmp_path):
    """Real pip resolves a dependency by its core metadata, and builds an sdist without a network."""
    server = serve_index(index)
    done = pip_install(bare_python, f"{server.url}/simple/", tmp_path / "target", "tree", "source")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [installed(tmp_path / "target", name) for name in ("leaf", "tree", "source")] == [
        "1.0",
        "2.0",
        "3.0",
    ]
    assert server.count("/simple/tree/") == 1
    assert server.count(f"{index.files[1].path}.metadata") == 1


def test_uv_installs_wheels_and_sdists(index, serve_index, tmp_path):
    """Real uv does the same."""
    server = serve_index(index)
    done = uv_install(f"{server.url}/simple/", tmp_path / "target", "tree", "source")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [installed(tmp_path / "target", name) for name in ("leaf", "tree", "source")] == [
        "1.0",
        "2.0",
        "3.0",
    ]
    assert server.count("/simple/tree/") == 1


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_hashes_are_required_and_agree(index, serve_index, bare_python, tmp_path, installer):
    """Both install with `--require-hashes` what the index pins, here under a prefix."""
    url = f"{serve_index(index, prefix='/pypi').url}/pypi/simple/"
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(index.requirements())
    options = ["--require-hashes", "-r", requirements]
    target = tmp_path / "target"
    done = pip_install(bare_python, url, target, *options) if installer == "pip" else uv_install(url, target, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert installed(target, "tree") == "2.0"


def test_pip_follows_absolute_links_to_a_second_server(index, serve_index, bare_python, tmp_path):
    """Pages of one server lead pip to the files of another."""
    files = serve_index(index)
    pages = serve_index(index, files_url=files.url)
    done = pip_install(bare_python, f"{pages.url}/simple/", tmp_path / "target", "leaf")
    assert done.returncode == 0, done.stdout + done.stderr
    assert files.requests == [f"GET {index.files[0].path}.metadata", f"GET {index.files[0].path}"]


def test_settings_of_the_machine_do_not_reach_the_installers(bare_python, monkeypatch):
    """Variables that would lead pip, uv or the program elsewhere are gone; what a test adds is there."""
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "PIPCACHE_CACHE_DIR", "HTTPS_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    names = scrubbed_environment(PIP_NO_INPUT="1")
    assert not {"PIP_INDEX_URL", "UV_DEFAULT_INDEX", "PIPCACHE_CACHE_DIR", "HTTPS_PROXY", "http_proxy"} & set(names)
    assert names["PIP_NO_INPUT"] == "1"
    assert "index-url" not in run_pip(bare_python, "config", "list").stdout
    assert run_uv("--version").stdout.startswith("uv ")


def test_the_index_server_answers_ranges_heads_and_what_is_absent(index, serve_index):
    """It has Accept-Ranges, 206, 416 and 404, and notes every request before its answer."""
    server = serve_index(index)
    wheel = index.files[0]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

    def ask(method: str, path: str, **fields: str) -> tuple[int, str | None, bytes]:
        connection.request(method, path, headers=fields)
        response = connection.getresponse()
        return response.status, response.headers["Content-Length"], response.read()

    assert ask("HEAD", wheel.path) == (200, str(len(wheel.data)), b"")
    assert ask("GET", wheel.path, Range="bytes=-5") == (206, "5", wheel.data[-5:])
    assert ask("GET", wheel.path, Range=f"bytes={len(wheel.data)}-")[0] == 416
    assert ask("GET", "/simple/absent/")[0] == 404
    assert ask("GET", "/simple/%2e%2e/simple/")[0] == 400
    connection.close()
    assert server.requests == [
        f"HEAD {wheel.path}",
        *[f"GET {wheel.path}"] * 2,
        "GET /simple/absent/",
        "GET /simple/%2e%2e/simple/",
    ]


def test_an_index_server_comes_back_on_its_port(index, serve_index):
    """Ended, it refuses connections; started again, it has the same address and goes on counting."""
    server = serve_index(index)
    url = server.url
    assert server.terminate() == -signal.SIGTERM
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), 5)
    server.start()
    assert server.url == url
    socket.create_connection(("127.0.0.1", server.port), 5).close()


def test_a_process_ends_with_its_block_and_its_log_stays(tmp_path):
    """Leaving the block kills what still runs; exit status and output can be read."""

    class Cat(Process):
        def __enter__(self):
            code = "import time; print('here', flush=True); time.sleep(600)"
            self.spawn([sys.executable, "-c", code], scrubbed_environment(), tmp_path)
            return self

    with Cat(tmp_path / "work", "cat") as running:
        pid = running.pid
        assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    assert running.wait() == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_that_does_not_start_shows_its_log(tmp_path, monkeypatch):
    """A program that ends at once is an error with its output, not a wait for the time limit."""
    server = Server(tmp_path, {"log": {"level": "debug"}}, options=["--no-such-option"])
    with pytest.raises(AssertionError, match=r"ended with status 1:\n.*Usage: twistd"), server:
        pytest.fail("it started")
    assert server.process.returncode == 1


def test_settings_of_a_test_win_over_those_of_the_harness(tmp_path):
    """The harness sets address, port and cache; a section of the test's is merged key by key."""
    server = Server(tmp_path, {"cache": {"max_size": "1MiB"}, "server": {"host": "::1"}})
    assert server.settings == {
        "server": {"host": "::1", "port": server.port},
        "cache": {"dir": str(tmp_path / "cache"), "max_size": "1MiB"},
    }
    assert server.index_url == f"http://127.0.0.1:{server.port}/simple/"


def test_a_free_port_can_be_bound():
    """Nobody listens on it, so that a server may."""
    port = free_port()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


@pytest.mark.parametrize(("status", "is_available"), [(0, True), (1, False)])
def test_an_installer_is_installed_once(tmp_path, status, is_available):
    """What was installed is kept for later runs; what could not be is not tried twice, and the test hears why."""
    pip, runs = tmp_path / "pip", tmp_path / "runs"
    pip.write_text(f"#!/bin/sh\necho x >> {runs}\necho hint >&2\necho 'ERROR: no such index' >&2\nexit {status}\n")
    pip.chmod(0o755)
    expected = does_not_raise() if is_available else pytest.raises(Unavailable, match=r"pdm .*: ERROR: no such index$")
    for _ in range(2):
        with expected:
            assert provide("pdm", pip, tmp_path, tmp_path).is_relative_to(tmp_path)
    assert runs.read_text() == "x\n"
