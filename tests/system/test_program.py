"""The program as an operator starts it: every way in, every way to set it, and what it says when it cannot."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.index import Index
from tests.system.harness import IndexServer, Server, free_port, pip_install

pytestmark = pytest.mark.system

NOWHERE = {"primary": {"name": "nowhere", "url": "http://127.0.0.1:9"}}
"""An upstream that refuses connections, for tests that need none."""


def ours(log: str) -> list[str]:
    """Pick the lines that pipcache wrote, not twistd."""
    return [line for line in log.splitlines() if "[pipcache#" in line or "pipcache: " in line]


def ended(server: Server) -> tuple[int, list[str]]:
    """Start a program that is to end by itself: its exit status and what it said. There is no traceback."""
    server.launch()
    status = server.wait()
    assert "Traceback" not in server.log
    return status, ours(server.log)


# -- every way in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_tac", [False, True])
def test_plugin_and_tac_start_the_same_service(start_server, use_tac):
    """`twistd pipcache --config FILE` and `twistd -y pipcache.tac` in the file's folder both serve from that file."""
    server = start_server({"cache": {"max_entries": 77}, "upstream": NOWHERE}, use_tac=use_tac)
    assert server.health()["max_entries"] == 77
    assert [each["name"] for each in server.health()["upstreams"]] == ["nowhere"]
    assert f"settings: {server.folder / 'pipcache.yaml'}" in server.log
    assert f"listening on 127.0.0.1 port {server.port}" in server.log
    assert (server.cache / "VERSION").read_text() == "1\n"


@pytest.mark.parametrize("use_tac", [False, True])
def test_the_environment_wins_over_the_file(tmp_path, use_tac):
    """`PIPCACHE_<SECTION>_<KEY>` counts for both ways to start, lists as YAML text."""
    port = free_port()
    variables = {
        "PIPCACHE_SERVER_PORT": str(port),
        "PIPCACHE_CACHE_DIR": str(tmp_path / "elsewhere"),
        "PIPCACHE_CACHE_MAX_SIZE": "2MiB",
        "PIPCACHE_UPSTREAM_PRIMARY_URL": "http://127.0.0.1:9",
        "PIPCACHE_UPSTREAM_MORE": '[{name: third, url: "http://127.0.0.1:9"}]',
    }
    server = Server(tmp_path, {"cache": {"max_entries": 5}}, environment=variables, use_tac=use_tac)
    server.port = port
    with server:
        health = server.health()
        assert (health["cache_max_size"], health["max_entries"]) == (2 << 20, 5)
        assert [each["name"] for each in health["upstreams"]] == ["127.0.0.1", "third"]
    assert (tmp_path / "elsewhere" / "VERSION").exists()
    assert not server.cache.exists()


def test_options_win_over_the_environment(tmp_path):
    """`--port`, `--host`, `--cache-dir` and `--log-level` win over both others."""
    port = free_port()
    variables = {"SERVER_PORT": "1", "SERVER_HOST": "192.0.2.1", "CACHE_DIR": "/nowhere", "LOG_LEVEL": "debug"}
    server = Server(
        tmp_path,
        {"server": {"port": 2}, "upstream": NOWHERE, "log": {"level": "warn"}},
        environment={f"PIPCACHE_{name}": value for name, value in variables.items()},
        options=["-p", str(port), "--host", "127.0.0.1", "--cache-dir", "there", "--log-level", "info"],
    )
    server.port = port
    with server:
        assert f"[pipcache#info] the cache is in {tmp_path / 'there'}" in server.log
        assert "#debug" not in server.log
    assert (tmp_path / "there" / "VERSION").exists()


def test_an_unknown_variable_is_a_warning(start_server):
    """Kubernetes puts variables of its own beside ours: each is told and ignored."""
    foreign = {"PIPCACHE_SERVICE_HOST": "10.0.0.1", "PIPCACHE_SERVER_PORT": "tcp://10.0.0.1:8080"}
    server = start_server({"upstream": NOWHERE}, environment=foreign)
    warnings = [line for line in ours(server.log) if "#warn]" in line]
    assert len(warnings) == 2
    assert all(any(name in line and "ignored" in line for line in warnings) for name in foreign)


def test_both_families_are_served(start_server):
    """With host `::` the program answers on 127.0.0.1 and on ::1."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    server = start_server({"server": {"host": "::"}, "upstream": NOWHERE})
    assert server.get("/health")[0] == 200
    with socket.create_connection(("::1", server.port), 10) as client:
        client.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.0 200 ")


# -- every way to fail -----------------------------------------------------------------------------------------------


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize("use_tac", [False, True])
@pytest.mark.parametrize("has_cache", [False, True])
def test_a_taken_port_ends_the_start_in_one_line(tmp_path, taken_port, has_cache, use_tac):
    """The status is 1, the line names the address, and nothing in the cache directory was touched or made."""
    server = Server(tmp_path, {"server": {"port": taken_port}, "upstream": NOWHERE}, use_tac=use_tac)
    if has_cache:
        (server.cache / "tmp").mkdir(parents=True)
        (server.cache / "tmp" / f"{'0' * 32}.part").write_text("somebody's")
    before = _tree(server.cache)
    status, said = ended(server)
    assert status == 1
    assert len(said) == 1
    assert f"cannot listen on 127.0.0.1 port {taken_port}: Address already in use" in said[0]
    assert _tree(server.cache) == before


def _tree(folder: Path) -> dict[Path, tuple[int, int]]:
    """Everything below a folder, and the folder: time of change and size."""
    paths = [folder, *folder.rglob("*")] if folder.exists() else []
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}


def test_an_address_that_is_not_ours_ends_the_start_in_one_line(tmp_path):
    """An address of another machine cannot be listened on; that is said like a taken port."""
    status, said = ended(Server(tmp_path, {"server": {"host": "192.0.2.1"}, "upstream": NOWHERE}))
    assert (status, len(said)) == (1, 1)
    assert "cannot listen on 192.0.2.1 port " in said[0]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("use_tac", [False, True])
@pytest.mark.parametrize(
    ("settings", "path", "value"),
    [
        ({"server": {"port": 70000}}, "server.port", "70000"),
        ({"server": {"prot": 8080}}, "server.prot", "unknown key"),
        ({"sever": {"port": 8080}}, "sever", "unknown key"),
        ({"cache": {"max_size": "lots"}}, "cache.max_size", "'lots'"),
        ({"cache": {"simple_ttl": -1}}, "cache.simple_ttl", "-1"),
        ({"cache": {"watermark": {"low": 0.95}}}, "cache.watermark.low", "0.95"),
        ({"upstream": {"primary": {"url": "ftp://127.0.0.1"}}}, "upstream.primary.url", "'ftp://127.0.0.1'"),
        ({"upstream": {"more": "none"}}, "upstream.more", "'none'"),
        ({"log": {"level": "loud"}}, "log.level", "'loud'"),
    ],
)
def test_a_wrong_setting_ends_the_start_in_one_line(tmp_path, settings, path, value, use_tac):
    """One line names the path, the value, what is allowed and the file; the status is 1."""
    server = Server(tmp_path, settings, use_tac=use_tac)
    status, said = ended(server)
    assert (status, len(said)) == (1, 1)
    assert said[0].startswith(f"pipcache: {path}: ")
    assert value in said[0]
    assert "allowed" in said[0]
    assert f"(from {tmp_path / 'pipcache.yaml'}" in said[0]
    assert not server.cache.exists()


@pytest.mark.parametrize(
    ("options", "variables", "line"),
    [
        (["--port", "http"], {}, "server.port: 'http' is not a port; .*from the command line"),
        (["--config", "missing.yaml"], {}, r"\S+/missing.yaml: cannot be read \(No such file or directory\)"),
        (
            [],
            {"PIPCACHE_CACHE_MAX_ENTRIES": "0"},
            "cache.max_entries: '0' is not a count; .*PIPCACHE_CACHE_MAX_ENTRIES",
        ),
        (
            [],
            {"PIPCACHE_UPSTREAM_PRIMARY_CA_FILE": "missing.pem"},
            r"upstream.primary.ca_file: missing.pem cannot be read \(No such file or directory\); allowed: a file of",
        ),
        (
            [],
            {"HTTPS_PROXY": "socks5://me:hush@proxy.example"},
            r"HTTPS_PROXY: 'socks5://\*\*\*@proxy.example' is not a proxy's address; allowed: http://host:port",
        ),
    ],
)
def test_a_wrong_option_or_variable_is_named_too(tmp_path, options, variables, line):
    """The line says whether it was the command line, the environment, or which file."""
    server = Server(tmp_path, {"upstream": NOWHERE}, options=options, environment=variables)
    status, said = ended(server)
    assert (status, len(said)) == (1, 1)
    assert re.search(f"pipcache: {line}", said[0])
    assert not server.cache.exists()


# -- a disk that is of no use, and what the log holds ----------------------------------------------------------------


@pytest.mark.parametrize("place", ["below a file", "in /proc"])
def test_a_cache_that_cannot_be_written_is_said_and_served_anyway(
    serve_index, start_server, bare_python, tmp_path, place
):
    """The log says in words which directory and why; installing works, from upstream every time."""
    if place == "in /proc" and not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    (tmp_path / "file").write_text("not a directory")
    folder = Path("/proc/pipcache") if place == "in /proc" else tmp_path / "file" / "cache"
    index = Index()
    wheel = index.add_wheel("leaf", "1.0", size_bytes=500_000)
    upstream: IndexServer = serve_index(index)
    settings = {"cache": {"dir": str(folder)}, "upstream": {"primary": {"name": "only", "url": upstream.url}}}
    server: Server = start_server(settings)
    warnings = [line for line in ours(server.log) if "#warn]" in line]
    assert len(warnings) == 1
    assert f"the cache directory {folder} cannot be used: " in warnings[0]
    assert f"give user {os.getuid()} the right to write it" in warnings[0]
    done = pip_install(bare_python, server.index_url, tmp_path / "target", "leaf")
    assert done.returncode == 0, done.stdout + done.stderr
    status, fields, body = server.get(wheel.path)
    assert (status, fields["x-cache-status"], body) == (200, "MISS", wheel.data)
    assert upstream.count(wheel.path) == 2
    assert "Traceback" not in server.log


def test_the_level_error_is_quiet(start_server):
    """At `error` nothing of the daily work is logged, not even an upstream that fails."""
    server: Server = start_server({"log": {"level": "error"}, "upstream": NOWHERE})
    assert server.get("/simple/leaf/")[0] == 502
    server.terminate()
    assert ours(server.log) == []


def test_no_query_and_no_password_is_logged(serve_index, start_server):
    """At the level debug, with files that come and files that do not: what may be a secret is in no line."""
    index = Index()
    wheel = index.add_wheel("leaf", "1.0")
    upstream: IndexServer = serve_index(index)
    page = upstream.served / "simple/leaf/index.html"
    page.write_text(page.read_text().replace(".whl#", ".whl?sign=hush#"))
    settings = {
        "log": {"level": "debug"},
        "upstream": {
            "primary": {"name": "one", "url": f"http://me:hush@127.0.0.1:{upstream.port}"},
            "fallback": {"name": "two", "url": "http://me:hush@127.0.0.1:9"},
        },
    }
    server: Server = start_server(settings)
    paths = [
        "/simple/leaf/",
        "/simple/absent/",
        wheel.path,
        f"{wheel.path}.metadata",
        "/other/thing",
        "/health",
        "/%zz",
    ]
    statuses = [server.get(f"{path}?token=hush")[0] for path in paths]
    assert statuses == [200, 404, 200, 200, 404, 200, 400]
    assert f"GET {wheel.path}?sign=hush" in upstream.requests
    upstream.kill()
    assert server.get("/other/else?token=hush")[0] == 502
    assert "fetched" in server.log
    assert "one did not give" in server.log
    assert "hush" not in server.log


def test_help_names_every_option(tmp_path):
    """`twistd pipcache --help` is for people: each option with the setting it stands for."""
    server = Server(tmp_path, {}, options=["--help"])
    ended(server)  # with a status of twistd's choice
    text = " ".join(server.log.split())
    for option, setting in (
        ("--host=", "server.host"),
        ("-p, --port=", "server.port"),
        ("--cache-dir=", "cache.dir"),
        ("--log-level=", "log.level"),
        ("-c, --config=", "pipcache.yaml"),
    ):
        assert setting in text.partition(option)[2][:120]
