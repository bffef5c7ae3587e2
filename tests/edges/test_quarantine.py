"""Quarantine: what was wrong is kept with a note, within bounds, and is gone from where it was in any case."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.edges.files import Files
from pipcache.edges.quarantine import Quarantine
from tests.edges.storing import QUARANTINE_BYTES, entry_files, new_store, result_of
from tests.fakes.files import FailingFiles, SpyingFiles, tree

NOTE = {"key": "GET-/packages/x", "upstream": "one"}
MAX_BYTES = 10_000


def token(number: int) -> str:
    """The name of the n-th pair."""
    return f"{number:032x}"


class Scene:
    """A quarantine in a folder of its own, and bad files beside it."""

    def __init__(self, root: Path, files: Files | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.folder = root / "quarantine"
        self._root = root
        self._quarantine = Quarantine(self.folder, max_bytes, files or Files())
        self._count = 0

    def take(self, data: bytes, noted_at: float | None = None, modified_at: float = 1_700_000_000.0) -> str:
        """Put a file into quarantine, as if at ``noted_at``; returns its name there, without suffix."""
        self._count += 1
        path = self._root / "bad"
        path.write_bytes(data)
        os.utime(path, (modified_at, modified_at))
        self._quarantine.take(path, NOTE, token(self._count))
        assert not path.exists()
        note = self.folder / f"{token(self._count)}.json"
        if noted_at is not None and note.exists():
            os.utime(note, (noted_at, noted_at))
        return token(self._count)

    @property
    def names(self) -> set[str]:
        """What lies in the folder."""
        return {path.name for path in self.folder.iterdir()}

    @property
    def size(self) -> int:
        """How much of that is ours, in bytes."""
        return sum(path.stat().st_size for path in self.folder.iterdir())


def pair(name: str) -> set[str]:
    """A body and its note."""
    return {f"{name}.body", f"{name}.json"}


def test_a_bad_body_is_kept_with_a_note(tmp_path: Path) -> None:
    """The bytes as they were, and in JSON where they came from and how many they were; both their owner's alone."""
    scene = Scene(tmp_path)
    name = scene.take(b"wrong bytes")
    assert scene.names == pair(name)
    assert (scene.folder / f"{name}.body").read_bytes() == b"wrong bytes"
    assert json.loads((scene.folder / f"{name}.json").read_bytes()) == {**NOTE, "size": 11}
    assert (scene.folder / f"{name}.json").stat().st_mode & 0o777 == 0o600
    assert scene.folder.stat().st_mode & 0o777 == 0o700


def test_the_oldest_go_first(tmp_path: Path) -> None:
    """By when they were found to be wrong, whenever their bytes were written; a body and its note go together."""
    scene = Scene(tmp_path)
    first = scene.take(bytes(4000), noted_at=1_000_000_000.0, modified_at=1_000_000_500.0)
    second = scene.take(bytes(4000), noted_at=1_000_000_010.0, modified_at=1_000.0)
    assert scene.names == pair(first) | pair(second)
    third = scene.take(bytes(4000), noted_at=1_000_000_020.0, modified_at=0.0)
    assert scene.names == pair(second) | pair(third)
    fourth = scene.take(bytes(9000))
    assert scene.names == pair(fourth)


def test_a_body_whose_note_is_gone_goes_first(tmp_path: Path) -> None:
    """Nobody knows any more what it was."""
    scene = Scene(tmp_path)
    first = scene.take(bytes(4000), noted_at=1_000_000_000.0)
    second = scene.take(bytes(4000), noted_at=1_000_000_010.0)
    (scene.folder / f"{second}.json").unlink()
    third = scene.take(bytes(4000))
    assert scene.names == pair(first) | pair(third)


@pytest.mark.parametrize("size", [MAX_BYTES + 1, MAX_BYTES])
def test_one_that_is_too_large_leaves_its_note_only(tmp_path: Path, size: int) -> None:
    """Larger, note included, than the whole quarantine; those that are there stay."""
    scene = Scene(tmp_path)
    small = scene.take(b"small")
    large = scene.take(bytes(size))
    assert scene.names == pair(small) | {f"{large}.json"}
    assert json.loads((scene.folder / f"{large}.json").read_bytes())["size"] == size


def test_a_quarantine_of_no_size_keeps_nothing(tmp_path: Path) -> None:
    """Where none is wanted, what is wrong is removed all the same."""
    scene = Scene(tmp_path, max_bytes=0)
    scene.take(b"wrong")
    scene.take(b"")
    assert scene.names == set()


@given(sizes=st.lists(st.integers(0, 3000), max_size=30), max_bytes=st.integers(0, 5000))
def test_it_is_bounded_whatever_comes(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], max_bytes: int
) -> None:
    """However many bodies and notes of whichever sizes: never more than it may hold, and the newest that fits is there."""
    scene = Scene(tmp_path_factory.mktemp("scene"), max_bytes=max_bytes)
    for number, size in enumerate(sizes):
        name = scene.take(bytes(size), noted_at=1_000_000_000.0 + number)
        assert scene.size <= max_bytes
        note_size = len(json.dumps({**NOTE, "size": size}, indent=1)) + 1
        if size + note_size <= max_bytes:
            assert scene.names >= pair(name)


def test_what_is_not_ours_is_never_removed(tmp_path: Path) -> None:
    """Files of other names, links and folders in there stay, however old, and do not count."""
    scene = Scene(tmp_path)
    scene.take(b"", noted_at=1.0)
    outside = tmp_path / "outside"
    outside.write_bytes(bytes(9000))
    foreign = ["notes.json", "x.body", f"{token(1)}.txt", f"{token(99).upper()}F.body", f"{token(99)}.body.bak"]
    for name in foreign:
        (scene.folder / name).write_bytes(bytes(9000))
        os.utime(scene.folder / name, (0, 0))
    (scene.folder / f"{token(50)}.body").symlink_to(outside)
    (scene.folder / f"{token(51)}.body").mkdir()
    last = ""
    for number in range(4):
        last = scene.take(bytes(6000), noted_at=1_000_000_000.0 + number)
    assert scene.names == pair(last) | set(foreign) | {f"{token(50)}.body", f"{token(51)}.body"}
    assert outside.stat().st_size == 9000


@pytest.mark.parametrize("is_lasting", [False, True])
def test_a_disk_that_refuses_takes_nothing_wrong_back(tmp_path: Path, is_lasting: bool) -> None:
    """Whichever call fails, nothing is raised, no descriptor is lost, and the bad file is removed if it can be."""
    spying = SpyingFiles()
    Scene(tmp_path, spying).take(b"wrong")
    calls = len([name for name in spying.names if name != "close"])
    before = len(os.listdir("/proc/self/fd"))
    for nth in range(calls):
        files = FailingFiles(nth, OSError(errno.EROFS, os.strerror(errno.EROFS)), is_lasting=is_lasting)
        root = tmp_path / str(nth)
        root.mkdir()
        (root / "bad").write_bytes(b"wrong")
        Quarantine(root / "quarantine", MAX_BYTES, files).take(root / "bad", NOTE, token(0))
        assert files.failed
        kept = root / "quarantine" / f"{token(0)}.body"
        assert (root / "bad").exists() == ("unlink" in files.failed and not kept.exists())
        assert not kept.exists() or kept.with_suffix(".json").exists()
    assert len(os.listdir("/proc/self/fd")) == before


# -- a body on its way -----------------------------------------------------------------------------------------------


def test_a_body_that_came_wrong_is_put_there(tmp_path: Path) -> None:
    """Its part is moved with the note; those who read it still can, and nothing more is written into it."""
    store = new_store(tmp_path)
    store.prepare()
    body = store.grow("0" * 64)
    body.append(b"wrong bytes")
    result_of(store.reject(body, NOTE))
    assert not body.is_whole_on_disk
    assert body.read_at(6, 100) == b"bytes"
    body.append(b" and more")
    assert body.read_at(11, 100) == b" and more"
    body.discard()
    body.close()
    found = {Path(name).suffix: name for name in entry_files(store)}
    assert set(found) == {".body", ".json"}
    assert {Path(name).parent.name for name in found.values()} == {"quarantine"}
    assert (tmp_path / found[".body"]).read_bytes() == b"wrong bytes"
    assert json.loads((tmp_path / found[".json"]).read_bytes()) == {**NOTE, "size": 11}


def test_a_body_larger_than_all_of_it_is_removed(tmp_path: Path) -> None:
    """The store's bound is the quarantine's."""
    store = new_store(tmp_path)
    store.prepare()
    body = store.grow()
    body.append(bytes(QUARANTINE_BYTES))
    result_of(store.reject(body, NOTE))
    body.close()
    assert [Path(name).suffix for name in entry_files(store)] == [".json"]


def test_a_body_without_a_file_leaves_nothing(tmp_path: Path) -> None:
    """Neither a window nor one whose part went is noted: there is nothing to look into."""
    store = new_store(tmp_path)
    store.prepare()
    before = tree(tmp_path)
    window, gone = store.window(), store.grow()
    gone.discard()
    for body in (window, gone):
        body.append(b"wrong")
        result_of(store.reject(body, NOTE))
        assert body.read_at(0, 5) == b"wrong"
        body.close()
    assert tree(tmp_path) == before
