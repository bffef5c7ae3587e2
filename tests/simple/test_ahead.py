"""What core metadata and a page let one expect of an installer, and what nobody can know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.simple.ahead import MAX_FILES, MAX_NEEDED, needed_projects, newest_metadata
from pipcache.simple.model import DistributionFile

HASHED = ("data-core-metadata", f"sha256={'a' * 64}")


def metadata(*requirements: str, behind: str = "") -> bytes:
    """Core metadata with these requirements, and a description."""
    fields = "".join(f"Requires-Dist: {each}\r\n" for each in requirements)
    return f"Metadata-Version: 2.1\r\nName: x\r\nVersion: 1\r\n{fields}\r\n{behind}".encode()


@pytest.mark.parametrize(
    ("requirement", "needed"),
    [
        ("Foo_Bar", ("foo-bar",)),
        ("foo >=1,<2", ("foo",)),
        ("foo (>=1)", ("foo",)),
        ("foo[extra1,extra2]>=1", ("foo",)),
        ('foo; python_version < "3.8"', ()),
        ('foo; extra == "test"', ()),
        ("foo @ https://files.test/foo-1.whl", ()),
        ("../../etc/passwd", ()),
        ("", ()),
        ("foo bar", ()),
        ("\xff", ()),
    ],
)
def test_what_is_needed_wherever_it_is_installed(requirement: str, needed: tuple[str, ...]) -> None:
    """Plain requirements count; those that depend on who asks, have their own address, or are none, do not."""
    assert needed_projects(metadata(requirement)) == needed


def test_each_is_needed_once_and_in_order() -> None:
    """Whatever its spelling, and however often it is named."""
    assert needed_projects(metadata("b", "a>1", "A<2", "B")) == ("b", "a")


def test_a_description_requires_nothing() -> None:
    """It may well talk of requirements."""
    assert needed_projects(metadata("a", behind="Requires-Dist: b\n\nRequires-Dist: c\n")) == ("a",)


def test_so_many_are_expected_at_most() -> None:
    """One more is left to its resolver."""
    assert len(needed_projects(metadata(*(f"p{number}" for number in range(2 * MAX_NEEDED))))) == MAX_NEEDED


@given(st.binary(max_size=300))
def test_whatever_came_as_core_metadata(content: bytes) -> None:
    """There is an answer, and only names in it that a page can have."""
    assert all(name == name.lower() and "/" not in name for name in needed_projects(b"Requires-Dist: " + content))


def files(*names: str, attributes: tuple[tuple[str, str | None], ...] = (HASHED,)) -> dict[str, DistributionFile]:
    """A page's files by path."""
    return {
        f"/packages/{name}": DistributionFile(name, f"https://files.test/{name}", attributes=attributes)
        for name in names
    }


@pytest.mark.parametrize(
    ("names", "newest"),
    [
        (("x-1-py3-none-any.whl", "x-2-py3-none-any.whl"), "x-2-py3-none-any.whl"),
        (("x-10-py3-none-any.whl", "x-9-py3-none-any.whl"), "x-10-py3-none-any.whl"),
        (("x-1-py3-none-any.whl", "x-2rc1-py3-none-any.whl", "x-2.dev1-py3-none-any.whl"), "x-1-py3-none-any.whl"),
        (("x-1-py2.py3-none-any.whl", "x-2-cp311-cp311-linux_x86_64.whl"), "x-1-py2.py3-none-any.whl"),
        (("x-1.tar.gz", "x-2.tar.gz"), None),
        (("x-local_version-py3-none-any.whl", "-none-any.whl"), None),
        ((), None),
    ],
)
def test_the_newest_release(names: tuple[str, ...], newest: str | None) -> None:
    """By version, not by place; of wheels for every platform, without pre-releases."""
    assert newest_metadata(files(*names)) == (newest and f"/packages/{newest}.metadata")


@pytest.mark.parametrize(
    "attributes",
    [
        (),
        (("data-core-metadata", "false"),),
        (("data-core-metadata", "true"),),
        (("data-core-metadata", "md5=" + "a" * 32),),
        (HASHED, ("data-yanked", "broken")),
        (HASHED, ("data-yanked", "")),
        (HASHED, ("data-yanked", None)),
    ],
)
def test_what_no_installer_takes_or_nothing_proves_right(attributes: tuple[tuple[str, str | None], ...]) -> None:
    """A yanked release, and core metadata that the page does not promise with a digest, are not expected."""
    older = files("x-1-py3-none-any.whl")
    newer = files("x-2-py3-none-any.whl", attributes=attributes)
    assert newest_metadata({**older, **newer}) == "/packages/x-1-py3-none-any.whl.metadata"


def test_a_long_page_is_looked_at_from_its_end() -> None:
    """So that a page of many thousand files costs no more than any other."""
    names = [f"x-{number}-py3-none-any.whl" for number in range(1, MAX_FILES + 2)]
    assert newest_metadata(files(*reversed(names))) == f"/packages/x-{MAX_FILES}-py3-none-any.whl.metadata"
