"""Somebody, or the disk, changes what is kept: it is never served wrong, is put into quarantine, and is fetched anew."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_twisted

from pipcache.rules.key import CacheKey
from pipcache.rules.routes import parse_target
from tests.fakes.client import End
from tests.fakes.upstream import FakeUpstream
from tests.flows.harness import PAGE_TYPE, Flow, Proxy, bounded, eventually, hashed, page

FILE = "/packages/aa/bb/cc/demo-1.0-py3-none-any.whl"
OTHER_FILE = "/packages/aa/bb/cc/demo-2.0-py3-none-any.whl"
BODY, OTHER_BODY = (Random(seed).randbytes(500_000) for seed in (11, 12))
BIG = Random(13).randbytes(24 << 20)
"""More than the system holds between the proxy and a client."""

PAGE = page(hashed(FILE, BODY), hashed(OTHER_FILE, OTHER_BODY))


@pytest_twisted.async_fixture
async def kept(flow: Flow) -> Proxy:
    """A proxy that keeps a page and its two files."""
    upstream = await flow.upstream()
    upstream.add("/simple/demo/", PAGE, content_type=PAGE_TYPE)
    upstream.add(FILE, BODY, ranges=True)
    upstream.add(OTHER_FILE, OTHER_BODY)
    proxy = await flow.proxy(upstream)
    for target in ("/simple/demo/", FILE, OTHER_FILE):
        await proxy.get(target)
        await proxy.settled(target)
    upstream.requests.clear()
    return proxy


def upstream_of(flow: Flow) -> FakeUpstream:
    """The one upstream."""
    return flow.upstreams[0]


def meta_of(proxy: Proxy, target: str) -> Path:
    """The path of an entry's meta."""
    key = CacheKey.of(parse_target(target.encode()))
    return proxy.cache_dir / key.folder / f"{key.stem}.meta"


def body_of(proxy: Proxy, target: str) -> Path:
    """The path of the body that an entry's meta names."""
    meta = meta_of(proxy, target)
    return meta.parent / str(json.loads(meta.read_bytes())["body"])


def quarantined(proxy: Proxy) -> list[bytes]:
    """The bodies in quarantine; each has its note."""
    bodies = list((proxy.cache_dir / "quarantine").glob("*.body"))
    notes = [json.loads(body.with_suffix(".json").read_bytes()) for body in bodies]
    assert [note["found"] for note in notes] == ["on disk"] * len(bodies)
    return [body.read_bytes() for body in bodies]


def flip(path: Path) -> None:
    """Change one bit in the middle, in place."""
    with path.open("r+b") as file:
        file.seek(len(BODY) // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def flip_last(path: Path) -> None:
    """Change the last byte."""
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(content[:-1] + bytes([content[-1] ^ 255]))


def replace(path: Path) -> None:
    """Put another file of the same size and time in its place."""
    status = path.stat()
    new = path.with_name("new")
    new.write_bytes(OTHER_BODY[: status.st_size].ljust(status.st_size, b"\0"))
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)


def exchange(path: Path) -> None:
    """Write the body of the other file over this one, as a confused backup would."""
    path.write_bytes(OTHER_BODY)


def truncate(path: Path) -> None:
    """Take the second half away."""
    os.truncate(path, len(BODY) // 2)


def empty(path: Path) -> None:
    """Leave nothing in it."""
    os.truncate(path, 0)


def lengthen(path: Path) -> None:
    """Add a byte."""
    with path.open("ab") as file:
        file.write(b"!")


def link(path: Path) -> None:
    """Put a symbolic link in its place."""
    path.unlink()
    path.symlink_to(Path(__file__))


def lose(path: Path) -> None:
    """Remove it."""
    path.unlink()


def touch(path: Path) -> None:
    """Change its time alone."""
    os.utime(path, (1, 1))


def copy(path: Path) -> None:
    """Put a copy in its place: other inode, other time, right bytes."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


SAME_SIZE = [flip, flip_last, replace, exchange]
OTHER_SIZE = [truncate, empty, lengthen, link, lose]
HARMLESS = [touch, copy]


def restarts(proxy: Proxy, how: str) -> Any:
    """Nothing, a restart, or one whose scan ends before anybody asks."""

    async def wait() -> None:
        if how != "running":
            await proxy.restart(scan=how == "scanned")

    return wait()


@pytest.mark.parametrize("how", ["running", "restarted", "scanned"])
@pytest.mark.parametrize("change", [*SAME_SIZE, *OTHER_SIZE], ids=lambda change: change.__name__)
@bounded
async def test_a_changed_body_is_never_served(flow, kept, change, how):
    """The next client has the right bytes, of upstream; the one after it has them from the cache."""
    change(body_of(kept, FILE))
    wrong = body_of(kept, FILE).read_bytes() if change in SAME_SIZE else None
    await restarts(kept, how)
    answer = await kept.get(FILE)
    assert (answer.end, answer["x-cache-status"]) == (End.LENGTH, "MISS")
    assert answer.sha256 == sha256(BODY).hexdigest()
    assert upstream_of(flow).count(FILE) == 1
    await kept.settled(FILE)
    again = await kept.get(FILE)
    assert (again["x-cache-status"], again.sha256) == ("HIT", sha256(BODY).hexdigest())
    assert quarantined(kept) == ([wrong] if wrong is not None else [])
    assert (await kept.get(OTHER_FILE))["x-cache-status"] == "HIT"


@pytest.mark.parametrize("how", ["running", "restarted", "scanned"])
@pytest.mark.parametrize("change", HARMLESS, ids=lambda change: change.__name__)
@bounded
async def test_what_is_still_right_is_served(flow, kept, change, how):
    """It is read once, and from then on it is what it was: a HIT that costs nothing more."""
    change(body_of(kept, FILE))
    await restarts(kept, how)
    for _ in range(2):
        answer = await kept.get(FILE)
        assert (answer["x-cache-status"], answer.sha256) == ("HIT", sha256(BODY).hexdigest())
    assert upstream_of(flow).requests == []
    status = body_of(kept, FILE).stat()
    verified = json.loads(meta_of(kept, FILE).read_bytes())["verified"]
    assert verified == {"inode": status.st_ino, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    assert quarantined(kept) == []


@pytest.mark.parametrize("change", [flip, truncate], ids=lambda change: change.__name__)
@bounded
async def test_all_who_come_at_once_get_the_right_one(flow, kept, change):
    """Ten clients find it changed together: one fetch, ten right bodies."""
    change(body_of(kept, FILE))
    answers = [await kept.ask(FILE) for _ in range(10)]
    for answer in answers:
        assert (await answer.ended()).sha256 == sha256(BODY).hexdigest()
    assert upstream_of(flow).count(FILE) == 1


@pytest.mark.parametrize("change", [flip_last, truncate], ids=lambda change: change.__name__)
@bounded
async def test_no_part_of_it_is_served_either(flow, kept, change):
    """A Range is answered from what was checked, or relayed: never from a changed body."""
    change(body_of(kept, FILE))
    part = await kept.get(FILE, "Range: bytes=-10")
    assert (part.status, bytes(part.body)) == (206, BODY[-10:])
    head = await kept.get(FILE, method="HEAD")
    assert head["content-length"] == str(len(BODY))


@bounded
async def test_a_body_that_shrinks_while_it_is_read_is_broken_off(flow, kept):
    """A client in the middle of it has no end that looks like one."""
    upstream_of(flow).add("/pypi/big", BIG)
    await kept.get("/pypi/big")
    await kept.settled("/pypi/big")
    client = await kept.connect(1 << 16)
    answer = client.ask("/pypi/big")
    await answer.received(1)
    client.pause()
    empty(body_of(kept, "/pypi/big"))
    client.resume()
    assert (await answer.ended()).end is End.BROKEN
    assert BIG.startswith(bytes(answer.body))


def files_of_page(proxy: Proxy) -> list[Path]:
    """The body of the page and its rendering."""
    meta = meta_of(proxy, "/simple/demo/")
    return [meta.parent / json.loads(meta.read_bytes())["variants"][0]["file"], body_of(proxy, "/simple/demo/")]


@pytest.mark.parametrize("how", ["running", "restarted", "scanned"])
@pytest.mark.parametrize("which", [[0], [1], [0, 1]], ids=["rendering", "body", "both"])
@bounded
async def test_a_changed_page_is_never_served(flow, kept, which, how):
    """Rendered again where upstream's bytes are right, fetched again where they are not; files are found as ever."""
    before = await kept.get("/simple/demo/")
    for number in which:
        flip_last(files_of_page(kept)[number])
    await restarts(kept, how)
    meta_of(kept, FILE).unlink()
    assert (await kept.get(FILE)).sha256 == sha256(BODY).hexdigest()
    answer = await kept.get("/simple/demo/")
    assert bytes(answer.body) == bytes(before.body)
    assert upstream_of(flow).count("/simple/demo/") <= (1 in which)


def changed_meta(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change an entry of the meta's document."""

    def write(path: Path) -> None:
        document = json.loads(path.read_bytes())
        change(document)
        path.write_text(json.dumps(document))

    return write


METAS = {
    "of another key": changed_meta(lambda it: it.update(key=f"GET-{OTHER_FILE}")),
    "of another status": changed_meta(lambda it: it.update(status_code=404)),
    "a line break in a header": changed_meta(lambda it: it["headers"].update({"content-type": "a\r\nX-Evil: 1"})),
    "a header that is never stored": changed_meta(lambda it: it["headers"].update({"set-cookie": "a=b"})),
    "a line break in an upstream": changed_meta(lambda it: it.update(upstream="one\r\nX-Evil: 1")),
    "a line break in an ETag": changed_meta(lambda it: it.update(etag='"a\r\nX-Evil: 1"')),
    "a body elsewhere": changed_meta(lambda it: it.update(body="../../../etc/passwd")),
    "another size": changed_meta(lambda it: it.update(body_size=len(BODY) - 1)),
    "a size below nothing": changed_meta(lambda it: it.update(body_size=-1)),
    "no digest": changed_meta(lambda it: it.pop("sha256")),
    "a list": lambda path: path.write_text("[]"),
    "half of it": lambda path: os.truncate(path, path.stat().st_size // 2),
    "nothing": lambda path: os.truncate(path, 0),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "deep": lambda path: path.write_text("[" * 100_000),
}


@pytest.mark.parametrize("how", ["running", "scanned"])
@pytest.mark.parametrize("change", METAS.values(), ids=METAS)
@bounded
async def test_a_meta_that_is_none_of_ours_is_dropped(flow, kept, change, how):
    """It is as if nothing were there: fetched anew, and nothing of it reaches a client."""
    change(meta_of(kept, FILE))
    await restarts(kept, how)
    answer = await kept.get(FILE)
    assert (answer.end, answer["x-cache-status"], answer["x-evil"]) == (End.LENGTH, "MISS", None)
    assert (answer.sha256, answer["set-cookie"]) == (sha256(BODY).hexdigest(), None)
    await kept.settled(FILE)
    assert (await kept.get(FILE))["x-cache-status"] == "HIT"
    assert json.loads(meta_of(kept, FILE).read_bytes())["key"] == f"GET-{FILE}"


@bounded
async def test_an_entry_copied_to_another_key_is_no_answer(flow, kept):
    """Meta and body of one file in the place of another's: each says itself whose it is."""
    meta_of(kept, OTHER_FILE).write_bytes(meta_of(kept, FILE).read_bytes())
    answer = await kept.get(OTHER_FILE)
    assert (answer["x-cache-status"], answer.sha256) == ("MISS", sha256(OTHER_BODY).hexdigest())


@bounded
async def test_the_scrub_finds_what_the_disk_hides(flow, kept):
    """A bit that flipped without a trace is found by reading everything, before anybody asks for it."""
    scrubbed = await flow.proxy(upstream_of(flow), scrub_interval_seconds=0.2)
    scrubbed.cache_dir = kept.cache_dir
    path = body_of(kept, FILE)
    status = path.stat()
    flip(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    wrong = path.read_bytes()
    await kept.stop()
    await scrubbed.restart(scan=True)
    scrubbed.program.scrub.start()
    try:
        await eventually(lambda: len(quarantined(scrubbed)) > 0)
    finally:
        scrubbed.program.scrub.stop()
    assert quarantined(scrubbed) == [wrong]
    assert scrubbed.kept == {"/simple/demo/", OTHER_FILE}
    assert (await scrubbed.get(FILE)).sha256 == sha256(BODY).hexdigest()
