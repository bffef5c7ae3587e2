"""The calls on files: modes, what is refused, and leases."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipcache.edges.files import Files, storage_error

FILES = Files()
TOP = Path(__file__).resolve().parents[2]


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


def test_a_part_is_opened_to_go_on_with_it(tmp_path: Path) -> None:
    """Read from the start, appended to at the end wherever somebody else wrote; nothing is made, no link followed."""
    descriptor = FILES.open_part(make(tmp_path / "a", b"abc"))
    assert not os.get_inheritable(descriptor)
    assert FILES.read_at(descriptor, 0, 10) == b"abc"
    with (tmp_path / "a").open("ab") as other:
        other.write(b"def")
    assert FILES.write(descriptor, b"ghi") == 3
    assert FILES.read_at(descriptor, 0, 10) == b"abcdefghi"
    assert FILES.lease(descriptor)
    FILES.close(descriptor)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="symbolic links"):
        FILES.open_part(tmp_path / "link")
    with pytest.raises(FileNotFoundError):
        FILES.open_part(tmp_path / "b")


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "is_full"),
    [
        (errno.ENOSPC, True),
        (errno.EDQUOT, True),
        (errno.EFBIG, True),
        (errno.EIO, False),
        (errno.EROFS, False),
        (errno.EACCES, False),
        (errno.ENOENT, False),
        (errno.EMFILE, False),
    ],
)
def test_an_error_says_whether_making_room_may_help(number: int, is_full: bool) -> None:
    """A full disk, a quota and a limit on files' sizes are full; whatever else the system refuses is not."""
    error = storage_error("cannot write", OSError(number, os.strerror(number)))
    assert str(error) == f"cannot write: {os.strerror(number)}"
    assert error.is_full is is_full
    assert error.status == 500


def test_an_error_without_a_number_is_told_too() -> None:
    """What has no words of the system's has its own."""
    error = storage_error("cannot write", OSError("it is gone"))
    assert str(error) == "cannot write: it is gone"
    assert not error.is_full


BEYOND_THE_LIMIT = """
import resource, sys
from pathlib import Path
from pipcache.edges.disk import DiskStore
from pipcache.edges.files import Files

store = DiskStore(Path(sys.argv[1]), None, 0, Files())
store.prepare()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
body = store.grow()
data = bytes(range(256)) * 1000
for start in range(0, len(data), 30_000):
    body.append(data[start : start + 30_000])
assert body.size == len(data)
read = b""
while len(read) < body.size:
    read += body.read_at(len(read), 10_000)
assert read == data
print(body.failure, body.failure.is_full, body.first_readable)
"""


def test_a_write_beyond_the_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    """`RLIMIT_FSIZE` is an error (EFBIG), not the signal that would end the process; every byte can still be read."""
    script = [sys.executable, "-c", BEYOND_THE_LIMIT, str(tmp_path / "cache")]
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    done = subprocess.run(
        script, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "cannot write to the cache directory: File too large True 0\n"
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []
