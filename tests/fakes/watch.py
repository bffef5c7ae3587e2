"""The simulation's ``Events``: what must never happen becomes something wrong with the world."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pipcache.rules.errors import DigestMismatch, PipcacheError

if TYPE_CHECKING:
    from tests.fakes.world import Process


class Watch:
    """The engine's ``Events``: turns what must not be into an error of the world."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.trouble: PipcacheError | None = None
        self.found: list[str] = []
        self.evictions = 0

    def _is_not_put_last(self, upstream: str, path: str, error: PipcacheError) -> None:
        process = self._process
        is_liar = isinstance(error, DigestMismatch) and not path.startswith("/-/files/")
        if is_liar and not process.is_dead and not process.upstreams.is_last(upstream):
            process.world.wrongs.append(f"{upstream} sent wrong bytes of {path} and was not put last")

    def upstream_failed(self, upstream: str, path: str, error: PipcacheError) -> None:
        """One that sent wrong bytes must be put last."""
        self._is_not_put_last(upstream, path, error)

    def fetch_broke(self, path: str, upstream: str, error: PipcacheError) -> None:
        """The same in mid-body."""
        self._is_not_put_last(upstream, path, error)

    def fetched(self, path: str, upstream: str, size_bytes: int, seconds: float) -> None:
        """As it should be."""

    def validated(self, path: str, upstream: str) -> None:
        """As it should be."""

    def storage_failed(self, error: PipcacheError) -> None:
        """Remember it."""
        self.trouble = error

    def storage_works(self) -> None:
        """Forget it."""
        self.trouble = None

    def found_wrong(self, key: str) -> None:
        """Remember it."""
        self.found.append(key)

    def evicted(self, entries: int, freed_bytes: int, short_bytes: int) -> None:
        """Count them."""
        self.evictions += entries

    def scanned(self, entries: int, size_bytes: int, seconds: float) -> None:
        """As it should be."""

    def crowded(self, limit: int) -> None:
        """Simulated clients do not connect."""

    def crashed(self, doing: str) -> None:
        """Nothing may."""
        if not self._process.is_dead:
            self._process.world.wrongs.append(f"crashed while {doing}: {sys.exc_info()[1]!r}")
