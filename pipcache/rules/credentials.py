"""Who we say we are: the values of an Authorization field, and of a Proxy-Authorization one.

Sources: RFC 7617 (Basic), RFC 6750 (Bearer), RFC 3986, section 3.2.1 (a URL's user and password).
"""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import unquote


def basic(username: str, password: str) -> str:
    """The field's value for a user, who has no colon in the name, and a password."""
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode("ascii")


def bearer(token: str) -> str:
    """The field's value for a token."""
    return f"Bearer {token}"


def of_userinfo(userinfo: str) -> str:
    """The field's value for what stands before the `@` of a URL; who names no password has an empty one."""
    username, _, password = userinfo.partition(":")
    return basic(unquote(username), unquote(password))
