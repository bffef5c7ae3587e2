"""What a start imports: the first hit waits for all of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORT = "import sys, twisted.scripts.twistd, pipcache.service.tap; print(*sys.modules)"


@pytest.fixture(scope="module")
def imported() -> frozenset[str]:
    """The modules that are there when twistd is about to make the service."""
    run = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, timeout=60, check=True)
    return frozenset(run.stdout.split())


@pytest.mark.parametrize("name", ["importlib.metadata", "platformdirs", "pip", "requests", "unittest"])
def test_a_start_does_without(imported: frozenset[str], name: str) -> None:
    """They take time, and a start does not need them, or not always."""
    assert name not in imported
