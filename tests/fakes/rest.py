"""Short words for bodies that break off and go on: ways to die, ways to give the rest, what was asked for it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from pipcache.rules.errors import TruncatedBody, UpstreamTimeout
from tests.fakes.cache import Cached
from tests.fakes.engine import FakeResponse

BODY = bytes(range(256)) * 20
"""Too short for its part to be left for others: where nobody has the rest, nothing of it remains."""

CHUNK = 1000
CUT = 3000
PATH = "/packages/aa/x-1.tar.gz"
ETAG = '"theirs"'

DEATHS = ["reset", "stall", "short"]

Asking = tuple[str, str | None, str | None]
"""Which upstream is asked, for which range, under which condition."""


def die(response: FakeResponse, how: str) -> None:
    """End a response before its body is whole."""
    match how:
        case "reset":
            response.fail(TruncatedBody("the connection broke before the body was whole"))
        case "stall":
            response.fail(UpstreamTimeout("no byte for 30 s in mid-body"))
        case _:
            response.end()


def cut_off(
    cached: Cached, how: str, *, etag: str | None = None, at: int = CUT, length: int | None = -1
) -> FakeResponse:
    """Have the first upstream answer, send as much, and die."""
    fields = (("etag", etag),) if etag else ()
    response = cached.client.answer(200, len(BODY) if length == -1 else length, fields)
    for start in range(0, at, CHUNK):
        response.give(BODY[start : min(start + CHUNK, at)])
        cached.clock.advance(0)
    die(response, how)
    return response


def part(cached: Cached, start: int, body: bytes = BODY, stop: int | None = None, total: str = "") -> FakeResponse:
    """Answer the request that waits with a 206 from ``start`` on; its bytes are the test's to send."""
    stop = len(body) if stop is None else stop
    fields = (("content-range", f"bytes {start}-{stop - 1}/{total or len(body)}"),)
    return cached.client.answer(206, stop - start, fields)


def give_part(cached: Cached, start: int, body: bytes = BODY) -> None:
    """Answer the request that waits with the rest of the body from ``start`` on."""
    part(cached, start, body).give_all(body[start:], CHUNK)


def asked_since(cached: Cached, count: int) -> list[Asking]:
    """What was asked of whom after the first ``count`` requests."""
    requests = [sent.request for sent in cached.client.sent[count:]]
    return [((urlsplit(each.url).hostname or "")[:-5], each.byte_range, each.if_range) for each in requests]


def notes(cached: Cached) -> list[dict[str, Any]]:
    """What the quarantine says of what is in it."""
    return [json.loads(path.read_bytes()) for path in sorted(cached.store.root.glob("quarantine/*.json"))]


def quarantined(cached: Cached) -> list[bytes]:
    """The bodies in quarantine."""
    return [path.read_bytes() for path in sorted(cached.store.root.glob("quarantine/*.body"))]
