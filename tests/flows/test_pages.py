"""Project pages and the project list: every link leads back through the proxy, and what it leads to is there."""

from __future__ import annotations

import re
from hashlib import sha256
from html import unescape
from urllib.parse import urljoin

import pytest

from pipcache.rules.settings import Upstream
from tests.flows.harness import PAGE_TYPE, bounded, page

BODY = b"the bytes of a wheel"
METADATA = b"Metadata-Version: 2.1\nName: demo\n"


def links(answer, target="/simple/demo/"):
    """Where a page's links lead, resolved as an installer does."""
    return [urljoin(target, unescape(href)).partition("#")[0] for href in re.findall(r'href="([^"]*)"', answer.text)]


@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("../../packages/aa/bb/c/demo-1.0.tar.gz", "/packages/aa/bb/c/demo-1.0.tar.gz"),
        ("/packages/aa/bb/c/demo-1.0.tar.gz", "/packages/aa/bb/c/demo-1.0.tar.gz"),
        ("{host}/packages/aa/bb/c/demo-1.0.tar.gz", "/packages/aa/bb/c/demo-1.0.tar.gz"),
        ("//127.0.0.1:{port}/packages/aa/bb/c/demo-1.0.tar.gz", "/packages/aa/bb/c/demo-1.0.tar.gz"),
        ("{other}/packages/aa/bb/c/demo-1.0.tar.gz", "/packages/aa/bb/c/demo-1.0.tar.gz"),
        ("demo-1.0.tar.gz", None),
        ("/elsewhere/demo-1.0.tar.gz", None),
        ("{other}/files/demo-1.0-py3-none-any.whl", None),
        ("{other}/files/demo-1.0%2Bcpu-py3-none-any.whl", None),
        ("{other}/files/demo-1.0-py3-none-any.whl?token=a&amp;b=c", None),
    ],
)
@bounded
async def test_every_form_of_link_leads_back_and_is_fetchable(flow, href, path):
    """Relative, root-relative, absolute here and on a second port: one local path each, which gives the file."""
    upstream, other = await flow.upstream(), await flow.upstream()
    href = href.format(host=upstream.url, other=other.url, port=upstream.port)
    upstream.add("/simple/demo/", page(href + "#sha256="), content_type=PAGE_TYPE)
    holder = other if other.url in href else upstream
    url = urljoin(f"{upstream.url}/simple/demo/", unescape(href))
    holder.add(url.removeprefix(holder.url), BODY)
    proxy = await flow.proxy(upstream)
    [link] = links(await proxy.get("/simple/demo/"))
    if path is None:
        assert re.fullmatch(r"/-/files/demo/[0-9a-f]{16}/demo-1\.0[^/?]*", link)
    else:
        assert link == path
    answer = await proxy.get(link)
    assert (answer.status, bytes(answer.body), answer["x-upstream"]) == (200, BODY, "one")
    assert (await proxy.get(link))["x-cache-status"] == "HIT"


@bounded
async def test_an_upstream_under_a_prefix(flow):
    """The prefix is put before every path that is asked for, and taken off the links that carry it."""
    upstream = await flow.upstream()
    target = "/packages/aa/bb/c/demo-1.0.tar.gz"
    upstream.add("/pypi/simple/demo/", page(f"../..{target}", f"/pypi{target}.zip"), content_type=PAGE_TYPE)
    upstream.add(f"/pypi{target}", BODY)
    upstream.add(f"/pypi{target}.zip", BODY)
    upstream.add("/pypi/pypi/demo/json", b"{}")
    proxy = await flow.proxy(Upstream("one", upstream.url, "/pypi"))
    assert links(await proxy.get("/simple/demo/")) == [target, f"{target}.zip"]
    for path in (target, f"{target}.zip"):
        assert (await proxy.get(path)).body == BODY
    assert (await proxy.get("/pypi/demo/json")).text == "{}"
    assert {each.target.partition("/")[0] for each in upstream.requests} == {""}


@bounded
async def test_a_base_element_moves_relative_links(flow):
    """Links are relative to `<base href>` where the page has one."""
    upstream, other = await flow.upstream(), await flow.upstream()
    head = f'<base href="{other.url}/deep/down/">'
    upstream.add("/simple/demo/", page("demo-1.0.tar.gz", head=head), content_type=PAGE_TYPE)
    other.add("/deep/down/demo-1.0.tar.gz", BODY)
    proxy = await flow.proxy(upstream)
    [link] = links(await proxy.get("/simple/demo/"))
    assert (await proxy.get(link)).body == BODY


@bounded
async def test_an_upstream_that_is_only_an_index(flow):
    """With `index_url`, pages and what they link to are asked for; nothing else is, where it has no root."""
    upstream = await flow.upstream()
    upstream.add("/team/+simple/demo/", page("../../+f/aa/demo-1.0.tar.gz"), content_type=PAGE_TYPE)
    upstream.add("/team/+f/aa/demo-1.0.tar.gz", BODY)
    proxy = await flow.proxy(Upstream("one", index_url=f"{upstream.url}/team/+simple"))
    [link] = links(await proxy.get("/simple/demo/"))
    assert (await proxy.get(link)).body == BODY
    before = len(upstream.requests)
    assert (await proxy.get("/pypi/demo/json")).status == 502
    assert len(upstream.requests) == before


@bounded
async def test_metadata_stands_beside_every_linked_file(flow):
    """`<file>.metadata` is fetched beside the file, before any query of its link, and is a HIT then."""
    upstream = await flow.upstream()
    near, far = "/packages/aa/bb/c/demo-1.0-py3-none-any.whl", "/files/demo-2.0-py3-none-any.whl"
    upstream.add("/simple/demo/", page(near, f"{far}?x=1"), content_type=PAGE_TYPE)
    upstream.add(f"{near}.metadata", METADATA)
    upstream.add(f"{far}.metadata?x=1", METADATA)
    proxy = await flow.proxy(upstream)
    for link in links(await proxy.get("/simple/demo/")):
        first, second = await proxy.get(f"{link}.metadata"), await proxy.get(f"{link}.metadata")
        assert first.body == second.body == METADATA
        assert (first["x-cache-status"], second["x-cache-status"]) == ("MISS", "HIT")
    assert upstream.count(f"{far}.metadata?x=1") == 1


@bounded
async def test_metadata_that_was_promised_otherwise_reaches_nobody(proxy, upstream):
    """Core metadata with another digest than the page says is an error, of which not a byte is shown or kept."""
    wheel = "/packages/aa/bb/c/demo-1.0-py3-none-any.whl"
    body = f'<a href="{wheel}" data-core-metadata="sha256={"0" * 64}">demo-1.0-py3-none-any.whl</a>'.encode()
    upstream.add("/simple/demo/", body, content_type=PAGE_TYPE)
    upstream.add(f"{wheel}.metadata", METADATA)
    answer = await proxy.get(f"{wheel}.metadata")
    assert (answer.status, answer.is_whole) == (502, True)
    assert METADATA not in answer.body
    await proxy.settled("/simple/demo/", f"{wheel}.metadata")
    assert proxy.kept == {"/simple/demo/"}
    assert proxy.parts == []
    [wrong] = proxy.cache_dir.glob("quarantine/*.body")
    assert wrong.read_bytes() == METADATA


@bounded
async def test_metadata_that_was_promised_otherwise_comes_from_the_next(flow):
    """Where another upstream has what the page says, the client gets that and notices nothing."""
    liar, honest = await flow.upstream(), await flow.upstream()
    wheel = "/packages/aa/bb/c/demo-1.0-py3-none-any.whl"
    digest = sha256(METADATA).hexdigest()
    body = f'<a href="{wheel}" data-core-metadata="sha256={digest}">demo-1.0-py3-none-any.whl</a>'.encode()
    liar.add("/simple/demo/", body, content_type=PAGE_TYPE)
    liar.add(f"{wheel}.metadata", METADATA.replace(b"demo", b"evil"))
    honest.add(f"{wheel}.metadata", METADATA)
    proxy = await flow.proxy(liar, honest)
    answer = await proxy.get(f"{wheel}.metadata")
    assert (answer.status, answer.is_whole, answer["x-upstream"], answer.body) == (200, True, "two", METADATA)
    assert (await proxy.get(f"{wheel}.metadata"))["x-cache-status"] == "HIT"
    assert liar.count(f"{wheel}.metadata") == 1


@bounded
async def test_attributes_are_kept_and_other_links_dropped(proxy, upstream):
    """What an installer reads of a link is passed on; a link to what is no distribution file is not."""
    attributes = (
        'data-requires-python="&gt;=3.8" data-yanked="bad &quot;build&quot;" data-core-metadata="sha256=abc" '
        'data-dist-info-metadata="sha256=abc" data-gpg-sig="true" data-provenance="https://p.test/x"'
    )
    body = f'<a href="/packages/a/demo-1.0.zip#md5=0123" {attributes}>demo-1.0.zip</a> <a href="/docs/">docs</a>'
    upstream.add("/simple/demo/", f'{body} <a href="ftp://x.test/demo-2.0.zip">x</a>'.encode(), content_type=PAGE_TYPE)
    answer = await proxy.get("/simple/demo/")
    assert attributes in answer.text.replace("&#34;", "&quot;")
    assert "demo-1.0.zip#md5=0123" in answer.text
    assert "docs" not in answer.text
    assert (await proxy.get("/docs/")).status == 404


@bounded
async def test_a_page_without_distribution_files_is_a_page(proxy, upstream):
    """One that says its version and has no link, and one whose links are all dropped, are served without links."""
    meta = '<meta name="pypi:repository-version" content="1.1">'
    upstream.add("/simple/demo/", page(head=meta), content_type=PAGE_TYPE)
    upstream.add("/simple/other/", page("/docs/"), content_type=PAGE_TYPE)
    for target in ("/simple/demo/", "/simple/other/"):
        answer = await proxy.get(target)
        assert answer.status == 200
        assert links(answer) == []
        assert (await proxy.get(target))["x-cache-status"] == "HIT"


@bounded
async def test_the_project_list_links_to_pages_here(proxy, upstream):
    """On `/simple/` every link becomes the normalised name, whatever it was."""
    upstream.add(
        "/simple/",
        b'<a href="/simple/Foo.Bar/">Foo.Bar</a><a href="http://x.test/simple/baz">baz</a>',
        content_type=PAGE_TYPE,
    )
    assert links(await proxy.get("/simple/"), "/simple/") == ["/simple/foo-bar/", "/simple/baz/"]


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/simple", "simple/"),
        ("/simple?x=1", "simple/"),
        ("/simple/demo", "demo/"),
        ("/simple/Foo.Bar_baz", "foo-bar-baz/"),
        ("/simple/Foo.Bar_baz/", "../foo-bar-baz/"),
        ("/simple/%46oo/", "../foo/"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@bounded
async def test_other_spellings_are_redirected(proxy, upstream, target, location, method):
    """A name that is not normalised, or lacks its slash, is redirected relatively, and nobody is asked."""
    answer = await proxy.get(target, method=method)
    assert answer.status in (301, 302, 307, 308)
    assert answer["location"] == location
    assert answer.is_whole
    assert upstream.requests == []


@bounded
async def test_upstreams_redirects_are_followed(proxy, upstream):
    """Up to five redirects lead to the page, whose links are relative to where it was found."""
    upstream.add("/simple/demo/", redirect_to="/1")
    for step in range(1, 5):
        upstream.add(f"/{step}", redirect_to=f"/{step + 1}")
    upstream.add("/5", redirect_to="/deep/simple/demo/")
    assert (await proxy.get("/simple/demo/")).status == 502
    upstream.add("/4", redirect_to="/deep/simple/demo/")
    upstream.add("/deep/simple/demo/", page("demo-1.0.zip"), content_type=PAGE_TYPE)
    upstream.add("/deep/simple/demo/demo-1.0.zip", BODY)
    [link] = links(await proxy.get("/simple/demo/"))
    assert (await proxy.get(link)).body == BODY


@bounded
async def test_a_page_is_redirected_to_upstreams_only_and_a_file_anywhere(flow):
    """A page's redirect to a host that nobody configured is that upstream's failure; a file's is followed."""
    upstream, stranger = await flow.upstream(), await flow.upstream()
    target = "/packages/aa/bb/c/demo-1.0.zip"
    upstream.add("/simple/other/", redirect_to=f"{stranger.url}/simple/other/")
    upstream.add("/simple/demo/", page(target), content_type=PAGE_TYPE)
    upstream.add(target, redirect_to=f"{stranger.url}/demo-1.0.zip")
    stranger.add("/demo-1.0.zip", BODY)
    proxy = await flow.proxy(upstream)
    assert (await proxy.get("/simple/other/")).status == 502
    assert stranger.requests == []
    assert (await proxy.get(target)).body == BODY
