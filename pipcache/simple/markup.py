"""HTML as tokens: the WHATWG tokenizer, as far as pages of an index need it, in one pass.

Not over `html.parser`: on unfinished markup that is quadratic (Python 3.11: ten thousand times `<a ` takes 8
s, it raises AssertionError on `<![x[a]>`), and what it makes of a page changes with Python's patch releases.
Here a construct that never ends takes the rest of the document with it, as it does in a browser. So each
character is looked at a bounded number of times: nothing is ever tried again from a later start. The
quantifiers are possessive for the same reason, and because an attribute must not be cut short to make the
rest fit.

This module knows no tag's meaning but that of raw text (`<script>`), whose content is no markup.
Source: HTML Living Standard, 13.2.5 Tokenization.
"""

from __future__ import annotations

import html
import re
from collections.abc import Generator
from html.entities import html5
from sys import intern
from typing import Literal, NamedTuple

_WS = r"\t\n\f\r "
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])")
_TAG_NAME = re.compile(rf"</?([A-Za-z][^{_WS}/>]*+)")
_TAG_END = re.compile(rf"[{_WS}/]*+>")
_ATTRIBUTE = re.compile(
    rf"[{_WS}/]*+([^{_WS}/>][^{_WS}/>=]*+)"
    rf"(?:[{_WS}]*+=[{_WS}]*+(?:\"([^\"]*+)\"|'([^']*+)'|([^{_WS}>\"'][^{_WS}>]*+)|((?=>)))"
    rf"|(?![{_WS}]*+=))"
)
# What nearly every tag of an index looks like: nothing in it that could be read in another way.
_PLAIN_ATTRIBUTES = re.compile(r"(?: [a-z\-]++=\"[^\"]*+\")*+ ?>")
_PLAIN_ATTRIBUTE = re.compile(r"([a-z\-]++)=\"([^\"]*+)\"")
_COMMENT = re.compile(r"<!--(?:-?>|(.*?)--!?>)", re.DOTALL)
_RAW_TEXT_END = {
    name: re.compile(rf"</{name}(?=[{_WS}/>])", re.IGNORECASE)
    for name in ("iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp")
}
# int() of a longer run of digits than 4300 raises ValueError, and no character has a number that long.
_ENDLESS_NUMBER = re.compile(r"&#[0-9]{8,};?")
_REFERENCE = re.compile(r"&(?:#[0-9]+;?|#[Xx][0-9A-Fa-f]+;?|[A-Za-z][A-Za-z0-9]*+(?:;|(?!=)))")


class Token(NamedTuple):
    """One piece of a document.

    `data` is the lower-case name of a tag, or text or a comment as written (`unescaped` reads text).
    `attributes` are those of a start tag, unescaped; where a name is repeated the first counts.
    """

    kind: Literal["start", "end", "text", "comment"]
    data: str
    attributes: dict[str, str | None]


def tokens(document: str, *, is_whole: bool = True) -> Generator[Token, None, int]:
    """The tokens of a document in order; doctypes, processing instructions and CDATA marks are left out.

    Work and memory grow with the length of the document and with nothing else, whatever stands in it.

    Args:
        document: the text.
        is_whole: whether it ends here. Else only what can mean nothing else, whatever follows, is a token; text may
            come in several.

    Returns:
        Where the first thing begins that is no token yet; what is left from there is to be read again with more.
    """
    none: dict[str, str | None] = {}
    position = 0
    while (opening := _MARKUP.search(document, position)) is not None:
        start = opening.start()
        if start > position:
            yield Token("text", document[position:start], none)
        if (name := _TAG_NAME.match(document, start)) is not None:
            attributes, position = _attributes(document, name.end())
            if position < 0:
                return start
            tag = name[1].lower()
            if document[start + 1] == "/":
                yield Token("end", tag, none)
                continue
            end = _end_of_raw_text(tag, document, position)
            if end >= 0 or is_whole:
                yield Token("start", tag, attributes)
            if end < 0:
                return start
            if end > position:
                yield Token("text", document[position:end], none)
                position = end
        else:
            comment, position = _declaration(document, start)
            if position < 0:
                return start
            if comment is not None:
                yield Token("comment", comment, none)
    # a `<` at the very end may open something
    end_of_text = len(document) - (not is_whole and document.endswith("<"))
    if position < end_of_text:
        yield Token("text", document[position:end_of_text], none)
    return end_of_text


def _end_of_raw_text(tag: str, document: str, position: int) -> int:
    """Where the text that begins at `position` and has no markup in it ends: there for most tags, -1 for never."""
    if tag not in _RAW_TEXT_END:
        return position
    end = _RAW_TEXT_END[tag].search(document, position)
    return end.start() if end else -1


def _declaration(document: str, start: int) -> tuple[str | None, int]:
    """The text of the comment at `start`, or None for anything else; and where it ends: -1 where it never does."""
    if not document.startswith("<!--", start):
        return None, document.find(">", start) + 1 or -1
    comment = _COMMENT.match(document, start)
    return (comment[1] or "", comment.end()) if comment else (None, -1)


def _attributes(document: str, position: int) -> tuple[dict[str, str | None], int]:
    """The attributes of the tag whose name ends at `position`, and where it ends: -1 where it never does."""
    found: dict[str, str | None] = {}
    plain = _PLAIN_ATTRIBUTES.match(document, position)
    if plain is not None:
        for name, value in _PLAIN_ATTRIBUTE.findall(document, position, plain.end()):
            found.setdefault(name, unescaped_value(value) if "&" in value else value)
        return found, plain.end()
    while (attribute := _ATTRIBUTE.match(document, position)) is not None:
        position = attribute.end()
        group = attribute.lastindex or 1
        value = None if group == 1 else attribute[group]
        # the same few names stand in every link of a page: held once
        found.setdefault(intern(attribute[1].lower()), unescaped_value(value) if value and "&" in value else value)
    end = _TAG_END.match(document, position)
    return found, -1 if end is None else end.end()


def unescaped(text: str) -> str:
    """Text with its character references resolved."""
    return html.unescape(_ENDLESS_NUMBER.sub("\ufffd", text)) if "&" in text else text


def unescaped_value(value: str) -> str:
    """An attribute's value with its character references resolved.

    In an attribute a reference without a semicolon is none where `=` or a letter follows: `?a=1&copy=2` is a
    query.
    """
    return _REFERENCE.sub(_resolved, value)


def _resolved(reference: re.Match[str]) -> str:
    written = reference[0]
    return unescaped(written) if written[1] == "#" else html5.get(written[1:], written)
