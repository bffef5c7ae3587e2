"""What an installer will most likely ask for next, as far as core metadata and a page tell.

A resolver that has read the core metadata of a package asks for the page of each project that it needs, and there takes the
newest release that fits; most often that is the newest of all. These are guesses that cost little where they are wrong, so
nothing is guessed that depends on who asks: a requirement with a marker is left out, and so is a wheel that is not for
every platform.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice

from packaging.version import Version

from pipcache.simple.digests import preferred
from pipcache.simple.filenames import METADATA_SUFFIX, normalised_name, version_of
from pipcache.simple.model import DistributionFile

MAX_NEEDED = 100
"""A package that needs more is rare, and its resolver asks for the rest itself."""

MAX_FILES = 200
"""So many of a page's files are looked at, from its end on: indexes name the newest last."""

_REQUIRES_DIST = re.compile(rb"^requires-dist:[ \t]*([^\r\n]+)", re.IGNORECASE | re.MULTILINE)
_END_OF_FIELDS = re.compile(rb"\r?\n\r?\n")
_UNIVERSAL = "-none-any.whl"


def needed_projects(metadata: bytes) -> tuple[str, ...]:
    """The projects that a package needs wherever it is installed, by normalised name, each once, in order.

    Args:
        metadata: core metadata; Requires-Dist is a field of its head (PEP 566), the description may follow it.

    Returns:
        At most ``MAX_NEEDED``; none for requirements with a marker or an address of their own (PEP 508), or that are none.
    """
    from packaging.requirements import InvalidRequirement, Requirement  # 0.7 MB, which an idle server need not hold

    head = _END_OF_FIELDS.split(metadata, maxsplit=1)[0]
    found: dict[str, None] = {}
    for match in _REQUIRES_DIST.finditer(head):
        try:
            requirement = Requirement(match[1].decode("utf-8", "replace").strip())
        except InvalidRequirement:
            continue
        name = normalised_name(requirement.name)
        if name is not None and requirement.marker is None and requirement.url is None:
            found[name] = None
    return tuple(islice(found, MAX_NEEDED))


def newest_metadata(files: Mapping[str, DistributionFile]) -> str | None:
    """The path of the core metadata of a page's newest release.

    Args:
        files: the page's files by our own path, in the page's order.

    Returns:
        None where no release that is neither yanked nor a pre-release has a wheel for every platform whose core metadata the
        page promises with a digest.
    """
    newest: tuple[Version, str] | None = None
    for path, file in tuple(files.items())[-MAX_FILES:]:
        said = version_of(file.filename) if file.filename.endswith(_UNIVERSAL) else None
        if said is None or file.is_yanked or preferred(file.metadata_hashes or {}) is None:
            continue
        version = Version(said)
        if not version.is_prerelease and (newest is None or version > newest[0]):
            newest = version, path
    return None if newest is None else newest[1] + METADATA_SUFFIX
