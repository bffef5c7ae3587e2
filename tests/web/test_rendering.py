"""One client's response: when its head goes out."""

from __future__ import annotations

from typing import Any

from pipcache.web.rendering import RequestSink


class Channel:
    """What was sent; ``transport`` is itself."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.is_aborted = False
        self.transport = self

    def write_both(self, head: bytes, data: bytes) -> None:
        """Both."""
        self.sent.append(head + data)

    def write(self, data: bytes) -> None:
        """More."""
        self.sent.append(data)

    def abortConnection(self) -> None:
        """Break it."""
        self.is_aborted = True


class Request:
    """A request that is being answered."""

    def __init__(self) -> None:
        self.channel: Any = Channel()
        self.sentLength = 0
        self.is_finished = False

    def unregisterProducer(self) -> None:
        """Nobody writes any more."""

    def finish(self) -> None:
        """That was all."""
        self.is_finished = True


def test_the_head_goes_out_with_the_first_bytes() -> None:
    """Once; and only bytes of the body count as sent."""
    request = Request()
    sink = RequestSink(request, b"head ")  # type: ignore[arg-type]
    sink.write(b"one ")
    sink.begin()
    sink.write(b"two")
    sink.finish()
    assert request.channel.sent == [b"head one ", b"two"]
    assert (request.sentLength, request.is_finished) == (7, True)


def test_without_bytes_the_head_goes_out_alone() -> None:
    """When the others are waited for, or when there are none."""
    for is_begun in (True, False):
        request = Request()
        sink = RequestSink(request, b"head")  # type: ignore[arg-type]
        if is_begun:
            sink.begin()
        sink.finish()
        assert request.channel.sent == [b"head"]


def test_what_is_broken_off_before_its_head_sends_none() -> None:
    """The disk did not give the first bytes: nothing is written behind the end of the connection."""
    request = Request()
    sink = RequestSink(request, b"head")  # type: ignore[arg-type]
    sink.abort()
    sink.begin()
    assert request.channel.is_aborted
    assert request.channel.sent == []
