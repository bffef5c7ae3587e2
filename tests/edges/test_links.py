"""A neighbour's links, pipes and files in the cache directory are not followed, waited for or removed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipcache.edges.disk import DiskStore
from pipcache.edges.files import Files
from pipcache.edges.parts import WORTH_BYTES
from pipcache.rules.errors import ConfigError, StorageError
from tests.edges.storing import CACHED_AT, KEY, LONG_AFTER, clear, content_of, new_store, publish, result_of
from tests.fakes.files import tree

SHA256 = "a" * 64
CALLS: dict[str, Callable[[Files, Path], object]] = {
    "make_folders": lambda files, path: files.make_folders(path / "b"),
    "make_private": lambda files, path: files.make_private(path),
    "create": lambda files, path: files.create(path / "b"),
    "open": lambda files, path: files.open(path / "a"),
    "open_part": lambda files, path: files.open_part(path / "a"),
    "read_whole": lambda files, path: files.read_whole(path / "a"),
    "status_of": lambda files, path: files.status_of(path / "a"),
    "rename": lambda files, path: files.rename(path / "a", path.parent / "b"),
    "rename into": lambda files, path: files.rename(path.parent / "mine", path / "a"),
    "unlink": lambda files, path: files.unlink(path / "a"),
    "set_modified": lambda files, path: files.set_modified(path / "a", 0),
    "entries": lambda files, path: list(files.entries(path)),
}


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    """A store that is ready."""
    store = new_store(tmp_path / "cache")
    store.prepare()
    return store


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of somebody else."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "theirs").write_bytes(b"theirs")
    return tmp_path / "outside"


def move_behind_link(folder: Path, outside: Path) -> None:
    """All that is in the folder lies outside now, with a link in the folder's place."""
    for path in folder.iterdir() if folder.exists() else ():
        path.rename(outside / path.name)
    if folder.exists():
        folder.rmdir()
    folder.symlink_to(outside)


def bodies(root: Path) -> list[Path]:
    """The files of bodies in the entries' folders."""
    return list(root.glob("???/*.body"))


@pytest.mark.parametrize("call", CALLS)
def test_no_call_goes_through_a_linked_folder(tmp_path: Path, outside: Path, call: str) -> None:
    """Each is refused, and says what is wrong with the folder; nothing is changed on either side."""
    (outside / "a").write_bytes(b"a")
    os.utime(outside / "a", (1000, 1000))
    outside.chmod(0o755)
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(outside)
    before = tree(tmp_path)
    with pytest.raises(NotADirectoryError, match="link, or no folder"):
        CALLS[call](Files(), tmp_path / "link")
    assert not Files().exists(tmp_path / "link" / "a")
    assert tree(tmp_path) == before
    assert ((outside / "a").stat().st_mtime, outside.stat().st_mode & 0o777) == (1000, 0o755)


def test_an_entry_in_a_linked_folder_is_absent(store: DiskStore, outside: Path) -> None:
    """It is not served, counted, verified, touched or removed, and nothing is published there."""
    stored = publish(store, KEY, b"data")
    move_behind_link(store.root / KEY.folder, outside)
    before = tree(outside)
    times = {path: path.stat().st_mtime_ns for path in outside.iterdir()}
    assert content_of(store, KEY) is None
    assert store.find(KEY.digest) is None
    assert store.open_body(KEY, stored) is None
    assert result_of(store.scan((KEY.folder,), LONG_AFTER)) == ()
    assert result_of(store.verify(KEY, stored)) is None
    assert result_of(store.remove((KEY.digest,), LONG_AFTER)) == ()
    store.touch(KEY.digest, 0)
    with pytest.raises(StorageError, match=r"cannot publish in the cache directory: .* is a link, or no folder"):
        publish(store, KEY, b"new")
    assert tree(outside) == before
    assert {path: path.stat().st_mtime_ns for path in outside.iterdir()} == times


@pytest.mark.parametrize("kind", ["body", "meta"])
def test_a_linked_file_of_an_entry_is_absent(store: DiskStore, outside: Path, kind: str) -> None:
    """Neither followed nor written through; the next publication stands in its place, and what it led to is as it was."""
    stored = publish(store, KEY, b"data")
    path = store.root / KEY.folder / f"{KEY.stem}.{kind}"
    path.rename(outside / path.name)
    path.symlink_to(outside / path.name)
    before = tree(outside)
    assert content_of(store, KEY) is None
    assert result_of(store.verify(KEY, stored)) == (stored if kind == "meta" else None)  # its bytes are right
    assert result_of(store.scan((KEY.folder,), LONG_AFTER)) == ()
    publish(store, KEY, b"new")
    assert content_of(store, KEY) == (b"new", None)
    assert tree(outside) == before
    assert result_of(store.remove((KEY.digest,), LONG_AFTER)) == (KEY.digest,)
    assert tree(outside) == before


def test_parts_behind_a_link_are_left_there(store: DiskStore, outside: Path) -> None:
    """A linked folder of parts gives no files: what grows is not kept, what lies there is neither cleared nor resumed."""
    body = store.grow(SHA256)
    body.append(bytes(WORTH_BYTES))
    store.leave(body)
    body.close()
    move_behind_link(store.root / "tmp", outside)
    (outside / f"{'1' * 32}.part").write_bytes(b"old")
    before = tree(outside)
    assert result_of(store.resume(SHA256)) is None
    assert result_of(store.clear_parts(LONG_AFTER, 0.0)) == 0
    growing = store.grow()
    growing.append(b"data")
    assert (growing.failure is not None, growing.read_at(0, 9)) == (True, b"data")
    with pytest.raises(StorageError, match="is a link, or no folder"):
        new_store(store.root).prepare()
    assert tree(outside) == before


def test_a_linked_part_is_no_part(store: DiskStore, outside: Path) -> None:
    """It is neither cleared, nor what it leads to appended to."""
    (store.root / "tmp" / f"{'1' * 32}.{SHA256}.part").symlink_to(outside / "theirs")
    (store.root / "tmp" / f"{'2' * 32}.part").symlink_to(outside / "theirs")
    assert result_of(store.clear_parts(LONG_AFTER, 0.0)) == 0
    assert result_of(store.resume(SHA256)) is None
    assert len(list((store.root / "tmp").iterdir())) == 2
    assert tree(outside) == {"theirs": b"theirs"}


def test_a_linked_quarantine_keeps_nothing(store: DiskStore, outside: Path) -> None:
    """What is wrong is removed instead; nothing is written or made room for behind the link."""
    for number in range(3):
        (outside / f"{number:032x}.body").write_bytes(bytes(5000))
    (store.root / "quarantine").symlink_to(outside)
    before = tree(outside)
    stored = publish(store, KEY, b"data")
    (path,) = bodies(store.root)
    path.write_bytes(b"atad")
    assert result_of(store.verify(KEY, stored)) is None
    assert (content_of(store, KEY), bodies(store.root)) == (None, [])
    assert tree(outside) == before


@pytest.mark.parametrize("content", [b"1\n", b"2\n", None])
def test_a_linked_version_is_not_read(store: DiskStore, outside: Path, content: bytes | None) -> None:
    """The directory cannot be used; nobody outside decides about its layout."""
    version = store.root / "VERSION"
    version.unlink()
    version.symlink_to(outside / "VERSION")
    if content is not None:
        (outside / "VERSION").write_bytes(content)
    before = tree(outside)
    with pytest.raises(StorageError, match="cannot be used"):
        new_store(store.root).prepare()
    assert tree(outside) == before


# -- pipes, devices, folders -----------------------------------------------------------------------------------------

IN_PLACE: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: (path / "more").mkdir(parents=True),
    "huge": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
}


@pytest.mark.parametrize("kind", ["body", "meta"])
@pytest.mark.parametrize("make", IN_PLACE.values(), ids=list(IN_PLACE))
def test_what_is_no_file_of_ours_is_absent(store: DiskStore, kind: str, make: Callable[[Path], object]) -> None:
    """Nobody waits for a pipe, reads a device or loads a terabyte; the scan goes on with the entries beside it."""
    stored = publish(store, KEY, b"data")
    path = store.root / KEY.folder / f"{KEY.stem}.{kind}"
    path.unlink()
    make(path)
    assert content_of(store, KEY) is None
    assert store.find(KEY.digest) is None or store.open_body(KEY, stored) is None
    assert result_of(store.verify(KEY, stored)) == (stored if kind == "meta" else None)  # its bytes are right
    assert result_of(store.scan((KEY.folder,), CACHED_AT)) == ()
    if (kind, path.is_dir()) != ("meta", True):
        publish(store, KEY, b"new")
        assert content_of(store, KEY) == (b"new", None)
    else:
        with pytest.raises(StorageError):
            publish(store, KEY, b"new")


@pytest.mark.parametrize("call", ["open", "open_part", "read_whole"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, call: str) -> None:
    """It is refused at once, and no descriptor of it is kept."""
    os.mkfifo(tmp_path / "pipe")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="not a regular file"):
        getattr(Files(), call)(tmp_path / "pipe")
    assert os.listdir("/proc/self/fd") == before


def test_a_pipe_for_a_version_is_said(tmp_path: Path) -> None:
    """The start does not wait for its other end."""
    (tmp_path / "cache").mkdir()
    os.mkfifo(tmp_path / "cache" / "VERSION")
    with pytest.raises(StorageError, match="cannot be used: not a regular file"):
        new_store(tmp_path / "cache").prepare()


# -- foreign files ---------------------------------------------------------------------------------------------------


def test_what_is_not_ours_stays(store: DiskStore) -> None:
    """Scan, clearing, eviction and a new start leave whatever has no name of ours, wherever it lies."""
    publish(store, KEY, b"data")
    names = ("readme", "abc/readme", "abc/0.body", f"{KEY.folder}/{KEY.stem}.bak", "tmp/x.part", "quarantine/x.body")
    names += ("photos/1.jpg", f"{KEY.folder}/{KEY.stem}.0000000g.body", f"tmp/{'1' * 31}.part", "ABC/x", "VERSION.old")
    for name in names:
        (store.root / name).parent.mkdir(exist_ok=True)
        (store.root / name).write_bytes(b"theirs")
        os.utime(store.root / name, (1000, 1000))
    again = new_store(store.root)
    again.prepare()
    clear(again)
    assert len(result_of(again.scan(tuple(again.folders()), LONG_AFTER))) == 1
    assert result_of(again.remove((KEY.digest,), LONG_AFTER)) == (KEY.digest,)
    assert tree(store.root) == {"VERSION": b"1\n", **dict.fromkeys(names, b"theirs")}


def test_a_directory_of_another_layout_keeps_all_its_modes(store: DiskStore) -> None:
    """Nothing of it is closed either."""
    (store.root / "tmp").chmod(0o755)
    (store.root / "VERSION").write_bytes(b"2\n")
    with pytest.raises(ConfigError):
        new_store(store.root).prepare()
    assert (store.root / "tmp").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("change", ["nothing", "replaced", "written to", "linked", "gone"])
def test_what_was_seen_is_opened_and_nothing_else(tmp_path: Path, change: str) -> None:
    """By its path alone: whatever stands there now, it is the same file as it was, or none."""
    files, path = Files(), tmp_path / "body"
    path.write_bytes(b"content")
    was = files.identity(str(path))
    if change == "written to":
        path.write_bytes(b"more content")
    elif change == "replaced":
        (tmp_path / "other").write_bytes(b"content")
        (tmp_path / "other").replace(path)
    elif change == "linked":
        path.rename(tmp_path / "moved")
        path.symlink_to(tmp_path / "moved")
    elif change == "gone":
        path.unlink()
    descriptor = files.open_identical(str(path), was)
    if change == "nothing":
        assert descriptor is not None
        assert files.read_at(descriptor, 0, 10) == b"content"
        files.close(descriptor)
    else:
        assert descriptor is None
