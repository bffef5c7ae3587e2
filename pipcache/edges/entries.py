"""The entries' folders as they are read: where an entry's files lie, what its meta says, and whether they belong together.

A meta is believed only under its own name. Nothing here changes what is on disk, but for the note of a last use.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from pipcache.edges.body import StoredBody
from pipcache.edges.files import Files, Identity
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import StoredResponse, Variant, Verified, entry_name, key_of

_MAX_REMEMBERED = 512


class Entries:
    """What lies under ``root``; every other room of the store finds its way through this one."""

    def __init__(self, root: Path, files: Files) -> None:
        self.root = root
        self._files = files
        self._folders = f"{root}/"
        self._remembered: dict[str, tuple[Identity, StoredResponse]] = {}

    def folder(self, key: CacheKey) -> str:
        """Where the entry's files lie, with a slash at its end."""
        return f"{self._folders}{key.folder}/"

    def path(self, key: CacheKey, kind: str, generation: str | None = None) -> str:
        """Where the entry's file of this kind lies."""
        return self.folder(key) + entry_name(key, kind, generation)

    def meta_path(self, digest: str) -> Path:
        """Where the meta lies of the key with this digest."""
        return self.root / digest[:3] / f"{digest[3:]}.meta"

    def read(self, key: CacheKey) -> StoredResponse | None:
        """What is stored under the key, or None: nothing, or nothing that can be trusted.

        A page's meta is read for each file that is looked for in it, so a meta that is still the file that was read is not
        read again. Threads call this too.
        """
        path = self.path(key, "meta")
        try:
            identity = self._files.identity(path)
            remembered = self._remembered.get(key.digest)
            if remembered is not None and remembered[0] == identity:
                return remembered[1]
            stored = StoredResponse.from_json(self._files.read_whole(path), key)
        except (OSError, ValueError):
            return None
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[key.digest] = (identity, stored)
        return stored

    def find(self, digest: str) -> StoredResponse | None:
        """What is stored under the key with this digest; None also where the disk does not say."""
        try:
            return self.load(self.meta_path(digest))
        except OSError:
            return None

    def load(self, path: Path) -> StoredResponse | None:
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

    def open_body(self, key: CacheKey, stored: StoredResponse) -> StoredBody | None:
        """The stored body, or None where it is missing or not of the size that was published."""
        return self._open(key, stored.body, stored.body_size, stored.verified)

    def open_variant(self, key: CacheKey, variant: Variant) -> StoredBody | None:
        """A page's rendering, or None where it is missing or somebody touched it."""
        body = self._open(key, variant.file, variant.size, variant.verified)
        if body is not None and body.is_suspect:
            body.close()
            return None
        return body

    def is_paired(
        self, folder: str, stored: StoredResponse, listed: Mapping[str, os.stat_result] | None = None
    ) -> bool:
        """Whether the files that a meta names are there, of the sizes it says.

        Args:
            folder: where they lie.
            stored: what the meta says.
            listed: the files of the folder as they were a moment ago; only what is not among them is looked at.

        Raises:
            OSError: the disk does not say.
        """
        wanted = [(stored.body, stored.body_size)]
        wanted += [(variant.file, variant.size) for variant in stored.variants]
        try:
            for name, size in wanted:
                status = (listed or {}).get(name) or self._files.status_of(self.root / folder / name)
                if not stat.S_ISREG(status.st_mode) or status.st_size != size:
                    return False
        except FileNotFoundError:
            return False
        return True

    def seen(self, digest: str, name: str) -> SeenFiles | None:
        """The meta of the key with this digest, and the file of this name beside it, as they are now."""
        folder = f"{self._folders}{digest[:3]}/"
        meta, other = f"{folder}{digest[3:]}.meta", folder + name
        try:
            return SeenFiles(self._files, meta, other, self._files.identity(meta), self._files.identity(other))
        except OSError:
            return None

    def touch(self, digest: str, at: float) -> None:
        """Note on disk when an entry was last used; what is gone meanwhile is left alone."""
        with suppress(OSError):
            self._files.set_modified(self.meta_path(digest), at)

    def _open(self, key: CacheKey, name: str, size: int, verified: Verified | None) -> StoredBody | None:
        try:
            descriptor = self._files.open(self.folder(key) + name)
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
        return StoredBody(self._files, descriptor, as_seen(status), is_suspect=as_seen(status) != verified)


def as_seen(status: os.stat_result) -> Verified:
    """What is noted of a file whose bytes are known to be right."""
    return Verified(status.st_ino, status.st_size, status.st_mtime_ns)


@frozen
class SeenFiles:
    """Two files, and what stood for their names when they were looked at."""

    _files: Files
    _meta: str
    _other: str
    _meta_was: Identity
    _other_was: Identity

    def is_current(self) -> bool:
        """Whether they are still there, and nobody touched either. Two system calls."""
        return self.is_meta_current() and self._is_current(self._other, self._other_was)

    def is_meta_current(self) -> bool:
        """Whether the meta is. One system call."""
        return self._is_current(self._meta, self._meta_was)

    def _is_current(self, path: str, was: Identity) -> bool:
        try:
            return self._files.identity(path) == was
        except OSError:
            return False

    def open(self) -> StoredBody | None:
        """The other one; None where it is gone, or somebody touched it."""
        descriptor = self._files.open_identical(self._other, self._other_was)
        return None if descriptor is None else StoredBody(self._files, descriptor, Verified(*self._other_was[1:]))
