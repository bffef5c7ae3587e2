"""All scenarios, in the order of the table."""

from __future__ import annotations

from typing import Final

from bench.scenario import Scenario
from bench.scenarios import cold, crowd, hot_files, hot_pages, installs, large_caches, memory

SCENARIOS: Final[tuple[Scenario, ...]] = (
    *hot_pages.SCENARIOS,
    *hot_files.SCENARIOS,
    *cold.SCENARIOS,
    *crowd.SCENARIOS,
    *memory.SCENARIOS,
    *large_caches.SCENARIOS,
    *installs.SCENARIOS,
)
