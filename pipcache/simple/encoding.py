"""What encoding an HTML body is in: HTML Living Standard, 13.2.3.2, as far as pages of an index need it."""

from __future__ import annotations

import re

SNIFFED_BYTES = 1024
"""How much of a body is looked at for a `<meta charset>`."""

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


def decoded(body: bytes, charset: str | None) -> str:
    """The text of an HTML body. What is no character in its encoding, and NUL, become U+FFFD.

    Args:
        body: the whole body.
        charset: what the Content-Type field said; None where it said nothing.
    """
    codec, mark = codec_of(body, charset)
    return without_nul(body[mark:].decode(codec, errors="replace"))


def codec_of(start: bytes, charset: str | None) -> tuple[str, int]:
    """The name of the codec, and the length of the byte order mark.

    The first of these that says something we know: the mark, `charset`, a `<meta charset>`; else UTF-8.

    Args:
        start: the first `SNIFFED_BYTES` of the body, or all of it.
        charset: what the Content-Type field said; None where it said nothing.
    """
    for mark, codec in _MARKS:
        if start.startswith(mark):
            return codec, len(mark)
    return _CODECS.get((charset or "").strip().strip("\"'").lower(), "") or _declared_codec(start), 0


def without_nul(text: str) -> str:
    """The text as a browser reads it, which takes NUL for no character."""
    return text.replace("\0", "\ufffd")


def _declared_codec(start: bytes) -> str:
    declared = _META_CHARSET.search(start[:SNIFFED_BYTES])
    codec = _CODECS.get(declared[1].decode("ascii").lower(), "utf-8") if declared else "utf-8"
    # Who could read the declaration octet by octet has not read UTF-16.
    return "utf-8" if codec.startswith("utf-16") else codec
