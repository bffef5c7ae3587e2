"""The stage of a run: the corpus, the upstream, the peers, and servers to be started on the server's core."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field

from bench.client import Address
from bench.corpus import Corpus
from bench.peers import Peers
from bench.results import Row, row
from bench.servers import Server, Upstream, run_devpi, run_nginx, run_pipcache, run_proxpi
from bench.tls import Certificates


@define
class Stage:
    """What a scenario has. ``rounds`` and ``seconds`` are how often and how long it measures each server."""

    folder: Path
    corpus: Corpus
    peers: Peers
    certificates: Certificates
    upstream: Upstream
    server_core: int
    client_core: int
    is_quick: bool
    rounds: int
    seconds: float
    _count: int = field(default=0, init=False)

    def new_folder(self, name: str) -> Path:
        """The name of a folder that is not there yet."""
        self._count += 1
        return self.folder / f"{self._count:03d}-{name}"

    @contextmanager
    def pipcache(
        self,
        more: Mapping[str, Any] | None = None,
        upstream: Address | None = None,
        folder: Path | None = None,
        *,
        wait: bool = True,
    ) -> Iterator[Server]:
        """Run pipcache; ``more`` is settings by dotted path. A folder that was not given is removed afterwards."""
        where = folder or self.new_folder("pipcache")
        try:
            source = upstream or self.upstream.plain
            with run_pipcache(
                self.peers, where, source, self.certificates, self.server_core, more, wait=wait
            ) as server:
                yield server
        finally:
            if folder is None:
                shutil.rmtree(where, ignore_errors=True)

    @contextmanager
    def nginx(self, upstream: Address | None = None) -> Iterator[Server]:
        """Run nginx as a cache."""
        source = upstream or self.upstream.plain
        with (
            self._removed("nginx") as folder,
            run_nginx(self.peers, folder, source, self.certificates, self.server_core) as server,
        ):
            yield server

    @contextmanager
    def both(
        self, more: Mapping[str, Any] | None = None, upstream: Address | None = None
    ) -> Iterator[tuple[Server, Server]]:
        """Run nginx and pipcache, each with an empty cache."""
        with self.nginx(upstream) as nginx, self.pipcache(more, upstream) as pipcache:
            yield nginx, pipcache

    @contextmanager
    def proxpi(self) -> Iterator[Server]:
        """Run proxpi."""
        with (
            self._removed("proxpi") as folder,
            run_proxpi(self.peers, folder, self.upstream.plain, self.server_core) as server,
        ):
            yield server

    @contextmanager
    def devpi(self) -> Iterator[Server]:
        """Run devpi-server."""
        with (
            self._removed("devpi") as folder,
            run_devpi(self.peers, folder, self.upstream.plain, self.server_core) as server,
        ):
            yield server

    def interleaved(
        self,
        servers: Sequence[Server],
        measure: Callable[[Server, int], Mapping[str, float]],
        rounds: int | None = None,
    ) -> tuple[Row, ...]:
        """Measure each server once a round, the other way about in every second round; a row for each, in order.

        Args:
            servers: with their caches as the work wants them.
            measure: measures one server in the round of this number; figures by their name in ``results.COLUMNS``.
            rounds: how many, where not as many as ever.
        """
        found: dict[str, list[Mapping[str, float]]] = {server.name: [] for server in servers}
        for number in range(rounds or self.rounds):
            for server in servers if number % 2 == 0 else reversed(servers):
                found[server.name].append(measure(server, number))
        return tuple(row(server.name, found[server.name]) for server in servers)

    @contextmanager
    def _removed(self, name: str) -> Iterator[Path]:
        folder = self.new_folder(name)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
