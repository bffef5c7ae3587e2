"""Bytes that are not what the index promised: whole to nobody, kept for nobody, held against who sent them."""

from __future__ import annotations

import hashlib

import pytest
from attrs import evolve

from pipcache.rules.errors import UpstreamUnavailable
from tests.fakes.cache import ALPHA, BETA, Cached, page, promised
from tests.fakes.rest import BODY, CHUNK, CUT, ETAG, PATH, asked_since, cut_off, notes, part, quarantined

WRONG = BODY[:-1] + b"!"
HINTED = b"what its own path says"
DIGITS = hashlib.blake2b(HINTED, digest_size=32).hexdigest()
HINT = f"/packages/{DIGITS[:2]}/{DIGITS[2:4]}/{DIGITS[4:]}/thing.bin"


def with_page(cached: Cached, name: str = "sha256") -> None:
    """The project's page is kept, and promises the file's digest."""
    cached.keep_page("x", page(promised(PATH, BODY, name)))


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("length", [len(BODY), None])
def test_wrong_bytes_that_clients_have_seen_break_them_off(cached: Cached, name: str, length: int | None) -> None:
    """Never finished, never kept; in quarantine with a note, and whoever sent them is asked last from then on."""
    with_page(cached, name)
    visits = [cached.get(PATH), cached.get(PATH)]
    cached.client.answer(200, length).give_all(WRONG, CHUNK)
    assert [visit.end for visit in visits] == ["aborted"] * 2
    assert (len(cached.entries()), quarantined(cached)) == (1, [WRONG])
    (note,) = notes(cached)
    assert (note["key"], note["upstream"], note["size"]) == (f"GET-{PATH}", "alpha", len(WRONG))
    assert note["found_sha256"] == hashlib.sha256(WRONG).hexdigest()
    assert cached.upstreams.is_last("alpha")
    again = cached.keep_file(PATH, BODY)
    assert (again.body, again.field("x-upstream")) == (BODY, "beta")


def test_wrong_bytes_that_no_client_has_seen_are_replaced(cached: Cached) -> None:
    """All of them were withheld: nobody notices, but the liar is put last and the quarantine has them."""
    with_page(cached)
    visits = [cached.get(PATH), cached.get(PATH)]
    cached.client.answer_whole(WRONG)
    assert all(visit.is_waiting for visit in visits)
    cached.client.answer_whole(BODY)
    assert [(visit.body, visit.is_whole, visit.field("x-upstream")) for visit in visits] == [(BODY, True, "beta")] * 2
    assert (quarantined(cached), [note["upstream"] for note in notes(cached)]) == ([WRONG], ["alpha"])
    assert cached.upstreams.is_last("alpha")
    assert cached.get(PATH).said == "HIT"


def test_where_all_send_wrong_bytes_nobody_gets_any(cached: Cached) -> None:
    """A plain error, once every upstream was asked."""
    with_page(cached)
    visit = cached.get(PATH)
    cached.client.answer_whole(WRONG)
    cached.client.answer_whole(WRONG + b"?")
    assert (visit.status, len(cached.entries())) == (502, 1)
    assert sorted(note["upstream"] for note in notes(cached)) == ["alpha", "beta"]


def test_wrong_bytes_are_refused_also_where_there_is_no_disk(cached: Cached) -> None:
    """A window has nothing to put into quarantine; the disk's trouble is told all the same."""
    with_page(cached)
    cached.files.room_bytes = 2500
    visit = cached.get(PATH)
    cached.client.answer(200, len(WRONG)).give_all(WRONG, CHUNK)
    assert (visit.end, quarantined(cached), len(cached.events.of("storage_failed"))) == ("aborted", [], 1)
    assert cached.upstreams.is_last("alpha")


@pytest.mark.parametrize("liar", ["alpha", "beta"])
def test_a_body_of_several_that_is_wrong_heals(cached: Cached, liar: str) -> None:
    """Whose bytes were wrong nobody knows; whoever lies always, one of the next two requests gets the file."""
    with_page(cached)

    def visit_once() -> bool:
        """One request; the liar flips its first byte, and alpha's connection always breaks at the same place."""
        visit = cached.get(PATH)
        while cached.client.waiting:
            request = cached.client.sent[-1].request
            start = int(request.byte_range[6:-1]) if request.byte_range else 0
            body = BODY[start:]
            if liar in request.url:
                body = b"?" + body[1:]
            if "alpha" in request.url and start:
                cached.client.refuse(UpstreamUnavailable("down"))
            elif start:
                part(cached, start).give_all(body, CHUNK)
            else:
                response = cached.client.answer(200, len(BODY))
                if "alpha" in request.url:
                    response.give(body[:CHUNK])
                    response.give(body[CHUNK:CUT])
                    response.fail(UpstreamUnavailable("cut"))
                else:
                    response.give_all(body, CHUNK)
        assert visit.end in ("finished", "aborted")
        assert visit.body == BODY or visit.end == "aborted"
        return visit.is_whole

    assert not visit_once()
    assert [len(body) for body in quarantined(cached)] == [len(BODY)]
    assert cached.upstreams.is_last("alpha")
    if liar == "alpha":
        assert visit_once()
    else:
        assert not visit_once()
        assert {note["upstream"] for note in notes(cached)} == {"alpha, beta", "beta"}
        assert cached.upstreams.is_last("beta")


def test_a_rest_that_is_longer_than_it_says_is_wrong(cached: Cached) -> None:
    """Nothing brings back what is too much: the body is broken off, and no upstream is asked for bytes after its end."""
    with_page(cached)
    visit = cached.get(PATH)
    cut_off(cached, "reset", etag=ETAG)
    rest = part(cached, CUT)
    rest.give(BODY[CUT:] + b"more")
    assert (visit.end, rest.is_abandoned, cached.client.waiting) == ("aborted", True, [])
    assert quarantined(cached) == [BODY + b"more"]
    assert cached.keep_file(PATH, BODY).is_whole


@pytest.mark.parametrize(("body", "said"), [(HINTED, "HIT"), (HINTED[:-1], "MISS"), (HINTED[:-1] + b"!", "MISS")])
def test_the_path_s_own_digest_proves_a_body_right_and_none_wrong(cached: Cached, body: bytes, said: str) -> None:
    """Where no page names the file, one whose connection was just closed is kept when its path says that it is all."""
    visit, response = cached.begin_file(HINT, None)
    response.give(body)
    response.end(length_was_known=False)
    assert (visit.body, visit.is_whole, cached.upstreams.health, notes(cached)) == (body, True, {}, [])
    again = cached.get(HINT)
    if said == "MISS":
        cached.client.answer_whole(HINTED)
    assert (again.said, again.body) == (said, body if said == "HIT" else HINTED)


@pytest.mark.parametrize("body", [HINTED, HINTED[:-1] + b"!"])
def test_a_body_of_known_length_is_kept_whatever_its_path_says(cached: Cached, body: bytes) -> None:
    """Other indexes make their paths as they like."""
    assert cached.keep_file(HINT, body).is_whole
    assert cached.get(HINT).said == "HIT"


def test_the_path_s_own_digest_is_none_to_hand_over_by(cached: Cached) -> None:
    """It could not show that another upstream's rest is wrong."""
    visit, response = cached.begin_file(HINT, len(HINTED))
    response.give(HINTED[:5])
    response.fail(UpstreamUnavailable("cut"))
    assert (visit.end, asked_since(cached, 1)) == ("aborted", [])


def test_pages_are_asked_of_trusted_upstreams_only(cached: Cached) -> None:
    """Also where they have none; files are asked of all, and held to the trusted one's promise."""
    cached.upstreams.now_known((evolve(ALPHA, is_trusted=False), BETA))
    lost = cached.get("/simple/y/")
    cached.client.answer(404)
    assert (lost.status, cached.client.waiting) == (404, [])
    visit = cached.get("/simple/x/")
    assert cached.client.waiting == ["https://beta.test/pypi/simple/x/"]
    cached.client.answer_whole(page(promised(f"../..{PATH}", BODY)))
    assert visit.field("x-upstream") == "beta"
    file = cached.get(PATH)
    cached.client.answer(404)
    cached.client.answer_whole(WRONG)
    assert (file.status, cached.client.urls[-1], cached.upstreams.is_last("alpha")) == (
        502,
        f"https://alpha.test{PATH}",
        True,
    )


def test_where_nobody_is_trusted_there_is_no_page(cached: Cached) -> None:
    """Nobody is asked for it, nor for a file that no digest could prove right."""
    cached.upstreams.now_known((evolve(ALPHA, is_trusted=False), evolve(BETA, is_trusted=False)))
    assert cached.get("/simple/x/").status == 502
    assert cached.client.sent == []
    assert cached.get(PATH).status == 502
    assert cached.client.sent == []


def test_the_page_of_one_that_is_trusted_no_more_promises_nothing(cached: Cached) -> None:
    """It was kept under another configuration: the trusted one's page is fetched for the file."""
    cached.keep_page("x", page(promised(PATH, WRONG)))
    again = Cached(cached.store.root, sites=(evolve(ALPHA, is_trusted=False), BETA))
    visit = again.get(PATH)
    assert again.client.waiting == ["https://beta.test/pypi/simple/x/"]
    again.client.answer_whole(page(promised(f"../..{PATH}", BODY)))
    again.client.answer_whole(BODY)
    assert visit.body == BODY
    again.check_books()
