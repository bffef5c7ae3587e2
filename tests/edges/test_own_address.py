"""Whether an upstream's address is this server's own."""

from __future__ import annotations

import socket

import pytest

from pipcache.edges.own_address import is_own
from pipcache.rules.sites import Origin


@pytest.mark.parametrize(
    ("url", "listening", "expected"),
    [
        ("http://127.0.0.1:8080", ("127.0.0.1", 8080), True),
        ("http://localhost:8080/simple", ("127.0.0.1", 8080), True),
        ("http://0.0.0.0:8080", ("127.0.0.1", 8080), True),
        ("http://127.0.0.1:8081", ("127.0.0.1", 8080), False),
        ("http://127.0.0.1", ("127.0.0.1", 8080), False),
        ("http://127.0.0.1", ("127.0.0.1", 80), True),
        ("https://127.0.0.1", ("0.0.0.0", 443), True),
        ("http://127.0.0.2:8080", ("127.0.0.1", 8080), False),
        ("http://127.0.0.2:8080", ("0.0.0.0", 8080), True),
        ("http://127.0.0.1:8080", ("::", 8080), True),
        ("http://[::1]:8080", ("0.0.0.0", 8080), False),
        ("http://0x7f.1:8080", ("0.0.0.0", 8080), True),
        ("http://192.0.2.1:8080", ("0.0.0.0", 8080), False),
        ("http://127.0.0.1:8080", ("192.0.2.1", 8080), False),
        ("http://0.0.0.0:8080", ("192.0.2.1", 8080), False),
        ("http://192.0.2.1:8080", ("192.0.2.1", 8080), True),
        ("http://nowhere.invalid:8080", ("0.0.0.0", 8080), False),
        ("http://" + "x" * 70 + ".invalid:8080", ("0.0.0.0", 8080), False),
    ],
)
def test_an_address_is_ours_where_a_connection_would_come_here(
    url: str, listening: tuple[str, int], expected: bool
) -> None:
    """The port is ours, and the address is the one that we listen on, or of this machine where we listen on all."""
    assert is_own(Origin.of(url), listening) is expected


def test_a_name_is_ours_where_it_leads_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name for this machine that only its resolver knows counts; one of another port is not even looked up."""
    asked = []

    def resolve(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        return [(0, 0, 0, "", ("192.0.2.1", port)), (0, 0, 0, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert is_own(Origin.of("http://cache.example:8080"), ("0.0.0.0", 8080))
    assert not is_own(Origin.of("http://cache.example:8081"), ("0.0.0.0", 8080))
    assert asked == ["cache.example"]
