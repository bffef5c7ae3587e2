"""Where a file is: what the project's page says, kept or fetched, and not fetched twice in ten seconds."""

from __future__ import annotations

import gc
from types import TracebackType

import pytest
from twisted.internet.defer import Deferred

from pipcache.engine.pages import LOOK_AGAIN_SECONDS, Located
from pipcache.engine.upstreams import Attempt
from pipcache.rules.errors import NotServed, UpstreamTimeout, UpstreamUnavailable
from tests.fakes.cache import ALPHA, BETA, Cached, page
from tests.fakes.engine import begin, is_waiting, result_of

PATH = "/packages/x-1.tar.gz"
PAGE = page("https://files.test/packages/x-1.tar.gz?a=b#sha256=" + "0" * 64)
OTHER_PAGE = page("/packages/x-2.tar.gz")


def locate(cached: Cached, path: str = PATH, attempt: Attempt | None = None) -> Deferred[Located | None]:
    """Ask where the file at our path is."""
    return begin(cached.cache.pages.locate("x", path, attempt or Attempt()))


def test_a_kept_page_says_where_a_file_is(cached: Cached) -> None:
    """Nobody is asked; the answer has the link's own address, its promise and whose page it is."""
    cached.keep_page("x", PAGE)
    located = result_of(locate(cached))
    assert located is not None
    assert (located.file.url, located.upstream) == ("https://files.test/packages/x-1.tar.gz?a=b", "alpha")
    assert located.file.hashes == {"sha256": "0" * 64}


def test_an_expired_page_still_says_where_a_file_is(cached: Cached) -> None:
    """Files do not move; with every upstream down it is all there is."""
    cached.keep_page("x", PAGE)
    cached.clock.advance(1e6)
    assert result_of(locate(cached)) is not None


def test_after_a_restart_the_page_on_disk_says_it(cached: Cached) -> None:
    """Nothing else need survive; it is parsed once."""
    cached.keep_page("x", PAGE)
    again = Cached(cached.store.root)
    assert result_of(locate(again)) == result_of(locate(again)) is not None
    again.check_books()


def test_a_page_that_is_not_kept_is_fetched_by_all_who_ask_together(cached: Cached) -> None:
    """Once; it is kept, as if a client had asked for it."""
    asked = [locate(cached), locate(cached, "/packages/nowhere.tar.gz")]
    visit = cached.get("/simple/x/")
    assert cached.client.urls == ["https://alpha.test/simple/x/"]
    cached.client.answer_whole(PAGE)
    first, second = (result_of(each) for each in asked)
    assert (first is not None, second) == (True, None)
    assert visit.is_whole
    assert cached.get("/simple/x/").said == "HIT"


def test_a_page_that_does_not_name_the_file_is_fetched_again_but_not_at_once(cached: Cached) -> None:
    """The file may have come since; a wrong name must not cost a fetch for every request."""
    cached.keep_page("x", OTHER_PAGE)
    assert result_of(locate(cached)) is None
    cached.clock.advance(LOOK_AGAIN_SECONDS - 0.1)
    assert result_of(locate(cached)) is None
    assert len(cached.client.sent) == 1
    cached.clock.advance(0.1)
    asked = locate(cached)
    cached.client.answer_whole(PAGE)
    assert result_of(asked) is not None
    assert result_of(locate(cached)) is not None
    assert len(cached.client.sent) == 2


def test_that_a_page_could_not_be_had_is_remembered_as_long(cached: Cached) -> None:
    """With its status; then it is tried again."""
    asked = locate(cached)
    cached.client.answer(404)
    cached.client.answer(404)
    for each in (asked, locate(cached)):
        with pytest.raises(NotServed) as caught:
            result_of(each)
        assert caught.value.status == 404
    assert len(cached.client.sent) == 2
    cached.clock.advance(LOOK_AGAIN_SECONDS)
    asked = locate(cached)
    cached.client.answer_whole(PAGE)
    assert result_of(asked) is not None


def test_a_remembered_error_does_not_grow_with_those_who_hear_it(cached: Cached) -> None:
    """Raised again and again it would keep the frames of every request that it went through."""
    asked = locate(cached)
    cached.client.answer(404)
    cached.client.answer(404)
    depths = []
    for each in (asked, *(locate(cached) for _ in range(20))):
        with pytest.raises(NotServed) as caught:
            result_of(each)
        depths.append(0)
        trace = caught.value.__traceback__
        while trace is not None:
            depths[-1] += 1
            trace = trace.tb_next
    assert depths[-1] <= depths[1]


def test_the_page_of_an_upstream_that_is_configured_no_more_says_nothing(cached: Cached) -> None:
    """Its files are not ours to ask for; those of today are asked."""
    cached.keep_page("x", PAGE)
    again = Cached(cached.store.root, sites=(BETA,))
    asked = locate(again)
    again.client.answer_whole(OTHER_PAGE)
    assert result_of(asked) is None
    again.check_books()


@pytest.mark.parametrize("change", ["gone", "another"])
def test_a_page_whose_body_is_gone_or_another_is_fetched(cached: Cached, change: str) -> None:
    """What the disk lacks is not there, and what it has instead is not believed."""
    cached.keep_page("x", PAGE)
    (body,) = cached.store.root.glob("???/*.body")
    if change == "gone":
        body.unlink()
    else:
        body.write_bytes(PAGE.replace(b"0" * 64, b"1" * 64))
    again = Cached(cached.store.root, sites=(ALPHA,))
    asked = locate(again)
    again.client.refuse(UpstreamUnavailable("down"))
    with pytest.raises(NotServed):
        result_of(asked)
    again.check_books()


def test_silence_met_while_fetching_the_page_is_noted_for_the_request(cached: Cached) -> None:
    """Also for one that joined the fetch of another: it waited for it as long."""
    attempts = [Attempt(), Attempt(), Attempt()]
    asked = [locate(cached, attempt=attempt) for attempt in attempts[:2]]
    cached.client.refuse(UpstreamTimeout("silence"))
    cached.client.answer_whole(PAGE)
    for each in asked:
        assert result_of(each) is not None
    assert [attempt.silent for attempt in attempts] == [{"alpha"}, {"alpha"}, set()]


def test_silence_is_noted_also_where_nobody_had_the_page(cached: Cached) -> None:
    """Then the file is asked of all, those that were silent last."""
    attempts = [Attempt(), Attempt()]
    asked = [locate(cached, attempt=attempt) for attempt in attempts]
    cached.client.refuse(UpstreamTimeout("silence"))
    cached.client.answer(503)
    for each in asked:
        with pytest.raises(NotServed):
            result_of(each)
    assert [attempt.silent for attempt in attempts] == [{"alpha"}, {"alpha"}]


def test_a_large_kept_page_is_parsed_in_a_thread_and_remembered(cached: Cached) -> None:
    """Each of its thousand files is asked for soon."""
    links = [f"/packages/x-{number}.tar.gz" for number in range(5000)]
    cached.keep_page("x", page(*links))
    again = Cached(cached.store.root)
    again.threads.is_held = True
    asked = locate(again)
    assert is_waiting(asked)
    again.threads.let_go()
    calls = again.threads.calls
    for path in ("/packages/x-7.tar.gz", "/packages/x-4999.tar.gz"):
        assert result_of(locate(again, path)) is not None
    assert again.threads.calls == calls
    again.check_books()


def test_what_is_remembered_of_pages_is_bounded(cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those used least recently are parsed again when they are wanted."""
    monkeypatch.setattr("pipcache.engine.pages._REMEMBERED_FILES", 4)
    monkeypatch.setattr("pipcache.engine.page_fetches._REMEMBERED_PAGES", 3)
    for project in ("x", "y", "z", "w"):
        cached.keep_page(project, page(f"/packages/{project}-1.tar.gz"))
    pages = cached.cache.pages
    assert (len(pages._fetches._looks), pages._files._count) == (3, 4)
    located = result_of(begin(pages.locate("x", PATH, Attempt())))
    assert located is not None
    assert pages._files._count == 4


def test_a_page_that_could_not_be_kept_says_where_its_files_are(cached: Cached) -> None:
    """Where the disk keeps nothing an install must work too: the page was given a moment ago, its links hold."""
    cached.files.room_bytes = 0
    cached.keep_page("x", PAGE)
    assert cached.entries() == []
    located = result_of(locate(cached))
    assert located is not None
    assert located.upstream == "alpha"
    assert len(cached.client.sent) == 1


def test_when_to_ask_again_is_remembered(cached: Cached) -> None:
    """Who asks next, while nobody upstream is asked, is told the same as the first."""
    for ask in (1, 2):
        asked = locate(cached)
        if ask == 1:
            cached.client.answer(429, fields=(("retry-after", "20"),))
            cached.client.answer(503, fields=(("retry-after", "30"),))
        with pytest.raises(NotServed) as caught:
            result_of(asked)
        assert (caught.value.status, caught.value.retry_after_seconds) == (503, 20)
    assert len(cached.client.sent) == 2


def test_an_absent_project_is_remembered_without_those_who_asked(cached: Cached) -> None:
    """What is kept for ten seconds is what to answer, not the error with every frame and request it went through."""

    def ask(number: int) -> int:
        for project in range(number, number + 20):
            cached.get(f"/simple/absent-{project}/")
            cached.client.answer(404)
            cached.client.answer(404)
            assert cached.visits.pop().error is not None
        gc.collect()
        return sum(isinstance(each, TracebackType) for each in gc.get_objects())

    before = ask(0)
    assert ask(100) <= before
