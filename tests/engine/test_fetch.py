"""One request to an upstream in progress: the tee, the withheld end, who may join, who is told what."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pipcache.engine.fetch import Expected, Fetch
from pipcache.rules.errors import DigestMismatch, MalformedResponse, TruncatedBody, UpstreamError, UpstreamTimeout
from pipcache.simple.digests import Digest
from tests.fakes.disk import MemoryFiles
from tests.fakes.engine import FakeResponse, Sink, Turns, begin, is_waiting, result_of

BODY = bytes(range(256)) * 40
CHUNK = 1000


class Transfer:
    """A fetch with its upstream, its disk and its clients."""

    def __init__(self, length: int | None = len(BODY), disk: MemoryFiles | None = None, **expected: Any) -> None:
        self.disk = disk or MemoryFiles()
        self.clock = Turns()
        self.response = FakeResponse(200, length)
        self.fetch = Fetch(self.disk.grow(), Expected(**expected), length)
        self.ran: Deferred[None] = Deferred()

    def join(self, start: int = 0, stop: int | None = None) -> Sink:
        """A client follows from now on."""
        sink = Sink()
        sink.follow(self.fetch, self.clock, start, self.fetch.length if stop is None else stop)
        return sink

    def run(self) -> None:
        """Take the response."""
        self.ran = begin(self.fetch.take(self.response))

    def failure(self) -> UpstreamError:
        """Why it came to nothing; nobody goes on with it."""
        with pytest.raises(UpstreamError) as caught:
            result_of(self.ran)
        self.fetch.give_up()
        return caught.value


def test_the_last_chunk_is_withheld_until_the_end() -> None:
    """Everything before it is passed on as it comes; the rest when upstream says that this was all."""
    transfer = Transfer()
    sink = transfer.join()
    transfer.run()
    transfer.response.give(BODY[:CHUNK])
    assert bytes(sink.data) == BODY[:CHUNK]
    transfer.response.give(BODY[CHUNK:])
    assert (len(sink.data), sink.end, is_waiting(transfer.ran)) == (CHUNK, None, True)
    transfer.response.end()
    assert (bytes(sink.data), sink.end) == (BODY, "finished")
    result_of(transfer.ran)
    assert transfer.fetch.is_verified


def test_the_chunk_that_came_last_is_not_read_from_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who begins with the first one, and who waited for the end, have it from memory; one behind them reads the body."""
    transfer = Transfer()
    reads: list[int] = []
    read_at = transfer.fetch.body.read_at

    def counted(offset: int, count: int) -> bytes:
        reads.append(offset)
        return read_at(offset, count)

    monkeypatch.setattr(transfer.fetch.body, "read_at", counted)
    transfer.run()
    transfer.response.give(BODY[:CHUNK])
    sinks = [transfer.join()]
    transfer.response.give(BODY[CHUNK:-CHUNK])
    assert reads == []
    sinks.append(transfer.join())
    assert reads == [0]
    transfer.response.give(BODY[-CHUNK:])
    transfer.response.end()
    assert reads == [0]
    sinks.append(transfer.join())
    assert reads == [0, 0]
    assert [(bytes(sink.data), sink.end) for sink in sinks] == [(BODY, "finished")] * 3


def test_a_body_of_one_chunk_is_not_read_from_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by whoever comes when it is whole either, until its owner is through with it: then it takes no memory any more."""
    transfer = Transfer()
    transfer.run()
    transfer.response.give(BODY)
    transfer.response.end()
    with monkeypatch.context() as patched:
        patched.setattr(transfer.fetch.body, "read_at", lambda *_: pytest.fail("it was read"))
        early = transfer.join()
    late = Sink()
    late.pause()
    late.follow(transfer.fetch, transfer.clock, 0, len(BODY))
    transfer.fetch.release()
    reads: list[int] = []
    read_at = transfer.fetch.body.read_at
    monkeypatch.setattr(transfer.fetch.body, "read_at", lambda *what: reads.append(what[0]) or read_at(*what))
    late.resume()
    assert reads == [0]
    assert [(bytes(sink.data), sink.end) for sink in (early, late)] == [(BODY, "finished")] * 2


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_the_digest_that_the_index_promised_is_checked(name: str) -> None:
    """With the hash that the promise names."""
    right, wrong = (Digest(name, hashlib.new(name, body).hexdigest()) for body in (BODY, BODY[:-1]))
    kept, refused = Transfer(digest=right), Transfer(digest=wrong)
    for transfer in (kept, refused):
        transfer.run()
    sinks = [kept.join(), refused.join(), refused.join()]
    for transfer in (kept, refused):
        transfer.response.give_all(BODY, CHUNK)
    result_of(kept.ran)
    failure = refused.failure()
    assert isinstance(failure, DigestMismatch)
    assert name in str(failure)
    assert [sink.end for sink in sinks] == ["finished", "aborted", "aborted"]
    assert all(len(sink.data) < len(BODY) for sink in sinks[1:])
    assert not refused.fetch.is_verified


def test_a_body_that_ends_short_breaks_every_client_off() -> None:
    """Whoever says that it is whole: the announced length decides."""
    transfer = Transfer()
    transfer.run()
    sinks = [transfer.join(), transfer.join()]
    transfer.response.give(BODY[:-1])
    transfer.response.end()
    assert isinstance(transfer.failure(), TruncatedBody)
    assert [sink.end for sink in sinks] == ["aborted", "aborted"]


def test_a_body_that_is_longer_than_announced_breaks_every_client_off() -> None:
    """Nobody gets as much as the announced length, which would look complete."""
    transfer = Transfer()
    transfer.run()
    sink = transfer.join()
    transfer.response.give_all(BODY + b"more", CHUNK)
    assert isinstance(transfer.failure(), TruncatedBody)
    assert sink.end == "aborted"
    assert len(sink.data) < len(BODY)


def test_an_upstream_that_breaks_off_aborts_all_and_says_why() -> None:
    """Its error is the run's."""
    transfer = Transfer()
    transfer.run()
    sinks = [transfer.join(), transfer.join()]
    transfer.response.give(BODY[:CHUNK])
    transfer.response.fail(UpstreamTimeout("silence"))
    assert isinstance(transfer.failure(), UpstreamTimeout)
    assert [sink.end for sink in sinks] == ["aborted", "aborted"]
    assert not transfer.fetch.is_joinable
    assert transfer.join().end == "aborted"


@pytest.mark.parametrize(("has_digest", "is_verified"), [(True, True), (False, False)])
def test_a_body_without_a_length_is_passed_on_at_once(has_digest: bool, is_verified: bool) -> None:
    """Only its end is withheld; closed without one, it is right where a digest says so."""
    digest = Digest("sha256", hashlib.sha256(BODY).hexdigest()) if has_digest else None
    transfer = Transfer(None, digest=digest)
    transfer.run()
    sink = transfer.join()
    transfer.response.give(BODY)
    assert (bytes(sink.data), sink.end) == (BODY, None)
    transfer.response.end(length_was_known=False)
    result_of(transfer.ran)
    assert (sink.end, transfer.fetch.is_whole, transfer.fetch.is_verified) == ("finished", True, is_verified)


def test_a_body_without_a_length_and_with_a_wrong_digest_is_not_finished() -> None:
    """All its bytes went out; the terminator did not."""
    transfer = Transfer(None, digest=Digest("sha256", "0" * 64))
    transfer.run()
    sink = transfer.join()
    transfer.response.give_all(BODY)
    assert isinstance(transfer.failure(), DigestMismatch)
    assert sink.end == "aborted"


def test_one_who_joins_late_gets_it_from_the_first_byte() -> None:
    """From the body; the upstream sends nothing twice."""
    transfer = Transfer()
    transfer.run()
    early = transfer.join()
    transfer.response.give(BODY[:5000])
    late = transfer.join()
    assert bytes(late.data) == BODY[:5000]
    transfer.response.give(BODY[5000:])
    transfer.response.end()
    last = transfer.join()
    assert [bytes(sink.data) == BODY and sink.end == "finished" for sink in (early, late, last)] == [True] * 3


def test_one_that_leaves_takes_nothing_from_the_others() -> None:
    """Also when it leaves inside the write of a chunk."""
    transfer = Transfer()
    transfer.run()
    leaver, stayer = transfer.join(), transfer.join()
    leaver.on_write = lambda _: leaver.vanish()
    transfer.response.give_all(BODY, CHUNK)
    assert (bytes(leaver.data), leaver.end) == (BODY[:CHUNK], None)
    assert (bytes(stayer.data), stayer.end) == (BODY, "finished")
    result_of(transfer.ran)


def test_a_slow_one_holds_up_nobody_while_there_is_a_disk() -> None:
    """Upstream is never paused; the slow one reads the file later."""
    transfer = Transfer()
    transfer.run()
    slow, fast = transfer.join(), transfer.join()
    slow.pause()
    transfer.response.give_all(BODY, CHUNK)
    assert (bytes(fast.data), fast.end, slow.end) == (BODY, "finished", None)
    assert transfer.response.pauses == 0
    slow.resume()
    assert (bytes(slow.data), slow.end) == (BODY, "finished")


def test_the_last_one_that_leaves_does_not_end_a_fetch_to_disk() -> None:
    """What was fetched so far is worth keeping."""
    transfer = Transfer()
    transfer.run()
    transfer.join().vanish()
    transfer.response.give_all(BODY, CHUNK)
    result_of(transfer.ran)
    assert (transfer.fetch.is_verified, transfer.fetch.may_be_kept) == (True, True)


def test_a_body_that_outgrows_what_is_kept_goes_on_in_its_part() -> None:
    """It is passed on whole, and not to be kept."""
    transfer = Transfer(None, max_kept_bytes=5000)
    transfer.run()
    sink = transfer.join()
    transfer.response.give(BODY[:5000])
    assert transfer.fetch.may_be_kept
    transfer.response.give(BODY[5000:])
    transfer.response.end()
    assert (bytes(sink.data), sink.end, transfer.fetch.may_be_kept) == (BODY, "finished", False)


def test_a_body_over_the_most_that_is_taken_is_refused() -> None:
    """It may be endless: upstream is given up as soon as it is over."""
    transfer = Transfer(None, max_bytes=5000)
    transfer.run()
    sink = transfer.join()
    transfer.response.give(BODY[:5000])
    assert is_waiting(transfer.ran)
    transfer.response.give(b"x")
    assert isinstance(transfer.failure(), MalformedResponse)
    assert (sink.end, transfer.response.is_abandoned) == ("aborted", True)
    assert transfer.fetch.body.size == 5000


def test_a_body_that_is_announced_as_too_long_is_not_begun() -> None:
    """Not a byte of it is taken."""
    transfer = Transfer(None, max_bytes=5000)
    transfer.response.length = 5001
    transfer.run()
    assert isinstance(transfer.failure(), MalformedResponse)
    assert (transfer.response.is_abandoned, transfer.response.receiver) == (True, None)


@pytest.mark.parametrize("order", ["owner first", "followers first"])
def test_the_body_is_closed_once_when_all_are_through_with_it(order: str) -> None:
    """The owner may be through long before a slow client, or after it."""
    transfer = Transfer()
    transfer.run()
    slow, fast = transfer.join(), transfer.join()
    slow.pause()
    transfer.response.give_all(BODY, CHUNK)
    assert (fast.end, transfer.disk.closes) == ("finished", 0)
    if order == "owner first":
        transfer.fetch.release()
        assert (transfer.disk.closes, transfer.fetch.is_joinable) == (0, False)
        slow.resume()
    else:
        slow.resume()
        assert transfer.disk.closes == 0
        transfer.fetch.release()
    assert (bytes(slow.data), transfer.disk.closes, transfer.disk.open_parts) == (BODY, 1, {})


def test_a_broken_body_is_closed_too() -> None:
    """By its owner, as its clients are gone."""
    transfer = Transfer()
    transfer.run()
    transfer.join()
    transfer.response.fail(TruncatedBody("cut"))
    assert isinstance(transfer.failure(), TruncatedBody)
    transfer.fetch.release()
    assert transfer.disk.closes == 1
