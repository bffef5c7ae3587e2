"""Links: what nearly all look like is read the short way, and comes to the same as the long one."""

from __future__ import annotations

from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.paths import canonical_path
from pipcache.simple.links import FileLink, file_link
from pipcache.simple.rewrite import local_path, relative_href

BASES = (
    "https://index.test/simple/flask/",
    "http://127.0.0.1:8080/simple/flask/",
    "http://mirror.test:43211/pypi/web/simple/flask/?a=1#b",
    "https://index.test",
    "https://index.test/simple/a/../flask/index.html",
)
PIECES = st.sampled_from(
    [
        "/",
        "..",
        "../",
        "./",
        ".",
        "packages",
        "aa",
        "a-1.0.whl",
        "a%2B1.zip",
        "a+b.zip",
        ":",
        ";",
        "?",
        "#",
        "%",
        "~",
        "é",
    ]
)


def long_way(href: str, base: str) -> FileLink | None:
    """Where a reference leads, by the standard library alone; for references without blanks and odd hosts."""
    parts = urlsplit(urljoin(base, href))
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return None
    filename = unquote(parts.path.rpartition("/")[2])
    if not filename.endswith((".whl", ".zip")):
        return None
    return FileLink(filename, parts._replace(path=parts.path or "/", fragment="").geturl(), parts.fragment)


@given(pieces=st.lists(PIECES, max_size=8), base=st.sampled_from(BASES))
def test_a_reference_leads_where_the_standard_says(pieces: list[str], base: str) -> None:
    """Whatever a reference is made of, its file, address and fragment are those of RFC 3986."""
    href = "".join(pieces)
    found, expected = file_link(href, base), long_way(href, base)
    if expected is not None and href.isascii():
        assert found == expected
    elif expected is None:
        assert found is None


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("start", ["../../", "../", "/", "../../../../../../"])
def test_the_usual_references_are_read_alike(start: str, base: str) -> None:
    """The forms that indexes write, with a digest behind them, from every kind of page address."""
    href = f"{start}packages/aa/bb/{60 * '0'}/a-1.0-py3-none-any.whl#sha256={64 * '0'}"
    assert file_link(href, base) == long_way(href, base) is not None


@pytest.mark.parametrize("port", ["1", "8080", "43211", "59999", "60000", "65535"])
def test_any_port_may_be_named(port: str) -> None:
    """A file may lie at any port there is."""
    url = f"http://files.test:{port}/packages/a-1.0.whl"
    assert file_link(url, BASES[0]) == FileLink("a-1.0.whl", url, "")


@pytest.mark.parametrize("port", ["65536", "99999", "123456", "x"])
def test_a_port_that_is_none_makes_no_link(port: str) -> None:
    """A URL that nobody could ask is left out."""
    assert file_link(f"http://files.test:{port}/packages/a-1.0.whl", BASES[0]) is None


@given(segments=st.lists(st.text("ab.~-+%2F", min_size=1, max_size=5), min_size=1, max_size=4))
def test_a_path_that_is_kept_is_canonical(segments: list[str]) -> None:
    """However a URL spells it, the path that it is kept under is one that a request is looked up by."""
    path = local_path(f"https://files.test/packages/{'/'.join(segments)}", "flask", None)
    assert path is None or path == canonical_path(path)


@given(
    here=st.lists(st.text("ab:", max_size=2), max_size=3),
    there=st.lists(st.text("ab:", max_size=2), min_size=1, max_size=4),
)
def test_a_relative_reference_leads_back(here: list[str], there: list[str]) -> None:
    """From any page to any path of its server, also where both begin alike."""
    target = "/" + "/".join(there)
    reference = relative_href(target, "/" + "/".join([*here, ""]))
    if all(here) and all(there):
        assert urlsplit(urljoin(f"http://a.test/{''.join(f'{each}/' for each in here)}", reference)).path == target
