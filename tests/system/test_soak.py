"""Very many requests: neither memory nor descriptors grow with their number."""

from __future__ import annotations

import http.client
import sys
import threading
from collections.abc import Callable
from random import Random

import pytest

from tests.fakes.index import Index
from tests.system.crowd import connected, eventually, memory_kib, open_files, read_response, request

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc"),
]

ABSENT = 10_000
MIXED = 20_000
THREADS = 4
MOST_GROWTH_KIB = 10 * 1024
"""After the first quarter, when every table has its size."""


def in_threads(work: Callable[[int], None]) -> None:
    """Do it in each of some threads at once; the first failure is the test's."""
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_what_is_absent_leaves_nothing_behind(serve_index, start_server):
    """10,000 different 404s, pages, files and others."""
    index = Index()
    index.add_wheel("leaf", "1.0")
    server = start_server({"upstream": {"primary": {"name": "index", "url": serve_index(index).url}}})

    def ask(first: int, last: int) -> Callable[[int], None]:
        def work(thread: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            for number in range(first + thread, last, THREADS):
                path = (f"/simple/absent-{number}/", f"/packages/a/absent-{number}.zip", f"/pypi/{number}")[number % 3]
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
                assert response.status == 404
            connection.close()

        return work

    in_threads(ask(0, ABSENT // 4))
    descriptors, before = open_files(server.pid), memory_kib(server.pid)
    in_threads(ask(ABSENT // 4, ABSENT))
    assert memory_kib(server.pid) - before <= MOST_GROWTH_KIB
    assert eventually(lambda: open_files(server.pid) <= descriptors + 4, 10)
    assert server.health()["entries"] == 0


class Visitor:
    """One client of the soak: asks for one thing after the other, most of them on one connection."""

    def __init__(self, port: int, index: Index, seed: int) -> None:
        self._port = port
        self._files = index.files
        self._random = Random(seed)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._visits = (
            [self.hit] * 12
            + [self.any_file] * 2
            + [self.page] * 3
            + [self.part] * 2
            + [self.head, self.absent, self.condition]
        )

    def visit(self, count: int) -> None:
        """So many requests; now and then a client of another kind comes by."""
        for number in range(count):
            if number % 50 == 49:
                self._random.choice([self.leave, self.nonsense, self.write])()
            else:
                self._random.choice(self._visits)()
        self._connection.close()

    def hit(self) -> None:
        """One of a few files, which stay in the cache."""
        self._file(self._random.choice(self._files[:5]))

    def any_file(self) -> None:
        """One of all files, for which there is no room."""
        self._file(self._random.choice(self._files))

    def page(self) -> None:
        """A project's page."""
        assert self._ask(f"/simple/{self._random.choice(self._files).project}/")[0] == 200

    def part(self) -> None:
        """A range of a file."""
        file = self._random.choice(self._files[:20])
        status, body, _ = self._ask(file.path, Range="bytes=10-99")
        assert (status, body) == (206, file.data[10:100])

    def head(self) -> None:
        """A file's head."""
        file = self._random.choice(self._files[:20])
        status, body, fields = self._ask(file.path, "HEAD")
        assert (status, body, fields["content-length"]) == (200, b"", str(len(file.data)))

    def absent(self) -> None:
        """What there is not."""
        assert self._ask(f"/simple/absent-{self._random.randrange(10**9)}/")[0] == 404

    def condition(self) -> None:
        """What the client has already, if it has the right one."""
        assert self._ask(self._files[0].path, If_None_Match='"another"')[0] == 200

    def leave(self) -> None:
        """A client that leaves in mid-answer, by a reset or not."""
        with connected(self._port, 1) as (client,):
            client.sendall(request(self._random.choice(self._files).path))
            client.recv(self._random.choice([1, 100]))

    def nonsense(self) -> None:
        """A client that speaks no HTTP."""
        with connected(self._port, 1) as (client,):
            client.sendall(b"NONSENSE\r\n\r\n")
            response = read_response(client)
            assert response is not None
            assert response.status == 400

    def write(self) -> None:
        """A client that would like to write."""
        with connected(self._port, 1) as (client,):
            client.sendall(b"POST /legacy/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
            response = read_response(client)
            assert response is not None
            assert response.status == 405

    def _file(self, file: object) -> None:
        assert self._ask(file.path)[:2] == (200, file.data)  # type: ignore[attr-defined]

    def _ask(self, path: str, method: str = "GET", **fields: str) -> tuple[int, bytes, dict[str, str]]:
        self._connection.request(method, path, headers={name.replace("_", "-"): fields[name] for name in fields})
        response = self._connection.getresponse()
        return response.status, response.read(), {name.lower(): value for name, value in response.getheaders()}


def test_a_soak_of_mixed_requests_leaves_nothing_behind(serve_index, start_server):
    """20,000 hits, misses, pages, ranges, conditions, 404s, refusals and clients that leave, with evictions all along."""
    index = Index()
    for number in range(60):
        index.add_wheel(f"project-{number % 20}", f"{number}.0", size_bytes=30_000)
    server = start_server(
        {
            "upstream": {"primary": {"name": "index", "url": serve_index(index).url}},
            "cache": {"max_size": "1MiB", "simple_ttl": "2s"},
        }
    )

    def soak(count: int, seed: int) -> None:
        in_threads(lambda thread: Visitor(server.port, index, seed + thread).visit(count // THREADS))

    soak(MIXED // 4, 0)
    descriptors, before = open_files(server.pid), memory_kib(server.pid)
    soak(MIXED * 3 // 4, 1000)
    assert eventually(lambda: open_files(server.pid) <= descriptors + 4, 10)
    assert memory_kib(server.pid) - before <= MOST_GROWTH_KIB
    assert "evicted" in server.log
    assert "Traceback" not in server.log
    assert eventually(lambda: server.health()["cache_size"] <= 1 << 20, 5)  # evictions follow in their thread
