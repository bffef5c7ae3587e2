"""What ``twistd`` needs: the options, and the service made of them."""

from __future__ import annotations

import gc
import linecache
import os
from pathlib import Path
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.python.usage import Options as UsageOptions

from pipcache.rules.errors import ConfigError
from pipcache.service.configuration import load_configuration
from pipcache.service.lifecycle import PipcacheService

_SETTINGS = {"host": "server.host", "port": "server.port", "cache-dir": "cache.dir", "log-level": "log.level"}


class Options(UsageOptions):
    """Options of ``twistd pipcache``; each setting that has one wins over the environment and the file."""

    longdesc = "A caching proxy for Python packages. Every setting is described in pipcache.yaml."

    optParameters: ClassVar[list[list[str | None]]] = [  # type: ignore[misc]
        ["config", "c", None, "The settings file (default: ./pipcache.yaml and other places; see the README)."],
        ["host", None, None, "Address to listen on: server.host."],
        ["port", "p", None, "Port to listen on: server.port."],
        ["cache-dir", None, None, "Directory of the cache: cache.dir."],
        ["log-level", None, None, "debug, info, warn or error: log.level."],
    ]


COLLECTED_AFTER = (3000, 10, 100)
"""How many new objects, and collections of the younger ones, a garbage collection waits for: with Python's own 700, 10 and
10 each tenth page that came waited 4 ms for one of everything."""


def makeService(options: Options, reactor: Any = None) -> IService:
    """The service, from options, environment and file; nothing is opened yet.

    Raises:
        SystemExit: a setting is wrong; the message is the one line that says which, and the exit status is 1.
    """
    if reactor is None:
        from twisted.internet import reactor
    linecache.clearcache()  # attrs keeps there, for debuggers, the source of each method that it made: 0.4 MB
    given = {path: options[option] for option, path in _SETTINGS.items()}
    try:
        configuration = load_configuration(options["config"], given, os.environ, Path.home(), Path.cwd())
    except ConfigError as error:
        raise SystemExit(f"pipcache: {error}") from None
    service = PipcacheService(configuration, reactor)
    gc.set_threshold(*COLLECTED_AFTER)
    gc.freeze()  # what was imported stays: a collection that goes through all of it keeps a hit waiting for 20 ms
    return service
