"""TLS towards upstreams: whose certificates are believed, and which one we show. Verification is never left out.

Each file is read once, so who reads it at start, while there are privileges, needs it no more.
"""

from __future__ import annotations

import re
from typing import Any, Final

from attrs import frozen
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from pipcache.rules.errors import ConfigError

_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_AUTHORITIES: Final = "a file of certificates in PEM form"
_IDENTITY: Final = "a file with a certificate and its key, not encrypted, both in PEM form"


class Certificates:
    """What the files named in settings and environment hold."""

    def __init__(self) -> None:
        self._authorities: dict[str, Any] = {}
        self._identities: dict[str, _Identity] = {}

    def authorities(self, path: str) -> Any:
        """The trust root that a file of certificates makes.

        Raises:
            ConfigError: it cannot be read, or there is none in it; the operator's fault.
        """
        if path not in self._authorities:
            blocks = _CERTIFICATE.findall(_read(path, _AUTHORITIES))
            if not blocks:
                raise ConfigError(f"there is no certificate in {path}; allowed: {_AUTHORITIES}")
            try:
                found = [Certificate.loadPEM(block) for block in blocks]
            except crypto.Error:
                raise ConfigError(f"something in {path} is no certificate; allowed: {_AUTHORITIES}") from None
            self._authorities[path] = trustRootFromCertificates(found)
        return self._authorities[path]

    def identity(self, path: str) -> _Identity:
        """The certificate, with those between it and its authority, and the key in a file.

        Raises:
            ConfigError: it cannot be read, lacks one of the two, or they are no pair; the operator's fault.
        """
        if path not in self._identities:
            text = _read(path, _IDENTITY)
            try:
                chain = tuple(
                    crypto.load_certificate(crypto.FILETYPE_PEM, block) for block in _CERTIFICATE.findall(text)
                )
                # with a password, though it has none: else OpenSSL asks the terminal for that of an encrypted key
                identity = _Identity(crypto.load_privatekey(crypto.FILETYPE_PEM, text, b""), chain)
                identity.check()
            except (crypto.Error, SSL.Error, ValueError, IndexError):
                raise ConfigError(f"{path} holds no certificate with its key; allowed: {_IDENTITY}") from None
            self._identities[path] = identity
        return self._identities[path]

    def policy(self, ca_file: str | None, client_cert: str | None) -> IPolicyForHTTPS:
        """How servers are verified: by the authorities of a file or the system's; shown a certificate or none."""
        return _Policy(
            None if ca_file is None else self.authorities(ca_file),
            None if client_cert is None else self.identity(client_cert),
        )


@frozen
class _Identity:
    """A private key, and certificates from its own to the last before an authority's."""

    key: crypto.PKey
    chain: tuple[crypto.X509, ...]

    def check(self) -> None:
        """Find out whether key and certificate are a pair, which Twisted does for each connection only.

        Raises:
            SSL.Error: they are none.
            IndexError: there is no certificate.
        """
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_certificate(self.chain[0])
        context.use_privatekey(self.key)
        context.check_privatekey()

    def options(self) -> dict[str, Any]:
        """What Twisted is told of it; a new mapping each time, as Twisted adds to it."""
        return {"privateKey": self.key, "certificate": self.chain[0], "extraCertChain": list(self.chain[1:])}


@implementer(IPolicyForHTTPS)
class _Policy:
    def __init__(self, authorities: Any, identity: _Identity | None) -> None:
        self._authorities = authorities
        self._identity = identity

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """What verifies that the peer is the host of this name."""
        options = self._identity.options() if self._identity else {}
        name = hostname.decode("ascii")
        return optionsForClientTLS(name, trustRoot=self._authorities, extraCertificateOptions=options)


def _read(path: str, allowed: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); allowed: {allowed}") from None
