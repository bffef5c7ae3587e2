"""Memory that is kept for what the rounds store."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import memory
from bench.memory import loose_pages

MB = 1 << 20
PAGE_BYTES = 4096


def held_bytes() -> int:
    """What this process has of the memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def test_a_sixteenth_is_held_and_the_rest_is_free() -> None:
    """Nearly as much as was asked for is given back to the system while the rest is held, and that behind the run."""
    before = held_bytes()
    with loose_pages(256 * MB) as loose:
        assert loose == 240 * MB
        assert 12 * MB < held_bytes() - before < 24 * MB
    assert held_bytes() - before < 8 * MB


@pytest.mark.parametrize(
    ("most", "available_bytes"), [("max", 9 * MB), ("5242880", 3 * MB), ("1048576", 0), (None, 9 * MB)]
)
def test_a_container_has_no_more_than_its_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, most: str | None, available_bytes: int
) -> None:
    """Whatever the machine has; and on one without limits the machine's counts."""
    (tmp_path / "meminfo").write_text("MemTotal: 16384 kB\nMemAvailable: 9216 kB\n")
    (tmp_path / "memory.current").write_text("2097152\n")
    if most is not None:
        (tmp_path / "memory.max").write_text(f"{most}\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert memory._available_bytes() == available_bytes
    with loose_pages(64 * MB) as loose:
        assert loose == available_bytes // 3 * 15 // 16
