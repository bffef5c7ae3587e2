"""Run one seed alone: ``python -m tests.simulation.seed 17``."""

import sys

from tests.fakes.world import small_sizes
from tests.simulation.schedule import run_seed

if __name__ == "__main__":
    with small_sizes():
        run_seed(int(sys.argv[1]))
