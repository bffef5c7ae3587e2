"""Bodies: ``GrowingBody``, which is being received, and ``StoredBody``, which is on disk.

A growing body is a file from its first byte on: every reader has its own offset into it, so a late one reads what came
before it joined, a slow one holds nobody up, and memory does not grow with the size. Where there is no file (the disk
gave way, or the body is too big to keep) the bytes from there on are a window in memory instead. What all readers are
past is then let go, so the window can only be read by those who were there; the fetch keeps it small by pausing
upstream.

These classes move bytes and count them. Who reads, how far a reader may go, and when a body is right, is the fetch's
affair.
"""

from __future__ import annotations

import hashlib

from attrs import frozen

from pipcache.edges.files import Files, storage_error
from pipcache.rules.errors import StorageError
from pipcache.rules.meta import Verified

_HASHED_BYTES = 1 << 20


@frozen
class Part:
    """The file of a body that is being received, with its lease held through ``descriptor``."""

    path: str
    descriptor: int


class GrowingBody:
    """Bytes 0 to ``size``, appended by one writer, read at any offset that is still held.

    Invariant: bytes below ``_filed`` are in the part, those from ``_window_start`` (never less) on in the window.
    Once a write has failed the part takes no more, ``failure`` says why, and what it has can still be read.
    """

    def __init__(self, files: Files, part: Part | None, failure: StorageError | None = None) -> None:
        self.part = part
        self.failure = failure
        self.size = 0
        self._files = files
        self._filed = 0
        self._filing = part is not None
        self._window = bytearray()
        self._window_start = 0
        self._sha256 = hashlib.sha256()

    @classmethod
    def resumed(cls, files: Files, part: Part) -> GrowingBody:
        """A body whose first bytes are in a part that somebody left: read through once, for their digest.

        Raises:
            OSError: the part cannot be read.
        """
        body = cls(files, part)
        while chunk := files.read_at(part.descriptor, body.size, _HASHED_BYTES):
            body._sha256.update(chunk)
            body.size += len(chunk)
        body._filed = body.size
        return body

    @property
    def is_whole_on_disk(self) -> bool:
        """Whether every byte that came is in the part, so that it can be published."""
        return self._filing

    @property
    def window_bytes(self) -> int:
        """Bytes held in memory."""
        return len(self._window)

    @property
    def first_readable(self) -> int:
        """The lowest offset from which all bytes up to ``size`` can still be read."""
        return 0 if self._window_start <= self._filed else self._window_start

    @property
    def sha256(self) -> str:
        """The SHA-256 of all bytes so far, as hex digits."""
        return self._sha256.hexdigest()

    def append(self, data: bytes) -> None:
        """Take the next bytes. Never fails: what the disk does not take goes to the window."""
        self._sha256.update(data)
        if self._filing:
            data = self._write(data)
        self.size = self._filed + len(data) if self._filing else self.size + len(data)
        if data:
            self._window += data

    def read_at(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes at ``offset``, at least one where ``offset`` < ``size``.

        Raises:
            StorageError: the disk does not give them, or they were let go.
        """
        if offset < self._filed and self.part is not None:
            return _read(self._files, self.part.descriptor, offset, min(count, self._filed - offset))
        start = offset - self._window_start
        if start < 0:
            raise StorageError("the bytes are no longer held")
        with memoryview(self._window) as window:  # a slice of the window itself would be copied twice
            return bytes(window[start : start + count])

    def let_go(self, before: int) -> None:
        """Forget window bytes below offset ``before``, which may be ahead of all that came."""
        surplus = min(before, self.size) - self._window_start
        if surplus > 0:
            del self._window[:surplus]
            self._window_start += surplus

    def give_up_name(self) -> bool:
        """Leave the part's name to the caller; what is appended later goes to the window. False where it has none."""
        had_name, self._filing = self._filing, False
        if had_name:
            self._window_start = self._filed
        return had_name

    def discard(self) -> None:
        """Remove the file's name: it will not be published. Readers keep what they have open."""
        if self.give_up_name() and self.part is not None:
            try:
                self._files.unlink(self.part.path)
            except OSError:
                return  # the scan takes what is left of it, as nobody holds its lease any more

    def close(self) -> None:
        """Give the descriptor back; nobody may read any more."""
        if self.part is not None:
            self._files.close(self.part.descriptor)
            self.part = None
        self._filed = 0
        self._window.clear()

    def _write(self, data: bytes) -> bytes:
        """Write to the part; returns what it did not take, empty unless the disk failed just now."""
        assert self.part is not None
        left = memoryview(data)
        try:
            while left:
                taken = self._files.write(self.part.descriptor, left)
                left = left[taken:]
                self._filed += taken
        except OSError as error:
            self.failure = storage_error("cannot write to the cache directory", error)
            self.size = self._filed
            self.discard()
        return bytes(left)


class StoredBody:
    """A file that is whole and will not change; an ``open`` of it survives its eviction.

    Whoever was given one closes it. ``is_suspect``: it is not the file that was verified; somebody touched it.
    """

    def __init__(self, files: Files, descriptor: int, seen: Verified, *, is_suspect: bool = False) -> None:
        self.length = seen.size
        self.seen = seen
        self.is_suspect = is_suspect
        self._files = files
        self._descriptor: int | None = descriptor

    @property
    def descriptor(self) -> int | None:
        """Of the open file, for who has the system send it; None when it was given back."""
        return self._descriptor

    def read_at(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes at ``offset``.

        Raises:
            StorageError: the disk does not give them, or the file has become shorter than it was.
        """
        assert self._descriptor is not None
        return _read(self._files, self._descriptor, offset, min(count, self.length - offset))

    def sha256(self) -> str:
        """The SHA-256 of the whole file, as hex digits; blocks for as long as reading it takes.

        Raises:
            StorageError: it cannot be read, or has become shorter.
        """
        digest = hashlib.sha256()
        position = 0
        while position < self.length:
            chunk = self.read_at(position, _HASHED_BYTES)
            digest.update(chunk)
            position += len(chunk)
        return digest.hexdigest()

    def close(self) -> None:
        """Give the descriptor back; harmless when done already."""
        if self._descriptor is not None:
            self._files.close(self._descriptor)
            self._descriptor = None


def _read(files: Files, descriptor: int, offset: int, count: int) -> bytes:
    try:
        data = files.read_at(descriptor, offset, count)
    except OSError as error:
        raise storage_error("cannot read from the cache directory", error) from error
    if not data and count:
        raise StorageError("a body on disk is shorter than it was")
    return data
