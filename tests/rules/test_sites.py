"""Where an upstream's things lie, as its addresses say."""

from __future__ import annotations

from base64 import b64encode

import pytest
from attrs import evolve

from pipcache.rules.proxies import ProxyAddress
from pipcache.rules.sites import Origin, UpstreamSite, without_secrets


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://one.example/simple/", Origin("https", "one.example", 443)),
        ("http://one.example", Origin("http", "one.example", 80)),
        ("https://ONE.Example:8443/a?b#c", Origin("https", "one.example", 8443)),
        ("https://user:pass@one.example/", Origin("https", "one.example", 443)),
        ("http://[::1]:3141/root/pypi/", Origin("http", "::1", 3141)),
        ("HTTPS://one.example/", Origin("https", "one.example", 443)),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: Origin) -> None:
    """Case of host and scheme, credentials, path and a port that is its scheme's own make no difference."""
    assert Origin.of(url) == origin


@pytest.mark.parametrize(
    "url",
    ["", "/simple/", "one.example", "ftp://one.example/", "file:///etc", "https://", "http://one:port/", "http://[::1"],
)
def test_what_has_no_origin_is_refused(url: str) -> None:
    """Anything but an absolute http or https URL with a host and a possible port."""
    with pytest.raises(ValueError, match=r"."):
        Origin.of(url)


@pytest.mark.parametrize(
    ("url", "prefix", "root"),
    [
        ("https://one.example", "", "https://one.example"),
        ("https://one.example/", "", "https://one.example"),
        ("https://one.example", "/pypi", "https://one.example/pypi"),
        ("https://one.example/", "/pypi/", "https://one.example/pypi"),
        ("http://one.example:8080", "/a/b", "http://one.example:8080/a/b"),
    ],
)
def test_an_upstream_of_root_and_prefix(url: str, prefix: str, root: str) -> None:
    """Pages lie under its ``/simple/``, everything else under the root, slashes at the end or not."""
    site = UpstreamSite.from_root("one", url, prefix)
    assert (site.root, site.index_url, site.authorization) == (root, f"{root}/simple/", None)
    assert site.page_url("/simple/") == f"{root}/simple/"
    assert site.page_url("/simple/a-b/") == f"{root}/simple/a-b/"
    assert site.url("/packages/aa/a%2B1.whl") == f"{root}/packages/aa/a%2B1.whl"
    assert site.url("/pypi/a/json", "x=1") == f"{root}/pypi/a/json?x=1"
    assert site.url("/pypi/a/json", "") == f"{root}/pypi/a/json"


@pytest.mark.parametrize(
    ("url", "index_url", "root"),
    [
        ("https://one.example/simple", "https://one.example/simple/", "https://one.example"),
        ("https://one.example/simple/", "https://one.example/simple/", "https://one.example"),
        ("https://one.example/pypi/simple/", "https://one.example/pypi/simple/", "https://one.example/pypi"),
        ("https://one.example/root/pypi/+simple/", "https://one.example/root/pypi/+simple/", None),
        ("https://one.example/api/pypi/team/", "https://one.example/api/pypi/team/", None),
        ("https://one.example/notsimple", "https://one.example/notsimple/", None),
        ("https://one.example", "https://one.example/", None),
        ("http://simple/", "http://simple/", None),
        ("http://simple", "http://simple/", None),
        ("http://simple/simple/", "http://simple/simple/", "http://simple"),
        ("http://simple:8080/", "http://simple:8080/", None),
    ],
)
def test_an_upstream_of_an_index(url: str, index_url: str, root: str | None) -> None:
    """Only an index whose path ends in ``simple`` has a root; a host of that name is no path."""
    site = UpstreamSite.from_index("one", url)
    assert (site.index_url, site.root) == (index_url, root)
    assert site.page_url("/simple/") == index_url
    assert site.page_url("/simple/a/") == f"{index_url}a/"
    assert site.url("/packages/a.whl") == (None if root is None else f"{root}/packages/a.whl")


def test_credentials_are_taken_out_of_addresses() -> None:
    """They become the field that is sent, and are in no URL that the site gives, nor in what Python shows of it."""
    for site in (
        UpstreamSite.from_root("one", "https://user:p%40ss@one.example/", "/pypi"),
        UpstreamSite.from_index("one", "https://user:p%40ss@one.example/pypi/simple/"),
    ):
        assert site.authorization == "Basic " + b64encode(b"user:p@ss").decode()
        assert site.authorization not in repr(site)
        assert site.index_url == "https://one.example/pypi/simple/"
        assert site.root == "https://one.example/pypi"
        assert site.origin == Origin("https", "one.example", 443)


def test_what_pip_is_set_up_with_is_kept() -> None:
    """The certificates and the proxy of pip's own index."""
    site = UpstreamSite.from_index("pip", "https://one.example/simple/", "/etc/ca.pem", "http://proxy:3128")
    assert (site.ca_file, site.proxy_to(Origin("http", "h", 80))) == ("/etc/ca.pem", ProxyAddress("proxy", 3128))


@pytest.mark.parametrize(
    ("url", "has"),
    [
        ("https://one.example/packages/a.whl", True),
        ("https://one.example:443/", True),
        ("http://one.example/packages/a.whl", False),
        ("https://one.example:8443/", False),
        ("https://files.one.example/", False),
        ("https://one.example.evil.example/", False),
        ("https://one.example@evil.example/", False),
        ("/packages/a.whl", False),
        ("https://one.example:port/", False),
    ],
)
def test_whether_a_url_is_on_the_upstream(url: str, has: bool) -> None:
    """The same scheme, host and port; anything that is no URL is not."""
    assert UpstreamSite.from_root("one", "https://one.example").has(url) is has


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://user:pass@one.example/a?token=x#y", "https://one.example/a"),
        ("https://a@b@one.example:8443/a", "https://one.example:8443/a"),
        ("https://one.example/a@b", "https://one.example/a@b"),
    ],
)
def test_what_is_stored_and_logged_has_no_secrets(url: str, clean: str) -> None:
    """No user, password, query or fragment."""
    assert without_secrets(url) == clean


@pytest.mark.parametrize(
    ("url", "is_listed"),
    [
        ("https://files.example/a", True),
        ("http://files.example", True),
        ("http://files.example:443/", False),
        ("https://files.example:8443/", False),
        ("http://corp.example:8080/", True),
        ("http://corp.example/", False),
        ("https://sub.files.example/", False),
        ("http://[fd00::1]:81/", True),
        ("http://[fd00::1]/", False),
        ("https://[fd00::2]/", True),
    ],
)
def test_a_listed_host_is_one_place(url: str, is_listed: bool) -> None:
    """With a port it is that one, without one that of the scheme; names below it are others."""
    listed = ("files.example", "corp.example:8080", "[fd00::1]:81", "[fd00::2]")
    site = evolve(UpstreamSite.from_root("one", "https://one.example"), redirect_hosts=listed)
    assert site.lists(Origin.of(url)) is is_listed
