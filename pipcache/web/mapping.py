"""Files to be sent, and pieces of them mapped into memory: a large piece is sent from there.

sendfile(2) hands a file on page by page, and whoever receives it takes it page by page. A piece that is mapped is copied
instead, in few large parts, which is less work for both sides of a connection within a machine: from pieces that are mapped
already clients get half as much again a second, for less time of the processor. A piece must be mapped first where it was
not sent lately; that costs what it saves.

What is mapped is the system's page cache, none of our own memory, though it counts as RSS; so it is bounded. Nobody looks
at it but the system, in send(2). That fails where the file has become shorter, or the disk does not give the page; a
program that looks itself is killed then. In its last page a file that became shorter shows zeros; so its size is asked for
each time.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from mmap import PROT_READ, mmap
from typing import Final

WINDOW_BYTES: Final = 1 << 21
"""Files are mapped in pieces of this size."""

LEAST_BYTES: Final = 1 << 20
"""Less is not mapped for: sendfile is no slower."""

MAX_WINDOWS: Final = 32
"""So many stay mapped, of all files together: 64 MiB."""


class OpenFile:
    """An open regular file that is to be sent; whoever opened it closes it, behind ``unmap``.

    ``can_be_mapped`` is false for good once its file system has refused.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._can_be_mapped = True

    def mapped(self, start: int, stop: int) -> memoryview | None:
        """Bytes from ``start`` on, ``stop`` at most, to be given to the system, looked at by nobody, and released.

        Returns:
            None where sendfile does better: they are few, the file system maps none, or the file is too short for them.
        """
        number, first = divmod(start, WINDOW_BYTES)
        window = _windows.get((self, number))
        if window is None and (stop - start < LEAST_BYTES or not self._can_be_mapped):
            return None
        size = os.fstat(self.descriptor).st_size
        if size < stop:
            return None
        if window is None:
            window = self._map(number, size)
            if window is None:
                return None
        _windows.move_to_end((self, number))
        return memoryview(window)[first : stop - number * WINDOW_BYTES]

    def unmap(self) -> None:
        """Keep nothing of it mapped."""
        for key in [key for key in _windows if key[0] is self]:
            _windows.pop(key).close()

    def _map(self, number: int, size: int) -> mmap | None:
        start = number * WINDOW_BYTES
        try:
            window = mmap(self.descriptor, min(WINDOW_BYTES, size - start), prot=PROT_READ, offset=start)
        except (OSError, ValueError):  # the latter: it has become shorter
            self._can_be_mapped = False
            return None
        if len(_windows) >= MAX_WINDOWS:
            _windows.popitem(last=False)[1].close()
        _windows[self, number] = window
        return window


_windows: OrderedDict[tuple[OpenFile, int], mmap] = OrderedDict()
"""What is mapped, by file and number; the one that was sent longest ago first."""
