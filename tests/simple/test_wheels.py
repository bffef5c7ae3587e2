"""The core metadata in a wheel: found in what is one, bounded and refused in what is not."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Callable
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipcache.rules.errors import MalformedResponse, StorageError
from pipcache.simple import wheels
from pipcache.simple.wheels import core_metadata, is_wheel_filename
from tests.fakes.index import build_wheel, metadata_of

NAME = "demo-1.0-py3-none-any.whl"
METADATA = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n\n" + b"What it is for.\n" * 100


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of these members, in this order."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as written:
        for path, data in members:
            written.writestr(zipfile.ZipInfo(path), data, method)
    return packed.getvalue()


def reader(content: bytes, most: int = 1 << 30) -> Callable[[int, int], bytes]:
    """What reads a body, never more than `most` bytes at once."""
    return lambda offset, count: content[offset : offset + min(count, most)]


def read(content: bytes, filename: str = NAME) -> bytes:
    """The core metadata of a whole wheel."""
    return core_metadata(reader(content), len(content), filename)


@pytest.mark.parametrize(
    ("filename", "folder"),
    [
        (NAME, "demo-1.0"),
        ("Demo_Two-1.0-py3-none-any.whl", "demo_two-1.0"),
        ("demo.two-1.0-py3-none-any.whl", "Demo_Two-1.0"),
        ("demo-1.0-1-py3-none-any.whl", "demo-1"),
        ("demo-1.0+cpu-py3-none-any.whl", "demo-1.0+cpu"),
        ("demo-2024.01.02-py3-none-any.whl", "demo-2024.1.2"),
        ("DEMO-1.3+cpu-cp311.WHL", "demo-1.3+cpu"),
        ("demo-odd_version-py3-none-any.whl", "demo-odd_version"),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_folder_is_that_of_the_wheel_once_both_are_normalised(filename: str, folder: str, method: int) -> None:
    """Its bytes are given as they are, whatever else is in the wheel."""
    content = archive(
        ("demo/__init__.py", b"x = 1"),
        ("demo/_vendor/other-9.dist-info/METADATA", b"Name: other"),
        (f"{folder}.dist-info/METADATA", METADATA),
        (f"{folder}.dist-info/licenses/METADATA", b"no"),
        (f"{folder}.dist-info/RECORD", b""),
        method=method,
    )
    assert read(content, filename) == METADATA


@pytest.mark.parametrize(
    "members",
    [
        (),
        (("demo/__init__.py", b""),),
        (("demo-1.0.dist-info/RECORD", b""),),
        (("demo-1.0.dist-info/metadata", METADATA),),
        (("sub/demo-1.0.dist-info/METADATA", METADATA),),
        (("/demo-1.0.dist-info/METADATA", METADATA),),
        (("demo-1.0.dist-info/METADATA", METADATA), ("other-1.0.dist-info/METADATA", METADATA)),
        (("demo-1.0.dist-info/METADATA", METADATA), ("Demo-1.0.dist-info/RECORD", b"")),
        (("demo-1.0.dist-info/METADATA", METADATA), ("demo-1.0.dist-info/METADATA", b"other")),
        (("other-1.0.dist-info/METADATA", METADATA),),
        (("demo_more-1.0.dist-info/METADATA", METADATA),),
        (("demo-2.0.dist-info/METADATA", METADATA),),
        (("demo.dist-info/METADATA", METADATA),),
        (("-1.0.dist-info/METADATA", METADATA),),
        ((".dist-info/METADATA", METADATA),),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_no_wheel_of_that_name_is_refused(members: tuple[tuple[str, bytes], ...]) -> None:
    """One folder of metadata at the top, of this distribution and version, with one METADATA; nothing is guessed."""
    with pytest.raises(MalformedResponse):
        read(archive(*members))


@pytest.mark.parametrize("filename", ["demo.whl", "demo-2.0-py3-none-any.whl", "-1.0-py3-none-any.whl", ".whl"])
def test_a_name_that_is_not_its_own_is_refused(filename: str) -> None:
    """The page says which wheel it is."""
    with pytest.raises(MalformedResponse):
        read(archive(("demo-1.0.dist-info/METADATA", METADATA)), filename)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_cannot_be_bounded_is_refused(method: int) -> None:
    """The standard library unpacks as much as there is at once."""
    with pytest.raises(MalformedResponse, match="compressed"):
        read(archive(("demo-1.0.dist-info/METADATA", METADATA), method=method))


def test_an_encrypted_member_is_refused() -> None:
    """Nobody has the key."""
    content = bytearray(archive(("demo-1.0.dist-info/METADATA", METADATA)))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    with pytest.raises(MalformedResponse):
        read(bytes(content))


def test_metadata_that_is_too_large_is_not_unpacked() -> None:
    """A bomb is refused by what its directory says."""
    content = archive(("demo-1.0.dist-info/METADATA", bytes(wheels.MAX_METADATA_BYTES + 1)))
    assert len(content) < 20_000
    with pytest.raises(MalformedResponse, match="larger"):
        read(content)
    assert len(read(archive(("demo-1.0.dist-info/METADATA", bytes(wheels.MAX_METADATA_BYTES))))) == 8 << 20


def test_metadata_that_is_larger_than_its_directory_says_is_refused() -> None:
    """What comes out is cut where it was said to end, and is not what its checksum says."""
    content = bytearray(archive(("demo-1.0.dist-info/METADATA", bytes(1 << 24))))
    where = content.index(b"PK\x01\x02") + 24
    content[where : where + 4] = (100).to_bytes(4, "little")
    with pytest.raises(MalformedResponse):
        read(bytes(content))


def test_a_directory_that_is_too_large_is_not_read() -> None:
    """It would be held in memory as a whole, and its entries beside it."""
    content = archive(("demo-1.0.dist-info/METADATA", METADATA), *((f"demo/{number}", b"") for number in range(100)))
    with patch.object(wheels, "MAX_DIRECTORY_BYTES", 4000), pytest.raises(MalformedResponse, match="directory"):
        read(content)


def test_it_is_read_where_it_lies() -> None:
    """Of a large wheel only its end and its METADATA are read, in pieces as they come."""
    filename, content = build_wheel("demo", "1.0", size_bytes=1_000_000)
    asked: list[int] = []

    def read_at(offset: int, count: int) -> bytes:
        asked.append(min(count, 1000))
        return content[offset : offset + min(count, 1000)]

    assert core_metadata(read_at, len(content), filename) == metadata_of("demo", "1.0")
    assert sum(asked) < 100_000


def test_trouble_of_the_disk_is_no_fault_of_the_wheel() -> None:
    """It passes through."""

    def read_at(_offset: int, _count: int) -> bytes:
        raise StorageError("cannot read")

    with pytest.raises(StorageError):
        core_metadata(read_at, 1000, NAME)


_WHEEL = archive(("demo/__init__.py", b"x = 1"), ("demo-1.0.dist-info/METADATA", METADATA))


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, len(_WHEEL) - 1), st.integers(0, 255)), max_size=8),
    st.integers(0, len(_WHEEL)),
    st.booleans(),
)
def test_damage_is_refused_or_harmless(changes: list[tuple[int, int]], cut: int, is_cut: bool) -> None:
    """Whatever is changed, the answer is the metadata or `MalformedResponse`."""
    content = bytearray(_WHEEL)
    for position, value in changes:
        content[position] = value
    damaged = bytes(content[:cut] if is_cut else content)
    with contextlib.suppress(MalformedResponse):
        assert read(damaged) == METADATA


@given(st.binary(max_size=400))
def test_bytes_of_any_kind_are_refused(content: bytes) -> None:
    """They are no archive."""
    with pytest.raises(MalformedResponse):
        read(content)


@pytest.mark.parametrize(
    ("filename", "is_wheel"), [("a-1.whl", True), ("A-1.WHL", True), ("a-1.tar.gz", False), ("a-1.whl.metadata", False)]
)
def test_a_wheel_is_one_by_its_suffix(filename: str, is_wheel: bool) -> None:
    """Whatever its case."""
    assert is_wheel_filename(filename) is is_wheel
