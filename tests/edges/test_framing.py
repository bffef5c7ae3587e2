"""Where a response's body ends: at its length, behind its last chunk, with the connection; in whatever pieces it comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.edges.framing import Chunked, Framing, OpenEnded, Sized
from pipcache.rules.errors import TruncatedBody

TWO_CHUNKS = b"5\r\nright\r\n1A ; a=b\r\nabcdefghijklmnopqrstuvwxyz\r\n"
CONTENT = b"rightabcdefghijklmnopqrstuvwxyz"


def taken(framing: Framing, data: bytes, size: int) -> tuple[bytes, bytes | None]:
    """The content in the data, given in pieces of this size, and what came behind the body."""
    content = b""
    for start in range(0, len(data), size):
        piece, rest = framing.take(data[start : start + size])
        content += piece
        if rest is not None:
            return content, rest + data[start + size :]
    return content, None


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("framing", "data", "content", "rest"),
    [
        (lambda: Sized(5), b"right", b"right", b""),
        (lambda: Sized(5), b"righ", b"righ", None),
        (lambda: Sized(5), b"right!!", b"right", b"!!"),
        (OpenEnded, b"right!!", b"right!!", None),
        (Chunked, TWO_CHUNKS + b"0\r\n\r\n", CONTENT, b""),
        (Chunked, TWO_CHUNKS + b"000;x\r\nA: b\r\nC: d\r\n\r\nHTTP/1.1 200", CONTENT, b"HTTP/1.1 200"),
        (Chunked, TWO_CHUNKS + b"0\r\n", CONTENT, None),
        (Chunked, TWO_CHUNKS, CONTENT, None),
        (Chunked, b"0\r\n\r\n", b"", b""),
    ],
)
def test_a_body_ends_where_it_ends(framing, data, content, rest, size):
    """All of the content and no more, wherever reads begin."""
    assert taken(framing(), data, size) == (content, rest)


def test_no_bytes_are_the_whole_of_an_empty_body():
    """Nothing has to come for it to be over."""
    assert Sized(0).take(b"") == (b"", b"")


@pytest.mark.parametrize("size", [1, 2, 7, 100_000])
@pytest.mark.parametrize(
    "data",
    [
        b"5\r\nrightno-size\r\n",
        b"5\r\nright1\r\n",
        b"5\r\nright\n\r\n0\r\n\r\n",
        b"no-size\r\n",
        b"-1\r\n",
        b"+5\r\nright\r\n",
        b"0x5\r\nright\r\n",
        b"\r\n",
        b" 5\r\nright\r\n",
        b"5 5\r\nright\r\n",
        b"f" * 16 + b"\r\n",
        b"1" + b"0" * 5000,
        b"5;" + b"x" * 2000 + b"\r\nright\r\n",
        b"0\r\n" + b"A: b\r\n" * 5000,
        b"0\r\n" + b"A" * 20_000,
    ],
)
def test_chunks_that_are_none(data, size):
    """Sizes that are none, chunks longer than they say, endless lines and trailers: refused, and soon."""
    framing = Chunked()
    assert taken(framing, data, size)[1] is None
    assert isinstance(framing.error, TruncatedBody)


def test_content_before_broken_chunks_is_content():
    """What came before it broke belongs to the body; what comes after that is nobody's."""
    framing = Chunked()
    assert framing.take(b"5\r\nright\r\nno-size\r\n5\r\nwrong\r\n") == (b"right", None)
    assert framing.error is not None
    assert framing.take(b"5\r\nwrong\r\n0\r\n\r\n") == (b"", None)


@given(chunks=st.lists(st.binary(min_size=1, max_size=50)), cuts=st.lists(st.integers(0, 500)), spare=st.binary())
def test_how_chunks_are_cut_does_not_matter(chunks, cuts, spare):
    """The content is that of the chunks, and what is behind the last one is left."""
    data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n" + spare
    framing, content, start = Chunked(), b"", 0
    for end in [*sorted({min(cut, len(data)) for cut in cuts}), len(data)]:
        piece, rest = framing.take(data[start:end])
        content += piece
        start = end
        if rest is not None:
            assert rest + data[end:] == spare
            break
    assert content == b"".join(chunks)


@given(st.lists(st.binary(max_size=60)))
def test_whatever_comes_as_chunks_is_refused_or_not(pieces):
    """No bytes make it fail in another way."""
    framing = Chunked()
    for piece in pieces:
        content, rest = framing.take(piece)
        assert len(content) <= len(b"".join(pieces))
        if rest is not None:
            return
