"""What each request target asks for."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.errors import BadRequest
from pipcache.rules.key import CacheKey
from pipcache.rules.routes import MAX_TARGET_BYTES, Route, RouteKind, parse_target

LINKED = "/-/files/flask/0123456789abcdef/Flask-3.0.tar.gz"


@pytest.mark.parametrize(
    ("target", "route"),
    [
        (b"/", Route(RouteKind.HELP, "/")),
        (b"/favicon.ico", Route(RouteKind.FAVICON, "/favicon.ico")),
        (b"/health", Route(RouteKind.HEALTH, "/health")),
        (b"/health?x=1", Route(RouteKind.HEALTH, "/health", query="x=1")),
        (b"/simple/", Route(RouteKind.PROJECT_LIST, "/simple/")),
        (b"/simple/flask/", Route(RouteKind.PROJECT_PAGE, "/simple/flask/", project="flask")),
        (b"/simple/%66lask/", Route(RouteKind.PROJECT_PAGE, "/simple/flask/", project="flask")),
        (b"/packages/x.whl", Route(RouteKind.FILE, "/packages/x.whl", filename="x.whl")),
        (
            b"/packages/aa/bb/a-1%2Bcpu-py3.whl.metadata",
            Route(
                RouteKind.FILE,
                "/packages/aa/bb/a-1+cpu-py3.whl.metadata",
                filename="a-1+cpu-py3.whl.metadata",
            ),
        ),
        (b"/packages/a%20b.zip", Route(RouteKind.FILE, "/packages/a%20b.zip", filename="a b.zip")),
        (
            LINKED.encode(),
            Route(RouteKind.LINKED_FILE, LINKED, project="flask", filename="Flask-3.0.tar.gz"),
        ),
        (b"/pypi/Foo_Bar/json", Route(RouteKind.PROJECT_JSON, "/pypi/Foo_Bar/json", project="foo-bar")),
        (b"/pypi/flask/3.0/json", Route(RouteKind.PROJECT_JSON, "/pypi/flask/3.0/json", project="flask")),
        (b"/pypi/flask/3.0/json/", Route(RouteKind.OTHER, "/pypi/flask/3.0/json/")),
        (b"/pypi/-flask/json", Route(RouteKind.OTHER, "/pypi/-flask/json")),
        (b"/pypi/flask/json?a=%62&c", Route(RouteKind.OTHER, "/pypi/flask/json", query="a=b&c")),
        (b"/a?", Route(RouteKind.OTHER, "/a", query="")),
        (b"/a?b?c", Route(RouteKind.OTHER, "/a", query="b?c")),
        (b"/a%3Fb", Route(RouteKind.OTHER, "/a%3Fb")),
        (b"/simplex/", Route(RouteKind.OTHER, "/simplex/")),
        (b"/packages", Route(RouteKind.OTHER, "/packages")),
        (b"//simple/flask/", Route(RouteKind.OTHER, "//simple/flask/")),
    ],
)
def test_a_target_is_one_route(target: bytes, route: Route) -> None:
    """Every kind of path, with its canonical form, its project and its filename."""
    assert parse_target(target) == route


@pytest.mark.parametrize(
    ("target", "leads_to"),
    [
        (b"/simple", "/simple/"),
        (b"/simple/flask", "/simple/flask/"),
        (b"/simple/Flask", "/simple/flask/"),
        (b"/simple/Flask/", "/simple/flask/"),
        (b"/simple/zope.interface/", "/simple/zope-interface/"),
        (b"/simple/a__b-.-c", "/simple/a-b-c/"),
        (b"/simple/Flask?x=1", "/simple/flask/"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/team/pypi"])
def test_a_redirect_holds_behind_a_prefix(target: bytes, leads_to: str, prefix: str) -> None:
    """The Location is relative, so a reverse proxy's prefix, which we never see, stays in the address."""
    route = parse_target(target)
    assert route.kind is RouteKind.REDIRECT
    assert route.location is not None
    assert urljoin(f"http://host{prefix}{route.path}", route.location) == f"http://host{prefix}{leads_to}"


@pytest.mark.parametrize(
    ("target", "page_format", "location"),
    [
        (b"/simple/?format=text/html", "text/html", None),
        (
            b"/simple/flask/?a=b&format=application/vnd.pypi.simple.v1%2Bjson",
            "application/vnd.pypi.simple.v1+json",
            None,
        ),
        (b"/simple/flask/?format=&format=text/html", "", None),
        (b"/simple/flask/?formats=text/html", None, None),
        (b"/simple?format=a%20b%0d", "a b\r", "simple/?format=a%20b%0D"),
        (b"/simple/Flask?format=text/html", "text/html", "flask/?format=text/html"),
        (b"/simple/Flask/?format=text/html", "text/html", "../flask/?format=text/html"),
    ],
)
def test_a_pages_format_is_read_and_is_no_part_of_the_key(
    target: bytes, page_format: str | None, location: str | None
) -> None:
    """PEP 691: a client that cannot set Accept may name the media type in the query; a redirect keeps it."""
    route = parse_target(target)
    assert route.location == location
    assert route.page_format == (None if location else page_format)
    assert CacheKey.of(route) == CacheKey.of(parse_target(target.partition(b"?")[0]))


@pytest.mark.parametrize("path", [b"/simple/", b"/simple/flask/", b"/packages/a/x.whl", LINKED.encode()])
@pytest.mark.parametrize("query", [b"?", b"?a=b&formats=c", b"?%zz"])
def test_a_query_is_ignored_where_it_means_nothing(path: bytes, query: bytes) -> None:
    """On pages and files it is no part of what is asked for, whatever it holds."""
    assert parse_target(path + query) == parse_target(path)


@pytest.mark.parametrize(
    "target",
    [
        *(b"/simple//", b"/simple/-/", b"/simple/-a/", b"/simple/a-/", b"/simple/a%20b/", b"/simple/.a"),
        *(b"/simple/%C5%BF/", b"/simple/%E2%84%AA", b"/simple/flask/x", b"/simple/flask/x/", b"/simple/a//"),
        *(b"/packages/", b"/packages/aa/", b"/packages/aa//"),
        *(b"/-", b"/-/", b"/-/files/", b"/-/other", b"/-/files/flask/0123456789abcdef/"),
        b"/-/files/Flask/0123456789abcdef/a.whl",
        b"/-/files/a_b/0123456789abcdef/a.whl",
        b"/-/files/a--b/0123456789abcdef/a.whl",
        b"/-/files/flask/0123456789ABCDEF/a.whl",
        b"/-/files/flask/0123456789abcde/a.whl",
        b"/-/files/flask/0123456789abcdef/a/b.whl",
    ],
)
def test_what_cannot_exist_is_not_found(target: bytes) -> None:
    """No upstream is asked for a name that PEP 508 does not allow, a folder, or a link that we never made."""
    assert parse_target(target).kind is RouteKind.NOT_FOUND


@pytest.mark.parametrize(
    "target",
    [
        *(b"", b"*", b"host:443", b"http://host/simple/", b"simple/"),
        *(b"/a b", b"/a\r\nb", b"/a#b", b"/a?b#c", b"/simple/?a b", b"/simple/?\x00", b"/a\x7f"),
        *(
            b"/\xff",
            b"/simple/?\xff",
            b"/%ff",
            b"/a?%ff",
            b"/%2e%2e/etc",
            b"/packages/../x",
            b"/a%2fb",
            b"/a\\b",
        ),
        b"/" + b"a" * MAX_TARGET_BYTES,
    ],
)
def test_what_no_installer_sends_is_refused(target: bytes) -> None:
    """Other forms of target, oversize ones, and whatever could be read differently by the next server."""
    with pytest.raises(BadRequest):
        parse_target(target)


def test_a_target_of_exactly_8_kib_is_served() -> None:
    """The limit itself is inside."""
    assert parse_target(b"/" + b"a" * (MAX_TARGET_BYTES - 1)).kind is RouteKind.OTHER


@given(st.binary(max_size=60).map(lambda rest: b"/" + rest))
def test_any_target_is_a_route_or_refused(target: bytes) -> None:
    """Nothing raises but BadRequest, and a route's own path is routed to the same place."""
    try:
        route = parse_target(target)
    except BadRequest:
        return
    again = route.path if route.query is None else f"{route.path}?{route.query}"
    assert parse_target(again.encode("ascii")) == route


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True), st.booleans())
def test_every_name_ends_at_its_project_page(name: str, slash: bool) -> None:
    """A redirect is followed at most once: where it leads there is a project page."""
    route = parse_target(f"/simple/{name}{'/' if slash else ''}".encode())
    if route.kind is RouteKind.REDIRECT:
        assert route.location is not None
        route = parse_target(urljoin(route.path, route.location).encode())
    assert route.kind is RouteKind.PROJECT_PAGE
