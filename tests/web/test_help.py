"""The help page shows how to point installers at the address that it was asked under."""

from __future__ import annotations

import re
import tomllib
from configparser import ConfigParser
from html import unescape

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from pipcache.web.resources import Help


@implementer(ISSLTransport)
class SecureTransport(StringTransport):
    """A transport that is encrypted, as far as it says."""

    negotiatedProtocol = b"http/1.1"

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is delayed here."""


def page(host: str | None, transport: StringTransport | None = None) -> str:
    """The page as a client gets it that sends this Host field; None: an HTTP/1.0 client without one."""
    root = Resource()
    root.putChild(b"", Help())
    channel = Site(root).buildProtocol(None)
    transport = transport or StringTransport()
    channel.makeConnection(transport)
    head = "GET / HTTP/1.0\r\n" if host is None else f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    channel.dataReceived(f"{head}\r\n".encode("latin-1"))
    assert transport.disconnecting
    channel.connectionLost(Failure(ConnectionDone()))
    head, _, body = transport.value().decode().partition("\r\n\r\n")
    assert " 200 " in head.splitlines()[0]
    assert "text/html; charset=utf-8" in head
    assert f"Content-Length: {len(body.encode())}" in head
    return body


def recipes(html: str) -> dict[str, str]:
    """The recipes by their headings, as a browser shows them."""
    found = re.findall(r"<h2>(.*?)</h2>\s*<pre>(.*?)</pre>", html, re.DOTALL)
    return {unescape(heading): unescape(text) for heading, text in found}


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ("localhost:8080", None),
        ("127.0.0.1:8080", None),
        ("pypi.example.org", "pypi.example.org"),
        ("10.0.0.7:80", "10.0.0.7"),
        ("[::1]:8080", None),
        ("[fd00::2]", "[fd00::2]"),
    ],
)
def test_recipes_name_the_address(host, trusted):
    """Every recipe holds `http://<address>/simple/`; pip is told to trust the host, where it does not do so anyway."""
    found = recipes(page(host))
    assert {name.split(",")[0] for name in found} == {"pip", "uv", "Poetry", "PDM"}
    assert all(f"http://{host}/simple/" in text for text in found.values())
    command = found["pip, once"]
    assert "--trusted-host" not in command if trusted is None else f" --trusted-host {trusted} " in command


def test_files_that_are_shown_can_be_pasted():
    """pip.conf is a configuration file of pip's, and what goes into pyproject.toml is TOML."""
    found = recipes(page("pypi.example.org:8080"))
    parser = ConfigParser()
    parser.read_string(found["pip, always (pip.conf)"])
    assert dict(parser["global"]) == {
        "index-url": "http://pypi.example.org:8080/simple/",
        "trusted-host": "pypi.example.org",
    }
    assert tomllib.loads(found["uv, always (pyproject.toml)"]) == {
        "tool": {"uv": {"index": [{"url": "http://pypi.example.org:8080/simple/", "default": True}]}}
    }


def test_without_a_host_the_address_of_the_socket_is_shown():
    """A client of HTTP/1.0 that does not say whom it asked is shown where it has come."""
    transport = StringTransport(hostAddress=IPv4Address("TCP", "192.0.2.7", 8765))
    assert "http://192.0.2.7:8765/simple/" in page(None, transport)


def test_over_tls_the_recipes_are_too():
    """A client that came over TLS is shown https, and nobody need be told to trust that."""
    found = recipes(page("pypi.example.org", SecureTransport()))
    assert all("https://pypi.example.org/simple/" in text for text in found.values())
    assert not any("trusted-host" in text for text in found.values())


def test_a_hostile_host_is_shown_as_text():
    """What a client sends as its Host cannot become markup."""
    html = page('"><script>alert(1)</script>')
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_links_are_relative_and_nothing_is_loaded():
    """The page works behind any prefix and without any other host."""
    html = page("localhost:8080")
    assert re.findall(r'(?:href|src)="([^"]*)"', html) == ["health"]
    assert "url(" not in html
