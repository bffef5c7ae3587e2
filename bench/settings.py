"""The settings that pipcache is run with, and which of those that the bench wants it has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from bench.tls import Certificates

Settings = dict[str, Any]

_ENDPOINT_KEYS: Final = ("server.endpoints", "server.endpoint", "server.listen")


def pipcache_settings(
    keys: Collection[str], port: int, cache: Path, upstream_url: str, more: Mapping[str, Any] | None = None
) -> Settings:
    """The defaults, but for where to listen, where to keep, whom to ask, and an access log where there is one.

    Args:
        keys: every dotted path that pipcache knows.
        port: on 127.0.0.1.
        cache: the cache directory.
        upstream_url: the only upstream.
        more: further values by dotted path.
    """
    values: dict[str, Any] = {
        "server.host": "127.0.0.1",
        "server.port": port,
        "cache.dir": str(cache),
        "upstream.primary": {"name": "bench", "url": upstream_url},
    }
    if has_access_log(keys):
        values["log.access"] = "combined"
    return nested(values | dict(more or {}))


def nested(values: Mapping[str, Any]) -> Settings:
    """Values by dotted path as the mappings in mappings that a YAML file has."""
    made: Settings = {}
    for path, value in values.items():
        *sections, key = path.split(".")
        place = made
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    return made


def has_access_log(keys: Collection[str]) -> bool:
    """Whether pipcache can write one."""
    return "log.access" in keys


def tls_settings(keys: Collection[str], port: int, tls_port: int, certificates: Certificates) -> dict[str, Any] | None:
    """What makes pipcache listen with TLS on a second port, by dotted path; None where it has no setting for that."""
    plain = f"tcp:{port}:interface=127.0.0.1"
    tls = f"ssl:{tls_port}:interface=127.0.0.1:privateKey={certificates.key}:certKey={certificates.certificate}"
    for key in _ENDPOINT_KEYS:
        if key in keys:
            return {key: [plain, tls]}
    return None
