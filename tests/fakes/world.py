"""A world for one seed: the real Cache, Fetch, DiskStore, Janitor and Scrub, and around them only what is simulated.

``World`` is what outlives a restart: the disk, the upstreams, the truth of what was said, the wall clock. ``Process`` is
one life of the program. Whatever may happen next (an answer, a chunk, an end, a job in a thread, a timer, a client's
pause) waits until the world picks it, in an order that the seed alone decides.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from unittest.mock import patch

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pipcache.edges import parts
from pipcache.edges.body import GrowingBody
from pipcache.edges.disk import DiskStore
from pipcache.engine import fetch, follower
from pipcache.engine.absences import Absences
from pipcache.engine.appending import Appending
from pipcache.engine.cache import Cache
from pipcache.engine.holdings import Holdings
from pipcache.engine.janitor import Janitor
from pipcache.engine.scrub import Scrub
from pipcache.engine.upstreams import Upstreams
from pipcache.rules import response
from pipcache.rules.catalog import Catalog, Limits
from pipcache.rules.errors import StorageError
from pipcache.rules.freshness import Grace, Ttls
from pipcache.rules.pace import Pace
from tests.fakes.exchanges import Character, Said, SimulatedClient
from tests.fakes.memory_files import CHANGING_KINDS, KINDS, MemoryDisk, MemoryFiles
from tests.fakes.readers import Reader, Wrong
from tests.fakes.truth import ALL_PATHS, SITES, key_of_path, page_path
from tests.fakes.watch import Watch

T = TypeVar("T")

ROOT = Path("/cache")
TTLS = Ttls(300.0, 87600 * 3600.0, 3600.0)
LIMITS = Limits(200_000, 30, 0.9, 0.7)
WINDOW_BYTES = 1 << 14
FOLDERS = tuple(sorted({key_of_path(path).folder for path in ALL_PATHS}))
MOST_ROUNDS = 4000
"""As much as any world needs to come to rest; in one that needs more something hangs."""
QUARANTINE_SHARE = 100
_EPOCH = 1_800_000_000.0
_ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.ENOENT)


@contextmanager
def small_sizes() -> Iterator[None]:
    """Make the program's buffers as small as the simulated bodies, so that they fill."""
    with (
        patch.object(fetch, "WINDOW_BYTES", WINDOW_BYTES),
        patch.object(follower, "CHUNK_BYTES", 2048),
        patch.object(parts, "WORTH_BYTES", 1024),
        patch.object(response, "NEAR_BYTES", 4096),
    ):
        yield


class Process:
    """One life of the program, from start to stop or kill."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.is_dead = False
        self.had_trouble = world.disk.trouble is not None  # then it may have missed an entry
        self.clock = Clock()
        self.clock.rightNow = world.seconds
        self.jobs: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        self.readers: list[Reader] = []
        self.bodies: list[GrowingBody] = []
        self.files = MemoryFiles(world.disk)
        self.events = Watch(self)
        self.client = SimulatedClient(world.random, self.clock, world.characters, world.said)
        self.upstreams = Upstreams(self.client, self.clock, self.events)
        self.catalog = Catalog()
        token = world.token
        self.store = DiskStore(ROOT, self.in_thread, world.limits.max_bytes // QUARANTINE_SHARE, self.files, token)
        self.store.folders = lambda: iter(world.folders)  # type: ignore[method-assign]  # all that our paths can be in
        limits = world.limits
        self.janitor = Janitor(self.store, self.catalog, limits, self.clock, world.now, self.events)
        self.holdings = Holdings(
            self.store,
            self.catalog,
            limits,
            TTLS,
            Grace(0.0, 0.0),
            world.now,
            self.events,
            self.janitor.nudge,
            self.in_thread,
            Appending(world.pace, self.in_thread, self.clock.seconds),
        )
        absences = Absences(self.clock.seconds, TTLS, 0.0)
        self.cache = Cache.of(self.holdings, self.upstreams, absences, self.clock, self.in_thread, token, self.events)
        self.scrub = Scrub(self.store, self.catalog, self.clock, self.events, 3000.0)
        self._watch_bodies()

    def start(self) -> None:
        """As the service does."""
        try:
            self.store.prepare()
        except StorageError as error:
            self.events.storage_failed(error)
        Deferred.fromCoroutine(self.janitor.scan())
        self.scrub.start()
        self.upstreams.now_known(self.world.sites)

    def in_thread(self, function: Callable[[], T]) -> Awaitable[T]:
        """Run it when the world picks it."""
        done: Deferred[T] = Deferred()
        self.jobs.append((function, done))
        return done

    def run_job(self) -> None:
        """One of the four threads ends what it does."""
        if not self.jobs:
            return
        function, done = self.jobs.pop(self.world.random.randrange(min(4, len(self.jobs))))
        try:
            result = function()
        except Exception as error:
            done.errback(error)
        else:
            done.callback(result)

    def kill(self) -> None:
        """It is no more; its clients notice."""
        self.is_dead = True
        self.files.kill()
        for reader in self.readers:
            reader.end = reader.end or "cut"
        self.world.look_at_ended(self)
        self.jobs.clear()
        self.client.open.clear()
        self.clock.calls.clear()

    def _watch_bodies(self) -> None:
        """Know every body that grows, to see how much memory it holds."""
        for name in ("grow", "window"):
            original = getattr(self.store, name)

            def watched(*args: Any, original: Any = original) -> GrowingBody:
                body: GrowingBody = original(*args)
                self.bodies.append(body)
                return body

            setattr(self.store, name, watched)


class World:
    """One seed's world."""

    def __init__(self, seed: int, limits: Limits = LIMITS, pace: Pace | None = None) -> None:
        self.random = Random(seed)
        self.limits = limits
        self.pace = pace or Pace()
        self.folders = FOLDERS
        self.seconds = 1000.0
        self.said = Said()
        self.wrongs: list[str] = []
        self.disk = MemoryDisk(self.now)
        random = self.random
        is_untrusted = random.random() < 0.6
        self.sites = (*SITES[:2], evolve(SITES[2], is_trusted=not is_untrusted))
        self.characters = {
            site.name: Character.drawn(random, is_liar=not site.is_trusted or random.random() < 0.15)
            for site in self.sites
        }
        self.characters["files"] = Character.drawn(random, is_liar=random.random() < 0.2)
        self.paths = random.sample(ALL_PATHS, 14) + random.sample(ALL_PATHS, 2) * 4
        self.haste = random.choice((0.5, 0.9, 0.99))
        self.ended: list[Reader] = []
        self.process = Process(self)
        self.process.start()

    def now(self) -> float:
        """The wall clock, epoch seconds."""
        return _EPOCH + (self.process.clock.seconds() if hasattr(self, "process") else self.seconds)

    def token(self, count: int) -> str:
        """Random hex digits."""
        return self.random.randbytes(count).hex()

    def restart(self, *, loses_power: bool = False) -> None:
        """Kill the process, which loses what was not synced where power goes too, and start another."""
        self.seconds = self.process.clock.seconds()
        self.process.kill()
        if loses_power:
            self.disk.lose_power(self.random)
        self.process = Process(self)
        self.process.start()

    def look_at_ended(self, process: Process) -> None:
        """Check every client that has ended, and every body's share of memory.

        Raises:
            Wrong: a client was given what it must not be given, or memory grows.
        """
        if self.wrongs:
            raise Wrong(self.wrongs[0])
        going = []
        for reader in process.readers:
            if reader.end is None:
                going.append(reader)
            elif reader.end == "crashed":
                raise Wrong(f"answering {reader.path} crashed: {reader.crash}")
            else:
                reader.check(self.said)
        process.readers = going

    def rest(self) -> None:
        """Let everything that has begun come to its end.

        Raises:
            Wrong: it never does.
        """
        process = self.process
        for _ in range(MOST_ROUNDS):
            for reader in process.readers:
                if reader.end is None:
                    reader.resume()
            for exchange in tuple(process.client.open):
                exchange.advance()
            for _ in range(len(process.jobs)):
                process.run_job()
            process.clock.advance(0)
            if any(call.getTime() <= process.clock.seconds() for call in process.clock.calls) or process.jobs:
                continue
            going = [reader for reader in process.readers if reader.end is None]
            if not any(exchange.can_advance for exchange in process.client.open) and not any(
                r.is_paused for r in going
            ):
                lost = [exchange.url for exchange in process.client.open if exchange.is_lost]
                if len(lost) == len(process.client.open) > 0:  # no other is silent, in whose place one of them waits
                    raise Wrong(f"a connection is never given back: {lost}")
                if not process.client.open:
                    break
                process.clock.advance(31.0)  # somebody is silent
        else:
            raise Wrong(f"no end of it: {[exchange.url for exchange in process.client.open]}")
        hanging = [f"{reader.path} {reader.fields}" for reader in process.readers if reader.end is None]
        if hanging:
            raise Wrong(f"clients hang: {hanging}")

    def is_named(self, path: str) -> bool:
        """Whether a page that is kept, and can be read, names a file."""
        if self.disk.trouble is not None or "/packages/" not in path:
            return False
        project = path.removesuffix(".metadata").rpartition("/")[2].split("-")[0]
        key, store = key_of_path(page_path(project)), self.process.store
        stored = store.read(key)
        body = store.open_body(key, stored) if stored is not None else None
        if body is None:
            return False
        content = body.read_at(0, body.length)
        body.close()
        return not body.is_suspect and path.removesuffix(".metadata").encode() in content

    # -- trouble -----------------------------------------------------------------------------------------------------

    def break_disk(self) -> None:
        """From now on some calls fail, or all that write do, or everything is gone."""
        random = self.random
        self.process.had_trouble = True
        how = random.randrange(5)
        ratio = random.choice((0.05, 0.3, 1.0))
        error = random.choice(_ERRORS)
        kinds = frozenset(random.sample(KINDS, 3))
        if how == 0:
            self.disk.remove_all()
        elif how == 1:
            self.disk.trouble = lambda kind, n: error if random.random() < ratio else None
        elif how == 2:
            self.disk.trouble = lambda kind, n: error if kind in kinds and random.random() < ratio else None
        elif how == 3:
            self.disk.trouble = lambda kind, n: errno.EROFS if kind in CHANGING_KINDS else None
        else:
            room = [random.randint(0, 30_000)]  # until it is full; what is removed makes no more of it
            full = frozenset({"create", "write", "make_folders"})
            self.disk.trouble = lambda kind, n: _fills(room, 700) if kind in full else None

    def mend_disk(self) -> None:
        """Everything works again."""
        self.disk.trouble = None

    def tamper(self) -> None:
        """Somebody changes a byte, or the size, of some file in the cache that nobody has open; a meta is cut short."""
        files = self.disk.files("/cache/")
        opened = {id(each.inode) for each in self.process.files.opened.values()}
        names = sorted(name for name in files if files[name].data and id(files[name]) not in opened)
        if not names:
            return
        name = self.random.choice(names)
        inode = files[name]
        inode.modified_ns = self.disk.now_ns() + 1
        if name.endswith(".meta") or self.random.random() < 0.3:
            del inode.data[self.random.randrange(len(inode.data)) :]
        elif self.random.random() < 0.8:
            inode.data[self.random.randrange(len(inode.data))] ^= 1


def _fills(room: list[int], size_bytes: int) -> int | None:
    room[0] -= size_bytes
    return errno.ENOSPC if room[0] < 0 else None
