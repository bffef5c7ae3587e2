"""TLS towards clients: records in pieces, each side waiting for the other, and files."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from pipcache.edges.records import RECORD_BYTES
from pipcache.web import tls, transport
from pipcache.web.mapping import OpenFile
from pipcache.web.tls import PIECE_BYTES, SecureServer
from pipcache.web.transport import AHEAD_BYTES
from tests.fakes.tls import self_signed
from tests.flows.harness import bounded, eventually
from tests.web.connections import BIG, Outcome, Peers, Raw, connected, in_thread, listen, raw


def waits_for_room(server: SecureServer) -> bool:
    """Whether the reactor is asked to say when there is room."""
    return server in reactor.getWriters()  # type: ignore[attr-defined]


# -- records ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@bounded
async def test_records_in_pieces_and_several_at_once(newest: ssl.TLSVersion) -> None:
    """All comes in order, however it is cut; a client that speaks none of our protocols is served nevertheless."""
    async with raw(Raw(newest)) as (server, ours, client):
        await eventually(client.step)
        content = os.urandom(3 * RECORD_BYTES)
        client.transport.setTcpNoDelay(True)  # type: ignore[union-attr]
        small = client.sealed(b"small")
        for at in range(len(small)):
            client.transport.write(small[at : at + 1])  # type: ignore[union-attr]
            await deferLater(reactor, 0, lambda: None)  # type: ignore[arg-type]
        await eventually(lambda: ours.received == b"small")
        client.transport.write(client.sealed(content) + client.sealed(b"end"))  # type: ignore[union-attr]
        await eventually(lambda: ours.received == b"small" + content + b"end")
        server.write(content)
        answered = bytearray()

        def has_come() -> bool:
            answered.extend(client.read())
            return answered == content

        await eventually(has_come)
        assert client.tls.version() == newest.name.replace("_", ".")
        assert client.tls.selected_alpn_protocol() is None
        assert ISSLTransport.providedBy(server)
        assert server.getPeerCertificate() is None


@bounded
async def test_an_older_version_is_refused() -> None:
    """TLS 1.1 gets no connection."""
    async with raw() as (_, ours, client):
        client.transport.write(
            bytes.fromhex("160302002f0100002b0302") + bytes(32) + bytes.fromhex("000004c013c0140100")
        )  # type: ignore[union-attr]
        await eventually(lambda: ours.lost is not None and client.lost is not None)
        assert client.received[:1] == b"\x15"
        assert ours.received == b""


@bounded
async def test_what_is_no_tls_is_told_nothing() -> None:
    """Not a byte goes out that is no record."""
    async with raw() as (server, ours, client):
        client.transport.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")  # type: ignore[union-attr]
        await eventually(lambda: ours.lost is not None and client.lost is not None)
        assert bytes(client.received[:1]) in (b"", b"\x15")
        assert ours.received == b""
        server.write(b"late")
        assert b"late" not in client.received


@bounded
async def test_a_paused_reader_gets_the_rest_later() -> None:
    """No record stays behind in our TLS, where nobody would be told of it."""
    async with raw() as (server, ours, client):
        await eventually(client.step)
        pieces: list[bytes] = []

        def received(data: bytes) -> None:
            pieces.append(data)
            server.pauseProducing()

        ours.dataReceived = received  # type: ignore[method-assign]
        client.transport.write(client.sealed(b"one") + client.sealed(b"two"))  # type: ignore[union-attr]
        await eventually(lambda: pieces == [b"one"])
        server.resumeProducing()
        await eventually(lambda: pieces == [b"one", b"two"])


@bounded
async def test_pyopenssl_asks_us_what_a_call_came_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """This fails where it changes what saves us a part of each call; nothing but time would be lost."""
    results: list[int] = []
    asked = tls._Connection._raise_ssl_error
    monkeypatch.setattr(
        tls._Connection, "_raise_ssl_error", lambda own, ssl, result: (results.append(result), asked(own, ssl, result))
    )
    async with raw() as (server, ours, client):
        await eventually(client.step)
        assert min(results) < 0
        results.clear()
        client.transport.write(client.sealed(b"asked"))  # type: ignore[union-attr]
        await eventually(lambda: ours.received == b"asked")
        server.write(b"answered")
        assert {len(b"asked"), len(b"answered")} <= set(results)


# -- waiting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closes", [False, True])
@bounded
async def test_what_is_written_before_the_handshake_waits_for_the_client(closes: bool) -> None:
    """The reactor is not asked for room meanwhile, which there is; a close waits too."""
    async with raw() as (server, ours, client):
        server.write(b"early")
        if closes:
            server.loseConnection()
        await eventually(lambda: not waits_for_room(server))
        assert not client.received
        await eventually(client.step)
        await eventually(lambda: client.read() == b"early")
        if closes:
            await eventually(lambda: ours.lost is not None)
        else:
            assert ours.lost is None


@bounded
async def test_a_reader_that_must_write_waits_for_room() -> None:
    """TLS may have something to say before it reads on, and find no room."""
    async with raw() as (server, ours, client):
        await eventually(client.step)
        await eventually(lambda: not waits_for_room(server))

        class Full:
            """TLS that has once no room."""

            def __init__(self, tls: SSL.Connection) -> None:
                self.tls = tls

            def recv(self, size: int) -> bytes:
                server._tls = self.tls
                raise SSL.WantWriteError

        server._tls = Full(server._tls)
        client.transport.write(client.sealed(b"asked"))  # type: ignore[union-attr]
        await eventually(lambda: ours.received == b"asked")
        await eventually(lambda: not waits_for_room(server))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl that changes keys")
@pytest.mark.parametrize(("version", "is_newest"), [("-tls1_3", True), ("-tls1_2", False)])
@bounded
async def test_a_client_may_ask_for_new_keys(version: str, is_newest: bool, tmp_path: Path) -> None:
    """In TLS 1.3 both sides change theirs and go on; a renegotiation of TLS 1.2 is refused, and harms nobody else."""
    (tmp_path / "ca.pem").write_bytes(self_signed().pem)
    peers = Peers()
    port = listen(peers, is_secure=True)
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port.getHost().port}", version]
    client = subprocess.Popen(
        [*command, "-CAfile", str(tmp_path / "ca.pem")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    def say(line: bytes) -> None:
        client.stdin.write(line)  # type: ignore[union-attr]
        client.stdin.flush()  # type: ignore[union-attr]

    def wait_for(word: bytes, stream: Any) -> None:
        while word not in stream.readline():
            pass

    try:
        say(b"before\n")
        await eventually(lambda: peers.peer is not None and peers.peer.received == b"before\n")
        ours = peers.peer
        assert ours is not None
        say(b"K\n" if is_newest else b"R\n")
        await deferToThread(wait_for, b"KEYUPDATE" if is_newest else b"RENEGOTIATING", client.stderr)
        if is_newest:
            say(b"after\n")
            await eventually(lambda: ours.received == b"before\nafter\n")
            ours.transport.write(b"bye\n")  # type: ignore[union-attr]
            await deferToThread(wait_for, b"bye", client.stdout)
            ours.transport.loseConnection()  # type: ignore[union-attr]
        await eventually(lambda: ours.lost is not None)
        assert b"before" in ours.received
    finally:
        client.kill()
        client.communicate()
        await port.stopListening()


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_cold", [False, True])
@bounded
async def test_a_file_stands_between_what_was_written_before_and_after(
    is_cold: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encrypted as all else; a file that is not in memory is read in a thread first, and no part of it twice."""
    reads: list[int] = []

    async def counted(function: Callable[[], Any]) -> None:
        reads.append(1)
        await in_thread(function)

    if is_cold:
        monkeypatch.setattr(transport, "is_in_memory", lambda *_: False)
    (tmp_path / "file").write_bytes(BIG)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    done, expected = Outcome(), bytearray()
    counts: list[int] = []
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda *said: (counts.append(len(said[1][0])), preadv(*said))[1])
    try:
        async with connected(counted, is_secure=True) as (server, client):
            for start, size in (
                (0, 0),
                (1, 1),
                (0, RECORD_BYTES),
                (7, PIECE_BYTES),
                (1, 3 * PIECE_BYTES + 1),
                (0, 2 * AHEAD_BYTES),
            ):
                server.write(b"before")
                server.send_file(b"head", OpenFile(descriptor), start, size, done)
                server.write(b"behind")
                expected += b"before" + b"head" + BIG[start : start + size] + b"behind"
                await eventually(lambda: server._file is None)
            await eventually(lambda: len(client.received) >= len(expected))
            assert client.received == expected
            assert done.said == [None] * 6
            assert max(counts) <= PIECE_BYTES
            assert 6 <= len(reads) <= 9 if is_cold else not reads  # a piece taken in parts may need one more
            assert not waits_for_room(server)
    finally:
        os.close(descriptor)


@bounded
async def test_a_client_that_takes_nothing_costs_one_record(tmp_path: Path) -> None:
    """What it has no room for is neither encrypted nor held; what it takes later is the file."""
    (tmp_path / "file").write_bytes(BIG * 4)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        async with raw() as (server, _, client):
            await eventually(client.step)
            client.transport.pauseProducing()  # type: ignore[union-attr]
            accepted: list[int] = []

            class Counting:
                """TLS that counts what it takes."""

                def __init__(self, tls: SSL.Connection) -> None:
                    self.tls = tls

                def __getattr__(self, name: str) -> Any:
                    return getattr(self.tls, name)

                def send(self, data: bytes) -> int:
                    accepted.append(self.tls.send(data))
                    return accepted[-1]

            server._tls = Counting(server._tls)
            server.send_file(b"head", OpenFile(descriptor), 0, 4 * len(BIG), Outcome())
            moves = -1

            def is_stalled() -> bool:
                nonlocal moves
                before, moves = moves, server.moves
                return before == moves

            await eventually(is_stalled)
            assert sum(accepted) == server._file.position + len(b"head")  # type: ignore[union-attr]
            assert sum(accepted) < 4 * len(BIG)
            assert (server.dataBuffer, server._tempDataLen, server._behind) == (b"", 0, [])
            client.transport.resumeProducing()  # type: ignore[union-attr]
            await eventually(lambda: sum(accepted) == 4 * len(BIG) + len(b"head"))
            await eventually(lambda: client.read().endswith(BIG[-100:]))
    finally:
        os.close(descriptor)
