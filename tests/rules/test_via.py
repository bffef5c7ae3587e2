"""The Via field: who is on the way of a request, and when it goes in circles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.fields import is_valid_field
from pipcache.rules.via import MAX_HOPS, format_via, parse_via, process_name, trouble

OWN = process_name("0123abcd")


@pytest.mark.parametrize(
    ("values", "hops"),
    [
        ([], ()),
        ([""], ()),
        (["1.1 pipcache-ab12"], ("pipcache-ab12",)),
        (["HTTP/1.1 PIPCACHE-AB12"], ("pipcache-ab12",)),
        (["1.1 pipcache-ab12 (Linux, x)"], ("pipcache-ab12",)),
        (["1.0 fred, 1.1 p.example.net:8080"], ("other", "other")),
        (["1.1 a", "1.1 pipcache-1,1.1 [::1]:80"], ("other", "pipcache-1", "other")),
        (["1.1 pipcache"], ("other",)),
        (["1.1 pipcache-xyz"], ("other",)),
        (['1.1, a b c, ,;, 1.1 a;b, 1.1 "a", (only a comment)'], ()),
        (["1.1 " + "x" * 256], ()),
    ],
)
def test_hops_are_read(values: list[str], hops: tuple[str, ...]) -> None:
    """Processes of pipcache by name, all others as others, and nothing of what is no hop."""
    assert parse_via(values) == hops


def test_what_goes_on_names_no_other_proxy() -> None:
    """Names of proxies inside a network stay there; how many there were does not."""
    hops = parse_via(["1.1 gateway.corp.example, 1.1 pipcache-77"])
    assert format_via(hops, OWN) == f"1.1 other, 1.1 pipcache-77, 1.1 {OWN}"


def test_our_own_name_is_a_loop() -> None:
    """A request that has been here is not sent on, whoever else it came through."""
    assert trouble(parse_via([f"1.1 other, 1.1 {OWN.upper()}, 1.1 third"]), OWN) is not None
    assert trouble(parse_via(["1.1 pipcache-0123abce, 1.1 pipcache"]), OWN) is None


@pytest.mark.parametrize(("count", "is_refused"), [(0, False), (MAX_HOPS, False), (MAX_HOPS + 1, True), (5000, True)])
def test_too_many_hops_are_a_loop(count: int, is_refused: bool) -> None:
    """Twenty are many; more are taken for a loop of others, and no more than that is remembered."""
    hops = parse_via([", ".join(["1.1 a"] * count)])
    assert (trouble(hops, OWN) is not None) is is_refused
    assert len(hops) <= MAX_HOPS + 1


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=80), max_size=5))
def test_whatever_comes_a_valid_field_goes_on(values: list[str]) -> None:
    """No value breaks the request apart, makes it long, or comes back differently."""
    hops = parse_via(values)[:MAX_HOPS]
    sent = format_via(hops, OWN)
    assert is_valid_field("via", sent)
    assert len(sent) <= MAX_HOPS * 80
    assert parse_via([sent]) == (*hops, OWN)[: MAX_HOPS + 1]
