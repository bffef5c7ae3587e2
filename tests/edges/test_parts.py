"""Parts: leased while they grow, and cleared when nobody owns them and nobody can go on with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipcache.edges.disk import DiskStore
from pipcache.edges.files import Files
from pipcache.edges.parts import RESUMABLE_SECONDS
from pipcache.rules.meta import promised_digest
from tests.edges.left_parts import DATA, HALF, PLAIN, PROMISED, SHA256, TOKEN, clear, parts, put, resume, resumed
from tests.edges.storing import new_store
from tests.fakes.files import FailingFiles, tree


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    """A store that is ready."""
    store = new_store(tmp_path / "cache")
    store.prepare()
    return store


# -- names and leases ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sha256", [None, SHA256])
def test_the_name_says_the_digest_and_the_lease_is_held(store: DiskStore, sha256: str | None) -> None:
    """A part of a body whose digest is known carries it; while somebody writes it nobody clears or takes it."""
    body = store.grow(sha256)
    assert body.part is not None
    assert promised_digest(Path(body.part.path).name) == sha256
    os.utime(body.part.path, (0, 0))
    assert clear(store) == clear(new_store(store.root)) == 0
    assert resume(store) is None
    assert parts(store) == {Path(body.part.path).name}
    body.close()
    assert clear(store) == 1
    assert parts(store) == set()


# -- clearing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "age", "grace_seconds", "stays"),
    [
        (PLAIN, 0, 0.0, False),
        (PLAIN, 59, 60.0, True),
        (PLAIN, 60, 60.0, False),
        (PLAIN, 1e6, 60.0, False),
        (PLAIN, -59, 60.0, True),
        (PLAIN, -1, 0.0, False),
        (PLAIN, -1e6, 60.0, False),
        (PROMISED, 0, 0.0, True),
        (PROMISED, RESUMABLE_SECONDS - 1, 0.0, True),
        (PROMISED, RESUMABLE_SECONDS, 0.0, False),
        (PROMISED, RESUMABLE_SECONDS + 1, 60.0, False),
        (PROMISED, -59, 60.0, True),
        (PROMISED, -1e6, 60.0, False),
    ],
)
def test_how_long_a_part_stays(store: DiskStore, name: str, age: float, grace_seconds: float, stays: bool) -> None:
    """One that says its digest for an hour, any other for its grace; a time in the future is as far off as one past."""
    put(store, name, age=age)
    assert clear(store, grace_seconds) == (0 if stays else 1)
    assert parts(store) == ({name} if stays else set())
    assert (resume(store) is not None) == (stays and name == PROMISED)


@pytest.mark.parametrize(
    "name",
    [
        f"{TOKEN}.{SHA256}.part.bak",
        f"{TOKEN}.{SHA256[1:]}.part",
        f"{TOKEN}.{SHA256.upper()}.part",
        f"{TOKEN}.{SHA256}",
        f"{TOKEN[1:]}.{SHA256}.part",
        f"{SHA256}.part",
        f"{TOKEN}..part",
    ],
)
def test_foreign_names_are_neither_cleared_nor_resumed(store: DiskStore, name: str) -> None:
    """What is not exactly of our form is nobody's business, however old."""
    put(store, name, age=0)
    put(store, name + "x", age=1e9)
    before = tree(store.root)
    assert clear(store) == 0
    assert resume(store) is None
    assert tree(store.root) == before


def test_neither_links_nor_folders_are_resumed(store: DiskStore, tmp_path: Path) -> None:
    """A name of our form that is no file stays as it is; what a link leads to is not read, written or leased."""
    outside = tmp_path / "outside"
    outside.write_bytes(DATA[:HALF])
    (store.root / "tmp" / PROMISED).symlink_to(outside)
    other = "1" * 64
    (store.root / "tmp" / f"{TOKEN}.{other}.part").mkdir()
    assert clear(store) == 0
    assert resume(store) is resume(store, other) is None
    assert outside.read_bytes() == DATA[:HALF]


def test_a_part_that_became_a_link_is_not_resumed(store: DiskStore, tmp_path: Path) -> None:
    """Swapped after it was found: refused when it is opened."""
    path = put(store)
    clear(store)
    outside = tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(outside)
    assert resume(store) is None
    assert outside.read_bytes() == DATA[:HALF]


class VanishingParts(Files):
    """One part is gone between its being listed and its being looked at."""

    def entries(self, path: Path) -> Iterator[Any]:
        """As listed; the first is gone when it is handed out."""
        found = list(super().entries(path))
        (path / found[0].name).unlink()
        yield from found


def test_a_part_that_vanishes_hides_no_other(store: DiskStore) -> None:
    """One that is published while parts are cleared keeps none of the others from being cleared or resumed."""
    for number in range(3):
        put(store, f"{number:032x}.{SHA256}.part")
    old = {f"{number:032x}.part" for number in range(3)}
    for name in old:
        put(store, name, age=100)
    vanishing = new_store(store.root, VanishingParts())
    cleared = clear(vanishing)
    assert cleared in (2, 3)  # the one that vanished is one of them, or not
    assert not parts(store) & old
    resumed(vanishing).close()


@pytest.mark.parametrize("call", ["entries", "open", "lease", "unlink"])
def test_clearing_never_fails(store: DiskStore, call: str) -> None:
    """Whatever the disk refuses: that part stays for the next time, and no descriptor is lost."""
    put(store, PLAIN, age=100)
    put(store, f"{'1' * 32}.{SHA256}.part", age=1e5)
    before = len(os.listdir("/proc/self/fd"))
    failing = new_store(store.root, FailingFiles(0, only=(call,)))
    assert clear(failing) == (0 if call == "entries" else 1)
    assert len(os.listdir("/proc/self/fd")) == before
    assert clear(failing) == (2 if call == "entries" else 1)
    assert parts(store) == set()
