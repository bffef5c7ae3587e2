"""One spelling for every path and query: refuse what no client needs, percent-encode the rest in one way.

Must not know what a path means; that is ``routes``. Source: RFC 3986 sections 2 (characters), 3.3 (path), 3.4
(query) and 6.2.2 (syntax-based normalisation).

Two spellings of one path must give one cache key and one request to an upstream, and two different paths must
never give one. So a path is decoded once and encoded again: what comes out depends on nothing but the decoded
text. Where decoding would change what the path says (an encoded slash) or where servers are known to disagree
(backslash, dot segments, control bytes), the request is refused instead: as RFC 3986 section 7.3 warns, "the
decoded octets might be mistaken for delimiters", if not by us, then by the server behind us.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

from pipcache.rules.errors import BadRequest

# RFC 3986 section 3.3: pchar = unreserved / pct-encoded / sub-delims / ":" / "@". `quote` adds unreserved.
_PCHAR_BUT_UNRESERVED = "!$&'()*+,;=:@"
_PLAIN_PATH = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/]*")
_PLAIN_QUERY = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/?]*")
_UNRESERVED = re.compile(r"[A-Za-z0-9\-._~]")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED_SEPARATOR = re.compile(r"%(?:2[Ff]|5[Cc])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DOT_SEGMENT = re.compile(r"(?:\A|/)\.\.?(?:/|\Z)")
_QUERY_PIECE = re.compile(r"%[0-9A-Fa-f]{2}|[^%A-Za-z0-9\-._~!$&'()*+,;=:@/?]")


def canonical_path(raw: str) -> str:
    """The one spelling of a path: everything but pchar and ``/`` percent-encoded, in upper-case digits.

    ``%2B``, ``%2b`` and ``+`` come out alike; ``%20``, ``%25``, ``%3F`` and ``%23`` stay encoded; a raw space
    or non-ASCII character is encoded as UTF-8. Applying it twice changes nothing.

    Args:
        raw: a path without its query, percent-encoded or not; need not start with a slash.

    Raises:
        BadRequest: a percent sign without two hexadecimal digits, invalid UTF-8, ``%2F``, a backslash, a
            control byte or a dot segment (these three plain or encoded), or a raw ``?`` or ``#``: both end
            paths.
    """
    path = raw
    if not _PLAIN_PATH.fullmatch(raw):
        if "?" in raw or "#" in raw:
            raise BadRequest("the path holds a raw ? or #")
        if "\\" in raw or _ENCODED_SEPARATOR.search(raw):
            # Decoding %2F would make another path of it; some servers read a backslash as a slash.
            raise BadRequest("the path holds a backslash or an encoded slash")
        path = quote(_decoded(raw, "path"), safe=_PCHAR_BUT_UNRESERVED + "/")
    if _DOT_SEGMENT.search(path):  # a dot is unreserved, so an encoded one stands here in plain
        raise BadRequest("the path holds a dot segment (. or ..)")
    return path


def canonical_query(raw: str) -> str:
    """The one spelling of a query, with the same meaning to whoever takes it apart.

    Unlike in a path, an encoded reserved character stays encoded: ``a=1%262`` and ``a=1&2`` are different
    queries, and so are ``%2B`` and ``+``, which a form reads as a space. RFC 3986 section 2.2: "URIs that
    differ in the replacement of a reserved character with its corresponding percent-encoded octet are not
    equivalent."

    Args:
        raw: what follows the first ``?``, without it.

    Raises:
        BadRequest: a percent sign without two hexadecimal digits, invalid UTF-8, a control byte plain or
            encoded, or a raw space or ``#``.
    """
    if _PLAIN_QUERY.fullmatch(raw):
        return raw
    if " " in raw or "#" in raw:
        raise BadRequest("the query holds a raw space or #")
    _decoded(raw, "query")
    return _QUERY_PIECE.sub(lambda piece: _canonical_piece(piece[0]), raw)


def _canonical_piece(piece: str) -> str:
    """One ``%XX`` or one character that may not stand in a query, canonically encoded."""
    if len(piece) == 1:
        return quote(piece, safe="")
    # RFC 3986 section 2.3: those of unreserved characters "should be decoded ... by URI normalizers".
    character = chr(int(piece[1:], 16))
    return character if _UNRESERVED.fullmatch(character) else piece.upper()


def _decoded(raw: str, what: str) -> str:
    """The text that percent-encoded text stands for, without control bytes; ``what`` is for the error."""
    if _BAD_PERCENT.search(raw):
        raise BadRequest(f"the {what} holds a percent sign that is not followed by two hexadecimal digits")
    try:
        text = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeError as error:
        raise BadRequest(f"the {what} is not valid UTF-8") from error
    if _CONTROL.search(text):
        raise BadRequest(f"the {what} holds a control byte")
    return text
