"""The short way answers as the long one does, or declines, whatever a request looks like."""

from __future__ import annotations

import pytest
import pytest_twisted

from pipcache.web import rendering
from pipcache.web.hot_channel import can_tell
from tests.flows.harness import bounded
from tests.flows.hot_harness import FIXTURES, PAGE, SMALL, Lines, Talk, Ways, make_ready, offer, request, timeless

NAMES = list(FIXTURES)


@pytest_twisted.async_fixture
async def ready(proxy, upstream):
    """A proxy that has all fixtures ready."""
    offer(upstream)
    await make_ready(proxy, [request(target, *fields) for target, fields in FIXTURES.values()])
    return proxy


@pytest.fixture
def ways(monkeypatch):
    """Which way requests go."""
    return Ways(monkeypatch)


def test_twisted_says_where_its_parser_stands():
    """This fails where Twisted changes what the short way leans on; nobody would go it any more."""
    assert can_tell()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@bounded
async def test_a_plain_request_is_answered_the_short_way(ready, ways, name, method):
    """The response is that of the long way, byte for byte but for what the time makes of it."""
    target, fields = FIXTURES[name]
    mine, theirs, short = await ways.both(ready, request(target, *fields, method=method))
    assert mine == theirs
    assert mine.startswith(b"HTTP/1.1 200 ")
    assert b"X-Cache-Status: HIT\r\n" in mine
    assert short == 1


@pytest.mark.parametrize("name", NAMES)
@bounded
async def test_who_has_it_is_told_so_the_short_way(ready, ways, name):
    """One If-None-Match with our very ETag is a 304, as on the long way."""
    target, fields = FIXTURES[name]
    head, _, _ = await ways.both(ready, request(target, *fields, method="HEAD"))
    etag = head.partition(b"ETag: ")[2].partition(b"\r\n")[0].decode()
    for method in ("GET", "HEAD"):
        mine, theirs, short = await ways.both(ready, request(target, *fields, f"If-None-Match: {etag}", method=method))
        assert mine == theirs
        assert mine.startswith(b"HTTP/1.1 304 ")
        assert short == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("more", [(), ("Range: bytes=0-9",), ("Connection: close",)], ids=["whole", "part", "last"])
@bounded
async def test_our_heads_are_twisteds(ready, ways, monkeypatch, name, more):
    """On the long way too a usual head is ours; with it a response is the one that Twisted writes, byte for byte."""
    target, fields = FIXTURES[name]
    ways.is_short_open = False
    is_usual, seen = rendering._is_usual, []
    answers = []
    for is_ours in (True, False):
        monkeypatch.setattr(
            rendering,
            "_is_usual",
            lambda *what, is_ours=is_ours: seen.append(is_usual(*what)) or (is_ours and seen[-1]),
        )
        log = ready.program.site.access_log = Lines()
        talk = await Talk.to(ready)
        answers.append((timeless(await talk.say(request(target, *fields, *more))), talk.is_closed, log.lines))
        await talk.close()
    assert answers[0] == answers[1]
    assert set(seen) <= {"Connection: close" not in more}
    assert seen or name == "empty file"


SHORT = {
    "as pip asks for pages": ("Cache-Control: max-age=0", "User-Agent: pip/24.0", "Connection: keep-alive"),
    "names in odd case": ("uSER-aGENT: x", "CONNECTION: Keep-Alive", "cache-CONTROL: No-Store"),
    "spaces around values": ("User-Agent:x", "X-Some:  \t y \t "),
    "an empty value": ("X-Some:",),
    "fields that nobody reads, twice": ("X-Some: 1", "X-Some: 2", "Accept-Language: de", "Forwarded: for=1"),
}
LONG = {
    "no-cache among others": ("Cache-Control: max-age=0, xno-Cache",),
    "only-if-cached": ("Cache-Control: only-if-cached",),
    "pragma": ("Pragma: no-cache",),
    "a part": ("Range: bytes=0-9",),
    "a part that is not there": ("Range: bytes=99999999-",),
    "the last bytes": ("Range: bytes=-5",),
    "if-range": ("Range: bytes=0-9", 'If-Range: "other"'),
    "if-match": ('If-Match: "other"',),
    "if-none-match of another": ('If-None-Match: "other"',),
    "if-none-match of any": ("If-None-Match: *",),
    "if-none-match of a list": ('If-None-Match: "other", "more"',),
    "if-none-match twice": ('If-None-Match: "other"', 'If-None-Match: "more"'),
    "if-modified-since": ("If-Modified-Since: Tue, 01 Jul 2025 10:00:00 GMT",),
    "if-unmodified-since": ("If-Unmodified-Since: Tue, 01 Jul 2024 10:00:00 GMT",),
    "credentials": ("Authorization: Basic dXNlcjpwYXNz",),
    "another proxy": ("Via: 1.1 other",),
    "a cookie": ("Cookie: a=b",),
    "credentials for a proxy": ("Proxy-Authorization: Basic dXNlcjpwYXNz",),
    "the connection's end": ("Connection: close",),
    "the connection's end, odd case": ("cOnnection: CLOSE",),
    "hop-by-hop names": ("Connection: keep-alive, x-some", "X-Some: 1"),
    "an upgrade": ("Connection: Upgrade", "Upgrade: h2c"),
    "te": ("TE: trailers",),
    "an empty body": ("Content-Length: 0",),
    "an expectation": ("Expect: nothing",),
    "a second host": ("Host: other.test",),
    "accept twice": ("Accept: text/html", "Accept: application/json"),
    "a space before the colon": ("X-Some : 1",),
    "a folded line": ("X-Some: 1\r\n  2",),
    "no colon": ("nonsense",),
    "a NUL": ("X-Some: \x00",),
    "a bare CR": ("X-Some: a\rb",),
    "a bare LF": ("X-Some: a\nb",),
    "no name": (": x",),
    "a very long head": tuple(f"X-Some-{n}: {'x' * 100}" for n in range(30)),
}


@pytest.mark.parametrize("name", NAMES)
@bounded
async def test_fields_that_change_nothing_do_not_matter(ready, ways, name):
    """The short way is taken, and the answer is the long way's."""
    target, fields = FIXTURES[name]
    for kind, more in SHORT.items():
        mine, theirs, short = await ways.both(ready, request(target, *fields, *more))
        assert (kind, mine) == (kind, theirs)
        assert (kind, short) == (kind, 1)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", NAMES)
@bounded
async def test_what_may_matter_goes_the_long_way(ready, ways, name, method):
    """Whatever it comes to there."""
    target, fields = FIXTURES[name]
    for kind, more in LONG.items():
        mine, theirs, short = await ways.both(ready, request(target, *fields, *more, method=method))
        assert (kind, mine) == (kind, theirs)
        assert (kind, short) == (kind, 0)


@bounded
async def test_a_page_that_is_not_taken_goes_the_long_way(ready, ways):
    """What was chosen by Accept is good for that Accept alone; a file is good for any."""
    mine, theirs, short = await ways.both(ready, request(PAGE, "Accept: image/png"))
    assert mine == theirs
    assert mine.startswith(b"HTTP/1.1 406 ")
    assert short == 0
    mine, theirs, short = await ways.both(ready, request(SMALL, "Accept: image/png"))
    assert mine == theirs
    assert short == 1


@pytest.mark.parametrize(
    "data",
    [
        request(PAGE, version="HTTP/1.0"),
        request(PAGE, version="HTTP/1.2"),
        request(PAGE, version="http/1.1"),
        request(PAGE, method="get"),
        request(PAGE, method="POST"),
        request(PAGE, method="OPTIONS"),
        request(PAGE).replace(b"GET ", b"GET  "),
        request(PAGE).replace(b" HTTP", b"  HTTP"),
        request(PAGE).replace(b"GET ", b"GET\t"),
        request(PAGE).replace(b"Host: proxy.test\r\n", b""),
        request(PAGE).replace(b"\r\n", b"\n"),
        request("http://proxy.test" + PAGE),
        request(PAGE + "?a=b"),
        request(PAGE[:-1]),
        b" " + request(PAGE),
        b"\r\n" + request(PAGE),
        request(PAGE) + b"\r\n",
        request(PAGE) + request(PAGE),
        request(PAGE) + request(PAGE)[:-3],
        request(PAGE)[:-1],
    ],
)
@bounded
async def test_other_requests_go_the_long_way(ready, ways, data):
    """Those that are not quite a GET of that target."""
    mine, theirs, short = await ways.both(ready, data)
    assert mine == theirs
    assert short == 0


@pytest.mark.parametrize("name", NAMES)
@bounded
async def test_a_request_in_two_pieces_is_answered_alike(ready, ways, name):
    """Split behind each of its bytes; and the whole request after it, on the same connection, goes the short way."""
    target, fields = FIXTURES[name]
    data = request(target, *fields)
    talk = await Talk.to(ready)
    whole = timeless(await talk.say(data))
    for position in range(1, len(data)):
        ways.short = 0
        assert timeless(await talk.say(data[:position], data[position:])) == whole
        assert ways.short == 0
        assert timeless(await talk.say(data)) == whole
        assert ways.short == 1
    await talk.close()


@pytest.mark.parametrize("name", NAMES)
@bounded
async def test_requests_in_one_piece_are_answered_in_order(ready, ways, name):
    """Several behind each other, a different one among them."""
    target, fields = FIXTURES[name]
    data = request(target, *fields)
    mine, theirs, _ = await ways.both(ready, data + data + request("/favicon.ico") + data)
    assert mine == theirs
    assert mine.count(b"HTTP/1.1 200 ") == 3
    mine, theirs, _ = await ways.both(ready, data, data, request("/favicon.ico"), data)
    assert mine == theirs
    assert mine.count(b"HTTP/1.1 200 ") == 3


@pytest.mark.parametrize("name", NAMES)
@bounded
async def test_what_looks_like_a_request_inside_of_a_head_is_none(ready, ways, name):
    """A segment that ends behind a header line, and one that begins with ``GET ``: one head, not two requests."""
    target, fields = FIXTURES[name]
    data = request(target, *fields)
    begun = b"GET /favicon.ico HTTP/1.1\r\nHost: proxy.test\r\n"
    for pieces in ((begun, data), (begun[:-2], data), (b"GET /fav", data), (b"\r\n", data), (b"\r\n", b"\r\n", data)):
        mine, theirs, short = await ways.both(ready, *pieces)
        assert mine == theirs
        assert short == 0
