"""Many connections behind one descriptor: those that have bytes to read are read in one event of the reactor.

The reactor goes to some length for each event: it looks the descriptor up, sets a logging context and leaves it again. With
many clients at once that is a good part of what a hit costs. So the connections wait in an epoll of their own, which is
itself one descriptor to the reactor; when it is ready, all that have something are read in one go, and so are those whose
next request has come meanwhile.

And one event takes the reactor 60 us where the processor has been doing something else, a fifth of what a single hit then
takes. So the reactor's poller is told to read a crowd that is ready at once, and not to report it. The poller is Twisted's
own affair; where it is not as it is known here, crowds are dispatched like all else.

Waiting for room to write is the reactor's as ever. Where the system has no epoll there is no crowd, and each connection
waits by itself.
"""

from __future__ import annotations

import select
from typing import Any, Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

MOST_AT_ONCE = 64
"""Reads in one event; the reactor's other work has its turn behind them."""


class Member(Protocol):
    """A connection, as Twisted's transports are."""

    def fileno(self) -> int:
        """Its descriptor."""
        ...

    def doRead(self) -> Any:
        """Read what there is; anything but None is why the connection is no more."""
        ...

    def stopReading(self) -> None:
        """Wait for bytes no more."""
        ...

    def stopWriting(self) -> None:
        """Wait for room no more."""
        ...

    def readConnectionLost(self, reason: Failure) -> None:
        """The other end sends no more."""
        ...

    def connectionLost(self, reason: Failure) -> None:
        """The connection is no more."""
        ...


@implementer(IReadDescriptor)
class Crowd:
    """Connections that wait for bytes together.

    Args:
        reactor: waits for the crowd, as long as it has members.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorFDSet) -> None:
        self._reactor = reactor
        self._at_once = _read_at_once(reactor)
        self._poll = select.epoll()
        self._members: dict[int, Member] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._members)

    def add(self, member: Member) -> None:
        """Wait for bytes."""
        descriptor = member.fileno()
        if descriptor in self._members:
            return
        self._poll.register(descriptor, select.EPOLLIN)
        if not self._members:
            self._reactor.addReader(self)
            self._at_once[self.fileno()] = self
        self._members[descriptor] = member

    def remove(self, member: Member) -> None:
        """Wait no more; nothing, where it does not wait."""
        descriptor = member.fileno()
        if self._members.get(descriptor) is not member:
            return
        del self._members[descriptor]
        self._poll.unregister(descriptor)
        if not self._members:
            self._reactor.removeReader(self)
            self._at_once.pop(self.fileno(), None)

    def doRead(self) -> None:
        """Some have bytes, or have lost their client: read them, and those that have some by then."""
        members = self._members
        poll = self._poll.poll
        turns = MOST_AT_ONCE
        while turns > 0 and (ready := poll(0, turns)):
            turns -= len(ready)
            for descriptor, _ in ready:
                member = members.get(descriptor)
                if member is None:  # one that was read before it has closed it
                    continue
                try:
                    why = member.doRead()
                except Exception as error:
                    self._log.failure("a connection failed on what it was sent")
                    why = error
                if why is not None:
                    _lose(member, why)

    def fileno(self) -> int:
        """The descriptor that is ready when one of the connections is."""
        return self._poll.fileno()

    def logPrefix(self) -> str:
        """How Twisted's log names it."""
        return type(self).__name__

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has stopped waiting for anybody."""
        for member in tuple(self._members.values()):
            member.connectionLost(reason)


class _Poller:
    """A reactor's poller, which reads those of ``crowds`` (by descriptor) that are ready, and reports the others."""

    def __init__(self, poller: Any) -> None:
        self.crowds: dict[int, Crowd] = {}
        self._poller = poller
        self.register = poller.register
        self.modify = poller.modify
        self.unregister = poller.unregister

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        """What is ready within so many seconds, without crowds."""
        ready: list[tuple[int, int]] = self._poller.poll(timeout, maxevents)
        found = [crowd for descriptor, _ in ready if (crowd := self.crowds.get(descriptor)) is not None]
        if not found:
            return ready
        others = [each for each in ready if each[0] not in self.crowds]
        for crowd in found:
            crowd.doRead()
        return others


def _read_at_once(reactor: Any) -> dict[int, Crowd]:
    """The crowds, by descriptor, that this reactor's poller reads; of no effect with another kind of reactor."""
    poller = getattr(reactor, "_poller", None)
    if type(poller) is select.epoll:
        poller = reactor._poller = _Poller(poller)
    return poller.crowds if isinstance(poller, _Poller) else {}


def _lose(member: Member, why: Exception) -> None:
    """What the reactor does with a connection whose ``doRead`` said why it is no more."""
    member.stopReading()
    if isinstance(why, ConnectionDone):
        member.readConnectionLost(Failure(why))
        return
    member.stopWriting()
    member.connectionLost(Failure(why))


def new_crowd(reactor: Any) -> Crowd | None:
    """A crowd for this reactor; None where the system has no epoll."""
    return Crowd(reactor) if hasattr(select, "epoll") and IReactorFDSet.providedBy(reactor) else None
