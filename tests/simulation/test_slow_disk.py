"""Nothing changes for anybody where bodies are appended in threads, or where that changes in the middle of them."""

from __future__ import annotations

from random import Random

import pytest

from pipcache.rules.pace import Pace
from tests.fakes.world import small_sizes
from tests.simulation.schedule import run_seed

SEEDS = range(20)
STEPS = 500


class Slow(Pace):
    """It always is."""

    def __init__(self) -> None:
        super().__init__(is_slow=True)

    def note(self, seconds: float) -> None:
        """And stays so."""


class Changing(Pace):
    """One chunk in ten makes of a slow disk a fast one, or the other way round."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = Random(seed)

    def note(self, seconds: float) -> None:
        """Perhaps it is another now."""
        self.is_slow ^= self._random.random() < 0.1


@pytest.mark.parametrize("is_changing", [False, True])
def test_everything_holds_while_the_disk_is_slow(is_changing: bool) -> None:
    """The invariants of the simulation, with every body that has a file appended in threads, or with some."""
    with small_sizes():
        for seed in SEEDS:
            run_seed(seed, STEPS, Changing(seed) if is_changing else Slow())
