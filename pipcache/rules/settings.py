# ruff: noqa: RUF009 - `key` and `section` give attrs a field, not a value to share
"""The settings: every key with its default and its kind, once, in the shape of the YAML file.

The classes below are the schema. What reads a file, the environment or the command line walks them, so a new
key is one line here (and one in the commented example, which a test asks for).

Must not know where settings come from (see `layers`) nor what is done with them.

An attribute carries its unit (`simple_ttl_seconds`) where the key in the file does not (`simple_ttl`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar, cast

import attrs
from attrs import frozen

from pipcache.rules import kinds
from pipcache.rules.kinds import Kind
from pipcache.rules.selection import Selection

T = TypeVar("T")
_NODE: Final = "pipcache"
VARIABLE_PREFIX: Final = "PIPCACHE_"


@frozen
class Node:
    """Where an attribute stands in the file: its key there, and its kind or the class of its section."""

    key: str
    kind: Kind | None = None
    section: type | None = None
    is_list: bool = False


def key(kind: Kind, default: T, name: str = "") -> T:
    """An attribute that is one key of the file; ``name`` where the key is not called like the attribute."""
    shown = False if kind.is_secret else kinds.show if kind in (kinds.URL, kinds.INDEX_URL) else True
    return attrs.field(default=default, metadata={_NODE: Node(name, kind)}, repr=shown)


def section(of: type, default: T) -> T:
    """An attribute that is a mapping in the file, with the keys of the class ``of``."""
    return attrs.field(default=default, metadata={_NODE: Node("", section=of)})


def sections(of: type, default: T) -> T:
    """An attribute that is a list of mappings in the file, each with the keys of the class ``of``."""
    return attrs.field(default=default, metadata={_NODE: Node("", section=of, is_list=True)})


def nodes(of: type) -> Iterator[tuple[str, Node]]:
    """Each attribute of a class of settings and where it stands in the file, in order."""
    for attribute in cast("tuple[attrs.Attribute[Any], ...]", attrs.fields(of)):
        node: Node = attribute.metadata[_NODE]
        yield attribute.name, node if node.key else attrs.evolve(node, key=attribute.name)


@frozen
class ServerSettings:
    """Where we listen, and what clients may take. ``host`` `::` means both families; ``port`` 0 any free one.

    ``endpoints``, where there are any, are listened on instead.
    """

    port: int = key(kinds.PORT, 8080)
    host: str = key(kinds.HOST, "0.0.0.0")  # noqa: S104  # a team's proxy is for the team's network
    endpoints: tuple[str, ...] = key(kinds.ENDPOINTS, ())
    max_connections: int = key(kinds.COUNT, 2000)
    stall_timeout_seconds: float = key(kinds.DURATION, 120.0, "stall_timeout")
    drain_timeout_seconds: float = key(kinds.DURATION, 10.0, "drain_timeout")


@frozen
class Watermark:
    """When the janitor begins and where it stops, as ratios of the limits: 0 < low < high <= 1."""

    high_ratio: float = key(kinds.RATIO, 0.9, "high")
    low_ratio: float = key(kinds.RATIO, 0.7, "low")


@frozen
class CacheSettings:
    """What is kept, where and for how long. ``dir`` None means that nobody chose one."""

    dir: str | None = key(kinds.DIRECTORY, None)
    max_size_bytes: int = key(kinds.SIZE, 2**30, "max_size")
    max_entries: int = key(kinds.COUNT, 10_000)
    simple_ttl_seconds: float = key(kinds.DURATION, 5 * 60.0, "simple_ttl")
    packages_ttl_seconds: float = key(kinds.DURATION, 87_600 * 3600.0, "packages_ttl")
    default_ttl_seconds: float = key(kinds.DURATION, 3600.0, "default_ttl")
    stale_while_revalidate_seconds: float = key(kinds.GRACE, 30.0, "stale_while_revalidate")
    stale_if_error_seconds: float = key(kinds.GRACE, 7 * 86_400.0, "stale_if_error")
    negative_ttl_seconds: float = key(kinds.GRACE, 60.0, "negative_ttl")
    hot_memory_bytes: int = key(kinds.ROOM, 64 * 2**20, "hot_memory")
    prefetch_size_bytes: int = key(kinds.ROOM, 2**20, "prefetch_size")
    scrub_interval_seconds: float = key(kinds.DURATION, 7 * 86_400.0, "scrub_interval")
    watermark: Watermark = section(Watermark, Watermark())


@frozen
class Auth:
    """Who we are at an upstream: a user with a password, a token, or what netrc says; one of them, or nobody.

    A password and a token are given as they are, by the variable that holds them, or by the file.
    """

    username: str | None = key(kinds.USERNAME, None)
    password: str | None = key(kinds.PASSWORD, None)
    password_env: str | None = key(kinds.VARIABLE, None)
    password_file: str | None = key(kinds.FILE, None)
    token: str | None = key(kinds.TOKEN, None)
    token_env: str | None = key(kinds.VARIABLE, None)
    token_file: str | None = key(kinds.FILE, None)
    netrc: bool = key(kinds.SWITCH, False)


@frozen
class Upstream:
    """One mirror: exactly one of ``url`` and ``index_url`` is set, neither ends with a slash.

    With ``url``, pages are under ``url + path_prefix + /simple/``. ``url`` is scheme and host only (a path in
    it is moved to the front of ``path_prefix``), or `pip:`, which is replaced at start by what pip uses.
    """

    name: str = key(kinds.NAME, "")
    url: str | None = key(kinds.URL, None)
    path_prefix: str = key(kinds.PATH_PREFIX, "")
    index_url: str | None = key(kinds.INDEX_URL, None)
    trusted: bool = key(kinds.SWITCH, True)
    ca_file: str | None = key(kinds.FILE, None)
    client_cert: str | None = key(kinds.FILE, None)
    auth: Auth = section(Auth, Auth())
    redirect_hosts: tuple[str, ...] = key(kinds.HOSTS, ())

    @property
    def is_pip(self) -> bool:
        """Whether this stands for the index that this machine's pip is set up to use."""
        return self.url == kinds.PIP


DEFAULT_PRIMARY: Final = Upstream("tuna", "https://pypi.tuna.tsinghua.edu.cn")
DEFAULT_FALLBACK: Final = Upstream("aliyun", "https://mirrors.aliyun.com", "/pypi")
DEFAULT_MORE: Final = (Upstream("pip", kinds.PIP),)


@frozen
class UpstreamSettings:
    """Who is asked, in which order, and for how long. Names are unique; there is at least one upstream.

    ``selection`` is the value of a ``selection.Selection``.
    """

    primary: Upstream | None = section(Upstream, DEFAULT_PRIMARY)
    fallback: Upstream | None = section(Upstream, DEFAULT_FALLBACK)
    more: tuple[Upstream, ...] = sections(Upstream, DEFAULT_MORE)
    selection: str = key(kinds.SELECTION, Selection.ORDERED.value)
    timeout_seconds: float = key(kinds.DURATION, 30.0, "timeout")
    large_file_timeout_seconds: float = key(kinds.DURATION, 600.0, "large_file_timeout")

    @property
    def in_order(self) -> tuple[Upstream, ...]:
        """All upstreams, as configured; see ``selection``."""
        return tuple(upstream for _, upstream in self.by_path)

    @property
    def by_path(self) -> tuple[tuple[str, Upstream], ...]:
        """All upstreams in that order, each with the path of its settings."""
        first = (("upstream.primary", self.primary), ("upstream.fallback", self.fallback))
        more = ((f"upstream.more[{position}]", one) for position, one in enumerate(self.more))
        return (*((path, one) for path, one in first if one), *more)


@frozen
class LogSettings:
    """What is logged: messages of this level and above; and a line a request, to standard output or a file."""

    level: str = key(kinds.LEVEL, "info")
    access: str = key(kinds.ACCESS_LOG, "combined")
    access_file: str | None = key(kinds.LOG_FILE, None)


@frozen
class Settings:
    """All settings; without arguments, the defaults."""

    server: ServerSettings = section(ServerSettings, ServerSettings())
    cache: CacheSettings = section(CacheSettings, CacheSettings())
    upstream: UpstreamSettings = section(UpstreamSettings, UpstreamSettings())
    log: LogSettings = section(LogSettings, LogSettings())


def keys(of: type = Settings, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Each dotted path that takes a value of its own (of a kind, or a list of mappings), in order."""
    for _, node in nodes(of):
        path = f"{prefix}{node.key}"
        if node.section is None or node.is_list:
            yield path, node
        else:
            yield from keys(node.section, f"{path}.")


def variable(path: str) -> str:
    """The environment variable for the key at a dotted path."""
    return VARIABLE_PREFIX + path.upper().replace(".", "_")


KEYS: Final[Mapping[str, Node]] = dict(keys())
"""Every key by its dotted path, in the file's order."""

VARIABLES: Final[Mapping[str, str]] = {variable(path): path for path in KEYS}
"""Every environment variable and the dotted path that it sets."""
