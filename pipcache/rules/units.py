"""Durations and sizes as people write them (`5m`, `10GiB`), to seconds and bytes and back.

Decides nothing but spelling: whether a value makes sense where it stands is for `kinds`. Sums are decimal, so
that what `format_duration` writes is read back as the very same number.

A size takes three families of units, in any case: `KiB MiB GiB TiB PiB` are powers of 1024, `kB MB GB TB PB`
powers of 1000, and a bare letter (`10G`) is a power of 1024, as in nginx, Docker and `ls -h`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final, TypeGuard

_DURATION_UNITS: Final = {
    "w": Decimal(604800),
    "d": Decimal(86400),
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
_NUMBER: Final = r"[0-9]+(?:\.[0-9]+)?"
# Each unit at most once, the largest first: `30m1h` or `1h1h` is more likely a slip than a wish.
_DURATION: Final = re.compile(r"\s*".join(rf"(?:({_NUMBER})\s*{unit})?" for unit in _DURATION_UNITS))
_PLAIN: Final = re.compile(_NUMBER)

_LETTERS: Final = "kmgtp"
_SIZE_UNITS: Final = {
    "": 1,
    "b": 1,
    **{letter: 1024**power for power, letter in enumerate(_LETTERS, 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate(_LETTERS, 1)},
    **{f"{letter}b": 1000**power for power, letter in enumerate(_LETTERS, 1)},
}
_APPROXIMATE_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_SIZE: Final = re.compile(rf"({_NUMBER})\s*([a-z]*)")

DURATION_HELP: Final = "seconds, or a number with a unit as in 250ms, 90s, 5m, 1h30m, 7d"
SIZE_HELP: Final = "bytes, or a number with a unit as in 512MiB, 10GiB, 1GB"


def parse_duration(value: object) -> float:
    """Seconds, never negative, that ``value`` says.

    Args:
        value: a number of seconds, or text: a plain number of seconds, or numbers with the units w, d, h, m,
            s and ms, each at most once and the largest first, blanks allowed between them.

    Raises:
        ValueError: it is not a duration; the writer's fault, and the text says what is one.
    """
    if isinstance(value, str):
        text = value.strip()
        if _PLAIN.fullmatch(text):
            return float(text)
        match = _DURATION.fullmatch(text)
        if match and text:
            parts = zip(match.groups(), _DURATION_UNITS.values(), strict=True)
            return float(sum((Decimal(number) * unit for number, unit in parts if number), Decimal(0)))
    elif _is_number(value) and value >= 0:
        return float(value)
    raise ValueError(f"{value!r} is not a duration; allowed: {DURATION_HELP}")


def format_duration(seconds: float) -> str:
    """The text, in days and smaller, that `parse_duration` reads back as exactly ``seconds``."""
    rest = Decimal(repr(seconds))
    parts = []
    for unit in ("d", "h", "m"):
        count, rest = divmod(rest, _DURATION_UNITS[unit])
        if count:
            parts.append(f"{count:f}{unit}")
    if rest and rest < 1 and rest % _DURATION_UNITS["ms"] == 0:
        parts.append(f"{_trim(rest * 1000)}ms")
    elif rest or not parts:
        parts.append(f"{_trim(rest)}s")
    return "".join(parts)


def parse_size(value: object) -> int:
    """Bytes, never negative, that ``value`` says; a fraction of a byte is dropped.

    Args:
        value: a whole number of bytes, or text: a number with or without one of the units named above.

    Raises:
        ValueError: it is not a size; the writer's fault, and the text says what is one.
    """
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip().lower())
        if match and match[2] in _SIZE_UNITS and (match[2] or "." not in match[1]):
            return int(Decimal(match[1]) * _SIZE_UNITS[match[2]])
    elif _is_number(value) and value >= 0 and value == int(value):
        return int(value)
    raise ValueError(f"{value!r} is not a size; allowed: {SIZE_HELP}")


def format_size(size_bytes: int) -> str:
    """The text that `parse_size` reads back as ``size_bytes``, in the largest binary unit that divides it."""
    for letter in reversed(_LETTERS):
        unit = _SIZE_UNITS[letter]
        if size_bytes and size_bytes % unit == 0:
            return f"{size_bytes // unit}{letter.upper()}iB"
    return f"{size_bytes}B"


def _is_number(value: object) -> TypeGuard[int | float]:
    # bool is an int to Python, but `max_size: yes` is no size to anybody; the bound leaves out nan, infinity
    # and whole numbers that no float can hold
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def _trim(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def approximate_size(size_bytes: int) -> str:
    """A size for people, to three digits: ``1.23 MiB``. ``parse_size`` need not read it back."""
    size, power = float(size_bytes), 0
    while size >= 1023.5 and power < len(_APPROXIMATE_UNITS) - 1:  # what would round to 1024 is 1 of the next
        size, power = size / 1024, power + 1
    return f"{size:.3g} {_APPROXIMATE_UNITS[power]}" if size < 999.5 else f"{size:.0f} {_APPROXIMATE_UNITS[power]}"
