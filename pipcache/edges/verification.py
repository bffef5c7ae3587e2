"""Doubt: a stored body is read whole and compared with its digest; one that is wrong goes to quarantine.

What was published in its place meanwhile is none of its business. Everything here blocks: it runs in the store's threads.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Lock

from attrs import evolve

from pipcache.edges.entries import Entries
from pipcache.edges.files import Files
from pipcache.edges.publication import Publication
from pipcache.edges.quarantine import Quarantine
from pipcache.edges.scan import Scan
from pipcache.rules.errors import StorageError
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import StoredResponse, entry_name


class Verification:
    """Decides what becomes of a stored body that may have changed."""

    def __init__(
        self,
        entries: Entries,
        publication: Publication,
        scan: Scan,
        quarantine: Quarantine,
        files: Files,
        lock: Lock,
        token: Callable[[int], str],
    ) -> None:
        self._entries = entries
        self._publication = publication
        self._scan = scan
        self._quarantine = quarantine
        self._files = files
        self._lock = lock
        self._token = token

    def verify(self, key: CacheKey, stored: StoredResponse) -> StoredResponse | None:
        """As ``DiskStore.verify``."""
        body = self._entries.open_body(key, stored)
        if body is None:
            self._scan.drop_broken(key.folder, entry_name(key, "meta"))
            return self._replacement(key, stored)
        try:
            is_right = body.sha256() == stored.sha256
        except StorageError:
            is_right = False
        finally:
            body.close()
        if not is_right:
            self._reject(key, stored)
            return self._replacement(key, stored)
        if not body.is_suspect:
            return stored
        changed = evolve(stored, verified=body.seen)
        with suppress(OSError):  # then it is verified again the next time
            if self._publication.write_meta(key, changed, instead_of=stored):
                return changed
        return self._replacement(key, stored) or stored

    def _replacement(self, key: CacheKey, stored: StoredResponse) -> StoredResponse | None:
        """What was published in place of ``stored`` while that was looked at; None where nothing was."""
        current = self._entries.read(key)
        return None if current is None or current.is_same_body(stored) else current

    def _reject(self, key: CacheKey, stored: StoredResponse) -> None:
        """Put a body that is wrong into quarantine and remove its entry, where it is still the stored one."""
        with self._lock:
            current = self._entries.read(key)
            if current is None or not current.is_same_body(stored):
                return
            with suppress(OSError):
                self._files.unlink(self._entries.path(key, "meta"))
            note = {"key": key.text, "upstream": stored.upstream, "wanted_sha256": stored.sha256, "found": "on disk"}
            folder = self._entries.root / key.folder
            self._quarantine.take(folder / stored.body, note, self._token(16))
            for variant in current.variants:
                with suppress(OSError):
                    self._files.unlink(folder / variant.file)
