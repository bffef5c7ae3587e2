"""What the name of a file says: suffixes and projects."""

from __future__ import annotations

import pytest

from pipcache.simple.filenames import (
    SUFFIXES,
    is_distribution_filename,
    is_metadata_filename,
    normalised_name,
    project_of,
    version_of,
)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_suffix_makes_a_distribution_file(suffix: str) -> None:
    """Each suffix counts, whatever its case and its stem; metadata beside it is no distribution file."""
    assert is_distribution_filename(f"a-1.0{suffix}")
    assert is_distribution_filename(f"A{suffix.upper()}")
    assert not is_metadata_filename(f"a-1.0{suffix}")
    assert not is_distribution_filename(f"a-1.0{suffix}.metadata")
    assert is_metadata_filename(f"a-1.0{suffix}.metadata")


@pytest.mark.parametrize(
    "name",
    ["", "a", "a-1.0.whl.asc", "a-1.0.exe", "a.gz", "whl", "a.metadata", "a.whl.metadata.asc", "a.whl/"],
)
def test_other_suffixes_make_none(name: str) -> None:
    """Signatures, installers and pages are neither distribution files nor metadata."""
    assert not is_distribution_filename(name)
    assert not is_metadata_filename(name)


@pytest.mark.parametrize(
    ("filename", "project"),
    [
        ("Foo_Bar-1.0-py3-none-any.whl", "foo-bar"),
        ("Foo_Bar-1.0-py3-none-any.whl.metadata", "foo-bar"),
        ("a-1.3+cpu-cp311.whl", "a"),
        ("foo-1.0-py3.11.egg", "foo"),
        ("zope.interface-5.0.tar.gz", "zope-interface"),
        ("python-dateutil-2.9.0.tar.gz", "python-dateutil"),
        ("python-dateutil-2.9.0.TAR.GZ", "python-dateutil"),
        ("a--b-1.zip", "a-b"),
        ("a-1.tar.bz2", "a"),
        ("a-1.tar.xz", "a"),
        ("a-1.tgz.metadata", "a"),
        ("a-1.0.tar.gz.metadata.metadata", None),
        ("noversion.tar.gz", None),
        ("noversion.whl", None),
        ("-1.0.tar.gz", None),
        ("_a-1.0.whl", None),
        ("a b-1.0.whl", None),
        ("a\n-1.0.whl", None),
        ("caf\u00e9-1.0.whl", None),
        ("a-1.0.exe", None),
        ("", None),
    ],
)
def test_a_file_belongs_to_the_project_before_its_dash(filename: str, project: str | None) -> None:
    """A wheel's or an egg's first dash, an sdist's last one; no valid name is no project."""
    assert project_of(filename) == project


@pytest.mark.parametrize(
    ("name", "normalised"),
    [
        ("A.-_b", "a-b"),
        ("a", "a"),
        ("0", "0"),
        ("a-", None),
        (".", None),
        ("..", None),
        ("a\n", None),
        ("", None),
    ],
)
def test_names_are_normalised_when_they_are_valid(name: str, normalised: str | None) -> None:
    """PEP 503 normalises what PEP 508 allows; nothing else is a name."""
    assert normalised_name(name) == normalised


@pytest.mark.parametrize(
    ("filename", "version"),
    [
        ("a-1.0-py3-none-any.whl", "1.0"),
        ("a-1.0-1-py3-none-any.WHL", "1.0"),
        ("a-1.3+cpu-cp311.whl", "1.3+cpu"),
        ("a-1.0-py3.9.egg", "1.0"),
        ("python-dateutil-2.9.0.tar.gz", "2.9.0"),
        ("a-1.0rc1.zip", "1.0rc1"),
        ("a-1.0-src.zip", None),
        ("a-latest.tar.gz", None),
        ("a-.zip", None),
        ("a- 1.zip", None),
        ("a.zip", None),
        ("a.whl", None),
        ("a-1.exe", None),
        (f"a-{'1' * 5000}.zip", None),
    ],
)
def test_a_name_says_its_version(filename: str, version: str | None) -> None:
    """Behind a wheel's or an egg's first dash, an sdist's last one; what is no version (PEP 440) is none."""
    assert version_of(filename) == version
