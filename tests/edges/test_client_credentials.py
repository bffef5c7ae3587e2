"""The upstream client: credentials go to whom they belong, and are never seen anywhere else."""

from __future__ import annotations

from base64 import b64encode

import pytest
from attrs import evolve
from twisted.logger import globalLogPublisher

from pipcache.rules.errors import UpstreamError
from pipcache.rules.sites import UpstreamSite
from tests.edges.scene import Scene, bounded

BODY = b"body"
USER, PASSWORD = "aladdin", "open sesame:é"
USERINFO = "aladdin:open%20sesame%3A%C3%A9"
EXPECTED = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def private(scene: Scene, port: int | None = None) -> UpstreamSite:
    """The upstream as a site with credentials in its address."""
    return UpstreamSite.from_root("main", f"http://{USERINFO}@127.0.0.1:{port or scene.upstream.port}")


@pytest.mark.parametrize("options", [{}, {"for_page": True}, {"method": "HEAD"}])
@bounded
async def test_they_go_to_their_origin(options):
    """Every request to the site's own origin carries its credentials, decoded from the address."""
    async with Scene() as scene:
        scene.upstream.add("/a", BODY)
        response, _ = await scene.fetch("/a", private(scene), **options)
        assert scene.upstream.requests[0].headers["authorization"] == EXPECTED
        assert response.url == f"{scene.upstream.url}/a"


@pytest.mark.parametrize(
    ("userinfo", "pair"), [("token", "token:"), ("token:", "token:"), (":x", ":x"), ("a%40b:c%2Fd", "a@b:c/d")]
)
@bounded
async def test_half_a_pair_is_a_pair(userinfo, pair):
    """A user without a password has an empty one."""
    async with Scene() as scene:
        site = UpstreamSite.from_root("main", f"http://{userinfo}@127.0.0.1:{scene.upstream.port}")
        await scene.fetch("/a", site)
        assert scene.upstream.requests[0].headers["authorization"] == "Basic " + b64encode(pair.encode()).decode()


@bounded
async def test_a_token():
    """Whatever the field's value is, the site's own origin gets it as it is, and another port of its host does not."""
    async with Scene() as scene:
        other = await scene.another()
        site = evolve(scene.site, authorization="Bearer t0k")
        for url in (f"{scene.upstream.url}/a", f"{other.url}/a"):
            await scene.fetch(url, site)
        assert scene.upstream.requests[0].headers["authorization"] == "Bearer t0k"
        assert "authorization" not in other.requests[0].headers


@bounded
async def test_an_upstream_without_credentials_gets_none():
    """Nothing is made up."""
    async with Scene() as scene:
        await scene.fetch("/a")
        assert "authorization" not in scene.upstream.requests[0].headers


@bounded
async def test_they_do_not_go_to_another_host():
    """A file that the site links to on another host is asked for without them."""
    async with Scene() as scene:
        other = await scene.another()
        await scene.fetch(f"{other.url}/a", private(scene))
        assert "authorization" not in other.requests[0].headers


@bounded
async def test_they_do_not_cross_a_redirect():
    """A redirect to another origin leaves them behind, one back to their own brings them again."""
    async with Scene() as scene:
        other = await scene.another()
        scene.upstream.add("/a", redirect_to=f"{other.url}/b")
        other.add("/b", redirect_to=f"{scene.upstream.url}/c")
        scene.upstream.add("/c", BODY)
        await scene.fetch("/a", private(scene))
        assert [request.headers.get("authorization") for request in scene.upstream.requests] == [EXPECTED, EXPECTED]
        assert "authorization" not in other.requests[0].headers


@bounded
async def test_an_upstream_cannot_choose_other_credentials():
    """Userinfo in a Location is not sent, neither as a field nor as a part of a host."""
    async with Scene() as scene:
        other = await scene.another()
        other.add("/b", BODY)
        scene.upstream.add("/a", redirect_to=f"http://mallory:hunter2@127.0.0.1:{other.port}/b")
        response, received = await scene.fetch("/a", private(scene))
        assert (response.url, received.body) == (f"{other.url}/b", BODY)
        assert "authorization" not in other.requests[0].headers
        assert other.requests[0].headers["host"] == f"127.0.0.1:{other.port}"


@pytest.mark.parametrize(
    "reply",
    [
        {"raw": b"nonsense"},
        {"stall_before_head": True},
        {"redirect_to": "http://mallory:sesame@[::1/"},
        {"redirect_to": "http://mallory:sesame@nowhere.invalid/?token=sesame"},
        {"redirect_to": "http://mallory:sesame@127.0.0.1:99999/?token=sesame"},
        {"redirect_to": "http://mallory:sesame@127.0.0.1:1/?token=sesame"},
        {"redirect_to": "ftp://mallory:sesame@nowhere.invalid/?token=sesame"},
    ],
)
@pytest.mark.parametrize("for_page", [False, True])
@bounded
async def test_no_message_tells_them(reply, for_page):
    """Neither an error nor the log carries a user, a password, or the query of an address."""
    seen: list[str] = []

    def observe(event: dict[str, object]) -> None:
        seen.append(repr({key: value for key, value in event.items() if key not in ("log_logger", "log_source")}))

    globalLogPublisher.addObserver(observe)
    try:
        async with Scene(silence=0.2) as scene:
            scene.upstream.add("/a", **reply)
            error = await scene.refused("/a?token=sesame", private(scene), for_page=for_page)
            assert isinstance(error, UpstreamError)
            for text in (str(error), *seen):
                assert "sesame" not in text
                assert "aladdin" not in text
                assert EXPECTED not in text
    finally:
        globalLogPublisher.removeObserver(observe)
