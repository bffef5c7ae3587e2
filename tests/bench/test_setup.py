"""What the bench gives to servers: settings, configurations, pages, entries; and what it reads of their answers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import nginx
from bench.client import Address, parse_head, request_bytes
from bench.corpus import ELSEWHERE, Body, html_page, json_page, links_for, needs
from bench.delaying import file_of
from bench.entries import body_of, fill, path_of
from bench.load import Load
from bench.pages import links_in
from bench.peers import python_for_servers
from bench.processes import ServerError, Stat
from bench.settings import nested, pipcache_settings, tls_settings
from bench.tls import Certificates
from pipcache.edges.disk import DiskStore
from pipcache.rules.key import CacheKey
from pipcache.rules.layers import from_mapping
from pipcache.rules.resolution import build_settings
from pipcache.rules.settings import KEYS

CERTIFICATES = Certificates(Path("/c/ca.pem"), Path("/c/server.pem"), Path("/c/server.key"))
BODY = Body("/packages/aa/bb/cc", "5" * 64, 7, Path("body"))


def test_pipcache_runs_with_its_defaults():
    """Only where it listens, where it keeps and whom it asks is set; and what a scenario asks for besides."""
    assert pipcache_settings((), 80, Path("/x"), "http://u", {"cache.max_entries": 7}) == {
        "server": {"host": "127.0.0.1", "port": 80},
        "cache": {"dir": "/x", "max_entries": 7},
        "upstream": {"primary": {"name": "bench", "url": "http://u"}},
    }


def test_pipcache_takes_these_settings():
    """They are read by its own rules; a key that it does not know would be refused."""
    given = pipcache_settings(KEYS, 80, Path("/x"), "http://127.0.0.1:81", {"cache.watermark.high": 1.0})
    settings = build_settings([from_mapping(given, "the bench")])
    assert [upstream.name for upstream in settings.upstream.in_order] == ["bench"]
    assert settings.cache.watermark.high_ratio == 1.0


def test_the_access_log_is_switched_on_where_there_is_one():
    """Nginx writes one, so pipcache has to as well, as soon as it can."""
    assert pipcache_settings(("log.access",), 80, Path("/x"), "http://u")["log"] == {"access": "combined"}
    assert "log" not in pipcache_settings(("log.level",), 80, Path("/x"), "http://u")


def test_tls_is_asked_for_where_there_is_a_setting():
    """Without one the scenario is reported as not there yet."""
    assert tls_settings(("server.port",), 1, 2, CERTIFICATES) is None
    found = tls_settings(("server.endpoints",), 1, 2, CERTIFICATES)
    assert found == {
        "server.endpoints": [
            "tcp:1:interface=127.0.0.1",
            "ssl:2:interface=127.0.0.1:privateKey=/c/server.key:certKey=/c/server.pem",
        ]
    }


def test_paths_become_sections():
    """Dotted paths are how settings are named, mappings how a file says them."""
    assert nested({"a.b.c": 1, "a.b.d": 2, "e": 3}) == {"a": {"b": {"c": 1, "d": 2}}, "e": 3}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_nginx_caches_as_it_was_agreed(scheme):
    """One worker, sendfile on, tcp_nopush off, kept connections to the upstream, a lock, and an access log."""
    upstream = Address(7, CERTIFICATES.ca if scheme == "https" else None)
    text = nginx.proxy(Path("/n"), 1, 2, upstream, CERTIFICATES, is_root=False)
    wanted = ["worker_processes 1;", "sendfile on;", "tcp_nopush off;", "keepalive 32;", "proxy_cache_lock on;"]
    wanted += ["access_log /n/access.log combined;", f"proxy_pass {scheme}://origin;", "server 127.0.0.1:7;"]
    assert [each for each in wanted if each not in text] == []
    assert text.count("{") == text.count("}")
    assert "user root;" not in text


@pytest.mark.parametrize("size", [12_000, 200_000])
def test_a_page_is_as_large_as_was_asked(size):
    """Within the length of one link."""
    page = html_page("p", links_for("p", BODY, size), ELSEWHERE)
    assert size - 350 < len(page) <= size


def test_both_forms_of_a_page_lead_to_the_same_files():
    """What is compared with a server's page is read alike from HTML and from JSON."""
    links = links_for("p", BODY, 2000)
    expected = [(link.path, link.sha256) for link in links]
    assert links_in("/simple/p/", html_page("p", links).encode(), "text/html") == expected
    assert links_in("/simple/p/", json_page("p", links).encode(), "application/json") == expected


def test_the_first_package_needs_all_others():
    """Whoever installs the first one installs the whole set, each package needed once."""
    assert sorted(each for number in range(60) for each in needs(number)) == list(range(1, 60))


def test_entries_are_those_that_pipcache_writes(tmp_path):
    """The store reads back what was written, and its scan finds as many entries as there are."""
    fill(tmp_path / "cache", 3)
    store = DiskStore(tmp_path / "cache", lambda function: function(), 1)
    store.prepare()
    key = CacheKey(f"GET-{path_of(2)}")
    stored = store.read(key)
    assert stored is not None
    body = store.open_body(key, stored)
    assert body is not None
    assert not body.is_suspect
    assert body.read_at(0, body.length) == body_of(2)
    assert body.sha256() == stored.sha256
    body.close()


def test_what_wrk_measured_is_read():
    """Times are in microseconds there, and in milliseconds here."""
    assert Load.parse("Running\nbench 1000 2000000 500 1500 9000 20000 0\n") == Load(1000, 2.0, 500, 1.5, 9.0, 20.0)


@pytest.mark.parametrize("output", ["unable to connect", "bench 0 1 0 0 0 0 0", "bench 9 1 9 1 1 1 2"])
def test_a_load_with_errors_is_no_result(output):
    """No line, no answers, or some that failed: the scenario ends, nothing is averaged over them."""
    with pytest.raises(ServerError):
        Load.parse(output)


def test_a_process_is_read_from_its_stat():
    """The name of a program may hold spaces and brackets."""
    fields = ["S", "7", *["0"] * 9, "100", "50", "30", "20", *["0"] * 6, "3", "0"]
    stat = Stat.parse(f"12 (a ) b) {' '.join(fields)}")
    assert (stat.parent, stat.cpu_seconds, stat.reaped_seconds) == (7, 1.5, 0.5)
    assert stat.rss_bytes % 3 == 0


def test_a_head_is_read():
    """Names come in any case; a value may hold a colon."""
    assert parse_head(b'HTTP/1.1 304 Not Modified\r\nETag: "a:b"\r\nX-Y:z') == (304, {"etag": '"a:b"', "x-y": "z"})
    with pytest.raises(ServerError):
        parse_head(b"SMTP hello")


def test_a_request_has_its_fields():
    """It ends in an empty line."""
    assert request_bytes("/a", {"Accept": "b"}) == (
        b"GET /a HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: b\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("path", "accept", "found"),
    [
        ("/simple/p/", "text/html", "simple/p/index.html"),
        ("/simple/p/", "application/vnd.pypi.simple.v1+json, text/html; q=0.1", "simple/p/index.json"),
        ("/packages/a/b/c/p-1.whl", "", "packages/a/b/c/body"),
        ("/packages/a/b/c/p-1.whl.metadata", "", "packages/a/b/c/p-1.whl.metadata"),
        ("/packages/../secret", "", None),
        ("/", "", None),
    ],
)
def test_the_far_upstream_finds_files_as_the_near_one_does(tmp_path, path, accept, found):
    """Any name under a digest is that digest's body, unless there is a file of this name."""
    for name in (
        "simple/p/index.html",
        "simple/p/index.json",
        "packages/a/b/c/body",
        "packages/a/b/c/p-1.whl.metadata",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    answer = file_of(tmp_path, path, accept)
    assert (answer[0].relative_to(tmp_path).as_posix() if answer else None) == found


def test_servers_run_on_the_python_that_is_asked_for(monkeypatch):
    """Else on the system's, and on the bench's own where the system has none that is new enough."""
    assert python_for_servers("/opt/python") == "/opt/python"
    monkeypatch.setattr("bench.peers._SYSTEMS_PYTHON", sys.executable)
    monkeypatch.setattr("sys.executable", "/bench/python")
    assert python_for_servers(None) != "/bench/python"
    monkeypatch.setattr("bench.peers._SYSTEMS_PYTHON", "/no/such/python")
    assert python_for_servers(None) == "/bench/python"
