"""What the tests of parts share: parts that somebody left, and a store that clears and resumes them at once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pipcache.edges.body import GrowingBody
from pipcache.edges.disk import DiskStore
from tests.edges.storing import result_of

NOW = 1_800_000_000.0
DATA = bytes(range(256)) * 300
HALF = len(DATA) - 5000
SHA256 = hashlib.sha256(DATA).hexdigest()
TOKEN = "0123456789abcdef" * 2
PLAIN, PROMISED = f"{TOKEN}.part", f"{TOKEN}.{SHA256}.part"


def put(store: DiskStore, name: str = PROMISED, data: bytes = DATA[:HALF], age: float = 0.0) -> Path:
    """A part that somebody who was killed left ``age`` seconds before NOW."""
    path = store.root / "tmp" / name
    path.write_bytes(data)
    os.utime(path, (NOW - age, NOW - age))
    return path


def clear(store: DiskStore, grace_seconds: float = 0.0) -> int:
    """Clear the parts, at NOW."""
    return result_of(store.clear_parts(NOW, grace_seconds))


def resume(store: DiskStore, sha256: str = SHA256) -> GrowingBody | None:
    """What somebody left of the body, at once."""
    return result_of(store.resume(sha256))


def resumed(store: DiskStore, sha256: str = SHA256) -> GrowingBody:
    """The same, where it must be there."""
    body = resume(store, sha256)
    assert body is not None
    return body


def parts(store: DiskStore) -> set[str]:
    """The names in ``tmp/``."""
    return set(os.listdir(store.root / "tmp"))
