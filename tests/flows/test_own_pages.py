"""What the proxy answers by itself: help, favicon, health, and refusals. None of it reaches an upstream."""

from __future__ import annotations

import pytest

from tests.flows.harness import PAGE_TYPE, bounded, page


@bounded
async def test_the_help_page_names_the_address_it_was_asked_under(proxy, upstream):
    """Its recipes can be copied: they carry the host and port of the request."""
    answer = await proxy.get("/")
    assert answer.status == 200
    assert answer["content-type"].startswith("text/html")
    for words in ("pip install --index-url http://proxy.test:8080/simple/", "uv ", "poetry ", "pdm ", "proxy.test"):
        assert words in answer.text
    assert upstream.requests == []


@bounded
async def test_the_host_field_cannot_inject_markup(proxy):
    """The help page shows the host that was asked for as text."""
    client = await proxy.connect()
    answer = await client.send(b'GET / HTTP/1.1\r\nHost: <script>"x"</script>\r\n\r\n').ended()
    assert "<script>" not in answer.text


@bounded
async def test_there_is_no_favicon(proxy, upstream):
    """204 without a body, and without asking anybody."""
    client = await proxy.connect()
    answer = await client.ask("/favicon.ico").ended()
    assert answer.status == 204
    assert answer["content-length"] is None
    assert answer["transfer-encoding"] is None
    assert (await client.ask("/favicon.ico").ended()).status == 204  # no byte was left between the two
    assert upstream.requests == []


@bounded
async def test_health_counts_what_is_kept(proxy, upstream):
    """Status, bytes, entries, uptime, version and each upstream's state, as JSON; it grows by what is stored."""
    before = await proxy.health()
    assert (before["status"], before["cache_size"], before["entries"]) == ("healthy", 0, 0)
    assert before["uptime_seconds"] >= 0
    assert before["version"]
    assert [(each["name"], each["state"]) for each in before["upstreams"]] == [("one", "ok")]
    upstream.add("/packages/a/demo-1.0.zip", bytes(12345))
    await proxy.get("/packages/a/demo-1.0.zip")
    await proxy.settled("/packages/a/demo-1.0.zip")
    after = await proxy.health()
    assert (after["cache_size"], after["entries"]) == (12345, 1)


@pytest.mark.parametrize("target", ["/", "/health", "/favicon.ico", "/nowhere-of-ours/../", "/-/x", "/simple/a/b"])
@bounded
async def test_head_is_get_without_a_body(proxy, target):
    """HEAD has the status, the type and the length of GET."""
    head = await proxy.get(target, method="HEAD")
    answer = await proxy.get(target)
    assert head.status == answer.status
    assert head["content-type"] == answer["content-type"]
    if target != "/health":  # its uptime may have become a digit longer
        assert head["content-length"] == answer["content-length"]


@pytest.mark.parametrize("target", ["/simple/demo/", "/packages/a/demo-1.0.zip", "/", "/pypi/x/json"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
@bounded
async def test_other_known_methods_are_405(proxy, upstream, method, target):
    """They are told that this index is read-only and what is allowed, and nothing of them reaches upstream."""
    upstream.add(target, page("/packages/a/demo-1.0.zip"), content_type=PAGE_TYPE)
    answer = await proxy.get(target, "Content-Length: 3\r\n\r\nabc", method=method)
    assert answer.status == 405
    assert {each.strip() for each in answer["allow"].split(",")} == {"GET", "HEAD"}
    assert "read-only" in answer.text
    assert upstream.requests == []


@pytest.mark.parametrize("method", ["BREW", "get", "PROPFIND", "PURGE"])
@bounded
async def test_unknown_methods_are_501(proxy, upstream, method):
    """A method that HTTP does not know, or spells otherwise, is not implemented."""
    assert (await proxy.get("/simple/demo/", method=method)).status == 501
    assert upstream.requests == []


@pytest.mark.parametrize(
    "target",
    [
        b"/packages/../etc/passwd",
        b"/packages/a/..",
        b"/./simple/",
        b"/packages/%2e%2e/etc/passwd",
        b"/packages/%2E./x.whl",
        b"/packages/a%2Fb.whl",
        b"/packages/a%2fb.whl",
        b"/packages/a\\b.whl",
        b"/packages/a%5Cb.whl",
        b"/packages/a%00b.whl",
        b"/packages/a\x00b.whl",
        b"/packages/a\x07b.whl",
        b"/packages/a%0d%0aX-Injected:%20yes",
        b"/packages/\xff\xfe.whl",
        b"/packages/%ff%fe.whl",
        b"/packages/%zz.whl",
        b"/packages/%",
        b"/pypi/x?a=%00",
        b"/packages/a#b.whl",
        b"http://proxy.test:8080/simple/demo/",
        b"http://elsewhere.test/simple/demo/",
        b"proxy.test:8080",
        b"*",
        b"simple/demo/",
        b"/packages/" + b"a" * 8200,
    ],
)
@bounded
async def test_bad_targets_are_refused(proxy, upstream, target):
    """Nobody needs them: a 4xx at once, and nothing of them reaches an upstream."""
    client = await proxy.connect()
    answer = await client.send(b"GET " + target + b" HTTP/1.1\r\nHost: proxy.test\r\n\r\n").ended()
    assert answer.status is not None
    assert 400 <= answer.status < 500
    assert answer["x-injected"] is None
    assert upstream.requests == []
    assert proxy.kept == set()


@bounded
async def test_a_request_line_without_end_is_cut(proxy, upstream):
    """What no buffer should hold is refused or broken off, and others are served."""
    client = await proxy.connect()
    answer = await client.send(b"GET /packages/" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n").ended()
    assert answer.status is None or 400 <= answer.status < 500
    assert upstream.requests == []
    assert (await proxy.get("/health")).status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /packages/a.whl HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /packages/a.whl HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"GET /packages/a.whl HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /packages/a.whl HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\n\r\n",
        b"GET /packages/a.whl HTTP/1.1\r\nHost: x\r\nNo colon\r\n\r\n",
        b"GET /packages/a b.whl HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /packages/a.whl HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /packages/a.whl\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /packages/a.whl HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
        b"GET /packages/a.whl HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 2000 + b"\r\n",
    ],
)
@bounded
async def test_malformed_requests_are_refused(proxy, upstream, request_bytes):
    """Framing that two servers could read differently, and heads without end, are refused and never forwarded."""
    client = await proxy.connect()
    answer = await client.send(request_bytes).ended()
    assert answer.status is None or 400 <= answer.status < 500
    assert upstream.requests == []
    assert (await proxy.get("/health")).status == 200


@bounded
async def test_a_smuggled_request_is_not_answered(proxy, upstream):
    """What stands in the body of a refused request is not taken for a request."""
    client = await proxy.connect()
    inner = b"GET /packages/evil.whl HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /simple/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    await client.send(head % (len(inner) + 5) + inner, "POST").ended()
    await client.until(lambda: client.is_closed)
    assert upstream.requests == []


@bounded
async def test_nothing_of_a_client_reaches_an_upstream(proxy, upstream):
    """Credentials, cookies and what a client says of itself stay here; upstream is asked by pipcache."""
    target = "/packages/a/demo-1.0.zip"
    upstream.add("/simple/demo/", page(target), content_type=PAGE_TYPE)
    upstream.add(target, b"zip", ranges=True)
    secrets = (
        "Authorization: Basic c2VjcmV0",
        "Cookie: session=secret",
        "User-Agent: pip/99",
        "Referer: http://secret.test/",
        "X-Forwarded-For: 10.0.0.1",
        "Proxy-Authorization: Basic c2VjcmV0",
    )
    await proxy.get("/simple/demo/", *secrets)
    await proxy.get(target, *secrets, "Range: bytes=0-1")
    await proxy.get(target, *secrets, method="HEAD")
    await proxy.get(target, *secrets)
    assert len(upstream.requests) == 4
    for request in upstream.requests:
        assert request.headers["user-agent"].startswith("pipcache/")
        own = {"host", "user-agent", "accept", "accept-encoding", "connection", "via"}
        assert request.headers.keys() <= own | {"range"}
        assert "secret" not in str(request.headers)


@bounded
async def test_an_upstreams_session_is_not_handed_on(proxy, upstream):
    """Cookies, caching and connection fields of upstream are neither stored nor sent; unknown ones are kept."""
    said = [
        ("Set-Cookie", "a=b"),
        ("Cache-Control", "private, max-age=3"),
        ("Strict-Transport-Security", "max-age=1"),
        ("Connection", "keep-alive"),
        ("Keep-Alive", "timeout=5"),
        ("Age", "77"),
        ("Via", "1.1 other"),
        ("X-Serial", "5"),
        ("X-Many", "1"),
        ("X-Many", "2"),
    ]
    upstream.add("/packages/a/demo-1.0.zip", b"zip", headers=said)
    for _ in range(2):
        answer = await proxy.get("/packages/a/demo-1.0.zip")
        assert answer["set-cookie"] is None
        assert answer["strict-transport-security"] is None
        assert answer["keep-alive"] is None
        assert "private" not in answer["cache-control"]
        assert answer["age"] in (None, "0", "1")
        assert answer["via"] == "1.1 pipcache"
        assert (answer["x-serial"], answer["x-many"]) == ("5", "1, 2")
