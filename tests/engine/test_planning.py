"""Where a file is asked for, in which order, and what its bytes are held to."""

from __future__ import annotations

import hashlib

import pytest

from pipcache.rules.errors import UpstreamTimeout, UpstreamUnavailable
from tests.fakes.cache import Cached, page, promised

BODY = b"the file's own bytes" * 50
PATH = "/packages/aa/x-1.tar.gz"
EVERYWHERE = [f"https://alpha.test{PATH}", f"https://beta.test/pypi{PATH}"]
LINK = "https://files.test/blobs/x-1.tar.gz"
LINKED = f"/-/files/x/{hashlib.sha256(LINK.encode()).hexdigest()[:16]}/x-1.tar.gz"


def refuse_all(cached: Cached, expected: list[str], status: int = 404) -> None:
    """Answer no to each place in turn, and see that these were asked, in this order."""
    begun = len(cached.client.sent)
    for url in expected:
        assert cached.client.waiting == [url]
        cached.client.answer(status)
    assert cached.client.waiting == []
    assert len(cached.client.sent) == begun + len(expected) - 1


def test_a_file_is_asked_for_where_its_page_puts_it_first(cached: Cached) -> None:
    """Then at the same path of the other upstreams."""
    cached.keep_page("x", page(f"https://files.test{PATH}"))
    visit = cached.get(PATH)
    refuse_all(cached, [f"https://files.test{PATH}", *EVERYWHERE])
    assert visit.status == 404


def test_a_place_that_two_ways_lead_to_is_asked_once(cached: Cached) -> None:
    """The page's upstream has the file itself."""
    cached.keep_page("x", page(PATH))
    visit = cached.get(PATH)
    refuse_all(cached, EVERYWHERE)
    assert visit.status == 404


def test_the_upstream_s_prefix_is_no_part_of_our_path(cached: Cached) -> None:
    """Its link is on its own host, below its own root."""
    visit = cached.get("/simple/x/")
    cached.client.refuse(UpstreamUnavailable("down"))
    cached.client.answer_whole(page(f"../..{PATH}"))
    assert b"../../packages/aa/x-1.tar.gz" in visit.body
    file = cached.get(PATH)
    assert cached.client.waiting == [EVERYWHERE[1]]
    cached.client.answer_whole(BODY)
    assert (file.body, file.field("x-upstream")) == (BODY, "beta")


def test_a_linked_file_is_asked_for_where_the_page_says_alone(cached: Cached) -> None:
    """With the link's query, which is no part of our path; the upstream whose page links it is named."""
    link = f"{LINK}?token=1"
    path = f"/-/files/x/{hashlib.sha256(link.encode()).hexdigest()[:16]}/x-1.tar.gz"
    cached.keep_page("x", page(link))
    visit = cached.get(path)
    assert cached.client.waiting == [link]
    cached.client.answer_whole(BODY)
    assert (visit.body, visit.field("x-upstream")) == (BODY, "alpha")
    assert cached.upstreams.health == {}
    gone = cached.get(path + ".metadata")
    refuse_all(cached, [f"{LINK}.metadata?token=1"])
    assert gone.status == 404
    assert "token" not in str(gone.error)


def test_a_file_host_that_fails_is_no_upstream_s_failure(cached: Cached) -> None:
    """Its pages may be as good as ever."""
    cached.keep_page("x", page(LINK))
    for _ in range(4):
        visit = cached.get(LINKED)
        cached.client.refuse(UpstreamUnavailable("down"))
        assert visit.status == 502
    assert cached.upstreams.health == {}


@pytest.mark.parametrize("is_known", [True, False])
def test_a_linked_file_that_no_page_names_is_404_unasked(cached: Cached, is_known: bool) -> None:
    """No client can make us fetch what no page links to."""
    if is_known:
        cached.keep_page("x", page("/packages/other-1.tar.gz"))
        visit = cached.get(LINKED)
    else:
        visit = cached.get(LINKED)
        cached.client.answer_whole(page("/packages/other-1.tar.gz"))
    assert (visit.status, len(cached.client.sent)) == (404, 1)


@pytest.mark.parametrize(
    ("answer", "status"),
    [(404, 404), (503, 502), (UpstreamTimeout("silence"), 504), (UpstreamUnavailable("down"), 502)],
)
def test_a_linked_file_whose_page_cannot_be_had_is_answered_as_the_page(
    cached: Cached, answer: int | Exception, status: int
) -> None:
    """The page alone could say where it is."""
    visit = cached.get(LINKED)
    for _ in range(2):
        if isinstance(answer, Exception):
            cached.client.refuse(answer)
        else:
            cached.client.answer(answer)
    assert (visit.status, cached.client.waiting) == (status, [])


def test_a_packages_path_is_asked_of_all_where_there_is_no_page(cached: Cached) -> None:
    """Their answers alone decide the status."""
    visit = cached.get(PATH)
    cached.client.answer(404)
    cached.client.answer(404)
    assert cached.client.waiting == EVERYWHERE[:1]
    cached.client.answer(404)
    cached.client.answer(503)
    assert visit.status == 502


def test_a_packages_path_is_asked_of_all_where_the_page_does_not_name_it(cached: Cached) -> None:
    """A page may lag behind its files."""
    cached.keep_page("x", page("/packages/other-1.tar.gz"))
    visit = cached.get(PATH)
    refuse_all(cached, EVERYWHERE)
    assert visit.status == 404


def test_an_error_of_ours_about_the_page_does_not_keep_a_file_from_being_asked_for(
    cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upstreams may have the file all the same."""
    with monkeypatch.context() as patched:
        patched.setattr("pipcache.engine.forming.form_page", lambda *_: 1 // 0)
        visit = cached.get(PATH)
        cached.client.answer_whole(page(PATH))
    cached.events.crashes.clear()
    cached.client.answer_whole(BODY)
    assert (visit.status, visit.body) == (200, BODY)


@pytest.mark.parametrize("path", ["/packages/noproject.txt", "/packages/.._-1.tar.gz", "/pypi/x/json?a=b"])
def test_what_belongs_to_no_project_needs_no_page(cached: Cached, path: str) -> None:
    """It is asked of all; a query outside the paths of the index is part of the request."""
    visit = cached.get(path)
    refuse_all(cached, [f"https://alpha.test{path}", f"https://beta.test/pypi{path}"])
    assert visit.status == 404


def test_a_query_makes_another_thing_of_other_paths(cached: Cached) -> None:
    """They are kept apart."""
    for query in ("", "?a=1", "?a=2"):
        visit = cached.get(f"/pypi/x/other{query}")
        cached.client.answer_whole(query.encode() or b"none")
        assert cached.get(f"/pypi/x/other{query}").body == visit.body
    assert len(cached.entries()) == 3


def test_metadata_is_beside_its_file_and_held_to_its_own_digest(cached: Cached) -> None:
    """Which the page gives as an attribute of the file's link."""
    digest = hashlib.sha256(b"Name: x\n").hexdigest()
    attributes = f' data-core-metadata="sha256={digest}"'
    cached.keep_page("x", page(promised(f"https://files.test{PATH}", BODY), attributes=attributes))
    visit = cached.get(f"{PATH}.metadata")
    assert cached.client.waiting == [f"https://files.test{PATH}.metadata"]
    cached.client.answer_whole(b"Name: x\n")
    assert (visit.body, visit.field("etag")) == (b"Name: x\n", f'"{digest[:32]}"')
    assert cached.get(f"{PATH}.metadata").said == "HIT"


def test_wrong_metadata_is_never_complete(cached: Cached) -> None:
    """Pip would refuse the file for it."""
    attributes = f' data-dist-info-metadata="sha256={"0" * 64}"'
    cached.keep_page("x", page(PATH, attributes=attributes))
    visit = cached.get(f"{PATH}.metadata")
    for _ in EVERYWHERE:
        assert visit.is_waiting
        cached.client.answer_whole(b"Name: y\n")
    assert (visit.status, len(cached.entries()), cached.get("/simple/x/").said) == (502, 1, "HIT")


def test_a_silent_upstream_is_asked_last_for_the_file_of_the_same_request(cached: Cached) -> None:
    """A hanging one costs a client its silence once."""
    visit = cached.get(PATH)
    cached.client.refuse(UpstreamTimeout("silence"))
    cached.client.answer(404)
    assert cached.client.waiting == EVERYWHERE[1:]
    cached.client.answer_whole(BODY)
    assert (visit.body, visit.field("x-upstream")) == (BODY, "beta")


def test_one_that_is_put_last_is_asked_last_for_what_its_page_links_to(cached: Cached) -> None:
    """The others may have it at the same path."""
    cached.keep_page("x", page(PATH))
    for _ in range(3):
        cached.upstreams.failed("alpha", 0.0)
    visit = cached.get(PATH)
    assert cached.client.waiting == EVERYWHERE[1:]
    cached.client.answer(404)
    cached.client.answer_whole(BODY)
    assert visit.field("x-upstream") == "alpha"


def test_whoever_has_the_file_it_is_held_to_the_promise_of_the_page(cached: Cached) -> None:
    """One mirror's page and another's file: the digest decides; the liar is counted as failing."""
    cached.keep_page("x", page(promised(PATH, BODY)))
    visit = cached.get(PATH)
    cached.client.answer(404)
    cached.client.answer(length=len(BODY)).give_all(BODY[:-1] + b"!", 100)
    assert visit.end == "aborted"
    assert len(visit.body) < len(BODY)
    assert cached.upstreams.health["beta"].consecutive_failures == 1
    assert [event[1] for event in cached.events.of("fetch_broke")] == ["beta"]
    again = cached.get(PATH)
    cached.client.answer_whole(BODY)
    assert (again.said, again.body) == ("MISS", BODY)


def test_an_empty_file_that_should_not_be_is_not_sent(cached: Cached) -> None:
    """A head that says no bytes is a whole answer: the next upstream is asked before any head goes out."""
    cached.keep_page("x", page(promised(PATH, BODY)))
    visit = cached.get(PATH)
    cached.client.answer(length=0).end()
    assert visit.is_waiting
    cached.client.answer_whole(BODY)
    assert (visit.body, visit.field("x-upstream")) == (BODY, "beta")
    assert cached.upstreams.health["alpha"].consecutive_failures == 1


def test_an_empty_file_that_is_promised_is_sent(cached: Cached) -> None:
    """Some are."""
    cached.keep_page("x", page(promised(PATH, b"")))
    visit = cached.keep_file(PATH, b"")
    assert (visit.status, visit.body, cached.get(PATH).said) == (200, b"", "HIT")
