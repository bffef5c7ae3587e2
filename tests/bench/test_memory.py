"""Memory that is kept for what the rounds store."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from bench import memory
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


@pytest.mark.parametrize(
    ("most", "available_bytes"), [("max", 8 * MB), ("6291456", 4 * MB), ("1048576", 0), (None, 8 * MB)]
)
def test_a_container_has_no_more_than_its_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, most: str | None, available_bytes: int
) -> None:
    """Whatever the machine has; and on one without limits the machine's counts."""
    (tmp_path / "meminfo").write_text("MemTotal: 16384 kB\nMemAvailable: 8192 kB\n")
    (tmp_path / "memory.current").write_text("2097152\n")
    if most is not None:
        (tmp_path / "memory.max").write_text(f"{most}\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert memory._available_bytes() == available_bytes
    with loose_pages(64 * MB) as loose:
        assert loose == available_bytes // 6 // mmap.PAGESIZE * mmap.PAGESIZE
