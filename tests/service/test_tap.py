"""Options and `makeService`: what twistd is given, what it says of wrong settings, and that nothing is opened yet."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import pytest_twisted
import treq
from twisted.application.service import IService
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.usage import UsageError
from zope.interface.verify import verifyObject

from pipcache.edges.pip_index import PipIndex
from pipcache.service import lifecycle
from pipcache.service.lifecycle import PipcacheService
from pipcache.service.tap import Options, makeService

UPSTREAM = "upstream: {primary: {name: nowhere, url: 'http://127.0.0.1:9'}}\n"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a home without settings, and no variable of ours; everything is below it."""
    for name in ("cwd", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "cwd")
    for variable in ("SERVER_PORT", "SERVER_HOST", "CACHE_DIR", "LOG_LEVEL"):
        monkeypatch.delenv(f"PIPCACHE_{variable}", raising=False)
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    (tmp_path / "cwd" / "pipcache.yaml").write_text(UPSTREAM)
    return tmp_path


def service_of(*words: str) -> PipcacheService:
    """The service that these words of the command line make."""
    options = Options()
    options.parseOptions(list(words))
    service = makeService(options)
    assert isinstance(service, PipcacheService)
    return service


def test_making_the_service_opens_nothing(machine):
    """It is made before twistd forks: no directory, socket or thread is made then."""
    before = sorted(machine.rglob("*"))
    service = service_of("--cache-dir", str(machine / "cache"))
    assert verifyObject(IService, service)
    assert not service.running
    assert service.port is None
    assert sorted(machine.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--port", "x"], "pipcache: server.port: 'x' is not a port; allowed: "),
        (["--host", "two words"], "pipcache: server.host: 'two words' is not an address; allowed: "),
        (["--log-level", "loud"], "pipcache: log.level: 'loud' is not a log level; allowed: debug, info, warn, error"),
        (["--config", "none.yaml"], "none.yaml: cannot be read (No such file or directory)"),
    ],
)
def test_a_wrong_setting_is_one_line(words, line):
    """`SystemExit` with a message: Python prints it and the status is 1; nothing of our code is shown."""
    with pytest.raises(SystemExit) as caught:
        service_of(*words)
    assert line in caught.value.code
    assert "\n" not in caught.value.code
    assert caught.value.__suppress_context__


def test_an_unknown_option_is_a_usage_error():
    """That one is twistd's to tell."""
    with pytest.raises(UsageError, match="--nope"):
        service_of("--nope")


def test_every_option_is_described():
    """Each option says which setting it stands for; none is without a word."""
    text = Options().getUsage()
    for option, *_, words in Options.optParameters:
        assert words
        assert f"--{option}=" in text
    assert "pipcache.yaml" in text


@pytest.mark.parametrize(
    ("host", "port"),
    [("127.0.0.1", None), ("192.0.2.1", 0)],
)
def test_a_start_that_cannot_listen_touches_nothing(machine, host, port):
    """Port taken or address not ours: one line with both, and no cache directory."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] if port is None else port
        service = service_of("--host", host, "--port", str(port), "--cache-dir", str(machine / "cache"))
        with pytest.raises(SystemExit, match=rf"^pipcache: cannot listen on {host} port {port}: [^\n]+$"):
            service.privilegedStartService()
    assert service.port is None
    assert not (machine / "cache").exists()


@pytest_twisted.ensureDeferred
async def test_a_service_starts_serves_and_stops(machine):
    """Listening comes first, the cache directory second; after the stop there is no socket, timer or thread left."""
    service = service_of("--host", "127.0.0.1", "--port", "0", "--cache-dir", str(machine / "cache"))
    service.privilegedStartService()
    assert service.port is not None
    assert not (machine / "cache").exists()
    service.startService()
    assert (machine / "cache" / "VERSION").exists()
    port = service.port.getHost().port
    response = await treq.get(f"http://127.0.0.1:{port}/health", persistent=False, timeout=10, reactor=reactor)
    assert response.code == 200
    (upstream,) = (await response.json())["upstreams"]
    assert (upstream["name"], upstream["state"]) == ("nowhere", "ok")
    await service.stopService()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


@pytest_twisted.ensureDeferred
async def test_a_service_that_was_never_started_stops(machine):
    """What began to start is stopped like any other: a stop after listening alone, or after nothing, is as orderly."""
    await service_of("--cache-dir", str(machine / "cache")).stopService()
    listening = service_of("--host", "127.0.0.1", "--port", "0", "--cache-dir", str(machine / "cache"))
    listening.privilegedStartService()
    await listening.stopService()
    assert not (machine / "cache").exists()


@pytest_twisted.ensureDeferred
async def test_a_pip_that_is_set_up_with_what_is_of_no_use_is_left_out(machine, monkeypatch, capture_log):
    """Its index is left out with one line in the log, and the other upstreams serve."""
    (machine / "cwd" / "pipcache.yaml").write_text(UPSTREAM.replace("}}", "}, more: [{url: 'pip:'}]}"))
    found = PipIndex("https://pip.example/simple", cert=str(machine / "missing.pem"))
    monkeypatch.setattr(lifecycle, "discover_pip_index", lambda *_: found)
    service = service_of("--host", "127.0.0.1", "--port", "0", "--cache-dir", str(machine / "cache"))
    service.privilegedStartService()
    service.startService()
    while not any("upstreams, in order: nowhere" in line for line in capture_log):
        await deferLater(reactor, 0.01)
    await service.stopService()
    warnings = [line for line in capture_log if "is left out" in line]
    assert warnings == [
        f"upstream pip is left out: the cert of pip's configuration: {machine / 'missing.pem'} cannot be read"
        " (No such file or directory); allowed: a file of certificates in PEM form"
    ]


@pytest.fixture
def capture_log():
    """Every line of the log, as it comes."""
    lines: list[str] = []

    def observe(event):
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest.mark.parametrize(
    ("variable", "value"), [("HTTPS_PROXY", "ftp://h"), ("REQUESTS_CA_BUNDLE", "missing"), ("SSL_CERT_FILE", "missing")]
)
def test_an_environment_of_no_use_is_said_before_listening(machine, monkeypatch, variable, value):
    """One line that names the variable; nothing is listened on, nothing made."""
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    service = service_of("--host", "127.0.0.1", "--port", "0", "--cache-dir", str(machine / "cache"))
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit, match=rf"^pipcache: {variable}: [^\n]+; allowed: [^\n]+$"):
        service.privilegedStartService()
    assert service.port is None
    assert not (machine / "cache").exists()
