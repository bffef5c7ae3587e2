"""Resolution: which values are refused and how, which layer wins, and the rules about upstreams."""

from __future__ import annotations

import pytest

from pipcache.rules.errors import ConfigError
from pipcache.rules.layers import from_environment, from_mapping, from_options, load_yaml
from pipcache.rules.resolution import build_settings
from pipcache.rules.settings import (
    DEFAULT_FALLBACK,
    DEFAULT_MORE,
    DEFAULT_PRIMARY,
    Settings,
    Upstream,
    UpstreamSettings,
)


def resolve(text: str = "", environ: dict[str, str] | None = None, **options: object) -> Settings:
    """The settings from a file's text, variables without their prefix, and options with `__` for the dots."""
    variables = {f"PIPCACHE_{name}": value for name, value in (environ or {}).items()}
    return build_settings(
        [
            from_mapping(load_yaml(text, "f.yaml"), "f.yaml"),
            from_environment(variables)[0],
            from_options({name.replace("__", "."): value for name, value in options.items()}),
        ]
    )


def upstreams(text: str, environ: dict[str, str] | None = None) -> tuple[Upstream, ...]:
    """The upstreams in order, from the text under `upstream:` and variables without their prefix."""
    names = {f"UPSTREAM_{name}": value for name, value in (environ or {}).items()}
    return resolve(f"upstream: {text or '{}'}", names).upstream.in_order


def test_the_environment_wins_over_the_file_and_options_over_both() -> None:
    """Each key is taken from the last layer that has it."""
    text = "server: {port: 1, host: a}\nlog: {level: warn}"
    settings = resolve(text, {"SERVER_PORT": "2", "SERVER_HOST": "b"}, server__port=3)
    assert (settings.server.port, settings.server.host, settings.log.level) == (3, "b", "warn")


@pytest.mark.parametrize("value", ["9", 9])
def test_an_option_may_be_text_or_a_number(value: object) -> None:
    """Who parses the options may leave the conversion to us."""
    assert resolve(server__port=value).server.port == 9


@pytest.mark.parametrize(
    ("path", "values", "noun", "allowed"),
    [
        (
            "server.port",
            ["-1", "65536", "80.5", "true", "null", "'8080'", "abc", "[1]", "{}"],
            "a port",
            "0 to 65535",
        ),
        ("server.host", ["80", "null", "''", "'a b'", "'http://h'", "'*'"], "an address", "host name"),
        ("cache.dir", ["''", "' '", "5", "[a]", "true"], "a directory", "a path"),
        ("cache.max_size", ["0", "-1", "1.5", "10Q", "true", "null", "[]", "9000PiB"], "a size", "10GiB"),
        (
            "cache.max_entries",
            ["0", "-1", "1.5", "10k", "'10'", "true", "null"],
            "a count",
            "a whole number from 1",
        ),
        (
            "cache.simple_ttl",
            ["0", "0s", "-5", "5x", "true", "null", ".inf", ".nan", "101w1x"],
            "a duration",
            "1h30m",
        ),
        ("cache.packages_ttl", ["876001h", "1" + "0" * 400], "a duration", "at most 36500d"),
        ("cache.default_ttl", ["[]", "2024-01-01", "''"], "a duration", "1h30m"),
        (
            "cache.watermark.high",
            ["0", "1.1", "-1", "90%", "'0.9'", "true", "null", ".nan"],
            "a ratio",
            "such as 0.9",
        ),
        ("cache.watermark.low", ["0", "2", "true"], "a ratio", "such as 0.9"),
        ("upstream.timeout", ["0", "never"], "a duration", "1h30m"),
        ("upstream.large_file_timeout", ["0", "null"], "a duration", "1h30m"),
        ("log.level", ["loud", "null", "30", "''"], "a log level", "debug, info, warn, error"),
        ("upstream.primary.name", ["''", "'a b'", "1", "null", "a/b", "'é'"], "a name", "letters, digits"),
        (
            "upstream.primary.url",
            [
                "''",
                "null",
                "1",
                "h",
                "ftp://h",
                "http://",
                "http://h?q",
                "http://h#f",
                "http://h:x",
                "http://h:0",
                "'http://h/a b'",
                "http://h:99999",
                "http://h/../b",
                "'http://[::1'",
                "'pip'",
                "http://é",
            ],
            "an upstream's address",
            "an http:// or https:// URL without query or fragment, or pip:",
        ),
        (
            "upstream.primary.index_url",
            ["'pip:'", "''", "null", "h/simple"],
            "an index's address",
            "https://",
        ),
        (
            "upstream.primary.path_prefix",
            ["1", "null", "/a/../b", "/a?b", "'/a b'", "/a//b"],
            "a path prefix",
            "/pypi",
        ),
    ],
)
def test_a_bad_value_is_one_line_with_path_value_and_what_is_allowed(
    path: str, values: list[str], noun: str, allowed: str
) -> None:
    """Values out of range and of other types are refused, with where they came from."""
    for value in values:
        sections = path.split(".")
        text = "".join(f"{' ' * depth}{key}:\n" for depth, key in enumerate(sections))[:-1] + f" {value}"
        with pytest.raises(ConfigError) as caught:
            resolve(text)
        message = str(caught.value)
        assert message.startswith(f"{path}: "), value
        assert f" is not {noun}; allowed: " in message
        assert allowed in message
        assert message.endswith("(from f.yaml)")
        assert "\n" not in message
        assert len(message) < 400


@pytest.mark.parametrize("text", ["abc", "-1", "65536", "1.5", "8080x", "1e3", "9" * 5000])
def test_a_bad_variable_is_named_in_the_error(text: str) -> None:
    """The line ends with the variable's name, so that the operator knows what to mend."""
    with pytest.raises(ConfigError, match=r"^server\.port: .* \(from PIPCACHE_SERVER_PORT\)$"):
        resolve(environ={"SERVER_PORT": text})


def test_the_error_for_a_variable_in_full() -> None:
    """Path, value seen, what is allowed, where it came from."""
    with pytest.raises(ConfigError) as caught:
        resolve(environ={"SERVER_PORT": "abc"})
    assert str(caught.value) == (
        "server.port: 'abc' is not a port; allowed: a number from 0 to 65535 (0: any free port)"
        " (from PIPCACHE_SERVER_PORT)"
    )


def test_an_error_shows_no_credentials() -> None:
    """User, password and query of a refused URL stay out of the message."""
    with pytest.raises(ConfigError) as caught:
        upstreams("{primary: {url: 'https://user:secret@h/?token=hidden'}}")
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert "https://***@h/?***" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "environ", "origin"),
    [
        ("{low: 0.9, high: 0.7}", {}, "f.yaml"),
        ("{low: 0.8, high: 0.8}", {}, "f.yaml"),
        ("{low: 0.95}", {}, "f.yaml and the default"),
        ("{high: 0.5}", {}, "the default and f.yaml"),
        ("{low: 0.6}", {"CACHE_WATERMARK_HIGH": "0.5"}, "f.yaml and PIPCACHE_CACHE_WATERMARK_HIGH"),
    ],
)
def test_a_low_mark_that_is_not_under_the_high_one_is_refused(text: str, environ: dict[str, str], origin: str) -> None:
    """The line names both marks, and where both came from."""
    with pytest.raises(ConfigError) as caught:
        resolve(f"cache: {{watermark: {text}}}", environ)
    message = str(caught.value)
    assert message.startswith("cache.watermark.low: 0.")
    assert message.endswith(f"; allowed: 0 < low < high <= 1 (from {origin})")


A = Upstream("a", "http://a.example")
B = Upstream("b", "http://b.example", "/pypi")
GIVEN_A = "{name: a, url: 'http://a.example'}"
GIVEN_B = "{name: b, url: 'http://b.example', path_prefix: /pypi}"
TUNA = "{name: tuna, url: 'https://pypi.tuna.tsinghua.edu.cn', path_prefix: ''}"
ALIYUN = "{name: aliyun, url: 'https://mirrors.aliyun.com', path_prefix: /pypi}"
DEFAULTS = (DEFAULT_PRIMARY, DEFAULT_FALLBACK, *DEFAULT_MORE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", DEFAULTS),
        ("{timeout: 1s}", DEFAULTS),
        (f"{{primary: {GIVEN_A}}}", (A,)),
        (f"{{fallback: {GIVEN_B}}}", (DEFAULT_PRIMARY, B)),
        (f"{{primary: {GIVEN_A}, fallback: {GIVEN_B}}}", (A, B)),
        (f"{{primary: {GIVEN_A}, more: [{GIVEN_B}]}}", (A, B)),
        (f"{{more: [{GIVEN_A}]}}", (DEFAULT_PRIMARY, DEFAULT_FALLBACK, A)),
        ("{more: []}", (DEFAULT_PRIMARY, DEFAULT_FALLBACK)),
        ("{more: null}", (DEFAULT_PRIMARY, DEFAULT_FALLBACK)),
        ("{fallback: null}", (DEFAULT_PRIMARY,)),
        ("{fallback: {}}", (DEFAULT_PRIMARY,)),
        (f"{{primary: null, fallback: {GIVEN_B}}}", (B,)),
        (f"{{primary: null, more: [{GIVEN_A}]}}", (A,)),
        ("{primary: {url: 'pip:'}}", (Upstream("pip", "pip:"),)),
        (f"{{primary: {TUNA}}}", (DEFAULT_PRIMARY,)),
        (f"{{primary: {TUNA}, fallback: {ALIYUN}}}", DEFAULTS),
        (f"{{fallback: {ALIYUN}}}", DEFAULTS),
    ],
)
def test_who_names_upstreams_gets_those_and_no_others(text: str, expected: tuple[Upstream, ...]) -> None:
    """Defaults of fallback and more hold only beside the defaults; what is given always holds."""
    assert upstreams(text) == expected


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("", {"PRIMARY_URL": "http://h.example"}, (Upstream("h.example", "http://h.example"),)),
        (
            "",
            {"PRIMARY_URL": "http://h.example/pypi/"},
            (Upstream("h.example", "http://h.example", "/pypi"),),
        ),
        (
            "",
            {"PRIMARY_URL": "http://h.example/a", "PRIMARY_PATH_PREFIX": "b/"},
            (Upstream("h.example", "http://h.example", "/a/b"),),
        ),
        ("", {"PRIMARY_URL": "http://u:p@h.example:81"}, (Upstream("h.example", "http://u:p@h.example:81"),)),
        ("", {"PRIMARY_URL": "http://[::1]:81"}, (Upstream("1", "http://[::1]:81"),)),
        (
            "",
            {"PRIMARY_URL": "http://127.0.0.1:81", "FALLBACK_URL": "http://127.0.0.1:82"},
            (Upstream("127.0.0.1", "http://127.0.0.1:81"), Upstream("127.0.0.1-82", "http://127.0.0.1:82")),
        ),
        (
            "{primary: {url: 'http://h/a'}, more: [{url: 'http://h/b'}, {name: h, url: 'http://h/c'}]}",
            {},
            (
                Upstream("h-2", "http://h", "/a"),
                Upstream("h-3", "http://h", "/b"),
                Upstream("h", "http://h", "/c"),
            ),
        ),
        ("", {"PRIMARY_NAME": "x"}, (Upstream("x", DEFAULT_PRIMARY.url),)),
        (
            "",
            {"FALLBACK_PATH_PREFIX": "/x"},
            (DEFAULT_PRIMARY, Upstream("aliyun", DEFAULT_FALLBACK.url, "/x")),
        ),
        ("", {"FALLBACK_URL": "http://h"}, (DEFAULT_PRIMARY, Upstream("h", "http://h", ""))),
        (f"{{primary: {GIVEN_B}}}", {"PRIMARY_URL": "http://c"}, (Upstream("b", "http://c", "/pypi"),)),
        (
            f"{{primary: {GIVEN_B}}}",
            {"PRIMARY_INDEX_URL": "http://c/+simple/"},
            (Upstream("b", index_url="http://c/+simple"),),
        ),
        (
            "{primary: {name: b, index_url: 'http://c/+simple'}}",
            {"PRIMARY_URL": "http://c"},
            (Upstream("b", "http://c"),),
        ),
        ("{primary: null}", {"PRIMARY_URL": "http://c"}, (Upstream("c", "http://c"),)),
        (f"{{more: [{GIVEN_A}]}}", {"MORE": f"[{GIVEN_B}]"}, (DEFAULT_PRIMARY, DEFAULT_FALLBACK, B)),
        ("", {"MORE": "[]"}, (DEFAULT_PRIMARY, DEFAULT_FALLBACK)),
    ],
)
def test_an_upstream_may_be_given_in_part(text: str, environ: dict[str, str], expected: tuple[Upstream, ...]) -> None:
    """An address begins an upstream of one's own, named by its host; the rest changes what was there."""
    assert upstreams(text, environ) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{primary: {url: 'http://a', index_url: 'http://a/s'}}",
            "upstream.primary.index_url: 'http://a/s' is not an address beside url; allowed: one of the two",
        ),
        (
            "{primary: {index_url: 'http://a/s', path_prefix: /p}}",
            "upstream.primary.path_prefix: '/p' is not of use beside index_url; allowed: no path_prefix",
        ),
        (
            "{primary: {url: 'pip:', path_prefix: /p}}",
            "upstream.primary.path_prefix: '/p' is not of use beside url pip:; allowed: no path_prefix there",
        ),
        (
            f"{{primary: {GIVEN_A}, fallback: {{name: b}}}}",
            "upstream.fallback.url: not set; allowed: an http:// or https:// URL",
        ),
        ("{more: [{name: b}]}", "upstream.more[0].url: not set; allowed: an http:// or https:// URL"),
        (
            f"{{primary: {GIVEN_A}, fallback: {{name: A, url: 'http://b'}}}}",
            "upstream.fallback.name: 'A' is not free, as upstream.primary has it; allowed: ",
        ),
        (
            f"{{more: [{GIVEN_A}, {GIVEN_A}]}}",
            "upstream.more[1].name: 'a' is not free, as upstream.more[0] has it",
        ),
        ("{more: {name: a}}", "upstream.more: {'name': 'a'} is not a list; allowed: a list of mappings"),
        ("{more: 'http://a'}", "upstream.more: 'http://a' is not a list; allowed: a list of mappings"),
        ("{more: [null]}", "upstream.more[0]: null is not an upstream; allowed: a list of mappings"),
        ("{more: [{}]}", "upstream.more[0]: {} is not an upstream; allowed: a list of mappings"),
        (
            "{more: ['http://a']}",
            "upstream.more[0]: 'http://a' is not an upstream; allowed: a list of mappings",
        ),
        (
            "{more: [{uri: a}]}",
            "upstream.more[0].uri: unknown key; allowed under upstream.more[0]: name, url, ",
        ),
        ("{more: [{url: 5}]}", "upstream.more[0].url: 5 is not an upstream's address; allowed: "),
        ("{primary: null}", "upstream: none is left; allowed: at least one of primary, fallback and more"),
    ],
)
def test_upstreams_that_make_no_sense_are_refused(text: str, message: str) -> None:
    """Two addresses or none, equal names, lists that are none: one line with the path of what is wrong."""
    with pytest.raises(ConfigError) as caught:
        upstreams(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_list_in_the_environment_that_is_no_yaml_is_refused() -> None:
    """The line names the variable, and the line within its text."""
    with pytest.raises(ConfigError, match=r"^PIPCACHE_UPSTREAM_MORE, line 1: not YAML: "):
        upstreams("", {"MORE": "[{name: a"})


def test_the_order_leaves_out_what_is_not_there() -> None:
    """Without primary or fallback, the others are tried in their order."""
    assert UpstreamSettings(None, B, (A,)).in_order == (B, A)
