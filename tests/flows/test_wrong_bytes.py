"""Bytes that are not what the index promised: nobody has them whole, they are kept to look at, others are asked."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
from attrs import evolve

from tests.fakes.client import End
from tests.fakes.upstream import Reply
from tests.flows.harness import PAGE_TYPE, Flow, Proxy, bounded, hashed, page

FILE = "/packages/aa/bb/cc/demo-1.0-py3-none-any.whl"
SMALL, WRONG_SMALL = (Random(seed).randbytes(2000) for seed in (5, 6))
BIG, WRONG_BIG = (Random(seed).randbytes(1_000_000) for seed in (7, 8))


async def start(flow: Flow, body: bytes, *replies: list[Reply], **settings: Any) -> Proxy:
    """A proxy whose upstreams all promise `body`, and answer for it with one of their list after the other."""
    for each in replies:
        upstream = await flow.upstream()
        upstream.add("/simple/demo/", page(hashed(FILE, body)), content_type=PAGE_TYPE)
        upstream.add_sequence(FILE, each)
    return await flow.proxy(*flow.upstreams, **settings)


def quarantined(proxy: Proxy) -> dict[Path, dict[str, Any]]:
    """The notes of what is in quarantine, by the path of the body that each belongs to."""
    notes = (proxy.cache_dir / "quarantine").glob("*.json")
    return {note.with_suffix(".body"): json.loads(note.read_bytes()) for note in notes}


async def state(proxy: Proxy, number: int) -> str:
    """What `/health` says of an upstream."""
    return str((await proxy.health())["upstreams"][number]["state"])


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("wrong", [WRONG_SMALL, b""], ids=["other bytes", "nothing"])
@bounded
async def test_what_nobody_has_seen_is_replaced_unnoticed(flow, wrong, version):
    """The next upstream's body is the answer; the liar is asked last from then on."""
    proxy = await start(flow, SMALL, [Reply(body=wrong)], [Reply(body=SMALL)])
    answer = await proxy.get(FILE, version=version)
    assert (answer.end, answer["x-upstream"], bytes(answer.body)) == (End.LENGTH, "two", SMALL)
    assert [await state(proxy, number) for number in (0, 1)] == ["last", "ok"]
    await proxy.settled("/simple/demo/", FILE)
    assert proxy.kept == {"/simple/demo/", FILE}
    assert proxy.parts == []
    assert (await proxy.get(FILE))["x-cache-status"] == "HIT"


@bounded
async def test_it_is_in_quarantine_with_a_note(flow):
    """Body and note say what came from where, for whoever wants to know."""
    proxy = await start(flow, SMALL, [Reply(body=WRONG_SMALL)], [Reply(body=SMALL)])
    await proxy.get(FILE)
    ((body, note),) = quarantined(proxy).items()
    assert body.read_bytes() == WRONG_SMALL
    assert (note["key"], note["upstream"], note["size"]) == (f"GET-{FILE}", "one", len(WRONG_SMALL))
    assert note["found_sha256"] == sha256(WRONG_SMALL).hexdigest()


@pytest.mark.parametrize("wrong", [SMALL[:-1], SMALL + b"!"], ids=["too short", "too long"])
@bounded
async def test_a_proper_answer_of_another_length_is_wrong_too(flow, wrong):
    """Its own length is kept to, the digest is not."""
    proxy = await start(flow, SMALL, [Reply(body=wrong)], [Reply(body=SMALL)])
    assert bytes((await proxy.get(FILE)).body) == SMALL
    assert await state(proxy, 0) == "last"


@bounded
async def test_all_lie(flow):
    """Everybody was asked, nobody has the right bytes: 502, and nothing of theirs is sent or kept."""
    proxy = await start(flow, SMALL, [Reply(body=WRONG_SMALL)], [Reply(body=WRONG_SMALL[:-1])])
    answer = await proxy.get(FILE)
    assert (answer.status, answer.is_whole) == (502, True)
    assert WRONG_SMALL[:100] not in bytes(answer.body)
    assert FILE not in proxy.kept
    assert len(quarantined(proxy)) == 2


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize(
    "wrong",
    [
        Reply(body=WRONG_BIG),
        Reply(body=WRONG_BIG, chunked=True),
        Reply(body=WRONG_BIG, gzip=True),
        Reply(body=WRONG_BIG, http10=True, no_length=True),
        Reply(body=BIG[:-1] + bytes([BIG[-1] ^ 1])),
        Reply(body=BIG[:-1], chunked=True),
        Reply(body=BIG + b"!", chunked=True),
    ],
    ids=["sized", "chunked", "gzip", "no length", "last bit", "short with terminator", "longer"],
)
@bounded
async def test_what_was_seen_in_part_is_broken_off(flow, wrong, version):
    """No client takes it for the whole, nothing is kept, and the next request is right, of another upstream."""
    proxy = await start(flow, BIG, [wrong], [Reply(body=BIG)])
    answer = await proxy.get(FILE, version=version)
    assert (answer.status, answer.end) == (200, End.BROKEN)
    await proxy.settled("/simple/demo/", FILE)
    assert FILE not in proxy.kept
    assert proxy.parts == []
    ((body, note),) = quarantined(proxy).items()
    assert (body.read_bytes(), note["upstream"]) == (wrong.body, "one")
    assert await state(proxy, 0) == "last"
    healed = await proxy.get(FILE, version=version)
    assert (healed.end, healed["x-upstream"], healed.sha256) == (End.LENGTH, "two", sha256(BIG).hexdigest())
    assert flow.upstreams[0].count(FILE) == 1


@bounded
async def test_every_follower_is_broken_off(flow):
    """Those who joined late or read slowly too: of a wrong body nobody gets the last chunk."""
    proxy = await start(flow, BIG, [Reply(pieces=[WRONG_BIG[:-10]], length=len(BIG))], [Reply(body=BIG)])
    slow = await proxy.connect(1 << 16)
    answers = [slow.ask(FILE), *[await proxy.ask(FILE) for _ in range(4)]]
    slow.pause()
    for answer in answers[1:]:
        await answer.received(len(BIG) // 2)
    flow.upstreams[0].push(FILE, WRONG_BIG[-10:])
    for answer in answers[1:]:
        assert (await answer.ended()).end is End.BROKEN
    slow.resume()
    assert (await answers[0].ended()).end is End.BROKEN
    assert all(len(answer.body) < len(BIG) for answer in answers)


@pytest.mark.parametrize("rest", [Reply(body=WRONG_BIG, ranges=True), Reply(body=WRONG_BIG)], ids=["206", "200"])
@bounded
async def test_a_wrong_rest_is_broken_off(flow, rest):
    """What one began and another ended is held to the digest as a whole; nobody is asked for more of it."""
    proxy = await start(
        flow, BIG, [Reply(body=BIG, reset_after=400_000), Reply(status=503)], [rest], [Reply(body=BIG, ranges=True)]
    )
    answer = await proxy.get(FILE)
    assert answer.end is End.BROKEN
    await proxy.settled("/simple/demo/", FILE)
    assert FILE not in proxy.kept
    ((body, note),) = quarantined(proxy).items()
    assert body.read_bytes() == BIG[:400_000] + WRONG_BIG[400_000:]
    assert note["upstream"] == "one, two"
    assert await state(proxy, 0) == "last"  # whose bytes were wrong nobody knows; the other shows itself the next time
    assert flow.upstreams[2].count(FILE) == 0
    flow.upstreams[0].add(FILE, BIG)
    assert (await proxy.get(FILE)).sha256 != sha256(BIG).hexdigest()  # asked alone, the second one is found out
    assert (await proxy.get(FILE)).sha256 == sha256(BIG).hexdigest()


@bounded
async def test_a_wrong_beginning_does_not_stay(flow):
    """Wrong bytes, then a death, then nobody: what is left of that heals by itself, whoever is asked."""
    dies = Reply(body=WRONG_BIG, cut_after=400_000)
    fails = Reply(status=503)
    proxy = await start(flow, BIG, [dies, fails, fails, Reply(body=BIG, ranges=True)], [Reply(body=BIG, ranges=True)])
    flow.upstreams[1].add_sequence(FILE, [fails, Reply(body=BIG, ranges=True)])
    ends = []
    for _ in range(3):
        ends.append((await proxy.get(FILE)).end)
        await proxy.settled(FILE)
    assert ends == [End.BROKEN, End.BROKEN, End.LENGTH]
    answer = await proxy.get(FILE)
    assert (answer["x-cache-status"], answer.sha256) == ("HIT", sha256(BIG).hexdigest())


@bounded
async def test_the_quarantine_is_small(flow):
    """At most a hundredth of `max_size` is kept there; of a larger body the note alone."""
    proxy = await start(
        flow, SMALL, [Reply(body=WRONG_SMALL)], [evolve(Reply(body=SMALL), status=503)], max_size_bytes=100_000
    )
    await proxy.get(FILE)
    await proxy.settled("/simple/demo/", FILE)
    ((body, note),) = quarantined(proxy).items()
    assert (body.exists(), note["size"]) == (False, len(WRONG_SMALL))
    assert proxy.parts == []
