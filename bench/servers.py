"""The servers: how each is set up, started, and where it has its pages. Each listens on 127.0.0.1."""

from __future__ import annotations

import json
import os
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import yaml
from attrs import frozen

from bench import nginx
from bench.client import Address, fetch
from bench.peers import Peers
from bench.processes import Process, ServerError, free_port
from bench.results import NGINX, PIPCACHE
from bench.settings import pipcache_settings, tls_settings
from bench.tls import Certificates
from pipcache.rules.settings import KEYS

_STEERING = ("PIP_", "UV_", "PIPCACHE_", "PYTHON", "VIRTUAL_ENV", "REQUESTS_CA_BUNDLE", "SSL_CERT")


@frozen
class Server:
    """One that runs. ``tls`` is None where it speaks no TLS; its pages are at ``index`` + project + ``/``."""

    name: str
    process: Process
    address: Address
    folder: Path
    tls: Address | None = None
    index: str = "/simple/"

    def page(self, project: str) -> str:
        """The path of a project's page."""
        return f"{self.index}{project}/"

    def health(self) -> dict[str, Any]:
        """What pipcache says of itself."""
        return dict(json.loads(fetch(self.address, "/health").body))


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without what steers an installer, a proxy or pipcache, and with ``more``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_STEERING) and not name.lower().endswith("_proxy")
    }
    return kept | more


@frozen
class Upstream:
    """The upstream that runs: its addresses, and its log."""

    plain: Address
    tls: Address
    slow: Address
    log: Path

    def mark(self) -> int:
        """Where the log ends now."""
        return self.log.stat().st_size

    def sent_at(self, since: int, path: str | None = None, count: int = 1) -> dict[str, list[float]]:
        """When the last byte of each answer was sent (as ``time.time``), by path.

        Args:
            since: a mark.
            path: of this one only.
            count: how many there must be at least; waits two seconds for them, as the log comes after the answer.
        """
        for _ in range(200):
            found: dict[str, list[float]] = {}
            for line in self.log.read_bytes()[since:].decode().splitlines():
                words = line.split(" ", 4)
                if len(words) == 5 and path in (None, words[4]):
                    found.setdefault(words[4], []).append(float(words[0]))
            if sum(map(len, found.values())) >= count:
                return found
            time.sleep(0.01)
        raise ServerError(f"the upstream did not log {count} answers")


@contextmanager
def run_upstream(peers: Peers, folder: Path, root: Path, certificates: Certificates, core: int) -> Iterator[Upstream]:
    """Run the upstream."""
    folder.mkdir(parents=True)
    port, tls_port, slow_port = (free_port() for _ in range(3))
    text = nginx.upstream(folder, root, port, tls_port, slow_port, certificates, is_root=os.getuid() == 0)
    with _nginx(peers, folder, text, core) as process:
        process.wait_for_port(port)
        plain, tls, slow = Address(port), Address(tls_port, certificates.ca), Address(slow_port)
        yield Upstream(plain, tls, slow, folder / "access.log")


@contextmanager
def run_nginx(peers: Peers, folder: Path, upstream: Address, certificates: Certificates, core: int) -> Iterator[Server]:
    """Run nginx as a cache."""
    folder.mkdir(parents=True)
    port, tls_port = free_port(), free_port()
    text = nginx.proxy(folder, port, tls_port, upstream, certificates, is_root=os.getuid() == 0)
    with _nginx(peers, folder, text, core) as process:
        process.wait_for_port(port)
        yield Server(NGINX, process, Address(port), folder, Address(tls_port, certificates.ca))


@contextmanager
def _nginx(peers: Peers, folder: Path, text: str, core: int) -> Iterator[Process]:
    config = folder / "nginx.conf"
    config.write_text(text)
    log = str(folder / "error.log")
    process = Process([peers.nginx, "-p", str(folder), "-e", log, "-c", str(config)], folder, core, peers.environment)
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def run_pipcache(
    peers: Peers,
    folder: Path,
    upstream: Address,
    certificates: Certificates,
    core: int,
    more: Mapping[str, Any] | None = None,
    *,
    wait: bool = True,
) -> Iterator[Server]:
    """Run pipcache as its README says.

    Args:
        peers: where it is installed.
        folder: where its settings, its log and its cache are; a cache that is there already is used.
        upstream: the only one it asks; over TLS it must show a certificate of our own authority.
        certificates: the authority, and what to show where pipcache speaks TLS itself.
        core: where it runs.
        more: settings that are not the defaults, by dotted path.
        wait: until it listens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, tls_port = free_port(), free_port()
    tls = tls_settings(KEYS, port, tls_port, certificates)
    settings = pipcache_settings(KEYS, port, folder / "cache", upstream.url, {**(tls or {}), **(more or {})})
    config = folder / "pipcache.yaml"
    config.write_text(yaml.safe_dump(settings))
    environment = clean_environment(SSL_CERT_FILE=str(certificates.ca))
    command = [str(peers.pipcache / "twistd"), "--nodaemon", "--pidfile=", "pipcache", "--config", str(config)]
    process = Process(command, folder, core, environment)
    try:
        if wait:
            process.wait_for_port(port)
        yield Server(PIPCACHE, process, Address(port), folder, Address(tls_port, certificates.ca) if tls else None)
    finally:
        process.stop()


@contextmanager
def run_proxpi(peers: Peers, folder: Path, upstream: Address, core: int) -> Iterator[Server]:
    """Run proxpi as its image does, with gunicorn."""
    folder.mkdir(parents=True)
    port = free_port()
    environment = clean_environment(
        HOME=str(folder), PROXPI_INDEX_URL=f"{upstream.url}/simple/", PROXPI_CACHE_DIR=str(folder / "cache")
    )
    command = [str(peers.proxpi / "gunicorn"), "--preload", "--threads", "2", "--access-logfile", "-"]
    command += ["--bind", f"127.0.0.1:{port}", "proxpi.server:app"]
    process = Process(command, folder, core, environment)
    try:
        process.wait_for_port(port)
        yield Server("proxpi", process, Address(port), folder, index="/index/")
    finally:
        process.stop()


@contextmanager
def run_devpi(peers: Peers, folder: Path, upstream: Address, core: int) -> Iterator[Server]:
    """Run devpi-server with one mirror index."""
    folder.mkdir(parents=True)
    port = free_port()
    where = ["--serverdir", str(folder / "server")]
    environment = clean_environment(HOME=str(folder))
    subprocess.run(
        [str(peers.devpi / "devpi-init"), *where, "--no-root-pypi"],
        env=environment,
        capture_output=True,
        timeout=120,
        check=True,
    )
    command = [str(peers.devpi / "devpi-server"), *where, "--host", "127.0.0.1", "--port", str(port)]
    process = Process(command, folder, core, environment)
    try:
        process.wait_for_port(port, 180)
        _make_mirror(port, upstream)
        yield Server("devpi-server", process, Address(port), folder, index="/root/bench/+simple/")
    finally:
        process.stop()


def _make_mirror(port: int, upstream: Address) -> None:
    login = _ask(port, "POST", "/+login", {"user": "root", "password": ""}, {})
    token = b64encode(f"root:{login['result']['password']}".encode()).decode()
    index = {"type": "mirror", "mirror_url": f"{upstream.url}/simple/", "volatile": False}
    _ask(port, "PUT", "/root/bench", index, {"X-Devpi-Auth": token})


def _ask(port: int, method: str, path: str, said: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"Content-Type": "application/json", "Accept": "application/json", **fields}
        connection.request(method, path, json.dumps(said), headers)
        response = connection.getresponse()
        body = response.read()
        if response.status not in (200, 201):
            raise ServerError(f"devpi-server: {method} {path}: {response.status} {body[:300]!r}")
        return dict(json.loads(body))
    finally:
        connection.close()
