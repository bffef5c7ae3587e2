"""Stored bodies that somebody touched since they were verified: read whole before the first byte goes out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipcache.rules.key import CacheKey
from tests.fakes.cache import Cached, page, promised
from tests.fakes.rest import BODY, PATH, notes, quarantined

KEY = CacheKey(f"GET-{PATH}")
PAGE_KEY = CacheKey("GET-/simple/x/")
PAGE = page(promised(PATH, BODY))
WRONG = BODY[:-1] + b"!"


@pytest.fixture
def stored(cached: Cached) -> Path:
    """The body of a kept file, whose page is kept too."""
    cached.keep_page("x", PAGE)
    cached.keep_file(PATH, BODY)
    return cached.store.root / KEY.folder / f"{KEY.stem}.body"


def touch(path: Path, content: bytes | None = None) -> None:
    """Write other bytes of the same size, or the same ones at another time."""
    path.write_bytes(path.read_bytes() if content is None else content)
    os.utime(path, (1, 1))


def test_a_body_that_was_touched_and_is_right_is_a_hit(cached: Cached, stored: Path) -> None:
    """It is read whole once, in a thread, before the first byte; from then on it is as good as ever."""
    touch(stored)
    cached.threads.is_held = True
    visits = [cached.get(PATH), cached.get(PATH, ("range", "bytes=0-9")), cached.head(PATH)]
    assert all(visit.is_waiting for visit in visits)
    assert cached.catalog.is_pinned(KEY.digest)
    cached.threads.let_go()
    assert [(visit.status, visit.said) for visit in visits] == [(200, "HIT"), (206, "HIT"), (200, "HIT")]
    assert [visit.body for visit in visits] == [BODY, BODY[:10], b""]
    calls = cached.threads.calls
    assert cached.get(PATH).body == BODY
    assert (cached.threads.calls, len(cached.client.sent), cached.events.of("found_wrong")) == (calls, 2, [])


def test_a_body_that_was_copied_back_is_a_hit(cached: Cached, stored: Path) -> None:
    """Another inode, the same bytes: a restored backup costs a reading, not a transfer."""
    copy = stored.with_suffix(".copy")
    copy.write_bytes(BODY)
    copy.rename(stored)
    visit = cached.get(PATH)
    assert (visit.said, visit.body, len(cached.client.sent)) == ("HIT", BODY, 2)


def test_a_body_that_was_changed_is_fetched_anew(cached: Cached, stored: Path) -> None:
    """Not a byte of it goes out; it is in quarantine, told of, and a hit again when it was fetched."""
    touch(stored, WRONG)
    visit = cached.get(PATH)
    assert (visit.is_waiting, cached.client.waiting) == (True, [f"https://alpha.test{PATH}"])
    cached.client.answer_whole(BODY)
    assert (visit.said, visit.body, cached.get(PATH).said) == ("MISS", BODY, "HIT")
    assert cached.events.of("found_wrong") == [(KEY.text,)]
    (note,) = notes(cached)
    assert (quarantined(cached), note["key"], note["upstream"], note["found"]) == (
        [WRONG],
        KEY.text,
        "alpha",
        "on disk",
    )
    assert cached.upstreams.health == {}


def test_two_who_meet_a_changed_body_share_one_fetch(cached: Cached, stored: Path) -> None:
    """Both waited for its check; the second finds the fetch of the first."""
    touch(stored, WRONG)
    cached.threads.is_held = True
    visits = [cached.get(PATH), cached.get(PATH)]
    cached.threads.let_go()
    assert len(cached.client.waiting) == 1
    cached.client.answer_whole(BODY)
    assert [(visit.body, visit.is_whole) for visit in visits] == [(BODY, True)] * 2
    assert len(quarantined(cached)) == 1


@pytest.mark.parametrize("is_right", [True, False])
def test_one_that_leaves_while_a_body_is_checked_leaves_nothing(cached: Cached, stored: Path, is_right: bool) -> None:
    """Neither a pin nor a descriptor; what was found out stays known."""
    touch(stored, None if is_right else WRONG)
    cached.threads.is_held = True
    visit = cached.get(PATH)
    visit.leave()
    cached.threads.let_go()
    if not is_right:
        cached.client.answer_whole(BODY)
    assert cached.get(PATH).said == "HIT"


@pytest.mark.parametrize("moment", ["before", "while it waits for its check"])
def test_a_body_that_is_gone_is_fetched_anew(cached: Cached, stored: Path, moment: str) -> None:
    """There is nothing to put into quarantine."""
    touch(stored)
    if moment == "before":
        stored.unlink()
    cached.threads.is_held = True
    visit = cached.get(PATH)
    if moment != "before":
        stored.unlink()
    cached.threads.let_go()
    cached.client.answer_whole(BODY)
    assert (visit.said, visit.body, quarantined(cached)) == ("MISS", BODY, [])
    assert cached.get(PATH).said == "HIT"


def test_a_body_that_the_disk_does_not_give_is_fetched_anew(cached: Cached, stored: Path) -> None:
    """It could not be said that it is right."""
    touch(stored)
    cached.files.broken.add("read_at")
    visit = cached.get(PATH)
    cached.files.broken.clear()
    cached.client.answer_whole(BODY)
    assert (visit.said, visit.body, cached.get(PATH).said) == ("MISS", BODY, "HIT")


def test_a_disk_that_cannot_note_a_check_checks_again(cached: Cached, stored: Path) -> None:
    """The client has its hit all the same."""
    touch(stored)
    cached.files.broken.add("rename")
    assert cached.get(PATH).body == BODY
    cached.files.broken.clear()
    calls = cached.threads.calls
    assert [cached.get(PATH).said for _ in range(2)] == ["HIT", "HIT"]
    assert cached.threads.calls == calls + 1


def test_a_page_s_rendering_that_was_touched_is_made_again(cached: Cached, stored: Path) -> None:
    """From the body, which is what was verified."""
    before = cached.get("/simple/x/").body
    (variant,) = cached.store.root.glob("???/*.html")
    touch(variant, before.replace(b"x-1", b"y-1"))
    visit = cached.get("/simple/x/")
    assert (visit.said, visit.body, len(cached.client.sent)) == ("HIT", before, 2)


def test_a_page_that_was_changed_is_fetched_anew(cached: Cached, stored: Path) -> None:
    """Also where only a file is asked for: its digests are what everything is held to."""
    body = cached.store.root / PAGE_KEY.folder / f"{PAGE_KEY.stem}.body"
    forged = PAGE.replace(b"sha256=", b"sha256=0")[: len(PAGE)]
    touch(body, forged)
    stored.unlink()
    again = Cached(cached.store.root)
    visit = again.get(PATH)
    assert again.client.waiting == ["https://alpha.test/simple/x/"]
    again.client.answer_whole(PAGE)
    again.client.answer_whole(BODY)
    assert (visit.body, quarantined(again)) == (BODY, [forged])
    again.check_books()
