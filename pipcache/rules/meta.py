"""What is kept of a response beside its body (``StoredResponse``), its JSON form, and the names of its files.

The meta file is the publication: a body that no meta names does not exist for a client. So this module is strict when it
reads. A meta that is not exactly what ``to_json`` writes (another key, another status, a field that could split a
header, a body name outside its own folder) is a ``ValueError``, and the caller treats the entry as absent.

Layout (``abc`` + ``123def...`` is the SHA-256 of the key's text)::

    abc/123def.meta                         JSON of this module
    abc/123def.body                         the body as upstream sent it, after content-decoding
    abc/123def.<generation>.body            a body that replaced an earlier one; eight random hex digits
    abc/123def.<generation>.<variant>       a page as clients get it: html, html.gz, json or json.gz
    tmp/<random>.part                       a body or meta that is not yet visible
    tmp/<random>.<sha256>.part              a body whose digest is known beforehand: can be resumed after a kill
    quarantine/<random>.body, .json         a body that was wrong, and where it came from
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from attrs import evolve, frozen

from pipcache.rules.fields import Fields, from_json, is_valid_field, storable, to_json
from pipcache.rules.freshness import format_timestamp, parse_timestamp
from pipcache.rules.key import CacheKey

LAYOUT_VERSION = "1"

_NAME = re.compile(
    r"(?P<stem>[0-9a-f]{61})(?:\.(?P<generation>[0-9a-f]{8}))?\.(?P<kind>body|meta|(?:html|json)(?:\.gz)?)"
)
_PART = re.compile(r"[0-9a-f]{32}(?:\.(?P<digest>[0-9a-f]{64}))?\.part")
_QUARANTINED = re.compile(r"[0-9a-f]{32}\.(?:body|json)")
_FOLDER = re.compile(r"[0-9a-f]{3}")
_ETAG = re.compile(r'"[!#-~]{1,128}"')
_SHA256 = re.compile(r"[0-9a-f]{64}")

VARIANT_KINDS = ("html", "html.gz", "json", "json.gz")
"""What a page is rendered as, as its files are named."""


@frozen
class Verified:
    """The body file as it was when its bytes were known to be right: a difference means that somebody touched it."""

    inode: int
    size: int
    mtime_ns: int


@frozen
class Variant:
    """A rendering of a page, made once a page version and kept beside its body.

    ``shape`` names the settings and the code that formed it; another shape means that it must be made again, and so does
    a file that is not ``verified``.
    """

    file: str
    shape: str
    verified: Verified

    @property
    def kind(self) -> str:
        """One of ``VARIANT_KINDS``."""
        parts = parse_name(self.file)
        return parts.kind if parts else ""

    @property
    def size(self) -> int:
        """In bytes."""
        return self.verified.size


@frozen
class StoredResponse:
    """A response as it is kept: what upstream said, when, and where its body lies.

    ``cached_at`` (or last validated) and ``expires_at`` are UTC epoch seconds, ``body_size`` bytes on disk. ``etag`` is
    ours, strong, with its quotes; ``upstream_etag`` is the validator of the upstream that gave the body and goes to no
    other. ``last_serial`` is what a page says about its version (PyPI's, which mirrors share), None where it says
    nothing. ``variants`` are in the order they were made, no kind twice. ``url`` and ``upstream_root`` are what the links
    of a project page are resolved and rewritten with; neither carries credentials or a query.
    """

    key: str
    status_code: int
    headers: Fields
    cached_at: float
    expires_at: float
    body: str
    body_size: int
    sha256: str
    etag: str
    upstream: str
    url: str
    upstream_root: str | None = None
    upstream_etag: str | None = None
    verified: Verified | None = None
    last_serial: int | None = None
    variants: tuple[Variant, ...] = ()

    @property
    def size_on_disk(self) -> int:
        """Bytes that eviction would free: body and variants (the meta, under a KiB or two, is not counted)."""
        return self.body_size + sum(variant.size for variant in self.variants)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the entry's files beside its meta, within its folder."""
        return (self.body, *(variant.file for variant in self.variants))

    def variant(self, kind: str, shape: str) -> Variant | None:
        """The rendering of this kind and shape, where there is one."""
        return next((each for each in self.variants if each.kind == kind and each.shape == shape), None)

    def with_variants(self, made: tuple[Variant, ...]) -> StoredResponse:
        """The same response with these renderings, in place of those of their kinds and of those of other shapes."""
        if not made:
            return self
        kinds = {each.kind for each in made}
        shapes = {each.shape for each in made}
        kept = tuple(each for each in self.variants if each.kind not in kinds and each.shape in shapes)
        return evolve(self, variants=(*kept, *made))

    def is_same_body(self, other: StoredResponse) -> bool:
        """Whether both are of one publication; they may differ in what was found out or made since."""
        return (self.key, self.body, self.etag) == (other.key, other.body, other.etag)

    def to_json(self) -> bytes:
        """The meta file's content, which ``StoredResponse.from_json`` reads back."""
        document: dict[str, Any] = {
            "key": self.key,
            "status_code": self.status_code,
            "headers": to_json(self.headers),
            "cached_at": format_timestamp(self.cached_at),
            "expires_at": format_timestamp(self.expires_at),
            "body": self.body,
            "body_size": self.body_size,
            "sha256": self.sha256,
            "etag": self.etag,
            "upstream": self.upstream,
            "url": self.url,
            "upstream_root": self.upstream_root,
            "upstream_etag": self.upstream_etag,
        }
        if self.verified is not None:
            document["verified"] = _as_json(self.verified)
        if self.last_serial is not None:
            document["last_serial"] = self.last_serial
        if self.variants:
            document["variants"] = [
                {"file": each.file, "shape": each.shape, "verified": _as_json(each.verified)} for each in self.variants
            ]
        return (
            json.dumps(document, separators=(",\n ", ": ")).encode() + b"\n"
        )  # what ``indent`` writes takes six times as long

    @classmethod
    def from_json(cls, content: bytes, key: CacheKey) -> StoredResponse:
        """Read the meta of ``key``.

        Raises:
            ValueError: it is no meta of that key, or holds something that must not reach a client.
        """
        try:
            document = json.loads(content)
            stored = cls(
                key=_text(document["key"]),
                status_code=_whole(document["status_code"]),
                headers=from_json(document["headers"]),
                cached_at=parse_timestamp(_text(document["cached_at"])),
                expires_at=parse_timestamp(_text(document["expires_at"])),
                body=_text(document["body"]),
                body_size=_whole(document["body_size"]),
                sha256=_text(document["sha256"]),
                etag=_text(document["etag"]),
                upstream=_text(document["upstream"]),
                url=_text(document["url"]),
                upstream_root=_optional_text(document.get("upstream_root")),
                upstream_etag=_optional_text(document.get("upstream_etag")),
                verified=_verified(document["verified"]) if "verified" in document else None,
                last_serial=_whole(document["last_serial"]) if "last_serial" in document else None,
                variants=tuple(_variant(each) for each in document.get("variants", ())),
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a meta: {error!r}") from error
        _check(stored, key)
        return stored

    def freshened(self, cached_at: float, expires_at: float) -> StoredResponse:
        """The same response, known to be current at ``cached_at``."""
        return evolve(self, cached_at=cached_at, expires_at=expires_at)


def key_of(content: bytes) -> CacheKey:
    """The key that a meta file's content says it is of; its name on disk must agree.

    Raises:
        ValueError: it says none.
    """
    try:
        return CacheKey(_text(json.loads(content)["key"]))
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not a meta: {error!r}") from error


@frozen
class EntryFile:
    """One of our own file names inside a folder, taken apart."""

    stem: str
    generation: str | None
    kind: str


def folder_names() -> Iterator[str]:
    """The 4096 folders that entries lie in, in order; one at a time, as all of them take a quarter of a megabyte."""
    return (f"{number:03x}" for number in range(0x1000))


def is_folder_name(name: str) -> bool:
    """Whether ``name`` is one of ``folder_names``."""
    return _FOLDER.fullmatch(name) is not None


def is_part_name(name: str) -> bool:
    """Whether ``name`` is one of our own under ``tmp/``; others are never touched."""
    return _PART.fullmatch(name) is not None


def is_quarantined_name(name: str) -> bool:
    """Whether ``name`` is one of our own under ``quarantine/``."""
    return _QUARANTINED.fullmatch(name) is not None


def part_name(token: str, sha256: str | None) -> str:
    """The name of a part under ``tmp/``; ``sha256`` is what its bytes must come to, None where nobody knows."""
    return f"{token}.{sha256}.part" if sha256 else f"{token}.part"


def promised_digest(name: str) -> str | None:
    """The SHA-256 that a part's name says it must come to; None where it says none, or is none of ours."""
    match = _PART.fullmatch(name)
    return match["digest"] if match else None


def parse_name(name: str) -> EntryFile | None:
    """The parts of an entry's file name, or None where it is none of ours."""
    match = _NAME.fullmatch(name)
    if match is None or (match["kind"] == "meta" and match["generation"]):
        return None
    return EntryFile(match["stem"], match["generation"], match["kind"])


def entry_name(key: CacheKey, kind: str, generation: str | None = None) -> str:
    """The file name of the given kind (``body``, ``meta``, ``html``) inside the key's folder."""
    return f"{key.stem}.{generation}.{kind}" if generation else f"{key.stem}.{kind}"


def _check(stored: StoredResponse, key: CacheKey) -> None:
    if stored.key != key.text:
        raise ValueError("the meta of another key")
    if stored.status_code != 200:
        raise ValueError("only a 200 is stored")
    if stored.body_size < 0 or not _SHA256.fullmatch(stored.sha256) or not _ETAG.fullmatch(stored.etag):
        raise ValueError("a size, digest or ETag that none of ours could be")
    for name, kinds in ((stored.body, ("body",)), *((each.file, VARIANT_KINDS) for each in stored.variants)):
        parts = parse_name(name)
        if parts is None or parts.stem != key.stem or parts.kind not in kinds:
            raise ValueError("a file of another entry")
    if len({variant.kind for variant in stored.variants}) < len(stored.variants):
        raise ValueError("two renderings of one kind")
    if storable(stored.headers) != stored.headers:
        raise ValueError("a header field that is never stored")
    if not is_valid_field("x-upstream", stored.upstream) or not is_valid_field("etag", stored.upstream_etag or ""):
        raise ValueError("a header field that could split a response")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("text wanted")
    return value


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a whole number wanted")
    return value


def _as_json(verified: Verified) -> dict[str, int]:
    return {"inode": verified.inode, "size": verified.size, "mtime_ns": verified.mtime_ns}


def _verified(value: Any) -> Verified:
    return Verified(_whole(value["inode"]), _whole(value["size"]), _whole(value["mtime_ns"]))


def _variant(value: Any) -> Variant:
    return Variant(_text(value["file"]), _text(value["shape"]), _verified(value["verified"]))
