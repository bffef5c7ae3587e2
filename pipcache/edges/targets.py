"""Where a URL leads and how it is asked for: nothing of it is changed on the way, but what cannot go over the wire.

Nearly every URL is written as it is sent, so it is only taken apart. One with other characters, in its host or behind,
is encoded first (RFC 3986 section 2, RFC 5891). A fragment is not sent, nor a user with a password: whoever wrote a link
does not choose whom we are.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from attrs import frozen
from hyperlink import URL

from pipcache.rules.sites import Origin, without_secrets, without_userinfo

_PATH: Final = r"A-Za-z0-9\-._~!$&'()*+,;=:@%/"
_PLAIN: Final = re.compile(
    rf"(https?)://([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::([0-9]{{1,5}}))?((?:/[{_PATH}]*)?)((?:\?[{_PATH}?]*)?)(?:#[!-~]*)?"
)


@frozen
class Target:
    """One thing to ask for.

    Attributes:
        origin: where it is.
        host: as it goes over the wire, for whoever connects.
        authority: the value of the Host field.
        path: with the query, as a request line has it.
        shown: its address without what may be secret.
    """

    origin: Origin
    host: bytes
    authority: str
    path: str
    shown: str

    @property
    def absolute(self) -> str:
        """The whole address, as a proxy is asked for it (RFC 9112 section 3.2.2)."""
        return f"{self.origin.scheme}://{self.authority}{self.path}"

    @classmethod
    def of(cls, url: str) -> Target:
        """Take a URL apart.

        Raises:
            ValueError: it is no absolute http or https URL.
        """
        match = _PLAIN.fullmatch(url)
        if match is not None:
            origin, host, authority = _place(match[1], match[2], match[3])
            return cls(origin, host, authority, (match[4] or "/") + match[5], url[: match.end(4)])
        scheme, separator, rest = URL.from_text(without_userinfo(url)[0]).to_uri().to_text().partition(":")
        match = _PLAIN.fullmatch(scheme.lower() + separator + rest)
        if match is None:
            raise ValueError("not an absolute http or https URL")
        _, host, authority = _place(match[1], match[2], match[3])
        return cls(Origin.of(url), host, authority, (match[4] or "/") + match[5], without_secrets(url))


@lru_cache(maxsize=256)
def _place(scheme: str, host: str, port: str | None) -> tuple[Origin, bytes, str]:
    """Whom to connect to, and what to call them."""
    origin = Origin.of(f"{scheme}://{host}:{port or ''}")
    is_usual = origin.port == (443 if scheme == "https" else 80)
    return origin, origin.host.encode("ascii"), host if is_usual else f"{host}:{origin.port}"
