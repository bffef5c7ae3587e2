"""The schedule of a seed: 1,000 random steps, with moments of quiet in between at which everything must add up."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.internet.defer import Deferred

from pipcache.rules.fields import Fields, get
from pipcache.rules.pace import Pace
from tests.fakes.readers import Reader, Wrong
from tests.fakes.truth import TRUTH
from tests.fakes.world import World
from tests.simulation.invariants import check_bodies, check_quiet, check_restarted

STEPS = 1000
QUIET_EVERY = 250
_LOOK_EVERY = 10


class Simulation:
    """Runs one seed; raises ``Wrong`` with what the seed did last."""

    def __init__(self, seed: int, pace: Pace | None = None) -> None:
        self.seed = seed
        self.world = World(seed, pace=pace)
        self.log: list[str] = []
        self._etags: dict[str, str] = {}
        actions: tuple[tuple[int, Callable[[], None]], ...] = (
            (340, self._upstream_moves),
            (240, self._job_runs),
            (130, self._client_comes),
            (110, self._client_moves),
            (110, self._moment_passes),
            (16, self._time_passes),
            (10, self._disk_changes),
            (10, self._upstream_changes),
            (8, self._janitor_looks),
            (4, self._file_changes),
            (4, self._restarts),
        )
        self._actions = [action for _, action in actions]
        self._weights = [sum(weight for weight, _ in actions[: i + 1]) for i in range(len(actions))]

    def run(self, steps: int = STEPS) -> None:
        """Every step, and the end.

        Raises:
            Wrong: something happened that must never be.
        """
        step = 0
        try:
            for step in range(1, steps + 1):
                self._step()
                if step % _LOOK_EVERY == 0:
                    self._look()
                if step % QUIET_EVERY == 0:
                    self._be_quiet()
            self._end()
        except Exception as error:
            raise Wrong(
                f"seed {self.seed}, step {step}: {error}\n  run it alone: python -m tests.simulation.seed {self.seed}\n  "
                + "\n  ".join(self.log[-25:])
            ) from error

    def _step(self) -> None:
        self.world.random.choices(self._actions, cum_weights=self._weights)[0]()

    def _note(self, text: str) -> None:
        self.log.append(f"{self.world.process.clock.seconds():.3f} {text}")

    def _look(self) -> None:
        self.world.look_at_ended(self.world.process)
        check_bodies(self.world)

    # -- what may happen ---------------------------------------------------------------------------------------------

    def _upstream_moves(self) -> None:
        exchanges = self.world.process.client.open
        if exchanges:
            self.world.random.choice(exchanges).advance()

    def _job_runs(self) -> None:
        self.world.process.run_job()

    def _client_comes(self) -> None:
        world, random = self.world, self.world.random
        path = random.choice(world.paths)
        method = "HEAD" if random.random() < 0.06 else "GET"
        reader = Reader(path, method, self._fields(path, random), random, world.haste)
        world.process.readers.append(reader)
        reader.has_promise = path in TRUTH.digests and world.is_named(path)
        self._note(f"{method} {path} {reader.fields}")
        reader.ask(world.process.cache, world.process.clock)
        if reader.end == "finished" and (etag := get(reader.head, "etag")):
            self._etags[path] = etag

    def _fields(self, path: str, random: Random) -> Fields:
        kind = random.random()
        if kind > 0.16:
            return ()
        size = len(TRUTH.contents.get(path, b"x" * 300)) + 1
        first = random.randrange(size)
        wanted = random.choice((f"{first}-", f"{first}-{first + random.randrange(4000)}", f"-{first + 1}", "0-"))
        fields: Fields = (("range", f"bytes={wanted}"),)
        if kind < 0.04:
            fields += (("if-range", self._etags.get(path, '"nothing"')),)
        return fields

    def _client_moves(self) -> None:
        readers, random = self.world.process.readers, self.world.random
        if not readers:
            return
        reader = random.choice(readers)
        if reader.end is not None:
            return
        move = random.random()
        if move < 0.8:
            reader.resume()
        elif move < 0.9:
            reader.pause()
        else:
            self._note(f"the client of {reader.path} leaves")
            reader.leave()

    def _moment_passes(self) -> None:
        self.world.process.clock.advance(self.world.random.choice((0.0, 0.0, 0.01, 0.3)))

    def _time_passes(self) -> None:
        seconds = self.world.random.choice((3.0, 11.0, 31.0, 31.0, 400.0, 4000.0))
        self._note(f"{seconds:g} s pass")
        self.world.process.clock.advance(seconds)

    def _disk_changes(self) -> None:
        if self.world.disk.trouble is None and self.world.random.random() < 0.5:
            self._note("the disk breaks")
            self.world.break_disk()
        else:
            self.world.mend_disk()

    def _upstream_changes(self) -> None:
        character = self.world.random.choice(list(self.world.characters.values()))
        character.is_down = not character.is_down and self.world.random.random() < 0.5

    def _janitor_looks(self) -> None:
        self.world.process.janitor.nudge()

    def _file_changes(self) -> None:
        self._note("a file is changed")
        self.world.tamper()

    def _restarts(self) -> None:
        how = self.world.random.random()
        if how < 0.2:
            self._stops_cleanly()
        else:
            self._note("killed" if how < 0.6 else "power lost")
            self.world.restart(loses_power=how >= 0.6)

    def _stops_cleanly(self) -> None:
        self._note("stopped")
        process = self.world.process
        process.janitor.stop()
        process.scrub.stop()
        self.world.rest()
        Deferred.fromCoroutine(process.holdings.note_uses())
        self.world.rest()
        self.world.look_at_ended(process)
        self.world.restart()

    # -- quiet -------------------------------------------------------------------------------------------------------

    def _be_quiet(self) -> None:
        """Mend what is broken, let everything end, and see whether all adds up."""
        self._note("quiet")
        world = self.world
        world.mend_disk()
        self.world.rest()
        world.process.janitor.nudge()
        self.world.rest()
        self._look()
        check_quiet(world)

    def _end(self) -> None:
        """One more restart: what is served then is whole and right, and what nobody owns is gone in time."""
        world = self.world
        world.mend_disk()  # what cannot be removed now is removed by a later scan, for which nobody waits here
        world.process.clock.advance(3700.0)  # orphans and parts are past their grace
        world.restart()
        self._note("restarted")
        self.world.rest()
        self._be_quiet()
        check_restarted(world)
        for path in sorted(set(world.paths)):
            reader = Reader(path, "GET", (), world.random, 1.0)
            world.process.readers.append(reader)
            reader.ask(world.process.cache, world.process.clock)
        self._be_quiet()
        world.process.kill()


def run_seed(seed: int, steps: int = STEPS, pace: Pace | None = None) -> list[str]:
    """Run one seed; what it did. ``pace``: of appending; None: it is fast."""
    simulation = Simulation(seed, pace)
    simulation.run(steps)
    return simulation.log
