"""Responses that are ready: what was answered lately, with its head written and its body at hand.

``HotResponses`` holds them by request target, and a page's renderings by Accept and Accept-Encoding too, as they came over
the wire; so nothing is decided here that was not decided by the engine for the very same request. A response is used
without a look at the disk for at most ``LOOK_SECONDS``: then its meta and its body must still be
the files that they were. It is forgotten when it is no more, when its time is over, and when the catalog says that
something else is stored, or nothing.

Bounds. Small bodies are held in memory, larger ones as open files; where there is no room the head stays, and the body is
opened for each answer. Room is taken from whom nobody asked for in ``REST_SECONDS``, not from the least recent at once: many
things asked for in turn would then push each other out, and none would ever be there.
"""

from __future__ import annotations

import resource
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from math import floor

from pipcache.engine.interfaces import Seen, StoredBody
from pipcache.engine.repeats import Repeat
from pipcache.rules.errors import StorageError
from pipcache.rules.response import about_the_body, about_what_lasts
from pipcache.web.hot_requests import Accepts
from pipcache.web.mapping import OpenFile, max_windows
from pipcache.web.page_cache import READ_BYTES, read_at_hand
from pipcache.web.rendering import written_fields, written_head, written_start

LOOK_SECONDS = 0.1
USE_SECONDS = 5.0
"""A use is counted, and room given, at most this often a response."""

REST_SECONDS = 10.0
IN_MEMORY_BYTES = READ_BYTES
"""A larger body is sent from its file."""

MAX_RESPONSES = 16_384
MAX_NAMES = 64
"""So many targets, or values of Accept, lead to one response; one more is not remembered."""

MAX_FILES = 1024
FILE_SHARE = 4
"""One in so many of the descriptors that this process may have, less those of what is mapped."""

Which = tuple[str, str, str]
"""What tells a response from all others: the digest of its key, the ETag of what is stored, how that is shown."""


class Room:
    """Bounded room: who has it keeps it while it is used.

    Args:
        limit: how much there is.
        take_away: called with a response that loses its room.
    """

    def __init__(self, limit: Callable[[], int], take_away: Callable[[HotResponse], None]) -> None:
        self.taken = 0
        self._limit = limit
        self._take_away = take_away
        self._holders: OrderedDict[HotResponse, int] = OrderedDict()

    def __len__(self) -> int:
        """How many have some."""
        return len(self._holders)

    def take(self, response: HotResponse, size: int, now: float) -> bool:
        """Give it room, if need be that of others which rest; False where there is none."""
        limit = self._limit()
        while self.taken + size > limit:
            oldest = next(iter(self._holders), None)
            if oldest is None or 0 <= now - oldest.looked_at < REST_SECONDS:
                return False
            self.leave(oldest)
            self._take_away(oldest)
        self._holders[response] = size
        self.taken += size
        return True

    def used(self, response: HotResponse) -> None:
        """It was asked for."""
        if response in self._holders:
            self._holders.move_to_end(response)

    def leave(self, response: HotResponse) -> None:
        """It needs its room no more, if it had any."""
        self.taken -= self._holders.pop(response, 0)


class HeldFile(OpenFile):
    """One that several answers may be reading; closed when it was let go and the last is through.

    ``sent_at`` is when it last was sent in one go, which it only is from memory.
    """

    def __init__(self, body: StoredBody) -> None:
        assert body.descriptor is not None
        super().__init__(body.descriptor)
        self.sent_at = 0.0
        self._body = body
        self._users = 1

    def take(self) -> HeldFile:
        """One more uses it."""
        self._users += 1
        return self

    def let_go(self) -> None:
        """One less."""
        self._users -= 1
        if not self._users:
            self.unmap()
            self._body.close()


class HotResponse:
    """One response: good from ``since`` until before ``until``, by the wall clock; then it is to be renewed.

    ``looked_at`` is when the disk was last looked at, ``used_at`` when a use was last counted.

    ``whole`` is head and body, None where the body is in a file; ``head`` the head alone. ``file`` is None where it is to be
    opened. One that ``is_gone`` was forgotten.
    """

    def __init__(self, which: Which, repeat: Repeat, seen: Seen) -> None:
        self.which = which
        self.repeat = repeat
        self.length = repeat.length
        self.names: set[tuple[bytes, Accepts | None]] = set()
        self.since = self.until = 0.0
        self.looked_at = 0.0
        self.used_at = 0.0
        self.is_gone = False
        self.etag = b""
        self.head = b""
        self.whole: bytes | None = None
        self.file: HeldFile | None = None
        self._seen = seen
        self._head_until = 0.0
        self._lasting: tuple[bytes, ...] = ()
        """The fields that do not change with time: those before and those behind what is said about its age."""
        self._not_modified = b""

    @property
    def not_modified(self) -> bytes:
        """The answer, good for now, to who has it already."""
        if not self._not_modified:
            shape = self.repeat.shape(fields=(("if-none-match", self.etag.decode("latin-1")),))
            self._not_modified = written_head(shape.status, shape.fields, self.since)
        return self._not_modified

    @property
    def is_at_hand(self) -> bool:
        """Whether the body is held, in memory or open; else it is looked at when it is opened, for each answer."""
        return self.whole is not None or self.file is not None

    def is_there(self) -> bool:
        """Whether the body is there, for an answer that needs none of it."""
        return self.is_at_hand or self._seen.is_current()

    def renew(self, now: float) -> bool:
        """Make it good for now; False where it is good no more."""
        repeat = self.repeat
        is_due = not self.since <= now < self._head_until
        if is_due and not repeat.is_fresh(now):
            return False
        if not 0 <= now - self.looked_at < LOOK_SECONDS:
            is_current = self._seen.is_current() if self.is_at_hand else self._seen.is_meta_current()
            if not is_current:
                return False
            self.looked_at = now
        if is_due:
            self._write_heads(now)
        self.until = min(self._head_until, self.looked_at + LOOK_SECONDS)
        return True

    def hold(self, body: bytes) -> None:
        """Have the body in memory."""
        self.whole = self.head + body

    def open(self) -> StoredBody | None:
        """The body, which the caller closes; None where it is gone."""
        return self._seen.open()

    def opened(self) -> HeldFile | None:
        """The file to send, which the caller lets go; None where it is gone."""
        if self.file is not None:
            return self.file.take()
        body = self.open()
        return None if body is None else HeldFile(body)

    def read(self) -> bytes | None:
        """Head and body, where that is small and the system has it in memory; None where it is to be sent as a file."""
        body = self.open() if self.length <= IN_MEMORY_BYTES else None
        if body is None or body.descriptor is None:
            return None
        try:
            content = read_at_hand(body.descriptor, self.length)
        finally:
            body.close()
        return None if content is None else b"".join((self.head, content))

    def let_go(self) -> None:
        """Hold the body no more."""
        self.whole = None
        file, self.file = self.file, None
        if file is not None:
            file.let_go()

    def _write_heads(self, now: float) -> None:
        """Write all that depends on the time, which none of it does before ``_head_until``."""
        known = self.repeat.shown
        if not self._lasting:
            lasting = written_fields((*known.fields, *about_what_lasts(known)))
            self._lasting = (lasting, written_fields(about_the_body(known)) + b"\r\n")
            self.etag = (known.etag or "").encode("latin-1")
        before, behind = self._lasting
        body = memoryview(self.whole)[len(self.head) :] if self.whole is not None else None
        start = written_start(known.status, int(now))
        self.head = b"".join((start, before, _written_age(self.repeat.about_its_age()), behind))
        if body is not None:
            self.whole = b"".join((self.head, body))
        self._not_modified = b""
        stored = self.repeat.stored
        age_turns = stored.cached_at + floor(now - stored.cached_at) + 1
        rest_turns = stored.expires_at - floor(stored.expires_at - now)
        self.since = now
        self._head_until = min(floor(now) + 1, age_turns, rest_turns, stored.expires_at)


class HotResponses:
    """All responses that are ready.

    Args:
        memory_bytes: for bodies; 0: none is held.
        now: the wall clock, epoch seconds.
    """

    def __init__(self, memory_bytes: int, now: Callable[[], float]) -> None:
        self.now = now
        self.by_target: dict[bytes, dict[Accepts | None, HotResponse]] = {}
        self.memory = Room(lambda: memory_bytes, HotResponse.let_go)
        self.files = Room(_file_limit, HotResponse.let_go)
        self._responses: OrderedDict[Which, HotResponse] = OrderedDict()
        self._by_key: dict[str, set[Which]] = {}
        self.uses: list[HotResponse] = []
        """Found good, and not yet counted."""

    def __len__(self) -> int:
        """How many there are."""
        return len(self._responses)

    def find(self, target: bytes, accepts: Accepts) -> HotResponse | None:
        """The response to a plain request, good for now; None where there is none."""
        known = self.by_target.get(target)
        if known is None:
            return None
        response = known.get(None) or known.get(accepts)
        return response if response is not None and self.is_good(response) else None

    def is_good(self, response: HotResponse) -> bool:
        """Whether a response that was found before may be given now; it is renewed for that where need be."""
        now = self.now()
        if response.since <= now < response.until:
            return True
        if response.is_gone:
            return False
        if not response.renew(now):
            self._drop(response.which)
            return False
        if not 0 <= now - response.used_at < USE_SECONDS:
            response.used_at = now
            self.uses.append(response)
        return True

    def count_uses(self) -> None:
        """Count those in ``uses``; best behind an answer, as its client need not wait for that."""
        uses, self.uses = self.uses, []
        for response in uses:
            if not response.is_gone:
                self._used(response)

    def enter(self, target: bytes, accepts: Accepts, repeat: Repeat) -> None:
        """Have the answer that was just given ready for whoever asks the same."""
        which = _which(repeat)
        response = self._responses.get(which)
        if response is None:
            response = self._new(which, repeat)
            if response is None:
                return
        name = (target, accepts if repeat.varies else None)
        if name not in response.names and len(response.names) < MAX_NAMES:
            response.names.add(name)
            self.by_target.setdefault(target, {})[name[1]] = response

    def drop(self, digest: str) -> None:
        """Forget all that is stored under the key with this digest."""
        for which in tuple(self._by_key.get(digest, ())):
            self._drop(which)

    def clear(self) -> None:
        """Forget everything."""
        for which in tuple(self._responses):
            self._drop(which)

    def _new(self, which: Which, repeat: Repeat) -> HotResponse | None:
        seen = repeat.seen()
        body = repeat.open() if seen is not None else None
        if seen is None or body is None:
            return None
        body.close()  # it is what was verified, and later openings see to it that it is the same
        response = HotResponse(which, repeat, seen)
        response.used_at = self.now()  # which was counted where it was answered
        if not response.renew(response.used_at):
            return None
        if len(self._responses) >= MAX_RESPONSES:
            self._drop(next(iter(self._responses)))
        self._responses[which] = response
        self._by_key.setdefault(repeat.key.digest, set()).add(which)
        self._give_room(response)
        return response

    def _give_room(self, response: HotResponse) -> None:
        """Have its body at hand, where there is room."""
        now = self.now()
        if response.length <= IN_MEMORY_BYTES:
            if self.memory.take(response, response.length, now):
                body = _content(response)
                if body is None:
                    self.memory.leave(response)
                else:
                    response.hold(body)
        elif self.files.take(response, 1, now):
            response.file = response.opened()
            if response.file is None:
                self.files.leave(response)

    def _used(self, response: HotResponse) -> None:
        response.repeat.used()
        self._responses.move_to_end(response.which)
        if response.whole is not None:
            self.memory.used(response)
        elif response.file is not None:
            self.files.used(response)
        else:
            self._give_room(response)

    def _drop(self, which: Which) -> None:
        response = self._responses.pop(which, None)
        if response is None:
            return
        of_key = self._by_key[which[0]]
        of_key.discard(which)
        if not of_key:
            del self._by_key[which[0]]
        for target, accepts in response.names:
            known = self.by_target.get(target, {})
            if known.get(accepts) is response:
                del known[accepts]
                if not known:
                    del self.by_target[target]
        self.memory.leave(response)
        self.files.leave(response)
        response.is_gone = True
        response.until = 0.0
        response.let_go()


_written_age = lru_cache(maxsize=1024)(written_fields)
"""Many are of the same age."""


def _which(repeat: Repeat) -> Which:
    return (repeat.key.digest, repeat.stored.etag, repeat.shown_as)


def _content(response: HotResponse) -> bytes | None:
    """A small body, read; None where it is gone."""
    body = response.open()
    if body is None:
        return None
    try:
        content = body.read_at(0, response.length) if response.length else b""
    except StorageError:
        return None
    finally:
        body.close()
    return content if len(content) == response.length else None


def _file_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_FILES if soft == resource.RLIM_INFINITY else min(MAX_FILES, soft // FILE_SHARE - max_windows())
