"""Where files are in this proxy, and that every link leads there."""

from __future__ import annotations

from hashlib import sha256
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipcache.rules.paths import canonical_path
from pipcache.simple.model import DistributionFile, ProjectPage
from pipcache.simple.rewrite import files_by_path, local_path, relative_href

ROOT = "https://mirror.example.org/pypi"


def elsewhere(url: str, filename: str) -> str:
    """The path of a file that is not under `/packages/`."""
    return f"/-/files/foo/{sha256(url.encode()).hexdigest()[:16]}/{filename}"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://mirror.example.org/pypi/packages/aa/bb/a-1.whl", "/packages/aa/bb/a-1.whl"),
        ("http://mirror.example.org/pypi/packages/a-1.whl", "/packages/a-1.whl"),
        ("https://MIRROR.example.org:443/pypi/packages/a-1.whl", "/packages/a-1.whl"),
        ("https://mirror.example.org/packages/a-1.whl", "/packages/a-1.whl"),
        ("https://files.example.org/packages/a-1.whl", "/packages/a-1.whl"),
        ("http://files.example.org:8080/packages/a-1.whl#sha256=0", "/packages/a-1.whl"),
        ("https://files.example.org/packages/a-1.whl?token=secret", "/packages/a-1.whl"),
        ("https://files.example.org/packages/a-1%2bcpu.whl", "/packages/a-1+cpu.whl"),
        ("https://files.example.org/packages/a%20b-1.whl", "/packages/a%20b-1.whl"),
        ("https://files.example.org/%70ackages/a-1.whl", "/packages/a-1.whl"),
        ("https://mirror.example.org/%70ypi/packages/a-1.whl", "/packages/a-1.whl"),
    ],
)
def test_a_path_of_packages_is_kept(url: str, path: str) -> None:
    """Below the upstream's root on its host, whatever the scheme; elsewhere as it is; never a query."""
    assert local_path(url, "foo", ROOT) == path


@pytest.mark.parametrize(
    ("url", "filename"),
    [
        ("https://files.example.org/root/a-1.whl", "a-1.whl"),
        ("https://files.example.org/pypi/packages/a-1.whl", "a-1.whl"),
        ("https://mirror.example.org:8443/pypi/packages/a-1.whl", "a-1.whl"),
        ("https://mirror.example.org/pypipackages/packages/a-1.whl", "a-1.whl"),
        ("https://mirror.example.org/pypi/pypi/packages/a-1.whl", "a-1.whl"),
        ("https://files.example.org/Packages/a-1.whl", "a-1.whl"),
        ("https://files.example.org/root/a-1.whl?v=1", "a-1.whl"),
        ("https://files.example.org/root/a-1%2Bcpu%20x.whl", "a-1+cpu%20x.whl"),
        ("https://files.example.org/packages/../x/a-1.whl", "a-1.whl"),
        ("https://files.example.org/packages/%2e%2E/a-1.whl", "a-1.whl"),
        ("https://files.example.org/packages//a-1.whl", "a-1.whl"),
        ("https://files.example.org/packages/x%2Fy/a-1.whl", "a-1.whl"),
        ("https://files.example.org/packages/x%5Cy/a-1.whl", "a-1.whl"),
        ("https://files.example.org/packages/%00/a-1.whl", "a-1.whl"),
        ("https://files.example.org/packages/%ff/a-1.whl", "a-1.whl"),
        ("https://files.example.org/packages/100%/a-1.whl", "a-1.whl"),
        ("https://files.example.org/packages/a%ff-1.whl", "a%EF%BF%BD-1.whl"),
        ("https://files.example.org/packages/a%-1.whl", "a%25-1.whl"),
    ],
)
def test_any_other_path_is_named_by_its_url(url: str, filename: str) -> None:
    """Other paths, and those with two readings, go by the digest of their URL and the file's name."""
    assert local_path(url, "foo", ROOT) == elsewhere(url, filename)


@pytest.mark.parametrize(
    "name", ["a%2Fb.whl", "a%5Cb.whl", "a%00.whl", "a%0A.whl", "a%7F.whl", "..", "%2e%2e", ".", ""]
)
def test_a_name_that_no_path_can_carry_is_dropped(name: str) -> None:
    """A slash, a backslash or a control byte inside the file's name, or a dot segment as the name."""
    assert local_path(f"https://files.example.org/packages/{name}", "foo", ROOT) is None


def test_the_fragment_is_no_part_of_the_urls_digest() -> None:
    """One file with two fragments has one path; another query is another file."""
    url = "https://files.example.org/root/a-1.whl"
    assert local_path(f"{url}#sha256=0", "foo", None) == local_path(url, "foo", None)
    assert local_path(f"{url}?v=1", "foo", None) != local_path(url, "foo", None)


@pytest.mark.parametrize("root", [None, "https://mirror.example.org", "https://mirror.example.org/"])
def test_a_root_without_a_path_takes_nothing_off(root: str | None) -> None:
    """An upstream that stands at its host's root, or has no root, leaves paths as they are."""
    assert local_path("https://mirror.example.org/packages/a.whl", "foo", root) == "/packages/a.whl"
    prefixed = "https://mirror.example.org/pypi/packages/a.whl"
    assert local_path(prefixed, "foo", root) == elsewhere(prefixed, "a.whl")


def test_a_root_may_end_in_a_slash_and_have_several_segments() -> None:
    """The root is a folder, however it is written."""
    url = "http://127.0.0.1:8081/a/b%20c/packages/x.whl"
    assert local_path(url, "foo", "http://127.0.0.1:8081/a/b c/") == "/packages/x.whl"
    assert local_path(url, "foo", "http://127.0.0.1:8082/a/b%20c") == elsewhere(url, "x.whl")


@pytest.mark.parametrize("url", ["https://[/packages/a.whl", "https://h:port/packages/a.whl"])
def test_what_is_no_url_has_no_path(url: str) -> None:
    """A URL that cannot be split leads nowhere, and is no error."""
    assert local_path(url, "foo", ROOT) is None


@pytest.mark.parametrize(
    ("target", "page", "href"),
    [
        ("/packages/aa/a.whl", "/simple/foo/", "../../packages/aa/a.whl"),
        ("/-/files/foo/0/a.whl", "/simple/foo/", "../../-/files/foo/0/a.whl"),
        ("/simple/foo/a:b.whl", "/simple/foo/", "./a:b.whl"),
        ("/simple/bar/", "/simple/", "bar/"),
        ("/simple/", "/simple/", "./"),
        ("/x", "/simple/foo/", "../../x"),
        ("/x:y", "/", "./x:y"),
    ],
)
def test_a_reference_climbs_to_what_both_share(target: str, page: str, href: str) -> None:
    """As short as it can be, and never mistaken for a scheme."""
    assert relative_href(target, page) == href


segments = st.text(min_size=1, max_size=8).filter(lambda text: text not in {".", ".."})
names = segments.map(lambda text: "".join(f"%{octet:02x}" for octet in text.encode("utf-8", "replace")) + ".whl")


@given(st.lists(names, min_size=1, max_size=4), st.sampled_from(["packages", "root", "simple"]))
def test_every_link_leads_to_its_path(parts: list[str], first: str) -> None:
    """Who follows the reference comes to the local path, with or without a prefix before the proxy."""
    path = local_path(f"https://files.example.org/{first}/{'/'.join(parts)}", "foo", ROOT)
    assume(path is not None)
    assert path is not None
    assert canonical_path(path) == path
    href = relative_href(path, "/simple/foo/")
    for prefix in ("", "/some/prefix"):
        resolved = urlsplit(urljoin(f"https://proxy.example.org{prefix}/simple/foo/", href))
        assert (resolved.netloc, resolved.path) == ("proxy.example.org", prefix + path)
        assert not resolved.query
        assert not resolved.fragment


@given(st.from_regex(r"[a-z0-9+ ~é_.-]{1,12}\.whl", fullmatch=True))
def test_two_spellings_are_one_path(name: str) -> None:
    """Escaped or not, in upper or in lower case, a path of packages is one path."""
    url = "https://files.example.org/packages/x/"
    octets = name.encode()
    lower, upper = ("".join(f"%{octet:02{case}}" for octet in octets) for case in "xX")
    assert len({local_path(url + spelling, "foo", ROOT) for spelling in (lower, upper, name)}) == 1


def test_the_first_file_of_a_path_has_it() -> None:
    """Two hosts that have a file at one path are one file here; what cannot be named is left out."""
    one = DistributionFile("a.whl", "https://one.example.org/packages/a.whl", "sha256=1")
    two = DistributionFile("a.whl", "https://two.example.org/packages/a.whl", "sha256=2")
    odd = DistributionFile("a/b.whl", "https://one.example.org/packages/a%2Fb.whl")
    other = DistributionFile("b.whl", "https://one.example.org/b.whl")
    assert files_by_path(ProjectPage(files=(one, two, odd, other)), "foo", None) == {
        "/packages/a.whl": one,
        elsewhere(other.url, "b.whl"): other,
    }


kept = st.from_regex(r"/packages/[a-f0-9]{2}/[A-Za-z0-9._+ -]{1,8}\.whl", fullmatch=True)
elsewhere_urls = st.from_regex(
    r"https?://[a-c]\.example\.org/x/[A-Za-z0-9._+-]{1,8}\.whl(\?[a-z]{0,3})?", fullmatch=True
)


@given(st.sets(kept.map("https://files.example.org{}".format) | elsewhere_urls, max_size=6))
def test_rewriting_is_a_bijection(urls: set[str]) -> None:
    """Different files of a page have different paths, each leads back to its file, and ours are rewritten no more."""
    by_path = files_by_path(ProjectPage(files=tuple(DistributionFile("x.whl", url) for url in urls)), "foo", None)
    assert {file.url for file in by_path.values()} == urls
    for path, file in by_path.items():
        assert local_path(file.url, "foo", None) == path
        if path.startswith("/packages/"):
            assert local_path(f"https://proxy.example.org{path}", "foo", None) == path
