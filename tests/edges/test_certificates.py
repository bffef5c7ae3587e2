"""The certificate that we show: to its own upstream and nobody else; and files that hold none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from attrs import evolve
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipcache.edges.certificates import Certificates
from pipcache.rules.errors import ConfigError, UpstreamUnavailable
from pipcache.rules.sites import UpstreamSite
from tests.edges.scene import Scene, bounded
from tests.fakes.proxy import FakeProxy
from tests.fakes.tls import NAME, self_signed
from tests.fakes.upstream import FakeUpstream

BODY = b"body" * 1000


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the authority of the test's servers and a certificate that they believe."""
    (tmp_path / "ca.pem").write_bytes(self_signed().pem)
    (tmp_path / "me.pem").write_bytes(self_signed().identity)
    return tmp_path


async def demanding(scene: Scene) -> FakeUpstream:
    """An upstream that speaks to nobody who shows no certificate."""
    upstream: FakeUpstream = await scene.another(FakeUpstream(self_signed().demanding))
    upstream.add("/a", BODY)
    return upstream


def site_at(url: str, files: Path, **more: str) -> UpstreamSite:
    """A site that believes the test's servers and shows the certificate."""
    site = UpstreamSite.from_index("main", f"{url}/simple/", ca_file=str(files / "ca.pem"), **more)
    return evolve(site, client_cert=str(files / "me.pem"))


@bounded
async def test_it_is_shown_to_its_own_upstream(files: Path) -> None:
    """Who demands a certificate gets the one that is set, also through a proxy's tunnel; without one nothing comes."""
    async with Scene() as scene:
        upstream = await demanding(scene)
        proxy = await scene.another(FakeProxy())
        for url, more in ((upstream.url, {}), (f"https://{NAME}:{upstream.port}", {"proxy": proxy.url})):
            site = site_at(url, files, **more)
            _, received = await scene.fetch(f"{url}/a", site)
            assert (bytes(received.body), received.error) == (BODY, None)
            refused = await scene.send_or_error(f"{url}/a", evolve(site, client_cert=None))
            assert isinstance(refused, UpstreamUnavailable)
        assert [request.target for request in upstream.requests] == ["/a", "/a"]
        assert len(proxy.requests) == 2


@pytest.mark.parametrize("is_redirected", [False, True])
@bounded
async def test_it_is_not_shown_to_another_host(files: Path, is_redirected: bool) -> None:
    """Neither a redirect nor a link leads it elsewhere, not even to another port."""
    async with Scene() as scene:
        upstream, other = await demanding(scene), await demanding(scene)
        upstream.add("/away", redirect_to=f"{other.url}/a")
        url = f"{upstream.url}/away" if is_redirected else f"{other.url}/a"
        assert isinstance(await scene.send_or_error(url, site_at(upstream.url, files)), UpstreamUnavailable)
        assert other.requests == []
        _, received = await scene.fetch(f"{other.url}/a", site_at(other.url, files))
        assert bytes(received.body) == BODY


def key_pem(password: bytes | None = None) -> bytes:
    """A key that belongs to no certificate here."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        (lambda: None, "cannot be read (No such file or directory)"),
        (lambda: b"", "holds no certificate with its key"),
        (lambda: b"words", "holds no certificate with its key"),
        (lambda: self_signed().pem, "holds no certificate with its key"),
        (lambda: key_pem(), "holds no certificate with its key"),
        (lambda: self_signed().pem + key_pem(), "holds no certificate with its key"),
        (lambda: self_signed().pem + key_pem(b"hush"), "holds no certificate with its key"),
        (lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + key_pem(), "holds no certificate"),
    ],
)
def test_a_file_that_is_no_certificate_with_its_key(tmp_path: Path, text, trouble: str) -> None:
    """One half, a stranger's key, a key with a password (which nobody is asked for): one line with the path."""
    path = tmp_path / "me.pem"
    if (content := text()) is not None:
        path.write_bytes(content)
    with pytest.raises(
        ConfigError, match=rf"^{re.escape(f'{path} {trouble}')}[^\n]*; allowed: a file with a cert[^\n]*$"
    ):
        Certificates().identity(str(path))


def test_a_folder_is_no_file_of_certificates(tmp_path: Path) -> None:
    """Neither of authorities nor of a certificate to show."""
    for read in (Certificates().authorities, Certificates().identity):
        with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\); allowed: a file "):
            read(str(tmp_path))


def test_a_chain_is_sent_with_the_certificate(tmp_path: Path) -> None:
    """What follows the first certificate goes along with it; order of key and certificates is free."""
    path = tmp_path / "me.pem"
    path.write_bytes(self_signed().identity + self_signed().pem)
    options = Certificates().identity(str(path)).options()
    assert len(options["extraCertChain"]) == 1


def test_a_file_is_read_once(files: Path) -> None:
    """Read with privileges at start, it is not needed again."""
    certificates = Certificates()
    paths = str(files / "ca.pem"), str(files / "me.pem")
    certificates.authorities(paths[0])
    certificates.identity(paths[1])
    for path in paths:
        Path(path).unlink()
    certificates.policy(*paths).creatorForNetloc(b"mirror.invalid", 443)
