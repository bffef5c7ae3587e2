"""Stand-ins for the disk and its threads: in memory, or the real one made to fail where a test wants it to."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pipcache.edges.body import GrowingBody, Part
from pipcache.edges.files import AnyPath, Files

T = TypeVar("T")


class Threads:
    """`InThread` in this thread: at once, or, while `is_held`, when the test says so."""

    def __init__(self) -> None:
        self.is_held = False
        self.calls = 0
        self._waiting: list[Callable[[], None]] = []

    def __call__(self, function: Callable[[], T], /) -> Deferred[T]:
        """Run it, now or later."""
        self.calls += 1
        result: Deferred[T] = Deferred()

        def run() -> None:
            try:
                value = function()
            except Exception as error:
                result.errback(Failure(error))
            else:
                result.callback(value)

        if self.is_held:
            self._waiting.append(run)
        else:
            run()
        return result

    def run_one(self) -> None:
        """Run what has been held the longest."""
        self._waiting.pop(0)()

    def let_go(self) -> None:
        """Run what was held, and from now on everything at once."""
        self.is_held = False
        while self._waiting:
            self.run_one()


class MemoryFiles(Files):
    """Parts in memory, for bodies alone; `room_bytes` is what the disk takes before every write fails."""

    def __init__(self, room_bytes: int | None = None) -> None:
        self.room_bytes = room_bytes
        self.is_readable = True
        self.open_parts: dict[int, bytearray] = {}
        self.closes = 0
        self.unlinked = 0
        self._descriptors = count(1000)

    def grow(self) -> GrowingBody:
        """A body with a part."""
        descriptor = next(self._descriptors)
        self.open_parts[descriptor] = bytearray()
        return GrowingBody(self, Part(f"{descriptor}.part", descriptor))

    def window(self) -> GrowingBody:
        """A body without one."""
        return GrowingBody(self, None)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Take what there is room for."""
        part = self.open_parts[descriptor]
        taken = len(data) if self.room_bytes is None else min(len(data), self.room_bytes - len(part))
        if taken == 0:
            raise OSError(28, "No space left on device")
        part += data[:taken]
        return taken

    def read_at(self, descriptor: int, offset: int, count: int) -> bytes:
        """Give what was written."""
        if not self.is_readable:
            raise OSError(5, "Input/output error")
        return bytes(self.open_parts[descriptor][offset : offset + count])

    def unlink(self, path: AnyPath) -> None:
        """Count it."""
        self.unlinked += 1

    def close(self, descriptor: int) -> None:
        """Count it."""
        self.closes += 1
        del self.open_parts[descriptor]


class FullDisk(Files):
    """The real files, counted while open; calls named in `broken` fail, as do writes beyond `room_bytes`."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.room_bytes: int | None = None
        self.open_descriptors: set[int] = set()

    def create(self, path: AnyPath) -> int:
        """Count it as open."""
        self._fail_if("create")
        descriptor = super().create(path)
        self.open_descriptors.add(descriptor)
        return descriptor

    def open(self, path: AnyPath) -> int:
        """Count it as open."""
        descriptor = super().open(path)
        self.open_descriptors.add(descriptor)
        return descriptor

    def open_part(self, path: AnyPath) -> int:
        """Count it as open."""
        descriptor = super().open_part(path)
        self.open_descriptors.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        """Count it no more."""
        self.open_descriptors.remove(descriptor)
        super().close(descriptor)

    def make_folders(self, path: Path) -> None:
        """As the system, unless it is broken."""
        self._fail_if("make_folders")
        super().make_folders(path)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """As the system, as far as there is room."""
        self._fail_if("write")
        if self.room_bytes is None:
            return super().write(descriptor, data)
        taken = min(self.room_bytes, len(data))
        if taken == 0:
            raise OSError(28, "No space left on device")
        self.room_bytes -= taken
        return super().write(descriptor, data[:taken])

    def sync(self, descriptor: int) -> None:
        """Nothing, unless it is broken."""
        self._fail_if("sync")

    def rename(self, source: AnyPath, target: AnyPath) -> None:
        """As the system, unless it is broken."""
        self._fail_if("rename")
        super().rename(source, target)

    def read_at(self, descriptor: int, offset: int, count: int) -> bytes:
        """As the system, unless it is broken."""
        self._fail_if("read_at")
        return super().read_at(descriptor, offset, count)

    def _fail_if(self, call: str) -> None:
        if call in self.broken:
            raise OSError(28, "No space left on device")
