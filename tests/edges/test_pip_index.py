"""The index that pip uses: what is read from pip's output, which value counts, what happens without pip."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import Factory, define

from pipcache.edges.pip_index import PipIndex, discover_pip_index, local_addresses

OWN = frozenset({("cache.example", 8080), ("localhost", 8080)})
DEFAULT = "https://default.example/simple"
HELP = f"""
  -i, --index-url <url>       Base URL of the Python Package Index (default
                              {DEFAULT}). This should point to a
                              repository compliant with PEP 503.
  --extra-index-url <url>     Extra URLs of package indexes to use.
"""


@define
class FakePip:
    """Stands for `subprocess.run`: answers `config debug` and `help install`, and remembers the calls."""

    debug: str | BaseException = ""
    help: str | BaseException = HELP
    only: str = ""
    """Where set, the one program that there is."""
    calls: list[tuple[Sequence[str], Mapping[str, str]]] = Factory(list)

    def __call__(self, command: Sequence[str], **how: Any) -> subprocess.CompletedProcess[str]:
        """Answer like pip."""
        self.calls.append((command, how["env"]))
        assert how["timeout"] == 15
        assert how["check"] is True
        answer = self.debug if command[-2:] == ["config", "debug"] else self.help
        if self.only and command[0] != self.only:
            answer = FileNotFoundError(command[0])
        if isinstance(answer, BaseException):
            raise answer
        return subprocess.CompletedProcess(command, 0, answer, "")


def discover(pip: FakePip, environ: Mapping[str, str] | None = None) -> PipIndex | None:
    """What is found with this pip and this environment."""
    return discover_pip_index(OWN, environ or {}, pip, "/bin/python")


def debug(**ranks: str) -> str:
    """The output of `pip config debug` with these lines in the files of each rank."""
    lines = ["env_var:", "  PIP_QUIET='0'"]
    for rank in ("env", "global", "site", "user"):
        lines.append(f"{rank}:")
        lines.append(f"  /etc/{rank}/absent.conf, exists: False")
        if rank in ranks:
            lines.append(f"  /etc/{rank}/pip.conf, exists: True")
            lines += [f"    {line}" for line in ranks[rank].splitlines()]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("ranks", "environ", "url"),
    [
        ({"global": "global.index-url: http://g/simple"}, {}, "http://g/simple"),
        ({"global": "global.index-url: http://g/simple/"}, {}, "http://g/simple"),
        ({"global": "global.index-url: http://g", "user": "global.index-url: http://u"}, {}, "http://u"),
        ({"user": "global.index-url: http://u", "site": "global.index-url: http://s"}, {}, "http://s"),
        ({"site": "global.index-url: http://s", "env": "global.index-url: http://e"}, {}, "http://e"),
        ({"env": "global.index-url: http://e"}, {"PIP_INDEX_URL": "http://v"}, "http://v"),
        ({"global": "install.index-url: http://i", "env": "global.index-url: http://e"}, {}, "http://i"),
        ({"global": "install.index-url: http://i"}, {"PIP_INDEX_URL": "http://v"}, "http://v"),
        ({"global": "install.index-url: http://i"}, {"PIP_INDEX_URL": " "}, "http://i"),
        ({"global": "global.index-url: http://g", "user": "global.index-url: "}, {}, DEFAULT),
        ({"global": "global.index-url: http://g\ninstall.index-url: "}, {}, "http://g"),
        ({"user": "global.pypi-url: http://old"}, {}, "http://old"),
        ({"user": "global.index-url: https://u:p@h:81/simple?x: y"}, {}, "https://u:p@h:81/simple?x: y"),
        (
            {"user": "global.extra-index-url: \nhttp://x\nhttp://y\n\nglobal.index-url: http://g"},
            {},
            "http://g",
        ),
        ({"user": "global.extra-index-url: http://x\ndownload.index-url: http://d"}, {}, DEFAULT),
        ({}, {}, DEFAULT),
        ({}, {"UV_DEFAULT_INDEX": "http://uv"}, DEFAULT),
    ],
)
def test_the_value_that_pip_would_use_counts(ranks: dict[str, str], environ: dict[str, str], url: str) -> None:
    """Files by rank, `[install]` over `[global]`, the environment over both; empty is not set; no extras."""
    index = discover(FakePip(debug(**ranks)), environ)
    assert index == PipIndex(url)


@pytest.mark.parametrize(
    ("lines", "environ", "cert", "proxy"),
    [
        ("global.cert: /c.pem\nglobal.proxy: http://p:1", {}, "/c.pem", "http://p:1"),
        ("global.proxy: u:s@p:1", {}, None, "http://u:s@p:1"),
        ("global.cert: ~/c.pem", {}, "/h/c.pem", None),
        ("global.cert: /c.pem", {"PIP_CERT": "/d.pem", "PIP_PROXY": "p:2"}, "/d.pem", "http://p:2"),
        ("install.cert: /i.pem\nglobal.cert: /c.pem", {}, "/i.pem", None),
    ],
)
def test_cert_and_proxy_come_along(
    lines: str, environ: dict[str, str], cert: str | None, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are found by the same rules, also beside pip's default; `~` and a missing scheme are filled in."""
    monkeypatch.setenv("HOME", "/h")
    assert discover(FakePip(debug(user=lines)), environ) == PipIndex(DEFAULT, cert, proxy)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8080/simple",
        "http://127.0.0.1:8080/simple/",
        "http://127.0.1.1:8080",
        "http://[::1]:8080/",
        "http://0.0.0.0:8080/simple",
        "http://[::]:8080",
        "http://u:p@CACHE.example:8080/simple",
    ],
)
def test_where_pip_points_at_us_its_default_counts(url: str) -> None:
    """Asking ourselves would never end."""
    assert discover(FakePip(debug(user=f"global.index-url: {url}"))) == PipIndex(DEFAULT)
    assert discover(FakePip(), {"PIP_INDEX_URL": url}) == PipIndex(DEFAULT)


@pytest.mark.parametrize("url", ["http://localhost:8081/simple", "http://other.example:8080", "http://localhost/"])
def test_another_server_on_this_machine_is_not_us(url: str) -> None:
    """Host and port must both be ours."""
    assert discover(FakePip(), {"PIP_INDEX_URL": url}) == PipIndex(url.rstrip("/"))


def test_the_default_is_asked_from_a_pip_without_configuration() -> None:
    """No `PIP_*` variable that says an index, no file, and no help wrapped within the URL."""
    pip = FakePip()
    discover(pip, {"PIP_INDEX_URL": "http://localhost:8080/simple", "PIP_CONFIG_FILE": "/c", "HOME": "/h"})
    (_, asked), (command, bare) = pip.calls
    assert (asked["PIP_CONFIG_FILE"], asked["HOME"], asked["PIP_QUIET"]) == ("/c", "/h", "0")
    assert command == ["/bin/python", "-m", "pip", "--isolated", "help", "install"]
    assert "PIP_INDEX_URL" not in bare
    assert (bare["PIP_CONFIG_FILE"], bare["HOME"], bare["COLUMNS"]) == (os.devnull, "/h", "1000")


def test_a_pip_in_the_path_is_asked_where_python_has_none(tmp_path: Path) -> None:
    """`pip3` comes before `pip`."""
    for name in ("pip", "pip3"):
        (tmp_path / name).touch(mode=0o755)
    pip = FakePip(debug(user="global.index-url: http://u"), only=str(tmp_path / "pip3"))
    assert discover(pip, {"PATH": str(tmp_path)}) == PipIndex("http://u")
    assert [command[0] for command, _ in pip.calls] == ["/bin/python", str(tmp_path / "pip3")]


@pytest.mark.parametrize(
    "trouble",
    [
        FileNotFoundError("pip"),
        PermissionError("pip"),
        subprocess.TimeoutExpired("pip", 15),
        subprocess.CalledProcessError(1, "pip"),
    ],
)
@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"PIP_INDEX_URL": "http://v/simple"}, PipIndex("http://v/simple")),
        ({"PIP_INDEX_URL": "http://v", "UV_DEFAULT_INDEX": "http://uv"}, PipIndex("http://v")),
        ({"UV_DEFAULT_INDEX": "http://uv/simple/"}, PipIndex("http://uv/simple")),
        ({"UV_DEFAULT_INDEX": "corp=http://uv/simple"}, PipIndex("http://uv/simple")),
        ({"PIP_INDEX_URL": "http://[::1]:8080", "UV_DEFAULT_INDEX": "http://uv"}, PipIndex("http://uv")),
        ({"PIP_INDEX_URL": "http://localhost:8080"}, None),
        ({"PIP_INDEX_URL": "/srv/index"}, None),
        (
            {"PIP_INDEX_URL": "http://v", "PIP_CERT": "/c", "PIP_PROXY": "p:1"},
            PipIndex("http://v", "/c", "http://p:1"),
        ),
    ],
)
def test_without_a_pip_the_environment_counts(
    trouble: BaseException, environ: dict[str, str], expected: PipIndex | None
) -> None:
    """A pip that is not there, fails or hangs is no pip: the environment says, or nobody does."""
    assert discover(FakePip(trouble), environ) == expected


def test_a_default_that_cannot_be_read_is_no_index() -> None:
    """A help text that says no default leaves nothing to ask."""
    assert discover(FakePip(help="Usage: pip")) is None
    assert discover(FakePip(help=subprocess.CalledProcessError(2, "pip"))) is None


@pytest.mark.parametrize("url", ["/srv/index", "file:///srv/index", "ftp://h/simple", "http://", "http://h:x/"])
def test_an_index_that_is_not_over_http_is_none(url: str) -> None:
    """A directory, which pip takes as an index too, is nothing to put a cache before."""
    assert discover(FakePip(debug(user=f"global.index-url: {url}"))) is None


def test_our_own_addresses_have_our_port() -> None:
    """Names in lower case, the configured one among them."""
    addresses = local_addresses(8080, "Cache.Example")
    assert {("cache.example", 8080), ("localhost", 8080)} <= addresses
    assert {port for _, port in addresses} == {8080}


@pytest.fixture
def scrubbed(tmp_path: Path) -> dict[str, str]:
    """An environment without any word about indexes, with an empty home and an empty file for pip."""
    (tmp_path / "pip.conf").touch()
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}


def test_the_real_pip_says_what_is_configured(scrubbed: dict[str, str]) -> None:
    """Index, certificates and proxy come back from a file in pip's own format."""
    Path(scrubbed["PIP_CONFIG_FILE"]).write_text(
        "[global]\nindex-url = http://wrong.example/simple\ncert = /certs/c.pem\nproxy = p.example:3128\n"
        "quiet = 3\n[install]\nindex-url = https://u:p%40@right.example/simple/\n"
        "extra-index-url =\n  http://x\n  http://y\n",
        encoding="utf-8",
    )
    expected = PipIndex("https://u:p%40@right.example/simple", "/certs/c.pem", "http://p.example:3128")
    assert discover_pip_index(OWN, scrubbed, executable=sys.executable) == expected


@pytest.mark.parametrize("configured", ["", "http://localhost:8080/simple/"])
def test_the_real_pip_says_its_default(scrubbed: dict[str, str], configured: str) -> None:
    """Where nothing is set, and where pip points at ourselves: some index over HTTPS that is neither."""
    # this file ranks over the machine's own, so that an empty value here unsets what they may say
    text = f"[global]\nindex-url = {configured}\n[install]\nindex-url = {configured}\n"
    Path(scrubbed["PIP_CONFIG_FILE"]).write_text(text, encoding="utf-8")
    index = discover_pip_index(OWN, scrubbed, executable=sys.executable)
    assert index is not None
    assert index.index_url.startswith("https://")
