"""Conditional requests (RFC 9110 section 13)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.conditional import Condition, evaluate, range_applies

ETAG = '"abc"'
BEFORE = "Sat, 05 Nov 1994 08:49:37 GMT"
MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
MODIFIED_ASCTIME = "Sun Nov  6 08:49:37 1994"
MODIFIED_RFC850 = "Sunday, 06-Nov-94 08:49:37 GMT"
AFTER = "Mon, 07 Nov 1994 08:49:37 GMT"

PROCEED, NOT_MODIFIED, FAILED = Condition.PROCEED, Condition.NOT_MODIFIED, Condition.PRECONDITION_FAILED


@pytest.mark.parametrize(
    ("fields", "condition"),
    [
        ({}, PROCEED),
        ({"if-none-match": '"abc"'}, NOT_MODIFIED),
        ({"if-none-match": 'W/"abc"'}, NOT_MODIFIED),
        ({"if-none-match": '"x", "a,b" ,\t"abc"'}, NOT_MODIFIED),
        ({"if-none-match": ',, "x",,"abc",'}, NOT_MODIFIED),
        ({"if-none-match": "*"}, NOT_MODIFIED),
        ({"if-none-match": '"x"'}, PROCEED),
        ({"if-none-match": '"ABC"'}, PROCEED),
        ({"if-none-match": "abc"}, PROCEED),
        ({"if-none-match": 'w/"abc"'}, PROCEED),
        ({"if-none-match": '"x" "abc"'}, PROCEED),
        ({"if-none-match": ""}, PROCEED),
        ({"if-match": '"x", "abc"'}, PROCEED),
        ({"if-match": "*"}, PROCEED),
        ({"if-match": '"x"'}, FAILED),
        ({"if-match": 'W/"abc"'}, FAILED),
        ({"if-match": "abc"}, FAILED),
        ({"if-modified-since": MODIFIED}, NOT_MODIFIED),
        ({"if-modified-since": MODIFIED_ASCTIME}, NOT_MODIFIED),
        ({"if-modified-since": MODIFIED_RFC850}, NOT_MODIFIED),
        ({"if-modified-since": AFTER}, NOT_MODIFIED),
        ({"if-modified-since": BEFORE}, PROCEED),
        ({"if-modified-since": "yesterday"}, PROCEED),
        ({"if-modified-since": f"{AFTER}, {AFTER}"}, PROCEED),
        ({"if-unmodified-since": MODIFIED}, PROCEED),
        ({"if-unmodified-since": AFTER}, PROCEED),
        ({"if-unmodified-since": BEFORE}, FAILED),
        ({"if-unmodified-since": "yesterday"}, PROCEED),
    ],
)
def test_each_condition_alone(fields: dict[str, str], condition: Condition) -> None:
    """Lists, ``*``, weak and strong comparison, dates in three formats; what is malformed says nothing."""
    assert evaluate("GET", tuple(fields.items()), ETAG, MODIFIED) is condition


@pytest.mark.parametrize(
    ("fields", "condition"),
    [
        ({"if-none-match": '"x"', "if-modified-since": AFTER}, PROCEED),
        ({"if-none-match": '"abc"', "if-modified-since": BEFORE}, NOT_MODIFIED),
        ({"if-match": '"abc"', "if-unmodified-since": BEFORE}, PROCEED),
        ({"if-match": '"x"', "if-none-match": '"abc"'}, FAILED),
        ({"if-match": '"abc"', "if-none-match": '"abc"'}, NOT_MODIFIED),
        ({"if-unmodified-since": BEFORE, "if-none-match": '"abc"'}, FAILED),
        ({"if-unmodified-since": AFTER, "if-modified-since": AFTER}, NOT_MODIFIED),
    ],
)
def test_conditions_have_the_precedence_of_13_2_2(fields: dict[str, str], condition: Condition) -> None:
    """Entity tags decide before dates, If-Match before If-None-Match."""
    assert evaluate("GET", tuple(fields.items()), ETAG, MODIFIED) is condition


def test_lines_of_one_field_are_one_list() -> None:
    """A client may send If-None-Match twice."""
    assert evaluate("HEAD", (("if-none-match", '"x"'), ("if-none-match", '"abc"')), ETAG, None) is NOT_MODIFIED


def test_other_methods_get_no_304() -> None:
    """If-None-Match that matches is a 412 for them, and If-Modified-Since is ignored."""
    assert evaluate("PUT", (("if-none-match", "*"),), ETAG, MODIFIED) is FAILED
    assert evaluate("PUT", (("if-modified-since", AFTER),), ETAG, MODIFIED) is PROCEED


@pytest.mark.parametrize("name", ["if-modified-since", "if-unmodified-since"])
@pytest.mark.parametrize("last_modified", [None, "long ago"])
def test_dates_say_nothing_about_a_body_without_one(name: str, last_modified: str | None) -> None:
    """Without a valid Last-Modified both fields are ignored."""
    assert evaluate("GET", ((name, BEFORE),), ETAG, last_modified) is PROCEED


@pytest.mark.parametrize(
    ("if_range", "applies"),
    [
        (None, True),
        ('"abc"', True),
        (' "abc" ', True),
        ('"x"', False),
        ('W/"abc"', False),
        ('"abc", "x"', False),
        ("*", False),
        ("", False),
        (MODIFIED, True),
        (MODIFIED_ASCTIME, False),
        (BEFORE, False),
        (AFTER, False),
    ],
)
def test_a_range_applies_to_the_very_same_body_only(if_range: str | None, applies: bool) -> None:
    """A strong tag or a date, each exactly ours; a later date is not good enough."""
    assert range_applies(if_range, ETAG, MODIFIED) is applies


def test_a_range_never_applies_by_a_weak_tag_or_an_invalid_date() -> None:
    """Equal text alone does not make a validator strong, or valid."""
    assert not range_applies('W/"abc"', 'W/"abc"', None)
    assert not range_applies("0", ETAG, "0")


@given(st.text(alphabet='"W/, \tabc*', max_size=30))
def test_a_tag_matches_only_where_it_stands(value: str) -> None:
    """No 304 for a list in which our tag does not occur; no list makes the parser fail."""
    condition = evaluate("GET", (("if-none-match", value),), ETAG, None)
    if condition is NOT_MODIFIED:
        assert ETAG in value or value.strip(" \t") == "*"


def test_a_hostile_list_takes_linear_time() -> None:
    """Runs of whitespace and commas are not tried in every combination."""
    value = (" " * 50 + ",") * 5000 + " " * 50000 + "x"
    assert evaluate("GET", (("if-none-match", value),), ETAG, None) is PROCEED
