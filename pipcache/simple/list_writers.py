"""A list of projects as it goes out, in either dialect, written piece by piece.

Reading order: PEP 503, PEP 691. Whoever writes says in this order: metas or members, ``begin``, the projects, ``end``,
members or the serial, ``close``.
"""

from __future__ import annotations

from typing import Protocol

from attrs import define, field

from pipcache.rules.negotiation import Dialect
from pipcache.simple.filenames import normalised_name
from pipcache.simple.jsontext import Json, dumped
from pipcache.simple.parse_json import read_meta
from pipcache.simple.render_html import escaped, head, tail
from pipcache.simple.render_json import from_metas


class ListWriter(Protocol):
    """What makes the list that goes out; ``written`` is taken from it, and ``last_serial`` is what it was told."""

    written: list[str]
    last_serial: int | None

    def metas(self, metas: tuple[tuple[str, str], ...]) -> None:
        """The `pypi:*` meta elements, where the list comes as HTML."""

    def member(self, key: str, value: Json) -> None:
        """A member beside the projects, where the list comes as JSON."""

    def begin(self) -> None:
        """The projects begin."""

    def project(self, name: str, text: str, entry: str | None) -> None:
        """A project: its normalised name, the name that is shown, and its entry where it comes as JSON."""

    def end(self) -> None:
        """There is no other project."""

    def serial(self, serial: int | None) -> None:
        """The serial of the index, where the list comes as HTML."""

    def close(self) -> None:
        """That was all."""


def writer_of(dialect: Dialect) -> ListWriter:
    """A writer that has written nothing."""
    return _HtmlWriter() if dialect is Dialect.HTML else _JsonWriter()


@define
class _HtmlWriter:
    """What JSON says of the index behind its projects comes too late for the head; the serial does not."""

    written: list[str] = field(factory=list)
    last_serial: int | None = None
    _metas: tuple[tuple[str, str], ...] = ()

    def metas(self, metas: tuple[tuple[str, str], ...]) -> None:
        self._metas = metas

    def member(self, key: str, value: Json) -> None:
        if key == "meta":
            metas, self.last_serial, _ = read_meta(value)
            self._metas = tuple(metas)

    def begin(self) -> None:
        self.written.append(head(self._metas, "Simple index"))

    def project(self, name: str, text: str, entry: str | None) -> None:
        self.written.append(f'<a href="{name}/">{escaped(text)}</a><br/>\n')

    def end(self) -> None:
        pass

    def serial(self, serial: int | None) -> None:
        self.last_serial = serial

    def close(self) -> None:
        self.written.append(tail(() if self.last_serial is None else (f"SERIAL {self.last_serial}",)))


@define
class _JsonWriter:
    """What HTML says of the index comes last: there the serial stands behind the links."""

    written: list[str] = field(factory=list)
    last_serial: int | None = None
    _metas: tuple[tuple[str, str], ...] | None = None
    _separator: str = "{"

    def metas(self, metas: tuple[tuple[str, str], ...]) -> None:
        self._metas = metas

    def member(self, key: str, value: Json) -> None:
        if key == "meta":
            self.last_serial = read_meta(value)[1]
        self.written.append(f"{self._separator}{dumped(key)}:{dumped(value)}")
        self._separator = ","

    def begin(self) -> None:
        self.written.append(f'{self._separator}"projects":')
        self._separator = "["

    def project(self, name: str, text: str, entry: str | None) -> None:
        if entry is None:
            entry = f'{{"name":"{text if normalised_name(text) == name else name}"}}'
        self.written.append(self._separator + entry)
        self._separator = ","

    def end(self) -> None:
        self.written.append("]" if self._separator == "," else "[]")
        self._separator = ","

    def serial(self, serial: int | None) -> None:
        self.last_serial = serial

    def close(self) -> None:
        if self._metas is not None:
            # what the version of HTML promises, it promises of HTML
            meta = from_metas(self._metas)[0] | {"api-version": "1.0"}
            serial = {} if self.last_serial is None else {"_last-serial": self.last_serial}
            self.written.append(f'{self._separator}"meta":{dumped(meta | serial)}')
        self.written.append("}")
