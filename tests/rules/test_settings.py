"""The schema: the defaults of issue A, one variable for each key, the commented example file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipcache.rules.errors import ConfigError
from pipcache.rules.layers import from_environment, from_mapping, load_yaml
from pipcache.rules.resolution import build_settings
from pipcache.rules.settings import KEYS, VARIABLES, Settings, Upstream, variable

EXAMPLE = Path(__file__).parents[2] / "pipcache.yaml"


def from_yaml(text: str) -> Settings:
    """The settings that a file with this text gives."""
    return build_settings([from_mapping(load_yaml(text, "the file"), "the file")])


def test_without_anything_said_the_defaults_hold() -> None:
    """No layer at all gives the defaults that the issue lists."""
    settings = build_settings([])
    assert settings == Settings()
    assert (settings.server.port, settings.server.host) == (8080, "0.0.0.0")
    assert settings.server.max_connections == 2000
    assert (settings.server.stall_timeout_seconds, settings.server.drain_timeout_seconds) == (120, 10)
    cache = settings.cache
    assert (cache.dir, cache.max_size_bytes, cache.max_entries) == (None, 1073741824, 10000)
    assert (cache.simple_ttl_seconds, cache.packages_ttl_seconds) == (300, 315_360_000)
    assert cache.default_ttl_seconds == 3600
    assert (cache.watermark.high_ratio, cache.watermark.low_ratio) == (0.9, 0.7)
    assert settings.upstream.in_order == (
        Upstream("tuna", "https://pypi.tuna.tsinghua.edu.cn", ""),
        Upstream("aliyun", "https://mirrors.aliyun.com", "/pypi"),
        Upstream("pip", "pip:"),
    )
    assert settings.upstream.selection == "ordered"
    assert [upstream.is_pip for upstream in settings.upstream.in_order] == [False, False, True]
    assert (settings.upstream.timeout_seconds, settings.upstream.large_file_timeout_seconds) == (30, 600)
    assert settings.log.level == "info"


WAYS_IN = {
    "trusted": ("false", lambda u: u.trusted, False),
    "ca_file": ("/etc/ca.pem", lambda u: u.ca_file, "/etc/ca.pem"),
    "client_cert": ("~/me.pem", lambda u: u.client_cert, "~/me.pem"),
    "auth.username": ("me", lambda u: u.auth.username, "me"),
    "auth.password": ("1234", lambda u: u.auth.password, "1234"),
    "auth.password_env": ("CORP_PASSWORD", lambda u: u.auth.password_env, "CORP_PASSWORD"),
    "auth.password_file": ("/run/secret", lambda u: u.auth.password_file, "/run/secret"),
    "auth.token": ("t0k+/=", lambda u: u.auth.token, "t0k+/="),
    "auth.token_env": ("CORP_TOKEN", lambda u: u.auth.token_env, "CORP_TOKEN"),
    "auth.token_file": ("/run/secret", lambda u: u.auth.token_file, "/run/secret"),
    "auth.netrc": ("true", lambda u: u.auth.netrc, True),
    "redirect_hosts": (
        "Files.example, [FD00:0::1]:81",
        lambda u: u.redirect_hosts,
        ("files.example", "[fd00::1]:81"),
    ),
}
"""What primary and fallback have alike."""

BESIDE = {
    "trusted": {"PIPCACHE_UPSTREAM_MORE": "[{url: 'http://b.example'}]"},  # somebody must be trusted
    "auth.username": {"AUTH_PASSWORD": "x"},
    "auth.password": {"AUTH_USERNAME": "x"},
    "auth.password_env": {"AUTH_USERNAME": "x"},
    "auth.password_file": {"AUTH_USERNAME": "x"},
}
"""What must be set with a key for it to be allowed."""

VALUES = {
    "server.port": ("9000", lambda s: s.server.port, 9000),
    "server.host": ("::", lambda s: s.server.host, "::"),
    "server.max_connections": ("50", lambda s: s.server.max_connections, 50),
    "server.stall_timeout": ("30s", lambda s: s.server.stall_timeout_seconds, 30.0),
    "server.endpoints": ("[tcp:1, 'unix:/a']", lambda s: s.server.endpoints, ("tcp:1", "unix:/a")),
    "server.drain_timeout": ("1m", lambda s: s.server.drain_timeout_seconds, 60.0),
    "cache.dir": ("/srv/cache", lambda s: s.cache.dir, "/srv/cache"),
    "cache.max_size": ("10GiB", lambda s: s.cache.max_size_bytes, 10 * 2**30),
    "cache.max_entries": ("5", lambda s: s.cache.max_entries, 5),
    "cache.simple_ttl": ("90s", lambda s: s.cache.simple_ttl_seconds, 90.0),
    "cache.packages_ttl": ("7d", lambda s: s.cache.packages_ttl_seconds, 604800.0),
    "cache.default_ttl": ("1h30m", lambda s: s.cache.default_ttl_seconds, 5400.0),
    "cache.stale_while_revalidate": ("0", lambda s: s.cache.stale_while_revalidate_seconds, 0.0),
    "cache.stale_if_error": ("2d", lambda s: s.cache.stale_if_error_seconds, 2 * 86400.0),
    "cache.negative_ttl": ("5s", lambda s: s.cache.negative_ttl_seconds, 5.0),
    "cache.hot_memory": ("1MiB", lambda s: s.cache.hot_memory_bytes, 2**20),
    "cache.prefetch_size": ("2MiB", lambda s: s.cache.prefetch_size_bytes, 2**21),
    "cache.scrub_interval": ("1d", lambda s: s.cache.scrub_interval_seconds, 86400.0),
    "cache.watermark.high": ("0.95", lambda s: s.cache.watermark.high_ratio, 0.95),
    "cache.watermark.low": ("0.5", lambda s: s.cache.watermark.low_ratio, 0.5),
    "upstream.primary.name": ("corp", lambda s: s.upstream.primary.name, "corp"),
    "upstream.primary.url": ("http://a.example", lambda s: s.upstream.primary.url, "http://a.example"),
    "upstream.primary.path_prefix": ("/root", lambda s: s.upstream.primary.path_prefix, "/root"),
    "upstream.primary.index_url": (
        "http://a.example/+simple/",
        lambda s: s.upstream.primary.index_url,
        "http://a.example/+simple",
    ),
    "upstream.fallback.name": ("corp", lambda s: s.upstream.fallback.name, "corp"),
    "upstream.fallback.url": ("http://b.example", lambda s: s.upstream.fallback.url, "http://b.example"),
    "upstream.fallback.path_prefix": ("root", lambda s: s.upstream.fallback.path_prefix, "/root"),
    "upstream.fallback.index_url": (
        "http://b.example/simple",
        lambda s: s.upstream.fallback.index_url,
        "http://b.example/simple",
    ),
    "upstream.more": (
        "[{name: a, url: 'http://a.example'}, {url: 'pip:'}]",
        lambda s: s.upstream.more,
        (Upstream("a", "http://a.example"), Upstream("pip", "pip:")),
    ),
    "upstream.selection": ("ROUND_ROBIN", lambda s: s.upstream.selection, "round_robin"),
    "upstream.timeout": ("2s", lambda s: s.upstream.timeout_seconds, 2.0),
    "upstream.large_file_timeout": ("1h", lambda s: s.upstream.large_file_timeout_seconds, 3600.0),
    "log.access": ("JSON", lambda s: s.log.access, "json"),
    "log.access_file": ("/var/log/a.log", lambda s: s.log.access_file, "/var/log/a.log"),
    "log.level": ("DEBUG", lambda s: s.log.level, "debug"),
}
for which in ("primary", "fallback"):
    for end, (text, read, expected) in WAYS_IN.items():
        VALUES[f"upstream.{which}.{end}"] = (
            text,
            lambda s, which=which, read=read: read(getattr(s.upstream, which)),
            expected,
        )


@pytest.mark.parametrize("path", KEYS)
def test_each_key_is_read_from_its_variable(path: str) -> None:
    """`PIPCACHE_` and the path in capitals, with underscores for dots, sets the key at that path."""
    text, read, expected = VALUES[path]
    environ = {"PIPCACHE_" + path.upper().replace(".", "_"): text}
    upstream, _, end = path.removeprefix("upstream.").partition(".")
    for name, value in BESIDE.get(end, {}).items():
        environ[name if name.startswith("PIPCACHE_") else f"PIPCACHE_UPSTREAM_{upstream.upper()}_{name}"] = value
    layer, warnings = from_environment(environ)
    assert read(build_settings([layer])) == expected
    assert warnings == []


def test_somebody_must_be_trusted() -> None:
    """Pages, and so digests, are taken from trusted upstreams: with none of them nothing could be installed."""
    with pytest.raises(ConfigError, match="none is trusted"):
        from_yaml("upstream: {primary: {url: 'http://a.example', trusted: false}}")


def test_each_key_has_a_variable_of_its_own() -> None:
    """No two keys share an environment variable."""
    assert len(VARIABLES) == len(KEYS)
    assert variable("cache.watermark.high") == "PIPCACHE_CACHE_WATERMARK_HIGH"


def test_the_example_file_changes_nothing() -> None:
    """The example as it is shipped gives exactly the defaults."""
    assert from_yaml(EXAMPLE.read_text(encoding="utf-8")) == Settings()


def test_the_example_file_shows_the_defaults() -> None:
    """With its settings taken out of their comments, the example says the defaults too."""
    text = re.sub(r"(?m)^( *)#(?=\S)", r"\1", EXAMPLE.read_text(encoding="utf-8"))
    layer = dict(from_mapping(load_yaml(text, "the example"), "the example"))
    assert layer.pop("cache.dir").value == "/cache"
    ways_in = [
        f".{end}" for end in WAYS_IN if end not in ("trusted", "redirect_hosts")
    ]  # which have no default but nothing
    expected = {path for path in KEYS if not path.endswith((".index_url", *ways_in))}
    assert layer.keys() | {"cache.dir"} == expected
    assert build_settings([layer]) == Settings()


@pytest.mark.parametrize("path", KEYS)
def test_the_example_file_names_each_key(path: str) -> None:
    """A key that is added to the schema must be added to the example."""
    assert re.search(rf"\b{path.rpartition('.')[2]}: ", EXAMPLE.read_text(encoding="utf-8"))
