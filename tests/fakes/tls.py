"""A certificate made for one run of the tests, for servers on 127.0.0.1 and for a name that only a proxy resolves."""

from __future__ import annotations

import datetime as dt
import ipaddress
from functools import cache

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.ssl import Certificate, CertificateOptions, PrivateCertificate

NAME = "mirror.invalid"
"""A host name in the certificate that no resolver knows."""


@frozen
class SelfSigned:
    """What a server needs, and the PEM text that a client must trust to believe it.

    A server with ``demanding`` also wants to be shown a certificate, and ``identity`` (certificate and key, in PEM form) is
    the one that it believes.
    """

    options: CertificateOptions
    pem: bytes
    demanding: CertificateOptions
    identity: bytes


@cache
def self_signed() -> SelfSigned:
    """A certificate that vouches for itself, the same for all tests of a run."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test's own server")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName(NAME)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both = PrivateCertificate.loadPEM(private + pem)
    return SelfSigned(both.options(), pem, both.options(Certificate.loadPEM(pem)), private + pem)
