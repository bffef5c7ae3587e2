"""What a request target asks for: the one place where the shape of our URLs is known.

Must not know how a route is answered, nor which upstreams there are. Sources: RFC 9112 section 3.2 (request
target), PEP 503 (the simple API and how names are normalised), PEP 508 (which names there are).

Every target is decoded here, once; whoever works on a ``Route`` need not be afraid of its path. The paths
under ``/simple/``, ``/packages/`` and ``/-/`` have no query (it is ignored, never forwarded, but for the one
that chooses a page's dialect); elsewhere it is part of what is asked for. Every ``location`` is relative, so
that it holds behind a reverse proxy that serves us under a prefix.
"""

from __future__ import annotations

import re
from enum import Enum
from urllib.parse import parse_qsl, quote, unquote

from attrs import frozen
from packaging.utils import canonicalize_name

from pipcache.rules.errors import BadRequest
from pipcache.rules.paths import canonical_path, canonical_query

MAX_TARGET_BYTES = 8192

_FORBIDDEN_BYTE = re.compile(rb"[\x00-\x20\x7f#]")
_WITHOUT_QUERY = ("/simple/", "/packages/", "/-/")
# PEP 508: ^([A-Z0-9]|[A-Z0-9][A-Z0-9._-]*[A-Z0-9])$, ignoring case. Matched on canonical paths, which are
# ASCII.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_UNDER_SIMPLE = re.compile(r"/simple/([^/]+)(/?)")
# The JSON API of PyPI: of a project, and of one of its versions.
_PROJECT_JSON = re.compile(r"/pypi/([^/]+)(?:/[^/]+)?/json")
_LINKED_FILE = re.compile(r"/-/files/([a-z0-9]+(?:-[a-z0-9]+)*)/[0-9a-f]{16}/([^/]+)")


class RouteKind(Enum):
    """What a path is; the value is its name in metrics and logs."""

    HELP = "help"
    FAVICON = "favicon"
    HEALTH = "health"
    PROJECT_LIST = "project_list"
    PROJECT_PAGE = "project_page"
    REDIRECT = "redirect"
    FILE = "file"
    LINKED_FILE = "linked_file"
    PROJECT_JSON = "project_json"
    NOT_FOUND = "not_found"
    OTHER = "other"


_FIXED = {
    "/": RouteKind.HELP,
    "/favicon.ico": RouteKind.FAVICON,
    "/health": RouteKind.HEALTH,
    "/simple/": RouteKind.PROJECT_LIST,
}


@frozen
class Route:
    """What one request target asks for; ``path`` and ``query`` are canonical and safe to forward.

    Attributes:
        kind: what the path is.
        path: the canonical path, percent-encoded, as upstreams are asked for it.
        query: the canonical query; None where there is none or it is ignored.
        project: the normalised project, on project pages, linked files, the JSON API and redirects to a page;
            else None.
        filename: the decoded last segment of a file's path, never empty and without slashes; else None.
        location: where a REDIRECT leads, relative to the request's own path; else None.
        page_format: the media type that a page was asked for in, by ``?format=`` (PEP 691); else None. It is no
            part of what is stored under which key.
    """

    kind: RouteKind
    path: str
    query: str | None = None
    project: str | None = None
    filename: str | None = None
    location: str | None = None
    page_format: str | None = None


def parse_target(target: bytes) -> Route:
    """The route of a request target as it came over the wire.

    Args:
        target: the second word of the request line; only the origin form (``/path?query``) is understood.

    Raises:
        BadRequest: another form (we are a server to our clients, not a forward proxy), longer than 8 KiB, a
            raw space, control byte or ``#`` anywhere, or a path or query that ``canonical_path`` and
            ``canonical_query`` refuse. An ignored query is not looked at further.
    """
    if len(target) > MAX_TARGET_BYTES:
        raise BadRequest(f"the request target is longer than {MAX_TARGET_BYTES} bytes")
    if not target.startswith(b"/"):
        raise BadRequest("the request target must be a path that starts with a slash")
    if _FORBIDDEN_BYTE.search(target):
        # RFC 9112 section 3.2: "No whitespace is allowed in the request-target."
        raise BadRequest("the request target holds a space, a control byte or #")
    try:
        raw_path, mark, raw_query = target.decode("utf-8").partition("?")
    except UnicodeDecodeError as error:
        raise BadRequest("the request target is not valid UTF-8") from error
    path = canonical_path(raw_path)
    if path in ("/simple", "/-") or path.startswith(_WITHOUT_QUERY):
        return _ours(path, _page_format(raw_query))
    query = canonical_query(raw_query) if mark else None
    match = _PROJECT_JSON.fullmatch(path)
    if match is not None and query is None and _NAME.fullmatch(match[1]):
        return Route(RouteKind.PROJECT_JSON, path, project=str(canonicalize_name(match[1])))
    return Route(_FIXED.get(path, RouteKind.OTHER), path, query)


def _page_format(raw_query: str) -> str | None:
    """The value of ``format``, where a page's query has one; whatever else it holds is nothing to us."""
    if not raw_query:
        return None
    return next((value for name, value in parse_qsl(raw_query, keep_blank_values=True) if name == "format"), None)


def _ours(path: str, page_format: str | None) -> Route:
    """The route of a path that has no query but the one that chooses a page's dialect."""
    if path == "/simple":
        return Route(RouteKind.REDIRECT, path, location="simple/" + _as_query(page_format))
    if path == "/simple/":
        return Route(RouteKind.PROJECT_LIST, path, page_format=page_format)
    if path.startswith("/simple/"):
        return _under_simple(path, page_format)
    if path.startswith("/packages/") and not path.endswith("/"):
        return Route(RouteKind.FILE, path, filename=unquote(path.rpartition("/")[2]))
    if match := _LINKED_FILE.fullmatch(path):
        return Route(RouteKind.LINKED_FILE, path, project=match[1], filename=unquote(match[2]))
    return Route(RouteKind.NOT_FOUND, path)


def _as_query(page_format: str | None) -> str:
    return "" if page_format is None else f"?format={quote(page_format, safe='/')}"


def _under_simple(path: str, page_format: str | None) -> Route:
    """A project's page, or the redirect to it.

    PEP 503: "the repository SHOULD redirect the URLs without a / to add a / to the end", and it "MAY redirect
    unnormalized URLs to the canonical normalized URL".
    """
    match = _UNDER_SIMPLE.fullmatch(path)
    if match is None or not _NAME.fullmatch(match[1]):
        return Route(RouteKind.NOT_FOUND, path)
    name, slash = match.groups()
    project = str(canonicalize_name(name))
    if not slash:
        return Route(RouteKind.REDIRECT, path, project=project, location=f"{project}/{_as_query(page_format)}")
    if name != project:
        return Route(RouteKind.REDIRECT, path, project=project, location=f"../{project}/{_as_query(page_format)}")
    return Route(RouteKind.PROJECT_PAGE, path, project=project, page_format=page_format)
