"""From layers to `Settings`: file, environment and options, each over the one before, defaults under all.

Layers are merged key by key; a list counts as one key. Upstreams take part in three rules of their own (issue
A):

- An upstream has one address. A later layer's ``index_url`` replaces an earlier one's ``url`` and
  ``path_prefix``, and a later ``url`` an earlier ``index_url``; both in one layer are an error.
  Who we are goes with the address: ``auth`` and ``client_cert`` of an earlier layer are not for a later address.
- Who we are is said in one way: a user and a password, a token, netrc, or in the address.
- Who gives ``primary`` or ``fallback`` an address describes an upstream of his own: what is not given is
  empty, and the name is made from the host. Without an address, what is given changes the default upstream.
  Given as null or `{}`, there is none.
- The default ``fallback`` holds while ``primary`` is not given at all, the default ``more`` while both are
  the defaults (or written out just like them). What is given always holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import attrs
from attrs import define

from pipcache.rules import settings as schema
from pipcache.rules.errors import ConfigError
from pipcache.rules.kinds import URL
from pipcache.rules.layers import Given, Layer, bad_value, flatten, parse_yaml, read_value
from pipcache.rules.settings import DEFAULT_FALLBACK, DEFAULT_MORE, DEFAULT_PRIMARY, Auth, Settings, Upstream

_PASSWORDS: Final = ("auth.password", "auth.password_env", "auth.password_file")
_TOKENS: Final = ("auth.token", "auth.token_env", "auth.token_file")
_WHO: Final = ("auth.username", *_PASSWORDS, *_TOKENS, "auth.netrc", "client_cert")
# What a key makes void when an earlier layer gave it
_REPLACED_BY: Final = {
    "url": ("index_url", *_WHO),
    "index_url": ("url", "path_prefix", *_WHO),
    **dict.fromkeys(_PASSWORDS, _PASSWORDS),
    **dict.fromkeys(_TOKENS, _TOKENS),
}
_PRIMARY: Final = "upstream.primary"
_FALLBACK: Final = "upstream.fallback"
_MORE: Final = "upstream.more"


def build_settings(layers: Iterable[Layer]) -> Settings:
    """The settings that the layers give, the last one winning.

    Raises:
        ConfigError: a value is not allowed where it stands, or two contradict each other; the operator's
            fault. One line: the path, the value, what is allowed, where it came from.
    """
    layers = tuple(layers)
    merged = {path: given for layer in layers for path, given in layer.items()}
    settings = Settings(**_values(Settings, "", merged))
    _check_watermark(settings, merged)
    return attrs.evolve(settings, upstream=attrs.evolve(settings.upstream, **_upstreams(layers)))


def _values(of: type[Any], prefix: str, merged: Layer) -> dict[str, Any]:
    """What is given for the attributes of ``of`` at its paths; upstreams stay at their defaults."""
    values: dict[str, object] = {}
    for attribute, node in schema.nodes(of):
        path = f"{prefix}{node.key}"
        if node.kind is not None:
            if path in merged:
                values[attribute] = read_value(path, node.kind, merged[path])
        elif node.section is not None and node.section is not Upstream:
            values[attribute] = node.section(**_values(node.section, f"{path}.", merged))
    return values


def _check_watermark(settings: Settings, merged: Layer) -> None:
    watermark = settings.cache.watermark
    if watermark.low_ratio < watermark.high_ratio:
        return
    paths = ("cache.watermark.low", "cache.watermark.high")
    origins = dict.fromkeys(merged[path].origin if path in merged else "the default" for path in paths)
    raise ConfigError(
        f"cache.watermark.low: {watermark.low_ratio} is not under cache.watermark.high,"
        f" {watermark.high_ratio}; allowed: 0 < low < high <= 1 (from {' and '.join(origins)})"
    )


@define
class _Draft:
    """An upstream whose name may still be missing, and what was given about it."""

    path: str
    upstream: Upstream
    fields: Mapping[str, Given]


def _upstreams(layers: tuple[Layer, ...]) -> dict[str, Any]:
    """The attributes of `UpstreamSettings` that hold upstreams, by the rules in the module's docstring."""
    is_primary_given = any(path == _PRIMARY or path.startswith(f"{_PRIMARY}.") for layer in layers for path in layer)
    primary = _one(_PRIMARY, layers, DEFAULT_PRIMARY)
    fallback = _one(_FALLBACK, layers, None if is_primary_given else DEFAULT_FALLBACK)
    more = None
    for layer in layers:
        more = layer.get(_MORE, more)
    rest = [] if more is None else _listed(more)
    drafts = [draft for draft in (primary, fallback, *rest) if draft]
    _give_names(drafts)
    if more is None and _holds(primary, DEFAULT_PRIMARY) and _holds(fallback, DEFAULT_FALLBACK):
        listed: tuple[Upstream, ...] = DEFAULT_MORE
    else:
        listed = tuple(draft.upstream for draft in rest)
    if not drafts and not listed:
        raise ConfigError("upstream: none is left; allowed: at least one of primary, fallback and more")
    if not any(one.trusted for one in (*(draft.upstream for draft in drafts), *listed)):
        raise ConfigError(
            "upstream: none is trusted, and pages are taken from trusted upstreams only;"
            " allowed: at least one without trusted: false"
        )
    return {
        "primary": primary and primary.upstream,
        "fallback": fallback and fallback.upstream,
        "more": listed,
    }


def _holds(draft: _Draft | None, default: Upstream) -> bool:
    return draft is not None and draft.upstream == default


def _one(path: str, layers: tuple[Layer, ...], default: Upstream | None) -> _Draft | None:
    """The upstream at ``path``: as given over ``default``; None where there is none."""
    fields: dict[str, Given] = {}
    for layer in layers:
        here = {key: layer[f"{path}.{key}"] for key, _ in schema.keys(Upstream) if f"{path}.{key}" in layer}
        if path in layer:  # given as nothing
            fields, default = {}, None
        void = {old for key in here for old in _REPLACED_BY.get(key, ())} - here.keys()
        fields = {key: given for key, given in fields.items() if key not in void} | here
    if fields:
        return _draft(path, fields, default)
    return _Draft(path, default, {}) if default else None


def _listed(given: Given) -> list[_Draft]:
    """The upstreams of ``upstream.more``: a list of mappings, or YAML text that says one."""
    entries = given.value
    if given.is_text and isinstance(entries, str):
        entries = parse_yaml(entries, given.origin)
    if entries is None:
        return []
    allowed = 'a list of mappings, such as [{name: corp, url: "https://pypi.example"}]'
    if not isinstance(entries, list | tuple):
        raise bad_value(_MORE, given, "a list", allowed)
    drafts = []
    for position, entry in enumerate(entries):
        path = f"{_MORE}[{position}]"
        if not isinstance(entry, Mapping) or not entry:
            raise bad_value(path, Given(entry, given.origin), "an upstream", allowed)
        values = dict(flatten(Upstream, path, entry, given.origin))
        drafts.append(_draft(path, {key.removeprefix(f"{path}."): one for key, one in values.items()}, None))
    return drafts


def _draft(path: str, fields: Mapping[str, Given], default: Upstream | None) -> _Draft:
    """The upstream that the fields describe; without an address, ``default`` with the fields changed."""
    values = _values(Upstream, f"{path}.", {f"{path}.{key}": given for key, given in fields.items()})
    _check_auth(path, values, fields)
    if "url" in values and "index_url" in values:
        raise bad_value(f"{path}.index_url", fields["index_url"], "an address beside url", "one of the two")
    if "url" not in values and "index_url" not in values:
        if default is None:
            origin = next(iter(fields.values())).origin
            raise ConfigError(f"{path}.url: not set; allowed: {URL.allowed}; or index_url (from {origin})")
        return _Draft(path, attrs.evolve(default, **values), fields)
    upstream = Upstream(**values)
    if upstream.path_prefix and (upstream.is_pip or upstream.index_url):
        beside = "url pip:" if upstream.is_pip else "index_url"
        noun = f"of use beside {beside}"
        raise bad_value(f"{path}.path_prefix", fields["path_prefix"], noun, "no path_prefix there")
    if upstream.url and not upstream.is_pip:
        address = urlsplit(upstream.url)
        upstream = attrs.evolve(
            upstream,
            url=f"{address.scheme}://{address.netloc}",
            path_prefix=f"{address.path}{upstream.path_prefix}",
        )
    return _Draft(path, upstream, fields)


def _check_auth(path: str, values: Mapping[str, Any], fields: Mapping[str, Given]) -> None:
    """Refuse what says who we are in two ways, or by halves.

    Raises:
        ConfigError: that is so; the operator's fault. No secret is in it.
    """

    def refuse(key: str, trouble: str, allowed: str) -> NoReturn:
        raise ConfigError(f"{path}.{key}: {trouble}; allowed: {allowed} (from {fields[key].origin})")

    auth = values["auth"]
    passwords, tokens = ([key for key in keys if _is_given(auth, key)] for keys in (_PASSWORDS, _TOKENS))
    for found in (passwords, tokens):
        if len(found) > 1:
            refuse(found[1], f"set beside {found[0]}", "one of the two")
    ways = [*(["auth.username"] if auth.username else passwords), *tokens, *(["auth.netrc"] if auth.netrc else [])]
    if len(ways) > 1:
        refuse(ways[1], f"set beside {ways[0]}", "a username with a password, a token, or netrc")
    if auth.username and not passwords:
        refuse("auth.username", "set without a password", f"one of {', '.join(_PASSWORDS)} beside it")
    if passwords and not auth.username:
        refuse(passwords[0], "set without auth.username", "both")
    address = next((key for key in ("url", "index_url") if "@" in urlsplit(values.get(key) or "").netloc), None)
    if ways and address:
        refuse(ways[0], f"set beside a user in {address}", "one of the two")


def _is_given(auth: Auth, key: str) -> bool:
    return getattr(auth, key.removeprefix("auth.")) is not None


def _give_names(drafts: list[_Draft]) -> None:
    """Give each upstream without a name the host of its address, made different where that name is taken.

    Raises:
        ConfigError: two upstreams were given the same name; the operator's fault.
    """
    taken: dict[str, str] = {}
    for draft in drafts:
        name = draft.upstream.name.lower()
        if name in taken:
            given = draft.fields.get("name", Given(draft.upstream.name, "the default"))
            noun = f"free, as {taken[name]} has it"
            raise bad_value(f"{draft.path}.name", given, noun, "a name that no other upstream has")
        if name:
            taken[name] = draft.path
    for draft in drafts:
        if not draft.upstream.name:
            name = next(one for one in _candidates(draft.upstream) if one.lower() not in taken)
            taken[name.lower()] = draft.path
            draft.upstream = attrs.evolve(draft.upstream, name=name)


def _candidates(upstream: Upstream) -> Iterable[str]:
    """Names to try for an upstream, without end: its host, with its port, with a number."""
    address = urlsplit(upstream.index_url or upstream.url or "")
    host = "pip" if upstream.is_pip else re.sub(r"[^A-Za-z0-9._-]+", "-", address.hostname or "").strip("-")
    host = host or "upstream"
    yield host
    if address.port:
        yield f"{host}-{address.port}"
    number = 2
    while True:
        yield f"{host}-{number}"
        number += 1
