"""A disk in memory: the operating system's file calls as ``pipcache`` makes them, each of which can be told to fail.

``MemoryDisk`` is what outlives a process: folders, names, inodes. ``MemoryFiles`` is one process's view of it, with its
descriptors and leases; ``kill`` ends that, as ``kill -9`` does. ``lose_power`` may in addition take bytes that nobody
had synced. What fails is said by ``trouble``, a function of the kind of call and of how many of that kind there were.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from random import Random

from attrs import define, frozen

from pipcache.edges.files import AnyPath, Files, Found

KINDS = (
    "make_folders",
    "make_private",
    "create",
    "open_part",
    "open",
    "write",
    "read_at",
    "read_whole",
    "sync",
    "status",
    "status_of",
    "rename",
    "unlink",
    "exists",
    "set_modified",
    "entries",
    "lease",
)
"""Every call that can fail; ``close`` cannot."""

CHANGING_KINDS = frozenset(
    {"make_folders", "make_private", "create", "write", "sync", "rename", "unlink", "set_modified"}
)
"""Those that change what is on the disk."""

Trouble = Callable[[str, int], int | None]
"""The errno that the n-th call (from 1) of a kind fails with; None where it works."""


@define(eq=False)
class Inode:
    """A file's bytes, how many of them survive a loss of power, and who holds its lease."""

    number: int
    modified_ns: int
    data: bytearray
    synced_bytes: int = 0
    leased_by: object | None = None
    names: int = 1


@define(eq=False)
class _Opened:
    """An open file description."""

    inode: Inode
    is_appending: bool = False
    position: int = 0
    due: int | None = None  # the errno that follows a short write


@frozen
class Status:
    """What is read of an ``os.stat_result``."""

    st_ino: int
    st_size: int
    st_mtime_ns: int
    st_nlink: int = 1
    st_mode: int = stat.S_IFREG | 0o600

    @property
    def st_mtime(self) -> float:
        """In epoch seconds."""
        return self.st_mtime_ns / 1e9


class MemoryDisk:
    """Folders and the files in them; ``now`` gives epoch seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.trouble: Trouble | None = None
        self.folders: dict[str, dict[str, Inode]] = {"/": {}}
        self.calls: Counter[str] = Counter()
        self._numbers = count(1)

    def new_inode(self) -> Inode:
        """An empty file without a name."""
        return Inode(next(self._numbers), self.now_ns(), bytearray())

    def now_ns(self) -> int:
        """The time of a change, in nanoseconds."""
        return int(self.now() * 1e9)

    def files(self, under: str) -> dict[str, Inode]:
        """All files by path below a folder."""
        return {
            f"{folder}/{name}": inode
            for folder, names in self.folders.items()
            if folder.startswith(under)
            for name, inode in names.items()
        }

    def remove_all(self) -> None:
        """Somebody empties the disk under us; what is open lives on."""
        for inode in self.files("/").values():
            inode.names = 0
        self.folders = {"/": {}}

    def lose_power(self, random: Random) -> None:
        """What nobody synced may be gone: cut off, or never written and zero. Names stay as they are."""
        for inode in self.files("/").values():
            size = len(inode.data)
            if inode.synced_bytes >= size:
                continue
            kept = random.randint(inode.synced_bytes, size)
            if random.random() < 0.5:
                del inode.data[kept:]
            else:
                inode.data[kept:] = bytes(size - kept)
            inode.synced_bytes = len(inode.data)


class MemoryFiles(Files):
    """One process's calls on a disk in memory."""

    def __init__(self, disk: MemoryDisk) -> None:
        self.disk = disk
        self.opened: dict[int, _Opened] = {}
        self._is_dead = False
        self._descriptors = count(3)

    def kill(self) -> None:
        """The process is no more: its descriptors and leases are gone, and what is left of it can do nothing."""
        for opened in self.opened.values():
            self._give_back(opened)
        self.opened.clear()
        self._is_dead = True

    # -- the calls ---------------------------------------------------------------------------------------------------

    def make_folders(self, path: Path) -> None:
        """Make the folder and those above it."""
        self._call("make_folders")
        text = str(path)
        while text not in self.disk.folders:
            self.disk.folders[text] = {}
            text = os.path.dirname(text)

    def make_private(self, path: Path) -> None:
        """There is nobody else."""
        self._call("make_private")

    def create(self, path: AnyPath) -> int:
        """A descriptor of a new file."""
        self._call("create")
        folder, name = self._place(path)
        if name in folder:
            raise _error(errno.EEXIST)
        inode = folder[name] = self.disk.new_inode()
        return self._open(inode)

    def open_part(self, path: AnyPath) -> int:
        """A descriptor for appending."""
        self._call("open_part")
        return self._open(self._find(path), is_appending=True)

    def open(self, path: AnyPath) -> int:
        """A descriptor for reading."""
        self._call("open")
        return self._open(self._find(path))

    def close(self, descriptor: int) -> None:
        """Give the descriptor back, and with it its lease."""
        if not self._is_dead:
            self._give_back(self.opened.pop(descriptor))

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Append; on a full disk half of it first."""
        opened = self.opened.get(descriptor)
        if opened is not None and opened.due is not None:
            raise _error(opened.due)
        try:
            self._call("write")
        except OSError as error:
            if opened is None or error.errno != errno.ENOSPC or len(data) < 2:
                raise
            data = data[: len(data) // 2]  # the last bytes that there was room for
            opened.due = error.errno
        opened = self._opened(descriptor)
        inode = opened.inode
        if opened.is_appending:
            opened.position = len(inode.data)
        inode.data[opened.position : opened.position + len(data)] = data
        opened.position += len(data)
        inode.modified_ns = self.disk.now_ns()
        return len(data)

    def read_at(self, descriptor: int, offset: int, count: int) -> bytes:
        """Bytes of an open file."""
        self._call("read_at")
        return bytes(memoryview(self._opened(descriptor).inode.data)[offset : offset + count])

    def read_whole(self, path: AnyPath) -> bytes:
        """A file, by name."""
        self._call("read_whole")
        return bytes(self._find(path).data)

    def sync(self, descriptor: int) -> None:
        """From here on a loss of power takes none of the bytes that are there."""
        self._call("sync")
        inode = self._opened(descriptor).inode
        inode.synced_bytes = len(inode.data)

    def status(self, descriptor: int) -> Status:  # type: ignore[override]
        """What a real one would say of an open file."""
        self._call("status")
        return _status(self._opened(descriptor).inode)

    def status_of(self, path: AnyPath) -> Status:  # type: ignore[override]
        """The same by name."""
        self._call("status_of")
        return _status(self._find(path))

    def identity(self, path: AnyPath) -> tuple[int, int, int, int]:
        """See `Files`."""
        status = self.status_of(path)
        return 0, status.st_ino, status.st_size, status.st_mtime_ns

    def rename(self, source: AnyPath, target: AnyPath) -> None:
        """Move the name, over what stands there."""
        self._call("rename")
        inode = self._find(source)
        to, to_name = self._place(target)
        folder, name = self._place(source)
        if to_name in to:
            to[to_name].names = 0
        to[to_name] = inode
        del folder[name]

    def unlink(self, path: AnyPath) -> None:
        """Remove the name."""
        self._call("unlink")
        self._find(path).names = 0
        folder, name = self._place(path)
        del folder[name]

    def exists(self, path: AnyPath) -> bool:
        """Whether the name stands for anything; a failure is a no."""
        try:
            self._call("exists")
            self._find(path)
        except OSError:
            return str(path) in self.disk.folders
        return True

    def set_modified(self, path: AnyPath, at: float) -> None:
        """Set the time."""
        self._call("set_modified")
        self._find(path).modified_ns = int(at * 1e9)

    def entries(self, path: Path) -> Iterator[Found]:
        """What a folder holds."""
        self._call("entries")
        text = str(path)
        if text not in self.disk.folders:
            raise _error(errno.ENOENT)
        for name, inode in tuple(self.disk.folders[text].items()):
            yield Found(name, _status(inode))  # type: ignore[arg-type]

    def lease(self, descriptor: int) -> bool:
        """Take the lease, where nobody else has it."""
        self._call("lease")
        opened = self._opened(descriptor)
        if opened.inode.leased_by is None:
            opened.inode.leased_by = opened
        return opened.inode.leased_by is opened

    # -- inside ------------------------------------------------------------------------------------------------------

    def _call(self, kind: str) -> None:
        if self._is_dead:
            raise _error(errno.EBADF)
        disk = self.disk
        disk.calls[kind] += 1
        if disk.trouble is not None:
            failure = disk.trouble(kind, disk.calls[kind])
            if failure is not None:
                raise _error(failure)

    def _place(self, path: AnyPath) -> tuple[dict[str, Inode], str]:
        folder, name = os.path.split(path)
        names = self.disk.folders.get(folder)
        if names is None:
            raise _error(errno.ENOENT)
        return names, name

    def _find(self, path: AnyPath) -> Inode:
        folder, name = self._place(path)
        inode = folder.get(name)
        if inode is None:
            raise _error(errno.ENOENT)
        return inode

    def _open(self, inode: Inode, *, is_appending: bool = False) -> int:
        descriptor = next(self._descriptors)
        self.opened[descriptor] = _Opened(inode, is_appending)
        return descriptor

    def _opened(self, descriptor: int) -> _Opened:
        opened = self.opened.get(descriptor)
        if opened is None:
            raise _error(errno.EBADF)
        return opened

    @staticmethod
    def _give_back(opened: _Opened) -> None:
        if opened.inode.leased_by is opened:
            opened.inode.leased_by = None


def _status(inode: Inode) -> Status:
    return Status(inode.number, len(inode.data), inode.modified_ns, inode.names)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
