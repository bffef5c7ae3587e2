"""Random digits, taken from bytes that came together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from pipcache.edges.tokens import ASKED_BYTES, Tokens


@pytest.mark.parametrize("size", [0, 1, 16, 1000, ASKED_BYTES, ASKED_BYTES + 1])
def test_so_many_digits(size: int) -> None:
    """Two for each byte, each time, whatever was left."""
    tokens = Tokens()
    for _ in range(10):
        assert len(bytes.fromhex(tokens(size))) == size


def test_no_byte_is_given_twice() -> None:
    """Also where what is left is too little, which is dropped; and the system is asked seldom."""
    asked: list[int] = []
    numbers = count()

    def random_bytes(size: int) -> bytes:
        asked.append(size)
        return b"".join(next(numbers).to_bytes(2, "big") for _ in range(size // 2))

    tokens = Tokens(random_bytes)
    given = [tokens(6) for _ in range(2000)]
    pairs = [each[start : start + 4] for each in given for start in (0, 4, 8)]
    assert len(set(pairs)) == len(pairs)
    assert len(asked) == 3


def test_threads_get_different_ones() -> None:
    """The reactor names parts, the store's threads name metas."""
    tokens = Tokens()
    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(lambda _: tokens(8), range(4000)))
    assert len(set(given)) == len(given)
