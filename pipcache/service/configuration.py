"""Where settings come from on this machine (file, environment, options), and where the cache goes.

Reads, and changes nothing: no directory is made here. What the values mean is for `rules.resolution`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from pipcache.rules.errors import ConfigError
from pipcache.rules.layers import from_environment, from_mapping, from_options, load_yaml
from pipcache.rules.resolution import build_settings
from pipcache.rules.settings import Settings

FILE_NAME: Final = "pipcache.yaml"
DEFAULT_CACHE_DIR: Final = Path("/cache")


@frozen
class Configuration:
    """The settings, and what to say about them at start."""

    settings: Settings
    source: str
    """The path of the file that was read, or a word for there being none."""
    warnings: tuple[str, ...]
    """Sentences for the log, each about something that was ignored."""


def load_configuration(
    config_path: str | None,
    options: Mapping[str, object],
    environ: Mapping[str, str],
    home: Path,
    cwd: Path,
    etc: Path = Path("/etc"),
) -> Configuration:
    """The settings from the file that counts, under the environment, under the options.

    Args:
        config_path: the file to read, from ``cwd`` where it is relative; None: the first that exists of
            `pipcache.yaml` in ``cwd``, `.pipcache/pipcache.yaml` in ``home``, `pipcache/pipcache.yaml` in
            ``etc``.
        options: values by dotted path; None as a value means that the option was not given.
        environ: the environment; `PIPCACHE_*` counts.
        home: the user's home directory.
        cwd: the working directory.
        etc: the machine's directory for configuration.

    Raises:
        ConfigError: the file cannot be read, or something in it, in the environment or in the options is not
            allowed; the operator's fault, told in one line.
    """
    warnings: list[str] = []
    path: Path | None
    if config_path is not None:
        path = cwd / (home / config_path[2:] if config_path.startswith("~/") else config_path)
    else:
        path = _find((cwd / FILE_NAME, home / ".pipcache" / FILE_NAME, etc / "pipcache" / FILE_NAME), warnings)
    source = str(path) if path else "no file, the defaults"
    layer = from_mapping(load_yaml(_read(path), source), source) if path else {}
    variables, ignored = from_environment(environ)
    settings = build_settings([layer, variables, from_options(options)])
    return Configuration(settings, source, (*warnings, *ignored))


def _find(candidates: tuple[Path, ...], warnings: list[str]) -> Path | None:
    for path in candidates:
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            # a home that is not ours to look into, as in a container under another uid: nobody can say that
            # there is a file
            warnings.append(f"{path}: cannot be looked for ({error.strerror}), so it is left out")
        else:
            return path
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # an editor's byte order mark is no part of the YAML
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); allowed: a readable YAML file") from None
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be read ({error}); allowed: YAML text in UTF-8") from None


def choose_cache_dir(configured: str | None, default: Path = DEFAULT_CACHE_DIR) -> tuple[Path, str]:
    """The cache directory, and a sentence for the log that says why this one.

    Args:
        configured: ``cache.dir``; None where nobody set it, `~` is the user's home.
        default: taken where it is a directory that this user can write, else the user's cache directory is.

    Returns:
        An absolute path, which need not exist, and the sentence.
    """
    if configured is not None:
        path = Path(os.path.abspath(os.path.expanduser(configured)))
        return path, f"the cache is in {path}, as cache.dir says"
    if not os.path.isdir(default):
        trouble = f"{default} is no directory here"
    elif not os.access(default, os.R_OK | os.W_OK | os.X_OK):
        trouble = f"{default} cannot be written by this user"
    else:
        return default, f"the cache is in {default}, the default"
    import platformdirs  # not at the top: most starts do not ask for it

    path = Path(platformdirs.user_cache_dir("pipcache", appauthor=False)).absolute()
    return path, f"the cache is in {path}, as {trouble} and cache.dir is not set"
