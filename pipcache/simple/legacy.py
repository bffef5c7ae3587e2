"""The older JSON documents of a project, `/pypi/<project>/json` and `/pypi/<project>/<version>/json`, with links of ours.

No PEP describes them; they are a warehouse's own. So nothing in them is understood but `urls` and `releases`: lists of
objects, and an object of such lists, each with a `url`. Everything else keeps its meaning.

The links are relative to the document, as those of pages are, though upstream's are absolute. An absolute one would need
the name by which this client reaches the proxy, and what is kept must not depend on who asked first. One that begins at
the root would lose the prefix that a reverse proxy puts before it. A client that joins a link with the document's URL
gets both right.
"""

from __future__ import annotations

from pipcache.simple.jsontext import Json, dumped, loaded_object
from pipcache.simple.links import file_link
from pipcache.simple.rewrite import local_path, relative_href


def form_legacy_json(content: bytes, url: str, path: str, project: str, upstream_root: str | None) -> bytes:
    """The document as clients get it.

    Args:
        content: as upstream sent it, after content-decoding.
        url: where it was found, which its links are relative to.
        path: ours of it, canonical.
        project: normalised.
        upstream_root: of the upstream that sent it, see ``rewrite.local_path``.

    Returns:
        The document in UTF-8; links that lead to no distribution file over http(s) as they were.

    Raises:
        MalformedResponse: it is no JSON object.
    """
    document = loaded_object(content)
    releases = document.get("releases")
    lists = [document.get("urls"), *(releases.values() if isinstance(releases, dict) else ())]
    for entry in (entry for entries in lists if isinstance(entries, list) for entry in entries):
        local = _local(entry, url, project, upstream_root)
        if local is not None:
            entry["url"] = relative_href(local, path)
    return dumped(document).encode("ascii")


def _local(entry: Json, url: str, project: str, upstream_root: str | None) -> str | None:
    """Our path of the file of an entry; None where it names none."""
    if not isinstance(entry, dict) or not isinstance(entry.get("url"), str):
        return None
    link = file_link(entry["url"], url)
    return local_path(link.url, project, upstream_root) if link else None
