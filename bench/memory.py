"""Memory that a virtual machine's host does not take back.

Many hosts take memory back that a machine has free in large pieces. The next one to write there waits for the host, at each
page: a server that stores what it fetches is then measured at that, and in some rounds more than in others. So before a run
twice as much memory is touched as its rounds will write into, and every second page of it is given back. What is free then
is so in single pages, which no host asks for, and the system hands out those first.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")
_SHARE = 6
"""Of what is available, one part in so many is given back, and as much is held."""


@contextmanager
def loose_pages(most_bytes: int) -> Iterator[int]:
    """Keep so much memory free in single pages, or what a machine with less of it can spare; how many bytes."""
    loose = min(most_bytes, _available_bytes() // _SHARE) // mmap.PAGESIZE
    if not loose:
        yield 0
        return
    with mmap.mmap(-1, 2 * loose * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        held.madvise(mmap.MADV_NOHUGEPAGE)
        for start in range(0, len(held), mmap.PAGESIZE):
            held[start] = 1
        for start in range(0, len(held), 2 * mmap.PAGESIZE):
            held.madvise(mmap.MADV_DONTNEED, start, mmap.PAGESIZE)
        yield loose * mmap.PAGESIZE


def _available_bytes() -> int:
    """What the system could give to programs without writing anything out, or as much as a container may have."""
    fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    limit = _GROUP / "memory.max"
    if limit.exists() and (most := limit.read_text().strip()).isdigit():
        available = min(available, max(0, int(most) - int((_GROUP / "memory.current").read_text())))
    return available
