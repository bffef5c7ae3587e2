"""One failing call, or a kill, at every moment of a session that is always the same: no lie on disk, nothing lost."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

import pytest

from tests.fakes.memory_files import CHANGING_KINDS, KINDS, Trouble
from tests.fakes.world import WINDOW_BYTES, World, small_sizes
from tests.simulation.session import Session

CASES = [(kind, "EIO") for kind in KINDS if kind != "open_part"]  # the session resumes nothing
CASES += [(kind, "ENOSPC") for kind in ("make_folders", "create", "write", "rename")]


@pytest.fixture(scope="module")
def calls() -> Counter[str]:
    """How many calls of each kind the session makes where nothing fails."""
    with small_sizes():
        session = Session()
        session.run()
        return session.calls


def test_the_session_meets_everything(calls: Counter[str]) -> None:
    """Left alone the session does all it is for: every call is made, something is evicted, found wrong, passed through."""
    met: Counter[str] = Counter()
    with small_sizes():
        session = Session()

        def look() -> None:
            events = session.world.process.events
            met.update(evicted=events.evictions, found=len(events.found))

        session.run(look)
    assert met["evicted"]
    assert met["found"]
    assert set(calls) >= {kind for kind, _ in CASES}
    assert session.passed_bytes > WINDOW_BYTES


@pytest.mark.parametrize("is_lasting", [False, True], ids=["once", "from-then-on"])
@pytest.mark.parametrize(("kind", "error"), CASES)
def test_the_nth_call_fails(calls: Counter[str], kind: str, error: str, is_lasting: bool) -> None:
    """Whichever call fails, once or from then on: clients get every byte, and disk and books are right, also later."""
    assert calls[kind]
    for n in range(1, calls[kind] + 1):

        def trouble(each: str, count: int, n: int = n) -> int | None:
            return getattr(errno, error) if each == kind and (count >= n if is_lasting else count == n) else None

        with small_sizes(), told(f"{kind} number {n} of {calls[kind]} fails with {error}"):
            session = Session(may_break=kind == "read_at")
            session.world.disk.trouble = trouble
            session.run()


@pytest.mark.parametrize("loses_power", [False, True], ids=["kill", "power"])
def test_it_is_killed_before_the_nth_change(calls: Counter[str], loses_power: bool) -> None:
    """Wherever it is killed, with or without the loss of what was not synced: after a restart all is whole and right."""
    changes = sum(calls[kind] for kind in CHANGING_KINDS)
    for n in range(1, changes + 1):
        with small_sizes(), told(f"killed before change {n} of {changes}"):
            # what is resumed after a loss of power may be found wrong at its end, when clients have the rest of it
            session = Session(may_break=loses_power)
            session.world.disk.trouble = killing(session.world, n)
            session.run(after_each=partial(restart_if_dead, session.world, loses_power))
            assert session.world.disk.trouble is None


def killing(world: World, n: int) -> Trouble:
    """Kill the process before the n-th change of the disk."""
    left = count(n, -1)

    def trouble(kind: str, _: int) -> int | None:
        if kind not in CHANGING_KINDS or next(left) != 1:
            return None
        world.process.is_dead = True
        world.process.files.kill()
        return errno.EBADF

    return trouble


def restart_if_dead(world: World, loses_power: bool) -> None:
    """Start it again where it was killed."""
    if world.process.is_dead:
        world.disk.trouble = None
        world.restart(loses_power=loses_power)
        world.rest()


@contextmanager
def told(what: str) -> Iterator[None]:
    """Say which of many it was."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{what}: {error}") from error
