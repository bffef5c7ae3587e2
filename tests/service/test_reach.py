"""From settings, environment and files to sites: what wins, and what is said at start when something is of no use."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path

import pytest

from pipcache.edges.certificates import Certificates
from pipcache.edges.pip_index import PipIndex
from pipcache.rules.errors import ConfigError
from pipcache.rules.proxies import ProxyAddress
from pipcache.rules.settings import Auth, Upstream, UpstreamSettings
from pipcache.rules.sites import Origin, UpstreamSite
from pipcache.service.reach import Reach
from tests.fakes.tls import self_signed

SECRET = "canary-hush"
HTTP, HTTPS = Origin("http", "files.example", 80), Origin("https", "files.example", 443)
PROXIED = {"HTTP_PROXY": "plain.example:3128", "HTTPS_PROXY": f"http://me:{SECRET}@tls.example"}
NETRC = "machine a.example login me password one\nmachine pip.example login you password two\n"


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory and home, with files of every kind."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("ca.pem", "other.pem", "pip.pem"):
        (tmp_path / name).write_bytes(self_signed().pem)
    (tmp_path / "me.pem").write_bytes(self_signed().identity)
    (tmp_path / "words").write_text(f"{SECRET}\n")
    (tmp_path / "netrc").write_text(NETRC)
    return tmp_path


def site(environ: dict[str, str] | None = None, auth: Auth | None = None, **fields: str) -> UpstreamSite:
    """The site of an only upstream with these settings."""
    upstream = Upstream("a", **{"url": "https://a.example", **fields}, auth=auth or Auth())  # type: ignore[arg-type]
    return Reach(UpstreamSettings(upstream, None, ()), environ or {}, Certificates()).site(upstream)


def pips(
    found: PipIndex, environ: dict[str, str] | None = None, auth: Auth | None = None, **fields: str
) -> UpstreamSite:
    """The site of pip's index, where pip says this."""
    upstream = Upstream("pip", "pip:", **fields, auth=auth or Auth())  # type: ignore[arg-type]
    return Reach(UpstreamSettings(None, None, (upstream,)), environ or {}, Certificates()).site_of_pip(upstream, found)


def basic(pair: str) -> str:
    """The field for a user and a password."""
    return "Basic " + b64encode(pair.encode()).decode()


@pytest.mark.parametrize(
    ("auth", "value"),
    [
        (Auth(), None),
        (Auth("me", "x"), basic("me:x")),
        (Auth("me", ""), basic("me:")),
        (Auth("me", password_env="X"), basic("me:from the variable")),
        (Auth("me", password_file="~/words"), basic(f"me:{SECRET}")),
        (Auth(token="x"), "Bearer x"),
        (Auth(token_env="Y"), "Bearer y"),
        (Auth(token_file="words"), f"Bearer {SECRET}"),
        (Auth(netrc=True), basic("me:one")),
    ],
)
def test_who_we_are(auth: Auth, value: str | None) -> None:
    """Each way comes to the field that the upstream gets; nothing that Python shows has it."""
    found = site({"X": "from the variable", "Y": "y", "NETRC": "netrc"}, auth)
    assert found.authorization == value
    assert value is None or value not in repr(found)
    assert site(url="https://me:x@a.example").authorization == basic("me:x")


def test_netrc_is_read_only_where_it_is_asked_for() -> None:
    """A machine's netrc is for the people who work on it, until a setting says otherwise."""
    assert site({"NETRC": "netrc"}).authorization is None


@pytest.mark.parametrize(
    ("environ", "fields", "expected"),
    [
        ({}, {}, None),
        ({"SSL_CERT_FILE": "ca.pem"}, {}, "ca.pem"),
        ({"SSL_CERT_FILE": "missing", "REQUESTS_CA_BUNDLE": "other.pem"}, {}, "other.pem"),
        ({"SSL_CERT_FILE": "ca.pem", "REQUESTS_CA_BUNDLE": ""}, {}, "ca.pem"),
        ({"REQUESTS_CA_BUNDLE": "other.pem"}, {"ca_file": "ca.pem"}, "ca.pem"),
        ({}, {"ca_file": "~/ca.pem"}, "~/ca.pem"),
    ],
)
def test_whom_we_believe(files: Path, environ: dict[str, str], fields: dict[str, str], expected: str | None) -> None:
    """The upstream's own file, the two variables in the order of pip's libraries, the system."""
    expected = expected and expected.replace("~", str(files))
    assert site(environ, **fields).ca_file == expected
    pip = PipIndex("https://pip.example/simple", cert="pip.pem")
    assert pips(pip, environ, **fields).ca_file == (expected if fields else "pip.pem")


def test_which_certificate_we_show(files: Path) -> None:
    """The upstream's own; `~` is the home."""
    assert site(client_cert="~/me.pem").client_cert == str(files / "me.pem")
    assert site().client_cert is None


def test_which_proxy_we_go_through() -> None:
    """The environment's by the scheme, for every host; pip's own wins for pip's index, wherever that leads."""
    found = site({**PROXIED, "NO_PROXY": "a.example"})
    assert found.proxy_to(HTTP) == ProxyAddress("plain.example", 3128)
    assert found.proxy_to(HTTPS) == ProxyAddress("tls.example", 80, basic(f"me:{SECRET}"))
    assert found.proxy_to(Origin("https", "a.example", 443)) is None
    assert SECRET not in repr(found)
    assert basic(f"me:{SECRET}") not in repr(found)
    index = "https://pip.example/simple"
    assert pips(PipIndex(index), PROXIED).proxy_to(HTTP) == ProxyAddress("plain.example", 3128)
    own = pips(PipIndex(index, proxy="http://own.example"), {**PROXIED, "NO_PROXY": "*"})
    assert own.proxy_to(HTTP) == own.proxy_to(HTTPS) == ProxyAddress("own.example", 80)


def test_pips_index_may_need_a_login() -> None:
    """What the settings say of it wins over the user in pip's address."""
    found = PipIndex("https://ali:baba@pip.example/simple")
    assert pips(found).authorization == basic("ali:baba")
    assert pips(found, auth=Auth(token="x")).authorization == "Bearer x"
    assert pips(found, {"NETRC": "netrc"}, Auth(netrc=True)).authorization == basic("you:two")


@pytest.mark.parametrize(
    ("environ", "fields", "trouble"),
    [
        ({}, {"ca_file": "missing"}, "upstream.primary.ca_file: missing cannot be read (No such file or directory); "),
        ({}, {"ca_file": "words"}, "upstream.primary.ca_file: there is no certificate in words; allowed: a file of"),
        ({}, {"client_cert": "missing"}, "upstream.primary.client_cert: missing cannot be read (No such file or dire"),
        ({}, {"client_cert": "ca.pem"}, "upstream.primary.client_cert: ca.pem holds no certificate with its key; all"),
        ({"REQUESTS_CA_BUNDLE": "missing"}, {}, "REQUESTS_CA_BUNDLE: missing cannot be read (No such file or directo"),
        ({"SSL_CERT_FILE": "words"}, {}, "SSL_CERT_FILE: there is no certificate in words; allowed: a file of certi"),
        ({"HTTPS_PROXY": f"https://me:{SECRET}@h"}, {}, "HTTPS_PROXY: 'https://***@h' is not a proxy's address; all"),
        ({}, {"auth": Auth("me", password_env="X")}, "upstream.primary.auth.password_env: the environment has no var"),
        ({}, {"auth": Auth("me", password_file="none")}, "upstream.primary.auth.password_file: none cannot be read ("),
        ({}, {"auth": Auth(token_env="X")}, "upstream.primary.auth.token_env: the environment has no variable X, or"),
        ({}, {"auth": Auth(token_file="ca.pem")}, "upstream.primary.auth.token_file: ca.pem does not hold a token; "),
        ({"NETRC": "none"}, {"auth": Auth(netrc=True)}, "upstream.primary.auth.netrc: none cannot be read (No such f"),
        (
            {"NETRC": "netrc"},
            {"auth": Auth(netrc=True), "url": "https://b.example"},
            "upstream.primary.auth.netrc: netrc has no entry for b.example; allowed: machine b.example, or default",
        ),
    ],
)
def test_what_is_of_no_use_is_one_line(environ: dict[str, str], fields: dict[str, str], trouble: str) -> None:
    """The line begins with the setting or variable, says the file and what is wanted, and shows no secret."""
    with pytest.raises(ConfigError, match=f"^{re.escape(trouble)}[^\n]*$") as caught:
        site(environ, **fields)  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("found", "auth", "trouble"),
    [
        (
            PipIndex("https://p.example/simple", cert="missing"),
            Auth(),
            "the cert of pip's configuration: missing cannot",
        ),
        (
            PipIndex("https://p.example/simple", proxy="socks5://h"),
            Auth(),
            "the proxy of pip's configuration: 'socks5:",
        ),
        (
            PipIndex("https://p.example/simple"),
            Auth(netrc=True),
            "upstream.more[0].auth.netrc: netrc has no entry for p",
        ),
    ],
)
def test_what_pip_says_may_be_of_no_use(found: PipIndex, auth: Auth, trouble: str) -> None:
    """That is found out when pip has answered, and names pip's configuration or our setting."""
    with pytest.raises(ConfigError, match=f"^{re.escape(trouble)}[^\n]*$"):
        pips(found, {"NETRC": "netrc"}, auth)
