"""What stays on disk: eviction by last use, a directory removed under the server, and a restart."""

from __future__ import annotations

import os
import shutil

import pytest

from pipcache.rules.settings import Watermark
from tests.flows.harness import PAGE_TYPE, bounded, eventually, hashed, page

FILE = "/packages/aa/bb/cc/demo-1.0-py3-none-any.whl"
PAGE = "/simple/demo/"
BODY = bytes(range(256)) * 1000
KIB = 1024
MARKS = Watermark(0.875, 0.625)


def offer(upstream, count, size=100 * KIB):
    """So many things of a size; their targets in order."""
    targets = [f"/pypi/{number}" for number in range(count)]
    for target in targets:
        upstream.add(target, bytes(size))
    return targets


async def fill(proxy, targets):
    """Fetch them one after the other, each kept before the next."""
    for target in targets:
        assert (await proxy.get(target))["x-cache-status"] == "MISS"
        await proxy.settled(target)


@bounded
async def test_over_the_high_mark_the_least_recently_used_go(flow, upstream):
    """Over the high mark of the bytes entries go until the low one is reached, oldest use first; a hit is a use."""
    targets = offer(upstream, 9)
    proxy = await flow.proxy(upstream, max_size_bytes=1000 * KIB, watermark=MARKS)
    await fill(proxy, targets[:8])
    assert proxy.kept == set(targets[:8])
    for used in (targets[0], targets[2]):
        assert (await proxy.get(used))["x-cache-status"] == "HIT"
    await fill(proxy, targets[8:])
    await eventually(lambda: proxy.kept == {targets[0], targets[2], *targets[5:]})
    await eventually(lambda: proxy.program.holdings.catalog.total_bytes == 600 * KIB)
    assert (await proxy.health())["cache_size"] == 600 * KIB
    assert len(list(proxy.cache_dir.glob("???/*.body"))) == 6
    assert (await proxy.get(targets[0]))["x-cache-status"] == "HIT"
    assert (await proxy.get(targets[1]))["x-cache-status"] == "MISS"


@bounded
async def test_a_body_is_counted_once(flow, upstream):
    """What fits is kept without anything going for it: space promised to a body is not counted beside the body."""
    targets = offer(upstream, 4)
    upstream.add("/pypi/large", bytes(450 * KIB))
    proxy = await flow.proxy(upstream, max_size_bytes=1000 * KIB, watermark=MARKS)
    await fill(proxy, [*targets, "/pypi/large"])
    await proxy.stop()  # whatever was begun is done then
    assert proxy.kept == {*targets, "/pypi/large"}


@bounded
async def test_the_number_of_entries_is_limited_too(flow, upstream):
    """Many small things are evicted by their number, between the same marks."""
    targets = offer(upstream, 10, size=1)
    proxy = await flow.proxy(upstream, max_entries=10, watermark=Watermark(0.9, 0.5))
    await fill(proxy, targets[:9])
    assert len(proxy.kept) == 9
    await fill(proxy, targets[9:])
    await eventually(lambda: proxy.kept == set(targets[5:]))
    await eventually(lambda: len(proxy.program.holdings.catalog) == 5)


@bounded
async def test_what_is_read_or_written_is_not_evicted(flow, upstream):
    """A file on its way to a client stays, however long ago it was asked for, and arrives whole."""
    targets = offer(upstream, 12)
    big = "/pypi/big"
    upstream.add(big, bytes(16_000 * KIB))
    proxy = await flow.proxy(upstream, max_size_bytes=36_000 * KIB, watermark=Watermark(0.45, 0.1))
    await proxy.get(big)
    await proxy.settled(big)
    client = await proxy.connect(1 << 16)
    reading = client.ask(big)
    await reading.received(1)
    client.pause()
    await fill(proxy, targets)
    await eventually(lambda: len(proxy.kept) < 10)
    assert len(reading.body) < 16_000 * KIB
    client.resume()
    assert (await reading.ended()).is_whole
    assert len(reading.body) == 16_000 * KIB


@bounded
async def test_a_file_that_was_evicted_is_fetched_again(flow, upstream):
    """Eviction makes a miss, never an error, also where the page that says where the file is went too."""
    upstream.add(PAGE, page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY)
    targets = offer(upstream, 8, size=400 * KIB)
    proxy = await flow.proxy(upstream, max_size_bytes=1000 * KIB)
    assert bytes((await proxy.get(FILE)).body) == BODY
    await fill(proxy, targets)
    await eventually(lambda: not {FILE, PAGE} & proxy.kept)
    assert bytes((await proxy.get(FILE)).body) == BODY


EMPTIED, REMOVED, MOVED = "emptied", "removed", "moved away"


def remove(folder, how):
    """Do to the cache directory what an operator might."""
    if how == REMOVED:
        shutil.rmtree(folder)
    elif how == MOVED:
        os.rename(folder, folder.with_name("elsewhere"))
    else:
        for each in folder.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()


@pytest.mark.parametrize("how", [EMPTIED, REMOVED, MOVED])
@bounded
async def test_the_directory_may_go_under_the_running_server(proxy, upstream, how):
    """The next requests work, as misses, and what they bring is kept again."""
    upstream.add(PAGE, page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY)
    for _ in range(2):
        for target in (PAGE, FILE):
            answer = await proxy.get(target)
            assert (answer.status, answer["x-cache-status"]) == (200, "MISS")
            assert target != FILE or bytes(answer.body) == BODY
            await proxy.settled(target)
            assert (await proxy.get(target))["x-cache-status"] == "HIT"
        assert proxy.kept == {PAGE, FILE}
        remove(proxy.cache_dir, how)
        shutil.rmtree(proxy.cache_dir.with_name("elsewhere"), ignore_errors=True)
    assert (await proxy.health())["status"] == "healthy"


@pytest.mark.parametrize("how", [EMPTIED, REMOVED, MOVED])
@bounded
async def test_the_directory_may_go_in_mid_transfer(proxy, upstream, how):
    """A body that is growing arrives whole, for early and late; one being read does too."""
    upstream.add("/pypi/kept", bytes(8 << 20))
    upstream.add(FILE, pieces=[BODY[:1000]], length=len(BODY))
    await proxy.get("/pypi/kept")
    await proxy.settled("/pypi/kept")
    reader = await proxy.connect(1 << 16)
    reading = reader.ask("/pypi/kept")
    await reading.received(1)
    reader.pause()
    early = await proxy.ask(FILE)
    await early.received(1000)
    remove(proxy.cache_dir, how)
    late = await proxy.ask(FILE)
    await late.received(1000)
    upstream.push(FILE, BODY[1000:])
    upstream.finish(FILE)  # or the connection, which may be used again, would never answer
    for answer in (early, late):
        assert (await answer.ended()).is_whole
        assert bytes(answer.body) == BODY
    reader.resume()
    assert (await reading.ended()).is_whole
    await proxy.settled(FILE)
    upstream.add("/pypi/after", b"after")
    await proxy.get("/pypi/after")
    await proxy.settled("/pypi/after")
    assert "/pypi/after" in proxy.kept


@bounded
async def test_the_first_hit_needs_no_scan(flow, upstream):
    """After a restart what is on disk is served at once, with its ETag, before anything was counted."""
    upstream.add(PAGE, page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY)
    proxy = await flow.proxy(upstream)
    before = [await proxy.get(target) for target in (PAGE, FILE)]
    await proxy.settled(PAGE, FILE)
    await proxy.restart()
    await upstream.pause()
    assert not proxy.program.janitor.has_scanned
    after = [await proxy.get(target) for target in (PAGE, FILE)]
    assert [answer["x-cache-status"] for answer in after] == ["HIT", "HIT"]
    assert [answer["etag"] for answer in after] == [answer["etag"] for answer in before]
    assert [answer.body for answer in after] == [answer.body for answer in before]


@bounded
async def test_sizes_come_back(flow, upstream):
    """The scan finds every entry and its size; a hit before it is not counted twice."""
    upstream.add(PAGE, page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY)
    proxy = await flow.proxy(upstream, scan=True)
    await proxy.get(FILE)
    await proxy.settled(PAGE, FILE)
    before = await proxy.health()
    assert before["entries"] == 2
    assert before["cache_size"] > len(BODY)
    await proxy.restart(scan=True)
    after = await proxy.health()
    assert [after[name] for name in ("entries", "cache_size")] == [before[name] for name in ("entries", "cache_size")]
    await proxy.restart()
    await proxy.get(FILE)
    await proxy.program.janitor.scan()
    assert (await proxy.health())["cache_size"] == before["cache_size"]


@bounded
async def test_the_order_of_use_comes_back(flow, upstream):
    """What was hit before a clean stop is younger after it than what was only fetched."""
    targets = offer(upstream, 9)
    proxy = await flow.proxy(upstream, max_size_bytes=1000 * KIB, watermark=MARKS)
    await fill(proxy, targets[:8])
    assert (await proxy.get(targets[0]))["x-cache-status"] == "HIT"
    await proxy.restart(scan=True)
    await fill(proxy, targets[8:])
    await eventually(lambda: proxy.kept == {targets[0], *targets[4:]})


@bounded
async def test_a_restart_clears_what_nobody_owns(flow, upstream):
    """Parts without a lease, old orphans and broken pairs go; young orphans and strangers' files stay."""
    proxy = await flow.proxy(upstream)
    targets = offer(upstream, 2)
    await fill(proxy, targets)
    await proxy.stop()
    part = proxy.cache_dir / "tmp" / ("0" * 32 + ".part")
    old, young = (proxy.cache_dir / "abc" / (digit * 61 + ".body") for digit in "01")
    stranger = proxy.cache_dir / "abc" / "notes.txt"
    old.parent.mkdir(exist_ok=True)
    for path in (part, old, young, stranger):
        path.write_bytes(b"left")
    for path in (old, stranger):
        os.utime(path, (1, 1))
    bodies = {path.read_bytes(): path for path in proxy.cache_dir.glob("???/*.body") if path.stat().st_size > 4}
    next(iter(bodies.values())).write_bytes(b"short")
    await proxy.start(scan=True)
    assert [path.exists() for path in (part, old, young, stranger)] == [False, False, True, True]
    assert len(proxy.kept) == 1
    for target in targets:
        assert len((await proxy.get(target)).body) == 100 * KIB
        await proxy.settled(target)
    assert proxy.kept == set(targets)


@bounded
async def test_a_body_that_lost_bytes_is_fetched_again(proxy, upstream):
    """A file of another size than was published is a miss, noticed before a byte of it is sent."""
    upstream.add(FILE, BODY)
    await proxy.get(FILE)
    await proxy.settled(FILE)
    [body] = proxy.cache_dir.glob("???/*.body")
    os.truncate(body, 100)
    answer = await proxy.get(FILE)
    assert (answer["x-cache-status"], bytes(answer.body)) == ("MISS", BODY)
    await proxy.settled(FILE)
    assert (await proxy.get(FILE))["x-cache-status"] == "HIT"


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b'{"key": "GET-/pypi/other"}'])
@bounded
async def test_a_meta_that_is_none_is_a_miss(proxy, upstream, damage):
    """Whatever stands in its place: the thing is fetched again and replaces it."""
    upstream.add(FILE, BODY)
    await proxy.get(FILE)
    await proxy.settled(FILE)
    [meta] = proxy.cache_dir.glob("???/*.meta")
    meta.write_bytes(damage)
    answer = await proxy.get(FILE)
    assert (answer["x-cache-status"], bytes(answer.body)) == ("MISS", BODY)
    await proxy.settled(FILE)
    assert (await proxy.get(FILE))["x-cache-status"] == "HIT"
