"""Memory that is kept for what the rounds store."""

from __future__ import annotations

from pathlib import Path

from bench.memory import loose_pages

MB = 1 << 20
PAGE_BYTES = 4096


def held_bytes() -> int:
    """What this process has of the memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def test_half_is_held_and_half_is_free() -> None:
    """As much as was asked for is given back to the system while the rest is held, and all of it behind the run."""
    before = held_bytes()
    with loose_pages(64 * MB) as loose:
        assert loose == 64 * MB
        assert 48 * MB < held_bytes() - before < 96 * MB
    assert held_bytes() - before < 16 * MB
