"""Memory that a virtual machine's host does not take back.

Many hosts take memory back that a machine has free in large pieces. The next one to write there waits for the host, at each
page: a server that stores what it fetches is then measured at that, and in some rounds more than in others. So before a run
the memory that its rounds will write into is touched, and given back but for one page in sixteen. What is free then is so in
pieces of 32 KiB and less, which no host asks for (Linux reports 2 MiB and more), and the system hands out those first. They
are large enough for what it keeps of files, and for what it holds for sockets.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")
_SHARE = 3
"""Of what is available, one part in so many is used for this."""

_HELD_ONE_IN = 16


@contextmanager
def loose_pages(most_bytes: int) -> Iterator[int]:
    """Keep so much memory free in small pieces, or what a machine with less of it can spare; how many bytes."""
    piece = _HELD_ONE_IN * mmap.PAGESIZE
    pieces = min(most_bytes, _available_bytes() // _SHARE) // piece
    if not pieces:
        yield 0
        return
    with mmap.mmap(-1, pieces * piece, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        held.madvise(mmap.MADV_NOHUGEPAGE)
        for start in range(0, len(held), mmap.PAGESIZE):
            held[start] = 1
        for start in range(0, len(held), piece):
            held.madvise(mmap.MADV_DONTNEED, start + mmap.PAGESIZE, piece - mmap.PAGESIZE)
        yield pieces * (piece - mmap.PAGESIZE)


def _available_bytes() -> int:
    """What the system could give to programs without writing anything out, or as much as a container may have."""
    fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    limit = _GROUP / "memory.max"
    if limit.exists() and (most := limit.read_text().strip()).isdigit():
        available = min(available, max(0, int(most) - int((_GROUP / "memory.current").read_text())))
    return available
