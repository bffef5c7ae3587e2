"""Header fields as values: how they come in, which are stored and replayed, and how they stand in a meta.

Must not know a request, a response or an upstream. Sources: RFC 9110 sections 5 (fields) and 7.6.1
(Connection), RFC 9111 section 3.1 (storing header fields).

What an upstream says about the representation is kept (its type, its date, its serial, whatever we do not
know); what it says about its own connection, cache, session or site is not: we are another server, and say
those things ourselves. A field that could break a response apart is dropped wherever it turns up, in an
upstream's answer or in a meta.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeAlias

Fields: TypeAlias = tuple[tuple[str, str], ...]
"""Name and value of each field line in order; names in lower case, values as ISO-8859-1 text."""

# RFC 9110 section 5.6.2: token = 1*tchar
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
# Section 5.5: visible characters, obs-text, space and tab; "CR, LF, or NUL" are "invalid and dangerous".
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# Section 8.8.3: opaque-tag = DQUOTE *etagc DQUOTE; an empty one says nothing of the bytes, so it is not taken.
_STRONG_ETAG = re.compile(r'"[!#-~\x80-\xff]+"')

# RFC 9110 section 7.6.1: what is about one connection
_HOP_BY_HOP = {"connection", "http2-settings", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
# The stored body is decoded, and a page is written anew: its length, coding and digests are other ones.
_OF_THE_TRANSFER = {"accept-ranges", "content-encoding", "content-length", "content-range"}
_DIGESTS = {"content-digest", "content-md5", "digest", "repr-digest"}
# What upstream's server and cache say of themselves; we speak for ours.
_OF_THE_SERVER = {"date", "server", "server-timing", "via", "x-upstream"}
_OF_THE_CACHE = {"age", "cache-control", "cache-status", "etag", "expires", "pragma", "vary", "warning"}
# Sessions and credentials belong to one client.
_OF_THE_CLIENT = {"authentication-info", "authorization", "set-cookie", "set-cookie2", "www-authenticate"}
# Said in our name, these would bind a browser to what upstream's site wants.
_OF_THE_SITE = {"alt-svc", "clear-site-data", "public-key-pins", "strict-transport-security"}
_REPORTING = {"expect-ct", "nel", "report-to", "reporting-endpoints"}
_OF_A_CONNECTION = _HOP_BY_HOP | _OF_THE_TRANSFER | _DIGESTS | _OF_THE_CLIENT
_NOT_STORED = frozenset(_OF_A_CONNECTION | _OF_THE_SERVER | _OF_THE_CACHE | _OF_THE_SITE | _REPORTING)
_NOT_STORED_PREFIXES = ("proxy-", "x-cache")


def from_wire(raw: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Field lines as they came over the wire, decoded once; surrounding whitespace is no part of a value.

    Decoding cannot fail: every byte is a character of ISO-8859-1. What is invalid is still in the result.
    """
    lines = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw)
    return tuple((name.lower(), value.strip(" \t")) for name, value in lines)


def get_all(fields: Fields, name: str) -> list[str]:
    """The values of every line of one field, in order; ``name`` in lower case."""
    return [value for each, value in fields if each == name]


def get(fields: Fields, name: str) -> str | None:
    """One field's value, its lines joined by a comma; None where it is absent.

    RFC 9110 section 5.2: "its combined field value consists of the list of corresponding field line values
    ... concatenated in order, with each field line value separated by a comma".
    """
    values = [value for each, value in fields if each == name]
    return ", ".join(values) if values else None


def strong_etag(fields: Fields) -> str | None:
    """The ETag among the fields, where it is a strong one (RFC 9110 section 8.8.3): it changes with every byte."""
    etag = get(fields, "etag")
    return etag if etag is not None and _STRONG_ETAG.fullmatch(etag) else None


def is_valid_field(name: str, value: str) -> bool:
    """Whether a field can be sent without breaking the response apart."""
    return bool(_TOKEN.fullmatch(name) and _VALUE.fullmatch(value))


@lru_cache(32)  # what is received is described twice, and read back with each meta
def storable(fields: Fields) -> Fields:
    """Those of an upstream's fields that are kept with its body and replayed to clients, in their order.

    The same function guards what is read back from a meta that somebody else may have written: applying it
    twice changes nothing.
    """
    # RFC 9110 section 7.6.1: "for each connection-option in this field, remove any header or trailer field(s)
    # from the message with the same name as the connection-option".
    named = {option.strip(" \t").lower() for value in get_all(fields, "connection") for option in value.split(",")}
    return tuple(
        (name, value)
        for name, value in ((each.lower(), value) for each, value in fields)
        if name not in _NOT_STORED
        and name not in named
        and not name.startswith(_NOT_STORED_PREFIXES)
        and is_valid_field(name, value)
    )


def to_json(fields: Fields) -> dict[str, str | list[str]]:
    """Fields as they stand in a meta: a string, or a list where a field repeats."""
    lines: dict[str, list[str]] = {}
    for name, value in fields:
        lines.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in lines.items()}


def from_json(value: Mapping[str, object]) -> Fields:
    """The fields that stand in a meta; lines of one name come together, which changes nothing.

    RFC 9110 section 5.3: "The order in which field lines with differing field names are received in a section
    is not significant."

    Raises:
        ValueError: a value is neither a string nor a list of strings, or a field is not valid: the meta is
            not ours.
    """
    fields = []
    for name, values in value.items():
        for each in values if isinstance(values, list) else [values]:
            if not isinstance(each, str) or not is_valid_field(name, each):
                raise ValueError(f"the header field {name!r} is not valid")
            fields.append((name.lower(), each))
    return tuple(fields)
