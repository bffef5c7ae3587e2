"""`trusted: false`: an upstream whose word counts for nothing is asked for what can be checked, and for nothing else."""

from __future__ import annotations

from hashlib import blake2b, sha256
from random import Random

import pytest
import pytest_twisted

from pipcache.rules.settings import Upstream
from tests.fakes.client import End
from tests.fakes.upstream import FakeUpstream
from tests.flows.harness import PAGE_TYPE, Flow, Proxy, bounded, hashed, page

FILE = "/packages/aa/bb/cc/demo-1.0-py3-none-any.whl"
BODY, WRONG = (Random(seed).randbytes(1_000_000) for seed in (9, 10))
SMALL, WRONG_SMALL = BODY[:2000], WRONG[:2000]


class Scene:
    """A fast upstream that is not trusted, asked first, and a trusted one behind it."""

    def __init__(self, fast: FakeUpstream, trusted: FakeUpstream, proxy: Proxy) -> None:
        self.fast = fast
        self.trusted = trusted
        self.proxy = proxy

    def promise(self, body: bytes) -> None:
        """The trusted one's page names the file, the other one's names another."""
        self.trusted.add("/simple/demo/", page(hashed(FILE, body)), content_type=PAGE_TYPE)
        self.fast.add("/simple/demo/", page(hashed(FILE, WRONG)), content_type=PAGE_TYPE)


@pytest_twisted.async_fixture
async def scene(flow: Flow) -> Scene:
    """Both with nothing yet."""
    fast, trusted = await flow.upstream(), await flow.upstream()
    proxy = await flow.proxy(Upstream("fast", fast.url, trusted=False), Upstream("trusted", trusted.url))
    return Scene(fast, trusted, proxy)


@pytest.mark.parametrize("target", ["/simple/demo/", "/simple/"])
@bounded
async def test_it_is_never_asked_for_a_page(scene, target):
    """A page that it has is as good as none, also where nobody else has one."""
    scene.fast.add(target, page(hashed(FILE, WRONG)), content_type=PAGE_TYPE)
    assert (await scene.proxy.get(target)).status == 404
    scene.trusted.add("/simple/other/", page(hashed(FILE.replace("demo", "other"), BODY)), content_type=PAGE_TYPE)
    answer = await scene.proxy.get("/simple/other/")
    assert (answer.status, answer["x-upstream"]) == (200, "trusted")
    assert scene.fast.requests == []


@bounded
async def test_a_page_is_not_followed_to_it(scene):
    """A trusted upstream's redirect does not make it one."""
    scene.promise(BODY)
    scene.trusted.add("/simple/demo/", redirect_to=f"{scene.fast.url}/simple/demo/")
    assert (await scene.proxy.get("/simple/demo/")).status == 502
    assert scene.fast.requests == []


@bounded
async def test_a_page_that_came_from_it_before_says_nothing_now(scene, flow):
    """Who was trusted when a page was kept is not asked: who is trusted now decides, for where files are too."""
    before = await flow.proxy(scene.fast, scene.trusted)
    scene.promise(BODY)
    scene.fast.add(FILE, WRONG)
    scene.trusted.add(FILE, BODY)
    assert (await before.get("/simple/demo/"))["x-upstream"] == "one"
    await before.settled("/simple/demo/")
    before.sites = (Upstream("one", scene.fast.url, trusted=False), Upstream("two", scene.trusted.url))
    await before.restart()
    answer = await before.get(FILE)
    assert (answer["x-upstream"], answer.sha256) == ("two", sha256(BODY).hexdigest())


@bounded
async def test_its_right_files_are_taken(scene):
    """The digest of a trusted page is all it takes; where the page says is asked first, then whoever has the path."""
    scene.promise(BODY)
    scene.fast.add(FILE, BODY)
    answer = await scene.proxy.get(FILE)
    assert (answer["x-upstream"], answer.sha256) == ("fast", sha256(BODY).hexdigest())
    await scene.proxy.settled(FILE)
    assert FILE in scene.proxy.kept


@bounded
async def test_it_may_give_the_rest(scene):
    """A body that a trusted one began is ended by it: the digest of the whole is checked."""
    scene.promise(BODY)
    scene.trusted.add(FILE, BODY, cut_after=300_000)
    scene.fast.add(FILE, BODY, ranges=True)
    answer = await scene.proxy.get(FILE)
    assert (answer.end, answer["x-upstream"], answer.sha256) == (End.LENGTH, "trusted", sha256(BODY).hexdigest())


@bounded
async def test_its_wrong_bytes_reach_nobody_whole(scene):
    """The first client sees the break, the next has the trusted one's body."""
    scene.promise(BODY)
    scene.fast.add(FILE, WRONG)
    assert (await scene.proxy.get(FILE)).end is End.BROKEN
    scene.trusted.add(FILE, BODY)
    answer = await scene.proxy.get(FILE)
    assert (answer.end, answer.sha256) == (End.LENGTH, sha256(BODY).hexdigest())


@bounded
async def test_its_small_wrong_bodies_reach_nobody_at_all(scene):
    """What fits into the withheld chunk is replaced before anybody sees it."""
    scene.promise(SMALL)
    scene.fast.add(FILE, WRONG_SMALL)
    scene.trusted.add(FILE, SMALL)
    assert bytes((await scene.proxy.get(FILE)).body) == SMALL


@bounded
async def test_all_lie(flow):
    """Any number of them, and the trusted one lacks the file: a 502, and none of their bytes."""
    fast = [await flow.upstream() for _ in range(3)]
    trusted = await flow.upstream()
    trusted.add("/simple/demo/", page(hashed(FILE, SMALL)), content_type=PAGE_TYPE)
    for upstream in fast:
        upstream.add(FILE, WRONG_SMALL)
    sites = [Upstream(f"fast-{number}", upstream.url, trusted=False) for number, upstream in enumerate(fast)]
    proxy = await flow.proxy(*sites, Upstream("trusted", trusted.url))
    answer = await proxy.get(FILE)
    assert (answer.status, answer.is_whole) == (502, True)
    assert WRONG_SMALL[:100] not in bytes(answer.body)
    assert [upstream.count(FILE) for upstream in fast] == [1, 1, 1]
    states = [each["state"] for each in (await proxy.health())["upstreams"]]
    assert states == ["last", "last", "last", "ok"]


BLAKE = blake2b(BODY, digest_size=32).hexdigest()
NAMED_BY_ITSELF = f"/packages/{BLAKE[:2]}/{BLAKE[2:4]}/{BLAKE[4:]}/demo-1.0.zip"


@pytest.mark.parametrize(
    "target",
    [FILE, NAMED_BY_ITSELF, f"{FILE}.metadata", "/pypi/demo/other", "/packages/aa/bb/cc/no-project"],
)
@pytest.mark.parametrize("linked", [None, FILE], ids=["no page", "no digest"])
@bounded
async def test_what_nobody_promised_is_not_asked_of_it(scene, target, linked):
    """Where no trusted page gives a digest, its bytes could be anything: only the trusted one is asked."""
    if linked is not None:
        scene.trusted.add("/simple/demo/", page(linked), content_type=PAGE_TYPE)
    scene.fast.add(target, WRONG)
    assert (await scene.proxy.get(target)).status == 404
    scene.trusted.add(target, BODY)
    answer = await scene.proxy.get(target)
    assert (answer["x-upstream"], answer.sha256) == ("trusted", sha256(BODY).hexdigest())
    assert scene.fast.count(target) == 0


@pytest.mark.parametrize("fields", [["Range: bytes=0-"], ["Range: bytes=500-999"], ["Range: bytes=-100"]], ids=str)
@bounded
async def test_parts_are_not_relayed_from_it(scene, fields):
    """A digest is that of the whole file: of a part nothing says whether it is right. The whole may be had."""
    scene.promise(BODY)
    scene.fast.add(FILE, BODY, ranges=True)
    assert (await scene.proxy.get(FILE, *fields)).status == 404
    assert scene.fast.count(FILE) == 0
    assert (await scene.proxy.get(FILE)).sha256 == sha256(BODY).hexdigest()
    part = await scene.proxy.get(FILE, *fields)
    assert (part.status, part["x-cache-status"]) == (206, "HIT")


@bounded
async def test_head_is_not_asked_of_it(scene):
    """Installers take the length from HEAD, and ask for parts by it."""
    scene.promise(BODY)
    scene.fast.add(FILE, BODY)
    assert (await scene.proxy.get(FILE, method="HEAD")).status == 404
    assert scene.fast.count(FILE) == 0


@bounded
async def test_a_link_to_its_host_makes_it_no_better(scene):
    """A trusted page without digests may lead there: that is still somebody whose bytes nobody can check."""
    scene.trusted.add("/simple/demo/", page(f"{scene.fast.url}{FILE}"), content_type=PAGE_TYPE)
    scene.fast.add(FILE, WRONG)
    scene.trusted.add(FILE, BODY)
    assert (await scene.proxy.get(FILE)).sha256 == sha256(BODY).hexdigest()
    assert scene.fast.requests == []


@bounded
async def test_all_who_share_its_wrong_body_are_broken_off(flow):
    """Also where it is too big to keep, and the second client has a transfer of its own."""
    fast, trusted = await flow.upstream(), await flow.upstream()
    trusted.add("/simple/demo/", page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    fast.add(FILE, pieces=[WRONG[:-1]], length=len(WRONG))
    sites = Upstream("fast", fast.url, trusted=False), Upstream("trusted", trusted.url)
    proxy = await flow.proxy(*sites, max_size_bytes=len(BODY))
    first = await proxy.ask(FILE)
    await first.received(len(BODY) // 2)
    second = await proxy.ask(FILE)
    await second.received(len(BODY) // 2)
    fast.push(FILE, WRONG[-1:])
    assert [(await answer.ended()).end for answer in (first, second)] == [End.BROKEN] * 2
    assert fast.count(FILE) == 2
