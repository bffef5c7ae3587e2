"""JSON as an upstream may send it, hostile or not: read within bounds, written so that everybody can read it.

Source: RFC 8259. Of a key that is repeated the last counts, as in nearly every reader; what is written has no key
twice. What has no meaning outside of Python (NaN, numbers beyond a double) is refused, and what no UTF-8 can carry
(half a surrogate pair) becomes U+FFFD.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn, TypeAlias

from pipcache.rules.errors import MalformedResponse

Json: TypeAlias = Any
"""A value as the standard library reads it: None, bool, int, float, str, list, or dict with keys of str."""

MAX_DEPTH = 32
"""How deep arrays and objects may be nested: no page needs more than five, and no reader of ours runs out of stack."""

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def loaded_object(body: bytes) -> dict[str, Json]:
    """The object that a body is.

    Raises:
        MalformedResponse: it is no JSON, is no object, or is nested too deep.
    """
    text = body.decode("utf-8-sig", errors="replace")
    try:
        value = DECODER.decode(text)
    except (ValueError, RecursionError) as error:  # ValueError also of an integer with thousands of digits
        raise MalformedResponse("the answer begins like JSON and is none") from error
    if not isinstance(value, dict):
        raise MalformedResponse("the answer is JSON and no object")
    return checked(value) if _SURROGATE_ESCAPE.search(text) else _of_bounded_depth(value)


def dumped(value: Json) -> str:
    """A value as compact JSON, in ASCII: no control character, no surrogate, nothing that a log could choke on."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def checked(value: Json) -> Json:
    """The value without halves of surrogate pairs; MalformedResponse where it is nested too deep."""
    return _whole(_of_bounded_depth(value))


def _whole(value: Json) -> Json:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(each) for key, each in value.items()}
    return value


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number beyond all bounds")
    return number


def _of_bounded_depth(value: Json) -> Json:
    """The value, unless it is nested deeper than `MAX_DEPTH`; level by level, to need no stack itself."""
    level: list[Json] = [[value]]
    for _ in range(MAX_DEPTH):
        level = [
            each
            for container in level
            for each in (container.values() if type(container) is dict else container)
            if type(each) is dict or type(each) is list
        ]
        if not level:
            return value
    raise MalformedResponse(f"the answer is JSON nested deeper than {MAX_DEPTH} levels")


DECODER = json.JSONDecoder(parse_constant=_refused, parse_float=_finite)
"""Reads JSON as RFC 8259 has it, and numbers that a double can hold."""
