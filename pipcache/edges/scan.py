"""The scan of the entries' folders: what is there, and what is there by mistake.

A meta that does not parse or lacks a file is removed, and so are files that no meta names, once they are too old to belong
to a publication in progress. Only names of our own form are looked at. Everything here blocks: it runs in the store's
threads.
"""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Lock

from attrs import frozen

from pipcache.edges.entries import Entries
from pipcache.edges.files import Files
from pipcache.edges.parts import remove_unowned
from pipcache.rules.meta import EntryFile, parse_name

ORPHAN_GRACE_SECONDS = 60.0
"""A file that no meta names may belong to a publication in progress; after this long it does not."""


@frozen
class ScannedEntry:
    """An entry as the scan found it: the digest of its key, bytes on disk, and when it was last used."""

    digest: str
    size_bytes: int
    used_at: float


class Scan:
    """Looks through folders, one at a time."""

    def __init__(self, entries: Entries, files: Files, lock: Lock) -> None:
        self._entries = entries
        self._files = files
        self._lock = lock

    def folder(self, folder: str, now: float) -> list[ScannedEntry]:
        """The entries in a folder; broken pairs, and orphans past their grace, are removed on the way."""
        ours = self._listed(folder)
        statuses = {name: status for name, (_, status) in ours.items()}
        path = self._entries.root / folder
        entries: list[ScannedEntry] = []
        named: set[str] = set()
        for name, (parts, status) in ours.items():
            if parts.kind != "meta":
                continue
            try:
                stored = self._entries.load(path / name)
                if stored is None or not self._entries.is_paired(folder, stored, statuses):
                    self.drop_broken(folder, name)
                    continue
            except OSError:  # the disk does not say: nothing of this entry is touched
                named.update(other for other, (its, _) in ours.items() if its.stem == parts.stem)
                continue
            named.update(stored.files)
            entries.append(ScannedEntry(folder + parts.stem, stored.size_on_disk, status.st_mtime))
        for name, (parts, status) in ours.items():
            if parts.kind != "meta" and name not in named and status.st_mtime < now - ORPHAN_GRACE_SECONDS:
                self._remove_orphan(folder, parts, name)
        return entries

    def drop_broken(self, folder: str, name: str) -> None:
        """Remove a meta that does not parse, or lacks a file; looked at again, as it may have been replaced."""
        path = self._entries.root / folder / name
        with self._lock, suppress(OSError):
            stored = self._entries.load(path)
            if stored is None or not self._entries.is_paired(folder, stored):
                self._files.unlink(path)

    def _listed(self, folder: str) -> dict[str, tuple[EntryFile, os.stat_result]]:
        """The files in a folder that have names of our own form, as they were when they were listed."""
        ours: dict[str, tuple[EntryFile, os.stat_result]] = {}
        with suppress(OSError):  # no such folder yet, or removed under us
            for found in self._files.entries(self._entries.root / folder):
                parts = parse_name(found.name)
                if parts is not None and found.is_file:
                    ours[found.name] = (parts, found.status)
        return ours

    def _remove_orphan(self, folder: str, parts: EntryFile, name: str) -> None:
        with self._lock, suppress(OSError):
            current = self._entries.load(self._entries.meta_path(folder + parts.stem))
            if current is None or name not in current.files:
                remove_unowned(self._files, self._entries.root / folder / name)
