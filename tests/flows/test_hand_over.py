"""An upstream dies in mid-body: another one, or the same once more, gives the rest, and no client sees a seam."""

from __future__ import annotations

from hashlib import sha256
from random import Random

import pytest
from attrs import evolve

from tests.fakes.client import Answer, End
from tests.fakes.upstream import FakeUpstream, Reply
from tests.flows.harness import PAGE_TYPE, Flow, Proxy, bounded, eventually, hashed, page

FILE = "/packages/aa/bb/cc/demo-1.0-py3-none-any.whl"
BODY = Random(3).randbytes(1_000_000)
DIED_AT = 300_000
CHUNK = 1 << 16
"""What a fake upstream sends at a time."""

SILENCE = 0.3
ETAG = '"strong"'
SIZED: dict[str, bool] = {}
CHUNKED = {"chunked": True}

DEATHS = {
    "reset": {"reset_after": DIED_AT},
    "cut": {"cut_after": DIED_AT},
    "stall": {"stall_after": DIED_AT},
    "short": {"body": BODY[:DIED_AT], "wrong_length": len(BODY) - DIED_AT},
}
FRAMED = [
    (death, framing) for death in DEATHS for framing in (SIZED, CHUNKED) if (death, framing) != ("short", CHUNKED)
]
"""A chunked body that is short and has its terminator looks whole: it is a wrong one, see `test_wrong_bytes`."""

WHOLE = Reply(body=BODY, ranges=True, etag=ETAG)
NO_RANGES = evolve(WHOLE, ranges=False)
FAILS = Reply(status=503)
LACKS = Reply(status=404)
ANOTHER = Reply(body=BODY[:-5], ranges=True)
"""Of another length, so it cannot be the same body."""

FROM_THE_START = Reply(body=BODY, headers=[("Content-Range", f"bytes 0-999999/{len(BODY)}")], status=206)
"""A part, but not the one that was asked for."""


def dying(death: str, framing: dict[str, bool] = SIZED, **more: object) -> Reply:
    """An answer that breaks off at `DIED_AT`, or about there."""
    return Reply(**{"body": BODY, **DEATHS[death], **framing, **more})  # type: ignore[arg-type]


async def start(flow: Flow, *replies: list[Reply], digest: bool = True, **settings: object) -> Proxy:
    """A proxy of as many upstreams as there are lists; each answers for the file with one of its list after the other."""
    for each in replies:
        upstream = await flow.upstream()
        if digest:
            upstream.add("/simple/demo/", page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
        upstream.add_sequence(FILE, each)
    proxy = await flow.proxy(*flow.upstreams, **{"timeout": SILENCE, **settings})  # type: ignore[arg-type]
    if digest:
        await proxy.get("/simple/demo/")
        await proxy.settled("/simple/demo/")
    for upstream in flow.upstreams:
        upstream.bytes_sent = 0
        upstream.requests.clear()
    return proxy


def check_whole(answer: Answer) -> None:
    """The client has the body, and its own framing says so."""
    assert (answer.status, answer.end) == (200, answer.end if answer.end is not End.BROKEN else "whole"), answer
    assert answer.end is not None
    assert answer.sha256 == sha256(BODY).hexdigest()


def asked(upstream: FakeUpstream) -> list[str | None]:
    """The Range of each request for the file."""
    return [each.headers.get("range") for each in upstream.requests if each.target == FILE]


def sent(flow: Flow) -> int:
    """Bytes of bodies, of all upstreams together."""
    return sum(upstream.bytes_sent for upstream in flow.upstreams)


async def check_kept(proxy: Proxy, flow: Flow) -> None:
    """The body is kept as it is right: whoever asks next has it at once, and no upstream hears of it."""
    await proxy.settled(FILE)
    before = [len(upstream.requests) for upstream in flow.upstreams]
    hit = await proxy.get(FILE)
    assert hit["x-cache-status"] == "HIT"
    check_whole(hit)
    assert [len(upstream.requests) for upstream in flow.upstreams] == before
    assert proxy.parts == []


OTHERS = {
    "two, the first lacks it now": [[LACKS], [WHOLE]],
    "two, the first dies twice": [[Reply(body=BODY, ranges=True, cut_after=2 * CHUNK)], [WHOLE]],
    "three, the second fails": [[FAILS], [FAILS], [WHOLE]],
    "three, the second sends another part": [[FAILS], [FROM_THE_START], [WHOLE]],
    "three, the second has another body": [[FAILS], [ANOTHER], [WHOLE]],
    "three, the second dies too": [[FAILS], [Reply(body=BODY, ranges=True, reset_after=2 * CHUNK)], [WHOLE]],
}


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize(("death", "framing"), FRAMED, ids=str)
@bounded
async def test_another_upstream_gives_the_rest(flow, death, framing, version):
    """However the first one dies: one unbroken response, right to the last byte, and next to nothing is sent twice."""
    proxy = await start(flow, [dying(death, framing), FAILS], [WHOLE])
    answer = await proxy.get(FILE, version=version)
    check_whole(answer)
    assert answer["x-upstream"] == "one"
    assert asked(flow.upstreams[1]) == [f"bytes={DIED_AT}-"]
    assert sent(flow) <= len(BODY) + CHUNK
    await check_kept(proxy, flow)


@pytest.mark.parametrize("others", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("death", DEATHS)
@bounded
async def test_whoever_has_the_rest_is_found(flow, death, others):
    """Those who do not have it, or begin elsewhere, or die in their turn, are passed over."""
    first, *rest = others
    proxy = await start(flow, [dying(death), *first], *rest)
    answer = await proxy.get(FILE)
    check_whole(answer)
    if [ANOTHER] not in others and [FROM_THE_START] not in others:  # which send what is of no use
        assert sent(flow) <= len(BODY) + CHUNK
    assert all(each and each.startswith("bytes=") for each in asked(flow.upstreams[-1]))
    await check_kept(proxy, flow)


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("skipped", [NO_RANGES, evolve(NO_RANGES, chunked=True)], ids=["sized", "chunked"])
@pytest.mark.parametrize(("death", "framing"), FRAMED, ids=str)
@bounded
async def test_where_range_is_not_offered_the_rest_is_taken_from_the_whole(flow, death, framing, skipped, version):
    """A mirror answers a Range with 200: what is there already is skipped, the client sees none of it twice."""
    proxy = await start(flow, [dying(death, framing), FAILS], [FAILS], [skipped])
    check_whole(await proxy.get(FILE, version=version))
    await check_kept(proxy, flow)


@pytest.mark.parametrize("digest", [True, False], ids=["digest", "no digest"])
@pytest.mark.parametrize(("death", "framing"), FRAMED, ids=str)
@bounded
async def test_the_only_upstream_is_asked_once_more(flow, death, framing, digest):
    """With If-Range on its strong ETag, which needs no digest: nobody else would have the rest."""
    proxy = await start(flow, [dying(death, framing, etag=ETAG), WHOLE], digest=digest)
    check_whole(await proxy.get(FILE))
    (upstream,) = flow.upstreams
    first, again = (each.headers for each in upstream.requests if each.target == FILE)
    assert ("range" in first, again["range"], again["if-range"]) == (False, f"bytes={DIED_AT}-", ETAG)
    assert sent(flow) <= len(BODY) + CHUNK
    await check_kept(proxy, flow)


@bounded
async def test_a_chunk_that_is_none_is_a_death(flow):
    """What came before it is good, and the rest is asked for."""
    proxy = await start(flow, [Reply(body=BODY, bad_chunk=True), FAILS], [WHOLE])
    check_whole(await proxy.get(FILE))
    assert asked(flow.upstreams[1]) == [f"bytes={CHUNK // 2}-"]
    await check_kept(proxy, flow)


@bounded
async def test_a_validator_goes_to_nobody_else(flow):
    """If-Range names the ETag that the first one gave: to another upstream it means nothing."""
    proxy = await start(flow, [dying("cut", etag=ETAG), FAILS], [WHOLE])
    check_whole(await proxy.get(FILE))
    assert [each.headers.get("if-range") for each in flow.upstreams[0].requests if each.target == FILE] == [None, ETAG]
    assert [each.headers.get("if-range") for each in flow.upstreams[1].requests] == [None]


@bounded
async def test_one_that_falls_silent_is_asked_once_more(flow):
    """A mirror may have lost the connection only; when it stays silent, another gives the rest."""
    proxy = await start(flow, [dying("stall", etag=ETAG), Reply(stall_before_head=True)], [WHOLE], timeout=1.0)
    check_whole(await proxy.get(FILE))
    assert asked(flow.upstreams[0]) == [None, f"bytes={DIED_AT}-"]
    assert asked(flow.upstreams[1]) == [f"bytes={DIED_AT}-"]


@pytest.mark.parametrize("validator", [{}, {"etag": 'W/"weak"'}, {"last_modified": "Mon, 01 Jan 2024 00:00:00 GMT"}])
@bounded
async def test_without_digest_and_etag_nobody_is_asked_for_the_rest(flow, validator):
    """What nothing proves to be the same body is not joined: the client sees the break."""
    proxy = await start(flow, [dying("cut", **validator), evolve(WHOLE, **validator)], [WHOLE], digest=False)
    assert (await proxy.get(FILE)).end is End.BROKEN
    assert [len(asked(upstream)) for upstream in flow.upstreams] == [1, 0]
    await proxy.settled(FILE)
    assert (proxy.kept, proxy.parts) == (set(), [])


CHANGED = Random(4).randbytes(len(BODY))
"""Another body of the same length."""


@pytest.mark.parametrize(
    "again",
    [
        Reply(body=CHANGED, ranges=True, etag='"changed"'),
        Reply(body=CHANGED, etag=ETAG),
        FAILS,
        LACKS,
        evolve(WHOLE, cut_after=CHUNK),
        FROM_THE_START,
    ],
    ids=["changed", "no Range", "5xx", "gone", "dies again", "another part"],
)
@bounded
async def test_without_digest_no_other_upstream_gives_the_rest(flow, again):
    """Where the same upstream does not go on with the same body, the client sees the break, and the next one heals it."""
    proxy = await start(flow, [dying("cut", etag=ETAG), again, WHOLE], [WHOLE], digest=False)
    answer = await proxy.get(FILE)
    assert answer.end is End.BROKEN
    assert BODY.startswith(bytes(answer.body))
    assert [len(asked(upstream)) for upstream in flow.upstreams] == [2, 0]
    await proxy.settled(FILE)
    assert (proxy.kept, proxy.parts) == (set(), [])
    check_whole(await proxy.get(FILE))


@pytest.mark.parametrize("digest", [True, False], ids=["digest", "no digest"])
@bounded
async def test_a_part_of_an_encoded_body_is_not_taken_for_one_of_the_body(flow, digest):
    """Offsets of what is compressed mean nothing in what was unpacked: never joined, and visible where nobody has more."""
    packed = Reply(body=BODY, gzip=True, ranges=True, etag=ETAG)
    proxy = await start(flow, [evolve(packed, cut_after=DIED_AT), packed], [WHOLE], digest=digest)
    answer = await proxy.get(FILE)
    if digest:
        check_whole(answer)
    else:
        assert answer.end is End.BROKEN


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@bounded
async def test_nobody_has_the_rest(flow, version):
    """Everybody dies: the client sees the break, and the next request goes on where the last one ended."""
    last = [Reply(body=BODY, ranges=True, cut_after=2 * CHUNK), FAILS, WHOLE]
    proxy = await start(flow, [dying("reset"), FAILS], last)
    answer = await proxy.get(FILE, version=version)
    assert answer.end is End.BROKEN
    assert BODY.startswith(bytes(answer.body))
    await proxy.settled(FILE)
    assert FILE not in proxy.kept
    flow.upstreams[0].add_sequence(FILE, [WHOLE])
    check_whole(await proxy.get(FILE, version=version))
    assert sent(flow) <= len(BODY) + CHUNK
    await check_kept(proxy, flow)


@bounded
async def test_all_who_follow_are_handed_over(flow):
    """Those who were there, those who come in the pause and those who read slowly have one transfer, and all of it."""
    proxy = await start(flow, [dying("cut"), FAILS], [evolve(WHOLE, stall_before_head=True)], timeout=15.0)
    slow = await proxy.connect(CHUNK)
    answers = [slow.ask(FILE), *[await proxy.ask(FILE) for _ in range(4)]]
    slow.pause()
    await answers[-1].received(DIED_AT)
    await flow.upstreams[1].wait_for_request(FILE)
    answers += [await proxy.ask(FILE) for _ in range(4)]
    await answers[-1].received(DIED_AT)
    flow.upstreams[1].release(FILE)
    for answer in answers[1:]:
        check_whole(await answer.ended())
    slow.resume()
    check_whole(await answers[0].ended())
    assert [len(asked(upstream)) for upstream in flow.upstreams] == [2, 1]
    assert sent(flow) <= len(BODY) + CHUNK


@pytest.mark.parametrize("framing", [SIZED, CHUNKED], ids=str)
@bounded
async def test_what_is_too_big_to_keep_is_handed_over(flow, framing):
    """A body that only passes through has the same right to its rest."""
    proxy = await start(flow, [dying("reset", framing), FAILS], [WHOLE], max_size_bytes=len(BODY))
    check_whole(await proxy.get(FILE))
    assert sent(flow) <= len(BODY) + CHUNK
    await proxy.settled(FILE)
    assert proxy.kept == {"/simple/demo/"}


@bounded
async def test_a_range_in_the_growing_part_is_served_through_the_seam(flow):
    """A client that asked for a part near the break gets it when the next upstream has brought it."""
    proxy = await start(flow, [dying("cut"), FAILS], [evolve(WHOLE, stall_before_head=True)], timeout=15.0)
    whole = await proxy.ask(FILE)
    await whole.received(DIED_AT)
    part = await proxy.ask(FILE, f"Range: bytes={DIED_AT - 10}-{DIED_AT + 9}")
    await eventually(lambda: len(asked(flow.upstreams[1])) > 0)
    flow.upstreams[1].release(FILE)
    assert bytes((await part.ended()).body) == BODY[DIED_AT - 10 : DIED_AT + 10]
    check_whole(await whole.ended())
