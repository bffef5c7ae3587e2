"""Where a file may be had, and what it must come to.

The project's page says both: the file's address, at one upstream or a host of its own, and the digest that its body is held
to. A path of ``/packages/`` is the same at every upstream that is a mirror, so with a digest to tell right from wrong the
others may be asked for it too. A path that no page names is asked of every upstream that is trusted.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

from attrs import evolve

from pipcache.engine.pages import Located, Pages
from pipcache.engine.receiving import Plan
from pipcache.engine.upstreams import Attempt, Candidate, Upstreams
from pipcache.rules.errors import NotServed, PipcacheError
from pipcache.rules.routes import Route, RouteKind
from pipcache.simple.digests import digest_in_path, preferred
from pipcache.simple.filenames import METADATA_SUFFIX, is_metadata_filename, project_of
from pipcache.simple.wheels import MAX_METADATA_BYTES, is_wheel_filename


class Planning:
    """Makes plans for files."""

    def __init__(self, upstreams: Upstreams, pages: Pages) -> None:
        self._upstreams = upstreams
        self._pages = pages

    async def plan(self, route: Route, attempt: Attempt) -> Plan:
        """Where the thing may be had.

        Raises:
            NotServed: nowhere: no page links to it, or the page could not be had.
        """
        await self._upstreams.known()
        located = await self.located(route, attempt)
        if located is not None:
            return self._where_linked(route, located, attempt)
        if route.kind is RouteKind.LINKED_FILE:
            raise NotServed(404, f"The page of {route.project} links to no such file.")
        return Plan(self.trusted(self._everywhere(route, attempt)), hint=digest_in_path(route.path))

    async def located(self, route: Route, attempt: Attempt) -> Located | None:
        """What the project's page says of a file, or of the one whose core metadata it is; None where it says nothing.

        Raises:
            NotServed: the page could not be had, and nothing else says where the file is.
        """
        if route.filename is None:
            return None
        project = route.project or project_of(route.filename)
        if project is None:
            return None
        path = route.path.removesuffix(METADATA_SUFFIX) if is_metadata_filename(route.filename) else route.path
        try:
            return await self._pages.locate(project, path, attempt)
        except PipcacheError:
            if route.kind is RouteKind.LINKED_FILE:
                raise
            return None

    def _where_linked(self, route: Route, located: Located, attempt: Attempt) -> Plan:
        """First where the page says, then, for a path of ``/packages/``, at the same path of the other upstreams.

        Where the upstreams are not asked in the configured order, the one whose page it is has no precedence: any of them
        may give what a digest says is right.
        """
        is_metadata = route.filename is not None and is_metadata_filename(route.filename)
        url = _beside(located.file.url) if is_metadata else located.file.url
        hashes = located.file.metadata_hashes or {} if is_metadata else located.file.hashes
        site = next(site for site in self._upstreams.sites if site.name == located.upstream)
        host = next((each.name for each in self._upstreams.sites if each.has(url)), None)
        digest = preferred(hashes)
        candidates = [Candidate(url, site, host)]
        if route.kind is RouteKind.FILE:
            everywhere = self._everywhere(route, attempt)
            others = [each for each in everywhere if each.url != url]
            is_one_of_them = len(others) < len(everywhere)
            if is_one_of_them and digest is not None and not self._upstreams.is_ordered:
                candidates = [*everywhere]
            else:
                candidates += others
        candidates.sort(key=lambda each: self._is_put_last(each.health_name, attempt))
        wheel = wheel_of(route) if located.file.metadata_offer is not None else None
        return Plan(
            tuple(candidates) if digest else self.trusted(candidates),
            digest,
            shown_whole_bytes=MAX_METADATA_BYTES if is_metadata and digest is not None else None,
            wheel=wheel,
        )

    def _is_put_last(self, health_name: str | None, attempt: Attempt) -> bool:
        return health_name is not None and (health_name in attempt.silent or self._upstreams.is_last(health_name))

    def trusted(self, candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
        """Those whose bytes may be passed on where nothing proves them right."""
        untrusted = {site.name for site in self._upstreams.sites if not site.is_trusted}
        return tuple(each for each in candidates if each.health_name not in untrusted)

    def _everywhere(self, route: Route, attempt: Attempt) -> tuple[Candidate, ...]:
        places = ((site, site.url(route.path, route.query)) for site in self._upstreams.in_order(attempt))
        return tuple(Candidate(url, site, site.name) for site, url in places if url is not None)


def wheel_of(route: Route) -> Route | None:
    """The wheel that a path is the core metadata of, or None."""
    if route.filename is None or not is_metadata_filename(route.filename):
        return None
    filename = route.filename.removesuffix(METADATA_SUFFIX)
    if not is_wheel_filename(filename):
        return None
    return evolve(route, path=route.path.removesuffix(METADATA_SUFFIX), filename=filename)


def _beside(url: str) -> str:
    """The address of a file's core metadata: PEP 658 appends to the path, before any query."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path + METADATA_SUFFIX))
