"""The cache directory: publish, open, remove, scan. The directory is the truth; what memory knows of it is a hint.

A response is published by renames: part to body, then the meta, which makes it visible. A crash between the two leaves
a body that no meta names, never a meta with another's body. A replaced body gets a name of its own, so an open reader
keeps a whole one. Only names of our own form are ever removed, and nothing outside the directory.

Opening and reading are done where they are called (they cost microseconds); what syncs, renames, removes or walks runs
in the store's threads. One lock keeps a removal from meeting a publication of the same entry half-way.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Protocol, TypeVar

from attrs import evolve, frozen

from pipcache.edges.body import GrowingBody, Part, StoredBody
from pipcache.edges.files import Files, storage_error
from pipcache.edges.parts import Parts, remove_unowned
from pipcache.edges.quarantine import Quarantine
from pipcache.rules.errors import ConfigError, StorageError
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import (
    LAYOUT_VERSION,
    EntryFile,
    StoredResponse,
    Variant,
    Verified,
    entry_name,
    folder_names,
    key_of,
    parse_name,
)

T = TypeVar("T")

ORPHAN_GRACE_SECONDS = 60.0
"""A file that no meta names may belong to a publication in progress; after this long it does not."""


class InThread(Protocol):
    """Runs a blocking function in a thread and gives its result, or raises what it raised."""

    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]:
        """Run ``function``."""
        ...


@frozen
class ScannedEntry:
    """An entry as the scan found it: the digest of its key, bytes on disk, and when it was last used."""

    digest: str
    size_bytes: int
    used_at: float


@frozen
class NewVariant:
    """A rendering to be published beside a page's body."""

    content: bytes
    shape: str


class DiskStore:
    """The one that reads and writes the cache directory.

    Args:
        root: the directory; made by ``prepare``.
        in_thread: where what may block is run.
        quarantine_bytes: how much of what was wrong is kept.
        files: the operating system's calls.
        token: makes random hex digits, twice as many as it is given bytes.
    """

    def __init__(
        self,
        root: Path,
        in_thread: InThread,
        quarantine_bytes: int,
        files: Files | None = None,
        token: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        self.root = root
        self._in_thread = in_thread
        self._files = files or Files()
        self._token = token
        self._lock = Lock()
        self._parts = Parts(root / "tmp", self._files, token)
        self._quarantine = Quarantine(root / "quarantine", quarantine_bytes, self._files)

    # -- start -------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the directory ready, or say why it is not.

        Raises:
            StorageError: it cannot be made, read or written; it may be later.
            ConfigError: another version of the layout lies in it; nothing of it is touched.
        """
        try:
            version = self.root / "VERSION"
            if not self._files.exists(version):
                self._rename_into_place(f"{LAYOUT_VERSION}\n".encode(), version)
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

    # -- read --------------------------------------------------------------------------------------------------------

    def read(self, key: CacheKey) -> StoredResponse | None:
        """What is stored under the key, or None: nothing, or nothing that can be trusted."""
        try:
            return StoredResponse.from_json(self._files.read_whole(self._path(key, "meta")), key)
        except (OSError, ValueError):
            return None

    def open_body(self, key: CacheKey, stored: StoredResponse) -> StoredBody | None:
        """The stored body, or None where it is missing or not of the size that was published.

        One that somebody touched since it was verified says so: ``is_suspect``.
        """
        return self._open(key, stored.body, stored.body_size, stored.verified)

    def open_variant(self, key: CacheKey, variant: Variant) -> StoredBody | None:
        """A page's rendering, or None where it is missing or somebody touched it."""
        body = self._open(key, variant.file, variant.size, variant.verified)
        if body is not None and body.is_suspect:
            body.close()
            return None
        return body

    def touch(self, digest: str, at: float) -> None:
        """Note on disk when an entry was last used; what is gone meanwhile is left alone."""
        with suppress(OSError):
            self._files.set_modified(self.root / digest[:3] / f"{digest[3:]}.meta", at)

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
        self, key: CacheKey, body: GrowingBody, stored: StoredResponse, variant: NewVariant | None = None
    ) -> StoredResponse:
        """Make the body visible under the key, replacing what was there; returns what its meta says.

        Args:
            key: whose it is.
            body: whole on disk; its part's name is gone afterwards, its descriptor stays open and the caller's.
            stored: the meta; ``body``, ``verified`` and ``variant`` in it are filled in here.
            variant: the page's rendering.

        Raises:
            StorageError: the disk refused; nothing is visible that was not before.
        """
        return await self._in_thread(lambda: self._publish(key, body, stored, variant))

    async def replace_variant(
        self, key: CacheKey, before: StoredResponse, stored: StoredResponse, variant: NewVariant
    ) -> StoredResponse:
        """Give a stored page another rendering and meta, where ``before`` is still what is stored.

        Raises:
            StorageError: the disk refused, or it is not.
        """
        return await self._in_thread(lambda: self._replace_variant(key, before, stored, variant))

    async def verify(self, key: CacheKey, stored: StoredResponse) -> StoredResponse | None:
        """Read the whole body and compare it with its digest.

        Returns:
            The response as it is stored now: unchanged, or with the body's new inode and times where only those
            differed, or what replaced it meanwhile. None where the body was wrong or gone: then it is in quarantine,
            and the entry is no more.
        """
        return await self._in_thread(lambda: self._verify(key, stored))

    async def remove(self, digests: tuple[str, ...], before: float) -> tuple[str, ...]:
        """Remove entries that were cached at ``before`` (epoch seconds) or earlier; returns those that are gone."""
        return await self._in_thread(lambda: tuple(d for d in digests if self._remove(d, before)))

    # -- scan --------------------------------------------------------------------------------------------------------

    async def scan(self, folders: tuple[str, ...], now: float) -> tuple[ScannedEntry, ...]:
        """The entries in some folders; broken pairs, and orphans past their grace, are removed on the way."""
        return await self._in_thread(
            lambda: tuple(entry for folder in folders for entry in self._scan_folder(folder, now))
        )

    async def clear_parts(self, now: float, grace_seconds: float) -> int:
        """Remove the parts that nobody holds and nobody can resume, older than the grace; returns how many."""
        return await self._in_thread(lambda: self._parts.clear(now, grace_seconds))

    def find(self, digest: str) -> tuple[CacheKey, StoredResponse] | None:
        """The entry whose key has this digest, for those who do not know its key."""
        stored = self._read_unnamed(self.root / digest[:3] / f"{digest[3:]}.meta")
        return (CacheKey(stored.key), stored) if stored else None

    @staticmethod
    def folders() -> tuple[str, ...]:
        """All folders that ``scan`` may be asked for."""
        return folder_names()

    # -- in threads --------------------------------------------------------------------------------------------------

    def _publish(
        self, key: CacheKey, body: GrowingBody, stored: StoredResponse, variant: NewVariant | None
    ) -> StoredResponse:
        assert body.part is not None
        made: list[Path] = []
        try:
            self._files.make_folders(self.root / key.folder)
            self._files.sync(body.part.descriptor)
            status = self._files.status(body.part.descriptor)
            body_path = self._place_body(key, body.part)
            made.append(body_path)
            stored = evolve(
                stored,
                body=body_path.name,
                verified=_as_seen(status),
                variant=self._write_variant(key, variant, made),
            )
            self._write_meta(key, stored)
        except OSError as error:
            for path in made:
                with suppress(OSError):
                    self._files.unlink(path)
            raise storage_error("cannot publish in the cache directory", error) from error
        return stored

    def _place_body(self, key: CacheKey, part: Part) -> Path:
        """Give the part a name that no other body has; its lease says that somebody is about to name it in a meta."""
        with self._lock:
            taken = self._files.exists(self._path(key, "body")) or self._files.exists(self._path(key, "meta"))
            path = self.root / key.folder / entry_name(key, "body", self._token(4) if taken else None)
            self._files.rename(part.path, path)
        return path

    def _replace_variant(
        self, key: CacheKey, before: StoredResponse, stored: StoredResponse, variant: NewVariant
    ) -> StoredResponse:
        made: list[Path] = []
        try:
            changed = evolve(stored, variant=self._write_variant(key, variant, made))
            self._write_meta(key, changed, instead_of=before)
        except OSError as error:
            for path in made:
                with suppress(OSError):
                    self._files.unlink(path)
            raise storage_error("cannot write in the cache directory", error) from error
        return changed

    def _write_variant(self, key: CacheKey, variant: NewVariant | None, made: list[Path]) -> Variant | None:
        if variant is None:
            return None
        name = entry_name(key, "html", self._token(4))
        made.append(self.root / key.folder / name)
        self._rename_into_place(variant.content, made[-1])
        return Variant(name, variant.shape, _as_seen(self._files.status_of(made[-1])))

    def _write_meta(self, key: CacheKey, stored: StoredResponse, instead_of: StoredResponse | None = None) -> None:
        """Publish the meta, then remove the files that the one before it named.

        Raises:
            OSError: it is not published; also where ``instead_of`` is given and is no longer what is stored.
        """
        with self._parts.new(stored.to_json()) as part, self._lock:
            before = self.read(key)
            if instead_of is not None and before != instead_of:
                raise FileNotFoundError(2, "the entry was replaced meanwhile")
            self._files.rename(part, self._path(key, "meta"))
            for name in before.files if before else ():
                if name not in stored.files:
                    with suppress(OSError):
                        self._files.unlink(self.root / key.folder / name)

    def _verify(self, key: CacheKey, stored: StoredResponse) -> StoredResponse | None:
        body = self.open_body(key, stored)
        if body is None:
            self._drop_broken(key.folder, entry_name(key, "meta"))
            return self._replacement(key, stored)
        try:
            is_right = body.sha256() == stored.sha256
        except StorageError:
            is_right = False
        finally:
            body.close()
        if not is_right:
            self._reject_stored(key, stored)
            return self._replacement(key, stored)
        if not body.is_suspect:
            return stored
        changed = evolve(stored, verified=body.seen)
        with suppress(OSError):  # then it is verified again the next time
            self._write_meta(key, changed, instead_of=stored)
            return changed
        return self._replacement(key, stored) or stored

    def _replacement(self, key: CacheKey, stored: StoredResponse) -> StoredResponse | None:
        """What was published in place of ``stored`` while that was looked at; None where nothing was."""
        current = self.read(key)
        return current if current != stored else None

    def _reject_stored(self, key: CacheKey, stored: StoredResponse) -> None:
        """Put a stored body that is wrong into quarantine and remove its entry, where it is still the stored one."""
        with self._lock:
            if self.read(key) != stored:
                return
            with suppress(OSError):
                self._files.unlink(self._path(key, "meta"))
            note = {"key": key.text, "upstream": stored.upstream, "wanted_sha256": stored.sha256, "found": "on disk"}
            self._quarantine.take(self.root / key.folder / stored.body, note, self._token(16))
            if stored.variant is not None:
                with suppress(OSError):
                    self._files.unlink(self.root / key.folder / stored.variant.file)

    def _remove(self, digest: str, before: float) -> bool:
        """Remove one entry, meta first; False where it was published anew, or the disk refused."""
        folder, stem = self.root / digest[:3], digest[3:]
        with self._lock:
            try:
                stored = self._read_unnamed(folder / f"{stem}.meta")
                if stored is not None and stored.cached_at > before:
                    return False
                self._files.unlink(folder / f"{stem}.meta")
            except FileNotFoundError:
                return True
            except OSError:
                return False
            for name in stored.files if stored else ():
                with suppress(OSError):  # an orphan from here on; the scan takes it
                    self._files.unlink(folder / name)
        return True

    def _scan_folder(self, folder: str, now: float) -> list[ScannedEntry]:
        ours: dict[str, tuple[EntryFile, os.stat_result]] = {}
        with suppress(OSError):  # no such folder yet, or removed under us
            for found in self._files.entries(self.root / folder):
                parts = parse_name(found.name)
                if parts is not None and found.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):  # replaced or evicted since it was listed
                        ours[found.name] = (parts, found.stat(follow_symlinks=False))
        entries: list[ScannedEntry] = []
        named: set[str] = set()
        for name, (parts, status) in ours.items():
            if parts.kind != "meta":
                continue
            try:
                stored = self._load(self.root / folder / name)
                if stored is None or not self._is_paired(folder, stored):
                    self._drop_broken(folder, name)
                    continue
            except OSError:  # the disk does not say: nothing of this entry is touched
                named.update(other for other, (its, _) in ours.items() if its.stem == parts.stem)
                continue
            named.update(stored.files)
            entries.append(ScannedEntry(folder + parts.stem, stored.size_on_disk, status.st_mtime))
        for name, (parts, status) in ours.items():
            if parts.kind != "meta" and name not in named and status.st_mtime < now - ORPHAN_GRACE_SECONDS:
                self._unlink_orphan(folder, parts, name)
        return entries

    def _drop_broken(self, folder: str, name: str) -> None:
        """Remove a meta that does not parse, or lacks a file; looked at again, as it may have been replaced."""
        with self._lock, suppress(OSError):
            stored = self._load(self.root / folder / name)
            if stored is None or not self._is_paired(folder, stored):
                self._files.unlink(self.root / folder / name)

    def _is_paired(self, folder: str, stored: StoredResponse) -> bool:
        """Whether the files that a meta names are there, of the sizes it says.

        Raises:
            OSError: the disk does not say.
        """
        wanted = [(stored.body, stored.body_size)]
        if stored.variant is not None:
            wanted.append((stored.variant.file, stored.variant.size))
        try:
            for name, size in wanted:
                status = self._files.status_of(self.root / folder / name)
                if not stat.S_ISREG(status.st_mode) or status.st_size != size:
                    return False
        except FileNotFoundError:
            return False
        return True

    def _unlink_orphan(self, folder: str, parts: EntryFile, name: str) -> None:
        with self._lock, suppress(OSError):
            current = self._load(self.root / folder / f"{parts.stem}.meta")
            if current is None or name not in current.files:
                remove_unowned(self._files, self.root / folder / name)

    # -- small parts -------------------------------------------------------------------------------------------------

    def _path(self, key: CacheKey, kind: str) -> Path:
        return self.root / key.folder / entry_name(key, kind)

    def _read_unnamed(self, path: Path) -> StoredResponse | None:
        """As ``_load``; None also where the disk does not say."""
        try:
            return self._load(path)
        except OSError:
            return None

    def _load(self, path: Path) -> StoredResponse | None:
        """A meta whose key is not known yet: read, and checked against its own file name; None where it is none.

        Raises:
            OSError: the disk does not say.
        """
        try:
            content = self._files.read_whole(path)
            key = key_of(content)
            if key.folder + key.stem != path.parent.name + path.name.removesuffix(".meta"):
                return None
            return StoredResponse.from_json(content, key)
        except (FileNotFoundError, ValueError):
            return None

    def _open(self, key: CacheKey, name: str, size: int, verified: Verified | None) -> StoredBody | None:
        try:
            descriptor = self._files.open(self.root / key.folder / name)
        except OSError:
            return None
        try:
            status = self._files.status(descriptor)
        except OSError:
            self._files.close(descriptor)
            return None
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            self._files.close(descriptor)
            return None
        return StoredBody(self._files, descriptor, _as_seen(status), is_suspect=_as_seen(status) != verified)

    def _rename_into_place(self, content: bytes, target: Path) -> None:
        with self._parts.new(content) as part:
            self._files.rename(part, target)


def _as_seen(status: os.stat_result) -> Verified:
    return Verified(status.st_ino, status.st_size, status.st_mtime_ns)
