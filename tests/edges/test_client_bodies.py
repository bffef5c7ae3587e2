"""The upstream client: what it asks, and whole bodies however they are framed."""

from __future__ import annotations

import pytest

from pipcache import __version__
from tests.edges.scene import Receiver, Scene, bounded

BODY = bytes(range(256)) * 1000


@pytest.mark.parametrize(
    ("options", "length", "length_was_known"),
    [
        ({}, len(BODY), True),
        ({"chunked": True}, None, True),
        ({"no_length": True}, None, False),
        ({"http10": True}, len(BODY), True),
        ({"http10": True, "no_length": True}, None, False),
    ],
)
@bounded
async def test_a_whole_body(options, length, length_was_known):
    """Every framing brings all bytes, and says whether their end was certain."""
    async with Scene() as scene:
        scene.upstream.add("/a", BODY, **options)
        response, received = await scene.fetch("/a")
        assert (response.status, response.length, response.url) == (200, length, scene.upstream.url + "/a")
        assert (received.body, received.error) == (BODY, None)
        assert received.length_was_known is length_was_known


@pytest.mark.parametrize("options", [{}, {"chunked": True}, {"no_length": True}])
@bounded
async def test_an_empty_body(options):
    """A body without bytes is a whole one."""
    async with Scene() as scene:
        scene.upstream.add("/a", **options)
        _, received = await scene.fetch("/a")
        assert (bytes(received.body), received.error) == (b"", None)


@pytest.mark.parametrize("status", [204, 304, 404, 500])
@bounded
async def test_any_status_is_a_response(status):
    """What a status means is not the client's to say."""
    async with Scene() as scene:
        scene.upstream.add("/a", b"" if status in (204, 304) else b"sorry", status=status)
        response, received = await scene.fetch("/a")
        assert response.status == status
        assert received.error is None


@bounded
async def test_a_body_comes_in_pieces_as_it_is_sent():
    """Bytes are handed on when they come, not when the body is whole."""
    async with Scene() as scene:
        scene.upstream.add("/a", pieces=[b"one"], length=6)
        response = await scene.send("/a")
        receiver = Receiver()
        response.deliver(receiver)
        await receiver.until(lambda: receiver.body == b"one")
        assert not receiver.is_over
        scene.upstream.push("/a", b"two")
        scene.upstream.finish("/a")
        await receiver.end()
        assert receiver.body == b"onetwo"


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {"accept": "*/*", "accept-encoding": "identity"}),
        ({"for_page": True, "accept": "text/html"}, {"accept": "text/html", "accept-encoding": "gzip"}),
        (
            {"validators": (("if-none-match", '"abc"'), ("if-modified-since", "then"))},
            {"accept": "*/*", "accept-encoding": "identity", "if-none-match": '"abc"', "if-modified-since": "then"},
        ),
        ({"method": "HEAD"}, {"accept": "*/*", "accept-encoding": "identity"}),
        (
            {"via": ("other", "pipcache-ab")},
            {"accept": "*/*", "accept-encoding": "identity", "via": "1.1 other, 1.1 pipcache-ab, 1.1 pipcache-0123"},
        ),
        (
            {"byte_range": "bytes=2-5"},
            {"accept": "*/*", "accept-encoding": "identity", "range": "bytes=2-5"},
        ),
        (
            {"byte_range": "bytes=2-", "if_range": '"abc"'},
            {"accept": "*/*", "accept-encoding": "identity", "range": "bytes=2-", "if-range": '"abc"'},
        ),
    ],
)
@bounded
async def test_exactly_these_fields_go_up(options, fields):
    """Files are asked for as they are, pages in gzip; Range and Via are passed on, and nothing else of a client's."""
    async with Scene() as scene:
        scene.upstream.add("/a", BODY)
        await scene.fetch("/a", **options)
        headers = dict(scene.upstream.requests[0].headers)
        assert headers.pop("connection", "keep-alive").lower() == "keep-alive"
        own = {"host": f"127.0.0.1:{scene.upstream.port}", "user-agent": f"pipcache/{__version__}"}
        assert headers == {"via": "1.1 pipcache-0123"} | fields | own


@bounded
async def test_a_range_is_a_206():
    """The range that was asked for comes with the fields that say which it is."""
    async with Scene() as scene:
        scene.upstream.add("/a", BODY, ranges=True)
        response, received = await scene.fetch("/a", byte_range="bytes=2-5")
        assert (response.status, response.length) == (206, 4)
        assert ("content-range", f"bytes 2-5/{len(BODY)}") in response.fields
        assert received.body == BODY[2:6]


@bounded
async def test_head_has_the_fields_and_no_body():
    """HEAD tells the length in its field, and has no byte to wait for."""
    async with Scene() as scene:
        scene.upstream.add("/a", BODY)
        response, received = await scene.fetch("/a", method="HEAD")
        assert ("content-length", str(len(BODY))) in response.fields
        assert (bytes(received.body), received.error) == (b"", None)
        assert scene.upstream.requests[0].method == "HEAD"


@bounded
async def test_fields_are_kept_in_order_with_lower_case_names():
    """Repeated fields stay apart; names are in lower case."""
    async with Scene() as scene:
        scene.upstream.add("/a", BODY, headers=[("X-One", "1"), ("X-Two", "2"), ("x-one", "3")])
        response, _ = await scene.fetch("/a")
        assert [value for name, value in response.fields if name == "x-one"] == ["1", "3"]
        assert all(name == name.lower() for name, _ in response.fields)


@pytest.mark.parametrize(
    "target",
    [
        "/packages/a%2Bb/c+d-1.0%20x.whl",
        "/packages/a%2bb.whl",
        "/packages/~x/a,b;c=d.whl",
        "/packages/caf%C3%A9.whl",
        "/a?x=1&y=%2F%3F&z",
        "/a//b",
        "/a!b'(c)*.whl",
    ],
)
@bounded
async def test_an_address_goes_up_as_it_is(target):
    """No spelling of a path or a query is changed on the way."""
    async with Scene() as scene:
        await scene.fetch(target)
        assert [request.target for request in scene.upstream.requests] == [target]


@bounded
async def test_an_address_in_messages_has_no_query():
    """The response's own address carries nothing that may be a secret."""
    async with Scene() as scene:
        response, _ = await scene.fetch("/a?token=hunter2#part")
        assert response.url == scene.upstream.url + "/a"


@bounded
async def test_cookies_are_never_sent_back():
    """What an upstream sets is not returned: not later, not across a redirect."""
    async with Scene() as scene:
        cookie = [("Set-Cookie", "session=1; Path=/")]
        scene.upstream.add("/a", BODY, headers=cookie)
        scene.upstream.add("/b", redirect_to="/a", headers=cookie)
        await scene.fetch("/a")
        await scene.fetch("/b")
        assert len(scene.upstream.requests) == 3
        assert not any("cookie" in request.headers for request in scene.upstream.requests)
