"""The project pages that clients get, written from the model: JSON.

Reading order: PEP 691, then 592, 700, 708, 714, 740 and 792 for the keys.

An attribute that a PEP has a key for becomes that key where its value is one that the PEP allows; any other `data-*` is a
key of its own name, so that it is an attribute again when it gets back to HTML: `data-size` and `data-upload-time`, which
HTML has where an upstream gave them there, are both. What only a document has (its title, the texts of its links, comments,
`rel`, `class`) has no place in JSON.

JSON made from HTML promises what the page holds: version 1.1 demands `versions` and every `size` (PEP 700), so without
these it is 1.0. JSON made from JSON is of upstream's version.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from pipcache.rules.negotiation import Dialect
from pipcache.simple.filenames import version_of
from pipcache.simple.jsontext import Json, dumped
from pipcache.simple.model import DATA_ATTRIBUTE, METADATA_ATTRIBUTES, VERSION_META, DistributionFile, ProjectPage
from pipcache.simple.rewrite import relative_href

# PEP 700: `upload-time` is "a valid ISO 8601 date/time string, in the format yyyy-mm-ddThh:mm:ss.ffffffZ"
_UPLOAD_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z")
_STATUS_KEYS = {"pypi:project-status": "status", "pypi:project-status-reason": "reason"}


def render_project_json(page: ProjectPage, project: str, files: Mapping[str, DistributionFile]) -> bytes:
    """A project's page in JSON, whose links lead through this proxy; as ``render_html.render_project_html``.

    PEP 691: "the url ... may be absolute or relative"; ours are relative, so that they hold behind any prefix.
    """
    here = f"/simple/{project}/"
    meta, facts = from_metas(page.metas)
    if page.last_serial is not None:
        meta["_last-serial"] = page.last_serial
    versions: Sequence[str] | None = page.versions
    if page.dialect is Dialect.HTML:
        versions = _versions(files.values())
        meta["api-version"] = "1.0" if versions is None else "1.1"
    document: dict[str, Json] = {"meta": meta | page.meta_extras, "name": project}
    if versions is not None:
        document["versions"] = list(versions)
    document |= facts | page.extras
    document["files"] = [_entry(relative_href(path, here), file) for path, file in files.items()]
    return dumped(document).encode("ascii")


def from_metas(metas: Iterable[tuple[str, str]]) -> tuple[dict[str, Json], dict[str, Json]]:
    """What meta elements say: the keys of `meta`, and those beside it."""
    meta: dict[str, Json] = {"api-version": "1.0"}
    locations: list[str] = []
    status: dict[str, Json] = {}
    for name, content in metas:
        lowered = name.lower()
        if lowered == VERSION_META:
            meta["api-version"] = content.strip()
        elif lowered == "pypi:tracks":
            meta.setdefault("tracks", []).append(content)
        elif lowered == "pypi:alternate-locations":
            locations.append(content)
        elif lowered in _STATUS_KEYS:
            status.setdefault(_STATUS_KEYS[lowered], content)
        else:
            meta.setdefault(name, []).append(content)
    facts: dict[str, Json] = {}
    if locations:
        facts["alternate-locations"] = locations
    if status:
        # PEP 792: without a status a project is active
        facts["project-status"] = {"status": "active"} | status
    return meta, facts


def _versions(files: Iterable[DistributionFile]) -> list[str] | None:
    """The versions that the names of the files say; None where one says none, or its size is unknown, or none is there."""
    versions: dict[str, None] = {}
    for file in files:
        version = version_of(file.filename)
        if version is None or file.size is None:
            return None
        versions[version] = None
    return list(versions) or None


def _entry(href: str, file: DistributionFile) -> dict[str, Json]:
    entry: dict[str, Json] = {"filename": file.filename, "url": href, "hashes": file.hashes}
    has_metadata = False
    for name, value in file.attributes:
        if name in METADATA_ATTRIBUTES:
            has_metadata = True
        elif name == "data-requires-python" and value is not None:
            entry["requires-python"] = value
        elif name == "data-yanked":
            entry["yanked"] = value or True
        elif name == "data-provenance" and value:
            entry["provenance"] = value
        elif name == "data-gpg-sig" and value in {"true", "false"}:
            entry["gpg-sig"] = value == "true"
        elif DATA_ATTRIBUTE.fullmatch(name):
            entry[name] = value
            if name == "data-size" and (size := file.size) is not None:
                entry["size"] = size
            elif name == "data-upload-time" and value and _UPLOAD_TIME.fullmatch(value):
                entry["upload-time"] = value
    if has_metadata and (hashes := file.metadata_hashes) is not None:
        # the first for today's installers, the second for older ones; `dist-info-metadata` makes pip 22.3 fail
        entry["core-metadata"] = entry["data-dist-info-metadata"] = hashes or True
    return entry | file.extras if file.extras else entry
