"""What the cache makes is its owner's alone, whatever the umask, and what was open to others is closed at start."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipcache.edges.files import Files
from pipcache.edges.publication import NewVariant
from tests.edges.storing import KEY, PAGE_KEY, new_store, publish, result_of
from tests.fakes.files import FailingFiles


def modes(root: Path) -> dict[str, str]:
    """The permission bits of everything below a folder, and of itself."""
    return {str(path): oct(stat.S_IMODE(path.lstat().st_mode)) for path in (root, *root.rglob("*"))}


def all_private(root: Path) -> bool:
    """Whether every file is 0600 and every folder 0700."""
    return all(mode == oct(0o700 if Path(path).is_dir() else 0o600) for path, mode in modes(root).items())


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """The process's umask."""
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_everything_in_the_cache_is_its_owners(tmp_path: Path) -> None:
    """Version, entry, variant, part and quarantine, and each folder: 0600 and 0700."""
    store = new_store(tmp_path / "on" / "the" / "way")
    assert store.prepare() == ()
    publish(store, KEY, b"data")
    publish(store, PAGE_KEY, b"page", NewVariant("html", "shape", b"<page>"))
    wrong, growing = store.grow(), store.grow("a" * 64)
    wrong.append(b"wrong")
    result_of(store.reject(wrong, {"why": "wrong"}))
    assert len(list(store.root.rglob("*"))) == 13
    assert all_private(tmp_path / "on"), modes(tmp_path / "on")
    wrong.close()
    growing.close()


@pytest.mark.usefixtures("umask")
def test_folders_that_were_open_are_closed_at_start(tmp_path: Path) -> None:
    """The directory and its folders, made by somebody else's hand, are the owner's alone from then on."""
    store = new_store(tmp_path / "cache")
    for folder in (store.root / KEY.folder, store.root / "tmp", store.root / "quarantine"):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
    store.root.chmod(0o755)
    assert store.prepare() == ()
    publish(store, KEY, b"data")
    assert all_private(store.root), modes(store.root)


@pytest.mark.parametrize("foreign", ["lost+found", "photos", "0000", "ABC", ".hidden"])
def test_a_directory_that_holds_other_things_is_left_open(tmp_path: Path, foreign: str) -> None:
    """Its owner may use it for more; the folders of ours in it are closed, and a warning says what to do."""
    (tmp_path / "cache" / foreign).mkdir(parents=True)
    (tmp_path / "cache" / "tmp").mkdir()
    for folder in (tmp_path / "cache", tmp_path / "cache" / foreign, tmp_path / "cache" / "tmp"):
        folder.chmod(0o755)
    (warning,) = new_store(tmp_path / "cache").prepare()
    assert repr(foreign) in warning
    assert "set cache.dir to a directory of its own" in warning
    assert [oct(stat.S_IMODE((tmp_path / "cache" / name).stat().st_mode)) for name in (".", foreign, "tmp")] == [
        "0o755",
        "0o755",
        "0o700",
    ]
    (tmp_path / "cache").chmod(0o700)
    assert new_store(tmp_path / "cache").prepare() == ()


@pytest.mark.parametrize(
    "make",
    [lambda path: path.symlink_to("/"), lambda path: path.write_bytes(b""), os.mkfifo],
    ids=["link", "file", "pipe"],
)
def test_what_is_no_folder_is_said(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """In words, once at start, as nothing that belongs there is kept; it is left as it is."""
    store = new_store(tmp_path / "cache")
    store.prepare()
    make(store.root / "abc")
    before = (store.root / "abc").lstat()
    (warning,) = new_store(store.root).prepare()
    folder = store.root / "abc"
    assert warning == f"{folder} cannot be made its owner's alone: {folder} is a link, or no folder"
    assert (store.root / "abc").lstat() == before


def test_folders_of_another_user_are_said_in_two_lines(tmp_path: Path) -> None:
    """However many there are: the first and its reason, and how many more."""
    store = new_store(tmp_path / "cache")
    store.prepare()
    for number in range(20):
        (store.root / f"{number:03x}").mkdir()
    refused = PermissionError(1, "Operation not permitted")
    warnings = new_store(store.root, FailingFiles(0, refused, only=("make_private",), is_lasting=True)).prepare()
    assert warnings == (
        f"{store.root / '000'} cannot be made its owner's alone: Operation not permitted",
        f"so it is with 21 more folders in the cache directory {store.root}",
    )


def test_rights_that_nobody_else_has_are_left_alone(tmp_path: Path) -> None:
    """A folder that its owner made narrower stays as it is."""
    (tmp_path / "a").mkdir(mode=0o500)
    Files().make_private(tmp_path / "a")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o500


def test_a_store_over_a_link_is_a_store_over_its_target(tmp_path: Path) -> None:
    """The operator may put a link, one that dangles too, in the place of the cache directory."""
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "cache")
    store = new_store(tmp_path / "link")
    assert store.prepare() == ()
    assert (tmp_path / "disk" / "cache" / "VERSION").read_bytes() == b"1\n"
    assert (tmp_path / "link").is_symlink()
