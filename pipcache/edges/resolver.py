"""Where a host's name leads, and connecting only to where a request may go.

Every address that a name resolves to is judged when it is connected to, so that a name which leads elsewhere the second
time gains nothing. Which addresses are private is decided in `rules.addresses`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from pipcache.rules.addresses import literal
from pipcache.rules.errors import MalformedResponse

IsPrivate = Callable[[str], bool]


def leads_inside(host: str) -> MalformedResponse:
    """The error for a page or a redirect that leads to a private address."""
    return MalformedResponse(
        f"it leads to {host}, which is at a private address; if that may be asked, list it in this upstream's"
        " redirect_hosts"
    )


class Neighbours:
    """Which hosts are at private addresses only; found out once, as a name that changes sides is not to be believed.

    Asked for the hosts of configured upstreams alone, so there are few.
    """

    def __init__(self, reactor: Any, is_private: IsPrivate, seconds: float) -> None:
        self._reactor = reactor
        self._is_private = is_private
        self._seconds = seconds
        self._known: dict[str, bool] = {}

    async def has(self, host: str, *, is_resolved: bool = True) -> bool:
        """Whether it is private. A name that cannot be resolved, or not by us, is not."""
        address = literal(host)
        if address is not None:
            return self._is_private(address)
        if is_resolved and host not in self._known:
            addresses = await self._addresses(host)
            if addresses:
                self._known.setdefault(host, all(self._is_private(each) for each in addresses))
        return is_resolved and self._known.get(host, False)

    async def _addresses(self, host: str) -> list[str]:
        found: Deferred[list[str]] = Deferred()
        found.addTimeout(self._seconds, self._reactor)
        self._reactor.nameResolver.resolveHostName(_Collecting(found), host)
        try:
            return await found
        except DeferredTimeoutError:
            return []


@implementer(IResolutionReceiver)
class _Collecting:
    """Gives all addresses of a host together."""

    def __init__(self, found: Deferred[list[str]]) -> None:
        self._found = found
        self._addresses: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Nothing is known yet."""

    def addressResolved(self, address: IAddress) -> None:
        """One more."""
        self._addresses.append(cast(Any, address).host)

    def resolutionComplete(self) -> None:
        """These are all."""
        self._found.callback(self._addresses)


@implementer(IStreamClientEndpoint)
class PublicEndpoint:
    """A host by name, connected to at its public addresses only."""

    def __init__(self, reactor: Any, host: bytes, port: int, attempt_seconds: float, is_private: IsPrivate) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._attempt_seconds = attempt_seconds
        self._is_private = is_private

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; fails with ``MalformedResponse`` where all addresses are private."""
        resolver = _PublicResolver(self._reactor.nameResolver, self._is_private)
        view = _ReactorView(self._reactor, resolver)
        endpoint = HostnameEndpoint(view, self._host, self._port, attemptDelay=self._attempt_seconds)

        def failed(failure: Failure) -> Failure:
            if resolver.has_refused and failure.check(DNSLookupError):
                raise leads_inside(self._host.decode("latin-1"))
            return failure

        return endpoint.connect(factory).addErrback(failed)


@implementer(IReactorPluggableNameResolver)
class _ReactorView:
    """The reactor, with another resolver."""

    def __init__(self, reactor: Any, resolver: IHostnameResolver) -> None:
        self._reactor = reactor
        self.nameResolver = resolver

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """As the interface wants it; nobody does."""
        before, self.nameResolver = self.nameResolver, resolver
        return before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


@implementer(IHostnameResolver)
class _PublicResolver:
    """Resolves names, and holds private addresses back."""

    def __init__(self, resolver: IHostnameResolver, is_private: IsPrivate) -> None:
        self._resolver = resolver
        self._is_private = is_private
        self.has_refused = False

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """As the resolver below; private addresses do not reach the receiver."""
        receiver = _Judging(self, resolutionReceiver)
        return self._resolver.resolveHostName(receiver, hostName, portNumber, addressTypes, transportSemantics)

    def may_pass(self, address: Any) -> bool:
        """Whether the receiver is told of an address."""
        is_refused = self._is_private(address.host)
        self.has_refused = self.has_refused or is_refused
        return not is_refused


@implementer(IResolutionReceiver)
class _Judging:
    """Stands before the receiver that the addresses are for."""

    def __init__(self, resolver: _PublicResolver, receiver: IResolutionReceiver) -> None:
        self._resolver = resolver
        self._receiver = receiver
        self.resolutionBegan = receiver.resolutionBegan
        self.resolutionComplete = receiver.resolutionComplete

    def addressResolved(self, address: IAddress) -> None:
        """Pass it on, or not."""
        if self._resolver.may_pass(address):
            self._receiver.addressResolved(address)
