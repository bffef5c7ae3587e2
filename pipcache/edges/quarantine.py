"""Bodies that were wrong, kept for whoever wants to know why: bounded, the oldest go first.

Each is a pair of files, the body and a note in JSON that says where it came from and what was wrong with it. A body that is
larger than the whole quarantine leaves its note only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pipcache.edges.files import AnyPath, Files
from pipcache.rules.meta import is_quarantined_name


class Quarantine:
    """The folder ``quarantine/``. Its calls block: they are made in the store's threads.

    Nothing here raises: what cannot be kept for inspection is removed.
    """

    def __init__(self, folder: Path, max_bytes: int, files: Files) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._files = files

    def take(self, path: AnyPath, note: Mapping[str, object], token: str) -> None:
        """Move the file here, with a note; it is gone from where it was in any case."""
        try:
            size = self._files.status_of(path).st_size
            self._files.make_folders(self._folder)
            text = json.dumps({**note, "size": size}, indent=1).encode() + b"\n"
            self._write(self._folder / f"{token}.json", text)
            kept = size + len(text) <= self._max_bytes
            if kept:
                self._files.rename(path, self._folder / f"{token}.body")
            self._make_room()
        except OSError:
            kept = False
        if not kept:
            with suppress(OSError):
                self._files.unlink(path)

    def _write(self, path: Path, content: bytes) -> None:
        descriptor = self._files.create(path)
        try:
            self._files.write(descriptor, content)
        finally:
            self._files.close(descriptor)

    def _make_room(self) -> None:
        """Remove what was noted first, body and note together; a body's own time is that of its bytes."""
        pairs: dict[str, list[tuple[os.stat_result, Path]]] = {}
        noted_at: dict[str, float] = {}
        for entry in self._files.entries(self._folder):
            if is_quarantined_name(entry.name) and entry.is_file:
                status, path = entry.status, self._folder / entry.name
                pairs.setdefault(path.stem, []).append((status, path))
                if path.suffix == ".json":
                    noted_at[path.stem] = status.st_mtime
        excess = sum(status.st_size for pair in pairs.values() for status, _ in pair) - self._max_bytes
        for stem in sorted(pairs, key=lambda each: noted_at.get(each, 0.0)):
            if excess <= 0:
                return
            for status, path in pairs[stem]:
                with suppress(OSError):
                    self._files.unlink(path)
                    excess -= status.st_size
