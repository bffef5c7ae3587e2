"""Whether an upstream's address is this very server's, as far as this machine can tell.

Asks the system (names, interfaces), so it may block; but only where the port is ours, which is seldom. What stands
between (a container's forwarded port, a load balancer) is not seen: for that there is Via.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address

from pipcache.rules.sites import Origin

Address = tuple[str, int]


def is_own(origin: Origin, listening: Address) -> bool:
    """Whether a connection to ``origin`` would come here.

    Args:
        origin: an upstream's.
        listening: the IP address and the port that we listen on.
    """
    if origin.port != listening[1]:
        return False
    try:
        found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return any(_leads_to(str(info[4][0]), listening[0]) for info in found)


def _leads_to(address: str, listening: str) -> bool:
    target, ours = (ip_address(each.partition("%")[0]) for each in (address, listening))
    if target == ours:
        return True
    if target.is_unspecified:  # which the system takes for its loopback address
        return ours.is_loopback
    # on every interface: IPv6's "any" takes IPv4 too
    return ours.is_unspecified and target.version <= ours.version and _is_of_this_machine(address)


def _is_of_this_machine(address: str) -> bool:
    """Whether an interface of ours has it: only then can a socket be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
