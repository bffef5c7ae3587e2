"""Header fields on their way through: what is a client's stays here, and what is about upstream's connection or cache."""

from __future__ import annotations

import pytest

from pipcache import __version__
from tests.flows.harness import PAGE_TYPE, bounded, hashed, page

PAGE = "/simple/demo/"
FILE = "/packages/aa/bb/cc/demo-1.0.tar.gz"
OTHER = "/pypi/demo/other"
BODY = b"a body " * 1000

OF_CLIENTS = {
    "a token": "Authorization: Basic c2VjcmV0OnNlY3JldA==",
    "a proxy's token": "Proxy-Authorization: Basic c2VjcmV0OnNlY3JldA==",
    "a cookie": "Cookie: secret=1",
    "an agent": 'User-Agent: pip/26.0 {"ci":true}',
    "a page": "Referer: http://secret.example/",
    "a person": "From: secret@example.org",
    "an origin": "Origin: http://secret.example",
    "a language": "Accept-Language: de",
    "codings": "Accept-Encoding: br, zstd",
    "max-age": "Cache-Control: max-age=0",
    "no-cache": "Cache-Control: no-cache",
    "pragma": "Pragma: no-cache",
    "keep-alive": "Keep-Alive: timeout=1",
    "te": "TE: trailers",
    "an upgrade": "Upgrade: h2c",
    "http2": "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    "an expectation": "Expect: x",
    "forwarded": "Forwarded: for=192.0.2.1;host=secret.example;proto=https",
    "a forwarded host": "X-Forwarded-Host: secret.example",
    "a forwarded address": "X-Forwarded-For: 192.0.2.1",
    "a forwarded scheme": "X-Forwarded-Proto: https",
    "a forwarded prefix": "X-Forwarded-Prefix: /secret",
    "a forwarded port": "X-Forwarded-Port: 1",
    "an original address": "X-Original-URL: /secret",
    "a rewritten address": "X-Rewrite-URL: /secret",
    "another method": "X-HTTP-Method-Override: DELETE",
    "an unknown one": "X-Secret: 1",
    "an ETag": 'If-None-Match: "abc"',
    "a time": "If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT",
}


def serve(upstream, *headers: tuple[str, str]) -> None:
    """A project of one file, and something else."""
    upstream.add(PAGE, page(hashed(FILE, BODY)), content_type=PAGE_TYPE, headers=headers)
    upstream.add(FILE, BODY, headers=headers)
    upstream.add(OTHER, BODY, content_type="application/json", headers=headers)


def stored(proxy) -> dict[str, bytes]:
    """Every file in the cache by what it is: the bodies and pages, by name."""
    return {path.name: path.read_bytes() for path in proxy.cache_dir.glob("???/*") if path.suffix != ".meta"}


@pytest.mark.parametrize("line", OF_CLIENTS.values(), ids=OF_CLIENTS)
@bounded
async def test_a_clients_field_stays_here(flow, upstream, line):
    """It does not go upstream, does not change what is kept, and the next client is answered as if it had not been."""
    serve(upstream)
    plain, proxy = await flow.proxy(upstream), await flow.proxy(upstream)
    for target in (PAGE, FILE, OTHER):
        expected = await plain.get(target)
        await plain.settled(target)
        assert (await proxy.get(target, line)).status in (200, 304)
        await proxy.settled(target)
        hit = await proxy.get(target)
        assert (hit["x-cache-status"], bytes(hit.body)) == ("HIT", bytes(expected.body))
    half = len(upstream.requests) // 2
    for ours in upstream.requests:
        assert ours.headers.keys() <= {"host", "via", "user-agent", "accept", "accept-encoding", "connection"}
        assert ours.headers["user-agent"] == f"pipcache/{__version__}"
        assert "secret" not in str(ours)
    assert half * 2 == len(upstream.requests)
    assert sorted(map(len, stored(proxy).values())) == sorted(map(len, stored(plain).values()))
    assert proxy.kept == plain.kept


@pytest.mark.parametrize(
    "host", ["mirror.example", "127.0.0.1", "secret.example:1", "[::1]", "a b", "", 'x"><script>', "../..", "x@y"]
)
@bounded
async def test_the_host_shapes_nothing_that_is_kept(proxy, upstream, host):
    """Under whatever name we are asked, upstream is asked under its own, and the page is the same for all."""
    serve(upstream)
    client = await proxy.connect()
    await client.send(f"GET {PAGE} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()).ended()
    assert {request.headers["host"] for request in upstream.requests} <= {f"127.0.0.1:{upstream.port}"}
    await proxy.settled(PAGE)
    answer = await proxy.get(PAGE)
    assert answer.status == 200
    assert not host or host in ("127.0.0.1", "../..") or host not in answer.text
    assert f'href="{FILE}' in answer.text or f"{FILE}#" in answer.text
    for name, content in stored(proxy).items():
        assert b"secret.example" not in content, name


OF_UPSTREAMS = {
    "a cookie": ("Set-Cookie", "secret=1"),
    "an old cookie": ("Set-Cookie2", "secret=1"),
    "keep-alive": ("Keep-Alive", "timeout=1, max=77"),
    "a proxy's keep-alive": ("Proxy-Connection", "secret"),
    "an upgrade": ("Upgrade", "h2c"),
    "a trailer": ("Trailer", "X-Secret"),
    "te": ("TE", "secret"),
    "a challenge": ("WWW-Authenticate", 'Basic realm="secret"'),
    "a proxy's challenge": ("Proxy-Authenticate", 'Basic realm="secret"'),
    "authentication": ("Authentication-Info", "secret"),
    "its cache": ("Cache-Status", "secret; hit"),
    "its cache, the old way": ("X-Cache", "secret HIT"),
    "hits": ("X-Cache-Hits", "secret"),
    "our own word": ("X-Cache-Status", "secret"),
    "an upstream": ("X-Upstream", "secret"),
    "hops": ("Via", "1.1 secret"),
    "an age": ("Age", "7777777"),
    "a time to keep": ("Cache-Control", "private, max-age=7777777"),
    "an end": ("Expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
    "pragma": ("Pragma", "secret"),
    "variance": ("Vary", "Secret"),
    "a warning": ("Warning", '110 - "secret"'),
    "a digest": ("Content-MD5", "secret"),
    "transport security": ("Strict-Transport-Security", "max-age=7777777"),
    "another service": ("Alt-Svc", 'h3="secret:443"'),
    "cleared data": ("Clear-Site-Data", '"secret"'),
    "reports": ("Report-To", '{"secret":1}'),
    "a server": ("Server", "secret"),
}


@pytest.mark.parametrize(("name", "value"), OF_UPSTREAMS.values(), ids=OF_UPSTREAMS)
@bounded
async def test_an_upstreams_field_is_not_replayed(proxy, upstream, name, value):
    """Neither the client who waited for it, nor one served from the cache, nor the meta gets it; nor who asks a part."""
    serve(upstream, (name, value))
    answers = [await proxy.get(PAGE), await proxy.get(FILE, "Range: bytes=0-1"), await proxy.get(FILE, method="HEAD")]
    answers.append(await proxy.get(FILE))
    for target in (PAGE, FILE, OTHER):
        answers.append(await proxy.get(target))
        await proxy.settled(target)
        answers.append(await proxy.get(target))
        assert (answers[-1].status, answers[-1]["x-cache-status"]) == (200, "HIT")
    for answer in answers:
        assert answer[name.lower()] != value
        assert "secret" not in str(answer.fields).lower()
        assert "7777777" not in str(answer.fields)
    metas = b"".join(path.read_bytes() for path in proxy.cache_dir.glob("???/*.meta")).lower()
    assert f'"{name.lower()}"'.encode() not in metas.replace(b'"etag"', b"").replace(b'"upstream"', b"")
    assert b"secret" not in metas


@bounded
async def test_what_connection_names_is_not_replayed(proxy, upstream):
    """A field that upstream says is about the connection stays on it; others are passed on."""
    serve(upstream, ("Connection", "keep-alive, X-Secret"), ("X-Secret", "1"), ("X-Serial", "5"))
    for _ in range(2):
        answer = await proxy.get(OTHER)
        assert (answer["x-secret"], answer["x-serial"]) == (None, "5")
        await proxy.settled(OTHER)
