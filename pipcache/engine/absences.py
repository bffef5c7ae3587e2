"""What no upstream has, remembered for a while, so that a client that keeps asking costs the upstreams nothing.

In memory only, and bounded. Remembered is an absence that every upstream confirmed or did not answer about; trouble is
never remembered as absence.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from pipcache.rules.errors import NotServed
from pipcache.rules.freshness import Ttls, ttl_for
from pipcache.rules.key import CacheKey
from pipcache.rules.routes import RouteKind

MAX_ABSENCES = 10_000


class Absences:
    """Absent things by key; ``seconds`` is a clock, ``negative_seconds`` how long at most one is remembered."""

    def __init__(self, seconds: Callable[[], float], ttls: Ttls, negative_seconds: float) -> None:
        self._seconds = seconds
        self._ttls = ttls
        self._negative_seconds = negative_seconds
        self._absent: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._absent)

    def note(self, key: CacheKey, kind: RouteKind, error: Exception) -> None:
        """Remember an absence, where the error is one."""
        seconds = min(self._negative_seconds, ttl_for(kind, self._ttls))
        if not isinstance(error, NotServed) or not error.is_absence or seconds <= 0:
            return
        self._absent[key.digest] = (self._seconds() + seconds, str(error))
        self._absent.move_to_end(key.digest)
        if len(self._absent) > MAX_ABSENCES:
            self._absent.popitem(last=False)

    def check(self, key: CacheKey) -> None:
        """Return where nothing is known.

        Raises:
            NotServed: it is absent, as was found not long ago.
        """
        found = self._absent.get(key.digest)
        if found is None:
            return
        until, said = found
        if self._seconds() < until:
            raise NotServed(404, said, is_absence=True, is_remembered=True)
        del self._absent[key.digest]

    def forget(self, key: CacheKey) -> None:
        """It is there now."""
        self._absent.pop(key.digest, None)
