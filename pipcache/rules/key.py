"""Under which key a response is stored, and where that key lives on disk.

Must not know what is stored. Source: DESIGN.md, "On disk": the key is ``GET-`` and the request path as
clients send it, and its files are named by the SHA-256 of that text, the first three digits as a folder.
"""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256

from attrs import frozen

from pipcache.rules.routes import Route

FOLDER_DIGITS = 3  # 4096 folders


@frozen
class CacheKey:
    """What a stored response answers. Equal spellings of a request have one key, different requests never do.

    Attributes:
        text: ``GET-`` + canonical path, and ``?`` + canonical query where there is one; it stands so in the
            meta.
    """

    text: str

    @classmethod
    def of(cls, route: Route) -> CacheKey:
        """The key of what a route asks for.

        A canonical path holds no raw ``?``, so the first one in the text begins the query: ``/a%3Fb`` and
        ``/a?b`` cannot collide.
        """
        query = "" if route.query is None else f"?{route.query}"
        return cls(f"GET-{route.path}{query}")

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the text, 64 lower-case hexadecimal digits."""
        return sha256(self.text.encode("utf-8")).hexdigest()

    @cached_property
    def folder(self) -> str:
        """The folder of its files: the digest's first three digits."""
        return self.digest[:FOLDER_DIGITS]

    @cached_property
    def stem(self) -> str:
        """What the names of its files begin with: the digest's other 61 digits."""
        return self.digest[FOLDER_DIGITS:]
