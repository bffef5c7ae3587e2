"""The kinds of value that a setting may have: how each is read, and what is said to who gives another.

Knows no setting's path and no default: those are `settings`. A kind reads what YAML gives (numbers are
numbers, text is text); from the environment and the command line everything comes as text, so there a number
may be text.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import urlsplit

import yaml
from attrs import frozen

from pipcache.rules.selection import Selection
from pipcache.rules.units import DURATION_HELP, SIZE_HELP, format_duration, parse_duration, parse_size

PIP: Final = "pip:"
"""The URL that stands for the index which this machine's pip is set up to use."""

LONGEST_SECONDS: Final = 100 * 365 * 86400  # so that now + any setting is still a date that RFC 3339 can write
_TOKEN: Final = re.compile(r"[A-Za-z0-9._-]+")
_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]+")
_SIGNS: Final = re.compile(r"[!-~]+")
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENDPOINT: Final = re.compile(r"[a-z][A-Za-z0-9]*:")
_LONGEST_SHOWN: Final = 120
_DEEPEST_SHOWN: Final = 4
_SECRET_KEYS: Final = frozenset({"auth", "password", "token"})


@frozen
class Kind:
    """What one setting may be. ``parse`` returns the value in our own unit, or raises ValueError."""

    noun: str
    """As in "'abc' is not a port"."""
    allowed: str
    """As in "allowed: a number from 0 to 65535"."""
    parse: Callable[[object], object]
    is_number: bool = False
    """Whether text is converted to a number first where all there can be is text."""
    is_secret: bool = False
    """Whether nobody is to see it: not in an error, not in what Python shows of the settings."""

    def read(self, value: object, *, is_text: bool) -> object:
        """The setting that ``value`` says.

        Args:
            value: as YAML, the environment or the command line gave it.
            is_text: it comes from where everything is text.

        Raises:
            ValueError: it is not of this kind; the operator's fault. Its own text is for nobody.
        """
        if is_text and self.is_number and isinstance(value, str):
            value = _to_number(value)
        return self.parse(value)


def show(value: object) -> str:
    """``value`` as an error message shows it: on one line, not too long, without credentials or a query."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(_veiled(value))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _veiled(value: object, depth: int = 0) -> object:
    """The value with stars for what may be a secret; YAML may hold itself, so not for ever down."""
    if isinstance(value, str):
        value = re.sub(r"^([a-z0-9+.-]*://)?.*@", r"\1***@", value, flags=re.IGNORECASE | re.DOTALL)
        return re.sub(r"(://[^\s'\"?]*)\?[^\s'\"]*", r"\1?***", value)
    if depth == _DEEPEST_SHOWN and isinstance(value, dict | list | tuple):
        return "..."
    if isinstance(value, dict):
        return {key: "***" if key in _SECRET_KEYS else _veiled(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_veiled(inner, depth + 1) for inner in value]
    return value


def _to_number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _whole(low: int, high: int | None = None) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("not a whole number")
        if value < low or (high is not None and value > high):
            raise ValueError("out of range")
        return value

    return parse


def _ratio(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1:
        raise ValueError("not a ratio")
    return float(value)


def _duration(value: object) -> float:
    seconds = parse_duration(value)
    if not 0 < seconds <= LONGEST_SECONDS:
        raise ValueError("out of range")
    return seconds


def _grace(value: object) -> float:
    return 0.0 if parse_duration(value) == 0 else _duration(value)


def _size(value: object) -> int:
    size_bytes = parse_size(value)
    if not 0 < size_bytes < 2**63:
        raise ValueError("out of range")
    return size_bytes


def _room(value: object) -> int:
    return 0 if parse_size(value) == 0 else _size(value)


def _matching(pattern: re.Pattern[str]) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError("does not match")
        return value

    return parse


def _place(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("not a path")
    return value


def _username(value: object) -> str:
    text = _line(value)
    if not text or ":" in text:  # RFC 7617: what is before the first colon is the name
        raise ValueError("not a user's name")
    return text


def _line(value: object) -> str:
    if not isinstance(value, str) or re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError("not one line of text")
    return value


def _switch(value: object) -> bool:
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower())
    if not isinstance(value, bool):
        raise ValueError("neither")
    return value


def _choice(*names: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or value.lower() not in names:
            raise ValueError("not one of them")
        return value.lower()

    return parse


def _access_log(value: object) -> str:
    return "off" if value is False else _choice("off", "combined", "json")(value)  # YAML reads a bare `off` so


def _http_url(value: object) -> str:
    """The URL without a slash at its end: one spelling, to which paths can be appended."""
    if not isinstance(value, str) or not value.isascii() or re.search(r"[\s\\<>\"\x00-\x1f\x7f?#]", value):
        raise ValueError("not a URL")
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # .port raises for a bad one
        raise ValueError("not an address over HTTP")
    return f"{parts.scheme}://{parts.netloc}{_path(parts.path)}"


def _path(value: object) -> str:
    """A path that is empty or begins with a slash and ends without one."""
    if not isinstance(value, str):
        raise ValueError("not a path")
    path = f"/{value.strip('/')}" if value.strip("/") else ""
    if not _PATH.fullmatch(path) or any(segment in (".", "..") for segment in path.split("/")):
        raise ValueError("not a path")
    return path


def _hosts(value: object) -> tuple[str, ...]:
    """Hosts with or without a port, from a list or from text with commas."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = _listed(value)
    if not isinstance(value, list | tuple):
        raise ValueError("not a list")
    return tuple(dict.fromkeys(_host(each) for each in value))


def _endpoints(value: object) -> tuple[str, ...]:
    """Endpoint strings from a list, from YAML text with its brackets, or one as plain text."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = _listed(value) if value.strip().startswith("[") else [value]
    if not isinstance(value, list | tuple) or not all(
        isinstance(each, str) and _ENDPOINT.match(each) for each in value
    ):
        raise ValueError("not a list of endpoints")
    return tuple(value)


def _listed(text: str) -> list[object]:
    """What text lists: YAML with its brackets, or entries between commas."""
    if text.strip().startswith("["):  # which an IPv6 address does too
        with contextlib.suppress(yaml.YAMLError):
            listed = yaml.safe_load(text)
            if isinstance(listed, list):
                return listed
    return [entry for entry in map(str.strip, text.split(",")) if entry]


def _host(value: object) -> str:
    """`host` or `host:port` in lower case, an IPv6 address in its brackets and its shortest form."""
    if not isinstance(value, str) or not value.isascii():
        raise ValueError("not a host")
    with contextlib.suppress(ValueError):
        return f"[{IPv6Address(value)}]"
    parts = urlsplit(f"//{value}")
    host, port = parts.hostname or "", parts.port  # raises for a bad one
    if parts.netloc != value or "@" in value or not _HOST.fullmatch(host) or port == 0 or value.endswith(":"):
        raise ValueError("not a host")
    shown = f"[{IPv6Address(host)}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


PORT: Final = Kind("a port", "a number from 0 to 65535 (0: any free port)", _whole(0, 65535), is_number=True)
COUNT: Final = Kind("a count", "a whole number from 1", _whole(1), is_number=True)
RATIO: Final = Kind("a ratio", "a number over 0 and at most 1, such as 0.9", _ratio, is_number=True)
SIZE: Final = Kind("a size", f"more than 0 {SIZE_HELP}", _size)
ROOM: Final = Kind("a size", f"0 {SIZE_HELP}", _room)
DURATION: Final = Kind(
    "a duration", f"more than 0 {DURATION_HELP}, at most {format_duration(LONGEST_SECONDS)}", _duration
)
GRACE: Final = Kind("a duration", f"0 {DURATION_HELP}, at most {format_duration(LONGEST_SECONDS)}", _grace)
HOST: Final = Kind("an address", "a host name or an IP address, such as 0.0.0.0 or ::", _matching(_HOST))
HOSTS: Final = Kind("a list of hosts", "hosts as host or host:port, in a list or with commas between them", _hosts)
ENDPOINTS: Final = Kind(
    "a list of endpoints",
    "Twisted's endpoint strings in a list, such as [tcp:8080, ssl:8443:privateKey=key.pem:certKey=cert.pem]",
    _endpoints,
)
DIRECTORY: Final = Kind("a directory", "a path, or nothing for the default", _place)
FILE: Final = Kind("a file", "a path, or nothing", _place)
SWITCH: Final = Kind("true or false", "true or false", _switch)
_LEVELS: Final = ("debug", "info", "warn", "error")
LEVEL: Final = Kind("a log level", ", ".join(_LEVELS), _choice(*_LEVELS))
_SELECTIONS: Final = tuple(selection.value for selection in Selection)
SELECTION: Final = Kind("a way to select upstreams", ", ".join(_SELECTIONS), _choice(*_SELECTIONS))
ACCESS_LOG: Final = Kind("an access log", "off, combined, json", _access_log)
LOG_FILE: Final = Kind("a file", "a path, or nothing for standard output", _place)
NAME: Final = Kind("a name", "letters, digits, dots, underscores and hyphens", _matching(_TOKEN))
INDEX_URL: Final = Kind("an index's address", "an http:// or https:// URL without query or fragment", _http_url)
URL: Final = Kind(
    "an upstream's address",
    f"an http:// or https:// URL without query or fragment, or {PIP} for the index that pip uses here",
    lambda value: value if value == PIP else _http_url(value),
)
PATH_PREFIX: Final = Kind("a path prefix", "empty, or a path such as /pypi", _path)
USERNAME: Final = Kind("a user's name", "text without colons, in quotes where it looks like a number", _username)
PASSWORD: Final = Kind("a password", "one line of text, in quotes where it looks like a number", _line, is_secret=True)
TOKEN: Final = Kind("a token", "letters, digits and signs of ASCII without blanks", _matching(_SIGNS), is_secret=True)
VARIABLE: Final = Kind("a variable", "the name of an environment variable", _matching(_VARIABLE))
