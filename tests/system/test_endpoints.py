"""The program listens where its endpoints say: several addresses, TLS, a socket of the file system."""

from __future__ import annotations

import http.client
import json
import socket
import ssl

import pytest

from tests.fakes.tls import self_signed
from tests.system.harness import Server, free_port

pytestmark = pytest.mark.system

NOWHERE = {"primary": {"url": "http://127.0.0.1:9"}}


def health_of(connection: http.client.HTTPConnection) -> str:
    """What `/health` says there."""
    try:
        connection.request("GET", "/health")
        return str(json.loads(connection.getresponse().read())["status"])
    finally:
        connection.close()


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket of the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self._path)


def test_it_listens_on_each_of_them(tmp_path):
    """Plain, with TLS, and on a socket; HTTP/1.1 is what TLS agrees on."""
    certificate = self_signed()
    (tmp_path / "both.pem").write_bytes(certificate.identity)
    tls_port, path = free_port(), str(tmp_path / "s")
    server = Server(tmp_path, {"upstream": NOWHERE})
    pem = tmp_path / "both.pem"
    server.settings["server"]["endpoints"] = [
        f"tcp:{server.port}:interface=127.0.0.1",
        f"ssl:{tls_port}:interface=127.0.0.1:privateKey={pem}:certKey={pem}",
        f"unix:{path}",
    ]
    context = ssl.create_default_context(cadata=certificate.pem.decode())
    context.set_alpn_protocols(["h2", "http/1.1"])
    with server:
        connections = [
            http.client.HTTPConnection("127.0.0.1", server.port, timeout=10),
            http.client.HTTPSConnection("127.0.0.1", tls_port, timeout=10, context=context),
            UnixConnection(path),
        ]
        assert [health_of(connection) for connection in connections] == ["healthy"] * 3
        with socket.create_connection(("127.0.0.1", tls_port), 10) as plain:
            assert context.wrap_socket(plain, server_hostname="127.0.0.1").selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("nonsense:1", "Unknown endpoint type"),
        ("tcp:port=x", "invalid literal"),
        ("ssl:0:privateKey=/absent.pem:certKey=/absent.pem", "/absent.pem: No such file or directory"),
        ("ssl:0:privateKey={folder}/key:certKey={folder}/another", "Certificate public and private keys do not match"),
        ("ssl:0:privateKey={folder}/key:certKey={folder}/words", "OpenSSL finds no certificate with its key"),
        ("unix:/absent/folder/socket", "No such file or directory"),
    ],
)
def test_one_that_cannot_be_listened_on_ends_the_start_in_one_line(tmp_path, endpoint, said):
    """The line names it and the setting."""
    (tmp_path / "key").write_bytes(self_signed().identity.partition(b"-----BEGIN CERTIFICATE")[0])
    (tmp_path / "another").write_bytes(self_signed.__wrapped__().pem)
    (tmp_path / "words").write_text("none of the two")
    endpoint = endpoint.format(folder=tmp_path)
    server = Server(tmp_path, {"upstream": NOWHERE})
    server.settings["server"]["endpoints"] = [endpoint]
    server.launch()
    assert server.wait() == 1
    assert "Traceback" not in server.log
    (line,) = [line for line in server.log.splitlines() if "pipcache: " in line]
    assert f"cannot listen on {endpoint}" in line
    assert said in line
    assert "set server.endpoints" in line


@pytest.mark.parametrize("value", ["8080", [8080], ["Tcp 8080"], {"tcp": 8080}])
def test_what_is_no_endpoint_is_a_wrong_setting(tmp_path, value):
    """As any other, in one line."""
    server = Server(tmp_path, {"upstream": NOWHERE})
    server.settings["server"]["endpoints"] = value
    server.launch()
    assert server.wait() == 1
    assert "server.endpoints: " in server.log
    assert "is not a list of endpoints" in server.log
