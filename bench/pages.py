"""Whether a server's page says what the upstream's says: the same files, with the same digests, under the same paths."""

from __future__ import annotations

import json
import re
from html import unescape
from urllib.parse import urljoin, urlsplit

from bench.client import Address, fetch
from bench.processes import ServerError

_HREF = re.compile(r'<a [^>]*?href="([^"]*)"')


def links_in(page_path: str, body: bytes, content_type: str) -> list[tuple[str, str]]:
    """The path and SHA-256 of each file of a page, in its order."""
    if "json" in content_type:
        files = json.loads(body)["files"]
        pairs = [(each["url"], each["hashes"].get("sha256", "")) for each in files]
    else:
        found = (unescape(href).partition("#sha256=") for href in _HREF.findall(body.decode()))
        pairs = [(href, digest.partition("&")[0]) for href, _, digest in found]
    return [(urlsplit(urljoin(f"http://bench{page_path}", href)).path, digest) for href, digest in pairs]


def check_page(address: Address, path: str, expected: bytes, accept: str = "text/html") -> int:
    """Compare a page with the upstream's; how many bytes it has here.

    Args:
        address: of the server.
        path: of the page there.
        expected: the page as the upstream has it at the same path.
        accept: what is asked for.

    Raises:
        ServerError: it is not there, or leads to other files.
    """
    got = fetch(address, path, {"Accept": accept})
    kind = got.fields.get("content-type", "")
    if got.status != 200 or links_in(path, got.body, kind) != links_in(path, expected, accept):
        raise ServerError(f"{path}: {got.status}, {kind}: not the links that the upstream's page has")
    if fetch(address, path, {"Accept": accept}).body != got.body:
        raise ServerError(f"{path}: not the same twice")
    return len(got.body)
