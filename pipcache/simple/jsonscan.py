"""One JSON object read while it comes in: its members one by one, and the elements of one long array.

Source: RFC 8259. Each member and each element is read by the standard library once it is there as a whole; only what
stands between them is read here.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import NoReturn, Protocol, TypeAlias

from attrs import define, field

from pipcache.rules.errors import MalformedResponse
from pipcache.simple.jsontext import DECODER, Json, checked

MAX_HELD = 1 << 16
"""How many characters of one member or element are held while its end is not there."""

_MAX_MEMBERS = 64
_SPACE = re.compile(r"[ \t\n\r]*")
_SEPARATOR = re.compile(r"[ \t\n\r]*,[ \t\n\r]*+(?=.)", re.DOTALL)
# What may stand behind a number that has not ended.
_MAY_GO_ON = frozenset(".eE")

Waiting: TypeAlias = Generator[None, None, None]


class Listener(Protocol):
    """What is told of the object."""

    def member(self, key: str, value: Json) -> None:
        """A member that is not the array; no key comes twice."""

    def begin(self) -> None:
        """The array begins."""

    def element(self, value: Json, text: str) -> None:
        """An element of the array, and how it is written."""

    def end(self) -> None:
        """The array has ended."""


@define
class JsonScanner:
    """Reads an object whose member ``array_key`` is an array; MalformedResponse where it is something else."""

    _array_key: str
    _listener: Listener
    _text: str = field(default="", init=False)
    _at: int = field(default=0, init=False)
    _is_last: bool = field(default=False, init=False)
    _steps: Waiting | None = field(default=None, init=False)

    def read(self, text: str, *, is_last: bool) -> None:
        """Read on; the time grows with the text and with what is held."""
        self._text = self._text[self._at :] + text
        self._at = 0
        self._is_last = is_last
        if self._steps is None:
            self._steps = self._object()
        next(self._steps, None)

    def _object(self) -> Waiting:
        keys: set[str] = set()
        yield from self._something()
        self._take("{")
        yield from self._something()
        if self._text[self._at] == "}":
            self._at += 1
        else:
            while True:
                yield from self._member(keys)
                yield from self._something()
                if self._take(",}") == "}":
                    break
                yield from self._something()
        while True:
            self._skip_blanks()
            if self._at < len(self._text):
                self._refuse()
            yield

    def _member(self, keys: set[str]) -> Waiting:
        yield from self._whole_value()
        key, self._at = DECODER.raw_decode(self._text, self._at)
        if not isinstance(key, str) or key in keys or len(keys) == _MAX_MEMBERS:
            self._refuse()
        keys.add(key)
        yield from self._something()
        self._take(":")
        yield from self._something()
        if key == self._array_key:
            yield from self._array()
        else:
            yield from self._whole_value()
            value, self._at = DECODER.raw_decode(self._text, self._at)
            self._listener.member(key, checked(value))

    def _array(self) -> Waiting:
        self._take("[")
        self._listener.begin()
        yield from self._something()
        if self._text[self._at] == "]":
            self._at += 1
        else:
            while True:
                try:
                    value, end = DECODER.raw_decode(self._text, self._at)
                except (ValueError, RecursionError):
                    yield from self._whole_value()
                    continue
                if type(value) is not dict:  # not all else shows its own end
                    yield from self._whole_value()
                    value, end = DECODER.raw_decode(self._text, self._at)
                self._listener.element(value, self._text[self._at : end])
                self._at = end
                separator = _SEPARATOR.match(self._text, end)
                if separator is not None:
                    self._at = separator.end()
                    continue
                yield from self._something()
                if self._take(",]") == "]":
                    break
                yield from self._something()
        self._listener.end()

    def _whole_value(self) -> Waiting:
        """Wait until the next value is there."""
        while True:
            try:
                end = DECODER.raw_decode(self._text, self._at)[1]
            except RecursionError:
                self._refuse()
            except ValueError:
                if self._is_last or len(self._text) - self._at > MAX_HELD:
                    self._refuse()
            else:
                if self._is_last or (end < len(self._text) and self._text[end] not in _MAY_GO_ON):
                    return
                if len(self._text) - self._at > 2 * MAX_HELD:
                    self._refuse()
            yield

    def _something(self) -> Waiting:
        """Wait until there is something that is no blank."""
        self._skip_blanks()
        while self._at == len(self._text):
            if self._is_last:
                self._refuse()
            yield
            self._skip_blanks()

    def _skip_blanks(self) -> None:
        blanks = _SPACE.match(self._text, self._at)
        assert blanks is not None
        self._at = blanks.end()

    def _take(self, allowed: str) -> str:
        """The next character, which must be one of these."""
        character = self._text[self._at]
        if character not in allowed:
            self._refuse()
        self._at += 1
        return character

    def _refuse(self) -> NoReturn:
        raise MalformedResponse(f"the answer begins like JSON and is no object with a list of {self._array_key}")
