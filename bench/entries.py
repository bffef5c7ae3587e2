"""Thousands of entries in a cache directory, as pipcache would have written them, without fetching them."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from pipcache.edges.disk import DiskStore
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import LAYOUT_VERSION, StoredResponse, Verified, entry_name

BODY_BYTES = 256
_YEAR_SECONDS = 365 * 86400.0


def path_of(number: int) -> str:
    """The path of an entry, as clients ask for it."""
    digits = hashlib.blake2b(b"entry %d" % number, digest_size=32).hexdigest()
    return f"/packages/{digits[:2]}/{digits[2:4]}/{digits[4:]}/filler-1.0.{number}-py3-none-any.whl"


def body_of(number: int) -> bytes:
    """The bytes of an entry."""
    return (b"entry %d " % number).ljust(BODY_BYTES, b".")


def fill(cache: Path, count: int) -> None:
    """Write ``count`` entries into a cache directory that is not there yet, the last ones as those used last.

    Raises:
        ValueError: pipcache does not know what was written; its layout is another one now.
    """
    cache.mkdir(parents=True, mode=0o700)
    (cache / "VERSION").write_text(f"{LAYOUT_VERSION}\n")
    for folder in DiskStore.folders():
        (cache / folder).mkdir(mode=0o700)
    now = time.time()
    for number in range(count):
        _write(cache, number, now, now - (count - number))
    _check(cache, count - 1)


def _write(cache: Path, number: int, now: float, used_at: float) -> None:
    key = CacheKey(f"GET-{path_of(number)}")
    folder = f"{cache}/{key.folder}"
    content = body_of(number)
    name = entry_name(key, "body")
    descriptor = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, content)
    status = os.fstat(descriptor)
    os.close(descriptor)
    digest = hashlib.sha256(content).hexdigest()
    stored = StoredResponse(
        key=key.text,
        status_code=200,
        headers=(("content-type", "application/octet-stream"),),
        cached_at=now,
        expires_at=now + _YEAR_SECONDS,
        body=name,
        body_size=len(content),
        sha256=digest,
        etag=f'"{digest[:32]}"',
        upstream="bench",
        url=f"http://127.0.0.1{path_of(number)}",
        upstream_root="http://127.0.0.1",
        verified=Verified(status.st_ino, status.st_size, status.st_mtime_ns),
    )
    meta = f"{folder}/{entry_name(key, 'meta')}"
    descriptor = os.open(meta, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, stored.to_json())
    os.close(descriptor)
    os.utime(meta, (used_at, used_at))


def _check(cache: Path, number: int) -> None:
    key = CacheKey(f"GET-{path_of(number)}")
    stored = StoredResponse.from_json((cache / key.folder / entry_name(key, "meta")).read_bytes(), key)
    if (cache / key.folder / stored.body).read_bytes() != body_of(number):
        raise ValueError("an entry that was written cannot be read back")
