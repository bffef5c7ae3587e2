"""The operating system's calls on files that the cache makes, in one place.

``DiskStore`` and ``GrowingBody`` reach the disk through this object only, so a test can make any one call fail. It knows
nothing of keys, metas or layouts. Files are made readable by their owner alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from pipcache.rules.errors import StorageError

_READ_BYTES = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def storage_error(what: str, error: OSError) -> StorageError:
    """What the system refused, in our words: ``what`` says what was being done."""
    return StorageError(f"{what}: {error.strerror or error}", is_full=error.errno in _FULL)


class Files:
    """Plain calls; each raises ``OSError`` as the system does."""

    def make_folders(self, path: Path) -> None:
        """Make the folder and those above it that are missing."""
        if not path.parent.exists():
            self.make_folders(path.parent)  # `parents=True` would give these the mode of the umask
        path.mkdir(mode=0o700, exist_ok=True)

    def create(self, path: Path) -> int:
        """A descriptor for reading and writing of a file that did not exist before."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def open_part(self, path: Path) -> int:
        """A descriptor for reading, and for appending to what is there; a symbolic link is refused."""
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)

    def open(self, path: Path) -> int:
        """A descriptor for reading; a symbolic link is refused."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def close(self, descriptor: int) -> None:
        """Give the descriptor back."""
        os.close(descriptor)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Append; returns how many bytes were taken, at least one, which may be fewer than were given."""
        taken = os.write(descriptor, data)
        if not taken and data:
            raise OSError(errno.ENOSPC, "nothing more is taken")  # whoever writes the rest would do so for ever
        return taken

    def read_at(self, descriptor: int, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes at ``offset``; fewer only at the end of the file."""
        return os.pread(descriptor, count, offset)

    def read_whole(self, path: Path) -> bytes:
        """The content of a small file; a symbolic link is refused."""
        descriptor = self.open(path)
        try:
            chunks = []
            while chunk := os.read(descriptor, _READ_BYTES):
                chunks.append(chunk)
            return b"".join(chunks)
        finally:
            self.close(descriptor)

    def sync(self, descriptor: int) -> None:
        """Return when the file's bytes would survive a loss of power."""
        os.fsync(descriptor)

    def status(self, descriptor: int) -> os.stat_result:
        """Inode, size and times of an open file."""
        return os.fstat(descriptor)

    def status_of(self, path: Path) -> os.stat_result:
        """The same by name; a symbolic link is not followed."""
        return path.lstat()

    def rename(self, source: Path, target: Path) -> None:
        """Move a file, replacing what stands there, all at once."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove a name; the bytes live on for those who have them open."""
        path.unlink()

    def exists(self, path: Path) -> bool:
        """Whether the name stands for anything, a dangling link included."""
        return os.path.lexists(path)

    def set_modified(self, path: Path, at: float) -> None:
        """Set the file's times to ``at``, epoch seconds."""
        os.utime(path, (at, at), follow_symlinks=False)

    def entries(self, path: Path) -> Iterator[os.DirEntry[str]]:
        """What a folder holds, in no order."""
        with os.scandir(path) as found:
            yield from found

    def lease(self, descriptor: int) -> bool:
        """Take the file's lease (flock); False where somebody has it. It ends with the descriptor, or its process."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
