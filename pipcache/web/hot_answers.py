"""Which of the responses that are ready answers a request, and how.

Clients ask for the same in the same words, byte for byte; so what a request was found to mean is remembered by all of its
bytes, and whoever sends them again is answered after one look into a dict. Whether the response is still good is asked for
each answer.
"""

from __future__ import annotations

from enum import Enum, auto

from pipcache.web.hot import HotResponse, HotResponses
from pipcache.web.hot_requests import PlainRequests

MAX_REMEMBERED = 16_384

_LONGEST_TARGET = 1024


class Part(Enum):
    """How much of a response is sent."""

    WHOLE = auto()
    HEAD = auto()
    NOT_MODIFIED = auto()


class HotAnswer:
    """What one request is answered with.

    ``line`` is what the access log says of it, empty until somebody wants to know.
    """

    __slots__ = ("agent", "line", "method", "part", "response", "sent", "status", "target")

    def __init__(self, response: HotResponse, part: Part, method: str, target: bytes, agent: bytes) -> None:
        self.response = response
        self.part = part
        self.method = method
        self.target = target
        self.agent = agent
        self.status = 304 if part is Part.NOT_MODIFIED else 200
        self.sent = response.length if part is Part.WHOLE else 0
        self.line = ""


class HotAnswers:
    """Finds answers among the responses that are ready."""

    def __init__(self, responses: HotResponses) -> None:
        self.responses = responses
        self._requests = PlainRequests()
        self._remembered: dict[bytes, HotAnswer] = {}

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._remembered)

    def to(self, data: bytes) -> HotAnswer | None:
        """The answer, good for now, to what came in one piece; None where that is not a plain request for what is ready."""
        answer = self._remembered.get(data)
        if answer is not None:
            if self.responses.is_good(answer.response):
                return answer
            del self._remembered[data]
        answer = self._read(data)
        if answer is not None:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[data] = answer
        return answer

    def _read(self, data: bytes) -> HotAnswer | None:
        begin = 4 if data[:4] == b"GET " else 5 if data[:5] == b"HEAD " else 0
        end = data.find(b" ", begin, _LONGEST_TARGET)
        target = data[begin:end]
        if not begin or end < 0 or target not in self.responses.by_target:
            return None
        plain = self._requests.read(data[end:])
        response = self.responses.find(target, plain.accepts) if plain is not None else None
        if plain is None or response is None:
            return None
        method = "GET" if begin == 4 else "HEAD"
        part = Part.WHOLE if begin == 4 else Part.HEAD
        if plain.if_none_match is not None:
            if plain.if_none_match != response.etag:
                return None
            part = Part.NOT_MODIFIED
        return HotAnswer(response, part, method, target, plain.user_agent)
