"""What was written about settings, by whom: a configuration file, the environment, the command line.

A layer maps dotted paths to values that remember where they came from, so that an error can say it. What the
values mean is for `resolution`; this decides only which keys there are. Reads no file and no environment
itself: that is `service.configuration`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import yaml
from attrs import frozen

from pipcache.rules import settings as schema
from pipcache.rules.errors import ConfigError
from pipcache.rules.kinds import Kind, show
from pipcache.rules.settings import KEYS, VARIABLE_PREFIX, VARIABLES, Settings, Upstream

# What Kubernetes puts into the environment of every container for a Service named `pipcache-server`
_SERVICE_LINK: Final = re.compile(r"(?:tcp|udp|sctp)://\S+:[0-9]+")


@frozen
class Given:
    """A value as somebody wrote it. ``is_text``: it comes from where there is nothing but text."""

    value: object
    origin: str
    is_text: bool = False


Layer = Mapping[str, Given]
"""Dotted path -> value. ``upstream.primary`` itself is there only where it was given as null or `{}`."""


def load_yaml(text: str, source: str) -> Mapping[object, object]:
    """The mapping that a configuration file holds; an empty file holds none of the keys.

    Args:
        text: the file's content.
        source: the file's path, for the error.

    Raises:
        ConfigError: it is not YAML, or something else than a mapping; the operator's fault.
    """
    document = parse_yaml(text, source)
    if document is None:
        return {}
    if not isinstance(document, dict):
        allowed = f"a mapping with the keys {_names(Settings)}"
        raise ConfigError(f"{source}: {show(document)} is not a mapping; allowed: {allowed}")
    return document


def from_mapping(mapping: Mapping[object, object], source: str) -> Layer:
    """The layer of a configuration file, checked for unknown keys but not yet for values.

    Raises:
        ConfigError: a key is unknown, or a section is no mapping; the operator's fault.
    """
    return dict(flatten(Settings, "", mapping, source))


def from_environment(environ: Mapping[str, str]) -> tuple[Layer, list[str]]:
    """The layer of the environment, and a warning for each `PIPCACHE_*` variable that is none of ours.

    An empty variable counts as not set. A list (`PIPCACHE_UPSTREAM_MORE`) is YAML text.
    """
    layer: dict[str, Given] = {}
    warnings = []
    for name, text in sorted(environ.items()):
        if not name.startswith(VARIABLE_PREFIX) or not text.strip():
            continue
        if name not in VARIABLES:
            warnings.append(f"{name}: there is no such setting, so the variable is ignored")
        elif _SERVICE_LINK.fullmatch(text):
            warnings.append(f"{name}: {show(text)} is Kubernetes' word for a service, so the variable is ignored")
        else:
            layer[VARIABLES[name]] = Given(text, name, is_text=True)
    return layer, warnings


def from_options(options: Mapping[str, object], source: str = "the command line") -> Layer:
    """The layer of options by dotted path; None means that an option was not given.

    Raises:
        ConfigError: there is no setting at that path; the fault of who defined the option.
    """
    for path in options:
        if path not in KEYS:
            raise ConfigError(f"{path}: unknown key; allowed: {', '.join(KEYS)} (from {source})")
    return {path: Given(value, source, is_text=True) for path, value in options.items() if value is not None}


def parse_yaml(text: str, source: str) -> object:
    """Whatever the YAML text from ``source`` says.

    Raises:
        ConfigError: it is not YAML; the writer's fault.
    """
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(error.problem or error.context).split())
        problem = re.sub(r"\b(alias|tag) '.*'", r"\1", problem)  # a password without quotes may look like one
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a date that no calendar has, a number of too many digits
        line, problem = "", " ".join(str(error).split())
    raise ConfigError(f"{source}{line}: not YAML: {problem}; allowed: a YAML mapping")


def _names(of: type) -> str:
    return ", ".join(node.key for _, node in schema.nodes(of))


def flatten(of: type, path: str, value: object, source: str) -> Iterator[tuple[str, Given]]:
    """The values of the section ``of`` at ``path`` by dotted path.

    Raises:
        ConfigError: a key is unknown, or a section is no mapping; the operator's fault.
    """
    if of is Upstream and not value and (value is None or isinstance(value, dict)):
        yield path, Given(None, source)
        return
    if value is None:  # a section's name with all its keys commented out
        return
    if not isinstance(value, Mapping):
        has_secrets = any(node.kind and node.kind.is_secret for _, node in schema.nodes(of))
        shown = "***" if has_secrets else show(value)
        raise ConfigError(
            f"{path}: {shown} is not a section; allowed: a mapping with the keys {_names(of)} (from {source})"
        )
    known = {node.key: node for _, node in schema.nodes(of)}
    for key, inner in value.items():
        inner_path = f"{path}.{key}" if path else f"{key}"
        if key not in known:
            where = f"under {path}" if path else "at the top"
            raise ConfigError(f"{_one_line(inner_path)}: unknown key; allowed {where}: {_names(of)} (from {source})")
        node = known[key]
        if node.section is None or node.is_list:
            yield inner_path, Given(inner, source)
        else:
            yield from flatten(node.section, inner_path, inner, source)


def _one_line(path: str) -> str:
    return path if path.isprintable() else repr(path)


def bad_value(path: str, given: Given, noun: str, allowed: str) -> ConfigError:
    """The error for a value that may not stand at ``path``, on one line with all that is known about it."""
    return ConfigError(f"{path}: {show(given.value)} is not {noun}; allowed: {allowed} (from {given.origin})")


def read_value(path: str, kind: Kind, given: Given) -> object:
    """What ``given`` says as a value of ``kind``.

    Raises:
        ConfigError: it is not of that kind; the operator's fault.
    """
    try:
        return kind.read(given.value, is_text=given.is_text)
    except (ValueError, OverflowError):
        if kind.is_secret:
            raise ConfigError(f"{path}: not {kind.noun}; allowed: {kind.allowed} (from {given.origin})") from None
        raise bad_value(path, given, kind.noun, kind.allowed) from None
