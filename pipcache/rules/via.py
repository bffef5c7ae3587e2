"""The Via field (RFC 9110, section 7.6.3): whom a request has come through, so that one that goes in circles is noticed.

Each process is known by a name of its own. Requests upstream carry the names of all processes of pipcache that they
came through. Other proxies are counted and not named: "An intermediary used as a portal through a network firewall
SHOULD NOT forward the names and ports of hosts within the firewall region".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

MAX_HOPS: Final = 20
_COMMENT: Final = re.compile(r"\([^()]*\)")
_HOP: Final = re.compile(r"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+/)?[!#$%&'*+\-.^_`|~0-9A-Za-z]+[ \t]+([^\s,;()\"]{1,255})")
_OWN_KIND: Final = re.compile(r"pipcache-[0-9a-f]{1,64}")
_OTHER: Final = "other"


def process_name(token: str) -> str:
    """The name in Via of the process with this token of hex digits."""
    return f"pipcache-{token}"


def parse_via(values: Iterable[str]) -> tuple[str, ...]:
    """The hops of a request, first to last: names of processes of pipcache, and ``other``; what is invalid is left out.

    More than ``MAX_HOPS + 1`` are not looked at, as one more than ``MAX_HOPS`` is too many already.
    """
    hops: list[str] = []
    for value in values:
        for entry in _COMMENT.sub(" ", value).split(","):
            match = _HOP.fullmatch(entry.strip(" \t"))
            if match is None:
                continue
            name = match[1].lower()
            hops.append(name if _OWN_KIND.fullmatch(name) else _OTHER)
            if len(hops) > MAX_HOPS:
                return tuple(hops)
    return tuple(hops)


def format_via(hops: Iterable[str], own: str) -> str:
    """The value of Via for a request that came through ``hops`` and now goes on from ``own``."""
    return ", ".join(f"1.1 {name}" for name in (*hops, own))


def trouble(hops: tuple[str, ...], own: str) -> str | None:
    """A sentence for whoever sent a request that has been here, or in too many places; None for one that may go on."""
    if own in hops:
        return (
            "This request has come back to where it was: an upstream of this proxy asks this proxy. Look at the "
            "addresses under `upstream` in its settings, and in those of the proxies that it asks."
        )
    if len(hops) > MAX_HOPS:
        return (
            f"This request came through more than {MAX_HOPS} proxies, so it is taken to go in circles. Look at which "
            "proxy asks which."
        )
    return None
