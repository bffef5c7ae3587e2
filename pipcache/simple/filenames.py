"""What the name of a file says: whether it is a distribution file, and of which project.

This is the one home of the suffix rule. It looks at suffixes and dashes only and asks nothing more of a name,
because indexes carry files whose names follow no specification (`a-1.3+cpu-cp311.whl`) and installers still
ask for them. Sources: PEP 427 (wheels), PEP 625 (sdists), PEP 503 (normalised names), PEP 508 (valid names),
PEP 658 (`.metadata`).
"""

from __future__ import annotations

import re
from functools import lru_cache

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

SUFFIXES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz", ".egg")
"""The suffixes that make a link a distribution file, whatever their case."""

METADATA_SUFFIX = ".metadata"
"""PEP 658: core metadata is served at the file's URL with `.metadata` appended."""

_BINARY_SUFFIXES = (".whl", ".egg")
# PEP 508: ^([A-Z0-9]|[A-Z0-9][A-Z0-9._-]*[A-Z0-9])$ with re.IGNORECASE
_VALID_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_MAX_VERSION = 128
_NORMALISED = re.compile(r"[a-z0-9]++(?:-[a-z0-9]++)*+")


def is_distribution_filename(name: str) -> bool:
    """Whether a decoded file name is a wheel's, an egg's or an sdist's, by its suffix alone."""
    return name.lower().endswith(SUFFIXES)


def is_metadata_filename(name: str) -> bool:
    """Whether a decoded file name is that of the core metadata beside a distribution file."""
    return name.endswith(METADATA_SUFFIX) and is_distribution_filename(name.removesuffix(METADATA_SUFFIX))


def normalised_name(name: str) -> str | None:
    """The normalised form of a project's name (PEP 503); None where it is no valid name (PEP 508)."""
    if _NORMALISED.fullmatch(name):
        return name
    return str(canonicalize_name(name)) if _VALID_NAME.fullmatch(name) else None


def project_of(filename: str) -> str | None:
    """The normalised name of the project that a file belongs to.

    Args:
        filename: the decoded name of a distribution file or, with `.metadata` at its end, of its core
        metadata.

    Returns:
        What stands before the first dash of a wheel or an egg, before the last dash of an sdist, normalised.
        None where that is no valid name, there is no dash, or the suffix is no distribution file's.
    """
    filename = filename.removesuffix(METADATA_SUFFIX)
    lowered = filename.lower()
    suffix = next((suffix for suffix in SUFFIXES if lowered.endswith(suffix)), None)
    if suffix is None:
        return None
    stem = filename[: -len(suffix)]
    name, dash, _ = stem.partition("-") if suffix in _BINARY_SUFFIXES else stem.rpartition("-")
    return normalised_name(name) if dash else None


def version_of(filename: str) -> str | None:
    """The version that the name of a distribution file says, as it writes it.

    Returns:
        What stands between the first two dashes of a wheel or an egg, behind the last dash of an sdist. None where that
        is no version (PEP 440): no guess is made.
    """
    lowered = filename.lower()
    suffix = next((suffix for suffix in SUFFIXES if lowered.endswith(suffix)), None)
    if suffix is None:
        return None
    stem = filename[: -len(suffix)]
    pieces = stem.split("-") if suffix in _BINARY_SUFFIXES else stem.rsplit("-", 1)
    version = pieces[1] if len(pieces) > 1 else ""
    return version if len(version) <= _MAX_VERSION and _is_version(version) else None


@lru_cache(4096)
def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return text == text.strip()
