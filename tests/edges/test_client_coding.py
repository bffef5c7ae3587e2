"""The upstream client: encoded bodies come out decoded, or fail; they are never labelled."""

from __future__ import annotations

import gzip
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.edges.coding import Decoder
from pipcache.rules.errors import MalformedResponse, TruncatedBody
from tests.edges.scene import Receiver, Scene, bounded, turns

PAGE = b"".join(b"<a href='%d'>%d</a>\n" % (n, n) for n in range(5000))
MEGABYTE = 1 << 20


@pytest.mark.parametrize("framing", [{}, {"chunked": True}, {"no_length": True}])
@pytest.mark.parametrize(
    ("coding", "encoded"),
    [
        ("gzip", gzip.compress(PAGE)),
        ("x-gzip", gzip.compress(PAGE)),
        ("GZip", gzip.compress(PAGE)),
        ("gzip, identity", gzip.compress(PAGE)),
        ("deflate", zlib.compress(PAGE)),
        ("identity", PAGE),
        ("gzip", gzip.compress(PAGE[:70_000]) + gzip.compress(PAGE[70_000:]) + gzip.compress(b"")),
        ("gzip", gzip.compress(PAGE[:10]) * 3 + gzip.compress(PAGE)),
    ],
)
@bounded
async def test_an_encoded_body_is_decoded(coding, encoded, framing):
    """Whatever was asked for, bytes come decoded, of no known length, and no field says that they were encoded."""
    async with Scene() as scene:
        scene.upstream.add("/a", encoded, headers=[("Content-Encoding", coding)], **framing)
        response, received = await scene.fetch("/a", for_page=True)
        assert received.error is None
        assert received.body.endswith(PAGE)
        assert len(received.body) in (len(PAGE), len(PAGE) + 30)
        assert response.length == (len(PAGE) if coding == "identity" and not framing else None)
        assert not {"content-encoding", "content-length"} & {name for name, _ in response.fields}


@bounded
async def test_a_file_named_gz_is_no_encoding():
    """A `.tar.gz` that is not labelled is left as it is."""
    async with Scene() as scene:
        archive = gzip.compress(PAGE)
        scene.upstream.add("/a-1.tar.gz", archive, content_type="application/gzip")
        response, received = await scene.fetch("/a-1.tar.gz")
        assert (received.body, response.length) == (archive, len(archive))


@pytest.mark.parametrize("framing", [{}, {"chunked": True}, {"no_length": True}])
@pytest.mark.parametrize("kept", [1, 9, 10, 1000, -8, -1])
@bounded
async def test_half_an_encoded_body_is_a_failure(kept, framing):
    """A body whose coding is cut is not whole, even inside a right length."""
    async with Scene() as scene:
        scene.upstream.add("/a", gzip.compress(PAGE)[:kept], headers=[("Content-Encoding", "gzip")], **framing)
        _, received = await scene.fetch("/a")
        assert isinstance(received.error, TruncatedBody)
        assert received.error.status == 502


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("br", PAGE),
        ("zstd", PAGE),
        ("gzip, gzip", gzip.compress(gzip.compress(PAGE))),
        ("gzip", PAGE),
        ("gzip", gzip.compress(PAGE) + b"and more"),
        ("gzip", gzip.compress(PAGE)[:-8] + bytes(8)),
        ("deflate", zlib.compress(PAGE)[2:-4]),
    ],
)
@bounded
async def test_what_cannot_be_decoded_is_a_failure(coding, body):
    """A coding that nobody asked for, or one that the body is not in, is the upstream's fault."""
    async with Scene() as scene:
        scene.upstream.add("/a", body, headers=[("Content-Encoding", coding)])
        _, received = await scene.fetch("/a")
        assert isinstance(received.error, MalformedResponse)


@bounded
async def test_head_of_an_encoded_body_has_no_length():
    """The length of the encoded body would be a wrong one."""
    async with Scene() as scene:
        scene.upstream.add("/a", PAGE, gzip=True)
        response, received = await scene.fetch("/a", method="HEAD")
        assert received.error is None
        assert response.length is None
        assert not {"content-encoding", "content-length"} & {name for name, _ in response.fields}


@bounded
async def test_a_bomb_comes_in_small_pieces():
    """Bytes that swell a thousandfold are handed on in pieces of bounded size, so nothing holds them all."""
    async with Scene() as scene:
        scene.upstream.add("/a", bytes(64 * MEGABYTE), gzip=True)
        response = await scene.send("/a")
        sizes = []
        receiver = Receiver()
        receiver.received = lambda data: sizes.append(len(data))
        response.deliver(receiver)
        await receiver.end()
        assert sum(sizes) == 64 * MEGABYTE
        assert max(sizes) <= 1 << 18


@bounded
async def test_a_bomb_stops_when_nobody_wants_more():
    """Whoever has seen enough gets nothing more, not even what has arrived encoded."""
    async with Scene() as scene:
        scene.upstream.add("/a", bytes(64 * MEGABYTE), gzip=True)
        response = await scene.send("/a")
        receiver = Receiver(lambda data: response.abandon())
        response.deliver(receiver)
        await scene.upstream.until(lambda: scene.upstream.open_connections == 0)
        assert len(receiver.body) <= 1 << 18


@bounded
async def test_a_bomb_is_paused():
    """A pause holds what is decoded too: at most one piece follows it, and all of it follows the resume."""
    async with Scene() as scene:
        scene.upstream.add("/a", bytes(16 * MEGABYTE), gzip=True)
        response = await scene.send("/a")
        receiver = Receiver(lambda data: response.pause())
        response.deliver(receiver)
        seen = 0
        while not receiver.is_over:
            await receiver.until(lambda seen=seen: len(receiver.sizes) > seen or receiver.is_over)
            await turns(3)
            assert len(receiver.sizes) <= seen + 1
            seen = len(receiver.sizes)
            response.resume()
        assert receiver.error is None
        assert len(receiver.body) == 16 * MEGABYTE


class Encoded:
    """An exchange whose body comes as the test cuts it."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks

    def deliver(self, receiver) -> None:
        """All of it at once."""
        for chunk in self.chunks:
            receiver.received(chunk)
        receiver.ended(length_was_known=True)


@given(members=st.lists(st.binary(max_size=400), min_size=1, max_size=4), cuts=st.lists(st.integers(0, 2000)))
def test_how_a_body_is_cut_on_the_wire_does_not_matter(members, cuts):
    """Decoding gives the same bytes wherever packets begin, member boundaries included."""
    encoded = b"".join(gzip.compress(member) for member in members)
    places = [0, *sorted(min(cut, len(encoded)) for cut in cuts), len(encoded)]
    chunks = [encoded[start:end] for start, end in pairwise(places) if end > start]
    receiver = Receiver()
    Decoder(Encoded(chunks), receiver, ("gzip",)).begin()
    assert receiver.body == b"".join(members)
    assert (receiver.length_was_known, receiver.error) == (True, None)
