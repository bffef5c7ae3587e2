"""Where the links of a page lead: the one rule for both dialects.

Sources: RFC 3986 section 5 (references), the URL standard (blanks around a URL), HTML Living Standard (`<base>`).

What counts as a file is decided by the suffix of the last segment of its URL's path, over http and https only. A link
that cannot be read is left out, for one bad link must not cost a project its page.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

from pipcache.simple.filenames import is_distribution_filename

# The URL standard takes these off both ends of a URL.
_CONTROL_OR_SPACE = "".join(map(chr, range(0x21)))
_FIT_TO_ASK_FOR = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]*")
_ASKABLE = "-._~:/?[]@!$&'()*+,;=%"
_UNFIT_FOR_HOST = re.compile(r"[\x00-\x20\x7f\"<>\\^`{|}]")
# What nearly every link looks like, written or resolved: nothing in it to split, check or encode any further.
_PORT = r"(?::(?:[0-9]{1,4}|[1-5][0-9]{4}))?"
_FRAGMENT = r"(?:#([ -~]*+))?"
_PLAIN_URL = re.compile(rf"(https?://[A-Za-z0-9.\-]++{_PORT}/[A-Za-z0-9\-._~%!$&'()*+,;=:@/]*+){_FRAGMENT}")
# What nearly every other one looks like: a way up, then segments of which none is empty, begins with a dot or has a colon.
_PLAIN_REFERENCE = re.compile(rf"(/|(?:\.\./)++)((?:[A-Za-z0-9\-_~%!+][A-Za-z0-9\-._~%!+]*+/?)++){_FRAGMENT}")


class FileLink(NamedTuple):
    """A link to a distribution file: its decoded final path component, its URL as it can be asked for, its fragment."""

    filename: str
    url: str
    fragment: str


def start_of_links(url: str, base: str | None) -> str:
    """What relative links start from: the page's `<base href>`, or its URL where there is none or an unfit one."""
    if base is not None:
        try:
            joined = urljoin(url, base.strip(_CONTROL_OR_SPACE))
            if urlsplit(joined).scheme in {"http", "https"}:
                return joined
        except ValueError:
            pass
    return url


def file_link(href: str, base: str) -> FileLink | None:
    """The file that a reference leads to from `base`; None where it leads to anything else."""
    href = href.strip(_CONTROL_OR_SPACE)
    try:
        url, fragment = _plain(href, base) or _asked_for(href if _PLAIN_URL.match(href) else urljoin(base, href))
    except ValueError:  # brackets that are no IPv6 address, a port that is no number
        return None
    filename = url.partition("?")[0].rpartition("/")[2]
    if "%" in filename:
        filename = unquote(filename)
    return FileLink(filename, url, fragment) if is_distribution_filename(filename) else None


def _plain(href: str, base: str) -> tuple[str, str] | None:
    """What ``_asked_for`` gives for a reference that is plain; None where it is not."""
    reference = _PLAIN_REFERENCE.fullmatch(href)
    if reference is None:
        plain = _PLAIN_URL.fullmatch(href)
        return None if plain is None else (plain[1], plain[2] or "")
    start = _plain_start(base, reference[1])
    return None if start is None else (start + reference[2], reference[3] or "")


@lru_cache(64)
def _plain_start(base: str, way_up: str) -> str | None:
    """Where a way up leads to, the same for all files of a page; None where that is no plain URL."""
    start = urljoin(base, way_up)
    return start if _PLAIN_URL.fullmatch(start) and start.endswith("/") and "#" not in start else None


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
