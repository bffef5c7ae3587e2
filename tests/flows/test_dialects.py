"""Pages in each dialect and coding, over the wire, from upstreams that speak one dialect only."""

from __future__ import annotations

import gzip
import json
from hashlib import sha256

import pytest

from tests.flows.harness import PAGE_TYPE, bounded, page

JSON = "application/vnd.pypi.simple.v1+json"
V1_HTML = "application/vnd.pypi.simple.v1+html"
WHEEL = "demo-1.0-py3-none-any.whl"
BODY = b"the bytes of a wheel"
METADATA = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
DIGEST, METADATA_DIGEST = sha256(BODY).hexdigest(), sha256(METADATA).hexdigest()
PATH = f"/packages/aa/bb/{'c' * 60}/{WHEEL}"
IN_BOTH = ("data-requires-python", "data-yanked", "data-core-metadata")
IN_HTML_FROM_HTML = ("data-size", "data-upload-time")
HTML_PAGE = (
    '<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.1"></head><body>'
    f'<a href="{PATH}#sha256={DIGEST}" data-requires-python="&gt;=3.9" data-yanked="broken on &lt;odd&gt; platforms"'
    f' data-core-metadata="sha256={METADATA_DIGEST}" data-size="{len(BODY)}"'
    f' data-upload-time="2024-01-02T03:04:05.000000Z">{WHEEL}</a></body></html><!--SERIAL 17-->'
).encode()
JSON_PAGE = json.dumps(
    {
        "meta": {"api-version": "1.1", "_last-serial": 17},
        "name": "demo",
        "versions": ["1.0"],
        "files": [
            {
                "filename": WHEEL,
                "url": PATH,
                "hashes": {"sha256": DIGEST},
                "requires-python": ">=3.9",
                "yanked": "broken on <odd> platforms",
                "core-metadata": {"sha256": METADATA_DIGEST},
                "size": len(BODY),
                "upload-time": "2024-01-02T03:04:05.000000Z",
                "x-of-their-own": {"kept": True},
            }
        ],
    }
).encode()


def offer(upstream, speaks):
    """Give a page in one dialect, whatever is asked for, a list, and what they link to."""
    is_json = speaks == "json"
    upstream.add("/simple/demo/", JSON_PAGE if is_json else HTML_PAGE, content_type=JSON if is_json else PAGE_TYPE)
    projects = json.dumps({"meta": {"api-version": "1.0"}, "projects": [{"name": "Demo"}]}).encode()
    upstream.add(
        "/simple/", projects if is_json else page("/simple/demo/"), content_type=JSON if is_json else PAGE_TYPE
    )
    upstream.add(PATH, BODY)
    upstream.add(f"{PATH}.metadata", METADATA)


@pytest.mark.parametrize("speaks", ["html", "json"])
@pytest.mark.parametrize("is_gzipped", [False, True])
@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, PAGE_TYPE),
        ("*/*", PAGE_TYPE),
        ("text/html", PAGE_TYPE),
        (V1_HTML, V1_HTML),
        (JSON, JSON),
        ("application/vnd.pypi.simple.latest+json", JSON),
        (f"{JSON}, {V1_HTML}; q=0.1, text/html; q=0.01", JSON),  # pip
        (f"{JSON}, {V1_HTML};q=0.2, text/html;q=0.01", JSON),  # uv
    ],
)
@bounded
async def test_each_client_gets_the_page_in_its_dialect(flow, upstream, speaks, is_gzipped, accept, content_type):
    """Whichever the upstream speaks, with every fact that the dialect has a name for; a miss and a hit are equal."""
    offer(upstream, speaks)
    proxy = await flow.proxy(upstream)
    fields = [f"Accept: {accept}"] if accept else []
    fields += ["Accept-Encoding: gzip, deflate"] if is_gzipped else []
    miss, hit = await proxy.get("/simple/demo/", *fields), await proxy.get("/simple/demo/", *fields)
    assert (miss["x-cache-status"], hit["x-cache-status"]) == ("MISS", "HIT")
    assert (miss.body, miss["etag"]) == (hit.body, hit["etag"])
    assert (miss["content-type"], miss["vary"]) == (content_type, "Accept, Accept-Encoding")
    assert miss["content-encoding"] == ("gzip" if is_gzipped else None)
    content = gzip.decompress(miss.body) if is_gzipped else bytes(miss.body)
    if content_type == JSON:
        (file,) = json.loads(content)["files"]
        assert (file["requires-python"], file["yanked"]) == (">=3.9", "broken on <odd> platforms")
        assert (file["size"], file["upload-time"]) == (len(BODY), "2024-01-02T03:04:05.000000Z")
        assert (file["hashes"], file["core-metadata"]) == ({"sha256": DIGEST}, {"sha256": METADATA_DIGEST})
        assert ("x-of-their-own" in file) is (speaks == "json")
        assert json.loads(content)["meta"]["_last-serial"] == 17
    else:
        assert all(f'{name}="' in content.decode() for name in IN_BOTH)
        assert all((f'{name}="' in content.decode()) is (speaks == "html") for name in IN_HTML_FROM_HTML)
        assert f"#sha256={DIGEST}".encode() in content
        assert b"SERIAL 17" in content
    assert upstream.count("/simple/demo/") == 1


@pytest.mark.parametrize("speaks", ["html", "json"])
@bounded
async def test_the_files_that_a_page_links_to_are_found_and_held_to_it(flow, upstream, speaks):
    """Also after a restart, and their core metadata too."""
    offer(upstream, speaks)
    proxy = await flow.proxy(upstream)
    page_of_demo = json.loads((await proxy.get("/simple/demo/", f"Accept: {JSON}")).body)
    assert page_of_demo["files"][0]["url"] == f"../..{PATH}"
    await proxy.settled("/simple/demo/")
    await proxy.restart()
    assert (await proxy.get(PATH)).body == BODY
    assert (await proxy.get(f"{PATH}.metadata")).body == METADATA
    assert upstream.count("/simple/demo/") == 1
    upstream.add(f"{PATH}.metadata", b"Metadata-Version: 2.1\nName: evil\n")
    fresh = await flow.proxy(upstream)
    assert (await fresh.get(f"{PATH}.metadata")).status == 502


@pytest.mark.parametrize("speaks", ["html", "json"])
@bounded
async def test_the_project_list_comes_in_each_dialect(flow, upstream, speaks):
    """Links of it lead to pages here."""
    offer(upstream, speaks)
    proxy = await flow.proxy(upstream)
    as_html, as_json = await proxy.get("/simple/"), await proxy.get("/simple/", f"Accept: {JSON}")
    assert b'<a href="demo/">' in as_html.body
    assert [each["name"].lower() for each in json.loads(as_json.body)["projects"]] == ["demo"]
    await proxy.settled("/simple/")
    assert (await proxy.get("/simple/", f"Accept: {JSON}"))["x-cache-status"] == "HIT"
    assert upstream.count("/simple/") == 1


@bounded
async def test_upstreams_are_asked_for_json_first(flow, upstream):
    """As it says more; mirrors that ignore Accept are understood all the same."""
    offer(upstream, "html")
    proxy = await flow.proxy(upstream)
    await proxy.get("/simple/demo/")
    accept = upstream.requests[0].headers["accept"]
    assert accept.split(",")[0] == JSON
    assert "text/html;q=0.1" in accept


@pytest.mark.parametrize("target", ["/simple/demo/", "/simple/"])
@bounded
async def test_406_only_when_nothing_fits(flow, upstream, target):
    """And ?format= comes before Accept, for clients that cannot set it."""
    offer(upstream, "json")
    proxy = await flow.proxy(upstream)
    refused = await proxy.get(target, "Accept: image/png")
    assert (refused.status, upstream.requests) == (406, [])
    assert "application/vnd.pypi.simple.v1+json" in refused.text
    assert (await proxy.get(f"{target}?format=image/png")).status == 406
    assert (await proxy.get(f"{target}?format={JSON.replace('+', '%2B')}", "Accept: text/html"))["content-type"] == JSON


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>Please log in.</html>", PAGE_TYPE),
        (b'{"error": "no"}', JSON),
        (b'{"meta": {"api-version": "2.0"}, "name": "demo", "files": []}', JSON),
        (b"", PAGE_TYPE),
    ],
)
@bounded
async def test_a_200_that_is_no_page_is_the_upstreams_failure(flow, body, content_type):
    """The next one is asked."""
    first, second = await flow.upstream(), await flow.upstream()
    first.add("/simple/demo/", body, content_type=content_type)
    offer(second, "json")
    proxy = await flow.proxy(first, second)
    assert (await proxy.get("/simple/demo/"))["x-upstream"] == "two"


@pytest.mark.parametrize("target", ["/pypi/Demo/json", "/pypi/demo/1.0/json"])
@bounded
async def test_the_json_api_is_kept_with_its_links_rewritten(flow, upstream, target):
    """They lead to the file here, relative to the document; the rest is as upstream has it."""
    offer(upstream, "json")
    file = {"url": f"https://files.test{PATH}", "digests": {"sha256": DIGEST}, "packagetype": "bdist_wheel"}
    document = {"info": {"name": "demo", "version": "1.0"}, "urls": [file], "releases": {"1.0": [file]}}
    upstream.add(target, json.dumps(document).encode(), content_type="application/json")
    proxy = await flow.proxy(upstream)
    miss, hit = await proxy.get(target), await proxy.get(target, "Accept-Encoding: gzip")
    assert (miss["x-cache-status"], hit["x-cache-status"]) == ("MISS", "HIT")
    assert miss["content-type"] == "application/json"
    assert gzip.decompress(hit.body) == miss.body
    found = json.loads(miss.body)
    url = found["urls"][0]["url"]
    assert url == found["releases"]["1.0"][0]["url"]
    assert url.endswith(PATH)
    assert set(url.removesuffix(PATH).split("/")) <= {".."}
    assert {**found, "urls": [], "releases": {}} == {**document, "urls": [], "releases": {}}
    assert upstream.count(target) == 1
