"""TLS towards clients: farewells, who leaves and who is sent away, and what keeps Twisted's TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol, IOpenSSLContextFactory, IReactorTCP
from twisted.internet.protocol import Factory
from zope.interface import implementer

from pipcache.web import tls
from pipcache.web.refusals import NoRoom
from pipcache.web.tls import SecureReactor
from tests.flows.harness import bounded, eventually
from tests.web.connections import BIG, Peer, Raw, in_thread, listen, raw


@implementer(IHalfCloseableProtocol)
class Lasting(Raw):
    """A client that stays when the other side has said its last."""

    def readConnectionLost(self) -> None:
        """Stay."""

    def writeConnectionLost(self) -> None:
        """Stay."""


@bounded
async def test_our_side_alone_is_closed_with_a_farewell() -> None:
    """Behind all that was written; what the client sends then is still read."""
    async with raw(Lasting()) as (server, ours, client):
        await eventually(client.step)
        server.write(BIG)
        server.loseWriteConnection()
        read = bytearray()

        def has_all() -> bool:
            read.extend(client.read())
            return len(read) == len(BIG)

        await eventually(has_all)
        assert read == BIG
        await eventually(lambda: _has_farewell(client))
        client.transport.write(client.sealed(b"more"))  # type: ignore[union-attr]
        await eventually(lambda: ours.received == b"more")


def _has_farewell(client: Raw) -> bool:
    try:
        return client.tls.read(1) == b""
    except ssl.SSLZeroReturnError:
        return True
    except ssl.SSLWantReadError:
        return False


@pytest.mark.parametrize("is_aborted", [False, True])
@bounded
async def test_a_close_says_farewell_and_an_abort_does_not(is_aborted: bool) -> None:
    """So nobody takes what was broken off for the whole."""
    async with raw() as (server, ours, client):
        await eventually(client.step)
        server.write(b"answer")
        await eventually(lambda: client.read() == b"answer")
        if is_aborted:
            server.abortConnection()
        else:
            server.loseConnection()
        await eventually(lambda: ours.lost is not None and client.lost is not None)
        assert _has_farewell(client) != is_aborted
        server.connectionLost(ours.lost)  # type: ignore[arg-type]  # twice, as Twisted at times does


@pytest.mark.parametrize("says_farewell", [False, True])
@bounded
async def test_a_client_that_leaves(says_farewell: bool) -> None:
    """With a farewell or without, it is gone."""
    async with raw() as (_, ours, client):
        await eventually(client.step)
        if says_farewell:
            with suppress(ssl.SSLWantReadError):
                client.tls.unwrap()
            client.transport.write(client.goes.read())  # type: ignore[union-attr]
        else:
            client.transport.loseConnection()  # type: ignore[union-attr]
        await eventually(lambda: ours.lost is not None)


@bounded
async def test_who_finds_no_room_is_closed_at_once() -> None:
    """Nothing can be said before the handshake, and nobody waits for that."""
    client = Peer()
    port = listen(Factory.forProtocol(NoRoom), is_secure=True)
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), client)
    await eventually(lambda: client.lost is not None)
    assert client.received == b""
    await port.stopListening()


# -- where it listens ------------------------------------------------------------------------------------------------


@implementer(IReactorTCP)
class Other:
    """A reactor of another kind."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def listenSSL(self, *said: Any) -> str:
        """Listen with Twisted's TLS."""
        self.asked.append(said)
        return "port"

    def callLater(self, seconds: float) -> float:
        """Something else that reactors do."""
        return seconds


def test_another_reactor_keeps_its_own_tls() -> None:
    """It is asked as an endpoint asked us, and is reached for all else."""
    other, options, factory = Other(), object(), Factory()
    secure = SecureReactor(other, in_thread)
    assert secure.listenSSL(443, factory, options, backlog=7, interface="::") == "port"
    assert other.asked == [(443, factory, options, 7, "::")]
    assert secure.callLater(3) == 3
    assert IReactorTCP.providedBy(secure)


@implementer(IOpenSSLContextFactory)
class InUse:
    """One whose context is that of connections already, which newer pyOpenSSLs do not let anybody change."""

    def getContext(self) -> InUse:
        """The context."""
        return self

    def set_mode(self, mode: int) -> None:
        """Refuse."""
        raise ValueError


@pytest.mark.parametrize("options", [object, InUse])
def test_what_makes_no_context_for_us_keeps_twisteds_tls(options: Callable[[], Any]) -> None:
    """One that makes connections of its own, or is in use elsewhere."""
    assert tls._context_of(options(), Factory()) is None
