"""A project page in JSON, read into the model.

Reading order: PEP 691, then 700, 708, 714, 740 and 792 for the keys. `null` says the same as a key that is absent.

An entry of a file that is of a wrong type is left out, as one bad entry must not cost a project its page; a page that
is of a wrong type is none. PEP 691 lets `filename` and the URL differ. Installers read one or the other, so the name is
that of the URL, which is what they would get.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

from pipcache.rules.errors import MalformedResponse
from pipcache.rules.negotiation import Dialect
from pipcache.simple.digests import hashes_in, preferred
from pipcache.simple.jsontext import Json, loaded_object
from pipcache.simple.links import file_link, start_of_links
from pipcache.simple.model import (
    DATA_ATTRIBUTE,
    MAX_FILES,
    METADATA_ATTRIBUTES,
    VERSION_META,
    DistributionFile,
    ProjectPage,
    check_api_version,
    too_many_files,
)

METADATA_KEYS = ("core-metadata", "dist-info-metadata", "data-dist-info-metadata")
"""PEP 714's name, PEP 691's, and one that indexes serve because installers once asked for it; the first rules."""

MAX_SIZE = 10**18

MAX_VALUES = 32 * MAX_FILES
"""How many values a page may hold, counted before it is read by what must stand before each: some 20 a file are usual. A
page of 64 MiB has room for 22 million, which took 1.7 GB."""

# Keys that nobody knows, whose namesakes in HTML would say something that the page does not say.
_NOT_MEANT: Final = frozenset({"data-yanked", "data-core-metadata"})
_META_PREFIX = "pypi:"
_BEFORE_VALUES = (b",", b"[", b"{")


_SHA256 = re.compile(r"[0-9a-f]{64}")


class _UnfitEntry(Exception):
    """A file's entry that is of a wrong type."""


def parse_json_page(body: bytes, url: str) -> ProjectPage:
    """The project page that a JSON body is; as ``parse_html.parse_html_page``."""
    if sum(map(body.count, _BEFORE_VALUES)) > MAX_VALUES:
        raise too_many_files()
    page = loaded_object(body)
    entries = page.pop("files", None)
    if not isinstance(entries, list):
        raise MalformedResponse("the answer is no simple page: it is JSON without a list of files")
    if len(entries) > MAX_FILES:
        raise too_many_files()
    metas, serial, meta_extras = read_meta(page.pop("meta", None))
    _expect(page.pop("name", None), str, "name")
    versions = _strings(page.pop("versions", None), "versions")
    extras: dict[str, Json] = {}
    for key, value in page.items():
        if key == "alternate-locations" and (locations := _strings(value, key)):
            metas += [("pypi:alternate-locations", location) for location in locations]
        elif key == "project-status" and value is not None:
            extras |= _read_status(value, metas)
        else:
            extras[key] = value
    start = start_of_links(url, None)
    files = (_file(entry, start) for entry in entries)
    return ProjectPage(
        metas=tuple(metas),
        comments=() if serial is None else (f"SERIAL {serial}",),
        files=tuple(file for file in files if file is not None),
        dialect=Dialect.JSON,
        versions=None if versions is None else tuple(versions),
        extras=extras,
        meta_extras=meta_extras,
    )


def read_meta(meta: Json) -> tuple[list[tuple[str, str]], int | None, dict[str, Json]]:
    """What the object `meta` says: as meta elements, the serial of the index, and what is neither.

    Raises:
        MalformedResponse: it is no object, or names a version that is not known here.
    """
    metas: list[tuple[str, str]] = []
    serial = None
    extras: dict[str, Json] = {}
    for key, value in (_expect(meta, dict, "meta") or {}).items():
        if key == "api-version":
            if _expect(value, str, "meta.api-version") is not None:
                check_api_version(value)
                metas.append((VERSION_META, value))
        elif key == "tracks" and (tracks := _strings(value, "meta.tracks")):
            metas += [("pypi:tracks", track) for track in tracks]
        elif key == "_last-serial" and _is_serial(value):
            serial = value
        elif key.startswith(_META_PREFIX) and key == key.strip() and _is_strings(value) and value:
            metas += [(key, each) for each in value]
        else:
            extras[key] = value
    return metas, serial, extras


def _read_status(status: Json, metas: list[tuple[str, str]]) -> dict[str, Json]:
    """PEP 792: an object of a status and perhaps a reason; kept whole where there is more in it."""
    _expect(status, dict, "project-status")
    for key, name in (("status", "pypi:project-status"), ("reason", "pypi:project-status-reason")):
        value = _expect(status.get(key), str, f"project-status.{key}")
        if value is not None:
            metas.append((name, value))
    is_whole = isinstance(status.get("status"), str) and set(status) <= {"status", "reason"}
    return {} if is_whole else {"project-status": status}


def _file(entry: Json, start: str) -> DistributionFile | None:
    """The file of an entry; None where the entry is unfit, or leads to no distribution file."""
    if not isinstance(entry, dict) or not isinstance(entry.get("url"), str):
        return None
    link = file_link(entry["url"], start)
    if link is None:
        return None
    attributes: dict[str, str | None] = {}
    extras: dict[str, Json] = {}
    fragment = link.fragment
    try:
        text = _name(entry.get("filename"), link.filename)
        for key, value in entry.items():
            known = _KNOWN_KEYS.get(key)
            if known is not None:
                if value is None or known is _READ_APART:
                    pass
                elif isinstance(known, str):
                    attributes[known] = _fit(value, str)
                elif known is _fragment:
                    fragment = _fragment(value, extras) or fragment
                else:
                    attributes.update(known(value))
            elif key in _JSON_ALONE:
                if value is not None:
                    extras[key] = _JSON_ALONE[key](value)
            elif (value is None or isinstance(value, str)) and DATA_ATTRIBUTE.fullmatch(key) and key not in _NOT_MEANT:
                attributes.setdefault(key, value)
            else:
                extras[key] = value
        _read_metadata(entry, attributes, extras)
    except _UnfitEntry:
        return None
    return DistributionFile(link.filename, link.url, fragment, text, tuple(attributes.items()), extras)


def _name(given: Json, filename: str) -> str:
    """The name as the entry writes it where it means the URL's, else that."""
    if given is None or given == filename:
        return filename
    return given if unquote(_fit(given, str)) == filename else filename


def _fragment(hashes: Json, extras: dict[str, Json]) -> str:
    """The digest that HTML has room for: the one that files are checked against, else any that is known."""
    if hashes is None:
        return ""
    digits = _fit(hashes, dict).get("sha256")
    if len(hashes) == 1 and isinstance(digits, str) and _SHA256.fullmatch(digits):  # as nearly all are
        return f"sha256={digits}"
    known = hashes_in("&".join(f"{name}={digits}" for name, digits in _fit_hashes(hashes).items()))
    best = preferred(known)
    name, digits = (best.name, best.hex) if best else next(iter(known.items()), ("", ""))
    if hashes != ({name: digits} if name else {}):
        extras["hashes"] = hashes
    return f"{name}={digits}" if name else ""


def _read_metadata(entry: dict[str, Json], attributes: dict[str, str | None], extras: dict[str, Json]) -> None:
    """PEP 714: one fact under several names; HTML gets it under both that installers look for."""
    offer = None
    for key in METADATA_KEYS:
        offer = entry.get(key)
        if offer is not None:
            break
    if offer is None or offer is False:
        return
    written = "true"
    if offer is not True:
        kept: dict[str, Json] = {}
        written = _fragment(offer, kept) or "true"
        if kept:
            extras["core-metadata"] = offer
    attributes.update(dict.fromkeys(METADATA_ATTRIBUTES, written))


def _yanked(value: Json) -> dict[str, str | None]:
    """PEP 592: "may have an arbitrary string that represents the reason"; false and the empty string are no yanking."""
    if isinstance(value, str):
        return {"data-yanked": value} if value else {}
    return {"data-yanked": ""} if _fit(value, bool) else {}


def _gpg_sig(value: Json) -> dict[str, str | None]:
    return {"data-gpg-sig": "true" if _fit(value, bool) else "false"}


def _size(value: Json) -> Json:
    if isinstance(value, bool) or not 0 <= _fit(value, int) < MAX_SIZE:
        raise _UnfitEntry
    return value


_READ_APART: Final = object()
# What becomes of a file's keys: an attribute of this name, what a function makes of the value, or nothing here. What no
# PEP has given a name in HTML is of JSON alone (`_JSON_ALONE`).
_KNOWN_KEYS: Final[dict[str, Any]] = {
    **dict.fromkeys(("filename", "url", *METADATA_KEYS), _READ_APART),
    "hashes": _fragment,
    "requires-python": "data-requires-python",
    "provenance": "data-provenance",
    "yanked": _yanked,
    "gpg-sig": _gpg_sig,
}
_JSON_ALONE: Final[dict[str, Callable[[Json], Json]]] = {"size": _size, "upload-time": lambda value: _fit(value, str)}


def _fit(value: Json, kind: type) -> Json:
    if not isinstance(value, kind):
        raise _UnfitEntry
    return value


def _fit_hashes(value: Json) -> dict[str, str]:
    for digits in _fit(value, dict).values():
        _fit(digits, str)
    return value


def _expect(value: Json, kind: type, key: str) -> Json:
    """The value of a key of the page, None where it is absent; MalformedResponse where it is of another type."""
    if value is not None and not isinstance(value, kind):
        raise MalformedResponse(f"the answer is no simple page: its {key} is of a wrong type")
    return value


def _strings(value: Json, key: str) -> list[str] | None:
    if value is not None and not _is_strings(value):
        raise MalformedResponse(f"the answer is no simple page: its {key} is no list of strings")
    return value


def _is_strings(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_serial(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_SIZE
