"""Whatever is killed, cut, stalled, evicted, changed, wrong or gone: right bytes, or a visible failure, and no debris."""

from __future__ import annotations

import pytest

from tests.fakes.world import small_sizes
from tests.simulation.schedule import run_seed

SEEDS = 200
CHUNK = 10


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_everything_holds_whatever_happens(first: int) -> None:
    """1,000 random steps of each seed break none of the invariants; see ``invariants``, ``readers`` and ``Watch``."""
    with small_sizes():
        for seed in range(first, first + CHUNK):
            run_seed(seed)


@pytest.mark.parametrize(("seed", "steps"), [(27, 100), (1, 200), (14, 200), (31, 200)])
def test_a_run_may_end_while_the_disk_is_broken(seed: int, steps: int) -> None:
    """Cut short where a disk that fails has just kept something from being removed: it is gone after the next start."""
    with small_sizes():
        run_seed(seed, steps)


def test_a_seed_always_does_the_same() -> None:
    """Two runs of one seed take the same steps at the same times, so a failing one can be looked at again."""
    with small_sizes():
        assert run_seed(4, 300) == run_seed(4, 300)
