"""Random digits for names, of bytes that the system was asked for many at a time.

A fetch takes three names. To ask the system for each lets go of the interpreter, to a thread that has something to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock

ASKED_BYTES = 4096


class Tokens:
    """Makes random hex digits, twice as many as it is given bytes; as ``secrets.token_hex``, also in threads."""

    def __init__(self, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._random_bytes = random_bytes
        self._bytes = b""
        self._taken = 0
        self._lock = Lock()

    def __call__(self, count: int) -> str:
        """So many random bytes as digits; none of them was given before."""
        with self._lock:
            if len(self._bytes) - self._taken < count:
                self._bytes, self._taken = self._random_bytes(max(ASKED_BYTES, count)), 0
            start, self._taken = self._taken, self._taken + count
            return self._bytes[start : self._taken].hex()
