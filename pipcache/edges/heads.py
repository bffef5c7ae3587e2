"""What an upstream may send before a body, and whether it sends more than one: counted beside Twisted's parser.

Twisted's client bounds a line of a response's head and nothing else. This looks at the same bytes first, knows where a
head ends and how long the body behind it is said to be, and interprets nothing more.
"""

from __future__ import annotations

from pipcache.rules.errors import MalformedResponse

MAX_HEAD_BYTES = 1 << 16
MAX_LINE_BYTES = 16_000
"""Just under where Twisted itself would break off, without saying why."""

MAX_FIELDS = 500
MAX_INTERIM = 20
"""So many 1xx responses may come before the one that counts (RFC 9110, section 15.2)."""


class HeadWatch:
    """Watches what comes on one connection.

    ``has_spare`` once bytes came that belong to no response. ``options`` are those of the response's Connection field, in
    lower case.
    """

    def __init__(self) -> None:
        self.has_spare = False
        self._is_head_request = False
        self._begin()

    def asked(self, data: bytes) -> None:
        """A request is sent: what comes from now on answers it."""
        self._is_head_request = data.startswith(b"HEAD ")
        self._begin()

    def received(self, data: bytes) -> None:
        """Bytes have come.

        Raises:
            MalformedResponse: the head is larger than any sensible one.
        """
        if self._in_head:
            self._head(data)
        elif self._left_bytes is not None:
            self._body(len(data))

    def _begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        self._line = b""
        self._lines = 0
        self._interim = 0
        self._begin_response()

    def _begin_response(self) -> None:
        self.options: set[str] = set()
        self._status = b""
        self._length: int | None = None
        self._is_framed = False
        self._left_bytes: int | None = None

    def _head(self, data: bytes) -> None:
        start = 0
        while self._in_head and start < len(data):
            end = data.find(b"\n", start)
            stop = len(data) if end < 0 else end + 1
            self._head_bytes += stop - start
            if self._head_bytes > MAX_HEAD_BYTES or len(self._line) + stop - start > MAX_LINE_BYTES:
                raise MalformedResponse("the header of its response is too large")
            self._line += data[start:stop]
            start = stop
            if end >= 0:
                line, self._line = self._line.rstrip(b"\r\n"), b""
                self._take_line(line)
        if not self._in_head and self._left_bytes is not None:
            self._body(len(data) - start)

    def _take_line(self, line: bytes) -> None:
        if not self._status:
            self._status = line.split(b" ", 2)[1] if b" " in line else b"?"
            return
        if line:
            self._lines += 1
            if self._lines > MAX_FIELDS:
                raise MalformedResponse(f"the header of its response has more than {MAX_FIELDS} fields")
            self._take_field(line)
        elif len(self._status) == 3 and self._status.startswith(b"1"):
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise MalformedResponse(f"more than {MAX_INTERIM} interim responses")
            self._begin_response()
        else:
            self._end_head()

    def _take_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name.lower() == b"transfer-encoding":
            self._is_framed = True
        elif name.lower() == b"content-length" and value.strip().isdigit():
            self._length = int(value)
        elif name.lower() == b"connection":
            self.options.update(option.strip().lower() for option in value.decode("latin-1").split(","))

    def _end_head(self) -> None:
        self._in_head = False
        if self._is_head_request or self._status in (b"204", b"304"):
            self._left_bytes = 0
        elif not self._is_framed:
            self._left_bytes = self._length

    def _body(self, size: int) -> None:
        assert self._left_bytes is not None
        self.has_spare = self.has_spare or size > self._left_bytes
        self._left_bytes = max(0, self._left_bytes - size)
