"""The upstream client: where redirects lead, and where they may not."""

from __future__ import annotations

import pytest

from pipcache.edges.client import MAX_REDIRECTS
from pipcache.rules.errors import MalformedResponse
from pipcache.rules.sites import UpstreamSite
from tests.edges.scene import Scene, bounded
from tests.fakes.tls import self_signed
from tests.fakes.upstream import FakeUpstream

BODY = b"<a href='x'>x</a>" * 10


def chain(scene: Scene, length: int) -> None:
    """`/0` redirects so many times before it is there."""
    for step in range(length):
        scene.upstream.add(f"/{step}", b"moved", redirect_to=f"/{step + 1}")
    scene.upstream.add(f"/{length}", BODY)


@pytest.mark.parametrize("for_page", [False, True])
@pytest.mark.parametrize("length", [1, MAX_REDIRECTS])
@bounded
async def test_redirects_are_followed(length, for_page):
    """Five redirects in a row are followed; the response says where it came from in the end."""
    async with Scene() as scene:
        chain(scene, length)
        response, received = await scene.fetch("/0", for_page=for_page)
        assert (response.status, received.body) == (200, BODY)
        assert response.url == f"{scene.upstream.url}/{length}"


@bounded
async def test_the_sixth_redirect_is_refused():
    """Six redirects are too many, and the sixth is not asked for."""
    async with Scene() as scene:
        chain(scene, MAX_REDIRECTS + 1)
        error = await scene.refused("/0")
        assert type(error) is MalformedResponse
        assert len(scene.upstream.requests) == MAX_REDIRECTS + 1


@bounded
async def test_a_loop_is_refused():
    """A redirect to itself ends."""
    async with Scene() as scene:
        scene.upstream.add("/a", redirect_to="/a")
        error = await scene.refused("/a")
        assert (type(error), error.status) == (MalformedResponse, 502)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@bounded
async def test_every_redirecting_status_counts(status):
    """Each of them is followed with the method, the Range and the fields of the request."""
    async with Scene() as scene:
        scene.upstream.add("/a", status=status, redirect_to="/b")
        scene.upstream.add("/b", BODY)
        await scene.fetch("/a", method="HEAD", byte_range="bytes=0-1")
        first, second = scene.upstream.requests
        assert (second.method, second.headers) == ("HEAD", first.headers)
        assert second.headers["range"] == "bytes=0-1"


@bounded
async def test_a_redirect_without_a_place_is_a_response():
    """A 302 that does not say where to is handed on as it is, as is a 300 and a 304."""
    async with Scene() as scene:
        scene.upstream.add("/a", status=302)
        scene.upstream.add("/b", status=300, headers=[("Location", "/c")])
        assert (await scene.fetch("/a"))[0].status == 302
        assert (await scene.fetch("/b"))[0].status == 300


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("b", "/x/b"),
        ("../b", "/b"),
        ("/b?q=1", "/b?q=1"),
        ("?q=1", "/x/a?q=1"),
        ("//127.0.0.1:PORT/b", "/b"),
        ("http://127.0.0.1:PORT/b#part", "/b"),
        ("HTTP://127.0.0.1:PORT/b", "/b"),
        ("/a%2Bb", "/a%2Bb"),
    ],
)
@bounded
async def test_a_location_is_resolved(location, target):
    """A Location is relative to the address that gave it."""
    async with Scene() as scene:
        scene.upstream.add("/x/a", redirect_to=location.replace("PORT", str(scene.upstream.port)))
        scene.upstream.add("/x/a?q=1", BODY)
        await scene.fetch("/x/a")
        assert [request.target for request in scene.upstream.requests] == ["/x/a", target]


@pytest.mark.parametrize(
    "location",
    [
        "ftp://mirror.invalid/a",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "http:///a",
        "http://[::1/a",
        "http://[nonsense]/a",
        "http://mirror.invalid:port/a",
        "http://mirror.invalid:99999/a",
        "http://mirror.invalid:0x50/a",
    ],
)
@pytest.mark.parametrize("for_page", [False, True])
@bounded
async def test_a_location_that_is_no_address(location, for_page):
    """A redirect to what cannot be asked is the upstream's fault, and a failure like any other."""
    async with Scene() as scene:
        scene.upstream.add("/a", redirect_to=location)
        error = await scene.refused("/a", for_page=for_page)
        assert type(error) is MalformedResponse


@bounded
async def test_a_page_stays_with_the_configured_upstreams():
    """A page may be redirected to another configured upstream, and to no other host; nobody else is even asked."""
    async with Scene() as scene:
        other = await scene.another()
        other.add("/b", BODY)
        scene.upstream.add("/a", redirect_to=f"{other.url}/b")
        error = await scene.refused("/a", for_page=True)
        assert type(error) is MalformedResponse
        assert other.requests == []
        scene.client.allow_pages_from((scene.site, UpstreamSite.from_root("other", other.url)))
        response, received = await scene.fetch("/a", for_page=True)
        assert (response.url, received.body) == (f"{other.url}/b", BODY)


@bounded
async def test_a_file_may_go_anywhere():
    """Files are redirected to whoever has them."""
    async with Scene() as scene:
        other = await scene.another()
        other.add("/b", BODY)
        scene.upstream.add("/a", redirect_to=f"{other.url}/b")
        response, received = await scene.fetch("/a")
        assert (response.url, received.body) == (f"{other.url}/b", BODY)


@pytest.mark.parametrize("for_page", [False, True])
@bounded
async def test_https_is_not_left(for_page, tmp_path):
    """A redirect from https to http would lose what https was for."""
    (tmp_path / "ca.pem").write_bytes(self_signed().pem)
    async with Scene() as scene:
        secure = await scene.another(FakeUpstream(self_signed().options))
        site = UpstreamSite.from_index("pip", f"{secure.url}/simple/", ca_file=str(tmp_path / "ca.pem"))
        secure.add("/a", redirect_to=f"{scene.upstream.url}/b")
        error = await scene.refused(f"{secure.url}/a", site, for_page=for_page)
        assert type(error) is MalformedResponse
        assert scene.upstream.requests == []


@bounded
async def test_a_page_may_go_to_https_on_its_own_host(tmp_path):
    """A mirror that sends http to https is followed for pages too."""
    (tmp_path / "ca.pem").write_bytes(self_signed().pem)
    async with Scene() as scene:
        secure = await scene.another(FakeUpstream(self_signed().options))
        site = UpstreamSite.from_index("pip", f"{scene.upstream.url}/simple/", ca_file=str(tmp_path / "ca.pem"))
        scene.upstream.add("/a", redirect_to=f"{secure.url}/a")
        secure.add("/a", BODY)
        response, received = await scene.fetch("/a", site, for_page=True)
        assert (response.url, received.body) == (f"{secure.url}/a", BODY)
