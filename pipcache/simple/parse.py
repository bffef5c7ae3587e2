"""What upstream sent, read into the model: project pages and project lists in HTML.

Reading order: PEP 503 (anchors), PEP 629 (the version in a meta element), RFC 3986, section 5 (references),
HTML Living Standard (`<base>`, the encoding of a document). Another dialect is another pair of functions with
the same results.

Whoever asked has seen to status and content type; here is decided whether the body is a simple page at all. A
captive portal also answers 200 with HTML, so a page must show a `pypi:repository-version` or at least one `<a
href>`. What it links to is judged link by link: only distribution files over http and https survive, and a
link that cannot be read is left out, for one bad link must not cost a project its page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote, unquote, urljoin, urlsplit

from attrs import Factory, define

from pipcache.rules.errors import MalformedResponse
from pipcache.simple.filenames import is_distribution_filename, normalised_name
from pipcache.simple.markup import tokens, unescaped
from pipcache.simple.model import DistributionFile, Link, ProjectList, ProjectPage

_REPOSITORY_VERSION = "pypi:repository-version"
_MAJOR_VERSION = re.compile(r"\s*([0-9]{1,9})(?:\.[0-9.]*)?\s*")
# The URL standard takes these off both ends of a URL.
_CONTROL_OR_SPACE = "".join(map(chr, range(0x21)))
_FIT_TO_ASK_FOR = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]*")
_ASKABLE = "-._~:/?[]@!$&'()*+,;=%"
_UNFIT_FOR_HOST = re.compile(r"[\x00-\x20\x7f\"<>\\^`{|}]")
# What nearly every link looks like, written or resolved: nothing in it to split, check or encode any further.
_PLAIN_URL = re.compile(r"(https?://[A-Za-z0-9.\-]++(?::[0-9]{1,4})?/[A-Za-z0-9\-._~%!$&'()*+,;=:@/]*+)(?:#([ -~]*+))?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")

_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xfe\xff", "utf-16-be"), (b"\xff\xfe", "utf-16-le"))
_META_CHARSET = re.compile(rb"<meta\s[^>]*?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.\-]+)", re.IGNORECASE)
# Labels that servers use, and what they mean on the web. No other codec of Python's is reachable from a page:
# some are slow (idna, punycode), some are no encodings of text (zlib).
_CODECS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "utf-16": "utf-16-le",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
    "ascii": "cp1252",
    "us-ascii": "cp1252",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "windows-1252": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "big5": "big5",
    "euc-jp": "euc_jp",
    "shift_jis": "shift_jis",
    "euc-kr": "euc_kr",
}


def parse_project_page(body: bytes, url: str, charset: str | None = None) -> ProjectPage:
    """The project page that an HTML body is.

    Args:
        body: the whole body, without content-encoding.
        url: absolute, where the body came from once redirects were followed; relative links start there.
        charset: what the Content-Type field said; None where it said nothing.

    Returns:
        The page with upstream's order; links that are no distribution files over http(s) are left out.

    Raises:
        MalformedResponse: the body is no simple page, or one of a version of the API that we do not know.
    """
    document = _read(body, charset)
    base = _base(document, url)
    found = (_distribution_file(link, base) for link in document.links)
    return ProjectPage(
        metas=tuple(document.metas),
        title=document.title,
        comments=tuple(document.comments),
        files=tuple(file for file in found if file is not None),
    )


def parse_project_list(body: bytes, charset: str | None = None) -> ProjectList:
    """The project list that an HTML body is.

    A project's name is the last segment of its link's path or, where that is no valid name, the link's text.
    Invalid names are left out; of those that normalise to the same name the first counts.

    Args:
        body: the whole body, without content-encoding.
        charset: what the Content-Type field said; None where it said nothing.

    Raises:
        MalformedResponse: the body is no simple page, or one of a version of the API that we do not know.
    """
    document = _read(body, charset)
    names: dict[str, str] = {}
    for link in document.links:
        name = _project_name(link)
        if name is not None:
            names.setdefault(name, link.text or name)
    return ProjectList(metas=tuple(document.metas), names=tuple(names.items()))


@define
class _Document:
    """What a page says before any of it is judged, in order; `base` is the first `<base>`'s href."""

    metas: list[tuple[str, str]] = Factory(list)
    title: str | None = None
    comments: list[str] = Factory(list)
    base: str | None = None
    links: list[Link] = Factory(list)

    def add_element(self, name: str, attributes: dict[str, str | None]) -> None:
        """Take in a start tag that is no anchor."""
        if name == "meta":
            meta = (attributes.get("name") or "").strip()
            if meta.lower().startswith("pypi:"):
                self.metas.append((meta, attributes.get("content") or ""))
        elif name == "base" and self.base is None:
            self.base = attributes.get("href")


def _read(body: bytes, charset: str | None) -> _Document:
    document = _Document()
    document.links.extend(_links(decoded(body, charset), document))
    versions = [content for name, content in document.metas if name.lower() == _REPOSITORY_VERSION]
    if not versions and not document.links:
        raise MalformedResponse("the answer is no simple page: it has neither a pypi:repository-version nor a link")
    for version in versions:
        # PEP 629: "If the major version is greater than the client's, the client MUST fail with an
        # appropriate error".
        major = _MAJOR_VERSION.fullmatch(version)
        if major is None or int(major[1]) != 1:
            raise MalformedResponse(
                f"the page is of version {version[:20]!r} of the simple API; version 1 is known here"
            )
    return document


def _links(text: str, document: _Document) -> Iterator[Link]:
    """The anchors with an href, in order; everything else goes to `document` on the way.

    An anchor ends at its end tag, at the next anchor's start, or with the document.
    """
    href: str | None = None
    attributes: dict[str, str | None] = {}
    pieces: list[str] | None = None  # of the text of the element being read: an anchor, or the title
    for kind, data, found in tokens(text):
        if kind == "text":
            if pieces is not None:
                pieces.append(data)
        elif kind == "comment":
            document.comments.append(data)
        elif data == "a":
            if href is not None:
                yield _link(href, pieces, attributes)
            href, attributes, pieces = None, found, None
            if kind == "start" and "href" in found:
                href, pieces = found["href"] or "", []
        elif href is None and data == "title":
            if kind == "end" and pieces is not None and document.title is None:
                document.title = unescaped("".join(pieces)).strip()
            pieces = [] if kind == "start" else None
        elif kind == "start":
            document.add_element(data, found)
    if href is not None:
        yield _link(href, pieces, attributes)


def _link(href: str, pieces: list[str] | None, attributes: dict[str, str | None]) -> Link:
    others = tuple(pair for pair in attributes.items() if pair[0] != "href")
    return Link(href, unescaped("".join(pieces or ())).strip(), others)


def _base(document: _Document, url: str) -> str:
    """What relative links start from: the first `<base href>`, or the URL of the page where that is unfit."""
    if document.base is not None:
        try:
            base = urljoin(url, document.base.strip(_CONTROL_OR_SPACE))
            if urlsplit(base).scheme in {"http", "https"}:
                return base
        except ValueError:
            pass
    return url


def _distribution_file(link: Link, base: str) -> DistributionFile | None:
    """The file that a link leads to; None where it leads to anything else."""
    href = link.href.strip(_CONTROL_OR_SPACE)
    try:
        resolved = href if _PLAIN_URL.match(href) else urljoin(base, href)
        plain = _PLAIN_URL.fullmatch(resolved)
        url, fragment = (plain[1], plain[2] or "") if plain else _asked_for(resolved)
    except ValueError:  # brackets that are no IPv6 address, a port that is no number
        return None
    filename = unquote(url.partition("?")[0].rpartition("/")[2])
    if not is_distribution_filename(filename):
        return None
    return DistributionFile(filename, url, fragment, link.text, link.attributes)


def _asked_for(resolved: str) -> tuple[str, str]:
    """A URL as it can be asked for, and its fragment.

    Raises:
        ValueError: it is no URL, is not for http or https, or its host is none.
    """
    parts = urlsplit(resolved)
    if parts.scheme not in {"http", "https"} or not parts.hostname or _UNFIT_FOR_HOST.search(parts.netloc):
        raise ValueError("no URL of a file over http")
    _ = parts.port  # which raises where it is no number
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}{_askable((parts.path or '/') + query)}", parts.fragment


def _askable(target: str) -> str:
    """A path with its query as a request line can carry it, the escapes that it has left alone."""
    return target if _FIT_TO_ASK_FOR.fullmatch(target) else quote(target, safe=_ASKABLE)


def _project_name(link: Link) -> str | None:
    """The normalised name of the project that a link of a project list leads to; None where it leads to none.

    A link that has no path, such as one that sorts the list (`?C=N`), is no project's whatever its text says.
    """
    href = link.href.strip(_CONTROL_OR_SPACE)
    if "//" in href or _SCHEME.match(href):
        try:
            parts = urlsplit(href)
        except ValueError:
            return None
        if parts.scheme not in {"", "http", "https"}:
            return None
        path = parts.path
    else:
        path = href.partition("#")[0].partition("?")[0]
    segment = path.rstrip("/").rpartition("/")[2]
    if not segment:
        return None
    return normalised_name(unquote(segment)) or normalised_name(link.text)


def decoded(body: bytes, charset: str | None) -> str:
    """The text of an HTML body.

    The first of these that says something we know: the byte order mark, `charset`, a `<meta charset>` in the
    first 1024 octets; else UTF-8. What is no character in that encoding, and NUL, become U+FFFD.
    """
    for mark, codec in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(codec, errors="replace").replace("\0", "\ufffd")
    codec = _CODECS.get((charset or "").strip().strip("\"'").lower(), "") or _declared_codec(body)
    return body.decode(codec, errors="replace").replace("\0", "\ufffd")


def _declared_codec(body: bytes) -> str:
    declared = _META_CHARSET.search(body[:1024])
    codec = _CODECS.get(declared[1].decode("ascii").lower(), "utf-8") if declared else "utf-8"
    # Who could read the declaration octet by octet has not read UTF-16.
    return "utf-8" if codec.startswith("utf-16") else codec
