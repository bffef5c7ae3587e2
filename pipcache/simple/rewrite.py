"""Where a file that upstream has at one URL is in this proxy, and how its page links to it.

Two forms. A path under `/packages/` is kept as the origin has it, so that a lock file written behind this
proxy holds everywhere and each upstream can be asked for it. Any other URL becomes `/-/files/<project>/<16
hex>/<filename>`, where the digits come from the URL: the page of the project leads back from there to the
file, also after a restart. Links are relative, so they hold behind a reverse proxy that puts a prefix before
them. A query is never part of a local path, because installers append `.metadata` to the URL that they were
given (PEP 658).

A local path is always a canonical one (`rules.paths`): what a page links to is what a request is looked up
by.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256
from urllib.parse import SplitResult, quote, unquote, urlsplit

from pipcache.rules.errors import BadRequest
from pipcache.rules.paths import canonical_path
from pipcache.simple.model import DistributionFile, ProjectPage

_KEPT = "/packages/"
# What nearly every file's URL looks like: under its host's root, and its path is canonical.
_PLAIN_SEGMENT = r"[A-Za-z0-9\-_~!+][A-Za-z0-9\-._~!+]*+"
_PLAIN_KEPT = re.compile(rf"https?://[A-Za-z0-9.\-]++(?::[0-9]++)?(/packages/(?:{_PLAIN_SEGMENT}/)*+{_PLAIN_SEGMENT})")
_UNFIT_FOR_FILENAME = re.compile(r"[\x00-\x1f\x7f/\\]")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def local_path(url: str, project: str, upstream_root: str | None) -> str | None:
    """The path under which this proxy serves the file that a page links to.

    Args:
        url: the link's absolute URL; a fragment is ignored, the query only tells URLs apart.
        project: the normalised name of the page's project.
        upstream_root: scheme, host and path prefix of the upstream that sent the page
        (`https://mirror.test/pypi`);
            None where it has none.

    Returns:
        A canonical path that begins with `/packages/` or `/-/files/`; None where the URL names no file that a
        path of ours could name.
    """
    plain = _PLAIN_KEPT.fullmatch(url)
    if plain is not None and (upstream_root is None or not _root(upstream_root)[1]):
        return plain[1]
    url = url.partition("#")[0]
    try:
        parts = urlsplit(url)
        kept = _kept_path(parts, upstream_root)
    except ValueError:
        return None
    if kept is not None:
        return kept
    filename = unquote(parts.path.rpartition("/")[2])
    if filename in {"", ".", ".."} or _UNFIT_FOR_FILENAME.search(filename):
        return None
    digits = sha256(url.encode("utf-8", errors="surrogatepass")).hexdigest()[:16]
    return f"/-/files/{project}/{digits}/{canonical_path(quote(filename, safe=''))}"


def _kept_path(parts: SplitResult, upstream_root: str | None) -> str | None:
    """The link's path as it stands below the upstream's root, where that is a path of `/packages/`."""
    try:
        path = canonical_path(parts.path)
        if upstream_root is not None:
            host, prefix = _root(upstream_root)
            if prefix and _host(parts) == host:
                path = path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path
    except BadRequest:
        return None
    return path if path.startswith(_KEPT) and "//" not in path and not path.endswith("/") else None


@lru_cache(16)
def _root(upstream_root: str) -> tuple[tuple[str | None, int | None], str]:
    """The host of an upstream's root, and its path without a slash at the end."""
    root = urlsplit(upstream_root)
    return _host(root), canonical_path(root.path).rstrip("/")


def _host(parts: SplitResult) -> tuple[str | None, int | None]:
    """The host, and the port where it is not its scheme's own: http and https of a host are one upstream."""
    port = parts.port
    return parts.hostname, None if port == _DEFAULT_PORTS.get(parts.scheme) else port


def relative_href(target: str, page_path: str) -> str:
    """The relative reference from a page to a path of its server, whatever prefix both stand behind.

    Args:
        target: an absolute path in canonical spelling.
        page_path: the absolute path of the page; what follows its last slash does not matter.
    """
    first, way_up = _root_from(page_path)
    if first and not target.startswith(first):
        return way_up + target[1:]
    here = page_path.split("/")[1:-1]
    there = target.split("/")[1:]
    shared = 0
    while shared < min(len(here), len(there) - 1) and here[shared] == there[shared]:
        shared += 1
    reference = "../" * (len(here) - shared) + "/".join(there[shared:])
    # RFC 3986, section 4.2: a first segment with a colon "would be mistaken for a scheme name"; an empty one
    # for a root.
    first = reference.partition("/")[0]
    return f"./{reference}" if not first or ":" in first else reference


@lru_cache(16)
def _root_from(page_path: str) -> tuple[str, str]:
    """The first folder that a page lies in, empty where it lies in none, and the way from the page to the root."""
    here = page_path.split("/")[1:-1]
    return f"/{here[0]}/" if here else "", "../" * len(here)


def files_by_path(page: ProjectPage, project: str, upstream_root: str | None) -> dict[str, DistributionFile]:
    """The files of a page by local path, in the page's order; the first that claims a path has it.

    Args:
        page: what the upstream said.
        project: the normalised name of the page's project.
        upstream_root: as for `local_path`.
    """
    files: dict[str, DistributionFile] = {}
    for file in page.files:
        path = local_path(file.url, project, upstream_root)
        if path is not None:
            files.setdefault(path, file)
    return files
