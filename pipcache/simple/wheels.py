"""The core metadata that is in a wheel.

Reading order: the packaging specification of the binary distribution format (where METADATA is), then PEP 658 (the same
bytes beside the wheel). A wheel is a stranger's archive: what is read of it into memory is bounded, and whatever is
wrong with it is a `MalformedResponse`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from packaging.utils import canonicalize_version

from pipcache.rules.errors import MalformedResponse
from pipcache.simple.filenames import normalised_name

MAX_METADATA_BYTES: Final = 8 << 20
"""Core metadata is a header and a README: some ten thousand bytes. What is longer is none."""

MAX_DIRECTORY_BYTES: Final = 8 << 20
"""Of the archive's directory, which is read as a whole: room for some 60,000 files with long names."""

_SUFFIX = ".whl"
_FOLDER_SUFFIX = ".dist-info"
_MEMBER = "METADATA"
# The others decompress as much as there is in one step.
_METHODS = (ZIP_STORED, ZIP_DEFLATED)
# What the standard library raises over archives that are none; RuntimeError: it is encrypted, or of another method.
_BROKEN = (BadZipFile, EOFError, OSError, OverflowError, RuntimeError, ValueError, struct.error, zlib.error)

ReadAt = Callable[[int, int], bytes]
"""The bytes of a file from an offset on: at most so many, at least one where there are any."""


def is_wheel_filename(filename: str) -> bool:
    """Whether a decoded file name is a wheel's."""
    return filename.lower().endswith(_SUFFIX)


def core_metadata(read_at: ReadAt, size: int, filename: str) -> bytes:
    """The bytes of a wheel's METADATA; for a thread, as it reads.

    Args:
        read_at: gives the wheel's bytes; what it raises, other than an ``OSError``, passes through.
        size: of the wheel, in bytes.
        filename: of the wheel, decoded.

    Raises:
        MalformedResponse: it is no wheel of that name.
    """
    try:
        with ZipFile(_Seekable(read_at, size)) as archive:
            member = _member(archive.infolist(), filename)
            with archive.open(member) as opened:
                return opened.read(MAX_METADATA_BYTES)
    except _BROKEN as error:
        raise MalformedResponse("the wheel is no archive that can be read") from error


def _member(members: list[ZipInfo], filename: str) -> ZipInfo:
    """Where METADATA is.

    "{distribution}-{version}.dist-info/ contains metadata": one such folder at the top, named as the file is once both
    are normalised, and one METADATA in it.
    """
    tops = {member.filename.partition("/")[0] for member in members}
    folders = [top for top in tops if top.endswith(_FOLDER_SUFFIX)]
    if len(folders) != 1:
        raise MalformedResponse(f"the wheel has {len(folders)} folders of metadata")
    if not _is_of(folders[0], filename):
        raise MalformedResponse("the wheel's metadata is that of another distribution")
    found = [member for member in members if member.filename == f"{folders[0]}/{_MEMBER}"]
    if len(found) != 1:
        raise MalformedResponse(f"the wheel has {len(found)} files of metadata")
    member = found[0]
    if max(member.file_size, member.compress_size) > MAX_METADATA_BYTES:
        raise MalformedResponse(f"the wheel's metadata is larger than {MAX_METADATA_BYTES} bytes")
    if member.compress_type not in _METHODS:
        raise MalformedResponse("the wheel's metadata is compressed in a way that is not read here")
    return member


def _is_of(folder: str, filename: str) -> bool:
    """Whether a folder of metadata is that of the wheel of this name."""
    name, _, version = folder.removesuffix(_FOLDER_SUFFIX).partition("-")
    pieces = filename[: -len(_SUFFIX)].split("-")
    if len(pieces) < 2 or not name or not version:
        return False
    names = {normalised_name(name), normalised_name(pieces[0])}
    versions = {canonicalize_version(version), canonicalize_version(pieces[1])}
    return len(names) == len(versions) == 1 and None not in names


class _Seekable:
    """The wheel as the standard library reads archives; no single read is longer than the directory may be."""

    def __init__(self, read_at: ReadAt, size: int) -> None:
        self._read_at = read_at
        self._size = size
        self._position = 0

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The offset of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to an offset from the start, from here, or from the end."""
        position = offset + (0, self._position, self._size)[whence]
        if position < 0:
            raise ValueError("an offset before the start")
        self._position = position
        return position

    def read(self, count: int = -1, /) -> bytes:
        """The next bytes: as many as asked for, unless the end comes before."""
        left = max(0, self._size - self._position)
        count = left if count < 0 else min(count, left)
        if count > MAX_DIRECTORY_BYTES:
            raise MalformedResponse(f"the wheel's directory is larger than {MAX_DIRECTORY_BYTES} bytes")
        pieces: list[bytes] = []
        while count:
            pieces.append(self._read_at(self._position, count))
            if not pieces[-1]:
                raise EOFError
            self._position += len(pieces[-1])
            count -= len(pieces[-1])
        return b"".join(pieces)

    def close(self) -> None:
        """Whoever opened the wheel closes it."""
