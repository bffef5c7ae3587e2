"""The cache directory: publish, open, remove, scan. The directory is the truth; what memory knows of it is a hint.

``DiskStore`` is its door. Behind it ``entries`` reads, ``publication`` makes visible, ``scan`` looks through and
``verification`` doubts; ``parts`` and ``quarantine`` are folders of their own. Only names of our own form are ever
removed, and nothing outside the directory.

Opening and reading are done where they are called (they cost microseconds); what syncs, renames, removes or walks runs
in the store's threads. One lock keeps a removal from meeting a publication of the same entry half-way.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Protocol, TypeVar

from pipcache.edges.body import GrowingBody, StoredBody
from pipcache.edges.entries import Entries, SeenFiles
from pipcache.edges.files import Files, storage_error
from pipcache.edges.parts import Parts
from pipcache.edges.privacy import close_to_others
from pipcache.edges.publication import NewVariant, Publication
from pipcache.edges.quarantine import Quarantine
from pipcache.edges.scan import Scan, ScannedEntry
from pipcache.edges.verification import Verification
from pipcache.rules.errors import ConfigError, StorageError
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import LAYOUT_VERSION, StoredResponse, Variant, folder_names

T = TypeVar("T")


class InThread(Protocol):
    """Runs a blocking function in a thread and gives its result, or raises what it raised."""

    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]:
        """Run ``function``."""
        ...


class DiskStore:
    """The one that reads and writes the cache directory.

    Args:
        root: the directory, or a link to it, which is followed here once; made by ``prepare``.
        in_thread: where what may block is run.
        quarantine_bytes: how much of what was wrong is kept.
        files: the operating system's calls.
        token: makes random hex digits, twice as many as it is given bytes.
        in_thread_together: where what nobody waits for is run; None: ``in_thread``.
    """

    def __init__(
        self,
        root: Path,
        in_thread: InThread,
        quarantine_bytes: int,
        files: Files | None = None,
        token: Callable[[int], str] = secrets.token_hex,
        in_thread_together: InThread | None = None,
    ) -> None:
        root = Path(os.path.realpath(root))
        self.root = root
        self._in_thread = in_thread
        self._in_thread_together = in_thread_together or in_thread
        self._files = files or Files()
        self._token = token
        self._lock = Lock()
        self._parts = Parts(root / "tmp", self._files, token)
        self._quarantine = Quarantine(root / "quarantine", quarantine_bytes, self._files)
        self._entries = Entries(root, self._files)
        self._publication = Publication(self._entries, self._parts, self._files, self._lock, token)
        self._scan = Scan(self._entries, self._files, self._lock)
        self._verification = Verification(
            self._entries, self._publication, self._scan, self._quarantine, self._files, self._lock, token
        )

    # -- start -------------------------------------------------------------------------------------------------------

    def prepare(self) -> tuple[str, ...]:
        """Make the directory ready, or say why it is not.

        Returns:
            What keeps the directory from being its owner's alone, or a part of it from being used; a sentence each.

        Raises:
            StorageError: it cannot be made, read or written; it may be later.
            ConfigError: another version of the layout lies in it; nothing of it is touched.
        """
        try:
            version = self.root / "VERSION"
            if not self._files.exists(version):
                with self._parts.new(f"{LAYOUT_VERSION}\n".encode()) as part:
                    self._files.rename(part, version)
            found = self._files.read_whole(version).decode("ascii", "replace").strip()
            if found == LAYOUT_VERSION:
                probe = self._parts.create()
                self._files.close(probe.descriptor)
                self._files.unlink(probe.path)
        except OSError as error:
            raise StorageError(
                f"the cache directory {self.root} cannot be used: {error.strerror}; "
                f"give user {os.getuid()} the right to write it, or set cache.dir to another"
            ) from error
        if found != LAYOUT_VERSION:
            raise ConfigError(
                f"the cache directory {self.root} has layout version {found!r}, this program knows {LAYOUT_VERSION}; "
                "set cache.dir to another directory, or empty this one"
            )
        return close_to_others(self.root, self._files)

    # -- read --------------------------------------------------------------------------------------------------------

    def read(self, key: CacheKey) -> StoredResponse | None:
        """What is stored under the key, or None: nothing, or nothing that can be trusted."""
        return self._entries.read(key)

    def open_body(self, key: CacheKey, stored: StoredResponse) -> StoredBody | None:
        """The stored body, or None where it is missing or not of the size that was published.

        One that somebody touched since it was verified says so: ``is_suspect``.
        """
        return self._entries.open_body(key, stored)

    def open_variant(self, key: CacheKey, variant: Variant) -> StoredBody | None:
        """A page's rendering, or None where it is missing or somebody touched it."""
        return self._entries.open_variant(key, variant)

    def seen(self, digest: str, name: str) -> SeenFiles | None:
        """The meta of the key with this digest, and the file of this name beside it; None where one is missing."""
        return self._entries.seen(digest, name)

    def touch(self, digest: str, at: float) -> None:
        """Note on disk when an entry was last used; what is gone meanwhile is left alone."""
        self._entries.touch(digest, at)

    # -- write -------------------------------------------------------------------------------------------------------

    def grow(self, sha256: str | None = None) -> GrowingBody:
        """A body to append to; without a file, and saying why, where the disk gives none.

        Args:
            sha256: what it must come to, None where nobody knows; then nobody can resume it either.
        """
        try:
            return GrowingBody(self._files, self._parts.create(sha256))
        except OSError as error:
            failure = storage_error("cannot create a file in the cache directory", error)
            return GrowingBody(self._files, None, failure)

    async def resume(self, sha256: str) -> GrowingBody | None:
        """A body that somebody who was killed left half done, or None: where it ends, one can go on."""
        if not self._parts.is_resumable(sha256):
            return None
        return await self._in_thread(lambda: self._parts.resume(sha256))

    def leave(self, body: GrowingBody) -> None:
        """Leave a body half done: its part stays for whoever fetches it next, where its name says its digest."""
        part = body.part
        if part is not None and not self._parts.leave(part, body.size):
            body.discard()
        body.give_up_name()

    async def reject(self, body: GrowingBody, note: Mapping[str, object]) -> None:
        """Put a body that turned out wrong into quarantine; its descriptor stays the caller's."""
        part = body.part
        if part is not None and body.give_up_name():
            await self._in_thread(lambda: self._quarantine.take(part.path, note, self._token(16)))

    def window(self) -> GrowingBody:
        """A body to append to that is never to be stored."""
        return GrowingBody(self._files, None)

    async def publish(
        self, key: CacheKey, body: GrowingBody, stored: StoredResponse, variants: Sequence[NewVariant] = ()
    ) -> StoredResponse:
        """Make the body visible under the key, replacing what was there; returns what its meta says.

        Args:
            key: whose it is.
            body: whole on disk; its part's name is gone afterwards, its descriptor stays open and the caller's.
            stored: the meta; ``body``, ``verified`` and ``variants`` in it are filled in here.
            variants: the page's renderings.

        Raises:
            StorageError: the disk refused; nothing is visible that was not before.
        """
        return await self._in_thread_together(lambda: self._publication.publish(key, body, stored, variants))

    async def amend(
        self,
        key: CacheKey,
        of: StoredResponse,
        change: Callable[[StoredResponse], StoredResponse],
        variants: Sequence[NewVariant] = (),
    ) -> StoredResponse | None:
        """Change the meta of a publication, and give it further renderings; returns what its meta says then.

        Args:
            key: whose it is.
            of: the publication; what else was changed in it meanwhile stays.
            change: what its meta becomes; called in a thread, perhaps more than once.
            variants: to be added, in place of those of their kinds.

        Returns:
            None where something else is stored there meanwhile, or nothing.

        Raises:
            StorageError: the disk refused.
        """
        return await self._in_thread(lambda: self._publication.amend(key, of, change, variants))

    async def verify(self, key: CacheKey, stored: StoredResponse) -> StoredResponse | None:
        """Read the whole body and compare it with its digest.

        Returns:
            The response as it is stored now: unchanged, or with the body's new inode and times where only those
            differed, or what replaced it meanwhile. None where the body was wrong or gone: then it is in quarantine,
            and the entry is no more.
        """
        return await self._in_thread(lambda: self._verification.verify(key, stored))

    async def remove(self, digests: tuple[str, ...], before: float) -> tuple[str, ...]:
        """Remove entries that were cached at ``before`` (epoch seconds) or earlier; returns those that are gone."""
        return await self._in_thread(lambda: tuple(d for d in digests if self._remove(d, before)))

    # -- scan --------------------------------------------------------------------------------------------------------

    async def scan(self, folders: tuple[str, ...], now: float) -> tuple[ScannedEntry, ...]:
        """The entries in some folders; broken pairs, and orphans past their grace, are removed on the way."""
        return await self._in_thread(
            lambda: tuple(entry for folder in folders for entry in self._scan.folder(folder, now))
        )

    async def clear_parts(self, now: float, grace_seconds: float) -> int:
        """Remove the parts that nobody holds and nobody can resume, older than the grace; returns how many."""
        return await self._in_thread(lambda: self._parts.clear(now, grace_seconds))

    def find(self, digest: str) -> tuple[CacheKey, StoredResponse] | None:
        """The entry whose key has this digest, for those who do not know its key."""
        stored = self._entries.find(digest)
        return (CacheKey(stored.key), stored) if stored else None

    @staticmethod
    def folders() -> Iterator[str]:
        """All folders that ``scan`` may be asked for."""
        return folder_names()

    # -- in threads --------------------------------------------------------------------------------------------------

    def _remove(self, digest: str, before: float) -> bool:
        """Remove one entry, meta first; False where it was published anew, or the disk refused."""
        meta = self._entries.meta_path(digest)
        with self._lock:
            try:
                stored = self._entries.find(digest)
                if stored is not None and stored.cached_at > before:
                    return False
                self._files.unlink(meta)
            except FileNotFoundError:
                return True
            except OSError:
                return False
            for name in stored.files if stored else ():
                with suppress(OSError):  # an orphan from here on; the scan takes it
                    self._files.unlink(meta.with_name(name))
        return True
