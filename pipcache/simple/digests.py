"""The digests that an index promises for its files: read from a link, ranked, computed.

PEP 503 puts one behind each link (`#sha256=<hex>`), PEP 658 uses the same form for core metadata. A digest is
a promise that a file is held to, so only names that still resist a forger are preferred; the others are kept
and passed on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Protocol

from attrs import frozen

PATH_DIGEST = "blake2b-256"
"""The name of the digest that a path of ``/packages/`` is made of, on PyPI and its mirrors; no link carries it."""

HEX_LENGTHS = {
    "md5": 32,
    "sha1": 40,
    "sha224": 56,
    "sha256": 64,
    "sha384": 96,
    "sha512": 128,
    "sha3_256": 64,
    "sha3_384": 96,
    "sha3_512": 128,
    "blake2b": 128,
    "blake2s": 64,
}
"""How many hexadecimal digits a digest of each known name has."""

PREFERENCE = ("sha256", "sha512", "sha384")
"""The names that a file is checked against, best first."""

_PATH = re.compile(r"/packages/([0-9a-f]{2})/([0-9a-f]{2})/([0-9a-f]{60})/[^/]+")
_HEX = re.compile(r"[0-9a-f]+")


class Hasher(Protocol):
    """What computes a digest while the octets pass by."""

    def update(self, data: bytes, /) -> None:
        """Take the next octets."""

    def hexdigest(self) -> str:
        """The digest of all octets so far, in lower-case hexadecimal."""


@frozen
class Digest:
    """What a file's octets must hash to: a known name, and lower-case hexadecimal digits of its length."""

    name: str
    hex: str


def hashes_in(text: str) -> dict[str, str]:
    """The digests that a link's fragment names, by lower-case name, with lower-case digits.

    Args:
        text: pairs such as ``sha256=<hex>``, joined by ``&``, without the ``#``.

    Returns:
        Known names with the right number of digits only; where a name is repeated its first valid digest.
    """
    found: dict[str, str] = {}
    for pair in text.split("&"):
        name, _, digits = pair.lower().partition("=")
        if len(digits) == HEX_LENGTHS.get(name) and _HEX.fullmatch(digits):
            found.setdefault(name, digits)
    return found


def preferred(hashes: Mapping[str, str]) -> Digest | None:
    """The digest to hold a file to; None where a forger could meet all that there are (MD5, SHA-1)."""
    return next((Digest(name, hashes[name]) for name in PREFERENCE if name in hashes), None)


def digest_in_path(path: str) -> Digest | None:
    """The digest that ``/packages/aa/bb/<60 hex>/<file>`` names, as PyPI makes its paths; None for another path.

    A file that matches is right. One that does not may be so too: other indexes make their paths as they like.
    """
    match = _PATH.fullmatch(path)
    return Digest(PATH_DIGEST, match[1] + match[2] + match[3]) if match else None


def new_hasher(name: str) -> Hasher:
    """A hasher that has seen nothing yet.

    Args:
        name: a digest's name, one of `PREFERENCE`, or `PATH_DIGEST`.

    Raises:
        ValueError: any other name, which `preferred` never gives.
    """
    if name == PATH_DIGEST:
        return hashlib.blake2b(digest_size=32)
    if name not in PREFERENCE:
        raise ValueError(f"no digest to check a file with: {name!r}; allowed are {', '.join(PREFERENCE)}")
    return hashlib.new(name)
