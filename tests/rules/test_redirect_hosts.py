"""`redirect_hosts`: in which forms hosts are listed, and what is none."""

from __future__ import annotations

import pytest

from pipcache.rules.errors import ConfigError
from pipcache.rules.layers import from_environment, from_mapping
from pipcache.rules.resolution import build_settings


def listed(value: object, *, is_variable: bool = False) -> tuple[str, ...]:
    """The primary's hosts, from the file or from the environment."""
    given = {"url": "http://a.example"} | ({} if is_variable else {"redirect_hosts": value})
    layers = [from_mapping({"upstream": {"primary": given}}, "the file")]
    if is_variable:
        layers.append(from_environment({"PIPCACHE_UPSTREAM_PRIMARY_REDIRECT_HOSTS": str(value)})[0])
    primary = build_settings(layers).upstream.primary
    assert primary is not None
    return primary.redirect_hosts


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("files.example", ("files.example",)),
        ("Files.Example:8080 , b.example,, files.example:8080", ("files.example:8080", "b.example")),
        ("[a.example:81, '10.0.0.5']", ("a.example:81", "10.0.0.5")),
        ("[fd00:0:0::1]", ("[fd00::1]",)),
        ("[fd00::1]:81, [fd00::2]", ("[fd00::1]:81", "[fd00::2]")),
        ("fd00::1", ("[fd00::1]",)),
        ("[]", ()),
        (",", ()),
    ],
)
def test_text_lists_hosts(text: str, hosts: tuple[str, ...]) -> None:
    """Between commas, or as YAML; from the environment and from the file alike."""
    assert listed(text, is_variable=True) == hosts
    assert listed(text) == hosts


def test_a_list_lists_hosts() -> None:
    """In the file a list is a list, and nothing is none."""
    assert listed(["a.example", "B.example:1"]) == ("a.example", "b.example:1")
    assert listed(None) == listed([]) == ()


@pytest.mark.parametrize(
    "value",
    [
        "http://a.example",
        "a.example/path",
        "user@a.example",
        "a.example:port",
        "a.example:0",
        "a.example:99999",
        "a.example:",
        ":80",
        "a b",
        "*.example",
        "m\u00fcller.example",
        "[fd00::1",
        "[a.example",
        5,
        [5],
        [None],
        [""],
        {"a.example": 1},
    ],
)
def test_what_is_no_host_is_said(value: object) -> None:
    """One line with the setting's path and what is allowed."""
    with pytest.raises(
        ConfigError, match=r"^upstream\.primary\.redirect_hosts: .* is not a list of hosts; allowed: hosts as"
    ):
        listed(value)


def test_each_of_more_has_its_own() -> None:
    """Further upstreams list theirs, `pip:` too."""
    more = [{"url": "pip:", "redirect_hosts": ["a.example"]}, {"url": "http://b.example"}]
    settings = build_settings([from_mapping({"upstream": {"more": more}}, "the file")])
    assert [each.redirect_hosts for each in settings.upstream.more] == [("a.example",), ()]
