"""What the tests of the cache directory share: a store that does everything at once, and entries to put into it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from pipcache.edges.disk import DiskStore
from pipcache.edges.files import Files
from pipcache.edges.publication import NewVariant
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import StoredResponse

T = TypeVar("T")

KEY = CacheKey("GET-/packages/aa/bb/a-1.whl")
PAGE_KEY = CacheKey("GET-/simple/a/")
CACHED_AT = 1_700_000_000.25
QUARANTINE_BYTES = 1000
LONG_AFTER = 4_000_000_000.0
"""Later than anything that a test makes, by more than every grace."""


def at_once(function: Callable[[], T]) -> Awaitable[T]:
    """In the place of a thread: a Deferred that has fired already."""
    return maybeDeferred(function)


def result_of(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine that need not wait returns, or raises."""
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    assert results, "it waits for something"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


def new_store(root: Path, files: Files | None = None) -> DiskStore:
    """A store on ``root``, not prepared."""
    return DiskStore(root, at_once, QUARANTINE_BYTES, files)


def response(key: CacheKey, data: bytes, **changes: Any) -> StoredResponse:
    """The meta of ``data`` as the engine gives it to ``publish``."""
    values: dict[str, Any] = {
        "key": key.text,
        "status_code": 200,
        "headers": (("content-type", "text/plain"), ("x-one", "1"), ("x-one", "2")),
        "cached_at": CACHED_AT,
        "expires_at": CACHED_AT + 300,
        "body": "",
        "body_size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "etag": f'"{hashlib.md5(data).hexdigest()}"',
        "upstream": "one",
        "url": "https://one.example/a",
        "upstream_root": "https://one.example",
        "upstream_etag": 'W/"theirs"',
    }
    return StoredResponse(**{**values, **changes})


def publish(store: DiskStore, key: CacheKey, data: bytes, *variants: NewVariant, **changes: Any) -> StoredResponse:
    """Grow a body and publish it; the descriptor is given back, whatever happens."""
    body = store.grow()
    try:
        body.append(data)
        assert body.is_whole_on_disk, body.failure
        return result_of(store.publish(key, body, response(key, data, **changes), variants))
    finally:
        body.close()


def content_of(store: DiskStore, key: CacheKey) -> tuple[bytes, bytes | None] | None:
    """The body and the first variant that a client would get; None for a miss. Fails where it is not what its meta says."""
    stored = store.read(key)
    if stored is None:
        return None
    body = store.open_body(key, stored)
    if body is None:
        return None
    data = body.read_at(0, body.length)
    body.close()
    assert len(data) == stored.body_size
    assert hashlib.sha256(data).hexdigest() == stored.sha256
    if not stored.variants:
        return data, None
    variant = store.open_variant(key, stored.variants[0])
    if variant is None:
        return None
    html = variant.read_at(0, variant.length)
    variant.close()
    return data, html


def entry_files(store: DiskStore) -> set[str]:
    """Paths of all files from the root, without VERSION."""
    found = {str(path.relative_to(store.root)) for path in store.root.rglob("*") if not path.is_dir()}
    return found - {"VERSION"}


def named_files(store: DiskStore, key: CacheKey) -> set[str]:
    """Paths from the root of the meta that is stored under the key, and of what it names."""
    stored = store.read(key)
    if stored is None:
        return set()
    return {f"{key.folder}/{name}" for name in (f"{key.stem}.meta", *stored.files)}


def clear(store: DiskStore, now: float = LONG_AFTER) -> None:
    """What a start does: drop parts, scan the folders that there are."""
    result_of(store.clear_parts(now, 0.0))
    folders = tuple(sorted(path.name for path in store.root.iterdir() if len(path.name) == 3 and path.is_dir()))
    result_of(store.scan(folders, now))
