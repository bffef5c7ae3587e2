"""The errors of pipcache: one tree, each carrying the HTTP status to answer with when it reaches a client.

What a message says is for the operator or the client who can do something about it: the place (a setting's path, an
upstream's name), the value seen, what is allowed. No message carries a query string, a credential or a traceback.
"""

from __future__ import annotations


class PipcacheError(Exception):
    """What pipcache raises on purpose; anything else that is raised is a bug.

    ``status`` is the HTTP status code to answer with.
    """

    status = 500


class ConfigError(PipcacheError):
    """A setting is unknown, malformed or contradicts another; the operator's to mend, found at start."""


class BadRequest(PipcacheError):
    """The client sent something that no well-behaved client sends; it is refused and never forwarded."""

    status = 400


class StorageError(PipcacheError):
    """The cache directory did not do what it was asked: full, read-only, gone, or of an unknown layout.

    ``is_full``: there was no room, so making some may help.
    """

    def __init__(self, message: str, *, is_full: bool = False) -> None:
        super().__init__(message)
        self.is_full = is_full


class UpstreamError(PipcacheError):
    """An upstream did not give a usable answer; another may."""

    status = 502


class UpstreamUnavailable(UpstreamError):
    """No connection to the upstream, or it broke before an answer began."""


class UpstreamTimeout(UpstreamUnavailable):
    """The upstream was silent for too long: while connecting, before the first byte, or in mid-body."""

    status = 504


class MalformedResponse(UpstreamError):
    """The upstream answered something that cannot be what was asked for: a page that is no simple page, a bad redirect."""


class TruncatedBody(UpstreamError):
    """The body ended before it was whole, or went on beyond the length that was promised."""


class DigestMismatch(UpstreamError):
    """The body is whole and is not the file that the index promised."""


class Unwanted(UpstreamError):
    """The last client left a body that cannot be kept, so it was given up; nobody's failure."""


class Outdated(UpstreamError):
    """The upstream has an older version of a page than is kept from another one: it lags, which is no failure."""


class NotServed(UpstreamError):
    """No upstream gave the thing; ``status`` is what their answers together amount to (404, 502, 503 or 504).

    ``absent_at``: the upstreams that said it is not there. ``is_absence``: they all did, or did not answer at all.
    ``is_lacking``: whoever answered has it not, refuses it, or has other bytes. ``is_remembered``: nobody was asked this
    time. ``retry_after_seconds``: when to ask again, where they said so.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        absent_at: frozenset[str] = frozenset(),
        is_absence: bool = False,
        is_lacking: bool = False,
        is_remembered: bool = False,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.absent_at = absent_at
        self.is_absence = is_absence
        self.is_lacking = is_lacking
        self.is_remembered = is_remembered
        self.retry_after_seconds = retry_after_seconds


class NotAcceptable(PipcacheError):
    """The client takes none of the representations that there are; the text names them."""

    status = 406


class NotCached(PipcacheError):
    """The client wants an answer without anybody being asked, and there is none (RFC 9111 section 5.2.1.7)."""

    status = 504
