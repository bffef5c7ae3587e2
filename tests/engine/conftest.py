"""What the tests of the engine as a whole share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.cache import Cached


@pytest.fixture
def cached(tmp_path: Path) -> Iterator[Cached]:
    """An empty cache; when the test is over nothing may be left in any books."""
    one = Cached(tmp_path / "cache")
    yield one
    one.check_books()
