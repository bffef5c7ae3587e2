"""The operating system's calls on files that the cache makes, in one place.

``DiskStore`` and ``GrowingBody`` reach the disk through this object only, so a test can make any one call fail. It knows
nothing of keys, metas or layouts. Files and folders are made for their owner alone.

No call follows a symbolic link, neither in a file's place nor in that of the folder that holds it: each opens the folder
first and goes on from that descriptor, so nobody can exchange it on the way. What is above that folder is the operator's
choice. And no call waits for somebody at the other end: what is no regular file is not opened.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from attrs import frozen

from pipcache.rules.errors import StorageError

AnyPath: TypeAlias = str | os.PathLike[str]
"""A path in whichever form the caller has it; text, where it is asked for with each request."""

_READ_BYTES = 1 << 20
_WHOLE_BYTES = 16 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Identity = tuple[int, int, int, int]
"""Of a file: its device, inode, size in bytes, and when it was written, in nanoseconds."""


def storage_error(what: str, error: OSError) -> StorageError:
    """What the system refused, in our words: ``what`` says what was being done."""
    return StorageError(f"{what}: {error.strerror or error}", is_full=error.errno in _FULL)


@frozen
class Found:
    """A name in a folder, and what it stood for when it was looked at; a link is itself."""

    name: str
    status: os.stat_result

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.status.st_mode)


class Files:
    """Plain calls; each raises ``OSError`` as the system does."""

    def make_folders(self, path: Path) -> None:
        """Make the folder and those above it that are missing."""
        if not path.parent.exists():
            self.make_folders(path.parent)  # `parents=True` would give these the mode of the umask
        folder, name = _opened_folder_of(path)
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise _no_folder(path) from None
        finally:
            os.close(folder)

    def make_private(self, path: Path) -> None:
        """Take everybody else's rights on a folder away; one on which they have none is left alone."""
        descriptor = _open_folder(path, os.O_RDONLY)
        try:
            if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
                os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)

    def create(self, path: AnyPath) -> int:
        """A descriptor for reading and writing of a file that did not exist before."""
        return _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)[0]

    def open_part(self, path: AnyPath) -> int:
        """A descriptor for reading, and for appending to what is there."""
        return _open(path, os.O_RDWR | os.O_APPEND)[0]

    def open(self, path: AnyPath) -> int:
        """A descriptor for reading."""
        return _open(path, os.O_RDONLY)[0]

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

    def read_whole(self, path: AnyPath) -> bytes:
        """The content of a small file."""
        descriptor, size = _open(path, os.O_RDONLY)
        try:
            if size > _WHOLE_BYTES:
                raise OSError(errno.EINVAL, "too large to be read whole")
            content = os.read(descriptor, size + 1)
            if len(content) == size:
                return content
            chunks = [content]  # it has grown since, or the system gives less at a time
            while chunk := os.read(descriptor, _READ_BYTES):
                chunks.append(chunk)
            return b"".join(chunks)
        finally:
            os.close(descriptor)

    def sync(self, descriptor: int) -> None:
        """Return when the file's bytes would survive a loss of power."""
        os.fsync(descriptor)

    def status(self, descriptor: int) -> os.stat_result:
        """Inode, size and times of an open file."""
        return os.fstat(descriptor)

    def status_of(self, path: AnyPath) -> os.stat_result:
        """The same by name; of a link itself, where it is one."""
        folder, name = _opened_folder_of(path)
        try:
            return os.stat(name, dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(folder)

    def identity(self, path: AnyPath) -> Identity:
        """What a name stands for: equal for the same file, as it was when that was taken.

        This and ``open_identical`` may go through a link in the folder's place: what is found there is never equal to
        what was read, and so it is not used.
        """
        return _identity(os.stat(path, follow_symlinks=False))

    def open_identical(self, path: str, identity: Identity) -> int | None:
        """A descriptor for reading; None where the name stands for another file now, or for none."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        if _identity(os.fstat(descriptor)) == identity:
            return descriptor
        os.close(descriptor)
        return None

    def rename(self, source: AnyPath, target: AnyPath) -> None:
        """Move a file, replacing what stands there, all at once."""
        source_folder, source_name = _opened_folder_of(source)
        try:
            target_folder, target_name = _opened_folder_of(target)
            try:
                os.replace(source_name, target_name, src_dir_fd=source_folder, dst_dir_fd=target_folder)
            finally:
                os.close(target_folder)
        finally:
            os.close(source_folder)

    def unlink(self, path: AnyPath) -> None:
        """Remove a name; the bytes live on for those who have them open."""
        folder, name = _opened_folder_of(path)
        try:
            os.unlink(name, dir_fd=folder)
        finally:
            os.close(folder)

    def exists(self, path: AnyPath) -> bool:
        """Whether the name stands for anything, a dangling link included."""
        try:
            folder, name = _opened_folder_of(path)
            try:
                os.stat(name, dir_fd=folder, follow_symlinks=False)
            finally:
                os.close(folder)
        except OSError:
            return False
        return True

    def set_modified(self, path: AnyPath, at: float) -> None:
        """Set the file's times to ``at``, epoch seconds."""
        folder, name = _opened_folder_of(path)
        try:
            os.utime(name, (at, at), dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(folder)

    def entries(self, path: Path) -> Iterator[Found]:
        """What a folder holds, in no order."""
        descriptor = _open_folder(path, os.O_RDONLY)
        try:
            for name in os.listdir(descriptor):
                with suppress(FileNotFoundError):  # it is gone since it was listed
                    yield Found(name, os.stat(name, dir_fd=descriptor, follow_symlinks=False))
        finally:
            os.close(descriptor)

    def lease(self, descriptor: int) -> bool:
        """Take the file's lease (flock); False where somebody has it. It ends with the descriptor, or its process."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _open(path: AnyPath, flags: int) -> tuple[int, int]:
    """A descriptor of a regular file, and of nothing else: opening a pipe may wait, reading a device may never end.

    And the size of the file.
    """
    folder, name = _opened_folder_of(path)
    try:
        descriptor = os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600, dir_fd=folder)
    finally:
        os.close(folder)
    if flags & os.O_EXCL:
        return descriptor, 0  # it is new, so it is one
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return descriptor, status.st_size


def _opened_folder_of(path: AnyPath) -> tuple[int, str]:
    """A descriptor of the folder that a file is in, to go on from and to be closed, and the file's name there."""
    parent, slash, name = os.fspath(path).rpartition("/")
    return _open_folder(parent or slash or ".", os.O_PATH), name


def _open_folder(path: AnyPath, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except NotADirectoryError:
        raise _no_folder(path) from None


def _no_folder(path: AnyPath) -> OSError:
    return NotADirectoryError(errno.ENOTDIR, f"{path} is a link, or no folder")
