"""Files that misbehave on purpose: calls that are recorded, fail, end the program, or are interrupted by another operation.

Each is ``pipcache.edges.files.Files`` with something done before a call; the call itself is the real one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from pipcache.edges.files import AnyPath, Files

CALLS = tuple(name for name in vars(Files) if not name.startswith("_"))
BOUND_SECONDS = 20


class SpyingFiles(Files):
    """Records every call, in order, as its name and arguments; ``before_call`` may be overridden."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in CALLS:
            return found

        def watched(*arguments: Any) -> Any:
            self.before_call(name, arguments)
            self.calls.append((name, arguments))
            return found(*arguments)

        return watched

    def before_call(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Called with what is about to be called."""

    @property
    def names(self) -> list[str]:
        """The names of the calls so far."""
        return [name for name, _ in self.calls]


class FailingFiles(SpyingFiles):
    """Raises at the n-th call (0 is the first) of those in ``only``; goes on as usual afterwards, unless it ``is_lasting``.

    ``failed`` names the calls that were refused.
    Closing a descriptor is never made to fail, nor counted: it gives back, and asks for nothing.
    """

    def __init__(
        self, nth: int, error: OSError | None = None, only: tuple[str, ...] = CALLS, *, is_lasting: bool = False
    ) -> None:
        super().__init__()
        self.failed: list[str] = []
        self._left = nth
        self._error = error or OSError(errno.EIO, os.strerror(errno.EIO))
        self._only = set(only) - {"close"}
        self._is_lasting = is_lasting

    def before_call(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Raise, when it is time."""
        if name not in self._only:
            return
        if self._left == 0 or (self.failed and self._is_lasting):
            self.failed.append(name)
            self._left = -1
            raise self._error
        self._left -= 1


class Killed(BaseException):
    """The program ended here; no handler of its own runs any more."""


class DyingFiles(SpyingFiles):
    """Ends the program before the n-th call: from then on nothing reaches the disk, whatever is tried."""

    def __init__(self, nth: int) -> None:
        super().__init__()
        self.is_dead = False
        self._left = nth
        self._held: set[int] = set()

    def create(self, path: AnyPath) -> int:
        """As ever, and remembered."""
        descriptor = super().create(path)
        self._held.add(descriptor)
        return descriptor

    def open(self, path: AnyPath) -> int:
        """As ever, and remembered."""
        descriptor = super().open(path)
        self._held.add(descriptor)
        return descriptor

    def open_part(self, path: AnyPath) -> int:
        """As ever, and remembered."""
        descriptor = super().open_part(path)
        self._held.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        """Give back what is held; a program that has died holds nothing."""
        if descriptor in self._held:
            self._held.remove(descriptor)
            super().close(descriptor)

    def before_call(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Die, when it is time; the system takes all descriptors back, and with them the leases."""
        if name == "close":
            return
        if self._left == 0:
            self.is_dead = True
            for descriptor in tuple(self._held):
                self.close(descriptor)
            raise Killed
        self._left -= 1


class SmallDisk(Files):
    """Takes ``room`` bytes in all, the last write in part, and has no space left then."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Take what fits."""
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = super().write(descriptor, data[: self.room])
        self.room -= taken
        return taken


class TellingLock:
    """A lock for two threads, put in the place of ``threading.Lock``, that says when one has to wait for it.

    Whoever gives it back while the other waits stands still until that one has ended: only one ever runs.
    """

    def __init__(self) -> None:
        self.moved = Event()
        self._lock = Lock()
        self._has_waiter = False

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self._has_waiter = True
            self.moved.set()
            assert self._lock.acquire(timeout=BOUND_SECONDS)

    def __exit__(self, *exception: object) -> None:
        has_waiter, self._has_waiter = self._has_waiter, False
        if has_waiter:
            self.moved.clear()
        self._lock.release()
        if has_waiter:
            assert self.moved.wait(BOUND_SECONDS), "the other one did not end"


class InterruptedFiles(SpyingFiles):
    """Runs another operation before the n-th call, in a thread, until it has ended or waits for ``lock``.

    So the two are interleaved in the same way each time: where the lock keeps them apart the other one goes on when
    it is free, and ``joined`` waits for that.
    """

    def __init__(self, nth: int, operation: Callable[[], object], lock: TellingLock) -> None:
        super().__init__()
        self._left = nth
        self._operation = operation
        self.lock = lock
        self._thread: Thread | None = None
        self.error: BaseException | None = None

    def before_call(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Interrupt, when it is time; the other operation's own calls are not counted."""
        if self._thread is not None:
            return
        if self._left == 0:
            moved = self.lock.moved
            moved.clear()
            self._thread = Thread(target=self._run, args=(moved,), daemon=True)
            self._thread.start()
            assert moved.wait(BOUND_SECONDS), "the other operation neither ended nor waited"
        self._left -= 1

    def _run(self, moved: Event) -> None:
        try:
            self._operation()
        except BaseException as error:
            self.error = error
        finally:
            moved.set()

    def joined(self) -> bool:
        """Wait for the other operation; False where it never began."""
        if self._thread is None:
            return False
        self._thread.join(BOUND_SECONDS)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        return True


def tree(root: Path) -> dict[str, bytes]:
    """Every file under ``root``, by its path from there."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
