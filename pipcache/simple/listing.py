"""The list of an index's projects, converted while it passes by: it may be larger than memory should hold.

Reading order: PEP 503, PEP 691, PEP 708 (its meta elements).

The input is read in blocks of one size, whatever pieces it comes in, so the same bytes always give the same answer. What
is held between two blocks is what is not complete: a tag, an entry, a key with its value. One that is longer than
`MAX_HELD` is no part of a list that anybody serves. Nor is a list one that does not show within its first `MAX_HELD`
bytes that it is: until then nothing is passed on.

A project's name is the last segment of its link's path or, where that is no valid name, the link's text; in JSON it is
the entry's `name`. Invalid ones are left out. Names that normalise to the same are passed on as often as they come: to
find them would take all names to be remembered. In HTML there is no place for what else an entry says (`_last-serial`),
nor for keys that nobody knows.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Generator
from typing import Protocol
from urllib.parse import unquote, urlsplit

from attrs import define, field

from pipcache.rules.errors import MalformedResponse
from pipcache.rules.negotiation import Dialect
from pipcache.simple.encoding import codec_of, without_nul
from pipcache.simple.filenames import normalised_name
from pipcache.simple.jsonscan import MAX_HELD, JsonScanner
from pipcache.simple.jsontext import Json, checked, dumped
from pipcache.simple.list_writers import ListWriter, writer_of
from pipcache.simple.markup import Token, tokens
from pipcache.simple.model import VERSION_META, Link, serial_in
from pipcache.simple.parse import dialect_of
from pipcache.simple.parse_html import Document

BLOCK_BYTES = 1 << 14

_MAX_METAS = 64
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_CONTROL_OR_SPACE = "".join(map(chr, range(0x21)))
_PLAIN_LINKS = re.compile(r"(?:[\t\n\f\r ]*+<a href=\"[^\"&]*+\">[^<&]*+</a>(?:<br ?/?>)?)*+")
_PLAIN_LINK = re.compile(r"<a href=\"([^\"&]*+)\">([^<&]*+)</a>")
# What nearly every link of a list is.
_PLAIN_HREF = re.compile(r"(?:/simple/)?([a-z0-9]++(?:-[a-z0-9]++)*+)/")
# An entry is not passed on as it is written where an escape may be half a surrogate pair, or it holds others.
_TO_BE_CHECKED = re.compile(r"\\u|[\[{]")


class ListConverter:
    """Turns a project list of one dialect into one of another, or of the same with links of ours."""

    def __init__(self, source: Dialect | None, charset: str | None, target: Dialect) -> None:
        """Begin.

        Args:
            source: the dialect of what will come; None where the first byte is to decide, HTML in doubt.
            charset: what its Content-Type says; None where that says nothing. JSON has none.
            target: the dialect of what is to go out.
        """
        self._source = source
        self._charset = charset
        self._writer = writer_of(target)
        self._reader: _Reader | None = None
        self._held = bytearray()
        self._read_bytes = 0

    @property
    def last_serial(self) -> int | None:
        """The serial of the index, once all is read; None where the list does not say."""
        return self._writer.last_serial

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, and give what can go out.

        Raises:
            MalformedResponse: this is no project list.
        """
        self._held += data
        at = 0
        written = []
        while len(self._held) - at >= BLOCK_BYTES:
            written.append(self._convert(bytes(self._held[at : at + BLOCK_BYTES]), is_last=False))
            at += BLOCK_BYTES
        del self._held[:at]
        return b"".join(written)

    def close(self) -> bytes:
        """Take the end, and give all that has not gone out.

        Raises:
            MalformedResponse: this was no project list, or not the whole of one.
        """
        return self._convert(bytes(self._held), is_last=True)

    def _convert(self, block: bytes, *, is_last: bool) -> bytes:
        if self._reader is None:
            source = self._source or dialect_of(block, None)
            if source is Dialect.JSON:
                self._reader = _JsonReader(self._writer)
            else:
                self._reader = _HtmlReader(self._writer, *codec_of(block, self._charset))
        self._read_bytes += len(block)
        self._reader.read(block, is_last=is_last)
        if not self._reader.is_list:
            if is_last or self._read_bytes >= MAX_HELD:
                raise MalformedResponse("the answer is no project list")
            return b""
        if is_last:
            self._writer.close()
        written, self._writer.written = self._writer.written, []
        return "".join(written).encode()


class _Reader(Protocol):
    """What reads the list that comes in; ``is_list``: it has seen that it is one."""

    is_list: bool

    def read(self, block: bytes, *, is_last: bool) -> None:
        """Read the next bytes, and tell the writer what they say."""


class _JsonReader:
    """Reads ``{"meta": ..., "projects": [{"name": ...}, ...], ...}``."""

    def __init__(self, writer: ListWriter) -> None:
        self.is_list = False
        self._writer = writer
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._scanner = JsonScanner("projects", self)

    def read(self, block: bytes, *, is_last: bool) -> None:
        self._scanner.read(self._decoder.decode(block, is_last), is_last=is_last)

    def member(self, key: str, value: Json) -> None:
        self._writer.member(checked(key), value)

    def begin(self) -> None:
        self.is_list = True
        self._writer.begin()

    def element(self, value: Json, text: str) -> None:
        shown = value.get("name") if isinstance(value, dict) else None
        if not isinstance(shown, str):
            return
        name = normalised_name(shown)
        if name is not None:
            entry = dumped(checked(value)) if _TO_BE_CHECKED.search(text, 1) else text
            self._writer.project(name, shown, entry)

    def end(self) -> None:
        self._writer.end()


@define
class _HtmlReader:
    """Reads anchors, and the meta elements before the first of them."""

    _writer: ListWriter
    _codec: str
    _mark_bytes: int
    is_list: bool = field(default=False, init=False)
    _decoder: codecs.IncrementalDecoder | None = field(default=None, init=False)
    _document: Document = field(factory=Document, init=False)
    _text: str = field(default="", init=False)
    _at: int = field(default=0, init=False)
    _is_begun: bool = field(default=False, init=False)

    def read(self, block: bytes, *, is_last: bool) -> None:
        if self._decoder is None:
            self._decoder = codecs.getincrementaldecoder(self._codec)(errors="replace")
            block = block[self._mark_bytes :]
        document = self._document
        self._text = self._text[self._at :] + without_nul(self._decoder.decode(block, is_last))
        self._at = 0
        self._read_plain_links()
        self._read(len(self._text), is_last=is_last)
        if len(self._text) - self._at + document.held > MAX_HELD or len(document.metas) > _MAX_METAS:
            raise MalformedResponse("the answer is no project list: something in it does not end")
        self.is_list = self.is_list or any(name.lower() == VERSION_META for name, _ in document.metas)
        document.comments = [each for each in document.comments if serial_in((each,)) is not None][-1:]
        if is_last:
            for link in document.last_link():
                self._take(link)
            self._end()

    def _read_plain_links(self) -> None:
        """Read anchor by anchor while they are as plain as nearly all are, which is several times faster."""
        text = self._text
        while True:
            if not self._document.is_in_element:
                plain = _PLAIN_LINKS.match(text, self._at)
                assert plain is not None
                for href, shown in _PLAIN_LINK.findall(text, self._at, plain.end()):
                    self._take(Link(href, shown.strip()))
                self._at = plain.end()
            end = text.find("</a>", self._at) + len("</a>")
            if end < len("</a>"):
                return
            self._read(end, is_last=False)
            if self._at < end:  # it is no end of an anchor
                return

    def _read(self, end: int, *, is_last: bool) -> None:
        """Read what is held as far as `end`, or to where something is not complete there."""
        for link in self._document.links(self._tokens(self._text[self._at : end], is_last=is_last)):
            self._take(link)

    def _tokens(self, text: str, *, is_last: bool) -> Generator[Token, None, None]:
        self._at += yield from tokens(text, is_whole=is_last)

    def _take(self, link: Link) -> None:
        if not self._is_begun:
            self._begin(has_links=True)
        name = _project_name(link)
        if name is not None:
            self._writer.project(name, link.text or name, None)

    def _begin(self, *, has_links: bool) -> None:
        self._document.check(has_links=has_links)
        self.is_list = self._is_begun = True
        self._writer.metas(tuple(self._document.metas))
        self._writer.begin()

    def _end(self) -> None:
        if not self._is_begun:
            self._begin(has_links=False)
        self._writer.end()
        self._writer.serial(serial_in(tuple(self._document.comments)))


def _project_name(link: Link) -> str | None:
    """The normalised name of the project that a link of a project list leads to; None where it leads to none.

    A link that has no path, such as one that sorts the list (`?C=N`), is no project's whatever its text says.
    """
    plain = _PLAIN_HREF.fullmatch(link.href)
    if plain is not None:
        return plain[1]
    href = link.href.strip(_CONTROL_OR_SPACE)
    if "//" in href or _SCHEME.match(href):
        try:
            parts = urlsplit(href)
        except ValueError:
            return None
        if parts.scheme not in {"", "http", "https"}:
            return None
        path = parts.path
    else:
        path = href.partition("#")[0].partition("?")[0]
    segment = path.rstrip("/").rpartition("/")[2]
    if not segment:
        return None
    return normalised_name(unquote(segment)) or normalised_name(link.text)
