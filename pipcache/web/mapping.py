"""Files to be sent, and pieces of them mapped into memory: who takes a large file fast gets it from there.

sendfile(2) hands a file on page by page, and whoever receives it takes it page by page. A piece that is mapped is copied
instead, in few large parts, which is less work for both sides of a connection within a machine: from pieces that are mapped
already clients get half as much again a second, for less time of the processor. To map a piece costs what that saves. So a
piece is mapped where it may stay so, and those that were sent lately do: many that are sent in turn would else push each
other out.

What is mapped is the system's page cache, none of our own memory, though it counts as RSS; so it is bounded. Nobody looks
at it but the system, in send(2). That fails where the file has become shorter, or the disk does not give the page; a
program that looks itself is killed then. In its last page a file that became shorter shows zeros; so its size is asked for
each time. Python keeps a descriptor for each mapping; so where there are few, fewer pieces are mapped.
"""

from __future__ import annotations

import os
import resource
from collections import OrderedDict
from mmap import PROT_READ, mmap
from time import monotonic
from typing import Final

from attrs import define

WINDOW_BYTES: Final = 1 << 21
"""Files are mapped in pieces of this size."""

LEAST_BYTES: Final = 1 << 20
"""Less is not mapped for: sendfile is no slower."""

MAX_WINDOWS: Final = 32
"""So many stay mapped, of all files together: 64 MiB."""

WINDOW_SHARE: Final = 32
"""And one for so many of the descriptors that this process may have."""

REST_SECONDS: Final = 10.0
"""What was not sent for so long makes room."""


class OpenFile:
    """An open regular file that is to be sent; whoever opened it closes it, behind ``unmap``."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._can_be_mapped = True

    def mapped(self, start: int, stop: int) -> memoryview | None:
        """Bytes from ``start`` on, ``stop`` at most, to be given to the system, looked at by nobody, and released.

        Returns:
            None where they are to be sent by sendfile: there is no room for them, they are few, the file system maps none,
            or the file is too short for them.
        """
        number, first = divmod(start, WINDOW_BYTES)
        key = (self, number)
        now = monotonic()
        is_mapped = key in _windows
        if not is_mapped and (stop - start < LEAST_BYTES or not self._can_be_mapped or not _has_room(now)):
            return None
        size = os.fstat(self.descriptor).st_size
        if size < stop:
            return None
        if not is_mapped:
            try:
                _windows[key] = _Window(self._map(number * WINDOW_BYTES, size))
            except (OSError, ValueError):  # the latter: it has become shorter
                self._can_be_mapped = False
                return None
        _windows.move_to_end(key)
        window = _windows[key]
        window.sent_at = now
        return memoryview(window.content)[first : stop - number * WINDOW_BYTES]

    def unmap(self) -> None:
        """Keep nothing of it mapped."""
        for key in [key for key in _windows if key[0] is self]:
            _windows.pop(key).content.close()

    def _map(self, start: int, size: int) -> mmap:
        return mmap(self.descriptor, min(WINDOW_BYTES, size - start), prot=PROT_READ, offset=start)


@define
class _Window:
    """A piece that is mapped; ``sent_at`` by the monotonic clock."""

    content: mmap
    sent_at: float = 0.0


_windows: OrderedDict[tuple[OpenFile, int], _Window] = OrderedDict()
"""What is mapped, by file and number; the one that was sent longest ago first."""


def max_windows() -> int:
    """How many may be mapped, each of which takes a descriptor."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_WINDOWS if soft == resource.RLIM_INFINITY else min(MAX_WINDOWS, soft // WINDOW_SHARE)


def _has_room(now: float) -> bool:
    """Whether one more may be mapped; one that rests makes room."""
    if len(_windows) < max_windows():
        return True
    if not _windows:
        return False
    key, oldest = next(iter(_windows.items()))
    if now - oldest.sent_at < REST_SECONDS:
        return False
    oldest.content.close()
    del _windows[key]
    return True
