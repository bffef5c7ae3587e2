"""Which proxy a host is reached through, as the variables of curl, requests and pip say."""

from __future__ import annotations

from base64 import b64encode

import pytest

from pipcache.rules.errors import ConfigError
from pipcache.rules.proxies import Proxies, ProxyAddress

PROXY = ProxyAddress("proxy.example", 3128)
OTHER = ProxyAddress("other.example", 80)


@pytest.mark.parametrize(
    ("environ", "http", "https"),
    [
        ({}, None, None),
        ({"HTTP_PROXY": "http://proxy.example:3128"}, PROXY, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, None, PROXY),
        ({"ALL_PROXY": "http://proxy.example:3128"}, PROXY, PROXY),
        ({"ALL_PROXY": "http://proxy.example:3128", "https_proxy": "http://other.example"}, PROXY, OTHER),
        ({"http_proxy": "http://other.example", "HTTP_PROXY": "http://proxy.example:3128"}, OTHER, None),
        ({"http_proxy": "", "HTTP_PROXY": "http://proxy.example:3128"}, None, None),
        ({"HTTP_PROXY": " proxy.example:3128 "}, PROXY, None),
        ({"HTTP_PROXY": "HTTP://Proxy.Example:3128/"}, PROXY, None),
        ({"ALL_PROXY": "socks5://h:1", "HTTP_PROXY": "proxy.example:3128", "HTTPS_PROXY": ""}, PROXY, None),
    ],
)
def test_each_scheme_has_its_variable(
    environ: dict[str, str], http: ProxyAddress | None, https: ProxyAddress | None
) -> None:
    """Lower case wins, empty means none, the scheme's own variable wins over that for all."""
    proxies = Proxies.from_environment(environ)
    assert proxies.to("http", "one.example", 80) == http
    assert proxies.to("https", "one.example", 443) == https


@pytest.mark.parametrize(
    ("exceptions", "direct", "proxied"),
    [
        ("", [], ["one.example", "localhost", "127.0.0.1", "::1"]),
        ("*", ["one.example", "127.0.0.1", "::1"], []),
        ("one.example", ["one.example", "a.one.example", "ONE.example", "one.example."], ["bone.example", "example"]),
        (".one.example", ["one.example", "a.b.one.example"], ["bone.example"]),
        ("*.one.example", ["a.one.example"], ["two.example"]),
        ("a.example, b.example c.example,,", ["a.example", "b.example", "c.example"], ["d.example"]),
        ("LOCALHOST,127.0.0.1", ["localhost", "127.0.0.1"], ["127.0.0.2"]),
        ("one.example:8080", ["one.example:8080", "a.one.example:8080"], ["one.example", "one.example:80"]),
        ("127.0.0.1:8080", ["127.0.0.1:8080"], ["127.0.0.1"]),
        ("10.0.0.0/8,192.168.1.1/24", ["10.1.2.3", "192.168.1.77"], ["11.0.0.1", "10.example", "192.168.2.1"]),
        ("::1", ["::1", "0:0:0:0:0:0:0:1"], ["::2"]),
        ("[::1]:8080", ["[::1]:8080"], ["::1"]),
        ("[::1]", ["::1", "[::1]:8080"], ["::2"]),
        ("fd00::/8", ["fd12::1"], ["fe80::1", "10.0.0.1"]),
        ("10.0.0.0/99,/,.,:,[,*.", [], ["10.0.0.1", "one.example"]),
        ("1.example", [], ["0.0.0.1", "10.0.0.1"]),
        ("0.0.1", [], ["10.0.0.1"]),
    ],
)
def test_exceptions(exceptions: str, direct: list[str], proxied: list[str]) -> None:
    """Domains with all under them, addresses, networks, ports, everything; what makes no sense excepts nothing."""
    proxies = Proxies.from_environment({"HTTP_PROXY": "proxy.example:3128", "NO_PROXY": exceptions})
    for hosts, expected in ((direct, None), (proxied, PROXY)):
        for text in hosts:
            host, port = text, 443
            if text.count(":") == 1 or text.startswith("["):
                host, _, digits = text.rpartition(":")
                host, port = host.strip("[]"), int(digits)
            assert proxies.to("http", host, port) == expected, text


def test_a_lower_case_exception_wins() -> None:
    """As with the proxies themselves."""
    environ = {"HTTP_PROXY": "proxy.example:3128", "NO_PROXY": "*", "no_proxy": "a.example"}
    proxies = Proxies.from_environment(environ)
    assert (proxies.to("http", "a.example", 80), proxies.to("http", "b.example", 80)) == (None, PROXY)


@pytest.mark.parametrize(
    ("userinfo", "pair"),
    [("ali:open%20sesame", b"ali:open sesame"), ("ali:open sesame", b"ali:open sesame"), ("t", b"t:")],
)
def test_credentials_of_a_proxy(userinfo: str, pair: bytes) -> None:
    """They become the field that the proxy gets, and are not in what Python shows."""
    proxy = ProxyAddress.of(f"http://{userinfo}@proxy.example", "X")
    assert proxy == ProxyAddress("proxy.example", 80, "Basic " + b64encode(pair).decode())
    assert "Basic" not in repr(proxy)


@pytest.mark.parametrize(
    "url",
    [
        "socks5://me:hush@h:1",
        "https://me:hush@h:1",
        "http://:1",
        "http://x:y",
        "http://x:0",
        "http://x:99999",
        "http://[x",
        "http://me:hush/hush@h:1",
        "http://me:80#hush@h:1",
        "http://h/path",
        "http://a b",
        "http://h\r\nX: y",
    ],
)
@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_what_is_no_address_of_a_proxy_is_refused(name: str, url: str) -> None:
    """One line that names the variable and shows no password."""
    with pytest.raises(ConfigError) as caught:
        Proxies.from_environment({name: url})
    message = str(caught.value)
    assert message.startswith(f"{name}: '")
    assert "is not a proxy's address; allowed: http://host:port" in message
    assert "hush" not in message
    assert "\n" not in message
