"""What of a file the system has in memory, in its page cache: asked for, and brought there.

To read what is not there waits for the disk. preadv(2) says so instead, with RWF_NOWAIT: it fails with EAGAIN. Where that is
missing, or the file system does not know it, all is taken to be in memory.
"""

from __future__ import annotations

import os

READ_BYTES = 1 << 15
"""As much of a small body is read at once, and sent from memory."""

COPY_BYTES = 1 << 17
"""As much is read of a file at a time where it must go through this process."""

_WITHOUT_WAITING = getattr(os, "RWF_NOWAIT", 0)

_READ = memoryview(bytearray(READ_BYTES))
_PROBE_BYTES = 1 << 19
_PROBED = [bytearray(1)]


def read_at_hand(descriptor: int, count: int) -> memoryview | None:
    """The first bytes of a file, where they can be had without waiting for the disk; else, and of a shorter file, None.

    At most ``READ_BYTES``; they are there until the next call.
    """
    buffer = _READ[:count]
    try:
        taken = os.preadv(descriptor, [buffer], 0, _WITHOUT_WAITING)
    except BlockingIOError:
        return None
    except OSError:
        try:
            taken = os.preadv(descriptor, [buffer], 0)
        except OSError:
            return None
    return buffer if taken == count else None


def is_in_memory(descriptor: int, first: int, last: int) -> bool:
    """Whether the system has a piece in memory, by a byte here and there; also where it cannot say."""
    if not _WITHOUT_WAITING:
        return True
    try:
        for position in range(first, last, _PROBE_BYTES):
            os.preadv(descriptor, _PROBED, position, _WITHOUT_WAITING)
        os.preadv(descriptor, _PROBED, last, _WITHOUT_WAITING)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def read_through(descriptor: int, start: int, stop: int) -> None:
    """Read this part of a file, so that the system has it in memory."""
    while start < stop:
        count = len(os.pread(descriptor, min(stop - start, COPY_BYTES), start))
        if not count:
            return  # it is shorter than it was; whoever sends it will see that
        start += count
