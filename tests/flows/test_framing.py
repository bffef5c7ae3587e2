"""However upstream frames and encodes a body, a client gets the content, in a framing that tells whether it is whole."""

from __future__ import annotations

import gzip

import pytest

from tests.fakes.client import End
from tests.flows.harness import PAGE_TYPE, bounded, hashed, page

FILE = "/packages/aa/bb/cc/demo-1.0.tar.gz"
PAGE = "/simple/demo/"
BODY = gzip.compress(bytes(range(256)) * 1000, mtime=0) * 9
FRAMINGS = [
    {},
    {"chunked": True},
    {"no_length": True},
    {"http10": True},
    {"http10": True, "no_length": True},
    {"gzip": True},
    {"gzip": True, "chunked": True},
    {"gzip": True, "no_length": True},
]


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("options", FRAMINGS, ids=str)
@bounded
async def test_a_file_arrives_whole_and_is_kept(proxy, upstream, options, version):
    """With a digest to hold it to, every framing gives the same bytes, never labelled as encoded, and then a HIT."""
    upstream.add(PAGE, page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY, **options)
    answer = await proxy.get(FILE, version=version)
    assert answer.status == 200
    assert bytes(answer.body) == BODY
    assert answer["content-encoding"] is None
    is_length_known = not options.keys() & {"chunked", "no_length", "gzip"}
    unknown = End.CHUNKS if version == "HTTP/1.1" else End.CLOSE
    assert answer.end is (End.LENGTH if is_length_known else unknown)
    hit = await proxy.get(FILE, version=version)
    assert (hit["x-cache-status"], hit["content-length"], hit["content-encoding"]) == ("HIT", str(len(BODY)), None)
    assert bytes(hit.body) == BODY
    assert upstream.requests[-1].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("options", FRAMINGS, ids=str)
@bounded
async def test_a_page_arrives_whole(proxy, upstream, options):
    """Pages are sent with their length, whatever upstream did."""
    upstream.add(PAGE, page(*(f"/packages/a/demo-{number}.0.zip" for number in range(500))), content_type=PAGE_TYPE)
    expected = (await proxy.get(PAGE)).body
    await proxy.settled(PAGE)
    upstream.add(
        "/simple/other/",
        page(*(f"/packages/a/demo-{number}.0.zip" for number in range(500))),
        content_type=PAGE_TYPE,
        **options,
    )
    answer = await proxy.get("/simple/other/")
    assert answer.end is End.LENGTH
    assert answer.body == expected.replace(b"Links for demo", b"Links for other")


@pytest.mark.parametrize("options", [{"no_length": True}, {"http10": True, "no_length": True}], ids=str)
@bounded
async def test_a_body_that_nothing_vouches_for_is_passed_on_and_not_kept(proxy, upstream, options):
    """Without length, chunks and digest nobody knows whether it was whole: sent, and asked for again."""
    upstream.add(FILE, BODY, **options)
    for _ in range(2):
        answer = await proxy.get(FILE)
        assert (bytes(answer.body), answer["x-cache-status"]) == (BODY, "MISS")
        await proxy.settled(FILE)
    assert upstream.count(FILE) == 2
    assert proxy.kept == set()
    assert proxy.parts == []


@bounded
async def test_an_empty_file_is_a_file(proxy, upstream):
    """No bytes at all are whole too."""
    for target, options in (("/pypi/a", {}), ("/pypi/b", {"chunked": True})):
        upstream.add(target, b"", **options)
        assert (await proxy.get(target)).is_whole
        hit = await proxy.get(target)
        assert (hit.status, hit["content-length"], hit["x-cache-status"]) == (200, "0", "HIT")


@bounded
async def test_an_encoding_that_was_not_asked_for_is_refused(flow):
    """What cannot be decoded is no answer; it never reaches a client as if it were the file."""
    upstream = await flow.upstream()
    upstream.add("/pypi/x", b"\x28\xb5\x2f\xfd", headers=[("Content-Encoding", "zstd")])
    upstream.add("/pypi/y", b"not gzip", headers=[("Content-Encoding", "gzip")])
    proxy = await flow.proxy(upstream)
    for target in ("/pypi/x", "/pypi/y"):
        answer = await proxy.get(target)
        assert answer.status == 502 or answer.end is End.BROKEN
        await proxy.settled(target)
    assert proxy.kept == set()


@bounded
async def test_keep_alive_holds_on_both_sides(proxy, upstream):
    """Many requests on one connection of a client use one connection to upstream."""
    client = await proxy.connect()
    for number in range(10):
        upstream.add(f"/pypi/{number}", b"%d" % number, chunked=bool(number % 2))
        assert (await client.ask(f"/pypi/{number}").ended()).text == str(number)
    assert upstream.connections_made == 1
    assert not client.is_closed


@bounded
async def test_an_error_leaves_the_connection_usable(proxy, upstream):
    """Neither a 404 of upstream nor one of ours costs a connection on either side."""
    upstream.add("/pypi/there", b"x")
    client = await proxy.connect()
    statuses = [(await client.ask(target).ended()).status for target in ("/pypi/none", "/-/none", "/pypi/there")]
    assert statuses == [404, 404, 200]
    assert upstream.connections_made == 1
