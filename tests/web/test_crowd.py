"""Connections that wait for bytes together: who is read, who leaves, and what the reactor is asked for."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReactorFDSet
from twisted.logger import LogEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from pipcache.web import crowd
from pipcache.web.crowd import MOST_AT_ONCE, Crowd, new_crowd


@implementer(IReactorFDSet)
class Reactor:
    """Knows who waits for bytes."""

    def __init__(self) -> None:
        self.readers: list[object] = []

    def addReader(self, reader: object) -> None:
        """It waits."""
        self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        """It waits no more."""
        self.readers.remove(reader)


class Member:
    """One end of a connection; ``read`` says what becomes of what is read."""

    def __init__(self, crowd: Crowd, read: Callable[[bytes], Any] = lambda _: None) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.crowd = crowd
        self.read = read
        self.received: list[bytes] = []
        self.lost: list[str] = []
        crowd.add(self)

    def fileno(self) -> int:
        """Our end."""
        return self.ours.fileno()

    def doRead(self) -> Any:
        """Read what there is."""
        self.received.append(self.ours.recv(100))
        return self.read(self.received[-1])

    def stopReading(self) -> None:
        """Leave the crowd."""
        self.crowd.remove(self)

    def stopWriting(self) -> None:
        """Wait for no room."""
        self.lost.append("stopWriting")

    def readConnectionLost(self, reason: Failure) -> None:
        """The other end sends no more."""
        self.lost.append(f"read {reason.type.__name__}")

    def connectionLost(self, reason: Failure) -> None:
        """It is lost."""
        self.crowd.remove(self)
        self.lost.append(reason.type.__name__)

    def close(self) -> None:
        """Close both ends."""
        self.crowd.remove(self)
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def reactor() -> Reactor:
    """Nobody waits."""
    return Reactor()


@pytest.fixture
def members(reactor: Reactor) -> Iterator[list[Member]]:
    """Three of one crowd."""
    together = Crowd(reactor)  # type: ignore[arg-type]
    made = [Member(together) for _ in range(3)]
    yield made
    for member in made:
        if member.ours.fileno() >= 0:
            member.close()


def test_all_that_have_something_are_read_in_one_event(members: list[Member]) -> None:
    """And nobody else."""
    for member in members[:2]:
        member.theirs.send(b"asked")
    members[0].crowd.doRead()
    assert [member.received for member in members] == [[b"asked"], [b"asked"], []]


def test_the_reactor_waits_for_it_while_somebody_is_in_it(members: list[Member], reactor: Reactor) -> None:
    """Once, whoever comes and goes; and it is ready when one of them is."""
    [crowd] = set(reactor.readers)
    assert len(reactor.readers) == 1
    assert isinstance(crowd, Crowd)
    assert not select.select([crowd], [], [], 0)[0]
    members[2].theirs.send(b"asked")
    assert select.select([crowd], [], [], 0)[0] == [crowd]
    crowd.add(members[0])  # type: ignore[arg-type]
    assert len(crowd) == 3
    for member in members:
        crowd.remove(member)  # type: ignore[arg-type]
        crowd.remove(member)  # type: ignore[arg-type]
    assert (len(crowd), reactor.readers) == (0, [])


@pytest.mark.parametrize(
    ("why", "lost"),
    [
        (ConnectionDone(), ["read ConnectionDone"]),
        (ConnectionLost(), ["stopWriting", "ConnectionLost"]),
    ],
)
def test_who_is_gone_leaves(members: list[Member], why: Exception, lost: list[str]) -> None:
    """It is told as the reactor would tell it, and waits no more."""
    members[0].read = lambda _: why
    members[0].theirs.send(b"x")
    members[0].crowd.doRead()
    assert members[0].lost == lost
    assert len(members[0].crowd) == 2


def test_one_that_fails_is_logged_and_lost(members: list[Member], nothing_left_behind: list[LogEvent]) -> None:
    """The others are read all the same."""

    def fail(_: bytes) -> None:
        raise ValueError("of the test")

    members[0].read = fail
    for member in members:
        member.theirs.send(b"x")
    members[0].crowd.doRead()
    assert members[0].lost == ["stopWriting", "ValueError"]
    assert [member.received for member in members[1:]] == [[b"x"], [b"x"]]
    [event] = nothing_left_behind
    assert event["log_failure"].check(ValueError)
    nothing_left_behind.clear()


def test_one_that_another_closed_is_not_read(members: list[Member]) -> None:
    """Both had something in the same event."""
    for member in members[:2]:
        member.read = lambda _: [each.close() for each in members[:2]] and None
        member.theirs.send(b"x")
    members[2].crowd.doRead()
    assert sum(len(member.received) for member in members[:2]) == 1


def test_others_have_their_turn(reactor: Reactor) -> None:
    """So many are read in one event; the rest in the next."""
    together = Crowd(reactor)  # type: ignore[arg-type]
    made = [Member(together) for _ in range(MOST_AT_ONCE + 1)]
    for member in made:
        member.theirs.send(b"x")
    counts = []
    for _ in range(2):
        together.doRead()
        counts.append(sum(len(member.received) for member in made))
    for member in made:
        member.close()
    assert counts[0] == MOST_AT_ONCE
    assert counts[1] > MOST_AT_ONCE


@pytest.fixture
def epoll_reactor() -> Iterator[EPollReactor]:
    """One of its own, which is not run."""
    made = EPollReactor()
    yield made
    for reader in made.removeAll():
        reader.connectionLost(Failure(ConnectionLost()))


def test_the_reactor_does_not_dispatch_a_crowd(
    epoll_reactor: EPollReactor, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its poller reads it at once: this fails where Twisted changes what that leans on. All else it dispatches."""
    dispatched: list[object] = []
    monkeypatch.setattr(epoll_reactor, "_doReadOrWrite", lambda selectable, *_: dispatched.append(selectable))
    crowds = [Crowd(epoll_reactor) for _ in range(2)]
    made = [Member(each) for each in crowds]
    other = members[0]
    epoll_reactor.addReader(other)  # type: ignore[arg-type]
    for member in (*made, other):
        member.theirs.send(b"x")
    epoll_reactor.doIteration(0)
    assert [member.received for member in made] == [[b"x"], [b"x"]]
    assert dispatched == [other]
    epoll_reactor.removeReader(other)  # type: ignore[arg-type]
    for member in made:
        member.close()
    epoll_reactor.doIteration(0)
    assert dispatched == [other]


def test_a_crowd_that_came_back_is_read_again(epoll_reactor: EPollReactor) -> None:
    """Its descriptor is its own for as long as it lives."""
    together = Crowd(epoll_reactor)
    first = Member(together)
    first.close()
    second = Member(together)
    second.theirs.send(b"x")
    epoll_reactor.doIteration(0)
    assert second.received == [b"x"]
    second.close()


def test_a_poller_of_another_kind_is_left_alone(epoll_reactor: EPollReactor) -> None:
    """Then the reactor dispatches the crowd."""

    class Other:
        """Forwards all."""

        def __init__(self, poller: Any) -> None:
            self.register, self.modify, self.unregister = poller.register, poller.modify, poller.unregister
            self.poll = poller.poll

    other = epoll_reactor._poller = Other(epoll_reactor._poller)
    together = Crowd(epoll_reactor)
    member = Member(together)
    assert epoll_reactor._poller is other
    member.theirs.send(b"x")
    epoll_reactor.doIteration(0)
    assert member.received == [b"x"]
    member.close()


def test_at_the_end_all_are_told(members: list[Member]) -> None:
    """The reactor tells those that it waits for."""
    members[0].crowd.connectionLost(Failure(ConnectionLost()))
    assert [member.lost for member in members] == [["ConnectionLost"]] * 3


def test_a_system_without_epoll_has_all_else() -> None:
    """Nothing that only Linux has is needed to begin with."""
    without = "import select; [delattr(select, name) for name in dir(select) if 'epoll' in name.lower()]"
    done = subprocess.run(
        [sys.executable, "-c", f"{without}; import pipcache.service.assemble"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_without_epoll_there_is_none(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor with a reactor that waits for no descriptors."""
    assert new_crowd(object()) is None
    assert new_crowd(reactor) is not None
    monkeypatch.delattr(crowd.select, "epoll")
    assert new_crowd(reactor) is None
