"""What upstream sent, read into the model, whichever dialect it is in.

Mirrors ignore Accept, and some say `text/html` or `application/octet-stream` of everything they have. So the first
character decides where it can: a simple page in JSON is an object, one in HTML begins with markup. Content-Type decides
for the rest.
"""

from __future__ import annotations

import re

from pipcache.rules.negotiation import Dialect
from pipcache.simple.model import ProjectPage
from pipcache.simple.parse_html import parse_html_page
from pipcache.simple.parse_json import parse_json_page

_FIRST = re.compile(rb"(?:\xef\xbb\xbf)?[\t\n\f\r ]*([{<])")
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\s;\"]+)", re.IGNORECASE)


def parse_page(content: bytes, content_type: str | None, url: str) -> ProjectPage:
    """The project page that a body is.

    Args:
        content: the whole body, without content-encoding.
        content_type: the Content-Type field's value; None where there is none.
        url: absolute, where the body came from once redirects were followed; relative links start there.

    Raises:
        MalformedResponse: the body is no simple page, or one of a version of the API that we do not know.
    """
    if dialect_of(content, content_type) is Dialect.JSON:
        return parse_json_page(content, url)
    return parse_html_page(content, url, charset_of(content_type))


def dialect_of(start: bytes, content_type: str | None) -> Dialect:
    """The dialect of a body, by its first bytes and what is said of it."""
    first = _FIRST.match(start)
    if first is not None:
        return Dialect.JSON if first[1] == b"{" else Dialect.HTML
    media_type = (content_type or "").partition(";")[0].strip().lower()
    return Dialect.JSON if media_type.endswith(("/json", "+json")) else Dialect.HTML


def charset_of(content_type: str | None) -> str | None:
    """The charset that a Content-Type names; None where it names none."""
    charset = _CHARSET.search(content_type or "")
    return charset[1] if charset else None
