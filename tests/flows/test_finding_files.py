"""Where a file is fetched: what its page says, what it must hash to, and what a client cannot make us fetch."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from tests.fakes.client import End
from tests.flows.harness import PAGE_TYPE, bounded, hashed, page

PAGE = "/simple/demo/"
FILE = "/packages/aa/bb/cc/demo-1.0-py3-none-any.whl"
BODY = bytes(range(256)) * 1000


@bounded
async def test_a_lock_file_installs_into_an_empty_cache(proxy, upstream):
    """A file that is asked for before its page: the page is fetched for its digest, and then is a HIT itself."""
    upstream.add(PAGE, page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY)
    answer = await proxy.get(FILE)
    assert (answer.status, answer["x-cache-status"], bytes(answer.body)) == (200, "MISS", BODY)
    assert [each.target for each in upstream.requests] == [PAGE, FILE]
    assert (await proxy.get(PAGE))["x-cache-status"] == "HIT"
    assert (await proxy.get(FILE))["x-cache-status"] == "HIT"


@bounded
async def test_a_file_host_on_another_port_is_found_through_the_page(flow):
    """A lock file's path leads to where the page links, not only to the same path of the upstream."""
    upstream, host = await flow.upstream(), await flow.upstream()
    upstream.add(PAGE, page(hashed(f"{host.url}{FILE}", BODY)), content_type=PAGE_TYPE)
    host.add(FILE, BODY)
    proxy = await flow.proxy(upstream)
    answer = await proxy.get(FILE)
    assert (bytes(answer.body), answer["x-upstream"]) == (BODY, "one")
    assert upstream.count(FILE) == 0


@bounded
async def test_a_file_is_sought_at_the_other_upstreams_where_its_link_fails(flow):
    """First where the page says, then at the same path of the others, held to the same digest."""
    first, second, host = [await flow.upstream() for _ in range(3)]
    first.add(PAGE, page(hashed(f"{host.url}{FILE}", BODY)), content_type=PAGE_TYPE)
    host.add(FILE, status=503)
    second.add(FILE, BODY)
    proxy = await flow.proxy(first, second)
    answer = await proxy.get(FILE)
    assert (bytes(answer.body), answer["x-upstream"]) == (BODY, "two")
    assert [host.count(FILE), first.count(FILE), second.count(FILE)] == [1, 1, 1]


@bounded
async def test_a_file_without_a_page_is_asked_of_everybody(flow):
    """Where no page can be had the path is asked of all in order, and their answers alone decide."""
    first, second = await flow.upstream(), await flow.upstream()
    first.add(PAGE, status=500)
    second.add(FILE, BODY)
    proxy = await flow.proxy(first, second)
    assert (await proxy.get(FILE))["x-upstream"] == "two"
    assert (await proxy.get("/packages/aa/demo-2.0-py3-none-any.whl")).status == 404
    assert (await proxy.get("/packages/aa/-1.0.whl")).status == 404


@bounded
async def test_a_page_is_not_fetched_twice_for_files_it_does_not_name(proxy, upstream):
    """Many unknown files of one project cost one look at its page."""
    upstream.add(PAGE, page(FILE), content_type=PAGE_TYPE)
    for number in range(3):
        upstream.add(f"/packages/x/demo-{number}.zip", b"unlisted")
        assert (await proxy.get(f"/packages/x/demo-{number}.zip")).text == "unlisted"
    assert upstream.count(PAGE) == 1


@bounded
async def test_a_kept_page_that_lacks_a_file_is_fetched_again(flow, upstream):
    """A newer release is found where it is, though an older page is kept."""
    host, newer = await flow.upstream(), "/packages/dd/demo-2.0-py3-none-any.whl"
    upstream.add(PAGE, page(FILE), content_type=PAGE_TYPE)
    proxy = await flow.proxy(upstream)
    await proxy.get(PAGE)
    await proxy.settled(PAGE)
    await proxy.restart()  # the ten seconds are not waited for
    upstream.add(PAGE, page(FILE, f"{host.url}{newer}"), content_type=PAGE_TYPE)
    host.add(newer, b"newer")
    assert (await proxy.get(newer)).text == "newer"
    assert "demo-2.0" in (await proxy.get(PAGE)).text


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("options", [{}, {"chunked": True}, {"gzip": True}, {"no_length": True}])
@bounded
async def test_a_wrong_digest_never_arrives_whole(proxy, upstream, options, version):
    """The client is broken off before the last byte, nothing is kept, and the right file is fetched the next time."""
    upstream.add(PAGE, page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY[:-1] + b"!", **options)
    answer = await proxy.get(FILE, version=version)
    assert answer.end is End.BROKEN
    assert answer["content-length"] is None or len(answer.body) < len(BODY)
    await proxy.settled(FILE, PAGE)
    assert proxy.kept == {PAGE}
    assert proxy.parts == []
    upstream.add(FILE, BODY, **options)
    answer = await proxy.get(FILE)
    assert answer.is_whole
    assert bytes(answer.body) == BODY


@pytest.mark.parametrize("name", ["md5", "sha1", "sha384", "sha512", "blake2b"])
@bounded
async def test_any_digest_of_the_page_counts(proxy, upstream, name):
    """A page that promises another algorithm's digest is taken at its word."""
    right = hashlib.new(name, BODY).hexdigest()
    upstream.add(PAGE, page(f"{FILE}#{name}={right}"), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY)
    assert bytes((await proxy.get(FILE)).body) == BODY
    await proxy.settled(FILE)
    assert FILE in proxy.kept


@bounded
async def test_links_elsewhere_survive_a_restart(flow, upstream):
    """A `/-/files/` path means the same after a restart, whether its page is kept or must be fetched."""
    host = await flow.upstream()
    upstream.add(PAGE, page(hashed(f"{host.url}/f/demo-1.0.zip", BODY)), content_type=PAGE_TYPE)
    host.add("/f/demo-1.0.zip", BODY)
    proxy = await flow.proxy(upstream)
    [link] = re.findall(r'href="\.\./\.\.(/-/files/[^"#]+)', (await proxy.get(PAGE)).text)
    await proxy.settled(PAGE)
    await proxy.restart()
    assert bytes((await proxy.get(link)).body) == BODY
    assert upstream.count(PAGE) == 1
    await proxy.settled(link)
    await proxy.restart()
    assert (await proxy.get(link))["x-cache-status"] == "HIT"
    other = await flow.proxy(upstream)  # with an empty cache of its own
    assert bytes((await other.get(link)).body) == BODY
    assert [each.target for each in upstream.requests] == [PAGE, PAGE]


@bounded
async def test_a_link_that_no_page_has_is_not_fetched(proxy, upstream):
    """A made-up `/-/files/` path is 404; 502 where the page could not be had, 404 where there is none."""
    upstream.add(PAGE, page(FILE), content_type=PAGE_TYPE)
    upstream.add("/simple/broken/", status=500)
    for project, status in (("demo", 404), ("broken", 502), ("absent", 404)):
        assert (await proxy.get(f"/-/files/{project}/0123456789abcdef/{project}-1.0.zip")).status == status
    assert (await proxy.get("/-/files/demo/xyz/demo-1.0.zip")).status == 404
    assert {each.target for each in upstream.requests} == {PAGE, "/simple/broken/", "/simple/absent/"}


@bounded
async def test_the_meta_says_where_it_came_from(proxy, upstream):
    """Key, status, type, times, size and digest stand in the meta; body and page lie beside it."""
    upstream.add(PAGE, page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY, content_type="binary/wheel", etag='"theirs"')
    answer = await proxy.get(FILE)
    await proxy.settled(FILE, PAGE)
    metas = [json.loads(path.read_bytes()) for path in proxy.cache_dir.glob("???/*.meta")]
    [meta] = [meta for meta in metas if meta["key"] == f"GET-{FILE}"]
    assert (meta["status_code"], meta["body_size"], meta["upstream"]) == (200, len(BODY), "one")
    assert meta["headers"]["content-type"] == "binary/wheel"
    assert meta["etag"] == answer["etag"] != '"theirs"'
    assert meta["sha256"] in page(hashed(FILE, BODY)).decode()
    assert meta["cached_at"].endswith("Z")
    assert (proxy.cache_dir / "VERSION").read_text().strip()
    [body] = [path for path in proxy.cache_dir.glob("???/*.body") if path.name == meta["body"]]
    assert body.read_bytes() == BODY
