"""Layers: which keys there are in a file, the environment and the options; what is said about others."""

from __future__ import annotations

import pytest

from pipcache.rules.errors import ConfigError
from pipcache.rules.layers import Given, from_environment, from_mapping, from_options, load_yaml


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null", "{}"])
def test_an_empty_file_says_nothing(text: str) -> None:
    """An empty file, or one of comments, is a mapping without keys."""
    assert load_yaml(text, "f.yaml") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server:\n  port: [1\n", "f.yaml, line 3: not YAML: "),
        ("server:\n\tport: 1\n", "f.yaml, line 2: not YAML: "),
        ("a: 1\nb: *nobody\n", "f.yaml, line 2: not YAML: "),
        ("a: !!python/object:os.system {}\n", "f.yaml, line 1: not YAML: "),
        ("a: 1\n? [b]\n: 2\n", "f.yaml, line 2: not YAML: "),
        ("a: 2020-13-45\n", "f.yaml: not YAML: "),
        ("a: \x07\n", "f.yaml: not YAML: "),
        ("[" * 5000, "f.yaml: not YAML: "),
        (
            "- a\n- b\n",
            "f.yaml: ['a', 'b'] is not a mapping; allowed: a mapping with the keys server, cache, upstream",
        ),
        ("just words", "f.yaml: 'just words' is not a mapping; allowed: a mapping "),
    ],
)
def test_what_is_no_mapping_is_one_clear_line(text: str, message: str) -> None:
    """A syntax error, or another kind of document, names the file, the line and the trouble."""
    with pytest.raises(ConfigError) as caught:
        load_yaml(text, "f.yaml")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sever: {}", "sever: unknown key; allowed at the top: server, cache, upstream, log (from f.yaml)"),
        (
            "server: {prot: 1}",
            "server.prot: unknown key; allowed under server: port, host, ",
        ),
        ("server.port: 1", "server.port: unknown key; allowed at the top: server, "),
        ("on: 1", "True: unknown key; allowed at the top: "),
        ('"a\\nb": 1', "'a\\nb': unknown key; allowed at the top: "),
        (
            "cache: {watermark: {mid: 1}}",
            "cache.watermark.mid: unknown key; allowed under cache.watermark: high, low ",
        ),
        (
            "cache: {max_size_bytes: 1}",
            "cache.max_size_bytes: unknown key; allowed under cache: dir, max_size, ",
        ),
        (
            "upstream: {third: {}}",
            "upstream.third: unknown key; allowed under upstream: primary, fallback, more, ",
        ),
        (
            "upstream: {primary: {uri: x}}",
            "upstream.primary.uri: unknown key; allowed under upstream.primary: name, ",
        ),
        (
            "server: 8080",
            "server: 8080 is not a section; allowed: a mapping with the keys port, host, ",
        ),
        (
            "cache: {watermark: 0.9}",
            "cache.watermark: 0.9 is not a section; allowed: a mapping with the keys ",
        ),
        (
            "upstream: {primary: 'http://h'}",
            "upstream.primary: 'http://h' is not a section; allowed: a mapping ",
        ),
        ("upstream: {fallback: false}", "upstream.fallback: false is not a section; allowed: a mapping "),
        ("upstream: []", "upstream: [] is not a section; allowed: "),
    ],
)
def test_an_unknown_key_names_its_path_and_the_keys_allowed_there(text: str, message: str) -> None:
    """A key that the schema does not have, or a value where a section belongs, is one line that helps."""
    with pytest.raises(ConfigError) as caught:
        from_mapping(load_yaml(text, "f.yaml"), "f.yaml")
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("(from f.yaml)")
    assert "\n" not in str(caught.value)


def test_a_section_without_keys_says_nothing() -> None:
    """A section whose keys are all commented out is as if it were not there."""
    text = "server:\ncache:\n  watermark:\nupstream:\nlog: {}\n"
    assert from_mapping(load_yaml(text, "f.yaml"), "f.yaml") == {}


def test_an_empty_upstream_is_kept_as_given() -> None:
    """`fallback: null` and `primary: {}` are something said: that there is none."""
    layer = from_mapping(load_yaml("upstream: {primary: {}, fallback: null}", "f.yaml"), "f.yaml")
    assert layer == {"upstream.primary": Given(None, "f.yaml"), "upstream.fallback": Given(None, "f.yaml")}


def test_the_environment_warns_of_what_it_does_not_know() -> None:
    """Foreign variables are left alone, empty ones are not set, unknown and Kubernetes' own are warnings."""
    layer, warnings = from_environment(
        {
            "PATH": "/bin",
            "pipcache_server_port": "1",
            "PIPCACHE_SERVER_PORT": "tcp://10.0.0.7:8080",
            "PIPCACHE_PORT_8080_TCP_ADDR": "10.0.0.7",
            "PIPCACHE_SERVER_HOST": "",
            "PIPCACHE_LOG_LEVEL": " ",
            "PIPCACHE_CACHE_DIR": "/srv",
        }
    )
    assert layer == {"cache.dir": Given("/srv", "PIPCACHE_CACHE_DIR", is_text=True)}
    assert [warning.split(":")[0] for warning in warnings] == [
        "PIPCACHE_PORT_8080_TCP_ADDR",
        "PIPCACHE_SERVER_PORT",
    ]
    assert all("ignored" in warning for warning in warnings)


def test_an_option_that_was_not_given_says_nothing() -> None:
    """None is what an option parser has for what is not on the command line."""
    layer = from_options({"server.port": None, "server.host": "::1"})
    assert layer == {"server.host": Given("::1", "the command line", is_text=True)}


def test_an_option_for_no_setting_is_an_error() -> None:
    """An option must lead to a key of the schema."""
    with pytest.raises(ConfigError, match=r"server\.prot: unknown key; allowed: server\.port, "):
        from_options({"server.prot": 1})
