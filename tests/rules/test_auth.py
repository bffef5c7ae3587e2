"""Who we are at an upstream, as settings say it: one way only, with its address, and shown to nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipcache.rules.errors import ConfigError
from pipcache.rules.layers import from_environment, from_mapping, load_yaml
from pipcache.rules.resolution import build_settings
from pipcache.rules.settings import Auth, Settings

SECRET = "canary-hush"


def resolve(upstream: str, environ: dict[str, str] | None = None) -> Settings:
    """The settings from the text under `upstream:` and variables of the primary without their prefix."""
    variables = {f"PIPCACHE_UPSTREAM_PRIMARY_{name}": value for name, value in (environ or {}).items()}
    file = from_mapping(load_yaml(f"upstream: {upstream}", "f.yaml"), "f.yaml")
    return build_settings([file, from_environment(variables)[0]])


def primary(fields: str) -> str:
    """The text of one upstream with these fields of `auth`."""
    return f"{{primary: {{url: 'http://a', auth: {{{fields}}}}}}}"


@pytest.mark.parametrize(
    ("fields", "auth"),
    [
        ("", Auth()),
        ("username: me, password: x", Auth("me", "x")),
        ("username: me, password: ''", Auth("me", "")),
        ("username: me, password_env: X", Auth("me", password_env="X")),
        ("username: me, password_file: /x", Auth("me", password_file="/x")),
        ("token: x", Auth(token="x")),
        ("token_env: X", Auth(token_env="X")),
        ("token_file: ~/x", Auth(token_file="~/x")),
        ("netrc: true", Auth(netrc=True)),
        ("netrc: false, token: x", Auth(token="x")),
    ],
)
def test_each_way(fields: str, auth: Auth) -> None:
    """A user with a password, a token, netrc, nobody; also in the list of further upstreams."""
    settings = resolve(primary(fields)).upstream
    assert settings.primary is not None
    assert settings.primary.auth == auth
    more = resolve(f"{{more: [{{url: 'http://a', auth: {{{fields}}}}}]}}").upstream.more
    assert more[0].auth == auth


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("username: me", "auth.username: set without a password; allowed: one of auth.password, "),
        ("password: x", "auth.password: set without auth.username; allowed: both (from f.yaml)"),
        ("password_file: x", "auth.password_file: set without auth.username; allowed: both"),
        ("username: me, password: x, password_env: X", "auth.password_env: set beside auth.password; allowed: one of"),
        ("token_env: X, token_file: x", "auth.token_file: set beside auth.token_env; allowed: one of the two"),
        ("username: me, password: x, token: x", "auth.token: set beside auth.username; allowed: a username with "),
        ("netrc: true, token: x", "auth.netrc: set beside auth.token; allowed: a username with a password"),
        (f"username: 'a:b', password: {SECRET}", "auth.username: 'a:b' is not a user's name; allowed: text"),
        ("username: me, password: 1234", "auth.password: not a password; allowed: one line of text, in quotes"),
        (f'username: me, password: "{SECRET}\\r\\nX: y"', "auth.password: not a password; allowed: one line"),
        (f"token: 'two {SECRET}'", "auth.token: not a token; allowed: letters, digits and signs of ASCII"),
        (f"token: [{SECRET}]", "auth.token: not a token; allowed: "),
        ("token_env: 'a b'", "auth.token_env: 'a b' is not a variable; allowed: the name of an environment"),
        ("password_file: 5", "auth.password_file: 5 is not a file; allowed: a path"),
        (f"type: {SECRET}", "auth.type: unknown key; allowed under upstream.primary.auth: username, "),
    ],
)
def test_what_makes_no_sense_is_refused(fields: str, message: str) -> None:
    """Two ways, half a way, wrong types: one line that names the key and holds no secret."""
    with pytest.raises(ConfigError) as caught:
        resolve(primary(fields))
    assert str(caught.value).startswith(f"upstream.primary.{message}")
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["url", "index_url"])
def test_a_user_in_the_address_is_a_way_too(key: str) -> None:
    """So nothing else may stand beside it; an `@` in the path is no user."""
    with pytest.raises(ConfigError, match=f"auth.token: set beside a user in {key}; allowed: one of the two"):
        resolve(f"{{primary: {{{key}: 'http://me:x@a', auth: {{token: x}}}}}}")
    resolve(f"{{primary: {{{key}: 'http://a/@team/simple', auth: {{token: x}}}}}}")


@pytest.mark.parametrize(
    "text",
    [
        f"{{primary: {{url: 'http://a', auth: {SECRET}}}}}",
        f"{{more: {{url: 'http://a', auth: {{token: {SECRET}}}}}}}",
        f"{{more: {{url: 'http://a', token: {SECRET}, password: {SECRET}}}}}",
        f"{{more: [[{{auth: {SECRET}}}]]}}",
        f"{{primary: {{url: 'http://me:{SECRET}/x@a:x'}}}}",
        f"{{primary: {{url: 'http://me:two {SECRET}@a'}}}}",
        f"{{primary: {{url: 'me:{SECRET}@a'}}}}",
        f"{{primary: {{url: 'http://a', auth: {{token: *{SECRET}}}}}}}",
        f"{{primary: {{url: 'http://a', auth: {{token: !{SECRET} x}}}}}}",
        f"{{more: &a [*a, {{password: {SECRET}}}, 'http://me:{SECRET}@a']}}",
    ],
)
def test_no_error_shows_a_secret(text: str) -> None:
    """Wherever it was written by mistake."""
    with pytest.raises(ConfigError) as caught:
        resolve(text)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_settings_do_not_show_secrets() -> None:
    """What Python shows of the settings, in a traceback for example, has no secret in it."""
    settings = resolve(
        f"{{primary: {{url: 'http://me:{SECRET}@a'}}, fallback: {{url: 'http://b', auth: {{token: {SECRET}}}}},"
        f" more: [{{index_url: 'http://c', auth: {{username: me, password: {SECRET}}}}},"
        f" {{index_url: 'http://me:{SECRET}@d'}}]}}"
    )
    assert SECRET not in repr(settings)
    assert "http://***@a" in repr(settings)


def test_who_we_are_goes_with_the_address() -> None:
    """An address of a later layer is another host's: neither secret nor certificate goes there; its authority may."""
    text = "{primary: {name: a, url: 'http://a', ca_file: /ca, client_cert: /me, auth: {username: me, password: x}}}"
    changed = resolve(text, {"URL": "http://b"}).upstream.primary
    assert changed is not None
    assert (changed.url, changed.auth, changed.client_cert, changed.ca_file) == ("http://b", Auth(), None, "/ca")
    changed = resolve(text, {"INDEX_URL": "http://b/simple", "AUTH_TOKEN": "y"}).upstream.primary
    assert changed is not None
    assert changed.auth == Auth(token="y")


def test_a_later_layer_may_say_the_secret_in_another_way() -> None:
    """The password of the file is void when the environment names a file that holds it."""
    changed = resolve(primary("username: me, password: x"), {"AUTH_PASSWORD_FILE": "/x"}).upstream.primary
    assert changed is not None
    assert changed.auth == Auth("me", password_file="/x")


def test_the_examples_in_the_commented_file_are_allowed() -> None:
    """Every way in that the example shows is one that can be written so."""
    lines = (Path(__file__).parents[2] / "pipcache.yaml").read_text(encoding="utf-8").splitlines()
    examples = [line.partition("auth: {")[2].partition("}")[0] for line in lines if "  auth: {" in line]
    assert len(examples) == 3
    for example in examples:
        resolve(primary(example))
