"""One session, always the same: misses, hits, a page that is replaced, a change on disk, evictions, a stop, a restart.

The upstreams are well, so whatever the disk does every client must get every byte; only what the disk no longer gives
back of a body that is being sent may break off, visibly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from twisted.internet.defer import Deferred

from pipcache.rules.catalog import Limits
from tests.fakes.exchanges import Character
from tests.fakes.readers import Reader, Wrong
from tests.fakes.truth import TRUTH, key_of_path, page_path
from tests.fakes.world import World
from tests.simulation.invariants import check_quiet, check_restarted

_FILES = [file.path for file in TRUTH.projects["p0"]]
_METADATA = f"{_FILES[0]}.metadata"
_CROWD = [path for path, content in TRUTH.contents.items() if 4_000 < len(content) < 15_000][:4]
_LIMITS = Limits(30_000, 40, 0.9, 0.6)
"""So small that the crowd does not fit, and that what is over 15,000 bytes is passed through a window."""
_PASSED = next(path for path, content in TRUTH.contents.items() if len(content) == 60_000)
_PATHS = (page_path("p0"), *_FILES, _METADATA, *_CROWD, _PASSED, *(page_path(name) for name in TRUTH.projects))


class Session:
    """Runs it in a world of its own; ``may_break``: a body that is being sent may break off."""

    def __init__(self, *, may_break: bool = False) -> None:
        self.world = World(1, _LIMITS)
        self.world.haste = 1.0
        self.world.folders = tuple(sorted({key_of_path(path).folder for path in _PATHS}))
        self.world.characters.update({name: Character(chunked=0.3) for name in self.world.characters})
        self.may_break = may_break
        self.passed_bytes = 0
        self.calls: Counter[str] = Counter()  # of each kind, as long as something may fail

    def run(self, after_each: Callable[[], None] = lambda: None) -> None:
        """All of it, and what must hold at its end, when the disk works again, and after a restart.

        Raises:
            Wrong: it does not hold.
        """
        stages = (self._start, self._miss, self._hit, self._replace, self._change, self._crowd, self._hit, self._stop)
        for stage in (*stages, self._hit):
            stage()
            after_each()
        world = self.world
        self.calls = Counter(world.disk.calls)
        world.mend_disk()
        world.rest()
        self._check()
        world.process.clock.advance(3700.0)
        world.restart()
        world.rest()
        self._check()
        check_restarted(world)
        self.may_break = False
        self._hit()
        if not world.process.store.read(key_of_path(_FILES[0])):
            raise Wrong("a disk that works again keeps nothing")

    def _check(self) -> None:
        self.world.process.janitor.nudge()
        self.world.rest()
        self.world.look_at_ended(self.world.process)
        check_quiet(self.world)

    # -- stages ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self.world.restart()
        self.world.rest()

    def _miss(self) -> None:
        self._get(page_path("p0"))
        self._get(*_FILES, _METADATA, _FILES[0])

    def _hit(self) -> None:
        self.world.process.clock.advance(5.0)  # a later use than the one that is noted on disk
        self._get(page_path("p0"), _FILES[0], _METADATA)

    def _replace(self) -> None:
        self.world.process.clock.advance(400.0)
        self._get(page_path("p0"))

    def _change(self) -> None:
        """Somebody changes a kept body, and one is touched only."""
        files = self.world.disk.files("/cache/")
        for path, bits in ((_FILES[1], 1), (_FILES[2], 0)):
            key = key_of_path(path)
            inode = files.get(f"/cache/{key.folder}/{key.stem}.body")
            if inode is not None and inode.data:
                inode.data[-1] ^= bits
                inode.modified_ns += 1
        self._get(*_FILES[1:3])

    def _crowd(self) -> None:
        for path in (*_CROWD, _PASSED):
            self._get(path)
        kept = self.world.process.store.read(key_of_path(_PASSED))
        self.passed_bytes = len(TRUTH.contents[_PASSED]) if kept is None else 0
        self.world.process.janitor.nudge()
        self.world.rest()

    def _stop(self) -> None:
        process = self.world.process
        process.janitor.stop()
        process.scrub.stop()
        Deferred.fromCoroutine(process.holdings.note_uses())
        self.world.rest()
        self.world.restart()

    def _get(self, *paths: str) -> None:
        """Everybody gets what is right, all at once."""
        world = self.world
        readers = [Reader(path, "GET", (), world.random, 1.0) for path in paths]
        for reader in readers:
            world.process.readers.append(reader)
            reader.ask(world.process.cache, world.process.clock)
        process = world.process
        world.rest()
        if process.is_dead:
            return
        world.look_at_ended(process)
        for reader in readers:
            if reader.end != "finished" and not (self.may_break and reader.end == "aborted"):
                raise Wrong(f"{reader.path} {reader.end} with status {reader.status}")
