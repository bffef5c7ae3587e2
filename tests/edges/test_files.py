"""The calls on files: modes, what is refused, and leases."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pipcache.edges.files import Files

FILES = Files()


def mode_of(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def make(path: Path, data: bytes = b"") -> Path:
    """A file that somebody made."""
    path.write_bytes(data)
    return path


def test_everything_that_is_made_is_its_owners(tmp_path: Path) -> None:
    """Folders, those in between too, are 0700 and files 0600, whatever the umask leaves open."""
    before = os.umask(0)
    try:
        FILES.make_folders(tmp_path / "a" / "b")
        FILES.close(FILES.create(tmp_path / "a" / "b" / "c"))
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a") == mode_of(tmp_path / "a" / "b") == 0o700
    assert mode_of(tmp_path / "a" / "b" / "c") == 0o600


def test_folders_that_exist_are_left_as_they_are(tmp_path: Path) -> None:
    """Making them again changes nothing, nor a mode that somebody chose."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o755)
    FILES.make_folders(tmp_path / "a")
    assert mode_of(tmp_path / "a") == 0o755


def test_a_new_file_replaces_nothing(tmp_path: Path) -> None:
    """Neither a file nor a dangling link is opened in its place."""
    make(tmp_path / "a", b"old")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("a", "link"):
        with pytest.raises(FileExistsError):
            FILES.create(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert not (tmp_path / "elsewhere").exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Opening, reading, asking for the status and setting times stop at the link itself."""
    target = make(tmp_path / "target", b"secret")
    os.utime(target, (1000, 1000))
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        FILES.open(link)
    with pytest.raises(OSError, match="symbolic links"):
        FILES.read_whole(link)
    assert stat.S_ISLNK(FILES.status_of(link).st_mode)
    FILES.set_modified(link, 2000)
    assert target.stat().st_mtime == 1000
    assert FILES.status_of(link).st_mtime == 2000


def test_a_dangling_link_exists(tmp_path: Path) -> None:
    """The name is taken, so it counts."""
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert FILES.exists(tmp_path / "link")
    assert not FILES.exists(tmp_path / "nowhere")


def test_descriptors_are_not_passed_on_to_children(tmp_path: Path) -> None:
    """A child would hold leases, and files that are removed, for as long as it lives."""
    for descriptor in (FILES.create(tmp_path / "a"), FILES.open(tmp_path / "a")):
        assert not os.get_inheritable(descriptor)
        FILES.close(descriptor)


def test_bytes_are_written_and_read(tmp_path: Path) -> None:
    """Writing appends and says how much was taken; reading is at an offset and leaves the end of writing alone."""
    descriptor = FILES.create(tmp_path / "a")
    assert FILES.write(descriptor, b"abc") == 3
    assert FILES.read_at(descriptor, 1, 10) == b"bc"
    assert FILES.write(descriptor, memoryview(b"def")) == 3
    FILES.sync(descriptor)
    assert FILES.status(descriptor).st_size == 6
    FILES.close(descriptor)
    assert FILES.read_whole(tmp_path / "a") == b"abcdef"


def test_a_rename_replaces_and_an_open_file_lives_on(tmp_path: Path) -> None:
    """Who has the replaced or removed file open keeps all of it."""
    make(tmp_path / "old", b"old")
    make(tmp_path / "new", b"new")
    descriptor = FILES.open(tmp_path / "old")
    FILES.rename(tmp_path / "new", tmp_path / "old")
    assert FILES.read_whole(tmp_path / "old") == b"new"
    FILES.unlink(tmp_path / "old")
    assert FILES.read_at(descriptor, 0, 10) == b"old"
    FILES.close(descriptor)
    assert [entry.name for entry in FILES.entries(tmp_path)] == []


def test_a_lease_has_one_holder(tmp_path: Path) -> None:
    """Another descriptor of the same file does not get it, until the first is closed."""
    make(tmp_path / "a")
    first, second = FILES.open(tmp_path / "a"), FILES.open(tmp_path / "a")
    assert FILES.lease(first)
    assert FILES.lease(first)  # who has it may ask again
    assert not FILES.lease(second)
    FILES.close(first)
    assert FILES.lease(second)
    FILES.close(second)
