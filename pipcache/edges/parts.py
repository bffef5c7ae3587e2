"""The folder ``tmp/``: parts, which are files that are not yet visible.

Whoever writes a part holds its lease; the system frees that when the process dies. A part without a lease belongs to
nobody: it is removed, unless its name says what digest its bytes must come to. Then whoever fetches that body next may take
it over and go on where it ends, within ``RESUMABLE_SECONDS``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipcache.edges.body import GrowingBody, Part
from pipcache.edges.files import AnyPath, Files
from pipcache.rules.meta import is_part_name, part_name, promised_digest

RESUMABLE_SECONDS = 3600.0
_CREATE_TRIES = 3
WORTH_BYTES = 1 << 16
"""A shorter part is not worth a request of its own."""


class Parts:
    """Makes, takes over and clears parts. Calls block for as long as the disk does."""

    def __init__(self, folder: Path, files: Files, token: Callable[[int], str]) -> None:
        self._folder = folder
        self._start = f"{folder}/"
        self._files = files
        self._token = token
        self._left: dict[str, str] = {}

    def create(self, sha256: str | None = None) -> Part:
        """A new part, leased; the folder is made again where somebody removed it.

        Raises:
            OSError: the disk gives none.
        """
        for _ in range(_CREATE_TRIES):
            path = self._start + part_name(self._token(16), sha256)
            try:
                descriptor = self._files.create(path)
            except FileNotFoundError:
                self._files.make_folders(self._folder)
                descriptor = self._files.create(path)
            try:
                # somebody who clears parts may have come between creation and lease
                if self._files.lease(descriptor) and self._files.status(descriptor).st_nlink:
                    return Part(path, descriptor)
            except OSError:
                self._files.close(descriptor)
                with suppress(OSError):
                    self._files.unlink(path)
                raise
            self._files.close(descriptor)
        raise BlockingIOError(errno.EBUSY, "new files are removed at once")

    @contextmanager
    def new(self, content: bytes) -> Iterator[str]:
        """A synced part of this content, leased while the block renames it; one that fails to is removed.

        Raises:
            OSError: the disk refused.
        """
        part = self.create()
        try:
            left = memoryview(content)
            while left:
                left = left[self._files.write(part.descriptor, left) :]
            self._files.sync(part.descriptor)
            yield part.path
        except OSError:
            with suppress(OSError):
                self._files.unlink(part.path)
            raise
        finally:
            self._files.close(part.descriptor)

    def leave(self, part: Part, size_bytes: int) -> bool:
        """Let a part stay when its writer closes it; False where it is not worth it, or nobody could resume it."""
        sha256 = promised_digest(part.path.rpartition("/")[2])
        if sha256 is None or size_bytes < WORTH_BYTES:
            return False
        self._left[sha256] = part.path
        return True

    def is_resumable(self, sha256: str) -> bool:
        """Whether somebody left a part of the body with this digest; costs nothing."""
        return sha256 in self._left

    def resume(self, sha256: str) -> GrowingBody | None:
        """Take over the part that was left of this body, if it is still there and nobody else has it."""
        path = self._left.get(sha256)
        if path is None:
            return None
        try:
            descriptor = self._files.open_part(path)
        except OSError:
            self._left.pop(sha256, None)
            return None
        try:
            if self._files.lease(descriptor):
                self._left.pop(sha256, None)
                return GrowingBody.resumed(self._files, Part(path, descriptor))
        except OSError:
            pass
        self._files.close(descriptor)
        return None

    def clear(self, now: float, grace_seconds: float) -> int:
        """Remove what nobody holds and nobody can resume, older than the grace; returns how many.

        Args:
            now: epoch seconds.
            grace_seconds: a part that was made a moment ago may be about to get its lease.
        """
        cleared = 0
        with suppress(OSError):
            for found in self._files.entries(self._folder):
                if not is_part_name(found.name) or not found.is_file:
                    continue
                age = abs(now - found.status.st_mtime)  # of a clock that was set back, too
                path, sha256 = self._start + found.name, promised_digest(found.name)
                if sha256 is not None and age < RESUMABLE_SECONDS:
                    if _with_lease(self._files, path, lambda: None):
                        self._left[sha256] = path
                elif age >= grace_seconds:
                    cleared += remove_unowned(self._files, path)
        return cleared


def remove_unowned(files: Files, path: AnyPath) -> bool:
    """Remove a part, or a body that no meta names; False where its writer still has it, or the disk refused."""
    return _with_lease(files, path, lambda: files.unlink(path))


def _with_lease(files: Files, path: AnyPath, do: Callable[[], None]) -> bool:
    """Do it while holding the file's lease; False where somebody else has that, or the disk refuses."""
    try:
        descriptor = files.open(path)
    except OSError:
        return False
    try:
        if not files.lease(descriptor):
            return False
        do()
    except OSError:
        return False
    finally:
        files.close(descriptor)
    return True
