"""Which requests are plain enough to be answered without Twisted's parser, and what such a request says.

Everything that could change an answer, or that Twisted might refuse, makes a request not plain; it is then left to Twisted
as if nobody had looked. So this must only ever err on that side. What is plain: GET or HEAD over HTTP/1.1, whole in one
piece and nothing behind it, one Host, at most one each of Accept, Accept-Encoding and If-None-Match, a Cache-Control that
asks for nothing that is obeyed (pip's ``max-age=0``), and fields that nobody here reads.

Clients send the same fields with each of their requests, so what was once read is remembered by its bytes.
"""

from __future__ import annotations

import re

from attrs import frozen

MAX_BYTES = 2048
"""A longer request is not plain: what is remembered is bounded."""

MAX_REMEMBERED = 1024

_START = b" HTTP/1.1\r\n"
_END = b"\r\n\r\n"
_NAME = re.compile(rb"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_NOT_IN_A_LINE = re.compile(rb"[\x00\r\n]")
_ONCE = frozenset({b"host", b"accept", b"accept-encoding", b"if-none-match", b"user-agent", b"referer"})
_NOT_PLAIN = frozenset(
    {
        # of the connection and of a body
        b"content-length",
        b"expect",
        b"http2-settings",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        # that change the answer
        b"if-match",
        b"if-modified-since",
        b"if-range",
        b"if-unmodified-since",
        b"pragma",
        b"range",
        b"via",
        # of one client, not to be remembered
        b"authorization",
        b"cookie",
        b"proxy-authorization",
    }
)
_OBEYED = (b"no-cache", b"only-if-cached")

Accepts = tuple[bytes | None, bytes | None]
"""The values of Accept and Accept-Encoding, None where there is none."""


@frozen
class Plain:
    """What a plain request says beyond its method and target."""

    accepts: Accepts
    if_none_match: bytes | None
    user_agent: bytes


class PlainRequests:
    """Reads requests; remembers those that are plain, by all that follows their target."""

    def __init__(self) -> None:
        self.remembered: dict[bytes, Plain] = {}

    def read(self, rest: bytes) -> Plain | None:
        """What follows a target in one piece, from the space on; None where the request is not plain."""
        plain = self.remembered.get(rest)
        if plain is None:
            plain = read_plain(rest)
            if plain is not None:
                if len(self.remembered) >= MAX_REMEMBERED:
                    self.remembered.clear()
                self.remembered[rest] = plain
        return plain


def read_plain(rest: bytes) -> Plain | None:
    """What follows a target, from the space on; None where the request is not plain."""
    if len(rest) > MAX_BYTES or not rest.startswith(_START) or rest.find(_END) != len(rest) - len(_END):
        return None
    once: dict[bytes, bytes] = {}
    for line in rest[len(_START) : -len(_END)].split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if not colon or not _NAME.fullmatch(name) or _NOT_IN_A_LINE.search(value) or not _is_plain(name, value):
            return None
        if name in _ONCE:
            if name in once:
                return None
            once[name] = value
    if b"host" not in once:
        return None
    accepts = (once.get(b"accept"), once.get(b"accept-encoding"))
    return Plain(accepts, once.get(b"if-none-match"), once.get(b"user-agent", b""))


def _is_plain(name: bytes, value: bytes) -> bool:
    if name == b"connection":
        return value.lower() == b"keep-alive"
    if name == b"cache-control":
        return not any(word in value.lower() for word in _OBEYED)
    return name not in _NOT_PLAIN
