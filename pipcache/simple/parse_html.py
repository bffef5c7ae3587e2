"""A project page in HTML, read into the model.

Reading order: PEP 503 (anchors), PEP 629 (the version in a meta element), HTML Living Standard (`<base>`).

Whoever asked has seen to status and content type; here is decided whether the body is a simple page at all. A captive
portal also answers 200 with HTML, so a page must show a `pypi:repository-version` or at least one `<a href>`. What it
links to is judged link by link, by `links`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from attrs import Factory, define, field

from pipcache.rules.errors import MalformedResponse
from pipcache.rules.negotiation import Dialect
from pipcache.simple.encoding import decoded
from pipcache.simple.links import file_link, start_of_links
from pipcache.simple.markup import Token, tokens, unescaped
from pipcache.simple.model import (
    MAX_FILES,
    VERSION_META,
    DistributionFile,
    Link,
    ProjectPage,
    check_api_version,
    too_many_files,
)


def parse_html_page(body: bytes, url: str, charset: str | None = None) -> ProjectPage:
    """The project page that an HTML body is.

    Args:
        body: the whole body, without content-encoding.
        url: absolute, where the body came from once redirects were followed; relative links start there.
        charset: what the Content-Type field said; None where it said nothing.

    Returns:
        The page with upstream's order; links that are no distribution files over http(s) are left out.

    Raises:
        MalformedResponse: the body is no simple page, has more than ``MAX_FILES`` links, or is one of a version of the
            API that we do not know.
    """
    document = Document()
    found_links = chain(document.links(tokens(decoded(body, charset))), document.last_link())
    links = list(islice(found_links, MAX_FILES + 1))
    if len(links) > MAX_FILES:
        raise too_many_files()
    document.check(has_links=bool(links))
    base = start_of_links(url, document.base)
    found = (_distribution_file(link, base) for link in links)
    return ProjectPage(
        metas=tuple(document.metas),
        title=document.title,
        comments=tuple(document.comments),
        files=tuple(file for file in found if file is not None),
        dialect=Dialect.HTML,
    )


@define
class Document:
    """What a document says beside its links, in order; `base` is the first `<base>`'s href.

    Its tokens may come in several pieces: what is open at the end of one goes on in the next.
    """

    metas: list[tuple[str, str]] = Factory(list)
    title: str | None = None
    comments: list[str] = Factory(list)
    base: str | None = None
    _href: str | None = field(default=None, init=False)
    _attributes: dict[str, str | None] = field(factory=dict, init=False)
    # of the text of the element being read: an anchor, or the title
    _pieces: list[str] | None = field(default=None, init=False)

    def links(self, found: Iterable[Token]) -> Iterator[Link]:
        """The anchors with an href, in order; everything else is taken in on the way.

        An anchor ends at its end tag, at the next anchor's start, or with the document (``last_link``).
        """
        href, attributes, pieces = self._href, self._attributes, self._pieces
        for kind, data, values in found:
            if kind == "text":
                if pieces is not None:
                    pieces.append(data)
            elif kind == "comment":
                self.comments.append(data)
            elif data == "a":
                if href is not None:
                    yield _link(href, pieces, attributes)
                href, attributes, pieces = None, values, None
                if kind == "start" and "href" in values:
                    href, pieces = values["href"] or "", []
            elif href is None and data == "title":
                if kind == "end" and pieces is not None and self.title is None:
                    self.title = unescaped("".join(pieces)).strip()
                pieces = [] if kind == "start" else None
            elif kind == "start":
                self._add_element(data, values)
        self._href, self._attributes, self._pieces = href, attributes, pieces

    def last_link(self) -> Iterator[Link]:
        """The anchor that the document ended in, if any."""
        if self._href is not None:
            yield _link(self._href, self._pieces, self._attributes)
            self._href = None

    @property
    def is_in_element(self) -> bool:
        """Whether an anchor or the title is open."""
        return self._pieces is not None or self._href is not None

    @property
    def held(self) -> int:
        """How many characters of an open element are kept."""
        return sum(map(len, self._pieces)) if self._pieces else 0

    def check(self, *, has_links: bool) -> None:
        """Refuse what is no simple page, or one of another version of the API: MalformedResponse."""
        versions = [content for name, content in self.metas if name.lower() == VERSION_META]
        if not versions and not has_links:
            raise MalformedResponse(f"the answer is no simple page: it has neither a {VERSION_META} nor a link")
        for version in versions:
            check_api_version(version)

    def _add_element(self, name: str, attributes: dict[str, str | None]) -> None:
        if name == "meta":
            meta = (attributes.get("name") or "").strip()
            if meta.lower().startswith("pypi:"):
                self.metas.append((meta, attributes.get("content") or ""))
        elif name == "base" and self.base is None:
            self.base = attributes.get("href")


def _link(href: str, pieces: list[str] | None, attributes: dict[str, str | None]) -> Link:
    others = tuple(pair for pair in attributes.items() if pair[0] != "href")
    return Link(href, unescaped("".join(pieces or ())).strip(), others)


def _distribution_file(link: Link, base: str) -> DistributionFile | None:
    """The file that a link leads to; None where it leads to anything else."""
    found = file_link(link.href, base)
    return DistributionFile(*found, link.text, link.attributes) if found else None
