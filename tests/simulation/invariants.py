"""What must hold: always of memory, when it is quiet of the disk and the books, after a restart of what is left over."""

from __future__ import annotations

from pipcache.rules.key import CacheKey
from pipcache.rules.meta import StoredResponse
from tests.fakes.exchanges import MOST_CHUNK_BYTES
from tests.fakes.readers import Wrong
from tests.fakes.truth import ALL_PATHS, TRUTH, key_of_path
from tests.fakes.world import QUARANTINE_SHARE, ROOT, WINDOW_BYTES, Process, World


def check_bodies(world: World) -> None:
    """No body holds more in memory than a window and what came with one read."""
    bodies = world.process.bodies
    for body in bodies:
        if body.window_bytes > WINDOW_BYTES + MOST_CHUNK_BYTES:
            raise Wrong(f"a window of {body.window_bytes} bytes")
    world.process.bodies = [body for body in bodies if body.window_bytes or body.part is not None]


def check_quiet(world: World) -> None:
    """Nothing is held any more, the books are right, and so is the disk."""
    process = world.process
    _check_books(process)
    if process.files.opened:
        raise Wrong(f"{len(process.files.opened)} descriptors are never given back")
    size_bytes = entries = 0
    for path in ALL_PATHS:
        key = key_of_path(path)
        stored = process.store.read(key)
        if stored is None or not _is_right(world, path, key, stored):
            continue
        size_bytes += stored.size_on_disk
        entries += 1
        known = process.catalog.get(key.digest)
        if known is None:
            if not process.had_trouble:
                raise Wrong(f"{path} is kept, and the catalog does not know it")
        elif known.size_bytes != stored.size_on_disk:
            raise Wrong(f"{path} takes {stored.size_on_disk} bytes, the catalog says {known.size_bytes}")
    limits = world.limits
    is_over = size_bytes > limits.max_bytes * limits.high or entries > limits.max_entries * limits.high
    if is_over and not process.had_trouble:
        raise Wrong(f"{entries} entries of {size_bytes} bytes stay on disk")


def check_restarted(world: World) -> None:
    """What nobody owns is gone: orphans, and parts that nobody could resume any more."""
    store = world.process.store
    named = set()
    for path in ALL_PATHS:
        key = key_of_path(path)
        stored = store.read(key)
        if stored is not None:
            folder = ROOT / key.folder
            named |= {str(folder / name) for name in (*stored.files, f"{key.stem}.meta")}
    left = set(world.disk.files("/cache/")) - named
    quarantined = {path for path in left if path.startswith("/cache/quarantine/")}
    if left - quarantined:
        raise Wrong(f"files that nobody owns: {sorted(left - quarantined)}")
    size_bytes = sum(len(world.disk.files("/cache/")[path].data) for path in quarantined)
    if size_bytes > world.limits.max_bytes // QUARANTINE_SHARE:
        raise Wrong(f"a quarantine of {size_bytes} bytes")


def _check_books(process: Process) -> None:
    catalog = process.catalog
    if catalog.total_bytes != sum(entry.size_bytes for _, entry in catalog.by_use()):
        raise Wrong("the catalog's sum is not that of its entries")
    held = (catalog._pins, catalog._reservations, process.cache.files._fetching, process.cache.pages._fetches._fetching)
    if any(held) or catalog.reserved_bytes:
        raise Wrong(f"pins, reservations or fetches are left: {[dict(each) for each in held]}")


def _is_right(world: World, path: str, key: CacheKey, stored: StoredResponse) -> bool:
    """Whether the body can be read and was not touched; then it must be right."""
    body = world.process.store.open_body(key, stored)
    if body is None:
        return False
    try:
        if body.is_suspect:
            return False
        content = body.read_at(0, body.length)
    finally:
        body.close()
    if content not in _allowed(world, path, stored):
        raise Wrong(f"{path} is kept with {len(content)} bytes that are not right")
    return True


def _allowed(world: World, path: str, stored: StoredResponse) -> set[bytes]:
    if path.startswith("/simple/"):
        return {content for content, _ in world.said.pages.get(path.split("/")[2], ())}
    digest = TRUTH.digests.get(path)
    if digest is not None and stored.etag == f'"{digest[:32]}"':
        return {TRUTH.contents[path]}
    return world.said.whole.get(path, set())
