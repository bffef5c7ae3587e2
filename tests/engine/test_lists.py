"""The project list: sent while it comes, converted in threads, never held, and kept in each rendering that is wanted."""

from __future__ import annotations

import gzip
import json

import pytest

from pipcache.engine.lists import CHUNK_BYTES
from pipcache.rules.errors import UpstreamTimeout
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import VARIANT_KINDS
from tests.fakes.cache import Cached, Visit

TARGET = "/simple/"
JSON = "application/vnd.pypi.simple.v1+json"
COUNT = 20_000
NAMES = [f"project-{number:06}" for number in range(COUNT)]
AS_JSON = json.dumps({"meta": {"api-version": "1.1"}, "projects": [{"name": name} for name in NAMES]}).encode()
AS_HTML = (
    b"<!DOCTYPE html><html><head><title>Simple index</title></head><body>"
    + "".join(f'<a href="/simple/{name}/">{name}</a>\n' for name in NAMES).encode()
    + b"</body></html>"
)
ASKING = {
    "html": (("accept", "text/html"),),
    "html.gz": (("accept", "text/html"), ("accept-encoding", "gzip, deflate")),
    "json": (("accept", JSON),),
    "json.gz": (("accept", JSON), ("accept-encoding", "gzip, deflate")),
}


def names_in(visit: Visit) -> int:
    """How many projects the answer names; fails where it is not what it says it is."""
    assert visit.is_whole
    body = gzip.decompress(visit.body) if visit.field("content-encoding") == "gzip" else visit.body
    if visit.field("content-type") == JSON:
        return len(json.loads(body)["projects"])
    return body.count(b'<a href="project-')


def kinds_on_disk(cached: Cached) -> list[str]:
    """The renderings that the list's meta names."""
    stored = cached.holdings.find(CacheKey("GET-" + TARGET))
    return sorted(variant.kind for variant in stored.variants) if stored else []


@pytest.mark.parametrize("content", [AS_JSON, AS_HTML], ids=["json", "html"])
@pytest.mark.parametrize("kind", VARIANT_KINDS)
def test_it_is_sent_while_it_comes_and_a_hit_from_then_on(cached: Cached, content: bytes, kind: str) -> None:
    """Whatever its upstream speaks: the client has some of it before the upstream has sent half."""
    visit = cached.get(TARGET, *ASKING[kind])
    response = cached.client.answer(length=len(content))
    response.give(content[: len(content) // 2])
    assert (visit.status, visit.said, visit.field("content-length")) == (200, "MISS", None)
    assert len(visit.body) > len(content) // 100
    assert visit.end is None
    response.give(content[len(content) // 2 :])
    response.end()
    hit = cached.get(TARGET, *ASKING[kind])
    assert (names_in(visit), names_in(hit), hit.said) == (COUNT, COUNT, "HIT")
    assert (hit.body, hit.field("etag")) == (visit.body, visit.field("etag"))
    assert hit.field("content-length") == str(len(visit.body))
    assert kinds_on_disk(cached) == [kind]


def test_all_who_want_it_share_one_fetch_and_one_conversion_each(cached: Cached) -> None:
    """In all renderings, those who come in the middle too; all four are kept."""
    visits = [cached.get(TARGET, *ASKING[kind]) for kind in VARIANT_KINDS]
    response = cached.client.answer(length=len(AS_JSON))
    response.give(AS_JSON[:400_000])
    visits += [cached.get(TARGET, *ASKING[kind]) for kind in VARIANT_KINDS]
    response.give(AS_JSON[400_000:])
    response.end()
    assert len(cached.client.sent) == 1
    assert [names_in(visit) for visit in visits] == [COUNT] * 8
    assert kinds_on_disk(cached) == sorted(VARIANT_KINDS)


def test_another_rendering_is_made_of_what_is_kept(cached: Cached) -> None:
    """By all who want it at once; nobody is asked, and what is read at a time is a chunk."""
    cached.get(TARGET, *ASKING["html"])
    cached.client.answer_whole(AS_JSON)
    cached.threads.is_held = True
    visits = [cached.get(TARGET, *ASKING["json.gz"]) for _ in range(3)]
    assert all(visit.is_waiting for visit in visits)
    cached.threads.let_go()
    assert [(visit.said, names_in(visit)) for visit in visits] == [("HIT", COUNT)] * 3
    assert kinds_on_disk(cached) == ["html", "json.gz"]
    assert len(AS_JSON) > 4 * CHUNK_BYTES


@pytest.mark.parametrize(
    "content", [b"<html>Please log in.</html>" + b" " * 200_000, b"", b'{"files": []}', b"[" * 100_000]
)
def test_what_is_no_list_is_not_sent(cached: Cached, content: bytes) -> None:
    """Not a byte of it: the next upstream is asked."""
    visits = [cached.get(TARGET), cached.get(TARGET, *ASKING["json"])]
    cached.client.answer_whole(content)
    assert all(visit.is_waiting for visit in visits)
    cached.client.answer_whole(AS_HTML)
    assert [names_in(visit) for visit in visits] == [COUNT, COUNT]
    assert len(cached.events.of("upstream_failed")) == 1


@pytest.mark.parametrize("how", ["cut", "silent", "not json any more"])
def test_one_that_breaks_off_is_seen_to(cached: Cached, how: str) -> None:
    """Clients that have some of it see that it is not the whole; nothing is kept, and the next request heals it."""
    visit = cached.get(TARGET, *ASKING["json"])
    response = cached.client.answer(length=len(AS_JSON))
    response.give(AS_JSON[:500_000])
    match how:
        case "cut":
            response.end()
        case "silent":
            response.fail(UpstreamTimeout("no byte in mid-body"))
        case _:
            response.give(b"}" * (len(AS_JSON) - 500_000))
            response.end()
    assert visit.end == "aborted"
    assert kinds_on_disk(cached) == []
    for path in cached.store.root.glob("???/*"):
        path.unlink()
    again = cached.get(TARGET, *ASKING["json"])
    while cached.client.waiting:
        cached.client.answer_whole(AS_JSON)
    assert names_in(again) == COUNT


@pytest.mark.parametrize("room_bytes", [0, 100_000, len(AS_JSON) + 100_000])
def test_a_full_disk_costs_no_client_a_byte(cached: Cached, room_bytes: int) -> None:
    """Of the list, or of a rendering that does not fit beside it."""
    cached.files.room_bytes = room_bytes
    visits = [cached.get(TARGET, *ASKING[kind]) for kind in ("json", "html")]
    cached.client.answer_whole(AS_JSON)
    assert [names_in(visit) for visit in visits] == [COUNT, COUNT]
    assert cached.events.of("storage_failed")


def test_a_slow_client_holds_nobody_up(cached: Cached) -> None:
    """It reads the rendering at its own pace, or leaves; the others and the disk get theirs."""
    slow = cached.get(TARGET, *ASKING["html"])
    slow.sink.is_paused = True
    quick = cached.get(TARGET, *ASKING["html"])
    cached.client.answer_whole(AS_JSON)
    assert names_in(quick) == COUNT
    assert slow.body == b""
    slow.sink.resume()
    assert names_in(slow) == COUNT


def test_a_head_request_says_what_a_get_would(cached: Cached) -> None:
    """Without a body."""
    head = cached.head(TARGET, *ASKING["json"])
    cached.client.answer_whole(AS_JSON)
    assert (head.status, head.body, head.field("content-type")) == (200, b"", JSON)
    get = cached.get(TARGET, *ASKING["json"])
    assert get.field("etag") == head.field("etag")
