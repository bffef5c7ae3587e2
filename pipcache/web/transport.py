"""Connections that send at once, and that send files without this process looking at their bytes.

Twisted's transport keeps what is written until the reactor has asked the system whether there is room, which costs a turn
of the reactor and two system calls for each response. There nearly always is room, so here ``write`` tries at once and
leaves to Twisted only what the system did not take.

A file goes out by sendfile(2), or from a mapping of it to who takes it fast (``mapping``), behind all that was written
before, ``CALL_BYTES`` a turn, so that one fast client holds up nobody. A client that takes nothing costs a descriptor and no
memory. Both block where the file's pages are not in memory, and this is the thread that serves everybody; so the system is
asked first, and pages that are not there are read in a thread (``page_cache``). A file that is shorter than was promised
breaks the connection, so that nobody takes it for the whole.

Twisted's documentation lets ``Port.transport`` be replaced. Beyond that this relies on one thing: that a transport calls
its own ``startWriting`` when it holds bytes back, and ``stopWriting`` when all are sent. A transport that is no
``PromptServer`` (of another kind of port, or a test's) is written to as ever; nobody asks it for ``send_file``. ``tls`` has
the one that encrypts.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import Any, Final

from attrs import define
from twisted.internet import main, tcp
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from pipcache.engine.interfaces import InThread
from pipcache.web.crowd import Crowd, new_crowd
from pipcache.web.mapping import OpenFile
from pipcache.web.page_cache import COPY_BYTES, is_in_memory, read_through

CALL_BYTES = 1 << 21
"""What one client gets in one turn of the reactor; the system's buffer takes less of it where the network is slower."""

FAST_BYTES_PER_SECOND: Final = 150_000_000
"""More than a network of a gigabit carries: who takes a file faster is most likely on this machine."""

AHEAD_BYTES = CALL_BYTES
"""What a thread reads ahead of a file that is not in memory; no less than is sent in a turn."""

_NO_SENDFILE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_MORE = getattr(socket, "MSG_MORE", 0)

Done = Callable[[Exception | None], None]
"""Called once: with None when all was handed to the system, else with why not."""


@define
class SentFile:
    """What is to be sent of a file.

    ``held_until``: as far as a thread has read it. ``is_watched_for``: the reactor watches for room for it. ``taken_bytes``:
    what the client took of the piece before, which it was given at ``given_at``, by the monotonic clock.
    """

    source: OpenFile
    position: int
    stop: int
    done: Done
    held_until: int = 0
    taken_bytes: int = 0
    given_at: float = 0.0
    is_copied: bool = False
    is_being_read: bool = False
    is_watched_for: bool = False
    failure: Exception | None = None


class PromptServer(tcp.Server):
    """One client's connection.

    Invariant: ``_holds`` says that Twisted's part has bytes to send, or a close to make, and waits for room; only then,
    or while a file is on its way, does the reactor watch for room.
    """

    def __init__(self, in_thread: InThread, crowd: Crowd | None, *accepted: Any) -> None:
        self.moves = 0
        """Grows with every piece of a file that the client took."""
        self._in_thread = in_thread
        self._crowd = crowd
        self._holds = False
        self._file: SentFile | None = None
        self._behind: list[bytes] = []
        self._closes_behind = False
        self._host: Any = None
        super().__init__(*accepted)

    def getHost(self) -> Any:
        """Our own address, as this client reached it; twisted.web asks for it at each request, and it does not change."""
        if self._host is None:
            self._host = super().getHost()
        return self._host

    # -- bytes that come ---------------------------------------------------------------------------------------------

    def startReading(self) -> None:
        """Wait for bytes."""
        if self._crowd is None:
            super().startReading()
        else:
            self._crowd.add(self)

    def stopReading(self) -> None:
        """Wait for bytes no more."""
        if self._crowd is None:
            super().stopReading()
        else:
            self._crowd.remove(self)

    def doRead(self) -> Any:  # type: ignore[override]  # one of its bases would take any arguments
        """There are bytes, or the client is gone."""
        try:
            data = self.socket.recv(self.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None

    # -- bytes that go -----------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send these bytes, now as far as there is room."""
        if self._file is not None:
            self._behind.append(data)
            return
        if data and self._may_send():
            sent = self._send(data)
            if sent == len(data):
                return
            data = bytes(memoryview(data)[sent:])
        super().write(data)

    def write_both(self, head: bytes, data: bytes) -> None:
        """Send these bytes in one piece, without making one of them."""
        if self._file is not None or not self._may_send():
            self.write(head + data)
            return
        sent = self._send_both(head, data)
        if sent < len(head) + len(data):
            super().write((head + data)[sent:])

    def _send_both(self, head: bytes, data: bytes) -> int:
        """How many of these bytes the system took."""
        try:
            return self.socket.sendmsg((head, data))
        except OSError:  # as in ``_send``
            return 0

    def _send(self, data: bytes | memoryview) -> int:
        """How many of these bytes the system took."""
        try:
            return self.socket.send(data)
        except OSError:  # no room, or no client: which of them is for Twisted to find out
            return 0

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send these bytes."""
        self.write(b"".join(iovec))

    def startWriting(self) -> None:
        """Wait for room; called by Twisted."""
        self._holds = True
        super().startWriting()

    def stopWriting(self) -> None:
        """All that Twisted held is sent; called by Twisted."""
        self._holds = False
        if self._file is None:
            super().stopWriting()

    def doWrite(self) -> Any:
        """There is room."""
        if self._holds or self._file is None:
            return super().doWrite()
        if not self._file.is_being_read:
            self._send_piece(self._file)
        return None

    def _may_send(self) -> bool:
        """Whether nothing is to go first; a producer that is asked for each piece is asked by Twisted's own writing."""
        is_pulled = self.producer is not None and not self.streamingProducer
        return not (self._holds or self.disconnecting or self.TLS or is_pulled) and bool(self.connected)

    # -- files -------------------------------------------------------------------------------------------------------

    def send_file(self, head: bytes, source: OpenFile, start: int, count: int, done: Done, held_until: int = 0) -> None:
        """Send ``head``, then ``count`` bytes of a file from ``start`` on; one file at a time.

        Args:
            head: goes out in one packet with the file's first bytes.
            source: the caller's, to be closed when ``done`` is called and not before.
            start: offset in the file.
            count: in bytes; a file that has fewer breaks the connection.
            done: called when the file is on its way, perhaps before this returns.
            held_until: as far as the caller has just seen the file to be in memory.
        """
        assert self._file is None, "one file at a time"
        file = SentFile(source, start, start + count, done, held_until)
        may_send = self._may_send()
        is_at_hand = bool(count) and self._is_at_hand(file)
        if may_send and is_at_hand:
            head = self._announced(head)
        if head:
            self.write(head)
        if not self.connected or self.disconnecting:
            done(ConnectionLost("the client is gone"))
            return
        self._file = file
        if not self._holds:
            self._send_piece(file, is_at_hand=is_at_hand)
        if self._file is file and not file.is_being_read:
            self._watch_for(file)

    def _watch_for(self, file: SentFile) -> None:
        """Go on with the file when there is room."""
        file.is_watched_for = True
        super().startWriting()

    def _announced(self, head: bytes) -> bytes:
        """Give the system the head with the word that more follows at once; returns what it did not take.

        To be followed by bytes of the file in the same turn, or the system keeps the head back for a while.
        """
        try:
            return head[self.socket.send(head, _MORE) :]
        except OSError:
            return head

    def _send_piece(self, file: SentFile, *, is_at_hand: bool = False) -> None:
        """Send a piece of the file, or have it read."""
        if file.position >= file.stop:
            self._ended()
            return
        if not is_at_hand and not self._is_at_hand(file):
            self._read_ahead(file)
            return
        try:
            sent = self._sent(file, min(file.stop - file.position, CALL_BYTES))
        except BlockingIOError:
            file.taken_bytes = 0
            return
        except OSError as error:
            self._fail(file, error)
            return
        if not sent:
            self._fail(file, OSError(errno.EIO, "the file is shorter than was promised"))
            return
        file.taken_bytes = sent
        file.position += sent
        self.moves += 1
        if file.position >= file.stop:
            self._ended()

    def _sent(self, file: SentFile, count: int) -> int:
        """How many of the next bytes the system took."""
        now = monotonic()
        is_fast = file.taken_bytes > FAST_BYTES_PER_SECOND * (now - file.given_at)
        file.given_at = now
        mapped = file.source.mapped(file.position, file.position + count) if is_fast else None
        if mapped is not None:
            with mapped:
                return self.socket.send(mapped)
        if not file.is_copied:
            try:
                return os.sendfile(self.socket.fileno(), file.source.descriptor, file.position, count)
            except OSError as error:
                if error.errno not in _NO_SENDFILE:
                    raise
                file.is_copied = True
        data = os.pread(file.source.descriptor, min(count, COPY_BYTES), file.position)
        return self.socket.send(data) if data else 0

    def _fail(self, file: SentFile, error: Exception) -> None:
        """Break the connection; ``connectionLost`` tells whose file it is."""
        file.failure = error
        self.abortConnection()

    def _ended(self) -> None:
        """Let go of the file, and go on with what was to follow it."""
        file, self._file = self._file, None
        assert file is not None
        if file.is_watched_for and not self._holds and self.connected:
            super().stopWriting()
        file.done(None)
        if self._file is None and (self._behind or self._closes_behind):
            self._go_on_behind()

    def _go_on_behind(self) -> None:
        behind, self._behind = self._behind, []
        if behind and self.connected:
            self.write(b"".join(behind))
        if self._closes_behind:
            self._closes_behind = False
            super().loseConnection()

    # -- files that are not in memory --------------------------------------------------------------------------------

    def _is_at_hand(self, file: SentFile) -> bool:
        """Whether the next piece can be sent without waiting for the disk."""
        stop = min(file.stop, file.position + CALL_BYTES)
        return stop <= file.held_until or is_in_memory(file.source.descriptor, file.position, stop - 1)

    def _read_ahead(self, file: SentFile) -> None:
        """Have the next part of the file read in a thread; the reactor does not watch this client meanwhile."""
        file.is_being_read = True
        super().stopWriting()
        Deferred.fromCoroutine(self._read(file))

    async def _read(self, file: SentFile) -> None:
        stop = min(file.stop, file.position + AHEAD_BYTES)
        try:
            await self._in_thread(partial(read_through, file.source.descriptor, file.position, stop))
        except Exception as error:
            file.failure = error
        file.is_being_read = False
        file.held_until = stop
        if self._file is not file:  # the client has left meanwhile, and the descriptor was kept for the thread
            file.done(file.failure or ConnectionLost("the client is gone"))
        elif file.failure is not None:
            self._fail(file, file.failure)
        else:
            self._watch_for(file)

    # -- the end -----------------------------------------------------------------------------------------------------

    def loseConnection(self) -> None:
        """Close behind all that is still to be sent."""
        if self._file is not None:
            self._closes_behind = True
            self.stopReading()
        else:
            super().loseConnection()

    def abortConnection(self) -> None:
        """Break the connection at once."""
        super().abortConnection()
        if self.connected:
            super().stopWriting()

    def connectionLost(self, reason: Failure) -> None:
        """The client is gone."""
        file, self._file = self._file, None
        self._behind.clear()
        self._closes_behind = False
        super().connectionLost(reason)
        if file is not None and not file.is_being_read:
            file.done(file.failure or ConnectionLost("the client is gone"))


def make_prompt(port: object, in_thread: InThread) -> bool:
    """Let a port that listens make its connections ``PromptServer``; False, and nothing changes, where it is another kind.

    To be called before the reactor accepts anybody, so right when it listens.
    """
    if not isinstance(port, tcp.Port) or port.transport is not tcp.Server:
        return False
    port.transport = partial(PromptServer, in_thread, new_crowd(port.reactor))  # type: ignore[assignment]
    return True
