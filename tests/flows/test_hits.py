"""A thing is fetched once: what a MISS and the HIT after it say, byte for byte."""

from __future__ import annotations

import re

import pytest

from tests.flows.harness import PAGE_TYPE, bounded, hashed, page

WHEEL = "/packages/aa/bb/cc/demo-1.0-py3-none-any.whl"
BODY = bytes(range(256)) * 2000
OF_BOTH = ("content-type", "content-length", "etag", "x-upstream", "via", "accept-ranges")


def offer(upstream):
    """A page, its file, and something else."""
    upstream.add("/simple/demo/", page(hashed(WHEEL, BODY)), content_type=PAGE_TYPE)
    upstream.add(WHEEL, BODY, content_type="binary/wheel", last_modified="Tue, 01 Jul 2025 10:00:00 GMT")
    upstream.add("/simple/", page("/simple/demo/"), content_type=PAGE_TYPE)
    upstream.add("/pypi/demo/json", b'{"info": {}}', content_type="application/json")


@pytest.mark.parametrize("target", ["/simple/", "/simple/demo/", WHEEL, "/pypi/demo/json"])
@bounded
async def test_a_miss_and_the_hit_after_it_are_equal(proxy, upstream, target):
    """The second answer has the bytes, the type, the length and the ETag of the first, and asks nobody."""
    offer(upstream)
    miss = await proxy.get(target)
    hit = await proxy.get(target)
    assert (miss.status, miss["x-cache-status"]) == (200, "MISS")
    assert (hit.status, hit["x-cache-status"]) == (200, "HIT")
    assert miss.is_whole
    assert hit.is_whole
    assert miss.body == hit.body != b""
    is_list = target == "/simple/"  # which is sent while it comes
    names = [name for name in OF_BOTH if not (is_list and name == "content-length")]
    assert [miss[name] for name in names] == [hit[name] for name in names]
    assert hit["content-length"] == str(len(miss.body))
    assert miss["content-length"] == (None if is_list else hit["content-length"])
    assert upstream.count(target) == 1


@bounded
async def test_what_both_say_about_themselves(proxy, upstream):
    """Cache-Status, Age, Via, X-Upstream and a strong ETag; the type and the date of a file are upstream's."""
    offer(upstream)
    miss, hit = await proxy.get(WHEEL), await proxy.get(WHEEL)
    for answer in (miss, hit):
        assert answer["x-upstream"] == "one"
        assert "pipcache" in answer["via"]
        assert re.fullmatch(r'"[!#-~]+"', answer["etag"])
        assert answer["content-type"] == "binary/wheel"
        assert answer["last-modified"] == "Tue, 01 Jul 2025 10:00:00 GMT"
        assert answer.body == BODY
    assert miss["age"] is None
    assert miss["cache-status"].startswith("pipcache; fwd=")
    assert re.fullmatch(r"\d+", hit["age"])
    assert re.fullmatch(r"pipcache; hit; ttl=\d+", hit["cache-status"])


@bounded
async def test_the_same_request_is_a_hit_at_once(proxy, upstream):
    """Who has the whole answer and asks again on the same connection hits, and so does another client."""
    offer(upstream)
    for target in ("/simple/demo/", WHEEL, "/pypi/demo/json"):
        client, other = await proxy.connect(), await proxy.connect()
        first = await client.ask(target).ended()
        second, third = client.ask(target), other.ask(target)
        assert first["x-cache-status"] == "MISS"
        assert (await second.ended())["x-cache-status"] == "HIT"
        assert (await third.ended())["x-cache-status"] == "HIT"
        assert first.body == second.body == third.body
        assert upstream.count(target) == 1


@bounded
async def test_a_pipelined_repetition_is_a_hit(proxy, upstream):
    """The same request sent twice at once on one connection is one MISS and one HIT."""
    offer(upstream)
    client = await proxy.connect()
    first, second = client.ask(WHEEL), client.ask(WHEEL)
    assert (await second.ended())["x-cache-status"] == "HIT"
    assert first["x-cache-status"] == "MISS"
    assert first.body == second.body == BODY


@pytest.mark.parametrize("fields", [["Cache-Control: max-age=0"], ["Cache-Control: no-cache", "Pragma: no-cache"]])
@bounded
async def test_a_client_cannot_make_a_hit_a_miss(proxy, upstream, fields):
    """What pip sends with every page does not void the cache."""
    offer(upstream)
    await proxy.get("/simple/demo/", *fields)
    assert (await proxy.get("/simple/demo/", *fields))["x-cache-status"] == "HIT"


@bounded
async def test_a_query_of_ours_is_ignored(proxy, upstream):
    """On pages and files a query is neither part of the key nor forwarded."""
    offer(upstream)
    for target in ("/simple/demo/", WHEEL):
        await proxy.get(f"{target}?a=1")
        assert (await proxy.get(f"{target}?b=2"))["x-cache-status"] == "HIT"
        assert (await proxy.get(target))["x-cache-status"] == "HIT"
    assert [each.target for each in upstream.requests] == ["/simple/demo/", WHEEL]


@bounded
async def test_a_query_elsewhere_is_part_of_the_request(proxy, upstream):
    """Two queries are two things, each asked for as it was sent, and a path is none of them."""
    targets = [f"/pypi/x/other{query}" for query in ("?a=1", "?a=2", "", "%3Fa=1", "%23a=1")]
    for target in targets:
        upstream.add(target, f"about {target}".encode())
    for target in targets:
        assert (await proxy.get(target)).text == f"about {target}"
    assert [each.target for each in upstream.requests] == targets
    assert (await proxy.get(targets[0]))["x-cache-status"] == "HIT"
    await proxy.settled(*targets)
    assert proxy.kept == set(targets)


@bounded
async def test_spellings_of_one_path_are_one_key(proxy, upstream):
    """`+`, `%2B` and `%2b` name the same file; it is fetched once, by its canonical spelling."""
    target = "/packages/aa/bb/cc/demo-1.0+cpu.tar.gz"
    upstream.add(target, b"local version")
    answers = [await proxy.get(target.replace("+", sign)) for sign in ("%2B", "%2b", "+")]
    assert [answer["x-cache-status"] for answer in answers] == ["MISS", "HIT", "HIT"]
    assert {answer.text for answer in answers} == {"local version"}


@bounded
async def test_a_page_expires_and_a_file_does_not(flow, upstream):
    """After its TTL a page is asked for again, and is the same; the file that it links to is still a hit."""
    offer(upstream)
    proxy = await flow.proxy(upstream, simple_ttl_seconds=0.000_001)
    for target, status in [
        ("/simple/demo/", "MISS"),
        (WHEEL, "MISS"),
        ("/simple/demo/", "REVALIDATED"),
        (WHEEL, "HIT"),
    ]:
        assert (await proxy.get(target))["x-cache-status"] == status
        await proxy.settled(target)


@bounded
async def test_only_two_hundreds_are_kept(proxy, upstream):
    """An answer that is no 200 is not stored, so the next request asks again and gets what there is by then."""
    for status in (203, 204, 206, 404, 500):
        upstream.add(f"/pypi/{status}", b"no", status=status)
        assert (await proxy.get(f"/pypi/{status}")).status in (404, 502)
        upstream.add(f"/pypi/{status}", b"yes")
        assert (await proxy.get(f"/pypi/{status}")).text == "yes"
        await proxy.settled(f"/pypi/{status}")
    assert len(proxy.kept) == 5
