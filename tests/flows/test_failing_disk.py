"""The disk fails: clients get every byte all the same, `/health` says why, and storing resumes when the disk does."""

from __future__ import annotations

import errno
import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pipcache.edges.files import Files
from pipcache.service.assemble import assemble
from tests.fakes.upstream import FakeUpstream
from tests.flows import harness
from tests.flows.harness import PAGE_TYPE, Flow, Proxy, bounded, eventually, hashed, page

FILE = "/packages/aa/bb/cc/demo-1.0-py3-none-any.whl"
BODY = Random(14).randbytes(2 << 20)
FIRST = 1 << 19
"""How much of it upstream sends before the test says go on."""

WARM = {f"/pypi/warm-{number}": Random(number).randbytes(100_000) for number in range(10)}
PATH_CALLS = frozenset({"make_folders", "create", "open_part", "rename", "unlink", "set_modified"})
READING = frozenset({"open", "read_whole", "status_of", "entries"})

FAILURES: dict[str, tuple[int, frozenset[str]]] = {
    "full": (errno.ENOSPC, frozenset({"write"})),
    "over its quota": (errno.EDQUOT, frozenset({"write"})),
    "at its file size limit": (errno.EFBIG, frozenset({"write"})),
    "full, also for names": (errno.ENOSPC, frozenset({"write", "create", "make_folders", "rename"})),
    "read-only": (errno.EROFS, PATH_CALLS | {"write"}),
    "without permission": (errno.EACCES, PATH_CALLS | READING),
    "gone": (errno.ENOENT, PATH_CALLS | READING),
    "broken": (errno.EIO, PATH_CALLS | READING | {"write", "sync"}),
    "unable to sync": (errno.EIO, frozenset({"sync"})),
}
FULL = [name for name, (number, _) in FAILURES.items() if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]


class FailingDisk(Files):
    """The real disk until `fail` is said, and again from `recover` on; which calls fail, and how, is the failure's."""

    def __init__(self) -> None:
        self._error = 0
        self._calls: frozenset[str] = frozenset()
        self._bytes_left: int | None = None

    def fail(self, failure: str, after_bytes: int) -> None:
        """Fail as soon as so many bytes more have been written."""
        self._error, self._calls = FAILURES[failure]
        self._bytes_left = after_bytes

    def recover(self) -> None:
        """Be as ever."""
        self._bytes_left = None

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Take what there is room for."""
        if self._bytes_left:
            data = data[: self._bytes_left]
        taken = super().write(descriptor, data)
        if self._bytes_left is not None:
            self._bytes_left = max(0, self._bytes_left - taken)
        return taken

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or name in ("fail", "recover"):
            return found

        def call(*arguments: Any) -> Any:
            if self._bytes_left == 0 and name in self._calls:
                raise OSError(self._error, os.strerror(self._error))
            return found(*arguments)

        return call


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FailingDisk:
    """What every proxy of the test reaches its directory through."""
    disk = FailingDisk()
    monkeypatch.setattr(harness, "assemble", functools.partial(assemble, files=disk))
    return disk


async def start(flow: Flow, **settings: Any) -> tuple[FakeUpstream, Proxy]:
    """An upstream with everything, and a proxy that keeps a page and some small things of it."""
    upstream = await flow.upstream()
    upstream.add("/simple/demo/", page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, pieces=[BODY[:FIRST]], length=len(BODY))
    for target, body in WARM.items():
        upstream.add(target, body)
    proxy = await flow.proxy(upstream, **settings)
    for target in ("/simple/demo/", *WARM):
        await proxy.get(target)
        await proxy.settled(target)
    return upstream, proxy


async def ten_clients(upstream: FakeUpstream, proxy: Proxy) -> None:
    """Ten clients of one file, of which one reads nothing for a while: each gets every byte."""
    slow = await proxy.connect(1 << 16)
    answers = [slow.ask(FILE), *[await proxy.ask(FILE) for _ in range(9)]]
    slow.pause()
    for answer in answers[1:]:
        await answer.received(FIRST)
    upstream.push(FILE, BODY[FIRST:])
    upstream.finish(FILE)
    for answer in answers[1:]:
        await answer.received(FIRST + 1)
    slow.resume()
    for answer in answers:
        assert (await answer.ended()).is_whole
        assert answer.sha256 == sha256(BODY).hexdigest()


async def check_degraded(proxy: Proxy, why: str) -> None:
    """`/health` answers 200, and says what is wrong."""
    answer = await proxy.get("/health")
    report = json.loads(answer.body)
    assert (answer.status, report["status"]) == (200, "degraded")
    assert why in report["reason"]


async def check_recovers(upstream: FakeUpstream, proxy: Proxy) -> None:
    """The next thing that is fetched is kept, and all is well: nothing has to be waited for."""
    upstream.add("/pypi/next", b"next")
    assert (await proxy.get("/pypi/next")).text == "next"
    await proxy.settled("/pypi/next")
    assert (await proxy.get("/pypi/next"))["x-cache-status"] == "HIT"
    report = await proxy.health()
    assert (report["status"], "reason" in report) == ("healthy", False)
    for target, body in WARM.items():
        assert bytes((await proxy.get(target)).body) == body
    upstream.add(FILE, BODY)
    assert (await proxy.get(FILE)).sha256 == sha256(BODY).hexdigest()
    await proxy.settled(FILE, *WARM)
    assert (await proxy.get(FILE))["x-cache-status"] == "HIT"


@pytest.mark.parametrize("after_bytes", [0, 1 << 20, len(BODY)], ids=["at once", "in mid-body", "at the end"])
@pytest.mark.parametrize("failure", FAILURES)
@bounded
async def test_no_client_loses_a_byte(flow, disk, failure, after_bytes):
    """Whatever fails, and when: ten clients are served, `/health` says it, and storing goes on when the disk does."""
    upstream, proxy = await start(flow)
    disk.fail(failure, after_bytes)
    await ten_clients(upstream, proxy)
    await proxy.settled(FILE)
    await check_degraded(proxy, os.strerror(FAILURES[failure][0]))
    assert FILE not in proxy.kept
    disk.recover()
    await check_recovers(upstream, proxy)
    if "unlink" not in FAILURES[failure][1]:  # else what could not be removed waits for the janitor
        assert proxy.parts == []


@pytest.mark.parametrize("leaves", [False, True], ids=["reads on", "leaves"])
@bounded
async def test_a_client_that_stops_reading_holds_a_window_up_no_longer_than_itself(flow, disk, leaves):
    """Without a file upstream waits for the slowest: when that reads on, or is gone, all others get the rest."""
    big = Random(15).randbytes(24 << 20)
    upstream, proxy = await start(flow)
    upstream.add("/pypi/big", big, stall_after=FIRST)
    disk.fail("full", 1 << 20)
    slow = await proxy.connect(1 << 16)
    answers = [slow.ask("/pypi/big"), *[await proxy.ask("/pypi/big") for _ in range(3)]]
    for answer in answers:
        await answer.received(FIRST)
    slow.pause()
    upstream.release("/pypi/big")
    await answers[1].received(FIRST + 1)
    sent = -1
    while sent != upstream.bytes_sent:
        sent = upstream.bytes_sent
        for _ in range(5):
            await proxy.get("/health")
    assert sent < len(big)
    if leaves:
        slow.vanish()
        del answers[0]
    else:
        slow.resume()
    for answer in answers:
        assert (await answer.ended()).sha256 == sha256(big).hexdigest()
    assert upstream.count("/pypi/big") == 1


@pytest.mark.parametrize("failure", FAILURES)
@bounded
async def test_what_was_kept_is_had_all_the_while(flow, disk, failure):
    """From the cache where it can be read, from upstream where not; pages too."""
    _, proxy = await start(flow)
    before = await proxy.get("/simple/demo/")
    disk.fail(failure, 0)
    for _ in range(2):
        for target, body in WARM.items():
            assert bytes((await proxy.get(target)).body) == body
        assert bytes((await proxy.get("/simple/demo/")).body) == bytes(before.body)
    await proxy.settled(*WARM, "/simple/demo/")


@pytest.mark.parametrize("failure", FULL)
@bounded
async def test_a_full_disk_is_made_room_on(flow, disk, failure):
    """What was used least recently goes, down to the low mark of what there is; what is new has room then."""
    upstream, proxy = await start(flow)
    before = proxy.program.holdings.catalog.total_bytes
    disk.fail(failure, 1 << 20)
    await ten_clients(upstream, proxy)
    catalog = proxy.program.holdings.catalog
    await eventually(lambda: catalog.total_bytes <= 0.7 * before)
    assert catalog.total_bytes > 0.5 * before
    gone = {target for target in WARM if target not in proxy.kept}
    assert gone == set(list(WARM)[: len(gone)])
    assert proxy.parts == []


@pytest.mark.parametrize("failure", [name for name in FAILURES if name not in FULL])
@bounded
async def test_nothing_is_evicted_where_room_would_not_help(flow, disk, failure):
    """A disk that fails otherwise keeps what it has."""
    upstream, proxy = await start(flow)
    disk.fail(failure, 1 << 20)
    await ten_clients(upstream, proxy)
    await proxy.settled(FILE)
    disk.recover()
    assert proxy.kept == {"/simple/demo/", *WARM}


@pytest.mark.parametrize("instead", [None, b"a file"], ids=["removed", "replaced by a file"])
@bounded
async def test_the_directory_is_removed_in_mid_body(flow, instead):
    """Really removed: the transfer goes on, and the directory is made again where that is possible."""
    upstream, proxy = await start(flow)
    answer = await proxy.ask(FILE)
    await answer.received(FIRST)
    shutil.rmtree(proxy.cache_dir)
    if instead is not None:
        proxy.cache_dir.write_bytes(instead)
    upstream.push(FILE, BODY[FIRST:])
    upstream.finish(FILE)
    assert (await answer.ended()).sha256 == sha256(BODY).hexdigest()
    await proxy.settled(FILE)
    await check_degraded(proxy, "cache directory")
    if instead is not None:
        assert bytes((await proxy.get("/pypi/warm-1")).body) == WARM["/pypi/warm-1"]
        await check_degraded(proxy, "cache directory")
        proxy.cache_dir.unlink()
    await check_recovers(upstream, proxy)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, timeout=10)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB where the first proxy has its directory; skipped where none can be mounted."""
    folder = tmp_path / "cache-0"
    folder.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", folder)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system cannot be mounted here: {getattr(error, 'stderr', None) or error}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True, capture_output=True, timeout=10)


@bounded
async def test_a_real_disk_is_full(small_disk, flow):
    """Somebody else fills it in mid-body, and clears it again."""
    upstream, proxy = await start(flow)
    answer = await proxy.ask(FILE)
    await answer.received(FIRST)
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(16 << 20))
    upstream.push(FILE, BODY[FIRST:])
    upstream.finish(FILE)
    assert (await answer.ended()).sha256 == sha256(BODY).hexdigest()
    await proxy.settled(FILE)
    await check_degraded(proxy, os.strerror(errno.ENOSPC))
    filler.unlink()
    await check_recovers(upstream, proxy)


@bounded
async def test_a_real_disk_is_read_only(small_disk, flow):
    """Remounted so: hits are hits, the rest is fetched and not kept, until it can be written again."""
    upstream, proxy = await start(flow)
    _mount("-o", "remount,ro", small_disk)
    await ten_clients(upstream, proxy)
    await proxy.settled(FILE)
    await check_degraded(proxy, os.strerror(errno.EROFS))
    assert (await proxy.get("/pypi/warm-1"))["x-cache-status"] == "HIT"
    _mount("-o", "remount,rw", small_disk)
    await check_recovers(upstream, proxy)
