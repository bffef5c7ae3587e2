"""The index that this machine's pip is set up to use, asked from pip itself.

Starts processes and waits for them, so it is called in a thread. Knows no index's address: pip's own default
is what pip's help says. What is read (pip 23.2 to 26.3):

- `pip config debug`, one block for each kind of file, because `pip config list` is of no use here: since pip
  began to keep files apart it prints a key once for each file, in the order of the files' paths and not of
  their rank.
- pip merges the files by rank, then takes `[install]` over `[global]`, then the environment over both. A
  value that is empty after that counts as not set (`Configuration` and `ConfigOptionParser` in pip's source).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import frozen

TIMEOUT_SECONDS: Final = 15
_RANKS: Final = ("global", "user", "site", "env")
_OPTIONS: Final = {"index-url": "index-url", "pypi-url": "index-url", "cert": "cert", "proxy": "proxy"}
_HEADING: Final = re.compile(r"[a-z_-]+:")
_VALUE: Final = re.compile(rf"\s+(global|install)\.({'|'.join(_OPTIONS)}): (.*)")
_DEFAULT: Final = re.compile(r"--index-url\b.*?\(default:?\s+(https?://\S+?)\)", re.DOTALL)
_UV_NAME: Final = re.compile(r"[A-Za-z0-9._-]+=(?=https?://)")  # uv lets an index be written as name=url
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

Address = tuple[str, int]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@frozen
class PipIndex:
    """An index over HTTP, and how pip gets there. Credentials stay in the URLs, so neither is for the log."""

    index_url: str
    """Where the index's pages are, without a slash at its end."""
    cert: str | None = None
    """A file of certificates to trust instead of the usual ones."""
    proxy: str | None = None
    """The URL of an HTTP proxy, always with its scheme."""


def local_addresses(port: int, host: str) -> frozenset[Address]:
    """The names and addresses, in lower case, that may stand for a server on this port in pip's files.

    Args:
        port: where we listen.
        host: the address we listen on, as configured.
    """
    names = {host, "localhost", socket.gethostname(), socket.getfqdn()}
    with contextlib.suppress(OSError):  # a machine that does not know its own name
        names.update(str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None))
    return frozenset((name.lower(), port) for name in names if name)


def discover_pip_index(
    own_addresses: Collection[Address],
    environ: Mapping[str, str],
    run: Run = subprocess.run,
    executable: str = sys.executable,
) -> PipIndex | None:
    """The index that pip uses here, its built-in default where that is nothing or this very server.

    Without a pip that answers: `PIP_INDEX_URL`, else `UV_DEFAULT_INDEX`, from the environment.

    Args:
        own_addresses: host in lower case and port, for all that we listen on. Any loopback or unspecified
            address with one of these ports is ours too.
        environ: the environment, for pip and for what is read without it.
        run: starts a process and waits for it, as `subprocess.run`.
        executable: the Python whose pip is asked first, then `pip3` and `pip` in PATH.

    Returns:
        None where no index over HTTP is to be found; the caller tells the operator.
    """
    options = _environment_options(environ)
    for command in _commands(environ, executable):
        files = _ask(command, ("config", "debug"), _environment(environ), run)
        if files is None:
            continue
        found = _file_options(files) | options
        url = found.get("index-url")
        if url is None or _is_own(url, own_addresses):
            url = _built_in_default(command, environ, run)
            if url is None:
                continue
        return _pip_index(url, found)
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"):
        url = _UV_NAME.sub("", environ.get(name, "").strip())
        if url and not _is_own(url, own_addresses):
            index = _pip_index(url, options)
            if index:
                return index
    return None


def _pip_index(url: str, options: Mapping[str, str]) -> PipIndex | None:
    """The index at ``url``; None where it is none over HTTP (pip also takes a directory)."""
    if not _address(url):
        return None
    cert, proxy = options.get("cert"), options.get("proxy")
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"  # pip takes a proxy without scheme, too
    return PipIndex(url.rstrip("/"), os.path.expanduser(cert) if cert else None, proxy)


def _commands(environ: Mapping[str, str], executable: str) -> Iterator[list[str]]:
    if executable:
        yield [executable, "-m", "pip"]
    for name in ("pip3", "pip"):
        path = shutil.which(name, path=environ.get("PATH", ""))
        if path:
            yield [path]


def _environment(environ: Mapping[str, str], **others: str) -> dict[str, str]:
    """The environment for a pip whose output is read: plain and complete, whatever is configured."""
    fixed = {
        "COLUMNS": "1000",  # help is wrapped at the width of the terminal, in the middle of a URL too
        "NO_COLOR": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_QUIET": "0",  # a configured `quiet` would silence `pip config`
        "PIP_VERBOSE": "0",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONSAFEPATH": "1",  # a folder `pip` in the working directory is not pip
    }
    return {**environ, **fixed, **others}


def _ask(command: Sequence[str], arguments: Sequence[str], environ: Mapping[str, str], run: Run) -> str | None:
    """What pip prints, or None where it cannot be started, fails, or takes too long."""
    how: dict[str, Any] = {
        "encoding": "utf-8",
        "errors": "replace",
        "timeout": TIMEOUT_SECONDS,
        "check": True,
    }
    try:
        return run([*command, *arguments], env=environ, stdin=subprocess.DEVNULL, capture_output=True, **how).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _built_in_default(command: Sequence[str], environ: Mapping[str, str], run: Run) -> str | None:
    """The index that pip's help names as the default, where nothing is configured."""
    bare = {name: value for name, value in environ.items() if not name.startswith("PIP_")}
    text = _ask(command, ("--isolated", "help", "install"), _environment(bare, PIP_CONFIG_FILE=os.devnull), run)
    match = _DEFAULT.search(text or "")
    return match[1] if match else None


def _file_options(text: str) -> dict[str, str]:
    """The options that count from pip's files, from the output of `pip config debug`."""
    ranks: dict[str, dict[tuple[str, str], str]] = {rank: {} for rank in _RANKS}
    values: dict[tuple[str, str], str] = {}
    for line in text.splitlines():
        if _HEADING.fullmatch(line):
            values = ranks.get(line[:-1], {})
        elif match := _VALUE.fullmatch(line):
            values[match[1], _OPTIONS[match[2]]] = match[3].strip()
    merged = {key: value for rank in _RANKS for key, value in ranks[rank].items()}
    ordered = [(section, merged.items()) for section in ("global", "install")]
    return {key: value for section, items in ordered for (where, key), value in items if where == section and value}


def _environment_options(environ: Mapping[str, str]) -> dict[str, str]:
    """The options that pip takes from `PIP_*` variables; an empty one counts as not set."""
    return {
        key: environ[name].strip()
        for option, key in _OPTIONS.items()
        if environ.get(name := f"PIP_{option.upper().replace('-', '_')}", "").strip()
    }


def _address(url: str) -> Address | None:
    """Host in lower case and port of a URL over HTTP; None for anything else."""
    try:
        parts = urlsplit(url)
        if parts.scheme in _DEFAULT_PORTS and parts.hostname:
            return parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme]
    except ValueError:
        pass
    return None


def _is_own(url: str, own: Collection[Address]) -> bool:
    address = _address(url)
    if address is None:
        return False
    return address in own or (_is_local(address[0]) and address[1] in {port for _, port in own})


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    return ip.is_loopback or ip.is_unspecified
