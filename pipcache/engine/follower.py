"""One client reading one body, at its own pace.

Flow control, in full. A follower has an offset. Bytes reach it in two ways. The tee: the fetch offers each chunk as it
comes, and a follower that stands exactly at its offset, and is not paused, writes it straight to its client. Else it
reads the body (a file, mostly in the page cache) whenever its client has room. So nobody waits for a slower one, and what
a client has not taken is in the file, not in memory: at most one chunk is handed to a transport beyond its buffer.

Invariant: ``position`` bytes counted from the start of the body have been written to the sink, less ``start``; a paused or
closed follower writes nothing; the sink is finished or aborted once, and never both.
"""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from pipcache.engine.interfaces import BodySink, BodySource, Clock
from pipcache.rules.errors import StorageError

CHUNK_BYTES = 1 << 18
CHUNKS_A_TURN = 4
"""After so many chunks others get their turn, whatever the speed of this client."""


@implementer(IPushProducer)
class BodyFollower:
    """Writes bytes ``start`` to ``stop`` of ``source`` to ``sink``; ``stop`` None: to the end, wherever that is."""

    def __init__(self, source: BodySource, sink: BodySink, clock: Clock, start: int, stop: int | None) -> None:
        self.position = start
        self._source = source
        self._sink = sink
        self._clock = clock
        self._stop = stop
        self._is_paused = False
        self._is_pumping = False
        self._is_closed = False
        self._is_due = False

    def begin(self) -> None:
        """Write what is there, and follow what comes."""
        self._source.follow(self)
        self._pump()

    # -- from the body -----------------------------------------------------------------------------------------------

    def offered(self, offset: int, data: bytes) -> None:
        """Take the chunk directly where it is the next one for this client; else see to it in turn."""
        if self._is_closed or self._is_paused or self._is_pumping:
            return
        if offset != self.position or self._is_due or len(data) > CHUNK_BYTES:
            self._pump_soon()
            return
        if self._stop is not None and offset + len(data) > self._stop:
            data = data[: self._stop - offset]
        self._is_pumping = True
        self._write(data)
        self._is_pumping = False
        self._source.taken()
        self._settle()

    def advanced(self) -> None:
        """Read on, if the client has room."""
        self._pump()

    def broken(self) -> None:
        """Break the client's connection: what it has is not the whole."""
        self._close(aborting=True)

    # -- from the client's transport ---------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The client is slower than the body."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """The client has room again."""
        self._is_paused = False
        self._pump()

    def stopProducing(self) -> None:
        """The client is gone."""
        if not self._is_closed:
            self._is_closed = True
            self._source.leave(self)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        if self._is_pumping or self._is_closed:
            return
        self._is_pumping = True
        try:
            chunks = 0
            while not self._is_paused and not self._is_closed:
                count = min(self._limit - self.position, CHUNK_BYTES)
                if count <= 0:
                    break
                if chunks == CHUNKS_A_TURN:
                    self._pump_soon()
                    break
                self._write(self._source.read_at(self.position, count))
                chunks += 1
        except StorageError:
            self._close(aborting=True)
        finally:
            self._is_pumping = False
        if not self._is_closed:
            self._source.taken()
            self._settle()

    def _pump_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._is_due = False
        self._pump()

    @property
    def _limit(self) -> int:
        available = self._source.available
        return available if self._stop is None else min(available, self._stop)

    def _write(self, data: bytes) -> None:
        self.position += len(data)
        self._sink.write(data)

    def _settle(self) -> None:
        """Finish when everything was written; a body whose length is not known ends when it is whole."""
        if self._is_closed:
            return
        if self._stop is not None:
            # an empty body has come when nothing has, so it is done only when it is known to be right
            has_come = 0 < self._stop <= self._source.available
            is_done = self.position >= self._stop and (self._source.is_whole or has_come)
        else:
            is_done = self._source.is_whole and self.position >= self._source.available
        if is_done:
            self._close(aborting=False)

    def _close(self, *, aborting: bool) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._source.leave(self)
        if aborting:
            self._sink.abort()
        else:
            self._sink.finish()
