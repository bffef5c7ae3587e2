"""The upstream client: what is at a private address is reached only by those who are private, or listed.

All servers are on loopback addresses here. 127.0.0.1 is called public in these tests and 127.0.0.2 private, and names
lead where the test says.
"""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IReactorPluggableNameResolver
from zope.interface import directlyProvides, providedBy

from pipcache.rules.addresses import is_private
from pipcache.rules.errors import MalformedResponse, UpstreamUnavailable
from pipcache.rules.proxies import Proxies
from pipcache.rules.sites import UpstreamSite
from tests.edges.scene import Scene, bounded
from tests.fakes.tls import self_signed
from tests.fakes.upstream import FakeUpstream

BODY = b"a body"
PUBLIC = "127.0.0.1"
INSIDE = "127.0.0.2"


def is_inside(address: str) -> bool:
    """127.0.0.1 stands for the internet."""
    return address != PUBLIC and is_private(address)


class NamingReactor:
    """The real reactor for sockets and time; `names` says where names lead, the last answer from then on."""

    def __init__(self, **names: list[list[str]]) -> None:
        self.names = {f"{name}.example": answers for name, answers in names.items()}
        self.nameResolver = self
        directlyProvides(self, providedBy(reactor), IReactorPluggableNameResolver)

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def resolveHostName(self, receiver: Any, host: str, portNumber: int = 0, *_: Any) -> None:
        """Tell the receiver at once; what is not named is an address."""
        answers = self.names.get(host, [[host]])
        for address in answers.pop(0) if len(answers) > 1 else answers[0]:
            kind = IPv6Address if ":" in address else IPv4Address
            receiver.addressResolved(kind("TCP", address, portNumber))
        receiver.resolutionComplete()


def scene_of(**names: list[list[str]]) -> Scene:
    """A client in a world of these names, with a public upstream."""
    return Scene(reactor=NamingReactor(**names), is_private=is_inside)


async def inside(scene: Scene) -> FakeUpstream:
    """A server at a private address that has `/b`."""
    server: FakeUpstream = await scene.another(FakeUpstream(host=INSIDE))
    server.add("/b", BODY)
    return server


@pytest.mark.parametrize("way", ["a link", "a redirect"])
@pytest.mark.parametrize(
    "host",
    ["127.0.0.2", "0x7f.2", "2130706434", "127.2", "[::ffff:127.0.0.2]", "name.example", "[fd00::1]", "10.0.0.1"],
)
@bounded
async def test_a_public_upstream_leads_nowhere_inside(way, host):
    """Neither its pages' links nor its redirects reach a private address, in whatever spelling or by what name."""
    async with scene_of(name=[[INSIDE]]) as scene:
        server = await inside(scene)
        url = f"http://{host}:{server.port}/b"
        scene.upstream.add("/a", redirect_to=url)
        error = await scene.refused("/a" if way == "a redirect" else url)
        assert type(error) is MalformedResponse
        assert "private address" in str(error)
        assert "redirect_hosts" in str(error)
        assert server.connections_made == 0


@pytest.mark.parametrize("host", ["localhost", "a.localhost.", "127.0.0.1", "169.254.169.254", "[::1]", "0"])
@pytest.mark.parametrize("is_proxied", [False, True])
@bounded
async def test_this_machine_is_no_place_for_a_mirror_to_lead_to(host, is_proxied):
    """With the addresses as they are: a mirror of the internet cannot make us ask ourselves or a cloud's metadata."""
    async with Scene(reactor=NamingReactor(mirror=[["1.1.1.1"]])) as scene:
        scene.client.allow_pages_from(())  # whoever listens there is no upstream
        proxies = Proxies.from_environment({"http_proxy": scene.upstream.url} if is_proxied else {})
        site = evolve(UpstreamSite.from_root("mirror", "http://mirror.example"), proxies=proxies)
        error = await scene.refused(f"http://{host}:{scene.upstream.port}/a-1.0-py3-none-any.whl", site)
        assert "private address" in str(error)
        assert scene.upstream.connections_made == 0


@bounded
async def test_what_is_public_is_reached():
    """A link to a public host is followed, by address and by name."""
    async with scene_of(name=[[PUBLIC]]) as scene:
        other = await scene.another()
        other.add("/b", BODY)
        for host in (PUBLIC, "name.example"):
            assert (await scene.fetch(f"http://{host}:{other.port}/b"))[1].body == BODY


@bounded
async def test_a_name_is_judged_each_time_it_is_connected_to():
    """A name that led to a public address and now leads inside is refused, although it was good before."""
    async with scene_of(name=[[PUBLIC], [INSIDE]]) as scene:
        server = await inside(scene)
        scene.upstream.add("/b", BODY, no_length=True)
        url = "http://name.example:{}/b"
        assert (await scene.fetch(url.format(scene.upstream.port)))[1].body == BODY
        error = await scene.refused(url.format(server.port))
        assert type(error) is MalformedResponse
        assert server.connections_made == 0


@bounded
async def test_of_several_addresses_only_the_public_ones_are_tried():
    """A name that leads to both sides leads outside."""
    async with scene_of(name=[[INSIDE, "::1", PUBLIC]]) as scene:
        other = await scene.another()
        other.add("/b", BODY)
        server = FakeUpstream(host=INSIDE)
        server.port = other.port
        await scene.another(server)
        assert (await scene.fetch(f"http://name.example:{other.port}/b"))[1].body == BODY
        assert server.connections_made == 0


@pytest.mark.parametrize("url", [f"http://{INSIDE}", "http://name.example"])
@bounded
async def test_a_private_upstream_may_lead_inside(url):
    """An index of this network may link and redirect to its file servers, by name or by address."""
    async with scene_of(name=[[INSIDE, "10.0.0.1"]]) as scene:
        server = await inside(scene)
        site = UpstreamSite.from_root("corp", f"{url}:1")
        target = f"http://{INSIDE}:{server.port}/b"
        scene.upstream.add("/a", redirect_to=target)
        assert (await scene.fetch(target, site))[1].body == BODY
        assert (await scene.fetch("/a", site))[1].body == BODY


@pytest.mark.parametrize("addresses", [[[PUBLIC, INSIDE]], [[PUBLIC], [INSIDE]]])
@bounded
async def test_an_upstream_does_not_become_private(addresses):
    """One that is at a public address too, or was when it was first looked at, leads nowhere inside."""
    async with scene_of(name=addresses) as scene:
        server = await inside(scene)
        site = UpstreamSite.from_root("mirror", "http://name.example:1")
        for _ in range(3):
            error = await scene.refused(f"http://{INSIDE}:{server.port}/b", site)
            assert type(error) is MalformedResponse
        assert server.connections_made == 0


@bounded
async def test_a_connection_of_those_who_may_is_not_used_for_those_who_may_not():
    """What a private upstream keeps open is no way in for a public one."""
    async with scene_of(name=[[INSIDE]]) as scene:
        server = await inside(scene)
        url = f"http://name.example:{server.port}/b"
        assert (await scene.fetch(url, UpstreamSite.from_root("corp", f"http://{INSIDE}:1")))[1].body == BODY
        assert type(await scene.refused(url)) is MalformedResponse
        assert server.count("/b") == 1


@pytest.mark.parametrize("is_configured", [False, True])
@bounded
async def test_where_the_operator_says_so_it_may(is_configured):
    """What `redirect_hosts` lists is reached wherever it is, as is what is an upstream itself; nothing beside it is."""
    async with scene_of() as scene:
        server, other = await inside(scene), await inside(scene)
        url = f"http://{INSIDE}:{server.port}/b"
        site = scene.site
        if is_configured:
            scene.client.allow_pages_from((scene.site, UpstreamSite.from_root("corp", server.url)))
        else:
            site = evolve(site, redirect_hosts=(f"{INSIDE}:{server.port}",))
        scene.upstream.add("/a", redirect_to=url)
        for where, for_page in ((url, False), ("/a", False), ("/a", True)):
            assert (await scene.fetch(where, site, for_page=for_page))[1].body == BODY
        assert type(await scene.refused(f"{other.url}/b", site)) is MalformedResponse


@bounded
async def test_an_upstream_itself_is_asked_wherever_it_is():
    """A configured address is the operator's word, also where its name led elsewhere before."""
    async with scene_of(name=[[PUBLIC], [INSIDE]]) as scene:
        server = await inside(scene)
        site = UpstreamSite.from_root("mirror", f"http://name.example:{server.port}")
        assert type(await scene.refused(f"http://{INSIDE}:1/b", site)) is MalformedResponse
        assert (await scene.fetch(f"http://name.example:{server.port}/b", site))[1].body == BODY


@bounded
async def test_a_name_that_nobody_knows_is_none():
    """A link to a host that cannot be resolved is no private one, and an upstream of such a name is not private."""
    async with scene_of(name=[[]]) as scene:
        error = await scene.refused("http://name.example/b", UpstreamSite.from_root("mirror", "http://name.example:1"))
        assert type(error) is UpstreamUnavailable
        assert "cannot be resolved" in str(error)


@bounded
async def test_a_page_may_be_redirected_to_a_listed_host():
    """Pages go to hosts that are listed with their port, or on their scheme's own, and to nobody else."""
    async with Scene() as scene:
        other = await scene.another()
        other.add("/b", BODY)
        scene.upstream.add("/a", redirect_to=f"{other.url}/b")
        for listed in ((), ("127.0.0.1",), (f"127.0.0.1:{other.port + 1}",), (f"x127.0.0.1:{other.port}",)):
            error = await scene.refused("/a", evolve(scene.site, redirect_hosts=listed), for_page=True)
            assert type(error) is MalformedResponse
        assert other.requests == []
        site = evolve(scene.site, redirect_hosts=("b.example", f"127.0.0.1:{other.port}"))
        assert (await scene.fetch("/a", site, for_page=True))[1].body == BODY


@bounded
async def test_a_listed_host_is_not_asked_in_the_clear_instead(tmp_path):
    """Being listed allows no redirect from https to http."""
    (tmp_path / "ca.pem").write_bytes(self_signed().pem)
    async with Scene() as scene:
        secure = await scene.another(FakeUpstream(self_signed().options))
        secure.add("/a", redirect_to=f"{scene.upstream.url}/b")
        site = UpstreamSite.from_index("pip", f"{secure.url}/simple/", ca_file=str(tmp_path / "ca.pem"))
        site = evolve(site, redirect_hosts=(f"127.0.0.1:{scene.upstream.port}",))
        assert "from https to http" in str(await scene.refused(f"{secure.url}/a", site))


@bounded
async def test_through_a_proxy_names_are_the_proxys_to_judge():
    """What a name leads to is not known here; an address by itself is, and is refused."""
    async with scene_of() as scene:
        scene.upstream.add("http://name.example/b", BODY)  # as a proxy is asked
        proxies = Proxies.from_environment({"http_proxy": scene.upstream.url})
        site = evolve(UpstreamSite.from_root("mirror", "http://mirror.example"), proxies=proxies)
        assert (await scene.fetch("http://name.example/b", site))[1].body == BODY
        assert type(await scene.refused(f"http://{INSIDE}/b", site)) is MalformedResponse
        assert scene.upstream.count("http://name.example/b") == 1
        assert len(scene.upstream.requests) == 1


@pytest.mark.parametrize(
    ("no_proxy", "is_reached"),
    [("name.example,127.0.0.2", True), (f"{INSIDE}", False), ("", False)],
)
@bounded
async def test_an_upstream_is_judged_where_it_is_reached(no_proxy, is_reached):
    """Behind the environment's proxy its name is not ours to resolve; where `NO_PROXY` lists it, it is."""
    async with scene_of(name=[[INSIDE]]) as scene:
        server = await inside(scene)
        proxies = Proxies.from_environment({"http_proxy": scene.upstream.url, "no_proxy": no_proxy})
        site = evolve(UpstreamSite.from_root("corp", "http://name.example"), proxies=proxies)
        url = f"http://{INSIDE}:{server.port}/b"
        if is_reached:
            assert (await scene.fetch(url, site))[1].body == BODY
        else:
            assert type(await scene.refused(url, site)) is MalformedResponse
            assert server.connections_made == 0
        assert scene.upstream.requests == []


@bounded
async def test_what_goes_past_the_proxy_is_judged_by_us():
    """A public upstream behind the proxy leads nowhere inside by a name that `NO_PROXY` lists."""
    async with scene_of(name=[[INSIDE]]) as scene:
        server = await inside(scene)
        proxies = Proxies.from_environment({"http_proxy": scene.upstream.url, "no_proxy": "name.example"})
        site = evolve(UpstreamSite.from_root("mirror", "http://mirror.example"), proxies=proxies)
        assert type(await scene.refused(f"http://name.example:{server.port}/b", site)) is MalformedResponse
        assert server.connections_made == 0
        assert scene.upstream.requests == []
