"""One byte range of RFC 9110, section 14.1.2, as the fakes honour it; knows neither sockets nor files."""

from __future__ import annotations

import re

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def byte_range(field: str | None, size: int) -> tuple[int, int] | None:
    """Tell which bytes a Range field asks for.

    Args:
        field: the value of the Range field; None when there is none.
        size: how many bytes the whole has.

    Returns:
        The first byte and the one behind the last; None when the field asks for no single range of bytes, so
        that the whole is the answer. An empty pair (equal numbers) is what cannot be satisfied: 416.
    """
    match = _RANGE.fullmatch((field or "").replace(" ", ""))
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if not first:  # a suffix: the last so many bytes, or all when there are fewer
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    start = min(int(first), size)
    return start, min(int(last) + 1, size) if last else size
