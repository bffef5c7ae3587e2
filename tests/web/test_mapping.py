"""Pieces of files mapped into memory, and sent from there."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.web import hot, mapping, transport
from pipcache.web.mapping import LEAST_BYTES, MAX_WINDOWS, REST_SECONDS, WINDOW_BYTES, OpenFile
from tests.flows.harness import bounded, eventually
from tests.web.connections import BIG, Opened, Outcome, connected

PAGE = os.sysconf("SC_PAGE_SIZE")
CONTENT = b"".join(number.to_bytes(4, "big") for number in range(WINDOW_BYTES))  # 4 windows, no two places alike

in_memory = OpenFile(os.memfd_create("content"))
os.write(in_memory.descriptor, CONTENT)


def windows_of(*files: OpenFile) -> list[int]:
    """Which of these files' windows are mapped, the one that was sent longest ago first."""
    return [number for file, number in mapping._windows if file in files]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time; nothing is mapped at first."""
    monkeypatch.setattr(mapping, "_windows", OrderedDict())
    return lambda seconds: monkeypatch.setattr(mapping, "monotonic", lambda: seconds)


@given(st.integers(0, len(CONTENT)), st.integers(0, len(CONTENT)), st.integers(0, len(CONTENT)))
def test_it_is_what_the_file_holds(start: int, stop: int, before: int) -> None:
    """From any place to any other, as far as the window goes; some of it always, where enough is asked for."""
    try:
        in_memory.mapped(before, len(CONTENT))
        piece = in_memory.mapped(start, stop)
        if piece is None:
            assert stop - start < LEAST_BYTES
            return
        with piece:
            end = max(start, min(stop, (start // WINDOW_BYTES + 1) * WINDOW_BYTES))
            assert bytes(piece) == CONTENT[start:end]
    finally:
        in_memory.unmap()


def test_little_is_not_mapped_for(opened: Opened) -> None:
    """But sent from what is mapped."""
    file = opened(CONTENT)
    assert file.mapped(0, LEAST_BYTES - 1) is None
    assert file.mapped(0, LEAST_BYTES) == CONTENT[:LEAST_BYTES]
    assert file.mapped(7, 8) == CONTENT[7:8]
    assert windows_of(file) == [0]


def test_as_many_are_mapped_as_may_be(opened: Opened, now: Callable[[float], None]) -> None:
    """What rests makes room, longest first; what was sent lately makes none, or who asks in turn would push out all."""
    first, second = opened(CONTENT), opened(b"")
    os.truncate(second.descriptor, MAX_WINDOWS * WINDOW_BYTES)

    def sent(file: OpenFile, number: int) -> bool:
        return file.mapped(number * WINDOW_BYTES, (number + 1) * WINDOW_BYTES) is not None

    now(100)
    assert sent(first, 0)
    assert sent(first, 1)
    now(101)
    assert sent(first, 0)
    assert all(sent(second, number) for number in range(MAX_WINDOWS - 2))
    assert mapped_bytes() == MAX_WINDOWS * WINDOW_BYTES
    now(99.9 + REST_SECONDS)
    assert not sent(second, MAX_WINDOWS - 2)
    now(100 + REST_SECONDS)
    assert sent(second, MAX_WINDOWS - 2)
    assert not sent(second, MAX_WINDOWS - 1)
    assert windows_of(first) == [0]
    assert mapped_bytes() == MAX_WINDOWS * WINDOW_BYTES
    first.unmap()
    assert windows_of(first) == []
    assert mapped_bytes() == (MAX_WINDOWS - 1) * WINDOW_BYTES


@pytest.mark.parametrize(("descriptors", "windows"), [(31, 0), (256, 8), (1 << 20, MAX_WINDOWS), (None, MAX_WINDOWS)])
def test_where_descriptors_are_few_fewer_are_mapped(
    descriptors: int | None, windows: int, opened: Opened, now: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each mapping takes one; and those that files are kept open for are fewer by as many."""
    now(0)
    limit = mapping.resource.RLIM_INFINITY if descriptors is None else descriptors
    monkeypatch.setattr(mapping.resource, "getrlimit", lambda _: (limit, limit))
    file = opened(b"")
    os.truncate(file.descriptor, 40 * WINDOW_BYTES)
    before = len(os.listdir("/proc/self/fd"))
    given = [file.mapped(start, start + WINDOW_BYTES) for start in range(0, 40 * WINDOW_BYTES, WINDOW_BYTES)]
    assert sum(each is not None for each in given) == windows
    assert len(os.listdir("/proc/self/fd")) == before + windows
    if descriptors is not None:
        assert hot._file_limit() + windows == min(hot.MAX_FILES + windows, descriptors // hot.FILE_SHARE)
    for each in given:
        if each is not None:
            each.release()


def mapped_bytes() -> int:
    """As the system sees it."""
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if "/test_as_many_are_mapped" in line]
    ends = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines]
    return sum(stop - start for start, stop in ends)


@pytest.mark.parametrize(
    "refusal", [OSError(19, "No such device"), ValueError("mmap length is greater than file size")]
)
@bounded
async def test_what_cannot_be_mapped_is_sent_as_ever(
    refusal: Exception, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its file system is not asked again."""
    asked: list[object] = []

    def refuse(*said: object, **more: object) -> Any:
        asked.append(said)
        raise refusal

    monkeypatch.setattr(mapping, "mmap", refuse)
    async with connected() as (server, client):
        done = Outcome()
        server.send_file(b"head", opened(BIG), 0, len(BIG), done)
        await eventually(lambda: bool(done.said))
        await eventually(lambda: len(client.received) == 4 + len(BIG))
        assert client.received == b"head" + BIG
        assert len(asked) == 1


@pytest.mark.parametrize(("seconds", "is_mapped"), [(0.00010, True), (0.00012, False)])
@bounded
async def test_who_takes_it_slowly_gets_it_by_sendfile(
    seconds: float, is_mapped: bool, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then no byte is copied here: to take 16 KiB that long is to take less than 150 MB a second."""
    pieces = count()
    monkeypatch.setattr(transport, "monotonic", lambda: next(pieces) * seconds)
    monkeypatch.setattr(transport, "CALL_BYTES", 1 << 14)
    monkeypatch.setattr(mapping, "LEAST_BYTES", 1)
    file = opened(BIG)
    async with connected() as (server, client):
        server.send_file(b"", file, 0, len(BIG), Outcome())
        await eventually(lambda: len(client.received) == len(BIG))
        assert client.received == BIG
        assert bool(windows_of(file)) is is_mapped


@pytest.mark.parametrize("size", [0, PAGE, LEAST_BYTES + 1, len(BIG) - PAGE, len(BIG) - 1])
@pytest.mark.parametrize("is_mapped", [False, True])
@bounded
async def test_a_file_that_became_shorter_breaks_the_connection(size: int, is_mapped: bool, opened: Opened) -> None:
    """By a byte or by pages, mapped already or not: nobody is sent what is not there, and nobody dies of it."""
    file = opened(BIG)
    if is_mapped:
        for start in range(0, len(BIG), WINDOW_BYTES):
            assert file.mapped(start, start + WINDOW_BYTES) is not None
    os.truncate(file.descriptor, size)
    async with connected() as (server, client):
        done = Outcome()
        server.send_file(b"", file, 0, len(BIG), done)
        await eventually(lambda: bool(done.said) and client.lost is not None)
        assert isinstance(done.said[0], OSError)
        assert client.received == BIG[: len(client.received)]
        assert len(client.received) <= size


@bounded
async def test_one_that_becomes_shorter_under_way_breaks_it_too(opened: Opened) -> None:
    """Where the size was asked for just before, the system says so, and kills nobody."""
    file = opened(BIG)
    piece = file.mapped(0, WINDOW_BYTES)
    assert piece is not None
    os.truncate(file.descriptor, 0)
    async with connected() as (server, _):
        with piece, pytest.raises(OSError, match="Bad address"):
            server.socket.send(piece)
