"""Which of a page's representations a client gets: the dialect that it prefers, the content-coding that it takes.

Sources: PEP 691 (the content types of the simple API, the `format` parameter), RFC 9110 section 12.4.2 (weights), 12.5.1
(Accept) and 12.5.3 (Accept-Encoding).

PEP 691 leaves to the server what an equal preference means. Here what a client names beats what it merely admits by a
wildcard, and HTML, which every installer has always read, beats JSON. So `*/*`, which says nothing, and no Accept at
all give `text/html`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import Enum

from attrs import frozen


class Dialect(Enum):
    """The two ways to write the simple API; the value is the ending of a file's name."""

    HTML = "html"
    JSON = "json"


@frozen
class Chosen:
    """What a client gets: a dialect, and the Content-Type under which it asked for it."""

    dialect: Dialect
    content_type: str


TEXT_HTML = "text/html"
V1_HTML = "application/vnd.pypi.simple.v1+html"
V1_JSON = "application/vnd.pypi.simple.v1+json"

ASKED_OF_UPSTREAMS = f"{V1_JSON}, {V1_HTML};q=0.2, {TEXT_HTML};q=0.1, */*;q=0.01"
"""The Accept field that upstreams are sent: JSON where they have it, as it says more."""

# What a client may name, and what it then gets. PEP 691: a response to `latest` "MUST use the actual, versioned content
# type". The order decides where a client has no preference.
_OFFERS = (
    ((TEXT_HTML,), Chosen(Dialect.HTML, f"{TEXT_HTML}; charset=utf-8")),
    ((V1_HTML, "application/vnd.pypi.simple.latest+html"), Chosen(Dialect.HTML, V1_HTML)),
    ((V1_JSON, "application/vnd.pypi.simple.latest+json"), Chosen(Dialect.JSON, V1_JSON)),
)

_NAME = r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+"
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_MEMBER = re.compile(rf"(?:[^,\"]|{_QUOTED})++")
_RANGE = re.compile(rf"({_NAME}(?:/{_NAME})?)((?:[ \t]*;[ \t]*(?:{_NAME}[ \t]*=[ \t]*(?:{_NAME}|{_QUOTED}))?)*)")
_WEIGHT = re.compile(r";[ \t]*q[ \t]*=[ \t]*([^;]*)", re.IGNORECASE)
# RFC 9110 section 12.4.2: qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] ). More digits do no harm.
_QVALUE = re.compile(r"0(?:\.[0-9]{0,9})?|1(?:\.0{0,9})?")


def choose(accept: Sequence[str], format_parameter: str | None = None) -> Chosen | None:
    """The representation that a client prefers; None where none will do, which is answered with 406.

    Args:
        accept: the values of all Accept lines; none for a client that sends none. Members that are malformed count as
            absent, and a field without any other is as good as no field.
        format_parameter: of the query, decoded; None where there is none. PEP 691: it names one content type, and
            comes before Accept.
    """
    if format_parameter is not None:
        # a form's decoder makes a space of the plus sign
        named = format_parameter.strip().lower().replace(" ", "+")
        return next((chosen for names, chosen in _OFFERS if named in names), None)
    weights = _weights(accept)
    if not weights:
        return _OFFERS[0][1]
    best: tuple[float, int] = (0.0, 0)
    result = None
    for names, chosen in _OFFERS:
        weight, precedence = _preference(names, weights)
        if weight > 0 and (weight, precedence) > best:
            best, result = (weight, precedence), chosen
    return result


def _preference(names: tuple[str, ...], weights: dict[str, float]) -> tuple[float, int]:
    """The weight of an offer, and how precisely it was named.

    RFC 9110 section 12.5.1: "Media ranges can be overridden by more specific media ranges or specific media types."
    """
    exact = [weights[name] for name in names if name in weights]
    if exact:
        return max(exact), 3
    kind = f"{names[0].partition('/')[0]}/*"
    if kind in weights:
        return weights[kind], 2
    return weights.get("*/*", 0.0), 1


def choose_coding(accept_encoding: Sequence[str]) -> str:
    """`gzip` or `identity`: gzip where the client takes it and does not prefer none.

    RFC 9110 section 12.5.3: identity is acceptable unless `identity;q=0` or `*;q=0` says otherwise, and `x-gzip` is
    gzip. A client that sends no Accept-Encoding gets identity: it may be unable to decode anything. So does one that
    excludes both, as there is nothing else to send.
    """
    weights = _weights(accept_encoding)
    rest = weights.get("*")
    gzip = max((weights[name] for name in ("gzip", "x-gzip") if name in weights), default=rest or 0.0)
    identity = weights.get("identity", rest or 0.0)
    return "gzip" if gzip > 0 and gzip >= identity else "identity"


def _weights(values: Sequence[str]) -> dict[str, float]:
    """The weight of each thing that a field names, in lower case; of one that comes twice the greater."""
    weights: dict[str, float] = {}
    for name, weight in _members(values):
        weights[name] = max(weight, weights.get(name, 0.0))
    return weights


def _members(values: Sequence[str]) -> Iterator[tuple[str, float]]:
    for value in values:
        for written in _MEMBER.findall(value):
            member = _RANGE.fullmatch(written.strip(" \t"))
            if member is None:
                continue
            weight = _WEIGHT.search(member[2])
            if weight is None:
                yield member[1].lower(), 1.0
            elif _QVALUE.fullmatch(text := weight[1].strip(" \t")):
                yield member[1].lower(), float(text)
