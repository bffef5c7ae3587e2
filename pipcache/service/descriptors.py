"""How many clients there are descriptors for.

When a process runs out of descriptors nothing works any more: no file, no upstream, no client. So clients are counted
against what there is. One client takes three at most: its own connection, the file that it reads or that is being
written for it, and the connection to the upstream that it comes from. ``FIXED`` are for the program itself: the
listening socket, the log, the reactor, files that threads have open for a moment. A quarter of all is left alone, for
what has no client: transfers that go on when their client has left, idle connections to upstreams, files kept open.

    limit * 3/4 >= FIXED + 3 * connections

The system's soft limit is raised as far as this needs and the hard limit lets: it is low, as a rule, for programs that
use ``select``, which the reactor does not.
"""

from __future__ import annotations

import resource
from contextlib import suppress

FIXED = 32
EACH = 3


def descriptors_for(connections: int) -> int:
    """The limit that this many clients need."""
    return -(-(FIXED + EACH * connections) * 4 // 3)


def connections_with(limit: int) -> int:
    """How many clients may connect under this limit; at least one."""
    return max(1, (limit * 3 // 4 - FIXED) // EACH)


def raised_descriptor_limit(wanted: int) -> int:
    """The limit of this process, after it was raised to ``wanted`` as far as the system lets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    goal = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if goal > soft:
        with suppress(OSError, ValueError):  # as on macOS over its own maximum: then what there is has to do
            resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
