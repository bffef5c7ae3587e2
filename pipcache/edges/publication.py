"""Publication: a body and a page's variants get their names, then the meta, whose rename makes them visible.

A crash on the way leaves files that no meta names, never a meta with another's body. A replaced body gets a name of its
own, so an open reader keeps a whole one. Everything here blocks: it runs in the store's threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock

from attrs import evolve, frozen

from pipcache.edges.body import GrowingBody, Part
from pipcache.edges.entries import Entries, as_seen
from pipcache.edges.files import Files, storage_error
from pipcache.edges.parts import Parts
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import StoredResponse, Variant, entry_name

AMENDING_TRIES = 5
"""Somebody else may amend the same entry meanwhile: then it is done again, on what stands there now."""


@frozen
class NewVariant:
    """A rendering to be published beside a page's body: whole in memory, or a body that is whole on disk."""

    kind: str
    shape: str
    content: bytes | GrowingBody


class Publication:
    """Makes entries visible. ``lock`` keeps a removal from meeting it half-way; ``token`` makes random hex digits."""

    def __init__(self, entries: Entries, parts: Parts, files: Files, lock: Lock, token: Callable[[int], str]) -> None:
        self._entries = entries
        self._parts = parts
        self._files = files
        self._lock = lock
        self._token = token

    def publish(
        self, key: CacheKey, body: GrowingBody, stored: StoredResponse, variants: Sequence[NewVariant]
    ) -> StoredResponse:
        """Make the body visible under the key, with its variants; what its meta says.

        Raises:
            StorageError: the disk refused; nothing is visible that was not before.
        """
        assert body.part is not None
        with self._all_or_nothing("cannot publish in the cache directory") as made:
            self._files.sync(body.part.descriptor)
            status = self._files.status(body.part.descriptor)
            made.append(self._place_body(key, body.part))
            stored = evolve(stored, body=made[-1].rpartition("/")[2], verified=as_seen(status))
            stored = stored.with_variants(self._write_variants(key, variants, made))
            self.write_meta(key, stored)
        return stored

    def amend(
        self,
        key: CacheKey,
        of: StoredResponse,
        change: Callable[[StoredResponse], StoredResponse],
        variants: Sequence[NewVariant],
    ) -> StoredResponse | None:
        """Change the meta of a publication, and give it these variants; what its meta says then.

        Returns:
            None where something else is stored there meanwhile, or nothing: that stays as it is.

        Raises:
            StorageError: the disk refused.
        """
        with self._all_or_nothing("cannot write in the cache directory") as made:
            added = self._write_variants(key, variants, made)
            for _ in range(AMENDING_TRIES):
                current = self._entries.read(key)
                if current is None or not current.is_same_body(of):
                    break
                changed = change(current).with_variants(added)
                if self.write_meta(key, changed, instead_of=current):
                    return changed
            self._take_back(made)
        return None

    def write_meta(self, key: CacheKey, stored: StoredResponse, instead_of: StoredResponse | None = None) -> bool:
        """Publish the meta, then remove the files that the one before it named.

        Returns:
            False where ``instead_of`` is given and is no longer what is stored: then nothing is published.

        Raises:
            OSError: nothing is published.
        """
        with self._parts.new(stored.to_json()) as part, self._lock:
            before = self._entries.read(key)
            if instead_of is not None and before != instead_of:
                self._files.unlink(part)
                return False
            self._files.rename(part, self._entries.path(key, "meta"))
            for name in before.files if before else ():
                if name not in stored.files:
                    with suppress(OSError):
                        self._files.unlink(self._entries.folder(key) + name)
        return True

    def _place_body(self, key: CacheKey, part: Part) -> str:
        """Give the part a name that no other body has; its lease says that somebody is about to name it in a meta."""
        with self._lock:
            taken = any(self._files.exists(self._entries.path(key, kind)) for kind in ("body", "meta"))
            path = self._entries.path(key, "body", self._token(4) if taken else None)
            try:
                self._files.rename(part.path, path)
            except FileNotFoundError:  # the folder is made when the first entry comes into it
                self._files.make_folders(self._entries.root / key.folder)
                self._files.rename(part.path, path)
        return path

    def _write_variants(self, key: CacheKey, variants: Sequence[NewVariant], made: list[str]) -> tuple[Variant, ...]:
        return tuple(self._write_variant(key, variant, made) for variant in variants)

    def _write_variant(self, key: CacheKey, variant: NewVariant, made: list[str]) -> Variant:
        name = entry_name(key, variant.kind, self._token(4))
        path = self._entries.folder(key) + name
        made.append(path)
        if isinstance(variant.content, bytes):
            with self._parts.new(variant.content) as part:
                self._files.rename(part, path)
        else:
            assert variant.content.part is not None
            self._files.sync(variant.content.part.descriptor)
            self._files.rename(variant.content.part.path, path)
        return Variant(name, variant.shape, as_seen(self._files.status_of(path)))

    @contextmanager
    def _all_or_nothing(self, failure: str) -> Iterator[list[str]]:
        """Take back what the block made (it fills the list) where the disk refuses, and say so as ``StorageError``."""
        made: list[str] = []
        try:
            yield made
        except OSError as error:
            self._take_back(made)
            raise storage_error(failure, error) from error

    def _take_back(self, made: list[str]) -> None:
        for path in made:
            with suppress(OSError):
                self._files.unlink(path)
