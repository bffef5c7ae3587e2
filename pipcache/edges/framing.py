"""Where a response's body ends on its connection: at its length, behind its last chunk, or with the connection (RFC 9112).

Each takes what came and gives the content in it; and, once the body is over, what came behind it. Content that came
before the framing broke is content all the same.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from pipcache.rules.errors import TruncatedBody

_MAX_SIZE_LINE_BYTES: Final = 1024
_MAX_TRAILER_BYTES: Final = 1 << 14
# RFC 9112 section 7.1: chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")


class Framing(Protocol):
    """One body's."""

    is_open_ended: bool
    """Whether the end of the connection is the end of the body."""

    error: TruncatedBody | None
    """Set once the framing is broken, so that nobody can tell any more what belongs to the body."""

    def take(self, data: bytes) -> tuple[bytes, bytes | None]:
        """The content in ``data``, and what is behind the body: None while it goes on."""
        ...


class Sized:
    """A body of a known length."""

    is_open_ended = False
    error: TruncatedBody | None = None

    def __init__(self, length: int) -> None:
        self._left_bytes = length

    def take(self, data: bytes) -> tuple[bytes, bytes | None]:
        """As in ``Framing``."""
        self._left_bytes -= len(data)
        if self._left_bytes > 0:
            return data, None
        if self._left_bytes == 0:
            return data, b""
        end = len(data) + self._left_bytes
        self._left_bytes = 0
        return data[:end], data[end:]


class OpenEnded:
    """A body that goes on for as long as its connection."""

    is_open_ended = True
    error: TruncatedBody | None = None

    def take(self, data: bytes) -> tuple[bytes, bytes | None]:
        """As in ``Framing``."""
        return data, None


class Chunked:
    """A body in chunks; trailer fields are read and dropped."""

    is_open_ended = False
    error: TruncatedBody | None = None

    def __init__(self) -> None:
        self._begun = b""
        self._left_bytes = 0
        self._is_in_chunk = False
        self._trailer_bytes: int | None = None

    def take(self, data: bytes) -> tuple[bytes, bytes | None]:
        """As in ``Framing``."""
        data = self._begun + data if self._begun else data
        self._begun = b""
        content: list[bytes] = []
        position = 0
        is_over = False
        while position < len(data) and self.error is None and not is_over:
            if self._left_bytes:
                piece = data[position : position + self._left_bytes]
                content.append(piece)
                self._left_bytes -= len(piece)
                position += len(piece)
                continue
            end = data.find(b"\r\n", position)
            if end < 0:
                self._begun = data[position:]
                self._check_line(len(self._begun))
                break
            if self._check_line(end - position):
                is_over = self._line(data[position:end])
            position = end + 2
        whole = content[0] if len(content) == 1 else b"".join(content)
        return whole, data[position:] if is_over else None

    def _line(self, line: bytes) -> bool:
        """Take a line that is no content; whether it was the last one."""
        if self._trailer_bytes is not None:
            self._trailer_bytes += len(line) + 2
            if self._trailer_bytes > _MAX_TRAILER_BYTES:
                self.error = TruncatedBody("the trailer of its response is too large")
            return not line
        if self._is_in_chunk:
            self._is_in_chunk = False
            if line:
                self.error = TruncatedBody("a chunk of the body is longer than it says")
            return False
        match = _SIZE.fullmatch(line)
        if match is None:
            self.error = TruncatedBody("a chunk of the body has no size")
            return False
        self._left_bytes = int(match[1], 16)
        self._is_in_chunk = self._left_bytes > 0
        if not self._left_bytes:
            self._trailer_bytes = 0
        return False

    def _check_line(self, size: int) -> bool:
        """Whether a line that is no content, or what came of it, may be as long as that."""
        most = 1 if self._is_in_chunk else _MAX_SIZE_LINE_BYTES if self._trailer_bytes is None else _MAX_TRAILER_BYTES
        if size > most:
            self.error = TruncatedBody("a chunk of the body is not framed as chunks are")
        return size <= most
