"""The head of an upstream's response, read within bounds (RFC 9112 sections 2 to 6).

Decides nothing about the response but where its body ends. What is about the connection alone is taken out of the
fields, and so is the content-coding, as bodies are handed on decoded.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import define

from pipcache.rules.errors import MalformedResponse
from pipcache.rules.fields import Fields

MAX_HEAD_BYTES = 1 << 16
MAX_LINE_BYTES = 16_000
MAX_FIELDS = 500
MAX_INTERIM = 20
"""So many 1xx responses may come before the one that counts (RFC 9110, section 15.2)."""

# RFC 9112 section 2.2: "a recipient MAY recognize a single LF as a line terminator and ignore any preceding CR"
_END: Final = re.compile(rb"\n\r?\n")
_FOLD: Final = re.compile(r"\r?\n(?=[ \t])")
_STATUS: Final = re.compile(r"HTTP/([0-9])\.([0-9]) ([1-9][0-9]{2})(?: .*)?", re.DOTALL)
_FIELD: Final = re.compile(r"^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*)$", re.MULTILINE)
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_OF_THE_CONNECTION: Final = frozenset(
    {"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailers", "transfer-encoding", "upgrade"}
)
_APART: Final = _OF_THE_CONNECTION | {"content-encoding"}
_NO_RESPONSE: Final = "what it sent is no HTTP response"
_USUAL_OPTIONS: Final = frozenset({"close", "keep-alive"})
_NO_CODING: Final = ("", "identity")


@define
class Head:
    """A response's status and fields, and how its body is framed.

    Attributes:
        status: its code.
        fields: with names in lower case, without those that are about the connection or the content-coding.
        length: of the body as it is sent, in bytes; None: nobody knows.
        is_chunked: whether the body comes in chunks. If it does not and has no length, it ends with the connection.
        stays_open: whether the connection may be used again.
        codings: the content-codings of the body, in lower case.
    """

    status: int
    fields: Fields
    length: int | None
    is_chunked: bool
    stays_open: bool
    codings: tuple[str, ...]


class HeadReader:
    """Reads one response's head, in whatever pieces it comes."""

    def __init__(self, *, is_head_request: bool = False) -> None:
        self._is_head_request = is_head_request
        self._begun = b""
        self._past_bytes = 0
        self._past_lines = 0
        self._interim = 0

    def take(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head, and what came behind it; None while it is not whole.

        Raises:
            MalformedResponse: this is no head of a response, or a larger one than any sensible one.
        """
        known = len(self._begun)
        data = self._begun + data if known else data
        while True:
            end = _END.search(data, max(0, known - 2))
            if end is None:
                self._begun = data
                if b"\n" in data and not data.startswith(b"HTTP/"):
                    raise MalformedResponse(_NO_RESPONSE)
                self._check(len(data), data.count(b"\n"), len(data) - data.rfind(b"\n"))
                return None
            text = data[: end.end()].decode("latin-1")
            data, known = data[end.end() :], 0
            lines = text.count("\n")
            longest = max(map(len, text.split("\n"))) if len(text) > MAX_LINE_BYTES else 0
            self._check(len(text), lines - 1, longest)
            head = _read(text, is_head_request=self._is_head_request)
            if head.status >= 200:
                return head, data
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise MalformedResponse(f"more than {MAX_INTERIM} interim responses")
            self._past_bytes += len(text)
            self._past_lines += lines - 2

    def _check(self, size: int, lines: int, longest: int) -> None:
        """Refuse a head that is too large, with all that came before it; the status line is no field."""
        if size + self._past_bytes > MAX_HEAD_BYTES or longest > MAX_LINE_BYTES:
            raise MalformedResponse("the header of its response is too large")
        if lines + self._past_lines - 1 > MAX_FIELDS:
            raise MalformedResponse(f"the header of its response has more than {MAX_FIELDS} fields")


def _read(text: str, *, is_head_request: bool) -> Head:
    """A head, up to the empty line that ends it."""
    if "\n " in text or "\n\t" in text:
        text = _FOLD.sub("", text)
    first, _, rest = text.partition("\n")
    status_line = _STATUS.fullmatch(first.removesuffix("\r"))
    if status_line is None:
        raise MalformedResponse(_NO_RESPONSE)
    status = int(status_line[3])
    fields: list[tuple[str, str]] = []
    control: dict[str, list[str]] = {}
    found = _FIELD.findall(rest)
    if len(found) != rest.count("\n") - 1:
        raise MalformedResponse("a line of its response's header is no field")
    for name, value in found:
        name, value = name.lower(), value.rstrip(" \t\r")
        if "\r" in value:
            value = value.replace("\r", " ")
        if name in _APART:
            control.setdefault(name, []).append(value)
        else:
            fields.append((name, value))
    return _understood(status, status_line[1] + status_line[2] >= "11", fields, control, is_head_request)


def _understood(
    status: int, is_new: bool, fields: list[tuple[str, str]], control: dict[str, list[str]], is_head_request: bool
) -> Head:
    """What the fields about the connection say; ``is_new``: of HTTP/1.1 at least."""
    options = _listed(control.get("connection"))
    stays_open = "close" not in options if is_new else "keep-alive" in options
    codings = tuple(each for each in _listed(control.get("content-encoding")) if each not in _NO_CODING)
    has_no_body = is_head_request or status in (204, 304)
    is_chunked = not has_no_body and "transfer-encoding" in control
    if is_chunked and _listed(control["transfer-encoding"]) != ["chunked"]:
        raise MalformedResponse("its body comes in a transfer-coding that nobody asked for")
    length = 0 if has_no_body else None if is_chunked else _length(control.get("content-length"))
    if is_head_request and not codings:  # of HEAD, it is what there is to know
        fields += [("content-length", value) for value in control.get("content-length", ())]
    if codings and status not in (204, 304):
        options.append("content-range")  # which counts encoded bytes
    if not _USUAL_OPTIONS.issuperset(options):
        fields = [field for field in fields if field[0] not in options]
    return Head(status, tuple(fields), length, is_chunked, stays_open, codings)


def _listed(values: list[str] | None) -> list[str]:
    return [each.strip(" \t").lower() for value in values for each in value.split(",")] if values else []


def _length(values: list[str] | None) -> int | None:
    """What all of the Content-Length fields say.

    RFC 9112 section 6.3: "If a message is received without Transfer-Encoding and with an invalid Content-Length header
    field, then the message framing is invalid", unless it is "successfully parsed as a comma-separated list, all values
    in the list are valid, and all values in the list are the same".
    """
    if not values:
        return None
    said = set(_listed(values))
    length = said.pop()
    if said or _NUMBER.fullmatch(length) is None:
        raise MalformedResponse("the length of its response is none")
    return int(length)
