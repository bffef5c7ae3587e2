"""What an index says about a project, as values that belong to no dialect.

Essential reading, in order: PEP 503 (the simple API), PEP 592 (yanked files), PEP 629 (its version), PEP 658
and PEP 714 (core metadata), PEP 691 (JSON), PEP 700 (versions, size, upload time), PEP 708 (tracks, alternate
locations), PEP 740 (provenance), PEP 792 (status of a project).

Nothing here knows how a page is written or where its links lead in this proxy. Facts that HTML carries as
attributes and JSON as keys are kept in HTML's names, in upstream's order, also where their meaning is
unknown: what is not understood is passed on. What only JSON can say stands beside them as it was (`extras`):
size and upload time, keys that nobody knows, and the whole value of a known key where HTML's form of it says less.
"""

from __future__ import annotations

import re

from attrs import field, frozen

from pipcache.rules.errors import MalformedResponse
from pipcache.rules.negotiation import Dialect
from pipcache.simple.digests import hashes_in
from pipcache.simple.jsontext import Json

Attributes = tuple[tuple[str, str | None], ...]
"""Names in lower case and values without entities, in order, no name twice; None is an attribute without a
value."""

DATA_ATTRIBUTE = re.compile(r"data-[^\sA-Z\x00-\x1f\x7f-\x9f\"'<>/=]+")
"""The attributes that are for programs to read: all of them are passed on, in either dialect under this name."""

METADATA_ATTRIBUTES = ("data-core-metadata", "data-dist-info-metadata")
"""PEP 714: the first rules where both are given."""

VERSION_META = "pypi:repository-version"

MAX_FILES = 200_000
"""A page that lists more files is refused. The largest projects of the public index have some ten thousand; a page of 64 MiB
has room for 165,000 links as they are there, and for millions of tiny ones, of which each costs a thousand bytes."""

_SERIAL = re.compile(r"\s*SERIAL\s+([0-9]{1,18})\s*")
_MAJOR_VERSION = re.compile(r"\s*([0-9]{1,9})(?:\.[0-9.]*)?\s*")
_SIZE = re.compile(r"0|[1-9][0-9]{0,17}")


@frozen
class Link:
    """An anchor of a page, before anybody has asked where it leads.

    PEP 503: "each anchor element MUST have an href attribute"; `href` is that, with entities resolved and
    nothing else done to it. `attributes` are the others.
    """

    href: str
    text: str
    attributes: Attributes = ()


@frozen
class DistributionFile:
    """One file of a project, and where upstream has it.

    PEP 503: "The text of the anchor tag MUST match the final path component (the filename) of the URL." Not
    all do, so `filename` is the decoded final path component and `text` is kept as it is. `url` is absolute
    and fit to be asked for, with its query and without its fragment.
    """

    filename: str
    url: str
    fragment: str = ""
    text: str = ""
    attributes: Attributes = ()
    extras: dict[str, Json] = field(factory=dict)

    @property
    def hashes(self) -> dict[str, str]:
        """The digests of the file by name; empty where none that is known and well-formed is given.

        PEP 503: "The URL SHOULD include a hash in the form of a URL fragment".
        """
        return hashes_in(self.fragment)

    @property
    def metadata_offer(self) -> str | None:
        """What upstream says of the file's core metadata: `true` or a hash; None where it offers none.

        What an installer would take for an offer is one: a malformed value too.
        """
        values = dict(self.attributes)
        for name in METADATA_ATTRIBUTES:
            value = values.get(name)
            if value is not None:
                return None if value.strip().lower() == "false" else value.strip()
        return None

    @property
    def metadata_hashes(self) -> dict[str, str] | None:
        """The digests of the file's core metadata by name; None where upstream offers no core metadata.

        PEP 658: the attribute holds a hash "or `true` if hash is unavailable", which is the empty mapping
        here.
        """
        offer = self.metadata_offer
        return None if offer is None else hashes_in(offer)

    @property
    def is_yanked(self) -> bool:
        """Whether installers are to leave it out: PEP 592 lets the attribute have any value, or none."""
        return any(name == "data-yanked" for name, _ in self.attributes)

    @property
    def size(self) -> int | None:
        """The length of the file in bytes (PEP 700); None where the page does not say."""
        given = self.extras.get("size")
        if isinstance(given, int):
            return given
        text = dict(self.attributes).get("data-size") or ""
        return int(text) if _SIZE.fullmatch(text) else None


@frozen
class ProjectPage:
    """One project's page: facts about the project, and its files in upstream's order.

    `metas` are the names and contents of the `pypi:*` meta elements (PEP 629, 708, 792), in order, under these
    names also where JSON said them. `comments` are kept for the serial that mirrors compare. `dialect` is what
    upstream spoke: its version promises something about that one only. `versions` (PEP 700), `extras` and
    `meta_extras` (keys of the object `meta`) are what only JSON can say.
    """

    metas: tuple[tuple[str, str], ...] = ()
    title: str | None = None
    comments: tuple[str, ...] = ()
    files: tuple[DistributionFile, ...] = ()
    dialect: Dialect = Dialect.HTML
    versions: tuple[str, ...] | None = None
    extras: dict[str, Json] = field(factory=dict)
    meta_extras: dict[str, Json] = field(factory=dict)

    @property
    def last_serial(self) -> int | None:
        """The serial of the index when the page was made; None where the page does not say."""
        return serial_in(self.comments)


def too_many_files() -> MalformedResponse:
    """What a page that lists more than ``MAX_FILES`` is refused with."""
    return MalformedResponse(f"the page lists more than {MAX_FILES} files")


def serial_in(comments: tuple[str, ...]) -> int | None:
    """The serial that the last of the comments that has one says: `SERIAL 123`."""
    found = [int(match[1]) for comment in comments if (match := _SERIAL.fullmatch(comment))]
    return found[-1] if found else None


def check_api_version(version: str) -> None:
    """Refuse a version that is none, or whose major number is not 1; minor ones are compatible.

    PEP 629: "If the major version is greater than the client's, the client MUST fail with an appropriate
    error".

    Raises:
        MalformedResponse: refused.
    """
    major = _MAJOR_VERSION.fullmatch(version)
    if major is None or int(major[1]) != 1:
        raise MalformedResponse(f"the page is of version {version[:20]!r} of the simple API; version 1 is known here")
