"""Pages that are kept: one and many, each size and variant, plain and over TLS."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping

from bench import measure
from bench.client import Address, Connection, fetch
from bench.corpus import JSON_ACCEPT, MANY
from bench.pages import check_page
from bench.processes import ServerError
from bench.results import PIPCACHE, Check, Row, Work, missing, ratio_check, row
from bench.scenario import Scenario
from bench.servers import Server
from bench.stage import Stage

CONNECTIONS = 32
_RATE = "throughput"


def hot_page_12k(stage: Stage) -> Work:
    """The page that everything else is compared with."""
    name = "hot 12 KB page, 32 connections"
    rows, notes = _one_page(stage, "hot12k")
    return Work(
        name, rows, (ratio_check(rows, "rate", 1.3), ratio_check(rows, "cpu_request", 0.9, at_most=True)), notes
    )


def hot_page_200k(stage: Stage) -> Work:
    """A large project."""
    rows, notes = _one_page(stage, "hot200k")
    return Work("hot 200 KB page, 32 connections", rows, (ratio_check(rows, "rate", 1.0),), notes)


def hot_page_2m(stage: Stage) -> Work:
    """A very large project."""
    rows, notes = _one_page(stage, "hot2m")
    return Work("hot 2 MB page, 32 connections", rows, (ratio_check(rows, "rate", 1.0),), notes)


def hot_page_json(stage: Stage) -> Work:
    """The page in JSON."""
    name = "hot 12 KB page in JSON, 32 connections"
    fields = {"Accept": JSON_ACCEPT}
    with stage.both() as servers:
        for server in servers:
            got = fetch(server.address, server.page("hot12k"), fields)
            if "json" not in got.fields.get("content-type", ""):
                return _absent(name, server, "pipcache answers in HTML")
            check_page(server.address, server.page("hot12k"), stage.corpus.page("hot12k", "json"), JSON_ACCEPT)
        return _variant(stage, name, servers, fields)


def hot_page_gzip(stage: Stage) -> Work:
    """The page, gzipped."""
    name = "hot 12 KB page in gzip, 32 connections"
    fields = {"Accept-Encoding": "gzip"}
    with stage.both() as servers:
        for server in servers:
            got = fetch(server.address, server.page("hot12k"), fields)
            if got.fields.get("content-encoding") != "gzip":
                return _absent(name, server, "pipcache sends no gzip")
            if gzip.decompress(got.body) != fetch(server.address, server.page("hot12k")).body:
                raise ServerError(f"{server.name}: the gzipped page is another one")
        return _variant(stage, name, servers, fields)


def hot_page_304(stage: Stage) -> Work:
    """The page that the client has already; each server is asked with its own ETag."""
    name = "hot 12 KB page not modified, 32 connections"
    with stage.both() as servers:
        fields: dict[str, Mapping[str, str]] = {}
        for server in servers:
            path = server.page("hot12k")
            fetch(server.address, path)
            fields[server.name] = {"If-None-Match": fetch(server.address, path).fields["etag"]}
            with Connection(server.address) as connection:
                connection.get(path, fields[server.name], expect=304)
        rows = stage.interleaved(
            servers,
            lambda server, _: measure.load(stage, server, server.page("hot12k"), CONNECTIONS, fields[server.name]),
        )
        return Work(name, rows, (ratio_check(rows, "rate", 1.0),))


def hot_pages_1000(stage: Stage) -> Work:
    """Different pages in turn, few enough to be kept in memory."""
    return _many_pages(stage, "hot 12 KB pages, 1,000 in turn", 1000, 0.8)


def hot_pages_10000(stage: Stage) -> Work:
    """Different pages in turn, more than are kept in memory."""
    return _many_pages(stage, "hot 12 KB pages, 10,000 in turn", 10_000, 0.5)


def hot_page_tls(stage: Stage) -> Work:
    """The page over TLS, on connections that are kept."""
    name = "hot 12 KB page over TLS, 32 connections"
    with stage.both() as servers:
        addresses: dict[str, Address] = {}
        for server in servers:
            if server.tls is None:
                return _absent(name, server, "pipcache has no setting to listen with TLS", ">= 0.90")
            addresses[server.name] = server.tls
            check_page(server.tls, server.page("hot12k"), stage.corpus.page("hot12k"))
        rows = stage.interleaved(
            servers,
            lambda server, _: measure.load(
                stage, server, server.page("hot12k"), CONNECTIONS, address=addresses[server.name]
            ),
        )
        return Work(name, rows, (ratio_check(rows, "rate", 0.9),))


def hot_page_peers(stage: Stage) -> Work:
    """The same page from the other caches for packages."""
    with stage.pipcache() as pipcache, stage.proxpi() as proxpi, stage.devpi() as devpi:
        servers = (pipcache, proxpi, devpi)
        names = sorted(re.findall(r">([^<]*\.whl)<", stage.corpus.page("hot12k").decode()))
        for server in servers:
            got = fetch(server.address, server.page("hot12k"), {"Accept": "text/html"})
            if got.status != 200 or sorted(re.findall(r">\s*([^<\s]*\.whl)\s*<", got.body.decode())) != names:
                raise ServerError(f"{server.name}: {got.status}: not the files that the upstream's page has")
        rows = stage.interleaved(
            servers,
            lambda server, _: measure.load(stage, server, server.page("hot12k"), CONNECTIONS, {"Accept": "text/html"}),
        )
    checks = (ratio_check(rows, "rate", 20, other="proxpi"), ratio_check(rows, "rate", 50, other="devpi-server"))
    return Work("hot 12 KB page, 32 connections, beside the peers", rows, checks)


def _one_page(stage: Stage, project: str) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    with stage.both() as servers:
        sizes = [
            f"{server.name}'s page has {check_page(server.address, server.page(project), stage.corpus.page(project)):,}"
            for server in servers
        ]
        rows = stage.interleaved(
            servers, lambda server, _: measure.load(stage, server, server.page(project), CONNECTIONS)
        )
    return rows, (f"{' bytes, '.join(sizes)} bytes",)


def _variant(stage: Stage, name: str, servers: tuple[Server, Server], fields: Mapping[str, str]) -> Work:
    rows = stage.interleaved(
        servers, lambda server, _: measure.load(stage, server, server.page("hot12k"), CONNECTIONS, fields)
    )
    return Work(name, rows, (ratio_check(rows, "rate", 1.0),))


def _many_pages(stage: Stage, name: str, count: int, aim: float) -> Work:
    paths = stage.folder / f"paths-{count}"
    with stage.both({"cache.max_entries": 4 * count}) as servers:
        paths.write_text("".join(f"{servers[0].page(f'{MANY}-{number}')}\n" for number in range(count)))
        for server in servers:
            check_page(server.address, server.page(f"{MANY}-0"), stage.corpus.page(MANY))
            with Connection(server.address) as connection:
                for number in (*range(count), *range(count)):  # the first hit of each is no steady state
                    connection.get(server.page(f"{MANY}-{number}"))
        rows = stage.interleaved(
            servers,
            lambda server, _: measure.load(stage, server, server.page(f"{MANY}-0"), CONNECTIONS, paths=paths),
        )
    note = f"cache.max_entries is {4 * count}, as the default keeps fewer pages; each was asked for twice beforehand"
    return Work(name, rows, (ratio_check(rows, "rate", aim),), (note,))


def _absent(name: str, server: Server, lacking: str, aim: str = ">= 1.00") -> Work:
    """A work that pipcache cannot do yet; that nginx cannot is a mistake of the bench."""
    if server.name != PIPCACHE:
        raise ServerError(f"{server.name} cannot do it either")
    check: Check = missing(_RATE, aim, lacking)
    return Work(name, (row(PIPCACHE, ()),), (check,))


SCENARIOS = (
    Scenario("hot-page-12k", hot_page_12k),
    Scenario("hot-page-200k", hot_page_200k),
    Scenario("hot-page-2m", hot_page_2m),
    Scenario("hot-page-json", hot_page_json),
    Scenario("hot-page-gzip", hot_page_gzip),
    Scenario("hot-page-304", hot_page_304),
    Scenario("hot-pages-1000", hot_pages_1000),
    Scenario("hot-pages-10000", hot_pages_10000, is_slow=True),
    Scenario("hot-page-tls", hot_page_tls),
    Scenario("hot-page-peers", hot_page_peers, is_slow=True),
)
