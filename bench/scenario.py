"""What a scenario is: a name to choose it by, and a function."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from bench.results import Work
from bench.stage import Stage


@frozen
class Scenario:
    """``run`` measures; ``is_slow`` ones are left out of the quick form; ``needs_gb`` is room on the RAM disk."""

    name: str
    run: Callable[[Stage], Work]
    is_slow: bool = False
    needs_gb: int = 4
